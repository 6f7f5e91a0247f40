//! A wall clock that is set back by an hour, and told to the engine or, as to workers, not.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod common;

use std::num::NonZeroU32;
use std::time::Duration;

use common::*;
use engine::{Alert, EventBody, Verdict};
use policy::{Action, DefaultAction, Direction, Plan, Rate, RateUnit, Response, Timestamp};

const IN: Direction = Direction::In;
const HOUR: Duration = Duration::from_secs(3_600);

fn earlier(at: Timestamp) -> Timestamp {
    Timestamp::from_nanos(at.as_nanos() - HOUR.as_nanos() as u64)
}

/// Runs on after the clock was set back, once for an engine that was told and once for one that was not.
fn set_back(policy: &Plan, before: impl Fn(&mut Bench), after: impl Fn(&mut Bench)) {
    for told in [true, false] {
        let mut bench = Bench::new(policy.clone());
        before(&mut bench);
        bench.events();
        bench.now = earlier(bench.now);
        if told {
            bench.engine.shift(earlier);
        }
        after(&mut bench);
    }
}

fn denied() -> Vec<u8> {
    udp(CLIENT, 40_000, HOST, 9, b"x")
}

fn alerts(bench: &mut Bench) -> usize {
    let is_alert =
        |event: &engine::Event| matches!(event.body, EventBody::Alert(Alert::Detector { .. }));
    bench
        .events()
        .iter()
        .filter(|event| is_alert(event))
        .count()
}

/// Scans and floods are told, everything is let in.
fn told() -> Plan {
    let mut policy = plan(vec![]);
    policy.default.inbound = DefaultAction::Allow;
    policy.detect.scan = Some(policy::Scan {
        response: Response::Alert,
        ..Default::default()
    });
    policy.detect.udp_flood = Some(policy::PacketFlood {
        packets: 10,
        response: Response::Limit,
        ..policy::PacketFlood::udp()
    });
    policy
}

#[test]
fn drops_are_recorded() {
    let mut policy = plan(vec![]);
    policy.log.drops_per_second = 10;
    let flood = |bench: &mut Bench| {
        for _ in 0..50 {
            bench.packet(IN, &denied());
        }
    };
    set_back(&policy, flood, |bench| {
        // Not known is how long before it the last one was.
        bench.packet(IN, &denied());
        for _ in 0..100 {
            bench.pass(1_000);
            bench.packet(IN, &denied());
            assert_eq!(bench.events().len(), 1);
        }
        assert_eq!(bench.engine.unrecorded_packets(), 41);
    });
}

#[test]
fn who_is_within_the_limit_passes() {
    let limit = policy::Rule {
        rate: Some(Rate {
            amount: NonZeroU32::new(10).unwrap(),
            per: Duration::from_secs(1),
            burst: NonZeroU32::new(10).unwrap(),
            unit: RateUnit::Packets,
        }),
        ..rule(Action::Limit)
    };
    for policy in [told(), plan(vec![limit])] {
        let flood = |bench: &mut Bench| {
            for _ in 0..50 {
                bench.packet(IN, &denied());
            }
        };
        set_back(&policy, flood, |bench| {
            bench.packet(IN, &denied());
            for second in 0..100 {
                bench.pass(1_000);
                let verdict = bench.verdict(IN, &denied());
                assert_eq!(verdict, Verdict::Allow, "{second} s");
            }
        });
    }
}

#[test]
fn scans_and_floods_are_told() {
    let scan = |bench: &mut Bench| {
        for port in 1..=5 {
            bench.packet(IN, &tcp(CLIENT, 1_000, HOST, port, SYN, 9, b""));
            bench.packet(
                Direction::Out,
                &tcp(HOST, port, CLIENT, 1_000, RST | ACK, 1, b""),
            );
        }
    };
    let flood = |bench: &mut Bench| {
        for _ in 0..50 {
            bench.packet(IN, &denied());
        }
    };
    for attack in [&scan as &dyn Fn(&mut Bench), &flood] {
        set_back(&told(), attack, |bench| {
            for minute in 0..10 {
                bench.pass(60_000);
                attack(bench);
                assert_eq!(alerts(bench), 1, "{minute}");
            }
        });
    }
}

#[test]
fn a_few_denied_packets_an_hour_are_none_too_many() {
    let mut policy = plan(vec![]);
    policy.detect.blocked = Some(policy::Blocked::default());
    let one = |bench: &mut Bench| {
        bench.packet(IN, &denied());
    };
    set_back(&policy, one, |bench| {
        for _ in 0..200 {
            bench.pass(15_000);
            bench.packet(IN, &denied());
        }
        assert_eq!(bench.engine.bans().count(), 0);
    });
}

#[test]
fn answered_flows_end_in_their_time() {
    let answered = |bench: &mut Bench| {
        bench.packet(IN, &denied());
        bench.packet(Direction::Out, &udp(HOST, 9, CLIENT, 40_000, b"x"));
    };
    set_back(&told(), answered, |bench| {
        bench.engine.advance(bench.now);
        bench.pass(130_000);
        bench.engine.advance(bench.now);
        assert_eq!(bench.engine.flows().count(), 0);
    });
}

#[test]
fn who_was_banned_is_forgotten_when_the_memory_is_over() {
    let mut bench = Bench::new(plan(vec![]));
    let prefix = "203.0.113.7/32".parse().unwrap();
    let origin = engine::BanOrigin::Manual;
    let (now, memory) = (bench.now, bench.engine.plan().ban.memory);
    bench
        .engine
        .ban(now, prefix, Some(HOUR), origin, String::new())
        .unwrap();
    bench.now = earlier(bench.now);
    bench.engine.shift(earlier);
    let offences = |bench: &Bench, at| bench.engine.offender(prefix, at).offences;
    assert_eq!(offences(&bench, bench.now.after(memory)), 1);
    let over = bench.now.after(memory + Duration::from_secs(1));
    assert_eq!(offences(&bench, over), 0);
}
