//! Plans for the tests of the nftables backend.

use std::time::Duration;

use ipnet::IpNet;
use policy::protocol::{ICMP, ICMPV6, TCP, UDP};
use policy::{
    Action, AddressMatch, AddressSet, Content, Direction, Directions, Mode, NamedSet, Pattern,
    Plan, PortSet, Position, Protocols, Rate, RateUnit, Rule, RuleId, Scope, SetId,
};

pub(crate) fn set(prefixes: &[&str]) -> AddressSet {
    prefixes
        .iter()
        .map(|text| text.parse::<IpNet>().unwrap())
        .collect()
}

pub(crate) fn of(prefixes: &[&str]) -> AddressMatch {
    AddressMatch::Of {
        inline: set(prefixes),
        sets: vec![],
    }
}

pub(crate) fn ports(ranges: &[(u16, u16)]) -> PortSet {
    PortSet::from_ranges(ranges.iter().copied())
}

pub(crate) fn rule(name: &str, action: Action) -> Rule {
    Rule {
        id: RuleId(0),
        name: name.to_owned(),
        action,
        directions: Directions::one(Direction::In),
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

pub(crate) fn tcp(name: &str, action: Action, port: u16) -> Rule {
    Rule {
        protocols: Protocols::one(TCP),
        port: ports(&[(port, port)]),
        ..rule(name, action)
    }
}

pub(crate) fn limit(amount: u32, unit: RateUnit, per: u64, burst: u32) -> Option<Rate> {
    Some(Rate {
        amount: amount.try_into().unwrap(),
        unit,
        per: Duration::from_secs(per),
        burst: burst.try_into().unwrap(),
    })
}

/// Names that are not resolved, asked for at these ports.
pub(crate) fn names(ranges: &[(u16, u16)]) -> policy::DnsFilter {
    policy::DnsFilter {
        names: policy::names::NameFilterBuilder::new(7).build().into(),
        answer: policy::DnsAnswer::Zero,
        ports: ports(ranges),
        ttl: Duration::from_secs(60),
        log: policy::DnsLog::Blocked,
    }
}

pub(crate) fn content(every_packet: bool) -> Option<Content> {
    Some(Content {
        pattern: Some(Pattern::Contains {
            bytes: b"evil".to_vec(),
            ignore_case: false,
        }),
        min_len: 1,
        max_len: None,
        scope: Scope::Packet,
        every_packet,
    })
}

pub(crate) fn plan(rules: Vec<Rule>) -> Plan {
    Plan {
        mode: Mode::Enforce,
        essentials: true,
        rules: rules
            .into_iter()
            .zip(0..)
            .map(|(rule, id)| Rule {
                id: RuleId(id),
                ..rule
            })
            .collect(),
        ..Plan::default()
    }
}

/// What a small server wants, with a bit of everything.
pub(crate) fn server() -> Plan {
    let mut plan = plan(vec![
        Rule {
            from: AddressMatch::Of {
                inline: set(&["198.51.100.7/32"]),
                sets: vec![SetId(0)],
            },
            log: true,
            ..tcp("ssh from the office", Action::Allow, 22)
        },
        Rule {
            port: ports(&[(80, 80), (443, 443)]),
            rate: limit(20, RateUnit::Connections, 1, 40),
            ..tcp("web", Action::Limit, 80)
        },
        Rule {
            protocols: [ICMP, ICMPV6].into_iter().collect(),
            rate: limit(10, RateUnit::Packets, 1, 10),
            ..rule("ping", Action::Limit)
        },
        tcp(
            "telnet is bait",
            Action::Ban(Duration::from_secs(3_600)),
            23,
        ),
        Rule {
            directions: Directions::ALL,
            protocols: Protocols::one(UDP),
            to: of(&["203.0.113.9/32"]),
            port: ports(&[(53, 53)]),
            ..rule("no dns there", Action::Reject)
        },
        Rule {
            expires: Some(policy::Timestamp::from_secs(1_893_456_000)),
            interface: Some(policy::Interface::Prefix("wg".into())),
            ..rule("tunnel until 2030", Action::Allow)
        },
    ]);
    plan.sets = vec![
        NamedSet {
            name: "office".into(),
            addresses: set(&["192.0.2.0/24", "2001:db8::/48"]),
        },
        NamedSet {
            name: "bad-hosts".into(),
            addresses: (0..20u8)
                .map(|n| format!("100.64.{n}.{}/32", n * 3).parse::<IpNet>().unwrap())
                .collect(),
        },
    ];
    plan.feeds = vec![SetId(1)];
    plan.protect.addresses = set(&["192.0.2.1/32"]);
    plan.detect.rate = Some(policy::RateLimit {
        ignore: set(&["192.0.2.0/24"]),
        ..policy::RateLimit::default()
    });
    plan
}

/// Content rules beside others.
pub(crate) fn content_rules() -> Plan {
    plan(vec![
        Rule {
            content: content(false),
            ..tcp("bad login packet", Action::Deny, 4_000)
        },
        Rule {
            content: content(true),
            directions: Directions::ALL,
            ..tcp("always", Action::Reject, 4_001)
        },
        Rule {
            rate: limit(1_000_000, RateUnit::Bytes, 1, 100_000),
            ..tcp("slow", Action::Limit, 4_000)
        },
        tcp("game", Action::Allow, 4_000),
    ])
}
