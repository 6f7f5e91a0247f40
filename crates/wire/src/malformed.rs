//! Why bytes were refused: one kind for each defect, with the addresses where they could still be read.
//!
//! The defects are those for which the Linux kernel drops a packet or conntrack calls it invalid; policy (martian
//! addresses, impossible TCP flags, unknown ICMP types) is not judged here.

use std::fmt;
use std::net::IpAddr;

use crate::chain;
use crate::network::IpHeader;

/// A frame that claims to be IP but cannot be read as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Malformed {
    /// The defect.
    pub kind: MalformedKind,
    /// Source address, when the IP header could be read that far.
    pub source: Option<IpAddr>,
    /// Destination address, when the IP header could be read that far.
    pub destination: Option<IpAddr>,
    /// Upper-layer protocol number; that of an IPv6 extension header when the chain could not be read to its end.
    pub protocol: Option<u8>,
}

impl Malformed {
    /// A defect found before any address could be read.
    pub(crate) fn bare(kind: MalformedKind) -> Self {
        Self {
            kind,
            source: None,
            destination: None,
            protocol: None,
        }
    }

    /// A defect of an IP packet, with what can still be read of its header.
    #[cold]
    #[inline(never)]
    pub(crate) fn reading(kind: MalformedKind, bytes: &[u8], is_ipv6: bool) -> Self {
        let header = if is_ipv6 {
            bytes.first_chunk().map(IpHeader::V6)
        } else {
            bytes.first_chunk().map(IpHeader::V4)
        };
        let Some(header) = header.filter(|header| header.has_right_version()) else {
            return Self::bare(kind);
        };
        Self {
            kind,
            source: Some(header.source()),
            destination: Some(header.destination()),
            protocol: Some(match header {
                IpHeader::V4(header) => header[9],
                IpHeader::V6(header) => chain::last(header[6], &bytes[40..]).protocol,
            }),
        }
    }
}

impl From<MalformedKind> for Malformed {
    fn from(kind: MalformedKind) -> Self {
        Self::bare(kind)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        if let (Some(source), Some(destination)) = (self.source, self.destination) {
            write!(f, " ({source} > {destination}")?;
            if let Some(protocol) = self.protocol {
                write!(f, ", protocol {protocol}")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl std::error::Error for Malformed {}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident $name:literal $sentence:literal;)*) => {
        /// One defect.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum MalformedKind {
            $($(#[$doc])* $variant,)*
        }

        impl MalformedKind {
            /// Every kind, in the order of the layers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Stable kebab-case name, for records and counters.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }
        }
    };
}

kinds! {
    /// The capture kept fewer bytes (snaplen) than the headers need. No defect of the packet itself.
    CutByCapture "cut-by-capture" "the capture cut the packet inside its headers";
    /// The frame ended inside the link header or a VLAN tag (IEEE 802.3 clause 3, IEEE 802.1Q clause 9).
    LinkTruncated "link-truncated" "the frame ends inside its link header";
    /// A link without protocol field carries neither version 4 nor 6.
    IpVersion "ip-version" "the IP version is neither 4 nor 6";

    /// Fewer than 20 bytes for an IPv4 header (RFC 791 section 3.1; `ip_rcv_core`).
    Ipv4Truncated "ipv4-truncated" "the IPv4 header is shorter than 20 bytes";
    /// The link says IPv4, the version field does not (RFC 791 section 3.1; `ip_rcv_core`).
    Ipv4Version "ipv4-version" "the IPv4 header carries another version";
    /// Header length field below five words (RFC 791 section 3.1; `ip_rcv_core`).
    Ipv4HeaderLength "ipv4-header-length" "the IPv4 header length is below 20 bytes";
    /// Header length beyond the bytes received (RFC 791 section 3.1; `ip_rcv_core`).
    Ipv4HeaderTruncated "ipv4-header-truncated" "the IPv4 header runs past the end of the frame";
    /// Header checksum wrong (RFC 791 section 3.1, RFC 1071; `ip_rcv_core`).
    Ipv4Checksum "ipv4-checksum" "the IPv4 header checksum is wrong";
    /// Total length below the header length (RFC 791 section 3.1; `ip_rcv_core`).
    Ipv4TotalLength "ipv4-total-length" "the IPv4 total length is below its header length";
    /// Total length beyond the bytes on the wire (RFC 791 section 3.1; `ip_rcv_core`).
    Ipv4TotalLengthBeyondWire "ipv4-total-length-beyond-wire" "the IPv4 total length exceeds the bytes on the wire";
    /// An IPv4 option is too short, runs past the header, stands twice or has a pointer outside itself (RFC 791 section
    /// 3.1; `ip_options_compile`, which runs after the prerouting hooks).
    Ipv4Options "ipv4-options" "an IPv4 option is malformed";

    /// Fewer than 40 bytes for an IPv6 header (RFC 8200 section 3; `ip6_rcv_core`).
    Ipv6Truncated "ipv6-truncated" "the IPv6 header is shorter than 40 bytes";
    /// The link says IPv6, the version field does not (RFC 8200 section 3; `ip6_rcv_core`).
    Ipv6Version "ipv6-version" "the IPv6 header carries another version";
    /// Source is an IPv4-mapped address (`ip6_rcv_core`; draft-itojun-v6ops-v4mapped-harmful).
    Ipv6SourceMapped "ipv6-source-mapped" "the IPv6 source is an IPv4-mapped address";
    /// Source is a multicast address (RFC 4291 section 2.7; `ip6_rcv_core`).
    Ipv6SourceMulticast "ipv6-source-multicast" "the IPv6 source is a multicast address";
    /// Destination is multicast with the reserved scope 0 (RFC 4291 section 2.7; `ip6_rcv_core`).
    Ipv6DestinationScope "ipv6-destination-scope" "the IPv6 multicast destination has the reserved scope 0";
    /// Payload length beyond the bytes on the wire (RFC 8200 section 3; `ip6_rcv_core`).
    Ipv6PayloadLength "ipv6-payload-length" "the IPv6 payload length exceeds the bytes on the wire";
    /// Payload length 0 with a hop-by-hop header: a jumbogram (RFC 2675), which is not supported.
    Ipv6Jumbogram "ipv6-jumbogram" "IPv6 jumbograms are not supported";
    /// An extension header runs past the end of the packet (RFC 8200 section 4; `ipv6_skip_exthdr`).
    Ipv6ExtensionTruncated "ipv6-extension-truncated" "an IPv6 extension header runs past the end of the packet";
    /// A hop-by-hop option runs past its header, pads too much, or is unknown and asks to be discarded (RFC 8200 section
    /// 4.2; `ip6_parse_tlv`).
    Ipv6HopByHop "ipv6-hop-by-hop" "an IPv6 hop-by-hop option is malformed or asks to be discarded";
    /// Next header 59, nothing follows (RFC 8200 section 4.7). Legal, but `ipv6_skip_exthdr` fails and conntrack says invalid.
    Ipv6NoNextHeader "ipv6-no-next-header" "the IPv6 packet has no upper-layer header";
    /// A first fragment with the begin of the upper-layer header, or all before it, and not the whole (RFC 8200 section 4.5;
    /// `ipv6frag_thdr_truncated`).
    Ipv6FirstFragment "ipv6-first-fragment" "the first IPv6 fragment does not hold all headers";

    /// Segment shorter than 20 bytes (RFC 9293 section 3.1; `tcp_error`).
    TcpTruncated "tcp-truncated" "the TCP header is shorter than 20 bytes";
    /// Data offset below 20 bytes or beyond the segment (RFC 9293 section 3.1; `tcp_error`).
    TcpDataOffset "tcp-data-offset" "the TCP data offset is impossible";
    /// Datagram shorter than 8 bytes (RFC 768; `udp_error`, `udplite_error`).
    UdpTruncated "udp-truncated" "the UDP header is shorter than 8 bytes";
    /// Length below 8 or beyond the packet (RFC 768; `udp_error`).
    UdpLength "udp-length" "the UDP length is impossible";
    /// Checksum coverage of 1 to 7 bytes or beyond the packet (RFC 3828 section 3.1; `udplite_error`).
    UdpLiteCoverage "udplite-coverage" "the UDP-Lite checksum coverage is impossible";
    /// Checksum 0, which UDP-Lite forbids (RFC 3828 section 3.1; `udplite_error`).
    UdpLiteChecksum "udplite-checksum" "the UDP-Lite checksum is missing";
    /// ICMP or ICMPv6 message shorter than 8 bytes (RFC 792, RFC 4443; `nf_conntrack_icmpv4_error`, `nf_conntrack_icmpv6_error`).
    IcmpTruncated "icmp-truncated" "the ICMP header is shorter than 8 bytes";
    /// SCTP packet shorter than 12 bytes (RFC 9260 section 3.1; `sctp_error`).
    SctpTruncated "sctp-truncated" "the SCTP header is shorter than 12 bytes";
    /// GRE version 1 that carries no PPP (RFC 2637 section 4.1; `gre_pkt_to_tuple`).
    GreNotPpp "gre-not-ppp" "the GRE version 1 packet carries no PPP";
}

impl fmt::Display for MalformedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_kebab_case_and_distinct() {
        let names: std::collections::BTreeSet<_> =
            MalformedKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), MalformedKind::ALL.len());
        for name in names {
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{name}"
            );
        }
    }

    #[test]
    fn display_names_the_addresses_that_were_read() {
        let malformed = Malformed {
            kind: MalformedKind::UdpLength,
            source: Some([192, 0, 2, 1].into()),
            destination: Some([192, 0, 2, 2].into()),
            protocol: Some(17),
        };
        assert_eq!(
            malformed.to_string(),
            "the UDP length is impossible (192.0.2.1 > 192.0.2.2, protocol 17)"
        );
        assert_eq!(
            Malformed::bare(MalformedKind::IpVersion).to_string(),
            "the IP version is neither 4 nor 6"
        );
    }
}
