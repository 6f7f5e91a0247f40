//! Detectors on whole packets and simulated time: what is a scan, a flood and a guess, and what is none.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

#[path = "../common/mod.rs"]
mod common;
mod flood;
mod scan;

use std::sync::Arc;

use common::*;
use engine::{Alert, Engine, Event, EventBody, Reason, Setup, TrackedEnd, Verdict};
use policy::{DefaultAction, Detect, Direction, Plan};

const IN: Direction = Direction::In;
const OUT: Direction = Direction::Out;

/// Everything allowed, all detectors as they are by default.
fn open() -> Plan {
    let mut policy = plan(vec![]);
    policy.default.inbound = DefaultAction::Allow;
    policy.default.forward = DefaultAction::Allow;
    policy.detect = Detect::standard();
    policy
}

fn bench(policy: Plan) -> Bench {
    let mut bench = Bench::new(policy);
    bench.engine = Engine::new(Setup {
        plan: Arc::clone(bench.engine.plan()),
        own: set(&["192.0.2.1/32", "2001:db8:2::1/128"]),
        protected: set(&["192.0.2.1/32", "192.0.2.254/32"]),
        seed: 7,
    });
    bench
}

/// Banned prefixes with the detector and what it says.
fn bans(bench: &mut Bench) -> Vec<String> {
    bench
        .events()
        .into_iter()
        .filter_map(|event| match event.body {
            EventBody::Ban(ban) => Some(format!("{}: {}", ban.prefix, ban.reason)),
            _ => None,
        })
        .collect()
}

fn alerts(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Alert(Alert::Detector {
                detector,
                evidence,
                banned,
            }) => Some(format!(
                "{detector} {banned}: {}",
                evidence.describe(*detector)
            )),
            _ => None,
        })
        .collect()
}

#[test]
fn ends_that_the_kernel_tells_count_once_and_as_they_went() {
    let mut bench = bench(open());
    let end = |bench: &Bench, n: u16, port: u16, answered: bool, completed: bool| TrackedEnd {
        tuple: wire::FiveTuple {
            source: CLIENT.parse().unwrap(),
            destination: HOST.parse().unwrap(),
            protocol: 6,
            source_port: Some(40_000 + n),
            destination_port: Some(port),
        },
        direction: IN,
        began: Some(bench.now),
        ended: bench.now.after(std::time::Duration::from_millis(50)),
        icmp: None,
        answered,
        completed,
        was_reset: false,
        by_syn: Some(true),
    };
    for n in 0..50 {
        let open = end(&bench, n, n + 1, true, false);
        bench.engine.observe_flow_end(&open);
    }
    assert_eq!(
        bans(&mut bench),
        [""; 0],
        "open ports that somebody looked at"
    );
    for n in 0..10 {
        assert_eq!(bans(&mut bench), [""; 0], "{n}");
        let guess = end(&bench, n, 22, true, true);
        bench.engine.observe_flow_end(&guess);
        bench.pass(1_000);
    }
    let found = bans(&mut bench);
    assert!(
        found.len() == 1 && found[0].contains("10 short connections to one service in 9.0 s"),
        "{found:?}"
    );
}

#[test]
fn a_million_sources_hide_no_offender_and_ban_nobody_innocent() {
    let mut policy = plan(vec![]);
    policy.limits.sources = 4_096;
    policy.detect = Detect::standard();
    policy.log.drops_per_second = 1;
    let mut bench = bench(policy);
    let mut random = 9_u64;
    for n in 0..1_000_000_u32 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let source = std::net::Ipv4Addr::from(0x0b00_0000 | (random >> 40) as u32 & 0x00ff_ffff);
        let port = (random >> 20) as u16;
        let packet = raw_syn(source, port);
        bench.packet(IN, &packet);
        if n % 500 == 0 {
            let packet = raw_syn([203, 0, 113, 7].into(), (n / 500) as u16);
            bench.packet(IN, &packet);
        }
        if n % 100 == 0 {
            bench.pass(1);
            bench.events();
        }
    }
    let banned: Vec<String> = bench
        .engine
        .bans()
        .map(|ban| ban.prefix.to_string())
        .collect();
    assert_eq!(banned, ["203.0.113.7/32"]);
}

/// A SYN to the host, as fast as they can be made.
fn raw_syn(source: std::net::Ipv4Addr, port: u16) -> Vec<u8> {
    tcp(&source.to_string(), 40_000, HOST, port, SYN, 1, b"")
}
