//! One event of every kind, for the tests of the writers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use engine::event::PacketFacts;
use engine::*;
use policy::{Action, Direction, Plan, Position, Rule, RuleId, Timestamp};
use wire::{FiveTuple, MalformedKind};

/// A plan with one hostile rule name.
pub(crate) fn plan() -> Plan {
    let rule = Rule {
        id: RuleId(0),
        name: "ssh \u{1b}[31mred\n\u{202e}".to_owned(),
        action: Action::Deny,
        directions: policy::Directions::ALL,
        protocols: policy::Protocols::ANY,
        from: policy::AddressMatch::Any,
        to: policy::AddressMatch::Any,
        source_port: policy::PortSet::Any,
        port: policy::PortSet::Any,
        interface: None,
        log: true,
        content: None,
        rate: None,
        expires: None,
        position: Position {
            file: "policy.toml".to_owned(),
            line: 12,
            column: 1,
        },
    };
    Plan {
        rules: vec![rule],
        essentials: true,
        ..Plan::default()
    }
}

pub(crate) fn tuple(protocol: u8, v6: bool) -> FiveTuple {
    let ports = policy::protocol::has_ports(protocol);
    let (source, destination) = if v6 {
        ("2001:db8::7", "2001:db8::1")
    } else {
        ("203.0.113.7", "192.0.2.1")
    };
    FiveTuple {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol,
        source_port: ports.then_some(40_000),
        destination_port: ports.then_some(22),
    }
}

pub(crate) fn ban() -> Ban {
    Ban {
        prefix: "203.0.113.7/32".parse().unwrap(),
        origin: BanOrigin::Detector(Detector::Blocked),
        reason: "51 denied packets in 60 s".to_owned(),
        since: Timestamp::from_secs(1_767_225_600),
        expires: Timestamp::from_secs(1_767_226_200),
        times_banned: 1,
        offences: 0,
        grew_from: Vec::new(),
        would_be: false,
        evidence: Some(evidence()),
    }
}

fn evidence() -> Evidence {
    Evidence {
        count: 51,
        threshold: 50,
        window: Duration::from_secs(60),
        first: Timestamp::from_secs(1_767_225_590),
        last: Timestamp::from_secs(1_767_225_600),
        first_packet: tuple(6, false),
        last_packet: tuple(6, false),
        proven: true,
        pattern: Pattern::Scan {
            shape: Shape::Vertical,
            technique: Technique::Syn,
            distinct: 51,
        },
    }
}

/// Every reason that drops a packet.
pub(crate) fn reasons() -> Vec<Reason> {
    let mut reasons = vec![
        Reason::Banned("203.0.113.0/24".parse().unwrap()),
        Reason::Feed(policy::SetId(0)),
        Reason::Rule(RuleId(0)),
        Reason::Rule(RuleId(7)),
        Reason::Limited(RuleId(0)),
        Reason::Flood(Detector::Rate),
        Reason::Default(Direction::In),
        Reason::Default(Direction::Out),
        Reason::Default(Direction::Forward),
        Reason::NotIp,
        Reason::Established,
        Reason::Related,
    ];
    reasons.extend(MalformedKind::ALL.iter().copied().map(Reason::Malformed));
    reasons.extend(Impossible::ALL.iter().copied().map(Reason::Impossible));
    reasons.extend(FragmentFault::ALL.iter().copied().map(Reason::Fragment));
    reasons.extend(Invalid::ALL.iter().copied().map(Reason::Invalid));
    reasons.extend(Essential::ALL.iter().copied().map(Reason::Essential));
    reasons.extend(DNS_REFUSALS.map(Reason::Dns));
    reasons
}

const DNS_REFUSALS: [DnsRefusal; 8] = [
    DnsRefusal::Blocked(DnsEntry {
        reach: policy::names::Reach::Both,
        source: policy::names::SourceId::FIRST,
    }),
    DnsRefusal::Defect(wire::dns::Defect::Truncated),
    DnsRefusal::Questions,
    DnsRefusal::Opcode(6),
    DnsRefusal::TooLong,
    DnsRefusal::BeginUnseen,
    DnsRefusal::Ambiguous,
    DnsRefusal::Memory,
];

/// Every kind of event.
pub(crate) fn events() -> Vec<Event> {
    let mut bodies = Vec::new();
    let packet = PacketFacts {
        len: 60,
        hop_limit: 64,
        tcp_flags: Some(0x12),
        icmp: None,
    };
    for reason in reasons() {
        for verdict in [Verdict::Drop, Verdict::Reject] {
            bodies.push(EventBody::Drop {
                verdict,
                reason,
                packet,
            });
        }
    }
    for malformed in MalformedKind::ALL {
        bodies.push(EventBody::Anomaly {
            name: malformed.name(),
            malformed: Some(*malformed),
        });
    }
    for impossible in Impossible::ALL {
        bodies.push(EventBody::Anomaly {
            name: impossible.name(),
            malformed: None,
        });
    }
    for (name, blocked, entry) in [
        ("x\\027.ads.example", Some(policy::DnsAnswer::Zero), true),
        ("ads.example", Some(policy::DnsAnswer::Drop), true),
        ("fine.example", None, true),
        ("", None, false),
    ] {
        bodies.push(EventBody::Dns(DnsQuestion {
            id: 7,
            name: name.into(),
            record_type: wire::dns::RecordType::AAAA,
            blocked,
            entry: entry.then(|| DnsListed {
                entry: ".ads.example".into(),
                source: "lists/ads\u{1b}[2J.txt".into(),
            }),
        }));
    }
    bodies.push(EventBody::Logged {
        rule: RuleId(0),
        packet,
    });
    for verdict in [Verdict::Allow, Verdict::Drop, Verdict::Reject] {
        for rule in [RuleId(0), RuleId(7)] {
            let host = |field, host: &str| engine::AskedHost {
                field,
                host: host.into(),
            };
            for host in [
                None,
                Some(host(policy::HostField::Sni, "www.ads.example")),
                Some(host(policy::HostField::HttpHost, "[2001:db8::1]")),
            ] {
                bodies.push(EventBody::Alert(Alert::Content {
                    rule,
                    verdict,
                    host,
                }));
            }
        }
    }
    for detector in Detector::ALL {
        bodies.push(EventBody::Alert(Alert::Detector {
            detector,
            evidence: evidence(),
            banned: true,
        }));
    }
    for ended in [
        None,
        Some(FlowEnd::Closed),
        Some(FlowEnd::TimedOut),
        Some(FlowEnd::Evicted),
        Some(FlowEnd::Shutdown),
    ] {
        bodies.push(EventBody::Flow(FlowRecord {
            start: Timestamp::from_secs(1_767_225_600),
            end: Timestamp::from_secs(1_767_225_601),
            packets_to_server: 5,
            packets_to_client: 4,
            bytes_to_server: 500,
            bytes_to_client: 400,
            tcp_state: Some("ESTABLISHED"),
            reason: Reason::Rule(RuleId(0)),
            ended,
            name: ended.map(|_| "www.good.example".into()),
        }));
    }
    bodies.push(EventBody::Ban(ban()));
    for origin in [
        BanOrigin::Manual,
        BanOrigin::Import,
        BanOrigin::Kernel,
        BanOrigin::Rule("r".to_owned()),
    ] {
        let lasting = Ban {
            origin,
            expires: Timestamp::MAX,
            evidence: None,
            ..ban()
        };
        bodies.push(EventBody::Ban(lasting));
    }
    for (would_be, end) in [
        (false, BanEnd::Expired),
        (false, BanEnd::Lifted),
        (true, BanEnd::Expired),
        (true, BanEnd::Lifted),
        (true, BanEnd::NotEnforced),
    ] {
        let ban = Ban { would_be, ..ban() };
        bodies.push(EventBody::Unban { ban, end });
    }
    bodies.push(EventBody::BanRefused {
        refused: BanRefused::Protected {
            prefix: "192.0.2.0/24".parse().unwrap(),
            address: "192.0.2.1".parse().unwrap(),
        },
        origin: BanOrigin::Manual,
    });
    bodies.push(EventBody::BanRefused {
        refused: BanRefused::Full { capacity: 3 },
        origin: BanOrigin::Detector(Detector::Rate),
    });

    let mut events = Vec::new();
    for body in bodies {
        for (protocol, v6) in [
            (6, false),
            (17, true),
            (1, false),
            (58, true),
            (47, false),
            (253, true),
        ] {
            let mut body = body.clone();
            if let EventBody::Drop { packet, .. } | EventBody::Logged { packet, .. } = &mut body {
                packet.tcp_flags = packet.tcp_flags.filter(|_| protocol == 6);
                packet.icmp = matches!(protocol, 1 | 58).then_some((3, 1));
            }
            events.push(Event {
                at: Timestamp::from_nanos(1_767_225_600_123_456_789),
                tuple: Some(tuple(protocol, v6)),
                direction: Some(Direction::In),
                interface: Some("eth0\u{1b}[2J\n".into()),
                flow_id: Some((1 << 53) - 1),
                body,
            });
        }
        events.push(Event {
            at: Timestamp::from_secs(1),
            tuple: None,
            direction: None,
            interface: None,
            flow_id: None,
            body: events[events.len() - 1].body.clone(),
        });
    }
    events
}
