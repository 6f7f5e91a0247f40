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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;
    use crate::Transport;
    use crate::sample::{defect, ipv4, whole};

    const HEADER: [u8; 12] = [0x9c, 0x40, 0x0b, 0x59, 1, 2, 3, 4, 0xd, 0xc, 0xb, 0xa];

    #[test]
    fn header_and_chunks() {
        let chunks = [1, 0, 0, 7, 9, 9, 9, 0, 3, 5, 0, 4, 0, 0, 0, 3];
        let bytes = ipv4(132, &[&HEADER[..], &chunks].concat());
        let packet = whole(&bytes).unwrap();
        let Transport::Sctp(sctp) = packet.transport() else {
            panic!("{packet:?}");
        };
        assert_eq!(
            (sctp.source_port(), sctp.destination_port()),
            (40_000, 2905)
        );
        assert_eq!(
            (sctp.verification_tag(), sctp.checksum()),
            (0x0102_0304, 0x0a0b_0c0d)
        );
        let found: Vec<_> = sctp
            .chunks()
            .map(|chunk| (chunk.kind, chunk.flags, chunk.value))
            .collect();
        // The last chunk claims 3 bytes, less than its own header.
        assert_eq!(found, [(1, 0, &[9, 9, 9][..]), (3, 5, &[])]);
    }

    #[test]
    fn short_packets() {
        assert_eq!(
            defect(&ipv4(132, &HEADER[..11])),
            Some(MalformedKind::SctpTruncated)
        );
        assert_eq!(defect(&ipv4(132, &HEADER)), None);
    }
}
