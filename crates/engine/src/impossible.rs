//! Packets whose headers can be read but that no honest host sends: dropped before flow state and rules.

use policy::address::{IPV4_FIRST, IPV4_LAST};
use policy::{Direction, address_key};
use std::net::{IpAddr, Ipv6Addr};

use crate::facts::Facts;
use crate::verdict::Impossible;

const BROADCAST: u128 = IPV4_LAST;
const UNSPECIFIED_V4: u128 = IPV4_FIRST;
const UNSPECIFIED_V6: u128 = 0;
const LOOPBACK_V6: u128 = 1;

/// An IPv4 address, in bits.
fn v4(key: u128) -> Option<u32> {
    (IPV4_FIRST..=IPV4_LAST)
        .contains(&key)
        .then_some(key as u32)
}

/// Whether no host outside has such an address: multicast, broadcast, loopback. Whoever has none yet is another matter.
fn is_no_source(key: u128) -> bool {
    match v4(key) {
        Some(bits) => matches!(bits >> 24, 127 | 224..=239) || key == BROADCAST,
        None => key >> 120 == 0xff || key == LOOPBACK_V6,
    }
}

/// Whether nothing from outside can be meant for such an address.
fn is_no_destination(key: u128) -> bool {
    match v4(key) {
        Some(bits) => matches!(bits >> 24, 0 | 127),
        None => key == LOOPBACK_V6 || key == UNSPECIFIED_V6,
    }
}

/// Whether a source is none at all: that of a host without an address, or one of its network (RFC 1122 section 3.2.1.3).
fn is_unspecified(key: u128) -> bool {
    match v4(key) {
        Some(bits) => bits >> 24 == 0,
        None => key == UNSPECIFIED_V6,
    }
}

/// Whether a host without an address asks for one (RFC 2131 §4.1), or whether one is taken (RFC 4862 §5.4.2).
fn asks_for_an_address(facts: &Facts<'_>) -> bool {
    match facts.source {
        UNSPECIFIED_V4 => {
            facts.destination == BROADCAST
                && facts.protocol == policy::protocol::UDP
                && (facts.source_port, facts.port) == (Some(68), Some(67))
        }
        UNSPECIFIED_V6 => facts.protocol == policy::protocol::ICMPV6,
        _ => false,
    }
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
    if is_no_source(source) || is_unspecified(source) && !asks_for_an_address(facts) {
        return Some(Impossible::MartianSource);
    }
    is_no_destination(facts.destination).then_some(Impossible::MartianDestination)
}

/// Whether a key lies in `fe80::/10`.
pub(crate) const fn is_link_local_v6(key: u128) -> bool {
    key >> 118 == 0xfe80 >> 6
}

/// The key of `::`.
pub(crate) fn unspecified_v6() -> u128 {
    address_key(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
}
