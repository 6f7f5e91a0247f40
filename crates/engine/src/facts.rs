//! What the decision looks at in one packet, read once; also what a hypothetical packet consists of.

use std::net::IpAddr;

use policy::{Direction, address_key, key_address};
use wire::{FiveTuple, Packet, TcpFlags, Transport};

use crate::event::PacketFacts;

/// One packet as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) direction: Direction,
    pub(crate) interface: Option<&'a str>,
    /// Keys as in [`policy::address_key`].
    pub(crate) source: u128,
    pub(crate) destination: u128,
    pub(crate) protocol: u8,
    pub(crate) source_port: Option<u16>,
    pub(crate) port: Option<u16>,
    pub(crate) tcp_flags: Option<TcpFlags>,
    /// Of a TCP segment.
    pub(crate) sequence: Option<u32>,
    /// Type and code.
    pub(crate) icmp: Option<(u8, u8)>,
    pub(crate) hop_limit: u8,
    /// Bytes of the IP packet, as its header claims.
    pub(crate) len: u32,
    pub(crate) payload: &'a [u8],
    /// Bytes of payload, as the headers claim.
    pub(crate) payload_len: u32,
}

impl<'a> Facts<'a> {
    /// Whether it is a SYN by which a connection begins.
    pub(crate) fn begins(&self) -> bool {
        (self.tcp_flags).is_some_and(|flags| flags.syn() && !flags.ack())
    }

    #[inline]
    pub(crate) fn of(
        packet: &Packet<'a>,
        direction: Direction,
        interface: Option<&'a str>,
    ) -> Self {
        // nftables reads no further than an IPv6 authentication header: such a packet is protocol 51 to the rules, and only
        // flow state knows what it carries (nft_set_pktinfo_ipv6, `IP6_FH_F_AUTH`).
        let sealed = packet.is_ipv6() && packet.has_authentication_header();
        let ports = packet.ports().filter(|_| !sealed);
        let (tcp, icmp) = match packet.transport() {
            Transport::Tcp(tcp) if !sealed => (Some((tcp.flags(), tcp.sequence())), None),
            Transport::Icmp(icmp) if !sealed => (None, Some((icmp.kind(), icmp.code()))),
            Transport::Tcp(_)
            | Transport::Icmp(_)
            | Transport::Udp(_)
            | Transport::Sctp(_)
            | Transport::Gre(_)
            | Transport::Fragment
            | Transport::Other => (None, None),
        };
        Self {
            direction,
            interface,
            source: address_key(packet.source()),
            destination: address_key(packet.destination()),
            protocol: if sealed {
                wire::protocol::AH
            } else {
                packet.protocol()
            },
            source_port: ports.map(|(source, _)| source),
            port: ports.map(|(_, destination)| destination),
            tcp_flags: tcp.map(|(flags, _)| flags),
            sequence: tcp.map(|(_, sequence)| sequence),
            icmp,
            hop_limit: packet.hop_limit(),
            len: packet.ip_len() as u32,
            payload: packet.payload(),
            payload_len: packet.payload_len() as u32,
        }
    }

    /// The end of the packet that is not this host: the source for `in`, the destination for `out`. What is forwarded has two.
    pub(crate) fn remotes(&self) -> [Option<u128>; 2] {
        match self.direction {
            Direction::In => [Some(self.source), None],
            Direction::Out => [Some(self.destination), None],
            Direction::Forward => [Some(self.source), Some(self.destination)],
        }
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.interface == Some("lo")
    }

    pub(crate) fn tuple(&self) -> FiveTuple {
        FiveTuple {
            source: key_address(self.source),
            destination: key_address(self.destination),
            protocol: self.protocol,
            source_port: self.source_port,
            destination_port: self.port,
        }
    }

    pub(crate) fn packet_facts(&self) -> PacketFacts {
        PacketFacts {
            len: self.len,
            hop_limit: self.hop_limit,
            tcp_flags: self.tcp_flags.map(TcpFlags::bits),
            icmp: self.icmp,
        }
    }
}

/// A hypothetical packet: the first of its flow, or with a payload one that follows in a flow whose begin was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Which way.
    pub direction: Direction,
    /// IP protocol number.
    pub protocol: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// For protocols with ports.
    pub source_port: Option<u16>,
    /// For protocols with ports.
    pub destination_port: Option<u16>,
    /// Type and code for ICMP and ICMPv6; an echo request when not given.
    pub icmp: Option<(u8, u8)>,
    /// Where it comes in, or leaves.
    pub interface: Option<String>,
    /// Payload, for content rules.
    pub payload: Vec<u8>,
}

impl Probe {
    pub(crate) fn facts(&self) -> Facts<'_> {
        let echo = match self.protocol {
            policy::protocol::ICMP => Some((8, 0)),
            policy::protocol::ICMPV6 => Some((128, 0)),
            _ => None,
        };
        Facts {
            direction: self.direction,
            interface: self.interface.as_deref(),
            source: address_key(self.source),
            destination: address_key(self.destination),
            protocol: self.protocol,
            source_port: self.source_port,
            port: self.destination_port,
            tcp_flags: (self.protocol == policy::protocol::TCP).then_some(
                if self.payload.is_empty() {
                    TcpFlags::SYN
                } else {
                    TcpFlags::ACK
                },
            ),
            sequence: None,
            icmp: self.icmp.or(echo),
            hop_limit: 255,
            len: 40 + self.payload.len() as u32,
            payload: &self.payload,
            payload_len: self.payload.len() as u32,
        }
    }
}
