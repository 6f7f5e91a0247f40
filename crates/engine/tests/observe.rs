//! What comes of a denied flow where nothing is blocked: the preview says what enforcing would have done, and no more.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod common;

use common::*;
use engine::{EventBody, Reason, Verdict};
use policy::{Action, DefaultAction, Direction};

const IN: Direction = Direction::In;
const OUT: Direction = Direction::Out;

fn observing() -> Bench {
    let mut bench = Bench::new(plan(vec![tcp_port(Action::Allow, 80)]));
    bench.engine.only_observe(true);
    bench
}

/// Drops told, allowed and dropped packets, flows.
fn told(bench: &mut Bench) -> (usize, u64, u64, u64) {
    let drops = bench.events().into_iter();
    let drops = drops.filter(|event| matches!(event.body, EventBody::Drop { .. }));
    let totals = bench.engine.totals();
    (drops.count(), totals.allowed, totals.dropped, totals.flows)
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
    let reset = tcp(HOST, 8080, CLIENT, 40_000, RST, 0, b"");
    bench.verdict(OUT, &reset);
    bench.verdict(IN, &syn);
    assert_eq!(told(&mut bench), (1, 0, 4, 0));
    // Each datagram is, and what the service or the host itself says to it is not.
    let question = udp(CLIENT, 40_000, HOST, 53, b"?");
    for _ in 0..3 {
        bench.verdict(IN, &question);
        bench.verdict(OUT, &udp(HOST, 53, CLIENT, 40_000, b"!"));
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
