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
    #[inline(always)]
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;
    use crate::Transport;
    use crate::sample::{cut, defect, ipv4, ipv6, udp, whole};

    #[test]
    fn the_length_bounds_the_payload() {
        let mut datagram = udp(53, b"payload");
        datagram[5] = 10;
        let bytes = ipv4(17, &datagram);
        let packet = whole(&bytes).unwrap();
        let Transport::Udp(udp) = packet.transport() else {
            panic!("{packet:?}");
        };
        assert_eq!(
            (udp.source_port(), udp.destination_port(), udp.length()),
            (40_000, 53, 10)
        );
        assert_eq!(
            (udp.payload(), packet.payload_len(), udp.is_lite()),
            (&b"pa"[..], 2, false)
        );
    }

    #[test]
    fn each_defect() {
        let with_length = |length: u8| {
            let mut datagram = udp(53, b"payload");
            datagram[5] = length;
            (defect(&ipv4(17, &datagram)), defect(&ipv6(17, &datagram)))
        };
        let wrong = Some(MalformedKind::UdpLength);
        for (length, expected) in [(0, wrong), (7, wrong), (8, None), (15, None), (16, wrong)] {
            assert_eq!(with_length(length), (expected, expected), "{length}");
        }
        assert_eq!(
            defect(&ipv4(17, &[0; 7])),
            Some(MalformedKind::UdpTruncated)
        );
        let bytes = ipv4(17, &udp(53, b"payload"));
        assert_eq!(
            cut(&bytes[..27], bytes.len()).unwrap_err().kind,
            MalformedKind::CutByCapture
        );
    }

    #[test]
    fn lite_has_a_coverage_for_a_length() {
        let with = |coverage: u8, checksum: u8| {
            let mut datagram = udp(53, b"payload");
            datagram[5] = coverage;
            datagram[7] = checksum;
            defect(&ipv4(136, &datagram))
        };
        let wrong = Some(MalformedKind::UdpLiteCoverage);
        for (coverage, expected) in [
            (0, None),
            (1, wrong),
            (7, wrong),
            (8, None),
            (15, None),
            (16, wrong),
        ] {
            assert_eq!(with(coverage, 1), expected, "{coverage}");
        }
        assert_eq!(with(8, 0), Some(MalformedKind::UdpLiteChecksum));
        let mut datagram = udp(53, b"payload");
        datagram[5..8].copy_from_slice(&[8, 0, 1]);
        let bytes = ipv4(136, &datagram);
        let packet = whole(&bytes).unwrap();
        assert_eq!(
            (packet.payload(), packet.ports()),
            (&b"payload"[..], Some((40_000, 53)))
        );
        assert!(
            matches!(packet.transport(), Transport::Udp(udp) if udp.is_lite() && udp.checksum_coverage() == 8)
        );
    }
}
