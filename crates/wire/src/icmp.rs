//! ICMP (RFC 792) and ICMPv6 (RFC 4443) messages. Which types are acceptable is the engine's to say.

use crate::malformed::MalformedKind;
use crate::quoted::{self, Embedded};
use crate::transport::Segment;

/// A view of one ICMP or ICMPv6 message.
#[derive(Clone, Copy, Debug)]
pub struct Icmp<'a> {
    header: &'a [u8; 8],
    body: &'a [u8],
    v6: bool,
}

impl<'a> Icmp<'a> {
    #[inline]
    pub(crate) fn parse(segment: Segment<'a>, v6: bool) -> Result<Self, MalformedKind> {
        let (header, body) = segment.split::<8>(MalformedKind::IcmpTruncated)?;
        Ok(Self { header, body, v6 })
    }

    /// Whether this is ICMPv6.
    #[inline]
    pub fn is_v6(&self) -> bool {
        self.v6
    }

    /// Type.
    #[inline]
    pub fn kind(&self) -> u8 {
        self.header[0]
    }

    /// Code.
    #[inline]
    pub fn code(&self) -> u8 {
        self.header[1]
    }

    /// Checksum as sent.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// Bytes 4 to 7, whose meaning depends on the type: identifier and sequence, MTU, gateway, pointer.
    #[inline]
    pub fn rest_of_header(&self) -> [u8; 4] {
        let [_, _, _, _, rest @ ..] = *self.header;
        rest
    }

    /// Identifier of a query or its reply: echo, timestamp, information, address mask (RFC 792, RFC 950), extended echo
    /// (RFC 8335); in ICMPv6 echo, extended echo, and node information (RFC 4620), whose query type conntrack takes for one.
    #[inline]
    pub fn identifier(&self) -> Option<u16> {
        has_identifier(self.v6, self.kind())
            .then(|| u16::from_be_bytes([self.header[4], self.header[5]]))
    }

    /// Sequence number of an echo, timestamp, information or address mask message.
    #[inline]
    pub fn sequence(&self) -> Option<u16> {
        has_identifier(self.v6, self.kind())
            .then(|| u16::from_be_bytes([self.header[6], self.header[7]]))
    }

    /// Whether this is a query that expects a reply (echo request and its kin).
    #[inline]
    pub fn is_query(&self) -> bool {
        match self.v6 {
            false => matches!(self.kind(), 8 | 13 | 15 | 17 | 42),
            true => matches!(self.kind(), 128 | 139 | 160),
        }
    }

    /// Whether this reports on another packet and quotes it: in ICMP unreachable, source quench, redirect, time exceeded
    /// and parameter problem; in ICMPv6 every type below 128 (RFC 4443 section 2.1).
    #[inline]
    pub fn is_error(&self) -> bool {
        match self.v6 {
            false => matches!(self.kind(), 3 | 4 | 5 | 11 | 12),
            true => self.kind() < 128,
        }
    }

    /// The next-hop MTU of "fragmentation needed" (RFC 1191) or "packet too big" (RFC 4443 section 3.2), bytes.
    pub fn mtu(&self) -> Option<u32> {
        match (self.v6, self.kind(), self.code()) {
            (false, 3, 4) => Some(u32::from(u16::from_be_bytes([
                self.header[6],
                self.header[7],
            ]))),
            (true, 2, _) => Some(u32::from_be_bytes(self.rest_of_header())),
            _ => None,
        }
    }

    /// The packet an error quotes; `None` unless this is an error and the quoted IP header is whole.
    ///
    /// RFC 792 promises only 8 bytes after the quoted IP header; RFC 4884 extensions come after the quotation.
    pub fn embedded(&self) -> Option<Embedded> {
        if self.is_error() {
            quoted::parse(self.body, self.v6)
        } else {
            None
        }
    }

    /// Captured bytes after the 8-byte header.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.body
    }
}

/// Whether bytes 4 and 5 are an identifier.
#[inline]
pub(crate) fn has_identifier(v6: bool, kind: u8) -> bool {
    match v6 {
        false => matches!(kind, 0 | 8 | 13..=18 | 42 | 43),
        true => matches!(kind, 128 | 129 | 139 | 140 | 160 | 161),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;
    use crate::Transport;
    use crate::sample::{cut, defect, ipv4, ipv6, whole};

    fn icmp(bytes: &[u8]) -> Icmp<'_> {
        match whole(bytes).unwrap().transport() {
            Transport::Icmp(icmp) => icmp,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn echo_in_both_families() {
        let message = |kind| [&[kind, 0, 0xab, 0xcd, 0x12, 0x34, 0, 7][..], b"data"].concat();
        let v4 = ipv4(1, &message(8));
        let v6 = ipv6(58, &message(128));
        for (echo, kind) in [(icmp(&v4), 8), (icmp(&v6), 128)] {
            assert_eq!(
                (echo.kind(), echo.code(), echo.checksum()),
                (kind, 0, 0xabcd)
            );
            assert_eq!(
                (echo.identifier(), echo.sequence()),
                (Some(0x1234), Some(7))
            );
            assert_eq!((echo.payload(), echo.is_v6()), (&b"data"[..], kind == 128));
            assert!(echo.is_query() && !echo.is_error() && echo.embedded().is_none());
        }
    }

    #[test]
    fn the_other_familys_icmp_is_not_read() {
        for bytes in [ipv4(58, &[0; 8]), ipv6(1, &[0; 8]), ipv4(58, &[0; 3])] {
            assert!(matches!(
                whole(&bytes).unwrap().transport(),
                Transport::Other
            ));
        }
    }

    #[test]
    fn errors_by_type() {
        let is_error = |bytes: Vec<u8>| icmp(&bytes).is_error();
        for kind in 0..=255 {
            assert_eq!(
                is_error(ipv4(1, &[kind, 0, 0, 0, 0, 0, 0, 0])),
                matches!(kind, 3 | 4 | 5 | 11 | 12)
            );
            assert_eq!(is_error(ipv6(58, &[kind, 0, 0, 0, 0, 0, 0, 0])), kind < 128);
        }
    }

    #[test]
    fn path_mtu() {
        assert_eq!(
            icmp(&ipv4(1, &[3, 4, 0, 0, 0, 0, 5, 0xdc])).mtu(),
            Some(1500)
        );
        assert_eq!(icmp(&ipv4(1, &[3, 3, 0, 0, 0, 0, 5, 0xdc])).mtu(), None);
        assert_eq!(
            icmp(&ipv6(58, &[2, 0, 0, 0, 0, 1, 0, 0])).mtu(),
            Some(65_536)
        );
    }

    #[test]
    fn short_messages() {
        assert_eq!(
            defect(&ipv4(1, &[8; 7])),
            Some(MalformedKind::IcmpTruncated)
        );
        assert_eq!(
            defect(&ipv6(58, &[128; 7])),
            Some(MalformedKind::IcmpTruncated)
        );
        assert_eq!(
            cut(&ipv4(1, &[8; 8])[..27], 28).unwrap_err().kind,
            MalformedKind::CutByCapture
        );
        // Unknown types are not malformed here.
        assert_eq!(defect(&ipv4(1, &[255; 8])), None);
    }
}
