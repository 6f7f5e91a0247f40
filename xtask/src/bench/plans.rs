//! Plans that the live benchmarks put in force.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use policy::{
    Action, AddressMatch, Content, Direction, Directions, Mode, OnFailure, Pattern, Plan, PortSet,
    Position, Protocols, Rule, RuleId, Scope,
};

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// "Allow this source to this port", as it is said to every firewall of a comparison.
#[derive(Clone, Copy)]
pub(super) struct Allow {
    pub(super) from: Ipv4Addr,
    pub(super) port: u16,
}

/// So many, each with its own source and port; the last is the only one that lets `wanted` through.
pub(super) fn allows(count: u32, wanted: Allow) -> Vec<Allow> {
    let others = (0..count - 1).map(|number| Allow {
        // 11.0.0.0/8, spread as hosts are, without order.
        from: Ipv4Addr::from_bits(0x0b00_0000 | number.wrapping_mul(2_654_435_761) >> 8),
        port: 1_024 + (number % 4_000) as u16,
    });
    others.chain([wanted]).collect()
}

/// An inbound rule for one protocol and port from anywhere.
pub(super) fn rule(action: Action, protocol: u8, port: u16) -> Rule {
    Rule {
        id: RuleId(0),
        name: format!("{protocol} {port}"),
        action,
        directions: Directions::one(Direction::In),
        protocols: Protocols::one(protocol),
        from: AddressMatch::Any,
        to: AddressMatch::Any,
        source_port: PortSet::Any,
        port: PortSet::from_ranges([(port, port)]),
        interface: None,
        log: false,
        content: None,
        rate: None,
        expires: None,
        position: Position::default(),
    }
}

impl Allow {
    pub(super) fn rule(self) -> Rule {
        Rule {
            from: AddressMatch::Of {
                inline: std::iter::once(IpNet::from(std::net::IpAddr::V4(self.from))).collect(),
                sets: vec![],
            },
            ..rule(Action::Allow, TCP, self.port)
        }
    }
}

/// So many contents to deny, as people write them: most look for a text, some without case, some at an offset, some by expression.
pub(super) fn contents(count: u32, every_packet: bool) -> impl Iterator<Item = Content> {
    const WORDS: [&str; 8] = [
        "cmd.exe /c ",
        "/cgi-bin/",
        "union select ",
        "../../etc/",
        "powershell -e",
        "jndi:ldap://",
        "<script src=",
        "\\x90\\x90",
    ];
    (0..count).map(move |number| {
        let text = format!("{}{number:04}", WORDS[number as usize % WORDS.len()]);
        let pattern = match number % 10 {
            8 => Pattern::At {
                offset: number % 4,
                bytes: text.into_bytes(),
                mask: vec![0xff; WORDS[number as usize % WORDS.len()].len() + 4],
            },
            9 => Pattern::Regex(format!("(?i)token[0-9]+={number:04}[a-f]{{4}}")),
            other => Pattern::Contains {
                bytes: text.into_bytes(),
                ignore_case: other >= 6,
            },
        };
        Content {
            pattern: Some(pattern),
            min_len: 1,
            max_len: None,
            scope: Scope::Packet,
            every_packet,
        }
    })
}

/// An enforced plan. What is queued and does not fit is dropped, as the peers do.
pub(super) fn plan(rules: impl IntoIterator<Item = Rule>) -> Plan {
    Plan {
        mode: Mode::Enforce,
        on_failure: OnFailure::Closed,
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
