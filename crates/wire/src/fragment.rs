//! Fragments: the piece of a datagram that one packet carries. Reassembly itself is the engine's.

use crate::malformed::MalformedKind;

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

/// Refuses what no reassembly in the kernel takes, given the payload length this fragment claims.
///
/// `ip_frag_queue` rounds a fragment that is not the last down to 8 bytes, `nf_ct_frag6_queue` refuses it; both refuse
/// empty ones and those that end beyond 65,535 bytes (IPv4 counts the header too, in `ip_frag_reasm`).
pub(crate) fn check(
    fragment: Fragment,
    payload_len: usize,
    header_len: usize,
    is_ipv6: bool,
) -> Result<(), MalformedKind> {
    if fragment.more && !payload_len.is_multiple_of(8) && is_ipv6 {
        return Err(MalformedKind::Ipv6FragmentLength);
    }
    let kept = if fragment.more {
        payload_len & !7
    } else {
        payload_len
    };
    if kept == 0 {
        return Err(MalformedKind::FragmentEmpty);
    }
    let headers = if is_ipv6 { 0 } else { header_len };
    if headers + usize::from(fragment.offset) + kept > 65_535 {
        return Err(MalformedKind::FragmentBeyondDatagram);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_refuses() {
        use MalformedKind::*;
        // offset, more, payload, header, IPv6
        let table = [
            ((0, true, 8, 20, false), Ok(())),
            ((0, true, 9, 20, false), Ok(())),
            ((0, true, 9, 40, true), Err(Ipv6FragmentLength)),
            ((0, true, 7, 20, false), Err(FragmentEmpty)),
            ((8, false, 0, 20, false), Err(FragmentEmpty)),
            ((8, false, 1, 40, true), Ok(())),
            ((65_512, false, 3, 20, false), Ok(())),
            ((65_512, false, 4, 20, false), Err(FragmentBeyondDatagram)),
            ((65_528, false, 7, 40, true), Ok(())),
            ((65_528, false, 8, 40, true), Err(FragmentBeyondDatagram)),
        ];
        for ((offset, more, payload, header, v6), expected) in table {
            let fragment = Fragment {
                id: 1,
                offset,
                more,
            };
            assert_eq!(
                check(fragment, payload, header, v6),
                expected,
                "{fragment:?} {payload} {header} {v6}"
            );
        }
    }
}
