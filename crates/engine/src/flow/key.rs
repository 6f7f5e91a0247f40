//! What names a flow: both directions of one 5-tuple under one key.

use policy::address_key;
use wire::{Packet, Transport};

/// Endpoints in a fixed order, so that both directions give the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey {
    low: u128,
    high: u128,
    low_port: u16,
    high_port: u16,
    protocol: u8,
    /// For ICMP queries: kind of query (the type of its request) and code, which are part of what a reply must match; and
    /// whether the lower endpoint asked, as two hosts that ping each other have two flows.
    query: Option<(u8, u8, bool)>,
}

/// A key and which way the packet goes on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Oriented {
    pub(crate) key: FlowKey,
    /// Whether the packet's source is the lower endpoint.
    pub(crate) from_low: bool,
    /// Whether it can only be a reply (an ICMP echo reply).
    pub(crate) is_answer: bool,
}

/// The request type that a query or reply belongs to, and whether it is the reply
/// (net/netfilter/nf_conntrack_proto_icmp.c `invmap`, nf_conntrack_proto_icmpv6.c).
fn query_of(kind: u8, v6: bool) -> Option<(u8, bool)> {
    Some(match (v6, kind) {
        (false, 8) => (8, false),
        (false, 0) => (8, true),
        (false, 13) => (13, false),
        (false, 14) => (13, true),
        (false, 15) => (15, false),
        (false, 16) => (15, true),
        (false, 17) => (17, false),
        (false, 18) => (17, true),
        (true, 128) => (128, false),
        (true, 129) => (128, true),
        (true, 139) => (139, false),
        (true, 140) => (139, true),
        _ => return None,
    })
}

impl Oriented {
    /// From endpoints and ports as the packet has them.
    pub(crate) fn new(
        (source, source_port): (u128, u16),
        (destination, destination_port): (u128, u16),
        protocol: u8,
    ) -> Self {
        let from_low = (source, source_port) <= (destination, destination_port);
        let ((low, low_port), (high, high_port)) = if from_low {
            ((source, source_port), (destination, destination_port))
        } else {
            ((destination, destination_port), (source, source_port))
        };
        Self {
            key: FlowKey {
                low,
                high,
                low_port,
                high_port,
                protocol,
                query: None,
            },
            from_low,
            is_answer: false,
        }
    }

    fn query(
        source: u128,
        destination: u128,
        identifier: u16,
        protocol: u8,
        (kind, code, is_answer): (u8, u8, bool),
    ) -> Self {
        let oriented = Self::new((source, identifier), (destination, identifier), protocol);
        let low_asked = oriented.from_low != is_answer;
        Self {
            key: FlowKey {
                query: Some((kind, code, low_asked)),
                ..oriented.key
            },
            is_answer,
            ..oriented
        }
    }

    /// The flow that a packet belongs to; `None` for ICMP that belongs to none by itself: errors, neighbour discovery,
    /// unknown types, the other family's.
    pub(crate) fn of(packet: &Packet<'_>) -> Option<Self> {
        let (source, destination) = (
            address_key(packet.source()),
            address_key(packet.destination()),
        );
        match packet.transport() {
            Transport::Icmp(icmp) => {
                let (kind, is_answer) = query_of(icmp.kind(), icmp.is_v6())?;
                let [id_high, id_low, ..] = icmp.rest_of_header();
                let identifier = u16::from_be_bytes([id_high, id_low]);
                Some(Self::query(
                    source,
                    destination,
                    identifier,
                    packet.protocol(),
                    (kind, icmp.code(), is_answer),
                ))
            }
            // ICMP of the other family is never tracked (nf_conntrack_icmp_packet, nf_conntrack_icmpv6_packet: `state->pf`).
            Transport::Other
                if matches!(
                    packet.protocol(),
                    policy::protocol::ICMP | policy::protocol::ICMPV6
                ) =>
            {
                None
            }
            Transport::Gre(gre) => {
                let call = gre.call_id().unwrap_or_default();
                Some(Self::new(
                    (source, 0),
                    (destination, call),
                    packet.protocol(),
                ))
            }
            Transport::Tcp(_)
            | Transport::Udp(_)
            | Transport::Sctp(_)
            | Transport::Fragment
            | Transport::Other => {
                let (source_port, destination_port) = packet.ports().unwrap_or_default();
                Some(Self::new(
                    (source, source_port),
                    (destination, destination_port),
                    packet.protocol(),
                ))
            }
        }
    }

    /// The flow that the packet quoted in an ICMP error belongs to.
    pub(crate) fn quoted(embedded: &wire::Embedded) -> Option<Self> {
        let (source, destination) = (
            address_key(embedded.source),
            address_key(embedded.destination),
        );
        match embedded.protocol {
            policy::protocol::ICMP | policy::protocol::ICMPV6 => {
                let (kind, code) = embedded.icmp?;
                let (kind, is_answer) =
                    query_of(kind, embedded.protocol == policy::protocol::ICMPV6)?;
                let identifier = embedded.icmp_identifier?;
                Some(Self::query(
                    source,
                    destination,
                    identifier,
                    embedded.protocol,
                    (kind, code, is_answer),
                ))
            }
            protocol => {
                let (source_port, destination_port) = embedded.ports.unwrap_or_default();
                (embedded.ports.is_some() || !policy::protocol::has_ports(protocol)).then(|| {
                    Self::new(
                        (source, source_port),
                        (destination, destination_port),
                        protocol,
                    )
                })
            }
        }
    }
}
