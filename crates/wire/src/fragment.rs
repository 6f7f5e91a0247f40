//! Fragments: the piece of a datagram that one packet carries. Reassembly is the engine's, and so is whether the lengths of a
//! fragment are right: one that is wrong may end the whole datagram.

/// Where a fragment belongs in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Identification: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Offset of the payload in the fragmentable part, in bytes; a multiple of 8, at most 65,528.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
}

/// A fragment with what a reassembler needs to put the headers together again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) fragment: Fragment,
    /// Bytes before the fragmentable part (IPv6: before the fragment header).
    pub(crate) unfragmentable: u32,
    /// Offset of the header byte that names what follows the unfragmentable part.
    pub(crate) pointer: u32,
    /// Protocol of the first header in the fragmentable part.
    pub(crate) next_header: u8,
}
