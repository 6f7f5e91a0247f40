//! What a network needs under any default: asked after the rules and before the default.

use policy::Direction;
use policy::protocol::{ICMP, ICMPV6, UDP};

use crate::facts::Facts;
use crate::impossible::{is_link_local_v6, unspecified_v6};
use crate::verdict::Essential;

/// Which essential the packet is, if any.
pub(crate) fn essential(facts: &Facts<'_>) -> Option<Essential> {
    if facts.is_loopback() {
        return Some(Essential::Loopback);
    }
    match (facts.protocol, facts.icmp) {
        (ICMPV6, Some((133..=137, _))) if facts.hop_limit == 255 => {
            return Some(Essential::NeighbourDiscovery);
        }
        (ICMPV6, Some((130..=132 | 143, _)))
            if is_link_local_v6(facts.source) || facts.source == unspecified_v6() =>
        {
            return Some(Essential::MulticastListener);
        }
        (ICMPV6, Some((2, _))) | (ICMP, Some((3, 4))) => return Some(Essential::PathMtu),
        _ => {}
    }
    if facts.protocol != UDP {
        return None;
    }
    match (facts.direction, facts.source_port?, facts.port?) {
        (Direction::In, 67, 68) | (Direction::Out, 68, 67) => {
            is_ipv4(facts).then_some(Essential::Dhcp)
        }
        (Direction::In, 547, 546) if is_link_local_v6(facts.source) => Some(Essential::Dhcpv6),
        (Direction::Out, 546, 547) => (!is_ipv4(facts)).then_some(Essential::Dhcpv6),
        _ => None,
    }
}

fn is_ipv4(facts: &Facts<'_>) -> bool {
    facts.destination >> 32 == policy::address::IPV4_FIRST >> 32
}
