//! Which rules are covered by earlier ones, alone or together.
//!
//! A packet of the rule is taken; if no earlier rule decides it, the rule is alive. If one does, all of that rule's packets are
//! taken away, and a packet of what is left is taken, until nothing is left or the work is too much. So only rules that matter are
//! ever looked at, and what is found holds for all packets.

use std::collections::{BTreeSet, HashMap};

use super::example;
use super::index::Index;
use super::region::{
    DESTINATION, DIRECTION, NO_PORT, PORT, PROTOCOL, Point, Ranges, Region, SOURCE, SOURCE_PORT,
};
use super::verdict;
use crate::address::{AddressSet, IPV4_FIRST, IPV4_LAST};
use crate::host::{HostField, HostPattern};
use crate::plan::{Action, AddressMatch, Direction, Interface, Plan, Rule, SetId};
use crate::port::PortSet;
use crate::protocol::{self, Protocols};
use crate::time::Timestamp;
use crate::witness::Witness;

/// Rules taken away from one rule before it is given up.
const MOST_STEPS: usize = 4_096;
/// Work on one rule, and on all of them, before it is given up: about ten nanoseconds a unit.
const MOST_WORK: u64 = 4_000_000;
const MOST_WORK_IN_ALL: u64 = 100_000_000;

pub(super) enum Cover {
    /// Some packet reaches it.
    Alive,
    Dead(Dead),
    Unknown,
}

/// A rule that no packet reaches.
pub(super) struct Dead {
    /// The earlier rules that take its packets: one if one alone takes them all.
    pub(super) by: Vec<usize>,
    /// Whether they decide as it would.
    pub(super) is_same: bool,
    /// A packet of the rule that one of them decides; one that is decided otherwise, if there is any.
    pub(super) witness: Option<Witness>,
}

/// Packets fall apart by family, and by whether they show ports; a box lies in one class.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Class {
    is_ipv4: bool,
    has_ports: bool,
}

const CLASSES: [Class; 4] = [
    Class {
        is_ipv4: true,
        has_ports: true,
    },
    Class {
        is_ipv4: true,
        has_ports: false,
    },
    Class {
        is_ipv4: false,
        has_ports: true,
    },
    Class {
        is_ipv4: false,
        has_ports: false,
    },
];

pub(super) struct Coverage<'p> {
    plan: &'p Plan,
    now: Timestamp,
    index: Index,
    shapes: Shapes,
    work: u64,
}

impl<'p> Coverage<'p> {
    pub(super) fn new(plan: &'p Plan, now: Timestamp) -> Self {
        Self {
            plan,
            now,
            index: Index::new(plan),
            shapes: Shapes::default(),
            work: 0,
        }
    }

    /// Whether any packet could match the rule at all.
    pub(super) fn has_packets(&mut self, place: usize) -> bool {
        !self.shapes.regions(self.plan, place).is_empty()
    }

    /// A packet that the rule matches, or would if it had not expired.
    pub(super) fn example(&mut self, place: usize) -> Option<Witness> {
        let regions = self.shapes.regions(self.plan, place);
        let (_, region) = regions.first()?;
        example::packet(self.plan, place, &sample(region))
    }

    /// Whether earlier rules leave the rule any packet.
    pub(super) fn of(&mut self, place: usize) -> Cover {
        let mut left = self.shapes.regions(self.plan, place);
        // A friendlier example comes first: IPv4, with ports.
        left.reverse();
        let end = self.work.saturating_add(MOST_WORK).min(MOST_WORK_IN_ALL);
        let mut by = BTreeSet::new();
        let mut points: Vec<(Point, usize)> = Vec::new();
        while let Some((class, region)) = left.pop() {
            if by.len() + points.len() > MOST_STEPS || self.work >= end {
                return Cover::Unknown;
            }
            let point = sample(&region);
            let (plan, now) = (self.plan, self.now);
            let rule = &plan.rules[place];
            let first = self.index.first(&point, place, &mut self.work, |earlier| {
                let earlier = &plan.rules[earlier];
                matches_point(plan, earlier, &point) && takes_all(earlier, rule, now)
            });
            let Some(first) = first else {
                return Cover::Alive;
            };
            if by.insert(first) {
                points.push((point, first));
            }
            if let Some(taken) = self.shapes.region(plan, first, class) {
                self.work += region.weight(&taken);
                left.extend(region.minus(&taken).into_iter().map(|piece| (class, piece)));
            }
        }
        Cover::Dead(self.dead(place, &by, &points))
    }

    fn dead(&mut self, place: usize, by: &BTreeSet<usize>, points: &[(Point, usize)]) -> Dead {
        let plan = self.plan;
        let rule = &plan.rules[place];
        // Answers of flows that began the other way are allowed past all rules but content rules, so that a content rule is
        // replaced by one that takes all that it looks for alone.
        let is_same = |other: usize| {
            let other = &plan.rules[other];
            verdict::alike(other, rule) && other.content.is_some() == rule.content.is_some()
        };
        let regions = self.shapes.regions(plan, place);
        let alone = by.iter().copied().find(|&other| {
            regions.iter().all(|(class, region)| {
                let taken = self.shapes.region(plan, other, *class);
                taken.is_some_and(|taken| {
                    self.work += region.weight(&taken);
                    taken.contains_all(region)
                })
            })
        });
        let telling = points
            .iter()
            .find(|(_, other)| !is_same(*other))
            .or(points.first());
        Dead {
            is_same: by.iter().all(|&other| is_same(other)),
            by: match alone {
                Some(alone) => vec![alone],
                None => by.iter().copied().collect(),
            },
            witness: telling.and_then(|(point, _)| example::packet(plan, place, point)),
        }
    }

    /// Whether the rule could go without any packet being decided otherwise, as its default does the same. Errs towards "no".
    pub(super) fn changes_nothing(&mut self, place: usize) -> bool {
        let plan = self.plan;
        let rule = &plan.rules[place];
        // A hit of a content rule is evidence for a detector, and a log line is wanted.
        if rule.log || rule.content.is_some() {
            return false;
        }
        let default = |direction| plan.default.of(direction);
        let mut directions = rule.directions.iter();
        if !directions.all(|direction| verdict::is_default(rule.action, default(direction))) {
            return false;
        }
        if rule.action != Action::Allow && plan.essentials && denies_essentials(rule) {
            return false;
        }
        for later in &plan.rules[place + 1..] {
            self.work += 1;
            if self.work >= MOST_WORK_IN_ALL {
                return false;
            }
            let differs = !verdict::alike(later, rule) || later.content.is_some();
            if differs && later.may_meet(rule) {
                return false;
            }
        }
        true
    }
}

/// Whether the rule could deny something that the essentials would let pass: they stand between the rules and the default.
fn denies_essentials(rule: &Rule) -> bool {
    let on_loopback = rule
        .interface
        .as_ref()
        .is_none_or(|interface| interface.matches(Some("lo")));
    let essential: Protocols = [protocol::ICMP, protocol::ICMPV6, protocol::UDP, 2]
        .into_iter()
        .collect();
    on_loopback || !rule.protocols.intersection(essential).is_empty()
}

/// Whether, of the packets in its box, the earlier rule takes all that the later one wants: now and for as long as that lives,
/// on all of its interfaces, with all of its payloads. (Names of interfaces are without number: narrower conditions on them
/// never add up to a wider one.)
fn takes_all(earlier: &Rule, later: &Rule, now: Timestamp) -> bool {
    let lives_as_long = match (earlier.expires, later.expires) {
        (None, _) => true,
        (Some(earlier), Some(later)) => now < earlier && later <= earlier,
        (Some(_), None) => false,
    };
    let interface = match (&earlier.interface, &later.interface) {
        (None, _) => true,
        (Some(earlier), Some(later)) if earlier == later => true,
        (
            Some(Interface::Prefix(begin)),
            Some(Interface::Named(name) | Interface::Prefix(name)),
        ) => name.starts_with(begin.as_str()),
        _ => false,
    };
    lives_as_long && interface && takes_contents(earlier, later)
}

/// Names of both rules that are compared one by one; more are compared as a whole.
const MOST_NAMES_COMPARED: usize = 4_096;

/// Whether what the later rule looks for is found by the earlier one wherever it is.
fn takes_contents(earlier: &Rule, later: &Rule) -> bool {
    let (Some(first), Some(second)) = (&earlier.content, &later.content) else {
        return earlier.content.is_none();
    };
    let (Some((field, wide)), Some((other, narrow))) = (first.hosts(), second.hosts()) else {
        return first == second;
    };
    // A request that can be read in several ways is not let pass by its host, and may still be denied by it.
    let lets_pass = |rule: &Rule| matches!(rule.action, Action::Allow | Action::Limit);
    if field == HostField::HttpHost && lets_pass(earlier) && !lets_pass(later) {
        return false;
    }
    let is_covered = |host: &HostPattern| wide.iter().any(|wide| wide.covers(host));
    first == second
        || field == other
            && wide.len() * narrow.len() <= MOST_NAMES_COMPARED
            && narrow.iter().all(is_covered)
}

/// Whether the point lies in the rule's box.
fn matches_point(plan: &Plan, rule: &Rule, point: &Point) -> bool {
    let port = |number: u128| u16::try_from(number).ok();
    let address = |condition: &AddressMatch, key: u128| match condition {
        AddressMatch::Any => true,
        AddressMatch::Of { inline, sets } => {
            let in_set = |id: &SetId| plan.sets[id.0 as usize].addresses.contains_key(key);
            inline.contains_key(key) || sets.iter().any(in_set)
        }
    };
    // The numbers of a point are those of a direction and a protocol, see `sample`.
    rule.protocols.contains(point[PROTOCOL] as u8)
        && rule.port.matches(port(point[PORT]))
        && rule
            .directions
            .contains(Direction::ALL[point[DIRECTION] as usize % 3])
        && rule.source_port.matches(port(point[SOURCE_PORT]))
        && address(&rule.from, point[SOURCE])
        && address(&rule.to, point[DESTINATION])
}

/// A packet of the box, with the numbers of textbooks where they are in it.
fn sample(region: &Region) -> Point {
    // 203.0.113.7 and 192.0.2.1 (RFC 5737), 2001:db8::7 and 2001:db8::1 (RFC 3849).
    const SOURCES: [u128; 2] = [0xffff_cb00_7107, 0x2001_0db8 << 96 | 7];
    const DESTINATIONS: [u128; 2] = [0xffff_c000_0201, 0x2001_0db8 << 96 | 1];
    const PROTOCOLS: [u128; 4] = [
        protocol::TCP as u128,
        protocol::UDP as u128,
        protocol::ICMP as u128,
        protocol::ICMPV6 as u128,
    ];
    let pick = |dimension: usize, wanted: &[u128]| {
        let ranges = &region.0[dimension];
        let found = wanted
            .iter()
            .copied()
            .find(|&number| ranges.contains(number));
        found.unwrap_or_else(|| ranges.inner())
    };
    let source = pick(SOURCE, &SOURCES);
    let is_ipv4 = (IPV4_FIRST..=IPV4_LAST).contains(&source);
    let protocols = if is_ipv4 {
        PROTOCOLS
    } else {
        let [tcp, udp, icmp, icmpv6] = PROTOCOLS;
        [tcp, udp, icmpv6, icmp]
    };
    [
        pick(DIRECTION, &[0]),
        pick(PROTOCOL, &protocols),
        source,
        pick(DESTINATION, &DESTINATIONS),
        pick(SOURCE_PORT, &[40_000]),
        pick(PORT, &[12_345]),
    ]
}

/// The named sets and the inline ranges of a condition.
type AddressKey = (Vec<SetId>, Vec<(u128, u128)>);

/// Boxes of rules; the addresses of named sets are cut by family once.
#[derive(Default)]
struct Shapes {
    sets: HashMap<AddressKey, [Ranges; 2]>,
}

impl Shapes {
    /// The boxes of a rule that hold any packet.
    fn regions(&mut self, plan: &Plan, place: usize) -> Vec<(Class, Region)> {
        let classes = CLASSES.into_iter();
        classes
            .filter_map(|class| Some((class, self.region(plan, place, class)?)))
            .collect()
    }

    fn region(&mut self, plan: &Plan, place: usize, class: Class) -> Option<Region> {
        let rule = &plan.rules[place];
        let (protocols, ports) = if class.has_ports {
            let all = Ranges::one(0, 65_535);
            let ports = |set: &PortSet| match set {
                PortSet::Any => all.clone(),
                PortSet::Of(ranges) => {
                    Ranges::new(ranges.iter().map(|&(a, b)| (a.into(), b.into())))
                }
            };
            let protocols = rule.protocols.iter().filter(|&p| protocol::has_ports(p));
            let ports = (ports(&rule.source_port), ports(&rule.port));
            (numbers(protocols.map(u128::from)), ports)
        } else {
            if !rule.port.is_any() || !rule.source_port.is_any() {
                return None;
            }
            let none = Ranges::one(NO_PORT, NO_PORT);
            let protocols = if rule.protocols.is_any() {
                Ranges::one(0, 255)
            } else {
                numbers(rule.protocols.iter().map(u128::from))
            };
            (protocols, (none.clone(), none))
        };
        let directions = rule.directions.iter().map(|direction| direction as u128);
        let region = Region([
            numbers(directions),
            protocols,
            self.addresses(plan, &rule.from, class.is_ipv4),
            self.addresses(plan, &rule.to, class.is_ipv4),
            ports.0,
            ports.1,
        ]);
        (!region.is_empty()).then_some(region)
    }

    fn addresses(&mut self, plan: &Plan, condition: &AddressMatch, is_ipv4: bool) -> Ranges {
        let family = usize::from(!is_ipv4);
        match condition {
            AddressMatch::Any => cut(&AddressSet::all())[family].clone(),
            AddressMatch::Of { inline, sets } if sets.is_empty() => cut(inline)[family].clone(),
            AddressMatch::Of { inline, sets } => {
                let key = (sets.clone(), inline.ranges().to_vec());
                let made = self.sets.entry(key);
                made.or_insert_with(|| cut(&condition.resolve(&plan.sets)))[family].clone()
            }
        }
    }
}

/// The ranges of IPv4, and those of IPv6.
fn cut(set: &AddressSet) -> [Ranges; 2] {
    let v4 = set.ranges().iter().filter_map(|&(first, last)| {
        let (first, last) = (first.max(IPV4_FIRST), last.min(IPV4_LAST));
        (first <= last).then_some((first, last))
    });
    let v6 = set.ranges().iter().flat_map(|&(first, last)| {
        [
            (first, last.min(IPV4_FIRST - 1)),
            (first.max(IPV4_LAST + 1), last),
        ]
    });
    [
        Ranges::new(v4),
        Ranges::new(v6.filter(|(first, last)| first <= last)),
    ]
}

/// Ascending numbers as ranges.
fn numbers(all: impl Iterator<Item = u128>) -> Ranges {
    let mut ranges: Vec<(u128, u128)> = Vec::new();
    for number in all {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    Ranges::new(ranges)
}
