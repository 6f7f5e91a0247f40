//! The tree against the list that it was built from.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use policy::protocol::{ICMP, TCP, UDP};
use policy::{
    Action, AddressMatch, Directions, Interface, Plan, Position, Protocols, Rule, RuleId, Timestamp,
};
use proptest::prelude::*;

use super::*;
use crate::nft::header::{Header, Sample, is_ipv4};
use crate::nft::list::Lists;

impl Tree {
    /// Where a packet goes.
    fn find(&self, entries: &[Entry], packet: &Sample) -> Option<Target> {
        let mut at = self.root;
        loop {
            let node = match at {
                Child::End => return None,
                Child::Goto(target) => return Some(target),
                Child::Node(node) => &self.nodes[node],
            };
            if let Some(family) = node.known.family {
                assert_eq!(family, packet.family());
            }
            at = match &node.body {
                Body::Leaf(list) => {
                    let met = list
                        .iter()
                        .map(|open| (&entries[open.entry as usize], open.open));
                    return walk(met, packet);
                }
                Body::Split(split) => {
                    let value = match split.field {
                        Field::Protocol => u128::from(packet.protocol),
                        Field::Family if is_ipv4(packet.source) => 4,
                        Field::Family => 6,
                        Field::Port => u128::from(packet.ports.1),
                        Field::SourcePort => u128::from(packet.ports.0),
                        Field::From => packet.source,
                        Field::To => packet.destination,
                    };
                    let holds =
                        |(first, last, _): &&(u128, u128, Child)| (*first..=*last).contains(&value);
                    split
                        .arms
                        .iter()
                        .find(holds)
                        .map_or(split.otherwise, |(_, _, child)| *child)
                }
            };
        }
    }

    fn depth(&self, at: Child) -> usize {
        let Child::Node(node) = at else { return 0 };
        match &self.nodes[node].body {
            Body::Leaf(_) => 0,
            Body::Split(split) => {
                let children = split
                    .arms
                    .iter()
                    .map(|(_, _, child)| *child)
                    .chain([split.otherwise]);
                1 + children
                    .map(|child| self.depth(child))
                    .max()
                    .unwrap_or_default()
            }
        }
    }

    fn longest_leaf(&self) -> usize {
        self.nodes
            .iter()
            .map(|node| match &node.body {
                Body::Leaf(list) => list.len(),
                Body::Split(_) => 0,
            })
            .max()
            .unwrap_or_default()
    }
}

fn walk<'a>(
    mut list: impl Iterator<Item = (&'a Entry, Conditions)>,
    packet: &Sample,
) -> Option<Target> {
    list.find(|(entry, open)| entry.header.matches(*open, packet))
        .map(|(entry, _)| entry.target)
}

fn linear(entries: &[Entry], packet: &Sample) -> Option<Target> {
    walk(
        entries
            .iter()
            .map(|entry| (entry, entry.header.conditions())),
        packet,
    )
}

fn rule(id: u32) -> Rule {
    Rule {
        id: RuleId(id),
        name: String::new(),
        action: Action::Allow,
        directions: Directions::ALL,
        protocols: Protocols::ANY,
        from: AddressMatch::Any,
        to: AddressMatch::Any,
        source_port: PortSet::Any,
        port: PortSet::Any,
        interface: None,
        log: false,
        content: None,
        rate: None,
        expires: None,
        position: Position::default(),
    }
}

fn entries(rules: &[Rule]) -> Vec<Entry> {
    let plan = Plan::default();
    let mut lists = Lists::new(&plan);
    rules
        .iter()
        .filter_map(|rule| {
            Some(Entry {
                header: Header::of(rule, &mut lists)?,
                target: Target::Rule(rule.id),
                remark: String::new(),
            })
        })
        .collect()
}

fn of(prefixes: &[&str]) -> AddressMatch {
    AddressMatch::Of {
        inline: prefixes
            .iter()
            .map(|prefix| prefix.parse::<ipnet::IpNet>().unwrap())
            .collect(),
        sets: vec![],
    }
}

#[test]
fn many_hosts_and_ports_end_in_short_leaves() {
    let rules: Vec<Rule> = (0..5_000u32)
        .map(|n| Rule {
            protocols: Protocols::one(if n % 2 == 0 { TCP } else { UDP }),
            from: of(&[&format!("10.{}.{}.0/24", n / 250, n % 250)]),
            port: PortSet::from_ranges([((n % 977) as u16, (n % 977) as u16)]),
            ..rule(n)
        })
        .collect();
    let entries = entries(&rules);
    let tree = Tree::build(&entries, 6);
    assert!(tree.longest_leaf() <= LEAF, "{}", tree.longest_leaf());
    assert!(tree.nodes.len() < 10_000, "{}", tree.nodes.len());
}

#[test]
fn rules_that_no_cut_parts_cleanly_still_get_shorter_lists() {
    // Every tenth rule asks for a source port alone, so that no cut by address is clean.
    let rules: Vec<Rule> = (0..4_000u32)
        .map(|n| match n % 10 {
            0 => Rule {
                protocols: Protocols::one(TCP),
                source_port: PortSet::from_ranges([(n as u16, n as u16 + 5)]),
                ..rule(n)
            },
            _ => Rule {
                protocols: Protocols::one(TCP),
                from: of(&[&format!("10.0.{}.{}/32", n / 250, n % 250)]),
                ..rule(n)
            },
        })
        .collect();
    let entries = entries(&rules);
    let tree = Tree::build(&entries, 6);
    assert!(tree.longest_leaf() <= 700, "{}", tree.longest_leaf());
}

#[test]
fn a_shadowed_tail_is_left_out() {
    let rules: Vec<Rule> = (0..100)
        .map(|n| {
            if n == 5 {
                rule(n)
            } else {
                Rule {
                    protocols: Protocols::one(TCP),
                    port: PortSet::from_ranges([(n as u16, n as u16)]),
                    ..rule(n)
                }
            }
        })
        .collect();
    let entries = entries(&rules);
    let tree = Tree::build(&entries, 6);
    let Child::Node(root) = tree.root else {
        panic!("a list of conditions is no end")
    };
    assert!(
        matches!(&tree.nodes[root].body, Body::Leaf(list) if list.len() == 6),
        "{:?}",
        tree.nodes[root].body
    );
}

fn address() -> impl Strategy<Value = AddressMatch> {
    let prefix = prop_oneof![
        (0u32..4, 0u32..6, 8u8..=32).prop_map(|(a, b, length)| format!("10.{a}.{b}.7/{length}")),
        (0u32..4, 32u8..=128).prop_map(|(a, length)| format!("2001:db8:{a}::5/{length}")),
        Just("0.0.0.0/0".to_owned()),
        Just("::/0".to_owned()),
    ]
    .prop_map(|text| text.parse::<ipnet::IpNet>().unwrap());
    prop_oneof![
        2 => Just(AddressMatch::Any),
        3 => prop::collection::vec(prefix, 1..4)
            .prop_map(|prefixes| AddressMatch::Of { inline: prefixes.into_iter().collect(), sets: vec![] }),
    ]
}

fn ports() -> impl Strategy<Value = PortSet> {
    prop_oneof![
        2 => Just(PortSet::Any),
        3 => prop::collection::vec((0u16..40, 0u16..10), 1..4)
            .prop_map(|ranges| PortSet::from_ranges(ranges.into_iter().map(|(first, span)| (first, first + span)))),
        1 => (0u16..40).prop_map(|first| PortSet::from_ranges([(first, u16::MAX)])),
    ]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let protocols = prop_oneof![
        1 => Just(Protocols::ANY),
        4 => prop::sample::select(vec![TCP, UDP, ICMP, 132, 47]).prop_map(Protocols::one),
        1 => Just([TCP, UDP].into_iter().collect()),
    ];
    let interface = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Interface::Named("eth0".into()))),
        1 => Just(Some(Interface::Prefix("wg".into()))),
    ];
    let expires = prop_oneof![6 => Just(None), 1 => Just(Some(Timestamp::from_secs(100)))];
    (
        protocols,
        address(),
        address(),
        ports(),
        ports(),
        interface,
        expires,
    )
        .prop_map(
            |(protocols, from, to, source_port, port, interface, expires)| Rule {
                protocols,
                from,
                to,
                source_port,
                port,
                interface,
                expires,
                ..rule(0)
            },
        )
}

fn sample() -> impl Strategy<Value = Sample> {
    let v4 = (0u8..4, 0u8..6, 6u8..9)
        .prop_map(|(a, b, c)| IPV4_FIRST | u128::from(u32::from_be_bytes([10, a, b, c])));
    let v6 = (0u128..4, 4u128..7).prop_map(|(a, b)| 0x2001_0db8 << 96 | a << 80 | b);
    let pair = prop_oneof![(v4.clone(), v4), (v6.clone(), v6)];
    let protocol = prop::sample::select(vec![TCP, UDP, ICMP, 132, 47, 50, 0, 255]);
    let interface = prop::sample::select(vec!["eth0", "wg0", "lo"]);
    (
        protocol,
        pair,
        (0u16..55, 0u16..55),
        interface,
        prop::sample::select(vec![99, 100]),
    )
        .prop_map(
            |(protocol, (source, destination), ports, interface, now)| Sample {
                protocol,
                source,
                destination,
                ports,
                interface,
                now: Timestamp::from_secs(now),
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn the_tree_finds_what_the_list_finds(
        rules in prop::collection::vec((any_rule(), 0u8..4), 0..120),
        packets in prop::collection::vec(sample(), 200),
        depth in 0usize..8,
    ) {
        let rules: Vec<(Rule, u8)> = rules.into_iter().zip(0..).map(|((rule, kind), id)| (Rule { id: RuleId(id), ..rule }, kind)).collect();
        let plain: Vec<Rule> = rules.iter().map(|(rule, _)| rule.clone()).collect();
        let mut entries = entries(&plain);
        for entry in &mut entries {
            let Target::Rule(id) = entry.target else { continue };
            entry.target = match rules[id.0 as usize].1 {
                0 => Target::Unmeasured,
                _ => Target::Rule(id),
            };
        }
        let tree = Tree::build(&entries, depth);
        prop_assert!(tree.depth(tree.root) <= depth);
        for packet in &packets {
            prop_assert_eq!(tree.find(&entries, packet), linear(&entries, packet), "{:?}", packet);
        }
    }
}
