//! The indexed rules decide as a plain scan of them does.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod common;

use common::*;
use engine::{Probe, Reason, Verdict};
use ipnet::IpNet;
use policy::{
    Action, AddressMatch, Direction, Directions, Interface, Plan, PortSet, Protocols, Rule,
    Timestamp,
};
use proptest::prelude::*;

fn prefix() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (
            0u8..4,
            0u8..4,
            prop::sample::select(vec![0, 8, 16, 24, 30, 32])
        )
            .prop_map(|(a, b, len)| {
                IpNet::new(format!("10.0.{a}.{b}").parse().unwrap(), len)
                    .unwrap()
                    .trunc()
            }),
        (
            0u8..4,
            0u8..4,
            prop::sample::select(vec![0, 32, 64, 96, 127, 128])
        )
            .prop_map(|(a, b, len)| {
                IpNet::new(format!("fd00::{a}:{b}").parse().unwrap(), len)
                    .unwrap()
                    .trunc()
            }),
    ]
}

fn addresses() -> impl Strategy<Value = AddressMatch> {
    prop_oneof![
        2 => Just(AddressMatch::Any),
        3 => prop::collection::vec(prefix(), 1..4).prop_map(|list| AddressMatch::Of { inline: list.into_iter().collect(), sets: vec![] }),
    ]
}

fn ports() -> impl Strategy<Value = PortSet> {
    prop_oneof![
        2 => Just(PortSet::Any),
        3 => prop::collection::vec((0u16..12, 0u16..6), 1..3)
            .prop_map(|list| PortSet::from_ranges(list.into_iter().map(|(first, more)| (first, first + more)))),
    ]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let protocols = prop_oneof![
        2 => Just(Protocols::ANY),
        3 => prop::collection::vec(prop::sample::select(vec![1u8, 6, 17, 47, 58, 132]), 1..3).prop_map(|list| list.into_iter().collect::<Protocols>()),
    ];
    let directions = prop_oneof![
        Just(Directions::ALL),
        prop::sample::select(Direction::ALL.to_vec()).prop_map(Directions::one),
    ];
    let interface = prop_oneof![
        4 => Just(None),
        1 => Just(Some(Interface::Named("eth0".into()))),
        1 => Just(Some(Interface::Prefix("wg".into()))),
    ];
    let action = prop::sample::select(vec![Action::Allow, Action::Deny, Action::Reject]);
    (
        action,
        directions,
        protocols,
        addresses(),
        addresses(),
        ports(),
        ports(),
        interface,
        prop::option::weighted(0.1, 0u64..2),
    )
        .prop_map(
            |(action, directions, protocols, from, to, source_port, port, interface, expires)| {
                Rule {
                    directions,
                    protocols,
                    from,
                    to,
                    source_port,
                    port,
                    interface,
                    expires: expires.map(|late| Timestamp::from_secs(late * 2_000_000)),
                    ..rule(action)
                }
            },
        )
}

fn probe() -> impl Strategy<Value = Probe> {
    let host = (any::<bool>(), 0u8..5, 0u8..5);
    let interface = prop::sample::select(vec![
        None,
        Some("eth0".to_owned()),
        Some("wg1".to_owned()),
        Some("eth1".to_owned()),
    ]);
    let protocol = prop::sample::select(vec![1u8, 6, 17, 47, 58, 132, 200]);
    (
        prop::sample::select(Direction::ALL.to_vec()),
        protocol,
        host,
        0u8..5,
        0u8..5,
        0u16..16,
        0u16..16,
        interface,
    )
        .prop_map(
            |(direction, protocol, (v4, a, b), c, d, source_port, destination_port, interface)| {
                let address = |a: u8, b: u8| {
                    if v4 {
                        format!("10.0.{a}.{b}")
                    } else {
                        format!("fd00::{a}:{b}")
                    }
                    .parse()
                    .unwrap()
                };
                let ports = policy::protocol::has_ports(protocol);
                Probe {
                    direction,
                    protocol,
                    source: address(a, b),
                    destination: address(c, d),
                    source_port: ports.then_some(source_port),
                    destination_port: ports.then_some(destination_port),
                    icmp: None,
                    interface,
                    payload: vec![],
                }
            },
        )
}

/// First match, by the letter of the language.
fn scan(plan: &Plan, probe: &Probe, now: Timestamp) -> Option<policy::RuleId> {
    let matched = plan.rules.iter().find(|rule| {
        rule.directions.contains(probe.direction)
            && rule.protocols.contains(probe.protocol)
            && rule.from.matches(probe.source, &plan.sets)
            && rule.to.matches(probe.destination, &plan.sets)
            && rule.source_port.matches(probe.source_port)
            && rule.port.matches(probe.destination_port)
            && rule
                .interface
                .as_ref()
                .is_none_or(|wanted| wanted.matches(probe.interface.as_deref()))
            && rule.expires.is_none_or(|expires| now < expires)
    });
    matched.map(|rule| rule.id)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_index_finds_the_first_match(
        rules in prop::collection::vec(any_rule(), 0..120),
        probes in prop::collection::vec(probe(), 1..80),
    ) {
        let plan = Plan { essentials: false, ..plan(rules) };
        let bench = Bench::new(plan.clone());
        for probe in &probes {
            let decision = bench.engine.test(bench.now, probe);
            let expected = scan(&plan, probe, bench.now).map_or(Reason::Default(probe.direction), Reason::Rule);
            prop_assert_eq!(decision.reason, expected, "{:?}", probe);
        }
    }
}

#[test]
fn ten_thousand_rules_build_and_decide() {
    let rules: Vec<Rule> = (0..10_000_u32)
        .map(|n| Rule {
            from: from(&[&format!("10.{}.{}.0/24", n / 256 % 64, n % 256)]),
            ..tcp_port(
                if n % 3 == 0 {
                    Action::Deny
                } else {
                    Action::Allow
                },
                (n % 1_000) as u16,
            )
        })
        .collect();
    let plan = plan(rules);
    let bench = Bench::new(plan.clone());
    for n in (0..10_000_u32).step_by(97) {
        let probe = Probe {
            direction: Direction::In,
            protocol: 6,
            source: format!("10.{}.{}.9", n / 256 % 64, n % 256)
                .parse()
                .unwrap(),
            destination: HOST.parse().unwrap(),
            source_port: Some(40_000),
            destination_port: Some((n % 1_000) as u16),
            icmp: None,
            interface: None,
            payload: vec![],
        };
        let decision = bench.engine.test(bench.now, &probe);
        assert_eq!(
            decision.reason,
            Reason::Rule(scan(&plan, &probe, bench.now).unwrap())
        );
        assert_eq!(decision.verdict == Verdict::Drop, n % 3 == 0);
    }
}
