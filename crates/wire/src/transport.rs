//! The transport layer of a packet: which protocol, and its view.

use crate::gre::Gre;
use crate::icmp::Icmp;
use crate::malformed::MalformedKind;
use crate::network::Network;
use crate::sctp::Sctp;
use crate::tcp::Tcp;
use crate::udp::Udp;

/// Protocol numbers this crate reads (IANA "Protocol Numbers").
pub mod protocol {
    /// Internet Control Message Protocol for IPv4.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPIP: u8 = 4;
    /// Transmission Control Protocol.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol.
    pub const UDP: u8 = 17;
    /// Datagram Congestion Control Protocol.
    pub const DCCP: u8 = 33;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// Generic Routing Encapsulation.
    pub const GRE: u8 = 47;
    /// Encapsulating Security Payload.
    pub const ESP: u8 = 50;
    /// Authentication Header.
    pub const AH: u8 = 51;
    /// Internet Control Message Protocol for IPv6.
    pub const ICMPV6: u8 = 58;
    /// Ethernet in IP.
    pub const ETHERIP: u8 = 97;
    /// Layer 2 Tunneling Protocol version 3.
    pub const L2TP: u8 = 115;
    /// Stream Control Transmission Protocol.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// The upper layer of a packet.
#[derive(Clone, Copy, Debug)]
pub enum Transport<'a> {
    /// TCP.
    Tcp(Tcp<'a>),
    /// UDP or UDP-Lite; [`Udp::is_lite`] tells.
    Udp(Udp<'a>),
    /// ICMP over IPv4 or ICMPv6 over IPv6; [`Icmp::is_v6`] tells.
    Icmp(Icmp<'a>),
    /// SCTP.
    Sctp(Sctp<'a>),
    /// GRE, but for packets too short to be one.
    Gre(Gre<'a>),
    /// A fragment, first or later: nothing in it is complete.
    Fragment,
    /// Any other protocol.
    Other,
}

/// The claimed and the captured part of the upper layer.
#[derive(Clone, Copy)]
pub(crate) struct Segment<'a> {
    pub(crate) bytes: &'a [u8],
    /// Length as the IP header claims it, at least `bytes.len()`.
    pub(crate) len: usize,
}

impl<'a> Segment<'a> {
    #[inline]
    pub(crate) fn of(network: &Network<'a>) -> Self {
        Self {
            bytes: network.upper(),
            len: network.upper_len(),
        }
    }

    /// The first N bytes and what follows; `short` when the packet has fewer, `CutByCapture` when only the capture has.
    #[inline]
    pub(crate) fn split<const N: usize>(
        self,
        short: MalformedKind,
    ) -> Result<(&'a [u8; N], &'a [u8]), MalformedKind> {
        match self.bytes.split_first_chunk() {
            Some(parts) => Ok(parts),
            None if self.len >= N => Err(MalformedKind::CutByCapture),
            None => Err(short),
        }
    }
}

/// The view of the upper layer. Fragments have none, since nothing in them is complete.
pub(crate) fn parse<'a>(network: &Network<'a>) -> Result<Transport<'a>, MalformedKind> {
    if network.headers.piece.is_some() {
        return Ok(Transport::Fragment);
    }
    let segment = Segment::of(network);
    let v6 = network.header.is_ipv6();
    Ok(match network.headers.protocol {
        protocol::TCP => Transport::Tcp(Tcp::parse(segment)?),
        protocol::UDP => Transport::Udp(Udp::parse(segment)?),
        protocol::ICMP if !v6 => Transport::Icmp(Icmp::parse(segment, false)?),
        protocol::ICMPV6 if v6 => Transport::Icmp(Icmp::parse(segment, true)?),
        protocol::UDP_LITE => Transport::Udp(Udp::parse_lite(segment)?),
        protocol::SCTP => Transport::Sctp(Sctp::parse(segment)?),
        protocol::GRE => Gre::parse(segment)?.map_or(Transport::Other, Transport::Gre),
        _ => Transport::Other,
    })
}
