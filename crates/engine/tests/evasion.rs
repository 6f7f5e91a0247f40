//! Ways around a content rule: what its receiver would put together must not differ from what was looked at.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod common;

use Verdict::{Allow, Drop};
use common::*;
use engine::{Decision, Inspect, Invalid, Known, Reason, Tracked, Verdict};
use policy::{Action, Content, Pattern, Plan, Rule, RuleId, Scope};

const PORT: u16 = 80;
const DEPTH: u32 = 16_384;
const AMBIGUOUS: Reason = Reason::Invalid(Invalid::StreamAmbiguous);

fn no_evil() -> Plan {
    plan(vec![
        Rule {
            content: Some(Content {
                pattern: Some(Pattern::Contains {
                    bytes: b"EVIL".to_vec(),
                    ignore_case: false,
                }),
                min_len: 1,
                max_len: None,
                scope: Scope::Stream { depth: DEPTH },
                every_packet: false,
            }),
            ..tcp_port(Action::Deny, PORT)
        },
        tcp_port(Action::Allow, PORT),
    ])
}

/// A client's connection, of which the kernel shows the inbound packets.
struct Connection {
    bench: Bench,
    port: u16,
}

impl Connection {
    fn open() -> Self {
        let mut connection = Self {
            bench: Bench::new(no_evil()),
            port: 40_000,
        };
        connection.syn(99, b"");
        connection
    }

    fn syn(&mut self, sequence: u32, payload: &[u8]) {
        let packet = tcp(CLIENT, self.port, HOST, PORT, SYN, sequence, payload);
        assert_eq!(
            self.bench
                .asked(Known::again(Tracked::New), &packet)
                .verdict,
            Allow
        );
    }

    /// Another SYN, of a connection that the kernel calls new.
    fn again(&mut self, sequence: u32) -> Reason {
        let packet = tcp(CLIENT, self.port, HOST, PORT, SYN, sequence, b"");
        self.bench.asked(Known::again(Tracked::New), &packet).reason
    }

    fn flags(&mut self, flags: u8, offset: u32, payload: &[u8]) -> Decision {
        let packet = tcp(
            CLIENT,
            self.port,
            HOST,
            PORT,
            flags,
            100_u32.wrapping_add(offset),
            payload,
        );
        self.bench
            .asked(Known::again(Tracked::Established), &packet)
    }

    fn send(&mut self, offset: u32, payload: &[u8]) -> Decision {
        self.flags(ACK, offset, payload)
    }
}

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

#[test]
fn repetition_does_not_use_up_the_depth() {
    let mut connection = Connection::open();
    let filling = [b'.'; 1_300];
    for _ in 0..20 {
        assert_eq!(connection.send(0, &filling).verdict, Allow);
    }
    assert_eq!(
        connection.send(1_300, b"EVIL").reason,
        Reason::Rule(RuleId(0))
    );
}

#[test]
fn bytes_behind_a_gap_do_not_use_up_the_depth() {
    let mut connection = Connection::open();
    for place in 1..=20 {
        assert_eq!(connection.send(place * 800, &[b'.'; 800]).verdict, Allow);
    }
    assert_eq!(connection.send(0, b"EVIL").reason, Reason::Rule(RuleId(0)));
}

#[test]
fn a_segment_that_contradicts_another_is_dropped() {
    for (first, second) in [
        ((0, &b"xxxx"[..]), (0, &b"EVIL"[..])),
        ((4, b"xxxx"), (0, b"aaaaEVIL")),
        ((4, b"xxxx"), (4, b"EVILzz")),
        ((2, b"xx"), (0, b"EVIL")),
    ] {
        let mut connection = Connection::open();
        assert_eq!(connection.send(first.0, first.1).verdict, Allow);
        assert_eq!(connection.send(second.0, second.1).reason, AMBIGUOUS);
        // The honest copy of what came first goes on.
        assert_eq!(connection.send(first.0, first.1).verdict, Allow);
    }
}

/// Receivers discard it, or wait for a cookie with it; in a connection under way they take neither the SYN nor the RST.
#[test]
fn what_a_syn_or_a_reset_carries_is_no_part_of_the_stream() {
    let mut connection = Connection::open();
    assert_eq!(connection.flags(SYN, 0, b"qqqqqqqq").reason, AMBIGUOUS);
    assert_eq!(connection.flags(SYN, 48, b"zz").reason, AMBIGUOUS);
    let decoy = vec![b'.'; DEPTH as usize];
    assert_eq!(connection.flags(RST, 1, &decoy).verdict, Allow);
    assert_eq!(connection.send(0, b"an honest line. EV").verdict, Allow);
    assert_eq!(connection.send(18, b"IL").verdict, Drop);

    let mut bench = Bench::new(no_evil());
    let first = tcp(CLIENT, 41_000, HOST, PORT, SYN, 99, b"qqqqqqqq");
    let new = Known::again(Tracked::New);
    assert_eq!(bench.asked(new, &first).reason, AMBIGUOUS);
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

#[test]
fn urgent_data_is_dropped() {
    let mut connection = Connection::open();
    assert_eq!(connection.flags(ACK | URG, 0, b"EVxIL").reason, AMBIGUOUS);
    assert_eq!(connection.flags(ACK | URG, 0, b"").verdict, Allow);
}

#[test]
fn an_old_clock_and_a_signature_are_dropped() {
    use etherparse::TcpOptionElement::Timestamp;
    let segment = |offset: u32, clock: u32, payload: &[u8]| {
        let mut bytes = Vec::new();
        ip(CLIENT, HOST)
            .tcp(40_000, PORT, 100 + offset, 1_000)
            .ack(1)
            .options(&[Timestamp(clock, 0)])
            .unwrap()
            .write(&mut bytes, payload)
            .unwrap();
        bytes
    };
    let signed = |payload: &[u8]| {
        let mut raw = [1; 20];
        raw[..2].copy_from_slice(&[19, 18]);
        let mut bytes = Vec::new();
        ip(CLIENT, HOST)
            .tcp(40_000, PORT, 100, 1_000)
            .ack(1)
            .options_raw(&raw)
            .unwrap()
            .write(&mut bytes, payload)
            .unwrap();
        bytes
    };
    let mut connection = Connection::open();
    let mut asked = |packet: &[u8]| {
        connection
            .bench
            .asked(Known::again(Tracked::Established), packet)
    };
    assert_eq!(asked(&signed(b"xxxx")).reason, AMBIGUOUS);
    assert_eq!(asked(&segment(0, 5_000, b"abcd")).verdict, Allow);
    assert_eq!(asked(&segment(4, 4_000, b"xxxx")).reason, AMBIGUOUS);
    // Segments that overtook each other are not old.
    assert_eq!(asked(&segment(8, 5_010, b"ijkl")).verdict, Allow);
    assert_eq!(
        asked(&segment(4, 5_005, b"EVIL")).reason,
        Reason::Rule(RuleId(0))
    );
}

#[test]
fn one_source_does_not_use_up_the_memory_of_all() {
    let mut policy = no_evil();
    policy.limits.stream_bytes = 1 << 20;
    let mut bench = Bench::new(policy);
    // Sixteen bytes short of the depth, a hundred times.
    let filling = vec![b'.'; DEPTH as usize - 16];
    let mut verdicts = Vec::new();
    for port in 1..=100 {
        for (known, flags, sequence, payload) in [
            (Known::again(Tracked::New), SYN, 99, &b""[..]),
            (Known::again(Tracked::Established), ACK, 100, &filling),
        ] {
            let packet = tcp(CLIENT, port, HOST, PORT, flags, sequence, payload);
            verdicts.push(bench.asked(known, &packet).reason);
        }
    }
    let refused = Reason::Invalid(Invalid::StreamMemory);
    assert!(verdicts.contains(&refused));
    // Its own next flow is no way through, and everybody else's is looked at.
    for (source, expected) in [(CLIENT, refused), ("198.51.100.7", Reason::Rule(RuleId(0)))] {
        let syn = tcp(source, 500, HOST, PORT, SYN, 99, b"");
        bench.asked(Known::again(Tracked::New), &syn);
        let begin = tcp(source, 500, HOST, PORT, ACK, 100, &filling);
        let bad = tcp(source, 500, HOST, PORT, ACK, 100 + DEPTH - 16, b"EVIL");
        bench.asked(Known::again(Tracked::Established), &begin);
        assert_eq!(
            bench.asked(Known::again(Tracked::Established), &bad).reason,
            expected,
            "{source}"
        );
    }
}

/// Sources that fill the memory for streams, each within its share: behind gaps, or in order just short of the depth.
fn fill(bench: &mut Bench, known: Known, source: impl Fn(u16) -> String, gap: u32) {
    let filling = vec![b'.'; DEPTH as usize - 16];
    for number in 0..40 {
        let source = source(number);
        let target = if source.contains(':') { HOST6 } else { HOST };
        for port in 1..=7 {
            let syn = tcp(&source, port, target, PORT, SYN, 99, b"");
            bench.asked(Known::again(Tracked::New), &syn);
            let data = tcp(&source, port, target, PORT, ACK, 100 + gap, &filling);
            bench.asked(known, &data);
        }
    }
}

/// Who fills the memory has it give back the begin of a long match, which would be missed then.
#[test]
fn no_match_is_forgotten_half_way() {
    for expression in ["BEGIN[^!]*END", "BEGIN.{600}END", "^BEGIN.*END"] {
        let mut policy = no_evil();
        policy.limits.stream_bytes = 1 << 20;
        if let Some(content) = &mut policy.rules[0].content {
            content.pattern = Some(Pattern::Regex(expression.to_owned()));
        }
        let mut bench = Bench::new(policy);
        let syn = tcp(CLIENT, 500, HOST, PORT, SYN, 99, b"");
        bench.asked(Known::again(Tracked::New), &syn);
        // Smaller than those who come, but for a few bytes; among equals the last ones give back first.
        let begin = [&b"BEGIN"[..], &[b'.'; 600]].concat();
        let data = tcp(CLIENT, 500, HOST, PORT, ACK, 100, &begin);
        assert_eq!(
            bench
                .asked(Known::again(Tracked::Established), &data)
                .verdict,
            Allow
        );
        for number in 0..4_000 {
            let source = format!("223.51.{}.{}", number / 250, number % 250 + 1);
            let syn = tcp(&source, 500, HOST, PORT, SYN, 99, b"");
            bench.asked(Known::again(Tracked::New), &syn);
            let data = tcp(&source, 500, HOST, PORT, ACK, 100, &[b'.'; 600]);
            bench.asked(Known::again(Tracked::Established), &data);
        }
        let data = tcp(CLIENT, 500, HOST, PORT, ACK, 705, b"END");
        let decision = bench.asked(Known::again(Tracked::Established), &data);
        assert_eq!(decision.verdict, Drop, "{expression} {:?}", decision.reason);
    }
}

#[test]
fn many_sources_do_not_use_up_the_memory_of_all() {
    let site = |number: u16| format!("2001:db8:77:{number:x}::1");
    let host = |number: u16| format!("198.51.100.{number}");
    for gap in [0, 8] {
        for (known, source) in [
            (
                Known::again(Tracked::Established),
                &host as &dyn Fn(u16) -> String,
            ),
            (Known::again(Tracked::Established), &site),
            (Known::again(Tracked::New), &host),
        ] {
            let mut policy = no_evil();
            policy.limits.stream_bytes = 1 << 20;
            let mut bench = Bench::new(policy);
            let ours = |source: &str, offset: u32, payload: &[u8]| {
                tcp(source, 500, HOST, PORT, ACK, 100 + offset, payload)
            };
            // One that was there before, and one that comes after.
            let begin = |bench: &mut Bench, source| {
                let syn = tcp(source, 500, HOST, PORT, SYN, 99, b"");
                bench.asked(Known::again(Tracked::New), &syn);
                let begin = vec![b'x'; 2_000];
                let data = ours(source, 0, &begin);
                let decision = bench.asked(Known::again(Tracked::Established), &data);
                assert_eq!(decision.verdict, Allow, "{source} {gap}");
                let data = ours(source, 2_000, b"EV");
                let decision = bench.asked(Known::again(Tracked::Established), &data);
                assert_eq!(decision.verdict, Allow, "{source} {gap}");
            };
            begin(&mut bench, CLIENT);
            fill(&mut bench, known, source, gap);
            begin(&mut bench, "192.0.2.77");
            fill(&mut bench, known, source, gap);
            for source in [CLIENT, "192.0.2.77"] {
                let data = ours(source, 2_002, b"IL, and more");
                let decision = bench.asked(Known::again(Tracked::Established), &data);
                let expected = Reason::Rule(RuleId(0));
                assert_eq!(decision.reason, expected, "{source} {gap}");
            }
        }
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

#[test]
fn what_the_kernel_cut_off_is_not_passed_on() {
    let mut connection = Connection::open();
    let whole = tcp(
        CLIENT,
        connection.port,
        HOST,
        PORT,
        ACK,
        100,
        &[b'.'; 1_000],
    );
    let arrival = engine::Arrival {
        now: connection.bench.now,
        direction: Some(policy::Direction::In),
        interface: None,
        wire_len: whole.len() as u32,
        known: Some(Known::again(Tracked::Established)),
    };
    let cut = wire::parse(wire::Link::RawIp, &whole[..whole.len() - 4], whole.len());
    let decision = connection.bench.engine.handle(&arrival, cut);
    assert_eq!(decision.verdict, Drop);
    assert_eq!(decision.reason, Reason::Invalid(Invalid::CopyCut));
}

#[test]
fn nobody_is_banned_by_a_packet_that_anybody_can_send() {
    let mut policy = no_evil();
    policy.rules[0].action = Action::Ban(std::time::Duration::from_secs(60));
    let mut bench = Bench::new(policy);
    let forged = tcp("198.51.100.99", 5, HOST, PORT, SYN, 1, b"EVIL");
    assert_eq!(
        bench.asked(Known::again(Tracked::New), &forged).verdict,
        Drop
    );
    assert_eq!(bench.engine.bans().count(), 0);
    let syn = tcp(CLIENT, 5, HOST, PORT, SYN, 1, b"");
    assert_eq!(bench.asked(Known::again(Tracked::New), &syn).verdict, Allow);
    let bad = tcp(CLIENT, 5, HOST, PORT, ACK, 2, b"EVIL");
    assert_eq!(
        bench
            .asked(Known::again(Tracked::Established), &bad)
            .verdict,
        Drop
    );
    assert_eq!(bench.engine.bans().count(), 1);
}

#[test]
fn who_guesses_at_a_handshake_proves_nothing() {
    for (secret, offences) in [(0, 1), (65_000, 0)] {
        let mut policy = no_evil();
        policy.rules[0].action = Action::Ban(std::time::Duration::from_secs(60));
        let mut bench = Bench::new(policy);
        // What acknowledges 1 acknowledges the SYN-ACK in the first case alone.
        for (direction, packet) in [
            (
                policy::Direction::In,
                tcp(CLIENT, 5, HOST, PORT, SYN, 99, b""),
            ),
            (
                policy::Direction::Out,
                acknowledging(100, tcp(HOST, PORT, CLIENT, 5, SYN_ACK, secret, b"")),
            ),
            (
                policy::Direction::In,
                tcp(CLIENT, 5, HOST, PORT, ACK, 100, b"EVIL"),
            ),
        ] {
            bench.packet(direction, &packet);
        }
        let bans: Vec<u32> = bench.engine.bans().map(|ban| ban.offences).collect();
        assert_eq!(bans, [offences], "{secret}");
    }
}

#[test]
fn a_burst_of_segments_out_of_place_makes_a_handshake_doubtful() {
    let ban = |now| engine::Ban {
        prefix: format!("{CLIENT}/32").parse().unwrap(),
        origin: engine::BanOrigin::Rule("no evil".into()),
        reason: "test".into(),
        since: now,
        expires: now.after(std::time::Duration::from_secs(600)),
        times_banned: 1,
        offences: 1,
        grew_from: Vec::new(),
        would_be: false,
        evidence: None,
    };
    for (guesses, wait, offences) in [(15, 0, 1), (16, 0, 0), (16, 61_000, 1)] {
        let mut bench = Bench::new(no_evil());
        for guess in 0..guesses {
            let packet = tcp(CLIENT, 5, HOST, PORT, ACK, 100 + guess, b"");
            let Ok(wire::Frame::Ip(parsed)) = wire::parse(wire::Link::RawIp, &packet, packet.len())
            else {
                panic!("a segment");
            };
            let arrival = engine::Arrival {
                now: bench.now,
                direction: Some(policy::Direction::In),
                interface: None,
                wire_len: packet.len() as u32,
                known: None,
            };
            let reason = Reason::Invalid(Invalid::TcpNoConnection);
            bench.engine.observe(&arrival, &parsed, Drop, reason);
        }
        bench.pass(wait);
        let (now, engine) = (bench.now, &mut bench.engine);
        let made = engine.adopt_ban(ban(now), now).unwrap();
        assert_eq!(made.offences, offences, "{guesses}");
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
