//! What comes of a denied flow where nothing is blocked: the preview says what enforcing would have done, and no more.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod common;

use std::num::NonZeroU32;
use std::time::Duration;

use common::*;
use engine::{EventBody, Reason, Verdict};
use policy::{Action, Blocked, DefaultAction, Detect, Direction, Limits, Rate, RateUnit, Rule};
use proptest::prelude::*;

const IN: Direction = Direction::In;
const OUT: Direction = Direction::Out;

fn observing() -> Bench {
    let mut bench = Bench::new(plan(vec![tcp_port(Action::Allow, 80)]));
    bench.engine.only_observe(true);
    bench
}

/// Drops told, allowed packets, dropped ones without what came of denied flows, flows.
fn told(bench: &mut Bench) -> (usize, u64, u64, u64) {
    let drops = bench.events().into_iter();
    let drops = drops.filter(|event| matches!(event.body, EventBody::Drop { .. }));
    let totals = bench.engine.totals();
    let dropped = totals.dropped - totals.sequels;
    (drops.count(), totals.allowed, dropped, totals.flows)
}

/// A connection to a port whose service answers, with some bytes each way.
fn visit(bench: &mut Bench, port: u16) -> Vec<Verdict> {
    let there = |flags, seq, payload: &[u8]| tcp(CLIENT, 40_000, HOST, port, flags, seq, payload);
    let back = |flags, seq, payload: &[u8]| tcp(HOST, port, CLIENT, 40_000, flags, seq, payload);
    let mut verdicts = vec![
        bench.verdict(IN, &there(SYN, 0, b"")),
        bench.verdict(OUT, &back(SYN_ACK, 0, b"")),
        bench.verdict(IN, &there(ACK, 1, b"")),
        bench.verdict(IN, &there(ACK, 1, b"GET")),
    ];
    for at in 0..2_000 {
        verdicts.push(bench.verdict(OUT, &back(ACK, 1 + at * 100, &[b'x'; 100])));
    }
    verdicts.push(bench.verdict(IN, &there(FIN_ACK, 4, b"")));
    verdicts
}

#[test]
fn a_denied_connection_is_denied_once_and_nothing_of_it_counts_as_passed() {
    let mut bench = observing();
    let verdicts = visit(&mut bench, 8080);
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Drop));
    assert_eq!(told(&mut bench), (1, 0, 1, 0));
    assert_eq!(bench.engine.totals().sequels, 2_004);
    assert_eq!(bench.engine.flows().count(), 0);
    // An allowed one is as it always is.
    let verdicts = visit(&mut bench, 80);
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Allow));
    assert_eq!(told(&mut bench), (0, 2_005, 1, 1));
}

#[test]
fn what_would_come_anyway_is_denied_each_time() {
    let mut bench = observing();
    let syn = tcp(CLIENT, 40_000, HOST, 8080, SYN, 0, b"");
    for _ in 0..3 {
        assert_eq!(bench.verdict(IN, &syn), Verdict::Drop);
    }
    assert_eq!(
        told(&mut bench),
        (3, 0, 3, 0),
        "sent again, as nobody answers"
    );
    // Refused by the host itself, and tried again.
    let reset = tcp(HOST, 8080, CLIENT, 40_000, RST | ACK, 0, b"");
    bench.verdict(OUT, &reset);
    bench.verdict(IN, &syn);
    assert_eq!(told(&mut bench), (1, 0, 4, 0));
    // Each datagram is, and what the service or the host itself says to it is not.
    for client in [40_000, 40_000, 2_000] {
        let question = udp(CLIENT, client, HOST, 53, b"?");
        bench.verdict(IN, &question);
        bench.verdict(OUT, &udp(HOST, 53, CLIENT, client, b"!"));
        bench.verdict(OUT, &unreachable(HOST, CLIENT, &question));
    }
    assert_eq!(told(&mut bench), (3, 0, 7, 0));
    bench.verdict(IN, &ping(CLIENT, HOST, 7, false));
    bench.verdict(OUT, &ping(HOST, CLIENT, 7, true));
    assert_eq!(told(&mut bench), (1, 0, 8, 0));
}

#[test]
fn who_answers_what_would_not_have_been_sent_is_no_denied_source() {
    let mut policy = plan(vec![]);
    policy.default.outbound = DefaultAction::Deny;
    let mut bench = Bench::new(policy);
    bench.engine.only_observe(true);
    bench.verdict(OUT, &udp(HOST, 40_000, "192.0.2.53", 53, b"?"));
    let answer = bench.packet(IN, &udp("192.0.2.53", 53, HOST, 40_000, b"!"));
    assert_eq!(answer.reason, Reason::Default(OUT));
    assert_eq!(told(&mut bench), (1, 0, 1, 0));
}

#[test]
fn another_plan_judges_anew_and_enforcing_remembers_nothing() {
    let mut bench = observing();
    let syn = tcp(CLIENT, 40_000, HOST, 8080, SYN, 0, b"");
    let answer = tcp(HOST, 8080, CLIENT, 40_000, SYN_ACK, 0, b"");
    bench.verdict(IN, &syn);
    bench
        .engine
        .reload(plan(vec![tcp_port(Action::Allow, 8080)]).into());
    assert_eq!(bench.verdict(IN, &syn), Verdict::Allow);
    assert_eq!(bench.verdict(OUT, &answer), Verdict::Allow);
    let mut bench = observing();
    bench.engine.only_observe(false);
    bench.verdict(IN, &syn);
    bench.verdict(OUT, &answer);
    assert_eq!(told(&mut bench), (2, 0, 2, 0));
}

/// The verdict on a segment that goes this way between the client's port and the host's. `number` is what the client has sent, or
/// what the host acknowledges of it.
fn segment(bench: &mut Bench, direction: Direction, port: u16, flags: u8, number: u32) -> Verdict {
    let bytes = match direction {
        IN => tcp(CLIENT, 40_000, HOST, port, flags, number, b""),
        _ => acknowledging(number, tcp(HOST, port, CLIENT, 40_000, flags, 0, b"")),
    };
    bench.verdict(direction, &bytes)
}

#[test]
fn a_syn_sent_again_is_of_the_answered_connection_and_another_one_is_not() {
    let mut bench = observing();
    segment(&mut bench, IN, 8080, SYN, 7);
    segment(&mut bench, OUT, 8080, SYN_ACK, 8);
    segment(&mut bench, IN, 8080, SYN, 7);
    assert_eq!(told(&mut bench), (1, 0, 1, 0), "the answer was lost");
    segment(&mut bench, IN, 8080, SYN, 9);
    assert_eq!(told(&mut bench), (1, 0, 2, 0), "the same ports again");
    segment(&mut bench, IN, 8080, ACK, 10);
    assert_eq!(told(&mut bench), (1, 0, 3, 0), "nobody has answered it");
    segment(&mut bench, OUT, 8080, SYN_ACK, 8);
    assert_eq!(told(&mut bench), (1, 0, 4, 0), "it answers the first");
    segment(&mut bench, OUT, 8080, SYN_ACK, 10);
    segment(&mut bench, IN, 8080, ACK, 10);
    assert_eq!(told(&mut bench), (0, 0, 4, 0));
}

#[test]
fn a_refusal_is_no_answer() {
    let mut bench = observing();
    for probe in 0..3 {
        segment(&mut bench, IN, 100, ACK, probe);
        segment(&mut bench, OUT, 100, RST, 1);
    }
    assert_eq!(told(&mut bench), (3, 0, 3, 0), "a scan by ACK");
    let syn = tcp(CLIENT, 40_000, HOST, 101, SYN, 0, b"");
    bench.verdict(IN, &syn);
    bench.verdict(OUT, &unreachable(HOST, CLIENT, &syn));
    segment(&mut bench, IN, 101, ACK, 1);
    assert_eq!(told(&mut bench), (2, 0, 5, 0));
    // Of an answer there can be an error when there was one.
    let answer = tcp(HOST, 101, CLIENT, 40_000, SYN_ACK, 0, b"");
    let error = unreachable(CLIENT, HOST, &answer);
    let decision = bench.packet(IN, &error);
    assert_eq!(
        decision.reason,
        Reason::Invalid(engine::Invalid::IcmpNoFlow)
    );
    segment(&mut bench, OUT, 101, SYN_ACK, 1);
    let decision = bench.packet(IN, &error);
    assert_eq!(decision.reason, Reason::Default(IN));
    assert_eq!(bench.engine.totals().sequels, 6);
}

#[test]
fn what_no_stack_sends_comes_of_nothing() {
    let mut bench = observing();
    visit(&mut bench, 8080);
    told(&mut bench);
    segment(&mut bench, IN, 8080, 0x01, 9);
    assert_eq!(told(&mut bench).0, 1, "FIN alone");
}

#[test]
fn what_the_host_would_have_sent_all_the_same_begins_a_flow_of_its_own() {
    // Peers that open the way to each other, and flows that are older than what is seen.
    for (theirs, ours) in [(27_015, 27_015), (51_820, 40_000), (443, 50_000)] {
        let mut bench = observing();
        bench.verdict(IN, &udp(CLIENT, theirs, HOST, ours, b"?"));
        bench.verdict(OUT, &udp(HOST, ours, CLIENT, theirs, b"?"));
        for _ in 0..3 {
            bench.verdict(IN, &udp(CLIENT, theirs, HOST, ours, b"!"));
        }
        assert_eq!(told(&mut bench), (1, 4, 1, 1), "{theirs} to {ours}");
    }
    let mut bench = observing();
    bench.verdict(IN, &tcp(CLIENT, 443, HOST, 50_000, ACK, 0, b"late"));
    bench.verdict(OUT, &tcp(HOST, 50_000, CLIENT, 443, ACK, 0, b""));
    bench.verdict(IN, &tcp(CLIENT, 443, HOST, 50_000, ACK, 4, b"more"));
    assert_eq!(told(&mut bench), (1, 2, 1, 1), "a download under way");
    let mut bench = observing();
    segment(&mut bench, IN, 5_000, SYN, 0);
    segment(&mut bench, OUT, 5_000, SYN, 0);
    assert_eq!(told(&mut bench), (1, 1, 1, 1), "both at once");
    // Where the sides are not known, one of them is enough to be denied.
    let mut bench = observing();
    for _ in 0..3 {
        bench.verdict(IN, &tcp(CLIENT, 443, HOST, 50_000, ACK, 0, b"late"));
        bench.verdict(IN, &tcp(HOST, 50_000, CLIENT, 443, ACK, 0, b""));
    }
    assert_eq!(told(&mut bench), (1, 0, 1, 0));
}

/// Lets one new connection a second in.
fn one_a_second(port: u16) -> Rule {
    let one = NonZeroU32::MIN;
    Rule {
        rate: Some(Rate {
            amount: one,
            unit: RateUnit::Connections,
            per: Duration::from_secs(1),
            burst: one,
        }),
        ..tcp_port(Action::Limit, port)
    }
}

#[test]
fn what_is_let_in_when_it_is_sent_again_is_a_flow_as_any() {
    let mut bench = Bench::new(plan(vec![one_a_second(80)]));
    bench.engine.only_observe(true);
    bench.verdict(IN, &tcp(CLIENT, 39_999, HOST, 80, SYN, 0, b""));
    assert_eq!(segment(&mut bench, IN, 80, SYN, 5), Verdict::Drop);
    bench.pass(1_000);
    assert_eq!(segment(&mut bench, IN, 80, SYN, 5), Verdict::Allow);
    assert_eq!(segment(&mut bench, OUT, 80, SYN_ACK, 6), Verdict::Allow);
    assert_eq!(segment(&mut bench, IN, 80, ACK, 6), Verdict::Allow);
    assert_eq!(bench.engine.totals().sequels, 0);
}

/// A packet of SCTP with one chunk.
fn sctp(source: &str, sport: u16, destination: &str, port: u16, chunk: u8) -> Vec<u8> {
    let mut payload = [sport.to_be_bytes(), port.to_be_bytes()].concat();
    payload.extend([0, 0, 0, 1, 0, 0, 0, 0, chunk, 0, 0, 4]);
    let mut bytes = Vec::new();
    ip(source, destination)
        .write(&mut bytes, etherparse::IpNumber(132), &payload)
        .unwrap();
    bytes
}

#[test]
fn an_association_is_denied_once_too() {
    const COOKIE_ECHO_AND_DATA: [u8; 3] = [10, 0, 0];
    for (answer, denied) in [(2, 1), (6, 4)] {
        let mut bench = observing();
        bench.verdict(IN, &sctp(CLIENT, 40_000, HOST, 2905, 1));
        bench.verdict(OUT, &sctp(HOST, 2905, CLIENT, 40_000, answer));
        for chunk in COOKIE_ECHO_AND_DATA {
            bench.verdict(IN, &sctp(CLIENT, 40_000, HOST, 2905, chunk));
        }
        assert_eq!(told(&mut bench).2, denied, "answered by {answer}");
    }
}

#[test]
fn a_flood_of_what_nobody_answers_does_not_push_out_what_goes_on() {
    let mut policy = plan(vec![]);
    policy.limits = Limits {
        flows: 64,
        ..policy.limits
    };
    let mut bench = Bench::new(policy);
    bench.engine.only_observe(true);
    segment(&mut bench, IN, 8080, SYN, 0);
    segment(&mut bench, OUT, 8080, SYN_ACK, 1);
    for n in 0..20_000_u32 {
        let source = format!("198.51.{}.{}", n >> 8 & 0xff, n & 0xff);
        bench.verdict(IN, &tcp(&source, 1_024, HOST, 9, SYN, 0, b""));
    }
    told(&mut bench);
    segment(&mut bench, IN, 8080, ACK, 1);
    assert_eq!(told(&mut bench).0, 0);
}

/// One thing that happens at a host behind a firewall that enforces the same policy.
#[derive(Clone, Debug)]
enum Step {
    /// A segment of the client, by its port and the host's.
    Segment(u16, u16, u8, u32),
    Datagram(u16, u16),
    Ping(u16),
    /// The host begins by itself.
    Connects(u16, u16),
    Sends(u16),
    Waits(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 40_000..40_003_u16;
    let port = prop_oneof![Just(80_u16), Just(81), 100..110_u16];
    let flags = prop_oneof![
        Just(SYN),
        Just(SYN),
        Just(ACK),
        Just(FIN_ACK),
        Just(RST),
        Just(SYN_ACK),
        Just(0x29),
        Just(0)
    ];
    let step = prop_oneof![
        8 => (client.clone(), port.clone(), flags, 0..3_u32)
            .prop_map(|(client, port, flags, seq)| Step::Segment(client, port, flags, seq)),
        2 => (client.clone(), port.clone()).prop_map(|(client, port)| Step::Datagram(client, port)),
        1 => (5_000..5_003_u16).prop_map(|port| Step::Datagram(port, port)),
        1 => (0..3_u16).prop_map(Step::Ping),
        1 => (client, port).prop_map(|(client, port)| Step::Connects(port, client)),
        1 => (5_000..5_003_u16).prop_map(Step::Sends),
        1 => (0..2_000_u64).prop_map(Step::Waits),
    ];
    proptest::collection::vec(step, 0..120)
}

/// What the host answers to a packet that reaches it.
fn answer(step: &Step) -> Option<Vec<u8>> {
    let answer = |port, client, flags| tcp(HOST, port, CLIENT, client, flags, 0, b"");
    match *step {
        Step::Segment(client, port, SYN, _) => Some(answer(port, client, SYN_ACK)),
        Step::Segment(client, port, FIN_ACK, _) => Some(answer(port, client, FIN_ACK)),
        Step::Segment(client, port, ACK, _) => Some(answer(port, client, ACK)),
        Step::Segment(..) => None,
        Step::Datagram(client, port) => Some(udp(HOST, port, CLIENT, client, b"!")),
        Step::Ping(id) => Some(ping(HOST, CLIENT, id, true)),
        Step::Connects(..) | Step::Sends(_) | Step::Waits(_) => None,
    }
}

proptest! {
    /// A capture behind or before a firewall that drops what the policy denies: nothing of it is left out, and all comes out as it
    /// does enforcing.
    #[test]
    fn what_was_dropped_is_judged_as_enforcing_judges_it(steps in steps()) {
        let mut policy = plan(vec![tcp_port(Action::Allow, 80), one_a_second(81)]);
        policy.detect = Detect {
            blocked: Some(Blocked { packets: 20, ..Blocked::default() }),
            ..Detect::standard()
        };
        let mut enforcing = Bench::new(policy.clone());
        let mut observing = Bench::new(policy);
        observing.engine.only_observe(true);
        for step in steps {
            let (direction, packet) = match step {
                Step::Segment(client, port, flags, seq) => {
                    (IN, tcp(CLIENT, client, HOST, port, flags, seq, b""))
                }
                Step::Datagram(client, port) => (IN, udp(CLIENT, client, HOST, port, b"?")),
                Step::Ping(id) => (IN, ping(CLIENT, HOST, id, false)),
                Step::Connects(port, client) => {
                    // Nobody who did not get it knows its number.
                    (OUT, tcp(HOST, port, CLIENT, client, SYN, 7_000_000, b""))
                }
                Step::Sends(port) => (OUT, udp(HOST, port, CLIENT, port, b"?")),
                Step::Waits(millis) => {
                    for bench in [&mut enforcing, &mut observing] {
                        bench.pass(millis);
                        bench.engine.advance(bench.now);
                    }
                    continue;
                }
            };
            let decided = enforcing.packet(direction, &packet);
            prop_assert_eq!(decided, observing.packet(direction, &packet));
            let answer = answer(&step).filter(|_| decided.verdict == Verdict::Allow);
            if let Some(answer) = answer {
                let decided = enforcing.packet(OUT, &answer);
                prop_assert_eq!(decided, observing.packet(OUT, &answer));
            }
        }
        prop_assert_eq!(enforcing.engine.totals(), observing.engine.totals());
        prop_assert_eq!(enforcing.engine.rule_hits(), observing.engine.rule_hits());
        let mut observed = observing.events();
        // Only that: nothing was blocked.
        for event in &mut observed {
            if let EventBody::Ban(ban) | EventBody::Unban { ban, .. } = &mut event.body {
                ban.would_be = false;
            }
        }
        prop_assert_eq!(enforcing.events(), observed);
    }
}
