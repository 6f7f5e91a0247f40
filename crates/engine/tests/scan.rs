//! Scans too slow for the short window, on simulated time: nmap's T1 (a probe each 15 s) and one port a minute.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod common;

use Direction::{In, Out};
use common::*;
use engine::TrackedEnd;
use engine::Verdict::{Allow, Drop};
use policy::{Action, DefaultAction, Direction, Plan};

const RST_ACK: u8 = RST | ACK;
const SECOND: u64 = 1_000;

fn watching(inbound: DefaultAction) -> Plan {
    let mut plan = plan(Vec::new());
    plan.default.inbound = inbound;
    plan.detect.scan = Some(policy::Scan::default());
    plan
}

/// Probes a closed port every `pause`; the number of the probe that got the source banned, and what it was banned for.
fn scanned(
    inbound: DefaultAction,
    (source, host): (&str, &str),
    pause: u64,
) -> Option<(u16, String)> {
    let mut bench = Bench::new(watching(inbound));
    (1..=200).find_map(|number| {
        let port = 1_000 + number;
        let passed = bench.verdict(In, &tcp(source, 50_000, host, port, SYN, 1, b""));
        match inbound {
            DefaultAction::Allow => {
                assert_eq!(passed, Allow, "probe {number}");
                bench.packet(Out, &tcp(host, port, source, 50_000, RST_ACK, 0, b""));
            }
            DefaultAction::Deny | DefaultAction::Reject => assert_eq!(passed, Drop),
        }
        let found = bench
            .engine
            .bans()
            .next()
            .map(|ban| (number, ban.reason.clone()));
        bench.pass(pause);
        bench.engine.advance(bench.now);
        found
    })
}

#[test]
fn a_slow_scan_is_banned_by_the_twentieth_port() {
    for ends in [(CLIENT, HOST), (CLIENT6, HOST6)] {
        for inbound in [DefaultAction::Deny, DefaultAction::Allow] {
            for (pause, span) in [(15 * SECOND, "285.0 s"), (60 * SECOND, "1140.0 s")] {
                let (number, reason) = scanned(inbound, ends, pause).unwrap();
                assert_eq!(number, 20, "{reason}");
                assert_eq!(
                    reason,
                    format!("slow SYN scan of 20 ports in {span} (threshold 20 in 3600 s)")
                );
            }
            // Nineteen in an hour, and none more.
            assert_eq!(scanned(inbound, ends, 190 * SECOND), None);
        }
    }
}

#[test]
fn a_polite_scan_is_banned_by_the_fifth_port() {
    for inbound in [DefaultAction::Deny, DefaultAction::Allow] {
        let (number, _) = scanned(inbound, (CLIENT, HOST), 400).unwrap();
        assert_eq!(number, 5);
    }
}

/// What this host asked for is no flood: answers and errors that come back, at any pace.
#[test]
fn answers_to_own_pings_are_no_flood_and_pings_are() {
    let mut plan = plan(Vec::new());
    plan.default.inbound = DefaultAction::Allow;
    plan.detect.icmp_flood = Some(policy::PacketFlood::icmp());
    let mut bench = Bench::new(plan);
    for (host, client) in [(HOST, CLIENT), (HOST6, CLIENT6)] {
        for _ in 0..300 {
            bench.packet(Out, &ping(host, client, 7, false));
            assert_eq!(bench.verdict(In, &ping(client, host, 7, true)), Allow);
        }
        let asked = udp(host, 40_000, client, 9, b"x");
        bench.packet(Out, &asked);
        for _ in 0..300 {
            assert_eq!(bench.verdict(In, &unreachable(client, host, &asked)), Allow);
        }
        let passed = (0..300).filter(|_| bench.verdict(In, &ping(client, host, 9, false)) == Allow);
        assert_eq!(passed.count(), 100, "within the rate");
    }
}

/// Segments of servers that this host asked before its connections were forgotten are refused, one closed port after the other.
#[test]
fn late_answers_that_the_kernel_picked_up_are_no_scan() {
    for (by_syn, source_port, banned) in [
        (Some(true), 443, true),
        (Some(false), 443, false),
        // What is not known is not held against a server.
        (None, 443, false),
        (Some(false), 50_000, true),
        (None, 50_000, true),
    ] {
        let mut bench = Bench::new(watching(DefaultAction::Allow));
        for number in 0..8 {
            bench.pass(100);
            bench.engine.observe_flow_end(&TrackedEnd {
                tuple: wire::FiveTuple {
                    source: CLIENT.parse().unwrap(),
                    destination: HOST.parse().unwrap(),
                    protocol: policy::protocol::TCP,
                    source_port: Some(source_port),
                    destination_port: Some(40_000 + number),
                },
                direction: In,
                began: Some(bench.now),
                ended: bench.now,
                by_syn,
                icmp: None,
                answered: false,
                completed: false,
                was_reset: true,
            });
        }
        let is_banned = bench.engine.bans().next().is_some();
        assert_eq!(is_banned, banned, "{by_syn:?} from port {source_port}");
    }
}

/// Neighbours on one link share their `/64` with this host: who scans is banned alone, and nobody for what others did.
#[test]
fn a_neighbour_on_the_link_answers_for_himself() {
    let (host, scanner, neighbour) = ("fd00:77::1", "fd00:77::2", "fd00:77::3");
    let mut bench = Bench::new(watching(DefaultAction::Deny));
    let own: policy::AddressSet = [host.parse::<std::net::IpAddr>().unwrap()]
        .into_iter()
        .collect();
    bench.engine.set_addresses(own.clone(), own, bench.now);
    for port in 1..=4 {
        for source in [scanner, neighbour] {
            bench.verdict(In, &tcp(source, 50_000, host, port, SYN, 1, b""));
        }
    }
    assert_eq!(bench.engine.bans().count(), 0, "four ports each");
    bench.verdict(In, &tcp(scanner, 50_000, host, 5, SYN, 1, b""));
    let banned: Vec<String> = bench
        .engine
        .bans()
        .map(|ban| ban.prefix.to_string())
        .collect();
    assert_eq!(banned, ["fd00:77::2/128"]);
}

/// An address on the allow list, or off it, is no reason to forget who scans.
#[test]
fn whom_else_a_plan_protects_changes_nothing_that_was_counted() {
    let mut bench = Bench::new(watching(DefaultAction::Deny));
    let probe = |bench: &mut Bench, port| {
        bench.verdict(In, &tcp(CLIENT, 50_000, HOST, port, SYN, 1, b""));
        bench.engine.bans().count()
    };
    for port in 1..=4 {
        assert_eq!(probe(&mut bench, port), 0);
    }
    let mut protecting = watching(DefaultAction::Deny);
    protecting.protect.addresses = set(&["192.0.2.50/32"]);
    bench.engine.protect(protecting.into());
    assert_eq!(probe(&mut bench, 5), 1);
    // And whoever is protected from now on is not banned.
    let mut protecting = watching(DefaultAction::Deny);
    protecting.protect.addresses = set(&["198.51.100.0/24"]);
    bench.engine.protect(protecting.into());
    for port in 1..=20 {
        bench.verdict(In, &tcp("198.51.100.9", 50_000, HOST, port, SYN, 1, b""));
    }
    assert_eq!(bench.engine.bans().count(), 1);
}

/// Another rule, another list, the same file again: a scan goes on over all of them. What is set otherwise is counted anew.
#[test]
fn a_reload_does_not_forget_what_detectors_have_counted() {
    let same = watching(DefaultAction::Deny);
    let mut with_a_rule = same.clone();
    with_a_rule.rules.push(tcp_port(Action::Allow, 8_080));
    let mut more_slowly = same.clone();
    if let Some(scan) = &mut more_slowly.detect.scan {
        scan.slow_ports += 1;
    }
    let mut observing = same.clone();
    observing.mode = match same.mode {
        policy::Mode::Observe => policy::Mode::Enforce,
        policy::Mode::Enforce => policy::Mode::Observe,
    };
    for (next, is_known) in [
        (same.clone(), true),
        (with_a_rule, true),
        (more_slowly, false),
        (observing, false),
    ] {
        let mut bench = Bench::new(same.clone());
        for port in 1..=5 {
            if port == 5 {
                bench.engine.reload(next.clone().into());
            }
            bench.verdict(In, &tcp(CLIENT, 50_000, HOST, port, SYN, 1, b""));
        }
        assert_eq!(
            bench.engine.bans().count() == 1,
            is_known,
            "{:?}",
            next.mode
        );
    }
}
