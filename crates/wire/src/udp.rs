//! UDP (RFC 768) and UDP-Lite (RFC 3828), length-checked as the kernel's nf_conntrack_proto_udp.c checks them.

use crate::malformed::MalformedKind;
use crate::transport::Segment;

/// A view of one UDP or UDP-Lite datagram.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a> {
    header: &'a [u8; 8],
    payload: &'a [u8],
    /// Header and payload as claimed.
    len: u16,
    lite: bool,
}

impl<'a> Udp<'a> {
    #[inline]
    pub(crate) fn parse(segment: Segment<'a>) -> Result<Self, MalformedKind> {
        let (header, rest) = segment.split::<8>(MalformedKind::UdpTruncated)?;
        let len = u16::from_be_bytes([header[4], header[5]]);
        if len < 8 || usize::from(len) > segment.len {
            return Err(MalformedKind::UdpLength);
        }
        let payload = rest.get(..usize::from(len - 8)).unwrap_or(rest);
        Ok(Self {
            header,
            payload,
            len,
            lite: false,
        })
    }

    /// UDP-Lite has a checksum coverage where UDP has the length; 0 covers all.
    pub(crate) fn parse_lite(segment: Segment<'a>) -> Result<Self, MalformedKind> {
        let (header, payload) = segment.split::<8>(MalformedKind::UdpTruncated)?;
        let coverage = u16::from_be_bytes([header[4], header[5]]);
        if coverage != 0 && (coverage < 8 || usize::from(coverage) > segment.len) {
            return Err(MalformedKind::UdpLiteCoverage);
        }
        if header[6..8] == [0, 0] {
            return Err(MalformedKind::UdpLiteChecksum);
        }
        Ok(Self {
            header,
            payload,
            len: segment.len as u16,
            lite: true,
        })
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

    /// Header and payload, bytes, as claimed by the header; in UDP-Lite by the IP header. At least 8.
    #[inline]
    pub fn length(&self) -> usize {
        usize::from(self.len)
    }

    /// Checksum as sent; 0 means none, but in UDP-Lite.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.header[6], self.header[7]])
    }

    /// Bytes from the header on that the checksum covers: all of them but in UDP-Lite.
    #[inline]
    pub fn checksum_coverage(&self) -> usize {
        match u16::from_be_bytes([self.header[4], self.header[5]]) {
            0 => self.length(),
            covered => usize::from(covered),
        }
    }

    /// Whether this is UDP-Lite.
    #[inline]
    pub fn is_lite(&self) -> bool {
        self.lite
    }

    /// Captured bytes after the header, within the claimed length.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}
