//! One IP packet: the view that every later stage works on. Once it exists, no accessor can fail.

use std::net::IpAddr;

use crate::checksum::{self, Sum};
use crate::fragment::{Fragment, Piece};
use crate::ipv6::Routing;
use crate::link::LinkDirection;
use crate::malformed::{Malformed, MalformedKind};
use crate::transport::{self, Transport, protocol};
use crate::tunnel::Tunnel;
use crate::vlan::Vlan;
use crate::{ipv4, ipv4_options, ipv6};

/// A length-checked view of one IP packet and its transport header.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    network: Network<'a>,
    transport: Transport<'a>,
    arrival: Arrival,
}

/// How a packet came: what the link layer knew.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrival {
    pub(crate) vlan: Vlan,
    pub(crate) direction: Option<LinkDirection>,
}

/// The network layer of a packet, either family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network<'a> {
    pub(crate) header: IpHeader<'a>,
    /// From the IP header to the end of the datagram, as captured.
    pub(crate) datagram: &'a [u8],
    /// Length of the datagram as claimed, at least `header_len` and `datagram.len()`.
    pub(crate) len: usize,
    /// Up to the upper layer, or to the payload of a fragment other than the first.
    pub(crate) header_len: usize,
    pub(crate) protocol: u8,
    pub(crate) piece: Option<Piece>,
    pub(crate) routing: Option<Routing>,
    /// An IPv6 authentication header was stepped over.
    pub(crate) authenticated: bool,
}

/// The fixed part of the IP header.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IpHeader<'a> {
    V4(&'a ipv4::Header),
    V6(&'a ipv6::Header),
}

impl IpHeader<'_> {
    #[inline]
    pub(crate) fn is_ipv6(self) -> bool {
        matches!(self, Self::V6(_))
    }
}

/// What identifies a flow in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FiveTuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Upper-layer protocol number.
    pub protocol: u8,
    /// Source port, for protocols with ports.
    pub source_port: Option<u16>,
    /// Destination port, for protocols with ports.
    pub destination_port: Option<u16>,
}

impl FiveTuple {
    /// The same flow seen from the other end.
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

#[inline]
pub(crate) fn parse_ipv4(
    bytes: &[u8],
    wire: usize,
    arrival: Arrival,
) -> Result<Packet<'_>, Malformed> {
    Packet::new(ipv4::parse(bytes, wire)?, arrival)
}

#[inline]
pub(crate) fn parse_ipv6(
    bytes: &[u8],
    wire: usize,
    arrival: Arrival,
) -> Result<Packet<'_>, Malformed> {
    Packet::new(ipv6::parse(bytes, wire)?, arrival)
}

/// Picks the family by the version field.
#[inline]
pub(crate) fn parse_either(
    bytes: &[u8],
    wire: usize,
    arrival: Arrival,
) -> Result<Packet<'_>, Malformed> {
    match bytes.first().map(|byte| byte >> 4) {
        Some(4) => parse_ipv4(bytes, wire, arrival),
        Some(6) => parse_ipv6(bytes, wire, arrival),
        Some(_) => Err(MalformedKind::IpVersion.into()),
        None if wire > 0 => Err(MalformedKind::CutByCapture.into()),
        None => Err(MalformedKind::LinkTruncated.into()),
    }
}

impl<'a> Packet<'a> {
    #[inline]
    fn new(network: Network<'a>, arrival: Arrival) -> Result<Self, Malformed> {
        match transport::parse(&network) {
            Ok(transport) => Ok(Self {
                network,
                transport,
                arrival,
            }),
            Err(kind) => Err(network.refused(kind)),
        }
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> IpAddr {
        self.network.source()
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> IpAddr {
        self.network.destination()
    }

    /// Whether this is IPv6.
    #[inline]
    pub fn is_ipv6(&self) -> bool {
        self.network.header.is_ipv6()
    }

    /// Upper-layer protocol, after extension headers. In an IPv6 fragment other than the first, what its fragment header
    /// names, which may be an extension header.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.network.protocol
    }

    /// Time to live or hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        match self.network.header {
            IpHeader::V4(header) => header[8],
            IpHeader::V6(header) => header[7],
        }
    }

    /// DSCP and ECN: the type of service or traffic class byte.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        match self.network.header {
            IpHeader::V4(header) => header[1],
            IpHeader::V6(header) => header[0] << 4 | header[1] >> 4,
        }
    }

    /// Whether "don't fragment" is set; always so in IPv6.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        match self.network.header {
            IpHeader::V4(header) => header[6] & 0x40 != 0,
            IpHeader::V6(_) => true,
        }
    }

    /// IPv4 identification; `None` in IPv6, where only fragments have one ([`Packet::fragment`]).
    #[inline]
    pub fn ipv4_id(&self) -> Option<u16> {
        match self.network.header {
            IpHeader::V4(header) => Some(u16::from_be_bytes([header[4], header[5]])),
            IpHeader::V6(_) => None,
        }
    }

    /// The place of this fragment in its datagram; `None` for whole packets, "atomic fragments" (RFC 6946) among them.
    #[inline]
    pub fn fragment(&self) -> Option<Fragment> {
        self.network.piece.map(|piece| piece.fragment)
    }

    /// The upper layer; [`Transport::Fragment`] for every fragment, the first too.
    #[inline]
    pub fn transport(&self) -> Transport<'a> {
        self.transport
    }

    /// Source and destination port of TCP, UDP, UDP-Lite, SCTP and DCCP; `None` for others and for fragments.
    #[inline]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.transport {
            Transport::Tcp(tcp) => Some((tcp.source_port(), tcp.destination_port())),
            Transport::Udp(udp) => Some((udp.source_port(), udp.destination_port())),
            Transport::Sctp(sctp) => Some((sctp.source_port(), sctp.destination_port())),
            Transport::Other if self.network.protocol == protocol::DCCP => {
                match self.network.upper() {
                    [a, b, c, d, ..] => {
                        Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
                    }
                    _ => None,
                }
            }
            Transport::Icmp(_) | Transport::Gre(_) | Transport::Fragment | Transport::Other => None,
        }
    }

    /// Addresses, protocol and ports.
    #[inline]
    pub fn five_tuple(&self) -> FiveTuple {
        let ports = self.ports();
        FiveTuple {
            source: self.source(),
            destination: self.destination(),
            protocol: self.protocol(),
            source_port: ports.map(|(source, _)| source),
            destination_port: ports.map(|(_, destination)| destination),
        }
    }

    /// Captured bytes after the transport header, within the lengths the headers claim. For protocols without a view and
    /// for fragments, after the IP headers.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        match self.transport {
            Transport::Tcp(tcp) => tcp.payload(),
            Transport::Udp(udp) => udp.payload(),
            Transport::Icmp(icmp) => icmp.payload(),
            Transport::Sctp(sctp) => sctp.payload(),
            Transport::Gre(gre) => gre.payload(),
            Transport::Fragment | Transport::Other => self.network.upper(),
        }
    }

    /// Length of the payload as the headers claim it, at least `payload().len()`.
    #[inline]
    pub fn payload_len(&self) -> usize {
        let upper = self.network.len - self.network.header_len;
        match self.transport {
            Transport::Tcp(tcp) => upper.saturating_sub(tcp.header_len()),
            Transport::Udp(udp) => udp.length() - 8,
            Transport::Icmp(_) => upper.saturating_sub(8),
            Transport::Sctp(_) => upper.saturating_sub(12),
            Transport::Gre(gre) => upper.saturating_sub(gre.header_len()),
            Transport::Fragment | Transport::Other => upper,
        }
    }

    /// From the IP header to the end of the IP datagram, as captured: without Ethernet padding.
    #[inline]
    pub fn ip_bytes(&self) -> &'a [u8] {
        self.network.datagram
    }

    /// Length of the IP datagram as claimed, at least `ip_bytes().len()`.
    #[inline]
    pub fn ip_len(&self) -> usize {
        self.network.len
    }

    /// Length of the IP header with options or all extension headers, up to the upper layer.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.network.header_len
    }

    /// Whether the capture kept less than the whole datagram.
    #[inline]
    pub fn is_cut(&self) -> bool {
        self.network.datagram.len() < self.network.len
    }

    /// Header bytes before the fragmentable part: in IPv4 the header, in IPv6 all before the fragment header. For whole
    /// packets [`Packet::header_len`].
    #[inline]
    pub fn unfragmentable_len(&self) -> usize {
        self.network.piece.map_or(self.network.header_len, |piece| {
            piece.unfragmentable as usize
        })
    }

    /// Captured bytes of the fragmentable part that this fragment carries; empty for whole packets.
    #[inline]
    pub fn fragment_payload(&self) -> &'a [u8] {
        let Some(piece) = self.network.piece else {
            return &[];
        };
        self.network
            .datagram
            .get(piece.payload as usize..)
            .unwrap_or_default()
    }

    /// Length of the fragment payload as claimed; 0 for whole packets.
    #[inline]
    pub fn fragment_payload_len(&self) -> usize {
        self.network.piece.map_or(0, |piece| {
            self.network.len.saturating_sub(piece.payload as usize)
        })
    }

    /// Protocol of the first header in the fragmentable part; for whole packets [`Packet::protocol`].
    #[inline]
    pub fn fragment_next_header(&self) -> u8 {
        self.network
            .piece
            .map_or(self.network.protocol, |piece| piece.next_header)
    }

    /// Offset in [`Packet::ip_bytes`] of the header byte that names what follows the unfragmentable part: where a reassembler of
    /// IPv6 writes [`Packet::fragment_next_header`] over the 44. 9 (the protocol field) in IPv4; `None` for whole packets.
    #[inline]
    pub fn fragment_pointer(&self) -> Option<usize> {
        self.network.piece.map(|piece| piece.pointer as usize)
    }

    /// VLAN tags of the frame.
    #[inline]
    pub fn vlan(&self) -> Vlan {
        self.arrival.vlan
    }

    /// Direction, where the capture recorded it (Linux cooked).
    #[inline]
    pub fn link_direction(&self) -> Option<LinkDirection> {
        self.arrival.direction
    }

    /// Type of the IPv6 routing header, if there is one; 0 if any of several is of type 0 (deprecated by RFC 5095).
    #[inline]
    pub fn routing_header_type(&self) -> Option<u8> {
        self.network.routing.map(|routing| routing.kind)
    }

    /// Whether an IPv6 authentication header (RFC 4302) stands before the upper layer. Conntrack and this crate step over it;
    /// `meta l4proto` of nftables stops there and reads 51 (`IP6_FH_F_AUTH` in nf_tables_ipv6.h). In IPv4 it is always protocol 51.
    #[inline]
    pub fn has_authentication_header(&self) -> bool {
        self.network.authenticated
    }

    /// Whether an IPv4 option asks for a loose or strict source route, which Linux refuses unless told otherwise
    /// (`net.ipv4.conf.*.accept_source_route`). For IPv6 see [`Packet::routing_header_type`].
    pub fn has_source_route(&self) -> bool {
        let options = match self.network.header {
            IpHeader::V4(_) => self.network.datagram.get(20..self.network.header_len),
            IpHeader::V6(_) => None,
        };
        options.is_some_and(ipv4_options::have_source_route)
    }

    /// The tunnel this packet belongs to, if it is recognised as one.
    pub fn tunnel(&self) -> Option<Tunnel> {
        Tunnel::of(self)
    }

    /// Whether the transport checksum is right. `None` where that cannot be told: the capture cut the packet, it is a
    /// fragment, the protocol has no checksum, an IPv6 routing header hides the final destination (RFC 8200 section 8.1), or
    /// UDP over IPv6 carries none (RFC 6935). UDP over IPv4 without checksum is right (RFC 768).
    ///
    /// Packets that this host sends are captured before the network card fills the checksum in, and look wrong.
    pub fn transport_checksum_ok(&self) -> Option<bool> {
        if self.is_cut() || self.network.routing.is_some_and(|routing| routing.underway) {
            return None;
        }
        let upper = self.network.upper();
        let covered = match self.transport {
            Transport::Udp(udp) if udp.checksum() == 0 && !udp.is_lite() => {
                return if self.is_ipv6() { None } else { Some(true) };
            }
            Transport::Udp(udp) => upper.get(..udp.checksum_coverage())?,
            Transport::Tcp(_) => upper,
            Transport::Icmp(icmp) if icmp.is_v6() => upper,
            Transport::Icmp(_) => return Some(Sum::default().add(upper).is_right()),
            Transport::Sctp(sctp) => {
                let ports_and_tag = sctp.header().first_chunk::<8>()?;
                return Some(
                    checksum::crc32c([ports_and_tag.as_slice(), &[0; 4], sctp.payload()])
                        == sctp.checksum(),
                );
            }
            Transport::Gre(_) | Transport::Fragment | Transport::Other => return None,
        };
        let length = match self.transport {
            Transport::Udp(udp) => udp.length(),
            _ => upper.len(),
        };
        let addresses = match self.network.header {
            IpHeader::V4(header) => Sum::default().add(header.last_chunk::<8>()?),
            IpHeader::V6(header) => Sum::default().add(header.last_chunk::<32>()?),
        };
        let pseudo = addresses
            .add_u32(length as u32)
            .add_u32(u32::from(self.network.protocol));
        Some(pseudo.add(covered).is_right())
    }
}

impl<'a> Network<'a> {
    #[inline]
    fn source(&self) -> IpAddr {
        match self.header {
            IpHeader::V4(header) => ipv4::source(header).into(),
            IpHeader::V6(header) => ipv6::source(header).into(),
        }
    }

    #[inline]
    fn destination(&self) -> IpAddr {
        match self.header {
            IpHeader::V4(header) => ipv4::destination(header).into(),
            IpHeader::V6(header) => ipv6::destination(header).into(),
        }
    }

    /// Captured bytes after the IP headers.
    #[inline]
    fn upper(&self) -> &'a [u8] {
        self.datagram.get(self.header_len..).unwrap_or_default()
    }

    #[cold]
    fn refused(&self, kind: MalformedKind) -> Malformed {
        Malformed {
            kind,
            source: Some(self.source()),
            destination: Some(self.destination()),
            protocol: Some(self.protocol),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use crate::sample::{cut, ipv4, ipv6, mend_ipv4, tcp, udp, whole};

    /// The right checksum, found by trying: the field is 0 in what comes in.
    fn mend(bytes: &mut [u8], field: usize) {
        let right: Vec<u16> = (1..=u16::MAX)
            .filter(|checksum| {
                bytes[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
                whole(bytes).unwrap().transport_checksum_ok() == Some(true)
            })
            .collect();
        assert_eq!(right.len(), 1, "one checksum is right");
        bytes[field..field + 2].copy_from_slice(&right[0].to_be_bytes());
    }

    #[test]
    fn every_changed_byte_breaks_the_checksum() {
        let table = [
            (ipv4(6, &tcp(2, &[], b"odd")), 36),
            (ipv6(6, &tcp(2, &[], b"odd")), 56),
            (ipv4(17, &udp(53, b"odd")), 26),
            (ipv6(17, &udp(53, b"even")), 46),
            (ipv4(1, &[8, 0, 0, 0, 0, 1, 0, 1, 5]), 22),
            (ipv6(58, &[128, 0, 0, 0, 0, 1, 0, 1, 5]), 42),
        ];
        for (mut bytes, field) in table {
            mend(&mut bytes, field);
            let upper = whole(&bytes).unwrap().header_len();
            for at in upper + 8..bytes.len() {
                // Not the TCP data offset, which is no plain byte of the sum to a parser.
                if at == upper + 12 && bytes[upper + 12] == 0x50 {
                    continue;
                }
                bytes[at] ^= 0x10;
                assert_eq!(
                    whole(&bytes).unwrap().transport_checksum_ok(),
                    Some(false),
                    "{at}"
                );
                bytes[at] ^= 0x10;
            }
            let len = bytes.len();
            assert_eq!(
                cut(&bytes[..len - 1], len).unwrap().transport_checksum_ok(),
                None
            );
        }
    }

    #[test]
    fn absent_checksums() {
        assert_eq!(
            whole(&ipv4(17, &udp(53, b"x")))
                .unwrap()
                .transport_checksum_ok(),
            Some(true)
        );
        assert_eq!(
            whole(&ipv6(17, &udp(53, b"x")))
                .unwrap()
                .transport_checksum_ok(),
            None
        );
        assert_eq!(
            whole(&ipv4(50, &[0; 8])).unwrap().transport_checksum_ok(),
            None
        );
        let mut fragment = ipv4(17, &udp(53, b"x"));
        fragment[6] = 0x20;
        mend_ipv4(&mut fragment);
        assert_eq!(whole(&fragment).unwrap().transport_checksum_ok(), None);
        // A routing header with segments left: the checksum is over another destination.
        let routed = ipv6(
            43,
            &[&[6, 0, 4, 1, 0, 0, 0, 0][..], &tcp(2, &[], b"")].concat(),
        );
        assert_eq!(whole(&routed).unwrap().transport_checksum_ok(), None);
    }

    #[test]
    fn udp_lite_covers_what_it_says() {
        let mut bytes = ipv4(136, &udp(53, b"payload"));
        bytes[24..26].copy_from_slice(&[0, 12]);
        bytes[27] = 1;
        mend(&mut bytes, 26);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(whole(&bytes).unwrap().transport_checksum_ok(), Some(true));
        bytes[28] ^= 1;
        assert_eq!(whole(&bytes).unwrap().transport_checksum_ok(), Some(false));
    }

    #[test]
    fn sctp_crc() {
        // The CRC32c of this packet with a zero checksum field, computed bit by bit.
        let mut upper = vec![0x9c, 0x40, 0x0b, 0x59, 0, 0, 0, 0, 0, 0, 0, 0, 14, 0, 0, 4];
        let mut crc = !0u32;
        for bit in upper
            .iter()
            .flat_map(|byte| (0..8).map(move |bit| u32::from(byte >> bit & 1)))
        {
            crc = if (crc ^ bit) & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
        upper[8..12].copy_from_slice(&(!crc).to_le_bytes());
        assert_eq!(
            whole(&ipv4(132, &upper)).unwrap().transport_checksum_ok(),
            Some(true)
        );
        upper[13] ^= 1;
        assert_eq!(
            whole(&ipv4(132, &upper)).unwrap().transport_checksum_ok(),
            Some(false)
        );
    }

    #[test]
    fn five_tuples() {
        let bytes = ipv4(6, &tcp(2, &[], b""));
        let tuple = whole(&bytes).unwrap().five_tuple();
        assert_eq!(
            (tuple.source.to_string(), tuple.destination.to_string()),
            ("192.0.2.1".into(), "198.51.100.2".into())
        );
        assert_eq!(
            (tuple.protocol, tuple.source_port, tuple.destination_port),
            (6, Some(40_000), Some(22))
        );
        assert_eq!(tuple.reversed().source_port, Some(22));
        assert_eq!(tuple.reversed().reversed(), tuple);
        let icmp = whole(&ipv4(1, &[8; 8])).unwrap().five_tuple();
        assert_eq!((icmp.source_port, icmp.destination_port), (None, None));
    }

    #[test]
    fn dccp_has_ports_but_no_view() {
        let bytes = ipv4(33, &[0x9c, 0x40, 0, 22, 0, 0]);
        assert_eq!(whole(&bytes).unwrap().ports(), Some((40_000, 22)));
        assert_eq!(whole(&ipv4(33, &[0x9c, 0x40, 0])).unwrap().ports(), None);
    }
}
