//! What names a flow: both directions of one 5-tuple under one key.

use std::hash::{Hash, Hasher};

use policy::address_key;
use wire::{Packet, Transport};

/// Endpoints in a fixed order, so that both directions give the same key. Of words of eight bytes: a longer one would lie on a multiple
/// of its own length, and leave a gap in each flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowKey {
    low: [u64; 2],
    high: [u64; 2],
    /// From the highest bits on: the lower endpoint's port, the other's, the protocol, and [what is asked](Query) in the last
    /// three bytes. One word, as each packet is hashed and compared by it.
    rest: u64,
}

impl Hash for FlowKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Two words at once: the hash multiplies as often as it is given something.
        state.write_u128(whole(self.low));
        state.write_u128(whole(self.high));
        state.write_u64(self.rest);
    }
}

fn whole([upper, lower]: [u64; 2]) -> u128 {
    u128::from(upper) << 64 | u128::from(lower)
}

const fn halves(address: u128) -> [u64; 2] {
    [(address >> 64) as u64, address as u64]
}

/// For ICMP queries: kind of query (the type of its request) and code, which are part of what a reply must match; and whether the
/// lower endpoint asked, as two hosts that ping each other have two flows.
type Query = (u8, u8, bool);

/// In the last byte of [`FlowKey::rest`].
const LOW_ASKED: u8 = 1;
const IS_QUERY: u8 = 2;

fn packed(low_port: u16, high_port: u16, protocol: u8, query: Option<Query>) -> u64 {
    let query = query.map_or([0; 3], |(kind, code, low_asked)| {
        [kind, code, IS_QUERY | if low_asked { LOW_ASKED } else { 0 }]
    });
    let [low, high] = [low_port, high_port].map(u16::to_be_bytes);
    u64::from_be_bytes([
        low[0], low[1], high[0], high[1], protocol, query[0], query[1], query[2],
    ])
}

impl FlowKey {
    /// All of it in turn, to hash the number of a flow from: records of one capture give each flow the same number, however the table
    /// comes to hash.
    pub(super) fn parts(&self) -> (u128, u128, u16, u16, u8, Option<Query>) {
        let [low, high] = [self.low, self.high].map(whole);
        let [a, b, c, d, protocol, kind, code, asked] = self.rest.to_be_bytes();
        let [low_port, high_port] = [[a, b], [c, d]].map(u16::from_be_bytes);
        let query = (asked & IS_QUERY != 0).then_some((kind, code, asked & LOW_ASKED != 0));
        (low, high, low_port, high_port, protocol, query)
    }
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
                low: halves(low),
                high: halves(high),
                rest: packed(low_port, high_port, protocol, None),
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
                rest: packed(
                    identifier,
                    identifier,
                    protocol,
                    Some((kind, code, low_asked)),
                ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_back_what_it_was_made_from() {
        let (low, high) = (u128::MAX / 3, u128::MAX / 3 * 2);
        let both = Oriented::new((high, 443), (low, 40_000), 6);
        assert_eq!(both.key.parts(), (low, high, 40_000, 443, 6, None));
        for (is_answer, low_asked) in [(false, true), (true, false)] {
            let asked = Oriented::query(low, high, 0xabcd, 58, (128, 3, is_answer));
            let query = Some((128, 3, low_asked));
            assert_eq!(asked.key.parts(), (low, high, 0xabcd, 0xabcd, 58, query));
            assert_ne!(
                asked.key,
                Oriented::new((low, 0xabcd), (high, 0xabcd), 58).key
            );
        }
    }
}
