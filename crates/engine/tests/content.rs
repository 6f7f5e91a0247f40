//! Content rules and what their hits lead to.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod common;

use Direction::{In, Out};
use Verdict::{Allow, Drop};
use common::*;
use engine::{Detector, EventBody, Inspect, Known, Reason, Tracked, Verdict};
use policy::{
    Action, Content, Direction, Pattern, PayloadHits, Plan, Protocols, Rule, RuleId, Scope,
};

fn content(pattern: Pattern, scope: Scope) -> Option<Content> {
    Some(Content {
        pattern: Some(pattern),
        min_len: 1,
        max_len: None,
        scope,
        every_packet: false,
    })
}

fn contains(text: &str) -> Pattern {
    Pattern::Contains {
        bytes: text.as_bytes().to_vec(),
        ignore_case: false,
    }
}

/// The login packet of the game server: 0x68, any byte, 0x00.
fn bad_login() -> Pattern {
    Pattern::At {
        offset: 0,
        bytes: vec![0x68, 0, 0],
        mask: vec![0xff, 0, 0xff],
    }
}

fn game(pattern: Pattern, scope: Scope) -> Plan {
    plan(vec![
        Rule {
            content: content(pattern, scope),
            ..tcp_port(Action::Deny, 4_000)
        },
        tcp_port(Action::Allow, 4_000),
    ])
}

/// Opens a connection to port 4000.
fn open(bench: &mut Bench, client: &str, sport: u16) {
    assert_eq!(
        bench.verdict(In, &tcp(client, sport, HOST, 4_000, SYN, 99, b"")),
        Allow
    );
    assert_eq!(
        bench.verdict(
            Out,
            &acknowledging(100, tcp(HOST, 4_000, client, sport, SYN_ACK, 499, b""))
        ),
        Allow
    );
    assert_eq!(
        bench.verdict(In, &tcp(client, sport, HOST, 4_000, ACK, 100, b"")),
        Allow
    );
}

#[test]
fn bad_bytes_are_dropped_and_others_play_on() {
    let mut bench = Bench::new(game(bad_login(), Scope::Packet));
    open(&mut bench, CLIENT, 5_000);
    for (payload, verdict) in [
        (&b"\x68\x42\x00 rest"[..], Drop),
        (b"\x68\x42\x01", Allow),
        (b"\x68\x42", Allow),
        (b"hello", Allow),
    ] {
        let decision = bench.packet(In, &tcp(CLIENT, 5_000, HOST, 4_000, ACK, 100, payload));
        assert_eq!(decision.verdict, verdict, "{payload:?}");
        assert_eq!(
            decision.reason,
            if verdict == Drop {
                Reason::Rule(RuleId(0))
            } else {
                Reason::Established
            }
        );
    }
}

#[test]
fn repeated_hits_ban_the_source() {
    let mut policy = game(bad_login(), Scope::Packet);
    policy.detect.payload = Some(PayloadHits {
        hits: 3,
        ..PayloadHits::default()
    });
    let mut bench = Bench::new(policy);
    open(&mut bench, CLIENT, 5_000);
    open(&mut bench, "203.0.113.8", 5_000);
    // The same segment comes again, as its sender waits for an answer: one offence.
    for sequence in [100, 103, 103, 103, 103, 106] {
        let bad = tcp(CLIENT, 5_000, HOST, 4_000, ACK, sequence, b"\x68\x00\x00");
        assert_eq!(bench.packet(In, &bad).reason, Reason::Rule(RuleId(0)));
    }
    let late = tcp(CLIENT, 5_000, HOST, 4_000, ACK, 109, b"\x68\x00\x00");
    assert!(matches!(bench.packet(In, &late).reason, Reason::Banned(_)));
    assert_eq!(
        bench.verdict(
            In,
            &tcp("203.0.113.8", 5_000, HOST, 4_000, ACK, 100, b"play")
        ),
        Allow
    );
    let events = bench.events();
    let ban = events.iter().find_map(|event| match &event.body {
        EventBody::Ban(ban) => Some(ban.clone()),
        _ => None,
    });
    let evidence = ban.unwrap().evidence.unwrap();
    assert_eq!((evidence.count, evidence.threshold), (3, 3));
}

/// What was under way behind it and what is sent again, at most fifteen times (`tcp_retries2`), is no further offence.
#[test]
fn one_stopped_request_is_one_denial_however_often_it_is_sent_again() {
    for (scope, action, hits) in [
        (Scope::Packet, Action::Deny, 2),
        (Scope::Packet, Action::Reject, 2),
        (Scope::Stream { depth: 4_096 }, Action::Deny, 1),
        (Scope::Stream { depth: 4_096 }, Action::Reject, 1),
    ] {
        let mut policy = game(contains("evil"), scope);
        policy.rules[0].action = action;
        policy.detect.payload = Some(PayloadHits::default());
        policy.detect.blocked = Some(policy::Blocked::default());
        let mut bench = Bench::new(policy);
        open(&mut bench, CLIENT, 5_000);
        bench.events();
        let segment = |sequence: u32| {
            let evil: &[u8] = match sequence {
                100 | 106 => b"evil..",
                _ => b"body..",
            };
            tcp(CLIENT, 5_000, HOST, 4_000, ACK, sequence, evil)
        };
        for sequence in (100..1_000).step_by(6) {
            bench.packet(In, &segment(sequence));
        }
        for _ in 0..15 {
            bench.pass(200);
            for sequence in [100, 106, 112] {
                let verdict = bench.packet(In, &segment(sequence)).verdict;
                assert!(verdict != Allow || sequence == 112);
            }
            // In one segment, as senders do (`tcp_retrans_try_collapse`).
            let both = tcp(CLIENT, 5_000, HOST, 4_000, ACK, 100, b"evil..evil..");
            assert_ne!(bench.packet(In, &both).verdict, Allow);
        }
        assert_eq!(bench.engine.bans().count(), 0, "{scope:?} {action:?}");
        let events = bench.events().into_iter();
        let alerts = events.filter(|event| matches!(event.body, EventBody::Alert(_)));
        assert_eq!(alerts.count(), hits, "{scope:?} {action:?}");
        // Each request that is stopped is one all the same.
        for sport in 5_001..5_004 - hits as u16 {
            open(&mut bench, CLIENT, sport);
            let evil = tcp(CLIENT, sport, HOST, 4_000, ACK, 100, b"evil..");
            assert_ne!(bench.packet(In, &evil).verdict, Allow);
        }
        assert_eq!(bench.engine.bans().count(), 1, "{scope:?} {action:?}");
    }
}

#[test]
fn a_spoofer_cannot_have_others_banned_by_content() {
    let mut policy = game(bad_login(), Scope::Packet);
    policy.detect.payload = Some(PayloadHits {
        hits: 1,
        ..PayloadHits::default()
    });
    let mut bench = Bench::new(policy);
    for sport in 1..100 {
        bench.packet(
            In,
            &tcp(CLIENT, sport, HOST, 4_000, ACK, 100, b"\x68\x00\x00"),
        );
    }
    assert_eq!(bench.engine.bans().count(), 0, "no handshake, no ban");
}

#[test]
fn a_split_pattern_is_found_in_the_stream_and_not_in_packets() {
    for at in 1..6 {
        let (first, second) = b"EVIL!!".split_at(at);
        for (scope, verdict) in [
            (Scope::Stream { depth: 4_096 }, Drop),
            (Scope::Packet, Allow),
        ] {
            let mut bench = Bench::new(game(contains("EVIL!!"), scope));
            open(&mut bench, CLIENT, 5_000);
            assert_eq!(
                bench.verdict(In, &tcp(CLIENT, 5_000, HOST, 4_000, ACK, 100, first)),
                Allow
            );
            let rest = tcp(CLIENT, 5_000, HOST, 4_000, ACK, 100 + at as u32, second);
            assert_eq!(bench.verdict(In, &rest), verdict, "cut at {at}, {scope:?}");
            assert_eq!(bench.verdict(In, &rest), verdict, "sent again");
        }
    }
}

#[test]
fn segments_out_of_order_do_not_hide_a_pattern() {
    let mut bench = Bench::new(game(contains("EVIL!!"), Scope::Stream { depth: 4_096 }));
    open(&mut bench, CLIENT, 5_000);
    assert_eq!(
        bench.verdict(In, &tcp(CLIENT, 5_000, HOST, 4_000, ACK, 103, b"L!!")),
        Allow
    );
    assert_eq!(
        bench.verdict(In, &tcp(CLIENT, 5_000, HOST, 4_000, ACK, 100, b"EVI")),
        Drop
    );
}

#[test]
fn a_flow_is_settled_after_its_depth() {
    let mut bench = Bench::new(game(contains("EVIL"), Scope::Stream { depth: 100 }));
    open(&mut bench, CLIENT, 5_000);
    let first = bench.packet(In, &tcp(CLIENT, 5_000, HOST, 4_000, ACK, 100, &[b'.'; 60]));
    assert_eq!(first.inspect, Inspect::More);
    let second = bench.packet(In, &tcp(CLIENT, 5_000, HOST, 4_000, ACK, 160, &[b'.'; 60]));
    assert_eq!(second.inspect, Inspect::Settled);
    let late = bench.packet(In, &tcp(CLIENT, 5_000, HOST, 4_000, ACK, 220, b"EVIL"));
    assert_eq!((late.verdict, late.inspect), (Allow, Inspect::None));
}

#[test]
fn udp_content_is_asked_of_the_first_packet() {
    let deny = Rule {
        protocols: Protocols::one(17),
        content: content(contains("EVIL"), Scope::Packet),
        directions: policy::Directions::one(In),
        ..rule(Action::Deny)
    };
    let allow = Rule {
        protocols: Protocols::one(17),
        directions: policy::Directions::one(In),
        ..rule(Action::Allow)
    };
    let mut bench = Bench::new(plan(vec![deny, allow]));
    assert_eq!(
        bench.verdict(In, &udp(CLIENT, 1, HOST, 9, b"an EVIL one")),
        Drop
    );
    assert_eq!(
        bench.verdict(In, &udp(CLIENT, 1, HOST, 9, b"a good one")),
        Allow
    );
    assert_eq!(
        bench.verdict(Out, &udp(HOST, 9, CLIENT, 1, b"answer with EVIL")),
        Allow,
        "the rule is for what comes in"
    );
    assert_eq!(
        bench.verdict(In, &udp(CLIENT, 1, HOST, 9, b"EVIL again")),
        Drop
    );
}

#[test]
fn datagrams_that_anybody_can_send_ban_for_the_first_step_and_no_protected_address() {
    let deny = Rule {
        protocols: Protocols::one(17),
        content: content(contains("EVIL"), Scope::Packet),
        directions: policy::Directions::one(In),
        ..rule(Action::Deny)
    };
    let mut policy = plan(vec![deny]);
    policy.default.inbound = policy::DefaultAction::Allow;
    let hits = PayloadHits::default();
    let (needed, first) = (hits.hits as usize, hits.ban);
    policy.detect.payload = Some(hits);
    policy.protect.addresses = set(&["203.0.113.8/32"]);
    let mut bench = Bench::new(policy);
    for round in 0..3 {
        for hit in 0..needed {
            assert_eq!(bench.engine.bans().count(), 0, "{round} {hit}");
            bench.packet(In, &udp("203.0.113.8", 1, HOST, 9, b"EVIL"));
            bench.packet(In, &udp(CLIENT, 1, HOST, 9, b"EVIL"));
        }
        let ban = bench.engine.bans().next().unwrap().clone();
        assert_eq!(ban.prefix.to_string(), "203.0.113.7/32");
        assert!(!ban.evidence.unwrap().proven);
        assert_eq!((ban.expires.since(ban.since), ban.offences), (first, 0));
        bench.now = ban.expires;
        bench.engine.advance(bench.now);
    }
}

#[test]
fn a_rule_behind_the_one_that_let_the_flow_in_is_not_reached() {
    let deny = Rule {
        content: content(contains("EVIL"), Scope::Packet),
        ..tcp_port(Action::Deny, 4_000)
    };
    let mut bench = Bench::new(plan(vec![tcp_port(Action::Allow, 4_000), deny]));
    open(&mut bench, CLIENT, 5_000);
    assert_eq!(
        bench.verdict(In, &tcp(CLIENT, 5_000, HOST, 4_000, ACK, 100, b"EVIL")),
        Allow
    );
}

/// All is denied, and five denied packets ban.
fn five_ban() -> Bench {
    let mut policy = plan(vec![]);
    policy.detect.blocked = Some(policy::Blocked {
        packets: 5,
        ..policy::Blocked::default()
    });
    Bench::new(policy)
}

/// What was asked before rules came into force, or in this host's name.
#[test]
fn answers_of_a_server_do_not_ban_it_but_what_is_none_does() {
    let mut bench = five_ban();
    let server = "198.51.100.9";
    for port in 40_000..40_020 {
        bench.packet(In, &udp(server, 443, HOST, port, b"answer"));
    }
    let syn = |port| tcp(server, 443, HOST, port, SYN, 1, b"");
    for port in 40_000..40_004 {
        bench.packet(In, &syn(port));
    }
    assert_eq!(bench.engine.bans().count(), 0);
    bench.packet(In, &syn(40_004));
    assert_eq!(bench.engine.bans().count(), 1);
}

#[test]
fn denied_packets_ban_but_shouts_do_not() {
    let mut bench = five_ban();
    for port in 1..50 {
        bench.packet(
            In,
            &udp("203.0.113.9", 5_353, "224.0.0.251", 5_353, &[port]),
        );
    }
    assert_eq!(bench.engine.bans().count(), 0);
    for port in 1..=5 {
        assert_eq!(
            bench
                .packet(In, &tcp(CLIENT, 4_000, HOST, port, SYN, 1, b""))
                .reason,
            Reason::Default(In)
        );
    }
    assert!(matches!(
        bench
            .packet(In, &tcp(CLIENT, 4_000, HOST, 6, SYN, 1, b""))
            .reason,
        Reason::Banned(_)
    ));
    let ban = bench.engine.bans().next().unwrap().clone();
    assert_eq!(ban.origin, engine::BanOrigin::Detector(Detector::Blocked));
    assert_eq!(ban.evidence.unwrap().first_packet.destination_port, Some(1));
}

#[test]
fn a_source_over_its_packet_rate_is_banned() {
    let mut policy = plan(vec![Rule {
        protocols: Protocols::one(17),
        ..rule(Action::Allow)
    }]);
    policy.detect.rate = Some(policy::RateLimit {
        packets: 100,
        established: true,
        ..policy::RateLimit::default()
    });
    let mut bench = Bench::new(policy);
    let passed = (0..200)
        .filter(|n| bench.verdict(In, &udp(CLIENT, 1_000 + n, HOST, 9, b"x")) == Allow)
        .count();
    assert_eq!(passed, 100);
    assert_eq!(bench.engine.bans().count(), 1);
    assert_eq!(
        bench.verdict(In, &udp("203.0.113.8", 1, HOST, 9, b"x")),
        Allow
    );
}

/// Of a flow that no rule was seen to let in, the kernel forgot all, and picks it up again.
#[test]
fn what_a_limit_rule_lets_pass_by_its_content_counts_once() {
    let once = policy::Rate {
        amount: 1.try_into().unwrap(),
        unit: policy::RateUnit::Connections,
        per: std::time::Duration::from_secs(60),
        burst: 1.try_into().unwrap(),
    };
    let mut bench = Bench::new(plan(vec![Rule {
        rate: Some(once),
        content: content(contains("x"), Scope::Packet),
        source_port: policy::PortSet::from_ranges([(80, 80)]),
        port: policy::PortSet::default(),
        ..tcp_port(Action::Limit, 80)
    }]));
    for (flow, flags, payload, verdict) in [
        (Tracked::Reply { is_open: false }, RST, &b""[..], Allow),
        (Tracked::New, ACK, b"xx", Allow),
        (Tracked::New, ACK, b"xx", Drop),
    ] {
        let known = Known {
            is_first: verdict == Allow,
            ..Known::again(flow)
        };
        let packet = tcp(HOST, 80, CLIENT, 500, flags, 100, payload);
        assert_eq!(bench.asked(known, &packet).verdict, verdict, "{known:?}");
    }
}

/// Out-of-order segments of one byte, so that the least data takes the most memory.
fn starve(on_failure: policy::OnFailure) -> (Bench, Vec<Verdict>) {
    let mut policy = game(contains("EVIL"), Scope::Stream { depth: 65_536 });
    policy.limits.stream_bytes = 4_096;
    policy.on_failure = on_failure;
    let mut bench = Bench::new(policy);
    open(&mut bench, CLIENT, 5_000);
    let verdicts = (0..100)
        .map(|n| {
            let segment = tcp(CLIENT, 5_000, HOST, 4_000, ACK, 200 + n * 2, b".");
            bench.verdict(In, &segment)
        })
        .collect();
    (bench, verdicts)
}

#[test]
fn a_stream_without_memory_passes_no_more_whatever_the_policy_says_of_failures() {
    for on_failure in [policy::OnFailure::Closed, policy::OnFailure::Open] {
        a_stream_without_memory_passes_no_more(on_failure);
    }
}

fn a_stream_without_memory_passes_no_more(on_failure: policy::OnFailure) {
    let (mut bench, verdicts) = starve(on_failure);
    let refused = verdicts
        .iter()
        .position(|verdict| *verdict == Drop)
        .unwrap();
    assert!(
        refused < 64,
        "each segment costs more than its byte: {refused}"
    );
    assert!(verdicts[refused..].iter().all(|verdict| *verdict == Drop));
    // Nor does the same segment when it comes again, nor what was never held; a bare acknowledgement carries nothing.
    let again = tcp(CLIENT, 5_000, HOST, 4_000, ACK, 200, b".");
    assert_eq!(bench.verdict(In, &again), Drop);
    let bare = tcp(CLIENT, 5_000, HOST, 4_000, ACK, 200, b"");
    let decision = bench.packet(In, &bare);
    assert_eq!((decision.verdict, decision.inspect), (Allow, Inspect::More));
    // Memory is free again for others.
    open(&mut bench, CLIENT, 5_001);
    let other = tcp(CLIENT, 5_001, HOST, 4_000, ACK, 100, b"hello");
    assert_eq!(bench.verdict(In, &other), Allow);
}

#[test]
fn a_reload_keeps_looking_at_flows_of_rules_for_one_interface() {
    let mut policy = game(contains("EVIL"), Scope::Packet);
    policy.rules[0].interface = Some(policy::Interface::Named("eth0".to_owned()));
    let mut bench = Bench::new(policy.clone());
    open(&mut bench, CLIENT, 5_000);
    bench.engine.reload(policy.into());
    let bad = tcp(CLIENT, 5_000, HOST, 4_000, ACK, 100, b"EVIL");
    assert_eq!(bench.verdict(In, &bad), Drop);
}

#[test]
fn a_rule_for_every_packet_holds_no_stream_and_never_ends() {
    let mut policy = game(contains("EVIL"), Scope::Packet);
    if let Some(content) = policy.rules[0].content.as_mut() {
        content.every_packet = true;
    }
    policy.limits.stream_bytes = 4_096;
    policy.on_failure = policy::OnFailure::Closed;
    let mut bench = Bench::new(policy);
    open(&mut bench, CLIENT, 5_000);
    for n in 0..1_000 {
        let segment = tcp(
            CLIENT,
            5_000,
            HOST,
            4_000,
            ACK,
            100 + n * 1_000,
            &[b'.'; 1_000],
        );
        let decision = bench.packet(In, &segment);
        assert_eq!((decision.verdict, decision.inspect), (Allow, Inspect::More));
    }
    let late = tcp(CLIENT, 5_000, HOST, 4_000, ACK, 2_000_000, b"EVIL");
    assert_eq!(bench.verdict(In, &late), Drop);
}

#[test]
fn an_expression_is_found_in_a_stream_of_single_bytes() {
    let pattern = Pattern::Regex("a.{20}b".to_owned());
    let mut bench = Bench::new(game(pattern, Scope::Stream { depth: 65_536 }));
    open(&mut bench, CLIENT, 5_000);
    let send = |bench: &mut Bench, at: u32, byte: &[u8]| {
        let segment = tcp(CLIENT, 5_000, HOST, 4_000, ACK, 100 + at, byte);
        bench.verdict(In, &segment)
    };
    for at in 0..65_000 {
        assert_eq!(send(&mut bench, at, b"a"), Allow);
    }
    assert_eq!(send(&mut bench, 65_000, b"b"), Drop);
}

/// However many rules there are: so few are asked one by one, so many are looked for together.
#[test]
fn a_rule_with_a_length_finds_what_a_shorter_segment_brought() {
    for others in [0, 8] {
        let rule = |text: &str, min_len| Rule {
            content: Some(Content {
                min_len,
                ..content(contains(text), Scope::Stream { depth: 16_384 }).unwrap()
            }),
            ..tcp_port(Action::Deny, 4_000)
        };
        let others = (0..others).map(|number| rule(&format!("other{number}"), 1));
        let mut rules = vec![rule("EVIL", 100)];
        rules.extend(others);
        rules.push(tcp_port(Action::Allow, 4_000));
        let mut bench = Bench::new(plan(rules));
        open(&mut bench, CLIENT, 5_000);
        let short = tcp(
            CLIENT,
            5_000,
            HOST,
            4_000,
            ACK,
            100,
            b"an EVIL word, and many more words behind it",
        );
        assert_eq!(bench.verdict(In, &short), Allow);
        let long = tcp(CLIENT, 5_000, HOST, 4_000, ACK, 143, &[b'x'; 100]);
        assert_eq!(bench.packet(In, &long).reason, Reason::Rule(RuleId(0)));
    }
}
