//! Where streams begin, and what does not have them begin anew.

use crate::common::*;
use crate::{AMBIGUOUS, Connection, DEPTH, PORT, no_evil};
use Verdict::Allow;
use engine::{Inspect, Known, Reason, Tracked, Verdict};
use policy::{Action, Content, HostField, HostPattern, Rule, RuleId};

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
    for (is_told, expected) in [(true, evil), (false, Reason::Established)] {
        let mut bench = Bench::new(policy.clone());
        let mut reasons = Vec::new();
        for (begin, rest) in [(1_000, b"xx"), (9_000_000, b"IL")] {
            for (flags, offset, payload) in [
                (SYN_ACK, 0, &b""[..]),
                (ACK, 1, b"....EV"),
                (ACK, 7, &rest[..]),
            ] {
                let known = Known {
                    is_first: is_told && flags == SYN_ACK,
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
fn a_pause_is_no_way_out() {
    let mut connection = Connection::open();
    assert_eq!(connection.send(0, b"EV").verdict, Allow);
    connection.bench.pass(3_000_000);
    assert_eq!(connection.send(2, b"IL").reason, Reason::Rule(RuleId(0)));
}

/// In such a pause connection tracking forgets what it believes to be over, or what waits for acknowledgements, and picks it up again as
/// another flow.
#[test]
fn neither_is_a_pause_behind_an_end_that_the_receiver_does_not_believe() {
    for (flags, offset) in [
        (RST, 1_000),
        (RST, 0),
        (FIN_ACK, 1_000),
        (FIN_ACK, 0),
        (ACK, 1_000),
    ] {
        for (is_first, flow) in [
            (false, Tracked::Established),
            (true, Tracked::New),
            (true, Tracked::Established),
        ] {
            let mut connection = Connection::open();
            connection.send(0, b"EV");
            assert_eq!(connection.flags(flags, offset, b"").verdict, Allow);
            connection.bench.pass(600_000);
            let rest = tcp(CLIENT, connection.port, HOST, PORT, ACK, 102, b"IL");
            let known = Known {
                is_first,
                ..Known::again(flow)
            };
            let reason = connection.bench.asked(known, &rest).reason;
            let what = format!("{flags:#x} {offset} {known:?}");
            assert_eq!(reason, Reason::Rule(RuleId(0)), "{what}");
        }
    }
}

/// What has said nothing yet goes on with nothing. Whether a receiver believes an end is not to be seen.
#[test]
fn behind_an_end_nothing_is_picked_up_as_another_connection() {
    let evil = Reason::Rule(RuleId(0));
    for (payload, ends, pause, expected) in [
        (&b"EV"[..], &[(FIN_ACK, 2)][..], 100_000, evil),
        (b"EV", &[(FIN_ACK, 2)], 125_000, AMBIGUOUS),
        (b"EV", &[(FIN_ACK, 2)], 3_590_000, AMBIGUOUS),
        (b"EV", &[(RST, 2)], 100_000, evil),
        (b"EV", &[(RST, 2)], 125_000, AMBIGUOUS),
        (b"EV", &[], 100_000, evil),
        (b"", &[(ACK, 0)], 100_000, Reason::Rule(RuleId(1))),
        (b"", &[(FIN_ACK, 0)], 125_000, AMBIGUOUS),
    ] {
        let mut connection = Connection::open();
        connection.send(0, payload);
        for &(flags, offset) in ends {
            connection.flags(flags, offset, b"");
        }
        let bench = &mut connection.bench;
        bench.pass(pause);
        bench.engine.advance(bench.now);
        let reason = connection.pick_up(ACK, 102, b"IL");
        assert_eq!(reason, expected, "{payload:?} {ends:?} {pause}");
    }
}

/// Its receiver discards a segment that acknowledges what is older than any window was (RFC 5961 section 5), and connection tracking
/// does not.
#[test]
fn a_fin_that_acknowledges_what_is_too_old_is_no_way_out() {
    let evil = Reason::Rule(RuleId(0));
    for (with_bytes, pause, expected) in [
        (true, 70_000, evil),
        (true, 125_000, evil),
        (false, 70_000, evil),
        (false, 125_000, AMBIGUOUS),
    ] {
        let mut connection = Connection::open();
        let answer = tcp(HOST, PORT, CLIENT, connection.port, SYN_ACK, 499, b"");
        let reply = Known::again(Tracked::Reply { is_open: false });
        connection.bench.asked(reply, &acknowledging(100, answer));
        let port = connection.port;
        let mut send = |flags, sequence, acknowledged, payload: &[u8]| {
            let packet = tcp(CLIENT, port, HOST, PORT, flags, sequence, payload);
            let packet = acknowledging(acknowledged, packet);
            let known = Known::again(Tracked::Established);
            assert_eq!(connection.bench.asked(known, &packet).verdict, Allow);
        };
        let too_old = 500_u32.wrapping_sub(20_000);
        send(ACK, 100, 500, b"");
        if with_bytes {
            send(FIN_ACK, 100, too_old, b"EV");
            send(ACK, 100, 500, b"EV");
        } else {
            send(ACK, 100, 500, b"EV");
            send(FIN_ACK, 102, too_old, b"");
        }
        connection.bench.pass(pause);
        let reason = connection.pick_up(ACK, 102, b"IL");
        assert_eq!(reason, expected, "{with_bytes} {pause}");
    }
}

#[test]
fn nor_is_it_for_a_host() {
    for pause in [70_000, 125_000] {
        let host = HostPattern::parse("evil.example", HostField::HttpHost).unwrap();
        let forbidden = Rule {
            content: Some(Content::of_hosts(HostField::HttpHost, vec![host])),
            ..tcp_port(Action::Deny, PORT)
        };
        let mut connection = Connection::open();
        connection.bench = Bench::new(plan(vec![forbidden, tcp_port(Action::Allow, PORT)]));
        connection.syn(99, b"");
        let (head, rest) = (b"GET / HTTP/1.1\r\nHost: ev", b"il.example\r\n\r\n");
        let len = head.len() as u32;
        assert_eq!(connection.send(0, head).verdict, Allow);
        assert_eq!(connection.flags(FIN_ACK, len, b"").verdict, Allow);
        connection.bench.pass(pause);
        let reason = connection.pick_up(ACK, 100 + len, rest);
        let is_stopped = matches!(reason, Reason::Rule(RuleId(0)) | AMBIGUOUS);
        assert!(is_stopped, "{pause} {reason:?}");
    }
}

/// A client that has ended its connection takes another one from the same port, and one that has ended what it asks acknowledges what
/// it is answered.
#[test]
fn behind_an_end_clients_go_on_as_they_do() {
    for pause in [1_000, 100_000, 125_000] {
        let mut connection = Connection::open();
        connection.send(0, b"EV");
        connection.flags(FIN_ACK, 2, b"");
        connection.bench.pass(pause);
        let begun = Reason::Rule(RuleId(1));
        let late = connection.pick_up(ACK, 103, b"");
        assert!(matches!(
            late,
            Reason::Rule(RuleId(1)) | Reason::Established
        ));
        assert_eq!(connection.pick_up(SYN, 50_000, b""), begun, "{pause}");
        connection.answer(9_000, 50_001);
        let mut send = |offset: u32, payload: &[u8]| {
            let packet = tcp(
                CLIENT,
                connection.port,
                HOST,
                PORT,
                ACK,
                50_001 + offset,
                payload,
            );
            let known = Known::again(Tracked::Established);
            connection.bench.asked(known, &packet).reason
        };
        assert_eq!(send(0, b"IL"), Reason::Established, "{pause}");
        assert_eq!(send(2, b"EVIL"), Reason::Rule(RuleId(0)), "{pause}");
    }
}

/// Of rules about answers the kernel hands up no SYN, and says which SYN+ACK begins a connection.
#[test]
fn behind_an_end_servers_answer_the_next_connection() {
    let mut policy = no_evil();
    policy.rules[0] = Rule {
        source_port: policy::PortSet::from_ranges([(PORT, PORT)]),
        port: policy::PortSet::default(),
        ..policy.rules[0].clone()
    };
    for (is_begun, expected) in [(true, Reason::Established), (false, AMBIGUOUS)] {
        let mut bench = Bench::new(policy.clone());
        let mut reasons = Vec::new();
        for (pause, flags, sequence, payload) in [
            (0, SYN_ACK, 1_000, &b""[..]),
            (0, ACK, 1_001, b"EV"),
            (0, FIN_ACK, 1_003, b""),
            (125_000, if is_begun { SYN_ACK } else { ACK }, 9_000, b""),
            (0, ACK, 9_001, b"IL"),
        ] {
            bench.pass(pause);
            bench.engine.advance(bench.now);
            let known = Known {
                is_first: sequence % 1_000 == 0,
                ..Known::again(Tracked::Reply { is_open: false })
            };
            let packet = tcp(HOST, PORT, CLIENT, 5, flags, sequence, payload);
            reasons.push(bench.asked(known, &packet).reason);
        }
        assert_eq!(reasons[4], expected, "{is_begun} {reasons:?}");
    }
}

/// Nobody has taken the SYN: the connection before it goes on, and its server says so by an acknowledgement (RFC 5961 section 4.2).
#[test]
fn a_begin_that_is_not_answered_ends_nothing() {
    for is_reset in [false, true] {
        let mut connection = Connection::open();
        connection.send(0, b"EV");
        connection.flags(FIN_ACK, 2, b"");
        let bench = &mut connection.bench;
        bench.pass(125_000);
        bench.engine.advance(bench.now);
        connection.pick_up(SYN, 50_000, b"");
        let port = connection.port;
        let challenge = acknowledging(102, tcp(HOST, PORT, CLIENT, port, ACK, 500, b""));
        let reply = Known::again(Tracked::Reply { is_open: false });
        connection.bench.asked(reply, &challenge);
        if is_reset {
            connection.pick_up(RST, 102, b"");
        }
        connection.bench.pass(125_000);
        assert_eq!(connection.pick_up(ACK, 102, b"IL"), AMBIGUOUS, "{is_reset}");
    }
}

/// Connection tracking has lost it, by a reset that the server did not believe, and the server is heard first.
#[test]
fn who_is_heard_first_after_a_pause_does_not_have_the_other_begin_anew() {
    for (flags, offset) in [(RST, 1_000), (FIN_ACK, 2)] {
        let mut policy = no_evil();
        policy.rules[0].directions = policy::Directions::ALL;
        policy.rules.insert(
            0,
            Rule {
                source_port: policy::PortSet::from_ranges([(PORT, PORT)]),
                port: policy::PortSet::default(),
                ..policy.rules[0].clone()
            },
        );
        let mut connection = Connection::open();
        connection.bench = Bench::new(plan(policy.rules.clone()));
        connection.syn(99, b"");
        connection.answer(499, 100);
        connection.send(0, b"EV");
        connection.flags(flags, offset, b"");
        connection.bench.pass(30_000);
        let port = connection.port;
        let answer = acknowledging(102, tcp(HOST, PORT, CLIENT, port, ACK, 500, b"hello"));
        let first = Known {
            is_first: true,
            ..Known::again(Tracked::New)
        };
        connection.bench.asked(first, &answer);
        let rest = acknowledging(505, tcp(CLIENT, port, HOST, PORT, ACK, 102, b"IL"));
        let reply = Known::again(Tracked::Reply { is_open: true });
        let reason = connection.bench.asked(reply, &rest).reason;
        assert_eq!(reason, AMBIGUOUS, "{flags:#x}");
        // The server has nothing to do with it.
        let more = acknowledging(102, tcp(HOST, PORT, CLIENT, port, ACK, 505, b"more"));
        let decision = connection
            .bench
            .asked(Known::again(Tracked::Established), &more);
        assert_eq!(decision.verdict, Allow, "{flags:#x}");
    }
}

/// Of a connection of which both sides are looked at, the one that has not ended goes on.
#[test]
fn the_end_of_one_side_does_not_have_the_other_forgotten() {
    let mut policy = no_evil();
    let answers = Rule {
        source_port: policy::PortSet::from_ranges([(PORT, PORT)]),
        port: policy::PortSet::default(),
        directions: policy::Directions::ALL,
        ..policy.rules[0].clone()
    };
    policy.rules[0].directions = policy::Directions::ALL;
    policy.rules.insert(0, answers);
    let mut bench = Bench::new(plan(policy.rules.clone()));
    let reply = Known::again(Tracked::Reply { is_open: true });
    let asked = Known::again(Tracked::Established);
    let client =
        |flags, sequence, payload: &[u8]| tcp(CLIENT, 5, HOST, PORT, flags, sequence, payload);
    let server =
        |flags, sequence, payload: &[u8]| tcp(HOST, PORT, CLIENT, 5, flags, sequence, payload);
    bench.asked(Known::again(Tracked::New), &client(SYN, 99, b""));
    bench.asked(reply, &acknowledging(100, server(SYN_ACK, 499, b"")));
    bench.asked(asked, &client(ACK, 100, b"ask"));
    bench.asked(reply, &acknowledging(103, server(ACK, 500, b"EV")));
    bench.asked(asked, &client(FIN_ACK, 103, b""));
    bench.pass(125_000);
    bench.engine.advance(bench.now);
    let rest = acknowledging(104, server(ACK, 502, b"IL"));
    assert_eq!(bench.asked(reply, &rest).reason, Reason::Rule(RuleId(0)));
}

#[test]
fn what_has_ended_is_soon_forgotten() {
    for (ends, is_over) in [
        (&[(RST, 2)][..], true),
        (&[(FIN_ACK, 2), (ACK, 3)], true),
        (&[(RST, 9)], false),
        (&[(FIN_ACK, 9), (ACK, 3)], false),
    ] {
        let mut connection = Connection::open();
        connection.send(0, b"..");
        for &(flags, offset) in ends {
            connection.flags(flags, offset, b"");
        }
        let bench = &mut connection.bench;
        for _ in 0..2 {
            bench.pass(150_000);
            bench.engine.advance(bench.now);
        }
        assert_eq!(bench.engine.flows().count() == 0, is_over, "{ends:?}");
    }
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
