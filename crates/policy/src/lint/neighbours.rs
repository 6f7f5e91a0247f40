//! Rules that deny neighbour discovery (RFC 4861) by the way: they name addresses of a link and no protocol, and the essentials stand
//! behind them. Who names icmpv6 means it.

use std::net::{IpAddr, Ipv6Addr};

use crate::address::key_address;
use crate::evaluate::first_match;
use crate::plan::{Action, AddressMatch, Direction, Interface, Plan};
use crate::protocol;
use crate::time::Timestamp;
use crate::witness::Witness;

/// Rules that are looked at: each costs a walk over those before it.
const MOST: usize = 100;

/// Where a policy can know that addresses are on a link: link-local (RFC 4291 section 2.5.6) and unique local ones (RFC 4193).
const LOCAL: [(u128, u128); 2] = [
    (0xfe80 << 112, (0xfec0 << 112) - 1),
    (0xfc00 << 112, (0xfe00 << 112) - 1),
];

pub(super) struct Neighbours<'p> {
    plan: &'p Plan,
    now: Timestamp,
    left: usize,
}

impl<'p> Neighbours<'p> {
    pub(super) fn new(plan: &'p Plan, now: Timestamp) -> Self {
        Self {
            plan,
            now,
            left: MOST,
        }
    }

    /// A packet of neighbour discovery that the rule is the first to match, and does not let pass.
    pub(super) fn cut_by(&mut self, place: usize) -> Option<Witness> {
        let (plan, rule) = (self.plan, &self.plan.rules[place]);
        let denies = match rule.action {
            Action::Deny | Action::Reject | Action::Ban(_) => true,
            Action::Allow | Action::Limit => false,
        };
        let is_general = rule.protocols.is_any() && rule.content.is_none();
        let without_ports = rule.port.is_any() && rule.source_port.is_any();
        let interface = match &rule.interface {
            None => None,
            Some(Interface::Named(name)) => Some(name.clone()),
            Some(Interface::Prefix(begin)) => Some(format!("{begin}0")),
        };
        let on_loopback = interface.as_deref().is_some_and(|name| name == "lo");
        if !plan.essentials || !denies || !is_general || !without_ports || on_loopback {
            return None;
        }
        // A solicitation: to the group of the wanted address, or to that address (RFC 4861 section 4.3).
        let group = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1));
        let anybody = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7));
        let source = match rule.from.matches(anybody, &plan.sets) {
            true => anybody,
            false => local(plan, &rule.from)?,
        };
        let destination = match rule.to.matches(group, &plan.sets) {
            true => group,
            false => local(plan, &rule.to)?,
        };
        self.left = self.left.checked_sub(1)?;
        let solicitation = |direction| Witness {
            direction,
            protocol: protocol::ICMPV6,
            source,
            destination,
            source_port: None,
            destination_port: None,
            interface: interface.clone(),
            payload: Vec::new(),
            asks: None,
        };
        [Direction::In, Direction::Out]
            .into_iter()
            .filter(|direction| rule.directions.contains(*direction))
            .map(solicitation)
            .find(|witness| first_match(plan, witness, self.now) == Some(rule.id))
    }
}

/// An address on a link that the condition names.
fn local(plan: &Plan, condition: &AddressMatch) -> Option<IpAddr> {
    let AddressMatch::Of { inline, sets } = condition else {
        return None;
    };
    let named = sets.iter().map(|id| &plan.sets[id.0 as usize].addresses);
    let mut ranges = std::iter::once(inline).chain(named).flat_map(|set| {
        LOCAL.iter().filter_map(|&(first, last)| {
            let ranges = set.ranges();
            let after = ranges.partition_point(|&(_, end)| end < first);
            let &(begin, end) = ranges.get(after)?;
            (begin <= last).then(|| (begin.max(first), end.min(last)))
        })
    });
    let (first, last) = ranges.next()?;
    // The first address of a prefix is that of its routers (RFC 4291 section 2.6.1).
    Some(key_address((first | 7).min(last)))
}
