//! SCTP packets (RFC 9260 section 3): the common header, and chunks by their headers alone.

use crate::malformed::MalformedKind;
use crate::transport::Segment;

/// A view of one SCTP packet.
#[derive(Clone, Copy, Debug)]
pub struct Sctp<'a> {
    header: &'a [u8; 12],
    chunks: &'a [u8],
}

impl<'a> Sctp<'a> {
    pub(crate) fn parse(segment: Segment<'a>) -> Result<Self, MalformedKind> {
        let (header, chunks) = segment.split::<12>(MalformedKind::SctpTruncated)?;
        Ok(Self { header, chunks })
    }

    /// Source port.
    #[inline]
    pub fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.header[0], self.header[1]])
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// Verification tag.
    #[inline]
    pub fn verification_tag(&self) -> u32 {
        u32::from_be_bytes([
            self.header[4],
            self.header[5],
            self.header[6],
            self.header[7],
        ])
    }

    /// CRC32c as sent, in the little-endian order RFC 9260 appendix A sends it.
    #[inline]
    pub fn checksum(&self) -> u32 {
        u32::from_le_bytes([
            self.header[8],
            self.header[9],
            self.header[10],
            self.header[11],
        ])
    }

    pub(crate) fn header(&self) -> &'a [u8; 12] {
        self.header
    }

    /// The chunks; iteration ends at one that is malformed or cut.
    pub fn chunks(&self) -> SctpChunks<'a> {
        SctpChunks { rest: self.chunks }
    }

    /// Captured bytes after the common header.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.chunks
    }
}

/// One chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SctpChunk<'a> {
    /// Chunk type: 0 DATA, 1 INIT, 2 INIT ACK, ...
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Bytes after the chunk header, without padding.
    pub value: &'a [u8],
}

/// Iterator over whole chunks.
#[derive(Clone, Debug)]
pub struct SctpChunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for SctpChunks<'a> {
    type Item = SctpChunk<'a>;

    fn next(&mut self) -> Option<SctpChunk<'a>> {
        let whole = std::mem::take(&mut self.rest);
        let [kind, flags, high, low] = whole.first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let value = whole.get(4..len)?;
        // The last chunk's padding may be missing at the end of the capture.
        self.rest = whole.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(SctpChunk {
            kind: *kind,
            flags: *flags,
            value,
        })
    }
}

impl std::iter::FusedIterator for SctpChunks<'_> {}
