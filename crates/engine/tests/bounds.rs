//! Promises in numbers: deciding allocates nothing, and strangers' packets cannot grow memory past its ceilings.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod common;
#[path = "../../wire/tests/counting/mod.rs"]
mod counting;

use common::*;
use counting::{allocations, held};
use engine::Verdict;
use policy::{
    Action, Content, Detect, Direction, Limits, Pattern, Plan, Protocols, RateLimit, Rule, Scope,
};

#[test]
fn deciding_allocates_nothing() {
    let rules = (1..500).map(|port| tcp_port(Action::Allow, port)).collect();
    let mut bench = Bench::new(plan(rules));
    let (syn, answer) = (
        tcp(CLIENT, 4_000, HOST, 80, SYN, 1, b""),
        tcp(HOST, 80, CLIENT, 4_000, SYN_ACK, 1, b""),
    );
    let data = tcp(CLIENT, 4_000, HOST, 80, ACK, 2, b"hello");
    assert_eq!(bench.verdict(Direction::In, &syn), Verdict::Allow);
    assert_eq!(bench.verdict(Direction::Out, &answer), Verdict::Allow);
    let before = allocations();
    for _ in 0..1_000 {
        assert_eq!(bench.verdict(Direction::In, &data), Verdict::Allow);
    }
    assert_eq!(allocations() - before, 0);
}

/// With all that counts packets, whichever way they go, as long as nothing begins.
#[test]
fn following_flows_allocates_nothing() {
    let mut detect = Detect::standard();
    detect.rate = Some(RateLimit {
        established: true,
        packets: 1_000_000,
        ..RateLimit::default()
    });
    let mut bench = Bench::new(Plan {
        detect,
        limits: Limits {
            flows: 4_096,
            ..Limits::default()
        },
        ..plan(vec![tcp_port(Action::Allow, 443)])
    });
    bench.engine.only_observe(true);
    let mut turns: Vec<[(Direction, Vec<u8>); 2]> = Vec::new();
    for port in 1_000..3_000 {
        let syn = tcp(CLIENT, port, HOST, 443, SYN, 1, b"");
        let answer = tcp(HOST, 443, CLIENT, port, SYN_ACK, 1, b"");
        let done = acknowledging(2, tcp(CLIENT, port, HOST, 443, ACK, 2, b""));
        for (direction, packet) in [
            (Direction::In, syn),
            (Direction::Out, answer),
            (Direction::In, done),
        ] {
            assert_eq!(bench.verdict(direction, &packet), Verdict::Allow);
        }
        turns.push([
            (
                Direction::In,
                tcp(CLIENT, port, HOST, 443, ACK, 2, b"question"),
            ),
            (
                Direction::Out,
                tcp(HOST, 443, CLIENT, port, ACK, 2, b"answer"),
            ),
        ]);
    }
    while bench.engine.poll_event().is_some() {}
    let before = allocations();
    for _ in 0..3 {
        for turn in &turns {
            let verdicts = turn
                .each_ref()
                .map(|(way, packet)| bench.verdict(*way, packet));
            assert_eq!(verdicts, [Verdict::Allow; 2]);
        }
    }
    assert_eq!(allocations() - before, 0);
}

#[test]
fn looking_for_many_texts_allocates_nothing() {
    let texts = (0..100).map(|number| format!("text number {number}"));
    let mut rules: Vec<Rule> = texts
        .map(|text| Rule {
            content: Some(Content {
                pattern: Some(Pattern::Contains {
                    bytes: text.into_bytes(),
                    ignore_case: false,
                }),
                min_len: 1,
                max_len: None,
                scope: Scope::Packet,
                every_packet: true,
            }),
            protocols: Protocols::one(17),
            ..tcp_port(Action::Deny, 5_060)
        })
        .collect();
    rules.push(Rule {
        protocols: Protocols::one(17),
        ..tcp_port(Action::Allow, 5_060)
    });
    let mut bench = Bench::new(plan(rules));
    let begin = udp(CLIENT, 4_000, HOST, 5_060, b"something else");
    let bad = udp(CLIENT, 4_000, HOST, 5_060, b"text number 77");
    assert_eq!(bench.verdict(Direction::In, &begin), Verdict::Allow);
    assert_eq!(bench.verdict(Direction::In, &bad), Verdict::Drop);
    while bench.engine.poll_event().is_some() {}
    let before = allocations();
    for _ in 0..1_000 {
        assert_eq!(bench.verdict(Direction::In, &begin), Verdict::Allow);
    }
    assert_eq!(allocations() - before, 0);
}

#[test]
fn random_sources_do_not_grow_memory() {
    let limits = Limits {
        flows: 4_096,
        sources: 1_024,
        stream_bytes: 1 << 20,
        fragment_bytes: 1 << 20,
    };
    let mut policy = Plan {
        limits,
        ..plan(vec![tcp_port(Action::Allow, 80)])
    };
    policy.detect.blocked = Some(policy::Blocked::default());
    policy.detect.rate = Some(policy::RateLimit::default());
    let mut bench = Bench::new(policy);
    let flood = |bench: &mut Bench, from: u32, count: u32| {
        for n in from..from + count {
            let source =
                std::net::Ipv4Addr::from_bits(0x0b00_0000 + n.wrapping_mul(7_919)).to_string();
            let port = if n % 2 == 0 { 80 } else { 81 };
            bench.packet(Direction::In, &tcp(&source, 1_000, HOST, port, SYN, 1, b""));
            bench.pass(0);
            while bench.engine.poll_event().is_some() {}
        }
    };
    flood(&mut bench, 0, 50_000);
    let before = held();
    flood(&mut bench, 50_000, 200_000);
    let growth = held() - before;
    assert!(
        growth < 256 * 1_024,
        "{growth} bytes more after 200,000 further sources"
    );
}

/// However many there are: events of all at once would be several times the memory of the flows.
#[test]
fn flows_end_in_the_order_they_began_some_thousand_at_a_time() {
    let mut bench = Bench::new(plan(vec![tcp_port(Action::Allow, 443)]));
    for port in 1_000..11_000 {
        let syn = tcp(CLIENT, port, HOST, 443, SYN, 1, b"");
        assert_eq!(bench.verdict(Direction::In, &syn), Verdict::Allow);
    }
    bench.events();
    let mut ended = Vec::new();
    let mut turns = 0;
    while bench.engine.finish(bench.now) {
        let events = bench.events();
        assert!(events.len() <= 4_096, "{}", events.len());
        ended.extend(
            events
                .into_iter()
                .filter_map(|event| event.tuple?.source_port),
        );
        turns += 1;
    }
    assert_eq!(turns, 3);
    assert!(ended.into_iter().eq(1_000..11_000));
    assert!(!bench.engine.finish(bench.now));
    let syn = tcp(CLIENT, 999, HOST, 443, SYN, 1, b"");
    assert_eq!(bench.verdict(Direction::In, &syn), Verdict::Allow);
    assert!(
        bench.engine.finish(bench.now),
        "one that began behind the end"
    );
    assert!(!bench.engine.finish(bench.now));
}
