//! Ends and pauses: neither has a stream begin anew in its middle.

use crate::common::*;
use crate::{AMBIGUOUS, Connection, PORT, no_evil};
use Verdict::Allow;
use engine::{Known, Reason, Tracked, Verdict};
use policy::{Action, Content, HostField, HostPattern, Rule, RuleId};

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
