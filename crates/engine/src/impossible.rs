//! Packets whose headers can be read but that no honest host sends: dropped before flow state and rules.

use policy::address::{IPV4_FIRST, IPV4_LAST};
use policy::{Direction, address_key};
use std::net::{IpAddr, Ipv6Addr};

use crate::facts::Facts;
use crate::verdict::Impossible;

const fn v4(a: u8, b: u8, c: u8, d: u8) -> u128 {
    IPV4_FIRST | u32::from_be_bytes([a, b, c, d]) as u128
}

const BROADCAST: u128 = IPV4_LAST;
const UNSPECIFIED_V4: u128 = IPV4_FIRST;
const UNSPECIFIED_V6: u128 = 0;
const LOOPBACK_V6: u128 = 1;

const fn is_loopback_v4(key: u128) -> bool {
    key >= v4(127, 0, 0, 0) && key <= v4(127, 255, 255, 255)
}

const fn is_this_network(key: u128) -> bool {
    key >= v4(0, 0, 0, 0) && key <= v4(0, 255, 255, 255)
}

/// What is impossible about the packet, if anything.
///
/// Sources and destinations are judged for packets that come in from outside; flags for all.
pub(crate) fn impossible(facts: &Facts<'_>) -> Option<Impossible> {
    if facts.tcp_flags.is_some_and(wire::TcpFlags::is_impossible) {
        return Some(Impossible::TcpFlags);
    }
    if facts.direction == Direction::Out || facts.is_loopback() {
        return None;
    }
    let source = facts.source;
    let multicast_v4 = source >= v4(224, 0, 0, 0) && source <= v4(239, 255, 255, 255);
    let multicast_v6 = source >> 120 == 0xff;
    // A host without an address asks for one (RFC 2131 §4.1), or asks whether one is taken (RFC 4862 §5.4.2).
    let asks_dhcp = source == UNSPECIFIED_V4
        && facts.destination == BROADCAST
        && facts.protocol == policy::protocol::UDP
        && (facts.source_port, facts.port) == (Some(68), Some(67));
    let asks_v6 = source == UNSPECIFIED_V6 && facts.protocol == policy::protocol::ICMPV6;
    let martian = multicast_v4
        || multicast_v6
        || source == BROADCAST
        || is_loopback_v4(source)
        || source == LOOPBACK_V6
        || (is_this_network(source) && !asks_dhcp)
        || (source == UNSPECIFIED_V6 && !asks_v6);
    if martian {
        return Some(Impossible::MartianSource);
    }
    let destination = facts.destination;
    let unreachable = is_loopback_v4(destination)
        || is_this_network(destination)
        || destination == LOOPBACK_V6
        || destination == UNSPECIFIED_V6;
    unreachable.then_some(Impossible::MartianDestination)
}

/// Whether a key lies in `fe80::/10`.
pub(crate) const fn is_link_local_v6(key: u128) -> bool {
    key >> 118 == 0xfe80 >> 6
}

/// The key of `::`.
pub(crate) fn unspecified_v6() -> u128 {
    address_key(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
}
