//! Where streams begin, and what does not have them begin anew.

use crate::common::*;
use crate::{AMBIGUOUS, Connection, DEPTH, PORT, no_evil};
use Verdict::Allow;
use engine::{Inspect, Known, Reason, Tracked, Verdict};
use policy::{Action, Rule, RuleId};

/// Its sender may begin anew at once, with another number: nobody has taken the first.
#[test]
fn a_first_packet_that_is_dropped_begins_no_stream() {
    let mut connection = Connection {
        bench: Bench::new(no_evil()),
        port: 40_000,
    };
    let bad = tcp(CLIENT, 40_000, HOST, PORT, SYN, 99, b"EVIL");
    let decision = connection.bench.asked(Known::again(Tracked::New), &bad);
    assert_eq!(decision.reason, Reason::Rule(RuleId(0)));
    assert_eq!(connection.again(5_000), Reason::Rule(RuleId(1)));
}

/// A RST that only connection tracking believes lets another SYN follow: what the server has taken, its answer says.
#[test]
fn an_answer_to_another_begin_does_not_pass() {
    let new = |is_first| Known {
        is_first,
        ..Known::again(Tracked::New)
    };
    let syn = |sequence| tcp(CLIENT, 5, HOST, PORT, SYN, sequence, b"");
    let answer = |number| acknowledging(number, tcp(HOST, PORT, CLIENT, 5, SYN_ACK, 7, b""));
    let reply = Known::again(Tracked::Reply { is_open: false });
    let mut bench = Bench::new(no_evil());
    let begun = Reason::Rule(RuleId(1));
    for (known, packet, reason) in [
        (new(true), syn(99), begun),
        (new(false), syn(99), begun),
        (new(false), syn(5_099), AMBIGUOUS),
        // The kernel has forgotten the one before.
        (new(true), syn(5_099), begun),
        (reply, answer(100), AMBIGUOUS),
        (reply, answer(5_100), Reason::Established),
    ] {
        assert_eq!(bench.asked(known, &packet).reason, reason, "{known:?}");
    }
}

/// Of a rule about answers user space sees the answers alone: which connection they are of, the kernel says.
#[test]
fn answers_under_ports_that_were_used_before_begin_anew() {
    let mut policy = no_evil();
    policy.rules[0] = Rule {
        source_port: policy::PortSet::from_ranges([(PORT, PORT)]),
        port: policy::PortSet::default(),
        ..policy.rules[0].clone()
    };
    let evil = Reason::Rule(RuleId(0));
    // The second where both begin at once.
    for (opening, is_told, expected) in [
        (SYN_ACK, true, evil),
        (SYN, true, evil),
        (SYN_ACK, false, Reason::Established),
    ] {
        let mut bench = Bench::new(policy.clone());
        let mut reasons = Vec::new();
        for (begin, rest) in [(1_000, b"xx"), (9_000_000, b"IL")] {
            for (flags, offset, payload) in [
                (opening, 0, &b""[..]),
                (ACK, 1, b"....EV"),
                (ACK, 7, &rest[..]),
            ] {
                let known = Known {
                    is_first: is_told && flags == opening,
                    ..Known::again(Tracked::Reply { is_open: true })
                };
                let packet = tcp(HOST, PORT, CLIENT, 5, flags, begin + offset, payload);
                reasons.push(bench.asked(known, &packet).reason);
            }
        }
        assert_eq!(reasons[5], expected, "{reasons:?}");
    }
}

/// A server that takes no bytes with a SYN acknowledges none of them.
#[test]
fn answers_begin_anew_also_where_what_the_syn_carried_was_not_taken() {
    let answers = Rule {
        source_port: policy::PortSet::from_ranges([(PORT, PORT)]),
        port: policy::PortSet::default(),
        ..no_evil().rules[0].clone()
    };
    for taken in [0, 2, 4, 5] {
        for is_asked in [false, true] {
            let mut bench = Bench::new(plan(vec![
                Rule {
                    directions: policy::Directions::ALL,
                    ..answers.clone()
                },
                tcp_port(Action::Allow, PORT),
            ]));
            let mut hear = |reply, flags, sequence, acknowledged, payload: &[u8]| {
                let (from, to) = match reply {
                    false => ((CLIENT, 500), (HOST, PORT)),
                    true => ((HOST, PORT), (CLIENT, 500)),
                };
                let packet = tcp(from.0, from.1, to.0, to.1, flags, sequence, payload);
                let packet = acknowledging(acknowledged, packet);
                let known = match (reply, flags) {
                    (false, SYN) if sequence == 99 => Tracked::New,
                    (false, _) => Tracked::Established,
                    (true, _) => Tracked::Reply { is_open: true },
                };
                let direction = match reply {
                    false => policy::Direction::In,
                    true => policy::Direction::Out,
                };
                match is_asked {
                    true => bench.asked(Known::again(known), &packet).reason,
                    false => bench.packet(direction, &packet).reason,
                }
            };
            hear(false, SYN, 99, 0, b"");
            hear(true, SYN_ACK, 499, 100, b"");
            hear(false, ACK, 100, 500, b"");
            hear(true, ACK, 500, 100, b"....");
            hear(false, SYN, 7_000_000, 0, b"data");
            hear(true, SYN_ACK, 900_000, 7_000_001 + taken, b"");
            hear(true, ACK, 900_001, 7_000_001 + taken, b"EV");
            let reason = hear(true, ACK, 900_003, 7_000_001 + taken, b"IL");
            let begins = taken <= 4;
            assert_eq!(
                reason == Reason::Rule(RuleId(0)),
                begins,
                "{taken} {is_asked} {reason:?}"
            );
        }
    }
}

/// The kernel forgets what is reset before it was answered, and who is heard next begins what it picks up.
#[test]
fn who_was_asked_may_begin_what_is_picked_up() {
    let mut policy = no_evil();
    policy.rules[0] = Rule {
        source_port: policy::PortSet::from_ranges([(PORT, PORT)]),
        port: policy::PortSet::default(),
        ..policy.rules[0].clone()
    };
    policy.rules[1].port = policy::PortSet::default();
    let mut bench = Bench::new(policy);
    let server = |flags, payload: &[u8], offset: u32| {
        tcp(HOST, PORT, CLIENT, 5, flags, 700 + offset, payload)
    };
    let first = |flow| Known {
        is_first: true,
        ..Known::again(flow)
    };
    let reply = Tracked::Reply { is_open: false };
    for (known, packet, reason) in [
        (first(reply), server(RST, b"", 0), Reason::Established),
        (
            first(Tracked::New),
            server(ACK, b"EV", 0),
            Reason::Rule(RuleId(1)),
        ),
        (
            Known::again(reply),
            tcp(CLIENT, 5, HOST, PORT, ACK, 1, b""),
            Reason::Established,
        ),
        (
            Known::again(Tracked::Established),
            server(ACK, b"IL", 2),
            Reason::Rule(RuleId(0)),
        ),
    ] {
        assert_eq!(bench.asked(known, &packet).reason, reason, "{known:?}");
    }
}

/// User space may have forgotten the flow, and the connection mark goes on to say that it is settled.
#[test]
fn a_connection_that_begins_anew_in_a_forgotten_flow_is_looked_at() {
    let mut bench = Bench::new(no_evil());
    let syn = tcp(CLIENT, 500, HOST, PORT, SYN, 7_000_000, b"");
    bench.asked(Known::again(Tracked::Established), &syn);
    let answer = tcp(HOST, PORT, CLIENT, 500, SYN_ACK, 9_000, b"");
    let is_open = true;
    let known = Known::again(Tracked::Reply { is_open });
    let decision = bench.asked(known, &acknowledging(7_000_001, answer));
    assert_eq!(decision.inspect, Inspect::Anew);
}

/// Whatever the answer by which it begins says, and whatever becomes of that answer.
#[test]
fn that_a_connection_begins_anew_is_told_with_the_first_packet_that_passes() {
    for action in [Action::Allow, Action::Deny] {
        let greeting = Rule {
            source_port: policy::PortSet::from_ranges([(PORT, PORT)]),
            port: policy::PortSet::default(),
            content: Some(policy::Content {
                scope: policy::Scope::Packet,
                ..no_evil().rules[0].content.clone().unwrap()
            }),
            ..tcp_port(action, PORT)
        };
        let rules = std::iter::once(greeting).chain(no_evil().rules);
        let mut bench = Bench::new(plan(rules.collect()));
        let syn = tcp(CLIENT, 500, HOST, PORT, SYN, 7_000_000, b"");
        bench.asked(Known::again(Tracked::Established), &syn);
        let known = Known::again(Tracked::Reply { is_open: true });
        let mut told = Vec::new();
        for payload in [&b"EVIL"[..], b"", b""] {
            let answer = tcp(HOST, PORT, CLIENT, 500, SYN_ACK, 9_000, payload);
            let decision = bench.asked(known, &acknowledging(7_000_001, answer));
            if decision.verdict == Allow {
                told.push(decision.inspect);
            }
        }
        let [first, rest @ ..] = &told[..] else {
            panic!("nothing passed");
        };
        assert_eq!(*first, Inspect::Anew, "{action:?}");
        assert!(!rest.contains(&Inspect::Anew), "{action:?}: once");
    }
}

#[test]
fn another_connection_from_the_same_port_is_looked_at_too() {
    for filling in [3, 20_000] {
        let mut connection = Connection::open();
        for at in (0..filling).step_by(1_000) {
            let length = 1_000.min(filling - at);
            connection.send(at, &vec![b'.'; length as usize]);
        }
        connection.syn(70_000, b"");
        connection.answer(9_000, 70_001);
        let bad = tcp(CLIENT, connection.port, HOST, PORT, ACK, 70_001, b"EVIL");
        let decision = connection
            .bench
            .asked(Known::again(Tracked::Established), &bad);
        assert_eq!(decision.reason, Reason::Rule(RuleId(0)), "{filling}");
    }
}

#[test]
fn a_second_begin_of_what_nobody_has_answered_moves_nothing() {
    let begun = Reason::Rule(RuleId(1));
    let mut connection = Connection::open();
    assert_eq!(connection.again(99_u32.wrapping_sub(DEPTH)), AMBIGUOUS);
    assert_eq!(connection.again(99 + 4), AMBIGUOUS);
    assert_eq!(connection.again(99), begun, "a retransmission");
    // What the server has not asked for uses up nothing.
    let junk = vec![b'.'; DEPTH as usize];
    let before = 0_u32.wrapping_sub(DEPTH);
    assert_eq!(connection.send(before, &junk).reason, AMBIGUOUS);
    assert_eq!(connection.send(u32::MAX, &[0]).reason, AMBIGUOUS);
    assert_eq!(connection.send(u32::MAX, b".EVIL").reason, AMBIGUOUS);
    assert_eq!(connection.send(0, b"EVIL").reason, Reason::Rule(RuleId(0)));
    // Nobody answered for so long that another attempt is one.
    let mut connection = Connection::open();
    connection.bench.pass(30_000);
    assert_eq!(connection.again(5_099), begun);
    assert_eq!(
        connection.send(5_000, b"EVIL").reason,
        Reason::Rule(RuleId(0))
    );
}

#[test]
fn a_second_begin_in_a_capture_moves_nothing() {
    let mut bench = Bench::new(no_evil());
    let client = |flags, sequence, payload: &[u8]| {
        let bytes = tcp(CLIENT, 5, HOST, PORT, flags, sequence, payload);
        (policy::Direction::In, bytes)
    };
    let server = acknowledging(50_001, tcp(HOST, PORT, CLIENT, 5, SYN_ACK, 7, b""));
    let expected = Reason::Rule(RuleId(0));
    for ((direction, packet), reason) in [
        (client(SYN, 50_000, b""), Reason::Rule(RuleId(1))),
        (client(SYN, 50_000 - DEPTH, b""), AMBIGUOUS),
        ((policy::Direction::Out, server), Reason::Established),
        (client(ACK, 50_001, b""), Reason::Established),
        (client(ACK, 50_001, b"EVIL"), expected),
    ] {
        assert_eq!(bench.packet(direction, &packet).reason, reason);
    }
}

#[test]
fn a_signature_ends_and_begins_nothing() {
    let signed = |reset: bool| {
        let mut raw = [1; 20];
        raw[..2].copy_from_slice(&[19, 18]);
        let step = ip(CLIENT, HOST).tcp(40_000, PORT, 100, 1_000);
        let step = if reset { step.rst() } else { step.syn() };
        let mut bytes = Vec::new();
        let step = step.options_raw(&raw).unwrap();
        step.write(&mut bytes, b"").unwrap();
        bytes
    };
    let mut connection = Connection::open();
    let bench = &mut connection.bench;
    assert_eq!(
        bench
            .asked(Known::again(Tracked::Established), &signed(true))
            .reason,
        AMBIGUOUS
    );
    let mut bench = Bench::new(no_evil());
    assert_eq!(
        bench
            .asked(Known::again(Tracked::New), &signed(false))
            .reason,
        AMBIGUOUS
    );
}

#[test]
fn a_connection_that_is_picked_up_under_way_is_one_stream() {
    let mut bench = Bench::new(no_evil());
    // The kernel forgot it, and has seen no answer yet: every segment is new.
    let segment =
        |offset: u32, payload: &[u8]| tcp(CLIENT, 5, HOST, PORT, ACK, 100 + offset, payload);
    assert_eq!(
        bench
            .asked(Known::again(Tracked::New), &segment(0, b"EV"))
            .verdict,
        Allow
    );
    let decision = bench.asked(Known::again(Tracked::New), &segment(2, b"IL"));
    assert_eq!(decision.reason, Reason::Rule(RuleId(0)));
}

#[test]
fn a_reload_is_no_way_out() {
    let mut connection = Connection::open();
    assert_eq!(connection.send(0, b"EV").verdict, Allow);
    connection.bench.engine.reload(no_evil().into());
    let evil = Reason::Rule(RuleId(0));
    assert_eq!(connection.send(2, b"IL").reason, evil);
    connection.bench.engine.reload(no_evil().into());
    assert_eq!(connection.send(2, b"IL").reason, evil, "sent again");
}

/// A SYN with bytes under way does not pass: what its bytes would reach is no begin, though an answer to the first SYN takes as much.
#[test]
fn a_syn_that_did_not_pass_moves_nothing() {
    use policy::Direction::{In, Out};
    let evil = Reason::Rule(RuleId(0));
    for before in [1, 5, 200] {
        for is_early in [false, true] {
            for is_asked in [false, true] {
                let mut bench = Bench::new(no_evil());
                let bytes = vec![b'x'; before as usize];
                let moved = tcp(CLIENT, 5, HOST, PORT, SYN, 1_000 - before, &bytes);
                let answer = acknowledging(1_001, tcp(HOST, PORT, CLIENT, 5, SYN_ACK, 499, b""));
                let reply = Tracked::Reply { is_open: false };
                let moved = (Tracked::Established, In, moved);
                let answer = (reply, Out, answer);
                let segment = |at, payload: &[u8]| {
                    let bytes = tcp(CLIENT, 5, HOST, PORT, ACK, at, payload);
                    (Tracked::Established, In, acknowledging(500, bytes))
                };
                let said = [
                    (
                        Tracked::New,
                        In,
                        tcp(CLIENT, 5, HOST, PORT, SYN, 1_000, b""),
                    ),
                    if is_early {
                        moved.clone()
                    } else {
                        answer.clone()
                    },
                    moved,
                    answer.clone(),
                    answer,
                    segment(1_001, b""),
                    segment(1_001, b"EV"),
                    segment(1_003, b"IL"),
                ];
                let reasons = said.map(|(known, direction, packet)| match is_asked {
                    true => bench.asked(Known::again(known), &packet).reason,
                    false => bench.packet(direction, &packet).reason,
                });
                let what = format!("{before} {is_early} {is_asked} {reasons:?}");
                assert_eq!(reasons[2], AMBIGUOUS, "{what}");
                assert_eq!(reasons[7], evil, "{what}");
            }
        }
    }
}
