//! The same frame as etherparse sees it.

use std::net::IpAddr;

use etherparse::{
    EtherType, IpNumber, LaxNetSlice, LaxSlicedPacket, NetSlice, SlicedPacket, TransportSlice,
};
use portcullis_wire::{Link, Packet, Transport};

/// What both parsers can say of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) is_fragment: bool,
    pub(crate) ports: Option<(u16, u16)>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) vlan: Vec<u16>,
}

impl Seen {
    /// Our view in etherparse's terms, who knows ports and payload of TCP and UDP alone.
    pub(crate) fn of(packet: &Packet<'_>) -> Self {
        let known = match packet.transport() {
            Transport::Tcp(_) => true,
            Transport::Udp(udp) => !udp.is_lite(),
            _ => false,
        };
        Self {
            source: packet.source(),
            destination: packet.destination(),
            protocol: packet.protocol(),
            // An atomic one (RFC 6946) is a whole packet to it.
            is_fragment: (packet.fragment())
                .is_some_and(|fragment| fragment.offset != 0 || fragment.more),
            ports: packet.ports().filter(|_| known),
            payload: known.then(|| packet.payload().to_vec()),
            vlan: [packet.vlan().outer(), packet.vlan().inner()]
                .into_iter()
                .flatten()
                .collect(),
        }
    }
}

/// What etherparse makes of a whole frame: a packet, something that is no IP, or an error in words.
pub(crate) fn strict(link: Link, bytes: &[u8]) -> Result<Option<Seen>, String> {
    let sliced = match link {
        Link::Ethernet => SlicedPacket::from_ethernet(bytes),
        Link::LinuxSll => SlicedPacket::from_linux_sll(bytes),
        Link::RawIp | Link::Ipv4 | Link::Ipv6 => SlicedPacket::from_ip(bytes),
        Link::LinuxSll2 => SlicedPacket::from_ether_type(cooked2(bytes)?, &bytes[20..]),
        Link::Null | Link::Loop => SlicedPacket::from_ip(bytes.get(4..).ok_or("short")?),
    };
    let sliced = sliced.map_err(|error| error.to_string())?;
    let vlan = sliced.vlan_ids().iter().map(|id| id.value()).collect();
    let is_fragment = sliced.is_ip_payload_fragmented();
    let (source, destination, protocol) = match sliced.net {
        None | Some(NetSlice::Arp(_)) => return Ok(None),
        Some(NetSlice::Ipv4(ip)) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
            ip.payload().ip_number,
        ),
        Some(NetSlice::Ipv6(ip)) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
            ip.payload().ip_number,
        ),
    };
    Ok(Some(seen(
        source,
        destination,
        protocol,
        is_fragment,
        sliced.transport,
        vlan,
    )))
}

/// The same for a frame that the capture cut.
pub(crate) fn lax(link: Link, bytes: &[u8]) -> Result<Option<Seen>, String> {
    let sliced = match link {
        Link::Ethernet => {
            LaxSlicedPacket::from_ethernet(bytes).map_err(|error| error.to_string())?
        }
        Link::LinuxSll => {
            let kind = bytes.get(14..16).ok_or("short")?;
            LaxSlicedPacket::from_ether_type(
                EtherType(u16::from_be_bytes([kind[0], kind[1]])),
                &bytes[16..],
            )
        }
        Link::LinuxSll2 => LaxSlicedPacket::from_ether_type(cooked2(bytes)?, &bytes[20..]),
        Link::RawIp | Link::Ipv4 | Link::Ipv6 => {
            LaxSlicedPacket::from_ip(bytes).map_err(|error| error.to_string())?
        }
        Link::Null | Link::Loop => LaxSlicedPacket::from_ip(bytes.get(4..).ok_or("short")?)
            .map_err(|error| error.to_string())?,
    };
    if let Some((error, _)) = &sliced.stop_err {
        return Err(error.to_string());
    }
    let vlan = sliced.vlan_ids().iter().map(|id| id.value()).collect();
    let (source, destination, payload) = match &sliced.net {
        None | Some(LaxNetSlice::Arp(_)) => return Ok(None),
        Some(LaxNetSlice::Ipv4(ip)) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
            ip.payload(),
        ),
        Some(LaxNetSlice::Ipv6(ip)) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
            ip.payload(),
        ),
    };
    let (protocol, fragmented) = (payload.ip_number, payload.fragmented);
    Ok(Some(seen(
        source,
        destination,
        protocol,
        fragmented,
        sliced.transport,
        vlan,
    )))
}

fn cooked2(bytes: &[u8]) -> Result<EtherType, String> {
    match bytes.get(..20) {
        Some([high, low, ..]) => Ok(EtherType(u16::from_be_bytes([*high, *low]))),
        _ => Err("short".into()),
    }
}

fn seen(
    source: IpAddr,
    destination: IpAddr,
    IpNumber(protocol): IpNumber,
    is_fragment: bool,
    transport: Option<TransportSlice<'_>>,
    vlan: Vec<u16>,
) -> Seen {
    let (ports, payload) = match transport {
        Some(TransportSlice::Tcp(tcp)) => (
            Some((tcp.source_port(), tcp.destination_port())),
            Some(tcp.payload().to_vec()),
        ),
        Some(TransportSlice::Udp(udp)) => (
            Some((udp.source_port(), udp.destination_port())),
            Some(udp.payload().to_vec()),
        ),
        _ => (None, None),
    };
    Seen {
        source,
        destination,
        protocol,
        is_fragment,
        ports,
        payload,
        vlan,
    }
}
