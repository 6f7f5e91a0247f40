//! Verdicts with their reasons, packet by packet.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod common;

use std::time::Duration;

use Direction::{Forward, In, Out};
use Verdict::{Allow, Drop, Reject};
use common::*;
use engine::{
    BanOrigin, BanRefused, Essential, EventBody, FragmentFault, Impossible, Invalid, Reason,
    Verdict,
};
use policy::{
    Action, DefaultAction, Defaults, Direction, NamedSet, Plan, Protocols, Rule, RuleId, SetId,
    Timestamp,
};

#[test]
fn the_first_match_decides_and_the_default_follows() {
    let mut bench = Bench::new(plan(vec![
        Rule {
            from: from(&["203.0.113.0/28"]),
            ..tcp_port(Action::Reject, 22)
        },
        tcp_port(Action::Allow, 22),
        Rule {
            directions: policy::Directions::one(Out),
            protocols: Protocols::one(17),
            port: policy::PortSet::from_ranges([(53, 53)]),
            ..rule(Action::Deny)
        },
    ]));
    for (direction, bytes, verdict, reason) in [
        (
            In,
            tcp(CLIENT, 40_000, HOST, 22, SYN, 1, b""),
            Reject,
            Reason::Rule(RuleId(0)),
        ),
        (
            In,
            tcp("203.0.113.99", 40_000, HOST, 22, SYN, 1, b""),
            Allow,
            Reason::Rule(RuleId(1)),
        ),
        (
            In,
            tcp(CLIENT6, 40_000, HOST6, 22, SYN, 1, b""),
            Allow,
            Reason::Rule(RuleId(1)),
        ),
        (
            In,
            tcp(CLIENT, 40_000, HOST, 23, SYN, 1, b""),
            Drop,
            Reason::Default(In),
        ),
        (
            Out,
            tcp(HOST, 40_000, CLIENT, 22, SYN, 1, b""),
            Allow,
            Reason::Default(Out),
        ),
        (
            Out,
            udp(HOST, 5_000, CLIENT, 53, b"?"),
            Drop,
            Reason::Rule(RuleId(2)),
        ),
        (
            Forward,
            udp(CLIENT, 5_000, "198.51.100.1", 53, b"?"),
            Drop,
            Reason::Default(Forward),
        ),
    ] {
        let decision = bench.packet(direction, &bytes);
        assert_eq!(
            (decision.verdict, decision.reason),
            (verdict, reason),
            "{bytes:?}"
        );
    }
    assert_eq!(bench.engine.rule_hits(), [1, 2, 1]);
    let totals = *bench.engine.totals();
    assert_eq!(
        (
            totals.packets,
            totals.allowed,
            totals.dropped,
            totals.rejected
        ),
        (7, 3, 3, 1)
    );
}

#[test]
fn answers_of_allowed_flows_pass_and_others_do_not() {
    for (client, host) in [(CLIENT, HOST), (CLIENT6, HOST6)] {
        let mut bench = Bench::new(plan(vec![tcp_port(Action::Allow, 80)]));
        for (direction, bytes, verdict, reason) in [
            (
                In,
                tcp(client, 4_000, host, 80, SYN, 1, b""),
                Allow,
                Reason::Rule(RuleId(0)),
            ),
            (
                In,
                tcp(client, 4_000, host, 80, SYN, 1, b""),
                Allow,
                Reason::Rule(RuleId(0)),
            ),
            (
                Out,
                tcp(host, 80, client, 4_000, SYN_ACK, 1, b""),
                Allow,
                Reason::Established,
            ),
            (
                In,
                tcp(client, 4_000, host, 80, ACK, 2, b""),
                Allow,
                Reason::Established,
            ),
            (
                In,
                tcp(client, 4_000, host, 81, ACK, 2, b""),
                Drop,
                Reason::Default(In),
            ),
            (
                In,
                tcp(client, 4_001, host, 80, SYN_ACK, 2, b""),
                Drop,
                Reason::Invalid(Invalid::TcpNoConnection),
            ),
            (
                In,
                tcp(client, 4_001, host, 80, RST, 2, b""),
                Drop,
                Reason::Invalid(Invalid::TcpNoConnection),
            ),
            (
                In,
                tcp(client, 4_001, host, 80, 0, 2, b""),
                Drop,
                Reason::Impossible(Impossible::TcpFlags),
            ),
            (
                In,
                tcp(client, 4_001, host, 80, 0x29, 2, b""),
                Drop,
                Reason::Impossible(Impossible::TcpFlags),
            ),
            (
                Out,
                udp(host, 5_000, client, 53, b"?"),
                Allow,
                Reason::Default(Out),
            ),
            (
                In,
                udp(client, 53, host, 5_000, b"!"),
                Allow,
                Reason::Established,
            ),
            (
                In,
                udp(client, 53, host, 5_001, b"!"),
                Drop,
                Reason::Default(In),
            ),
            (
                Out,
                ping(host, client, 9, false),
                Allow,
                Reason::Default(Out),
            ),
            (In, ping(client, host, 9, true), Allow, Reason::Established),
            (
                In,
                ping(client, host, 8, true),
                Drop,
                Reason::Invalid(Invalid::IcmpNoFlow),
            ),
            (In, ping(client, host, 9, false), Drop, Reason::Default(In)),
        ] {
            let decision = bench.packet(direction, &bytes);
            assert_eq!(
                (decision.verdict, decision.reason),
                (verdict, reason),
                "{direction} {bytes:?}"
            );
        }
        assert_eq!(bench.engine.totals().flows, 3);
    }
}

#[test]
fn icmp_errors_belong_to_the_flow_they_quote() {
    for (client, host) in [(CLIENT, HOST), (CLIENT6, HOST6)] {
        let mut bench = Bench::new(plan(vec![]));
        let query = udp(host, 5_000, client, 53, b"?");
        assert_eq!(bench.verdict(Out, &query), Allow);
        assert_eq!(
            bench.packet(In, &unreachable(client, host, &query)).reason,
            Reason::Related
        );
        let stranger = udp(host, 5_000, client, 54, b"?");
        assert_eq!(
            bench
                .packet(In, &unreachable(client, host, &stranger))
                .reason,
            Reason::Invalid(Invalid::IcmpNoFlow)
        );
        let elsewhere = if client.contains(':') {
            "2001:db8:2::9"
        } else {
            "192.0.2.9"
        };
        let misdirected = bench.packet(In, &unreachable(client, elsewhere, &query));
        assert_eq!(
            misdirected.verdict, Drop,
            "an error goes to the sender of what it quotes"
        );
    }
}

#[test]
fn what_a_network_needs_passes_and_can_be_denied() {
    let mut solicitation = vec![0x60, 0, 0, 0, 0, 24, 58, 255];
    solicitation.extend("fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    solicitation.extend(
        "ff02::1:ff00:1"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    solicitation.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    solicitation.extend(HOST6.parse::<std::net::Ipv6Addr>().unwrap().octets());
    let mut bench = Bench::new(plan(vec![]));
    assert_eq!(
        bench.packet(In, &solicitation).reason,
        Reason::Essential(Essential::NeighbourDiscovery)
    );
    let offer = udp("192.0.2.254", 67, "192.0.2.1", 68, b"dhcp");
    assert_eq!(
        bench.packet(In, &offer).reason,
        Reason::Essential(Essential::Dhcp)
    );
    solicitation[7] = 64;
    assert_eq!(
        bench.packet(In, &solicitation).reason,
        Reason::Default(In),
        "a router on the way is no neighbour"
    );

    let mut denied = Bench::new(plan(vec![Rule {
        protocols: Protocols::one(17),
        ..rule(Action::Deny)
    }]));
    assert_eq!(denied.packet(In, &offer).reason, Reason::Rule(RuleId(0)));
    let mut off = Bench::new(Plan {
        essentials: false,
        ..plan(vec![])
    });
    assert_eq!(off.packet(In, &offer).reason, Reason::Default(In));
}

#[test]
fn martians_are_dropped() {
    let mut bench = Bench::new(Plan {
        default: Defaults {
            inbound: DefaultAction::Allow,
            ..Defaults::default()
        },
        ..plan(vec![])
    });
    for (source, destination, reason) in [
        ("127.0.0.1", HOST, Some(Impossible::MartianSource)),
        ("224.0.0.1", HOST, Some(Impossible::MartianSource)),
        ("255.255.255.255", HOST, Some(Impossible::MartianSource)),
        ("0.1.2.3", HOST, Some(Impossible::MartianSource)),
        ("::1", HOST6, Some(Impossible::MartianSource)),
        (CLIENT, "127.0.0.1", Some(Impossible::MartianDestination)),
        (CLIENT6, "::1", Some(Impossible::MartianDestination)),
        (CLIENT, "224.0.0.251", None),
        ("240.0.0.1", HOST, None),
    ] {
        let decision = bench.packet(In, &udp(source, 1, destination, 2, b""));
        match reason {
            Some(kind) => assert_eq!(
                decision.reason,
                Reason::Impossible(kind),
                "{source} > {destination}"
            ),
            None => assert_eq!(decision.verdict, Allow, "{source} > {destination}"),
        }
    }
    assert_eq!(
        bench.verdict(In, &udp("0.0.0.0", 68, "255.255.255.255", 67, b"discover")),
        Allow
    );
}

#[test]
fn bans_cut_flows_and_end_by_themselves() {
    let mut bench = Bench::new(plan(vec![tcp_port(Action::Allow, 80)]));
    let (syn, answer) = (
        tcp(CLIENT, 4_000, HOST, 80, SYN, 1, b""),
        tcp(HOST, 80, CLIENT, 4_000, SYN_ACK, 1, b""),
    );
    assert_eq!(bench.verdict(In, &syn), Allow);
    assert_eq!(bench.verdict(Out, &answer), Allow);
    let prefix = "203.0.113.7/32".parse().unwrap();
    bench
        .engine
        .ban(
            bench.now,
            prefix,
            Some(Duration::from_secs(10)),
            BanOrigin::Manual,
            "test".into(),
        )
        .unwrap();
    let data = tcp(CLIENT, 4_000, HOST, 80, ACK, 2, b"x");
    assert_eq!(bench.packet(In, &data).reason, Reason::Banned(prefix));
    assert_eq!(
        bench.packet(Out, &answer).reason,
        Reason::Banned(prefix),
        "nothing goes to it either"
    );
    assert_eq!(
        bench.packet(In, &ping(CLIENT, HOST, 1, false)).reason,
        Reason::Banned(prefix),
        "every protocol"
    );
    bench.pass(10_000);
    assert_eq!(bench.packet(In, &data).reason, Reason::Established);
    let events = bench.events();
    assert!(
        events
            .iter()
            .any(|event| matches!(&event.body, EventBody::Ban(ban) if ban.prefix == prefix))
    );
    assert!(events.iter().any(|event| matches!(
        &event.body,
        EventBody::Unban {
            end: engine::BanEnd::Expired,
            ..
        }
    )));
    assert_eq!(bench.engine.bans().count(), 0);
}

#[test]
fn protected_addresses_are_neither_banned_nor_dropped_by_a_feed() {
    let mut policy = plan(vec![tcp_port(Action::Allow, 80)]);
    policy.sets = vec![NamedSet {
        name: "feed".into(),
        addresses: set(&["203.0.113.0/24", "198.51.100.0/24"]),
    }];
    policy.feeds = vec![SetId(0)];
    policy.protect.addresses = set(&["203.0.113.7/32"]);
    let mut bench = Bench::new(policy);
    assert_eq!(
        bench
            .packet(In, &tcp("203.0.113.8", 1, HOST, 80, SYN, 1, b""))
            .reason,
        Reason::Feed(SetId(0))
    );
    assert_eq!(
        bench
            .packet(Out, &tcp(HOST, 1, "198.51.100.9", 80, SYN, 1, b""))
            .reason,
        Reason::Feed(SetId(0))
    );
    assert_eq!(
        bench
            .packet(In, &tcp(CLIENT, 1, HOST, 80, SYN, 1, b""))
            .reason,
        Reason::Rule(RuleId(0))
    );
    assert_eq!(
        bench
            .packet(In, &tcp(CLIENT, 1, HOST, 81, SYN, 1, b""))
            .reason,
        Reason::Default(In),
        "rules still apply"
    );
    let refused = bench.engine.ban(
        bench.now,
        "203.0.113.0/24".parse().unwrap(),
        None,
        BanOrigin::Manual,
        "all".into(),
    );
    assert!(matches!(refused, Err(BanRefused::Protected { .. })));
    assert!(
        bench
            .events()
            .iter()
            .any(|event| matches!(event.body, EventBody::BanRefused { .. }))
    );
}

#[test]
fn a_rule_ends_at_its_expiry() {
    let until = Timestamp::from_secs(1_000_010);
    let mut bench = Bench::new(plan(vec![Rule {
        expires: Some(until),
        ..tcp_port(Action::Allow, 80)
    }]));
    assert_eq!(
        bench.verdict(In, &tcp(CLIENT, 1, HOST, 80, SYN, 1, b"")),
        Allow
    );
    bench.pass(10_000);
    assert_eq!(
        bench.verdict(In, &tcp(CLIENT, 2, HOST, 80, SYN, 1, b"")),
        Drop
    );
}

#[test]
fn fragments_are_decided_as_one_datagram() {
    let whole = udp(CLIENT, 1_000, HOST, 53, &[7; 3_000]);
    let fragments = |sizes: &[usize]| -> Vec<Vec<u8>> {
        let (mut at, mut out) = (0, Vec::new());
        for (place, size) in sizes.iter().enumerate() {
            let end = (at + size).min(whole.len() - 20);
            let mut bytes = whole[..20].to_vec();
            bytes.extend_from_slice(&whole[20 + at..20 + end]);
            let more = place + 1 < sizes.len();
            let length = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes[4..6].copy_from_slice(&[0x12, 0x34]);
            bytes[6..8].copy_from_slice(&((at / 8) as u16 | u16::from(more) << 13).to_be_bytes());
            bytes[10..12].copy_from_slice(&[0, 0]);
            let mut sum: u32 = bytes[..20]
                .chunks(2)
                .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
                .sum();
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            bytes[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
            at = end;
            out.push(bytes);
        }
        out
    };
    let dns = Rule {
        protocols: Protocols::one(17),
        port: policy::PortSet::from_ranges([(53, 53)]),
        ..rule(Action::Allow)
    };
    let mut bench = Bench::new(plan(vec![dns]));
    let mut pieces = fragments(&[1_000, 1_000, 4_000]);
    pieces.reverse();
    for held in &pieces[..2] {
        assert_eq!(
            bench.packet(In, held).reason,
            Reason::Fragment(FragmentFault::Held)
        );
    }
    assert_eq!(bench.packet(In, &pieces[2]).reason, Reason::Rule(RuleId(0)));
    assert_eq!(bench.engine.totals().allowed, 3);

    // An incomplete one falls in time, an overlapping one at once.
    assert_eq!(
        bench.packet(In, &pieces[0]).reason,
        Reason::Fragment(FragmentFault::Held)
    );
    bench.pass(31_000);
    bench.engine.advance(bench.now);
    assert_eq!(bench.engine.totals().dropped, 1);
    let overlapping = fragments(&[1_008, 1_000, 4_000]);
    assert_eq!(
        bench.packet(In, &pieces[2]).reason,
        Reason::Fragment(FragmentFault::Held)
    );
    assert_eq!(
        bench.packet(In, &pieces[1]).reason,
        Reason::Fragment(FragmentFault::Held)
    );
    assert_eq!(
        bench.packet(In, &overlapping[1]).reason,
        Reason::Fragment(FragmentFault::Overlap)
    );
    assert_eq!(bench.engine.totals().dropped, 4);
    let totals = bench.engine.totals();
    assert_eq!(
        totals.packets,
        totals.allowed + totals.dropped + totals.rejected
    );
}

#[test]
fn flows_and_bans_survive_a_reload() {
    let mut bench = Bench::new(plan(vec![tcp_port(Action::Allow, 80)]));
    bench.verdict(In, &tcp(CLIENT, 4_000, HOST, 80, SYN, 1, b""));
    bench.verdict(Out, &tcp(HOST, 80, CLIENT, 4_000, SYN_ACK, 1, b""));
    let prefix = "198.51.100.1/32".parse().unwrap();
    bench
        .engine
        .ban(bench.now, prefix, None, BanOrigin::Manual, "test".into())
        .unwrap();
    bench.engine.reload(plan(vec![]).into());
    assert_eq!(
        bench
            .packet(In, &tcp(CLIENT, 4_000, HOST, 80, ACK, 2, b""))
            .reason,
        Reason::Established
    );
    assert_eq!(
        bench.verdict(In, &tcp(CLIENT, 4_001, HOST, 80, SYN, 1, b"")),
        Drop
    );
    assert_eq!(
        bench
            .packet(In, &tcp("198.51.100.1", 1, HOST, 80, SYN, 1, b""))
            .reason,
        Reason::Banned(prefix)
    );
}

/// Behind a first packet that is not let through, nothing is established (`nf_confirm` is never reached).
#[test]
fn a_refused_first_packet_begins_no_flow() {
    let mut evil = tcp_port(Action::Deny, 80);
    evil.content = Some(policy::Content {
        pattern: Some(policy::Pattern::Contains {
            bytes: b"evil".to_vec(),
            ignore_case: false,
        }),
        min_len: 1,
        max_len: None,
        scope: policy::Scope::Stream { depth: 1_000 },
        every_packet: false,
    });
    let mut bench = Bench::new(plan(vec![evil, tcp_port(Action::Allow, 80)]));
    let picked_up = tcp(CLIENT, 40_000, HOST, 80, ACK, 1, b"evil");
    assert_eq!(bench.verdict(Direction::In, &picked_up), Verdict::Drop);
    assert_eq!(bench.engine.flows().count(), 0);
    // It answers nothing: the rules are asked, and going out is allowed by the default alone.
    let answer = tcp(HOST, 80, CLIENT, 40_000, ACK, 1, b"");
    let decision = bench.packet(Direction::Out, &answer);
    assert_eq!(decision.reason, Reason::Default(Direction::Out));
}

/// A SYN that is answered by a reset, or taken back by one, leaves nothing behind that a SYN+ACK or a FIN could belong to.
#[test]
fn a_connection_that_is_reset_unanswered_is_forgotten() {
    for (direction, from, to) in [
        (Direction::In, CLIENT, HOST),
        (Direction::Out, HOST, CLIENT),
    ] {
        let mut bench = Bench::new(plan(vec![rule(Action::Allow)]));
        let ports = |source: &str| {
            if source == CLIENT {
                (40_000, 80)
            } else {
                (80, 40_000)
            }
        };
        let syn = tcp(CLIENT, 40_000, HOST, 80, SYN, 1, b"");
        assert_eq!(bench.verdict(Direction::In, &syn), Verdict::Allow);
        let (source_port, port) = ports(from);
        let reset = tcp(from, source_port, to, port, RST, 2, b"");
        assert_eq!(bench.verdict(direction, &reset), Verdict::Allow);
        for flags in [SYN_ACK, FIN_ACK, RST] {
            let late = tcp(HOST, 80, CLIENT, 40_000, flags, 9, b"");
            let decision = bench.packet(Direction::Out, &late);
            assert_eq!(
                decision.reason,
                Reason::Invalid(engine::Invalid::TcpNoConnection),
                "{flags:#x} behind a reset that went {direction}"
            );
        }
    }
}
