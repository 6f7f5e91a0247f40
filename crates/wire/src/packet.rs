//! One IP packet: the view that every later stage works on. Once it exists, no accessor can fail.

use std::net::IpAddr;

use crate::five_tuple::FiveTuple;
use crate::fragment::Fragment;
use crate::link::{Frame, LinkDirection};
use crate::malformed::{Malformed, MalformedKind};
use crate::network::{Headers, IpHeader, Network};
use crate::tcp::Tcp;
use crate::transport::{self, Segment, Transport, protocol};
use crate::transport_checksum;
use crate::tunnel::Tunnel;
use crate::udp::Udp;
use crate::vlan::Vlan;
use crate::{chain, ipv4, ipv4_options, ipv6};

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

/// Parses an IPv4 packet. `wire` is the length on the wire of what begins with `bytes`, at least `bytes.len()`.
#[inline]
pub(crate) fn parse_ipv4(
    bytes: &[u8],
    wire: usize,
    verify_checksum: bool,
    arrival: Arrival,
) -> Result<Frame<'_>, Malformed> {
    match ipv4::check(bytes, wire, verify_checksum) {
        Ok(checked) if checked.is_fragment() => {
            let (header, len) = (IpHeader::V4(checked.header), checked.total_len);
            assemble(header, bytes, len, Ok(checked.fragment()), arrival)
        }
        Ok(checked) => {
            let headers = Headers::plain(checked.header_len, checked.header[9]);
            let header = IpHeader::V4(checked.header);
            let network = Network::new(header, bytes, checked.total_len, headers);
            with_transport(network, bytes, arrival)
        }
        Err(kind) => Err(Malformed::reading(kind, bytes, false)),
    }
}

/// Parses an IPv6 packet, which has no header checksum; arguments else as for [`parse_ipv4`].
#[inline]
pub(crate) fn parse_ipv6(
    bytes: &[u8],
    wire: usize,
    arrival: Arrival,
) -> Result<Frame<'_>, Malformed> {
    match ipv6::check(bytes, wire) {
        Ok(checked) if chain::is_extension(checked.header[6]) => {
            let (header, len) = (IpHeader::V6(checked.header), checked.len);
            let datagram = bytes.get(..len).unwrap_or(bytes);
            let headers = chain::walk(datagram, len, checked.header[6]);
            assemble(header, bytes, len, headers, arrival)
        }
        Ok(checked) => {
            let headers = Headers::plain(40, checked.header[6]);
            let header = IpHeader::V6(checked.header);
            let network = Network::new(header, bytes, checked.len, headers);
            with_transport(network, bytes, arrival)
        }
        Err(kind) => Err(Malformed::reading(kind, bytes, true)),
    }
}

/// The shortest way, for nearly all packets: TCP and UDP behind plain headers. Inlined by force, and without meeting the other
/// ways before the packet is written, since a packet that is copied from layer to layer costs more than reading it.
#[inline(always)]
fn with_transport<'a>(
    network: Network<'a>,
    bytes: &'a [u8],
    arrival: Arrival,
) -> Result<Frame<'a>, Malformed> {
    let segment = Segment::of(&network);
    match network.headers.protocol {
        protocol::TCP => match Tcp::parse(segment) {
            Ok(tcp) => Ok(Frame::Ip(Packet {
                network,
                transport: Transport::Tcp(tcp),
                arrival,
            })),
            Err(kind) => Err(Malformed::reading(kind, bytes, network.header.is_ipv6())),
        },
        protocol::UDP => match Udp::parse(segment) {
            Ok(udp) => Ok(Frame::Ip(Packet {
                network,
                transport: Transport::Udp(udp),
                arrival,
            })),
            Err(kind) => Err(Malformed::reading(kind, bytes, network.header.is_ipv6())),
        },
        _ => {
            let (header, len) = (network.header, network.len());
            assemble(header, bytes, len, Ok(network.headers), arrival)
        }
    }
}

/// The way of all other packets: fragments, extension headers, rarer transports.
#[inline(never)]
fn assemble<'a>(
    header: IpHeader<'a>,
    bytes: &'a [u8],
    len: usize,
    headers: Result<Headers, MalformedKind>,
    arrival: Arrival,
) -> Result<Frame<'a>, Malformed> {
    let network = headers.map(|headers| Network::new(header, bytes, len, headers));
    match network.and_then(|network| Ok((network, transport::parse(&network)?))) {
        Ok((network, transport)) => Ok(Frame::Ip(Packet {
            network,
            transport,
            arrival,
        })),
        Err(kind) => Err(Malformed::reading(kind, bytes, header.is_ipv6())),
    }
}

impl<'a> Packet<'a> {
    /// Source address.
    #[inline]
    pub fn source(&self) -> IpAddr {
        self.network.header.source()
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> IpAddr {
        self.network.header.destination()
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
        self.network.headers.protocol
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

    /// The place of this fragment in its datagram; `None` for whole packets. An "atomic fragment" of IPv6 (RFC 6946) is one too,
    /// at 0 and without more: to the kernel it is a fragment as any, which may find others of its identification.
    #[inline]
    pub fn fragment(&self) -> Option<Fragment> {
        self.network.headers.piece.map(|piece| piece.fragment)
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
            Transport::Other if self.network.headers.protocol == protocol::DCCP => {
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
        let upper = self.network.upper_len();
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
        self.network.len()
    }

    /// Length of the IP header with options or all extension headers, up to the upper layer.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.network.headers.len as usize
    }

    /// Whether the capture kept less than the whole datagram.
    #[inline]
    pub fn is_cut(&self) -> bool {
        self.network.datagram.len() < self.network.len()
    }

    /// Header bytes before the fragmentable part: in IPv4 the header, in IPv6 all before the fragment header. For whole
    /// packets [`Packet::header_len`].
    #[inline]
    pub fn unfragmentable_len(&self) -> usize {
        self.network
            .headers
            .piece
            .map_or(self.network.headers.len as usize, |piece| {
                piece.unfragmentable as usize
            })
    }

    /// Captured bytes of the fragmentable part that this fragment carries; empty for whole packets.
    #[inline]
    pub fn fragment_payload(&self) -> &'a [u8] {
        let at = self.fragment_payload_at();
        self.network.datagram.get(at..).unwrap_or_default()
    }

    /// Length of the fragment payload as claimed; 0 for whole packets.
    #[inline]
    pub fn fragment_payload_len(&self) -> usize {
        self.network
            .len()
            .saturating_sub(self.fragment_payload_at())
    }

    /// Offset of the fragment payload: after the header in IPv4, after the fragment header in IPv6; the end for whole packets.
    #[inline]
    fn fragment_payload_at(&self) -> usize {
        match self.network.headers.piece {
            Some(piece) if self.is_ipv6() => piece.unfragmentable as usize + 8,
            Some(piece) => piece.unfragmentable as usize,
            None => self.network.len(),
        }
    }

    /// Protocol of the first header in the fragmentable part; for whole packets [`Packet::protocol`].
    #[inline]
    pub fn fragment_next_header(&self) -> u8 {
        self.network
            .headers
            .piece
            .map_or(self.network.headers.protocol, |piece| piece.next_header)
    }

    /// Offset in [`Packet::ip_bytes`] of the header byte that names what follows the unfragmentable part: where a reassembler of
    /// IPv6 writes [`Packet::fragment_next_header`] over the 44. 9 (the protocol field) in IPv4; `None` for whole packets.
    #[inline]
    pub fn fragment_pointer(&self) -> Option<usize> {
        self.network
            .headers
            .piece
            .map(|piece| piece.pointer as usize)
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
        self.network.headers.routing.map(|routing| routing.kind)
    }

    /// Whether an IPv6 authentication header (RFC 4302) stands before the upper layer. Conntrack and this crate step over it;
    /// `meta l4proto` of nftables stops there and reads 51 (`IP6_FH_F_AUTH` in nf_tables_ipv6.h). In IPv4 it is always protocol 51.
    #[inline]
    pub fn has_authentication_header(&self) -> bool {
        self.network.headers.authenticated
    }

    /// Whether an IPv4 option asks for a loose or strict source route, which Linux refuses unless told otherwise
    /// (`net.ipv4.conf.*.accept_source_route`). For IPv6 see [`Packet::routing_header_type`].
    pub fn has_source_route(&self) -> bool {
        let options = match self.network.header {
            IpHeader::V4(_) => self
                .network
                .datagram
                .get(20..self.network.headers.len as usize),
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
        transport_checksum::is_right(&self.network, self.transport)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use crate::sample::{ipv4, tcp, whole};

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
