//! The packet quoted by an ICMP error. It was cut by whoever sent the error, so reading it is tolerant: lengths and
//! checksums are not judged, as `nf_conntrack_inet_error` does not judge them.

use std::net::IpAddr;

use crate::chain;
use crate::icmp;
use crate::ipv4;
use crate::ipv6;
use crate::transport::protocol;

/// What could be read of a quoted packet. Source and destination are as in the packet that met the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Embedded {
    /// Source address: of the one who gets the error, normally.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Upper-layer protocol; an extension header's number when the quotation ends inside the chain.
    pub protocol: u8,
    /// Source and destination port, when the protocol has ports and they were quoted.
    pub ports: Option<(u16, u16)>,
    /// Type and code, when an ICMP message was quoted.
    pub icmp: Option<(u8, u8)>,
    /// Identifier, when an ICMP query or reply was quoted.
    pub icmp_identifier: Option<u16>,
    /// Whether the quoted packet was a fragment other than the first, which has no ports.
    pub is_fragment: bool,
}

/// Reads the quotation in an error of the given family.
pub(crate) fn parse(bytes: &[u8], v6: bool) -> Option<Embedded> {
    if v6 {
        parse_ipv6(bytes)
    } else {
        parse_ipv4(bytes)
    }
}

fn parse_ipv4(bytes: &[u8]) -> Option<Embedded> {
    let header = bytes.first_chunk::<20>()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_len < 20 {
        return None;
    }
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    let mut embedded = Embedded {
        source: ipv4::source(header).into(),
        destination: ipv4::destination(header).into(),
        protocol: header[9],
        ports: None,
        icmp: None,
        icmp_identifier: None,
        is_fragment,
    };
    if !is_fragment {
        embedded.read_upper(bytes.get(header_len..).unwrap_or_default(), false);
    }
    Some(embedded)
}

fn parse_ipv6(bytes: &[u8]) -> Option<Embedded> {
    let header = bytes.first_chunk::<40>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let last = chain::last(header[6], &bytes[40..]);
    let mut embedded = Embedded {
        source: ipv6::source(header).into(),
        destination: ipv6::destination(header).into(),
        protocol: last.protocol,
        ports: None,
        icmp: None,
        icmp_identifier: None,
        is_fragment: last.in_fragment,
    };
    embedded.read_upper(last.rest, true);
    Some(embedded)
}

impl Embedded {
    fn read_upper(&mut self, upper: &[u8], v6: bool) {
        match (self.protocol, upper) {
            (
                protocol::TCP
                | protocol::UDP
                | protocol::UDP_LITE
                | protocol::SCTP
                | protocol::DCCP,
                [a, b, c, d, ..],
            ) => {
                self.ports = Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
            }
            (protocol::ICMP, [kind, code, rest @ ..]) if !v6 => {
                self.read_icmp(*kind, *code, rest, v6)
            }
            (protocol::ICMPV6, [kind, code, rest @ ..]) if v6 => {
                self.read_icmp(*kind, *code, rest, v6)
            }
            _ => {}
        }
    }

    fn read_icmp(&mut self, kind: u8, code: u8, after: &[u8], v6: bool) {
        self.icmp = Some((kind, code));
        if let ([_, _, high, low, ..], true) = (after, icmp::has_identifier(v6, kind)) {
            self.icmp_identifier = Some(u16::from_be_bytes([*high, *low]));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;
    use crate::sample::{ipv4, ipv6, tcp, udp};

    #[test]
    fn ports_are_in_the_first_eight_bytes() {
        let quotation = ipv4(6, &tcp(2, &[], &[]));
        for len in 0..28 {
            let embedded = parse(&quotation[..len], false);
            assert_eq!(embedded.is_some(), len >= 20, "{len}");
            let ports = embedded.and_then(|embedded| embedded.ports);
            assert_eq!(ports, (len >= 24).then_some((40_000, 22)), "{len}");
        }
        let embedded = parse(&quotation[..28], false).unwrap();
        assert_eq!(embedded.source.to_string(), "192.0.2.1");
        assert_eq!(embedded.destination.to_string(), "198.51.100.2");
        assert_eq!((embedded.protocol, embedded.is_fragment), (6, false));
    }

    #[test]
    fn lengths_and_checksums_are_not_judged() {
        let mut quotation = ipv4(17, &udp(53, b"x"));
        quotation[10] ^= 0xff;
        quotation[2..4].fill(0xff);
        assert_eq!(parse(&quotation, false).unwrap().ports, Some((40_000, 53)));
        quotation[0] = 0x44;
        assert_eq!(parse(&quotation, false), None);
        quotation[0] = 0x65;
        assert_eq!(parse(&quotation, false), None);
    }

    #[test]
    fn extension_headers_are_walked() {
        let chain = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp(53, b"")].concat();
        let quotation = ipv6(60, &chain);
        let embedded = parse(&quotation, true).unwrap();
        assert_eq!(
            (embedded.protocol, embedded.ports),
            (17, Some((40_000, 53)))
        );
        // Cut inside the chain.
        let embedded = parse(&quotation[..45], true).unwrap();
        assert_eq!((embedded.protocol, embedded.ports), (60, None));
        assert_eq!(parse(&quotation, false), None);
    }

    #[test]
    fn later_fragments_have_no_ports() {
        let mut quotation = ipv4(17, &udp(53, b""));
        quotation[7] = 1;
        let embedded = parse(&quotation, false).unwrap();
        assert_eq!((embedded.ports, embedded.is_fragment), (None, true));
        quotation[6..8].copy_from_slice(&[0x20, 0]);
        let embedded = parse(&quotation, false).unwrap();
        assert_eq!(
            (embedded.ports, embedded.is_fragment),
            (Some((40_000, 53)), false)
        );

        let later = [&[17, 0, 0, 8, 0, 0, 0, 1][..], &udp(53, b"")].concat();
        let embedded = parse(&ipv6(44, &later), true).unwrap();
        assert_eq!(
            (embedded.protocol, embedded.ports, embedded.is_fragment),
            (17, None, true)
        );
    }

    #[test]
    fn quoted_echo() {
        let embedded = parse(&ipv4(1, &[8, 0, 0, 0, 0x12, 0x34, 0, 1]), false).unwrap();
        assert_eq!(
            (embedded.icmp, embedded.icmp_identifier),
            (Some((8, 0)), Some(0x1234))
        );
        let embedded = parse(&ipv6(58, &[128, 0, 0, 0, 0x12, 0x34]), true).unwrap();
        assert_eq!(
            (embedded.icmp, embedded.icmp_identifier),
            (Some((128, 0)), Some(0x1234))
        );
        let embedded = parse(&ipv4(1, &[3, 1, 0, 0, 0x12, 0x34]), false).unwrap();
        assert_eq!(
            (embedded.icmp, embedded.icmp_identifier),
            (Some((3, 1)), None)
        );
    }
}
