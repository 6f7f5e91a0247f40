//! TCP segments (RFC 9293 section 3.1), length-checked as `tcp_error` in the kernel's nf_conntrack_proto_tcp.c checks them.

use crate::malformed::MalformedKind;
use crate::tcp_flags::TcpFlags;
use crate::tcp_options::TcpOptions;
use crate::transport::Segment;

/// A view of one TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    header: &'a [u8; 20],
    /// Options and payload. The data offset was checked against it.
    rest: &'a [u8],
}

impl<'a> Tcp<'a> {
    #[inline(always)]
    pub(crate) fn parse(segment: Segment<'a>) -> Result<Self, MalformedKind> {
        let (header, rest) = segment.split::<20>(MalformedKind::TcpTruncated)?;
        let header_len = usize::from(header[12] >> 4) * 4;
        if header_len < 20 || header_len > segment.len {
            return Err(MalformedKind::TcpDataOffset);
        }
        if rest.len() < header_len - 20 {
            return Err(MalformedKind::CutByCapture);
        }
        Ok(Self { header, rest })
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

    /// Sequence number.
    #[inline]
    pub fn sequence(&self) -> u32 {
        u32::from_be_bytes([
            self.header[4],
            self.header[5],
            self.header[6],
            self.header[7],
        ])
    }

    /// Acknowledgement number; without meaning unless the ACK flag is set.
    #[inline]
    pub fn acknowledgement(&self) -> u32 {
        u32::from_be_bytes([
            self.header[8],
            self.header[9],
            self.header[10],
            self.header[11],
        ])
    }

    /// Header length with options, 20 to 60 bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.header[12] >> 4) * 4
    }

    /// Control flags.
    #[inline]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags::from_bits(self.header[13])
    }

    /// Window as sent, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        u16::from_be_bytes([self.header[14], self.header[15]])
    }

    /// Checksum as sent.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.header[16], self.header[17]])
    }

    /// Urgent pointer; without meaning unless the URG flag is set.
    #[inline]
    pub fn urgent_pointer(&self) -> u16 {
        u16::from_be_bytes([self.header[18], self.header[19]])
    }

    /// The options; a malformed one yields [`crate::TcpOption::Malformed`] and ends the iteration.
    #[inline]
    pub fn options(&self) -> TcpOptions<'a> {
        TcpOptions::new(self.split().0)
    }

    /// Captured bytes after the options.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.split().1
    }

    /// Options and payload.
    #[inline]
    fn split(&self) -> (&'a [u8], &'a [u8]) {
        let options_len = self.header_len().saturating_sub(20);
        self.rest.split_at_checked(options_len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;
    use crate::Transport;
    use crate::sample::{cut, defect, ipv4, tcp, whole};

    #[test]
    fn reads_every_field() {
        let bytes = ipv4(6, &tcp(0x12, &[1, 1, 1, 0], b"hello"));
        let packet = whole(&bytes).unwrap();
        let Transport::Tcp(tcp) = packet.transport() else {
            panic!("{packet:?}");
        };
        assert_eq!((tcp.source_port(), tcp.destination_port()), (40_000, 22));
        assert_eq!(
            (tcp.sequence(), tcp.acknowledgement()),
            (0x0102_0304, 0x0506_0708)
        );
        assert_eq!(
            (tcp.window(), tcp.checksum(), tcp.urgent_pointer()),
            (0xfffe, 0, 9)
        );
        assert_eq!(
            (tcp.flags(), tcp.header_len()),
            (TcpFlags::SYN | TcpFlags::ACK, 24)
        );
        assert_eq!(
            (tcp.payload(), packet.payload(), packet.payload_len()),
            (&b"hello"[..], &b"hello"[..], 5)
        );
    }

    #[test]
    fn each_defect() {
        let segment = tcp(2, &[0; 4], b"");
        let with_offset = |words: u8| {
            let mut segment = segment.clone();
            segment[12] = words << 4;
            defect(&ipv4(6, &segment))
        };
        assert_eq!(
            defect(&ipv4(6, &segment[..19])),
            Some(MalformedKind::TcpTruncated)
        );
        assert_eq!(with_offset(4), Some(MalformedKind::TcpDataOffset));
        assert_eq!(with_offset(5), None);
        assert_eq!(with_offset(6), None);
        assert_eq!(with_offset(7), Some(MalformedKind::TcpDataOffset));
        let bytes = ipv4(6, &segment);
        assert_eq!(
            cut(&bytes[..43], 44).unwrap_err().kind,
            MalformedKind::CutByCapture
        );
        assert_eq!(cut(&bytes[..43], 44).unwrap_err().protocol, Some(6));
    }
}
