//! Generated plans over the same addresses, ports and protocols as the packets.

use std::time::Duration;

use ipnet::IpNet;
use policy::{
    Action, AddressMatch, AddressSet, DefaultAction, Defaults, Direction, Directions, Interface,
    NamedSet, Plan, PortSet, Position, Protocols, Rate, RateUnit, Rule, RuleId, SetId, Timestamp,
};

use crate::packets::{BEHIND, GROUPS, OWN, PORTS, PROTOCOLS};
use crate::random::Random;

/// A moment long past, and one long to come.
const PAST: Timestamp = Timestamp::from_secs(1_000_000_000);
const FUTURE: Timestamp = Timestamp::from_secs(4_000_000_000);

pub(crate) fn generate(random: &mut Random) -> Plan {
    let sets = (0..3)
        .map(|place| {
            let count = 1 + random.below(40);
            NamedSet {
                name: format!("set{place}"),
                addresses: (0..count).map(|_| prefix(random, true)).collect(),
            }
        })
        .collect();
    let count = random.pick(&[0, 1, 3, 8, 20, 60, 200]);
    let rules = (0..count).map(|id| rule(RuleId(id), random)).collect();
    let any = |random: &mut Random| {
        random.pick(&[
            DefaultAction::Allow,
            DefaultAction::Deny,
            DefaultAction::Deny,
            DefaultAction::Reject,
        ])
    };
    let mut plan = Plan {
        mode: policy::Mode::Enforce,
        default: Defaults {
            inbound: any(random),
            outbound: DefaultAction::Allow,
            forward: any(random),
        },
        essentials: !random.once_in(4),
        rules,
        sets,
        ..Plan::default()
    };
    if random.once_in(2) {
        plan.feeds = vec![SetId(random.below(3))];
    }
    if random.once_in(2) {
        plan.protect.addresses = (0..4).map(|_| prefix(random, false)).collect();
    }
    if random.once_in(4) {
        plan.protect.sets = vec![SetId(random.below(3))];
    }
    plan
}

/// Bans to hold while the packets come, none inside another: an interval set of nftables takes no overlaps.
pub(crate) fn bans(random: &mut Random) -> Vec<IpNet> {
    let count = random.pick(&[0, 0, 2, 6]);
    let mut bans: Vec<IpNet> = Vec::new();
    for _ in 0..count {
        let new = prefix(random, false);
        if bans
            .iter()
            .all(|ban| !ban.contains(&new) && !new.contains(ban))
        {
            bans.push(new);
        }
    }
    bans
}

fn prefix(random: &mut Random, wide: bool) -> IpNet {
    let (group, low) = (random.below(GROUPS), random.below(5_000));
    let (v4, v6) = if wide {
        (&[16, 20, 24, 28, 32][..], &[32, 112, 120, 128][..])
    } else {
        (&[24, 28, 32][..], &[112, 120, 128][..])
    };
    if random.once_in(2) {
        let address = std::net::Ipv4Addr::new(10, group as u8, (low >> 8) as u8, low as u8);
        IpNet::new(address.into(), random.pick(v4)).unwrap().trunc()
    } else {
        let address = std::net::Ipv6Addr::new(0xfd00, group as u16, 0, 0, 0, 0, 0, low as u16);
        IpNet::new(address.into(), random.pick(v6)).unwrap().trunc()
    }
}

fn from(random: &mut Random) -> AddressMatch {
    match random.below(6) {
        0 | 1 => AddressMatch::Any,
        2 => AddressMatch::Of {
            inline: AddressSet::default(),
            sets: vec![SetId(random.below(3))],
        },
        3 => AddressMatch::Of {
            inline: (0..3).map(|_| prefix(random, true)).collect(),
            sets: vec![SetId(random.below(3))],
        },
        4 => {
            let first = policy::address_key(prefix(random, true).network());
            let inline = AddressSet::from_ranges([(first, first + u128::from(random.below(300)))]);
            AddressMatch::Of {
                inline,
                sets: vec![],
            }
        }
        _ => AddressMatch::Of {
            inline: (0..=random.below(4))
                .map(|_| prefix(random, true))
                .collect(),
            sets: vec![],
        },
    }
}

fn to(random: &mut Random) -> AddressMatch {
    if random.once_in(2) {
        return AddressMatch::Any;
    }
    let all: Vec<&str> = OWN.into_iter().chain(BEHIND).collect();
    let inline = (0..=random.below(3)).map(|_| {
        let address: std::net::IpAddr = random.pick(&all).parse().unwrap();
        let whole = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, whole - random.pick(&[0, 0, 8, 16]))
            .unwrap()
            .trunc()
    });
    AddressMatch::Of {
        inline: inline.collect(),
        sets: vec![],
    }
}

fn ports(random: &mut Random) -> PortSet {
    match random.below(4) {
        0 | 1 => PortSet::Any,
        2 => PortSet::from_ranges(
            (0..=random.below(3))
                .map(|_| random.pick(&PORTS))
                .map(|port| (port, port)),
        ),
        _ => {
            let first = random.pick(&PORTS);
            PortSet::from_ranges([(first, first.saturating_add(random.below(9_000) as u16))])
        }
    }
}

fn rule(id: RuleId, random: &mut Random) -> Rule {
    let action = match random.below(12) {
        0..=4 => Action::Allow,
        5..=7 => Action::Deny,
        8 | 9 => Action::Reject,
        10 => Action::Limit,
        _ => Action::Ban(Duration::from_secs(600)),
    };
    let protocols = match random.below(4) {
        0 => Protocols::ANY,
        1 => (0..3).map(|_| random.pick(&PROTOCOLS)).collect(),
        _ => Protocols::one(random.pick(&PROTOCOLS)),
    };
    let interface = match random.below(12) {
        0 => Some(Interface::Named("f0".into())),
        1 => Some(Interface::Named("g0".into())),
        2 => Some(Interface::Prefix("f0".into())),
        3 => Some(Interface::Prefix("wg".into())),
        _ => None,
    };
    Rule {
        id,
        name: format!("rule {}", id.0),
        action,
        directions: random.pick(&[
            Directions::ALL,
            Directions::ALL,
            Directions::one(Direction::In),
            Directions::one(Direction::In),
            Directions::one(Direction::Forward),
            Directions::one(Direction::Out),
        ]),
        protocols,
        from: from(random),
        to: to(random),
        source_port: if random.once_in(4) {
            ports(random)
        } else {
            PortSet::Any
        },
        port: ports(random),
        interface,
        log: random.once_in(8),
        content: None,
        rate: (action == Action::Limit).then(|| rate(random)),
        expires: random.pick(&[None, None, None, None, Some(PAST), Some(FUTURE)]),
        position: Position::default(),
    }
}

/// A rate so slow that nothing comes back while a test runs, however busy the machine is.
fn rate(random: &mut Random) -> Rate {
    // Packets have sources of their own, but those of IPv6 share a bucket by group.
    let (amount, unit, burst): (u32, RateUnit, u32) = random.pick(&[
        (5, RateUnit::Connections, 5),
        (5, RateUnit::Packets, 5),
        (1, RateUnit::Bytes, 60),
        (1, RateUnit::Bytes, 300),
        (1, RateUnit::Bytes, 4_000),
        (20, RateUnit::Bytes, 900),
    ]);
    Rate {
        amount: amount.try_into().unwrap(),
        unit,
        per: Duration::from_secs(3_600),
        burst: burst.try_into().unwrap(),
    }
}
