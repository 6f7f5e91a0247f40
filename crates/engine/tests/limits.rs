//! `limit` rules: by connections, by packets, and whose.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod common;

use std::time::Duration;

use Direction::{In, Out};
use Verdict::{Allow, Drop};
use common::*;
use engine::{Reason, Verdict};
use policy::{Action, Direction, PortSet, Rate, RateUnit, Rule, RuleId};

/// So many connections a second, and so many at once.
fn connections(amount: u32, burst: u32) -> Rule {
    Rule {
        rate: Some(Rate {
            amount: amount.try_into().unwrap(),
            unit: RateUnit::Connections,
            per: Duration::from_secs(1),
            burst: burst.try_into().unwrap(),
        }),
        ..tcp_port(Action::Limit, 80)
    }
}

#[test]
fn a_limit_lets_the_rate_through_and_no_more() {
    let limit = connections(20, 40);
    let mut bench = Bench::new(plan(vec![limit]));
    let mut passed = |millis: u64, count: u16, client: &str| {
        bench.pass(millis);
        (0..count)
            .filter(|n| {
                bench.verdict(
                    In,
                    &tcp(
                        client,
                        10_000 + *n + (millis as u16) * 3,
                        HOST,
                        80,
                        SYN,
                        1,
                        b"",
                    ),
                ) == Allow
            })
            .count()
    };
    assert_eq!(passed(0, 100, CLIENT), 40);
    assert_eq!(passed(500, 100, CLIENT), 10);
    assert_eq!(passed(0, 50, "203.0.113.8"), 40, "each source has its own");
}

/// Connection tracking takes each of them but the first for a part of the one before.
#[test]
fn connections_behind_a_reset_are_new_ones() {
    let mut bench = Bench::new(plan(vec![connections(1, 3)]));
    let mut passed = Vec::new();
    for number in 0..5 {
        let [(_, syn), rest @ ..] = reset_connection(4_000, number * 10_000, 80);
        let decision = bench.packet(In, &syn);
        passed.push(decision.verdict);
        if decision.verdict != Allow {
            assert_eq!(decision.reason, Reason::Limited(RuleId(0)));
            continue;
        }
        for (direction, packet) in rest {
            assert_eq!(bench.verdict(direction, &packet), Allow);
        }
    }
    assert_eq!(passed, [Allow, Allow, Allow, Drop, Drop]);
}

/// A reset would end, to connection tracking, the connection that was let in before.
#[test]
fn who_forges_a_syn_in_the_name_of_a_connection_ends_nothing() {
    let mut bench = Bench::new(plan(vec![tcp_port(Action::Allow, 80)]));
    let server = tcp(HOST, 80, CLIENT, 4_000, SYN_ACK, 70_000, b"");
    for (direction, packet) in [
        (In, tcp(CLIENT, 4_000, HOST, 80, SYN, 1, b"")),
        (Out, acknowledging(2, server)),
    ] {
        assert_eq!(bench.verdict(direction, &packet), Allow);
    }
    let reject = plan(vec![tcp_port(Action::Reject, 80)]);
    bench.engine.reload(reject.into());
    let forged = tcp(CLIENT, 4_000, HOST, 80, SYN, 9_000, b"");
    assert_eq!(bench.verdict(In, &forged), Drop);
    for number in 2..5 {
        let data = tcp(CLIENT, 4_000, HOST, 80, ACK, number, b"x");
        assert_eq!(bench.verdict(In, &acknowledging(70_001, data)), Allow);
    }
    let other = tcp(CLIENT, 4_001, HOST, 80, SYN, 1, b"");
    assert_eq!(bench.verdict(In, &other), Verdict::Reject);
}

#[test]
fn packets_and_bytes_are_limited_in_established_flows_too() {
    let limit = Rule {
        rate: Some(Rate {
            amount: 10.try_into().unwrap(),
            unit: RateUnit::Packets,
            per: Duration::from_secs(1),
            burst: 10.try_into().unwrap(),
        }),
        ..tcp_port(Action::Limit, 80)
    };
    let established = |bench: &mut Bench, port: u16| {
        for (direction, packet) in [
            (In, tcp(CLIENT, port, HOST, 80, SYN, 1, b"")),
            (Out, tcp(HOST, 80, CLIENT, port, SYN_ACK, 1, b"")),
        ] {
            assert_eq!(bench.verdict(direction, &packet), Allow);
        }
        let data = tcp(CLIENT, port, HOST, 80, ACK, 2, b"x");
        (0..100)
            .filter(|_| bench.verdict(In, &data) == Allow)
            .count()
    };
    let mut bench = Bench::new(plan(vec![limit.clone()]));
    assert_eq!(established(&mut bench, 4_000), 9, "the SYN took one");
    let data = tcp(CLIENT, 4_000, HOST, 80, ACK, 2, b"x");
    assert_eq!(bench.packet(In, &data).reason, Reason::Limited(RuleId(0)));

    // What an earlier rule let pass is no business of a later limit.
    let trusted = Rule {
        source_port: PortSet::from_ranges([(5_000, 5_000)]),
        ..tcp_port(Action::Allow, 80)
    };
    let mut bench = Bench::new(plan(vec![trusted, limit]));
    assert_eq!(established(&mut bench, 5_000), 100);
    assert_eq!(established(&mut bench, 4_000), 9);
}
