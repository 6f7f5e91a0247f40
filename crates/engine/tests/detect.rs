//! Detectors on whole packets and simulated time: what is a scan, a flood and a guess, and what is none.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod common;

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
fn a_reset_counts_and_a_served_port_does_not() {
    let mut bench = bench(open());
    for port in 1..=30 {
        bench.packet(IN, &tcp(CLIENT, 40_000, HOST, 1_000 + port, SYN, 1, b""));
        bench.packet(
            OUT,
            &tcp(HOST, 1_000 + port, CLIENT, 40_000, SYN_ACK, 0, b""),
        );
        bench.packet(IN, &tcp(CLIENT, 40_000, HOST, 1_000 + port, ACK, 2, b""));
    }
    assert_eq!(bans(&mut bench), [""; 0], "thirty served ports");
    let stranger = "198.51.100.9";
    for port in 1..=5 {
        assert_eq!(bans(&mut bench), [""; 0], "{port}");
        bench.packet(IN, &tcp(stranger, 40_000, HOST, port, SYN, 1, b""));
        bench.packet(OUT, &tcp(HOST, port, stranger, 40_000, RST | ACK, 1, b""));
        bench.pass(100);
    }
    assert_eq!(
        bans(&mut bench),
        ["198.51.100.9/32: vertical SYN scan of 5 ports in 0.4 s (threshold 5 in 10 s)"]
    );
}

#[test]
fn icmp_says_that_udp_is_refused_and_silence_says_it_later() {
    let mut bench = bench(open());
    for port in 1..=5 {
        let probe = udp(CLIENT6, 40_000, HOST6, port, b"x");
        bench.packet(IN, &probe);
        bench.packet(OUT, &unreachable(HOST6, CLIENT6, &probe));
    }
    assert_eq!(
        bans(&mut bench),
        ["2001:db8:1::/64: vertical UDP scan of 5 ports in 0.0 s (threshold 5 in 10 s)"]
    );
    for port in 1..=5 {
        bench.packet(IN, &tcp(CLIENT, 40_000, HOST, port, SYN, 1, b""));
    }
    bench.pass(4_000);
    bench.engine.advance(bench.now);
    assert_eq!(bans(&mut bench), [""; 0], "an answer may still come");
    bench.pass(1_000);
    bench.engine.advance(bench.now);
    assert_eq!(bans(&mut bench).len(), 1);
}

#[test]
fn protocol_after_protocol_and_address_after_address() {
    let mut bench = bench(plan(vec![]));
    let mut policy = Plan::clone(bench.engine.plan());
    policy.detect = Detect::standard();
    bench.engine.reload(Arc::new(policy));
    for protocol in [2, 4, 41, 47, 50, 51, 89, 103] {
        let mut packet = ping(CLIENT, HOST, 1, false)[..20].to_vec();
        packet[2..4].copy_from_slice(&20_u16.to_be_bytes());
        packet[9] = protocol;
        packet[10..12].copy_from_slice(&[0, 0]);
        let sum: u32 = packet
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        bench.packet(IN, &packet);
    }
    let found = bans(&mut bench);
    assert!(
        found.len() == 1 && found[0].contains("vertical IP protocol scan of 5 ports"),
        "{found:?}"
    );
    for host in 1..=10 {
        let host = format!("10.9.8.{host}");
        bench.packet(
            Direction::Forward,
            &tcp("198.51.100.9", 40_000, &host, 22, SYN, 1, b""),
        );
    }
    let found = bans(&mut bench);
    assert!(
        found.len() == 1 && found[0].contains("horizontal SYN scan of 10 addresses"),
        "{found:?}"
    );
}

#[test]
fn what_this_host_does_is_told_and_bans_nobody() {
    let mut bench = bench(open());
    for port in 1..=5 {
        bench.packet(OUT, &tcp(HOST, 40_000, CLIENT, port, SYN, 1, b""));
        bench.packet(IN, &tcp(CLIENT, port, HOST, 40_000, RST | ACK, 1, b""));
    }
    let events = bench.events();
    assert_eq!(
        alerts(&events),
        ["scan false: vertical SYN scan of 5 ports in 0.0 s (threshold 5 in 10 s)"]
    );
    assert_eq!(bench.engine.bans().count(), 0);
    for host in 1..=50 {
        let peer = format!("203.0.113.{host}");
        bench.packet(OUT, &tcp(HOST, 40_000, &peer, 30_303, SYN, 1, b""));
    }
    bench.pass(60_000);
    bench.engine.advance(bench.now);
    assert_eq!(alerts(&bench.events()), [""; 0], "a client of many peers");
}

#[test]
fn answers_to_others_and_late_answers_are_no_scan() {
    let mut bench = bench(plan(vec![]));
    let mut policy = Plan::clone(bench.engine.plan());
    policy.detect = Detect {
        scan: Some(policy::Scan::default()),
        ..Detect::default()
    };
    bench.engine.reload(Arc::new(policy));
    for n in 0..100 {
        for flags in [SYN_ACK, RST, RST | ACK, FIN_ACK, ACK] {
            bench.packet(IN, &tcp(CLIENT, 443, HOST, 40_000 + n, flags, 1, b""));
        }
        bench.packet(IN, &udp(CLIENT, 53, HOST, 40_000 + n, b"late"));
        bench.packet(IN, &udp(CLIENT, 50_000, HOST, 33_434 + n, b"traceroute"));
    }
    assert_eq!(bans(&mut bench), [""; 0]);
}

#[test]
fn half_open_connections_are_limited_and_completed_ones_are_not() {
    let mut bench = bench(open());
    let syn = |bench: &mut Bench, source: &str, n: u16| {
        bench.packet(IN, &tcp(source, 1_024 + n, HOST, 443, SYN, 1, b""))
    };
    let passed = (0..500)
        .filter(|&n| syn(&mut bench, "198.51.100.9", n).verdict == Verdict::Allow)
        .count();
    assert_eq!(passed, 200);
    let last = syn(&mut bench, "198.51.100.9", 600);
    assert_eq!(last.reason, Reason::Flood(engine::Detector::SynFlood));
    assert_eq!(
        alerts(&bench.events()),
        ["syn_flood false: 201 half-open connections, over the rate of 200 in 1 s"]
    );
    for n in 0..900 {
        assert_eq!(syn(&mut bench, CLIENT, n).verdict, Verdict::Allow, "{n}");
        bench.packet(OUT, &tcp(HOST, 443, CLIENT, 1_024 + n, SYN_ACK, 0, b""));
        bench.packet(IN, &tcp(CLIENT, 1_024 + n, HOST, 443, ACK, 2, b""));
        bench.pass(1);
    }
    bench.events();
    // Everybody together, none of them over their own rate: who is new would pay for it.
    let dropped = (0..8_000_u32)
        .filter(|n| {
            let source = format!("11.{}.{}.{}", n >> 16, n >> 8 & 0xff, n & 0xff);
            syn(&mut bench, &source, 1).verdict == Verdict::Drop
        })
        .count();
    assert_eq!(dropped, 0);
    let told = alerts(&bench.events());
    assert!(
        told.len() == 1
            && told[0].contains("half-open connections of all sources, over the rate of 5000"),
        "{told:?}"
    );
    assert_eq!(bench.engine.bans().count(), 0, "nobody is banned for it");
}

#[test]
fn floods_of_icmp_and_udp_are_limited_whether_answered_or_not() {
    let mut bench = bench(open());
    let mut pings = 0;
    for _ in 0..300 {
        if bench.verdict(IN, &ping(CLIENT, HOST, 7, false)) == Verdict::Allow {
            pings += 1;
            bench.packet(OUT, &ping(HOST, CLIENT, 7, true));
        }
    }
    assert_eq!(pings, 100);
    let guarded = "192.0.2.254";
    let all = (0..300).all(|_| bench.verdict(IN, &ping(guarded, HOST, 7, false)) == Verdict::Allow);
    assert!(all, "protected");
    let mut policy = open();
    policy.detect.rate = None;
    bench.engine.reload(Arc::new(policy));
    let datagram = udp(CLIENT, 40_000, HOST, 4_000, b"x");
    let passed = (0..3_000)
        .filter(|_| bench.verdict(IN, &datagram) == Verdict::Allow)
        .count();
    assert_eq!(passed, 2_000);
    bench.packet(OUT, &udp(HOST, 4_000, CLIENT, 40_000, b"y"));
    assert!(
        (0..5_000).all(|_| bench.verdict(IN, &datagram) == Verdict::Allow),
        "answered"
    );
}

#[test]
fn a_flood_of_icmp_is_limited_and_its_source_banned_for_its_rate() {
    for (source, host, answered) in [
        (CLIENT, HOST, false),
        (CLIENT, HOST, true),
        (CLIENT6, HOST6, false),
        (CLIENT6, HOST6, true),
    ] {
        let mut bench = bench(open());
        let mut passed = 0;
        for n in 1..=1_001 {
            assert_eq!(bench.engine.bans().count(), 0, "{source} {n}");
            if bench.verdict(IN, &ping(source, host, 7, false)) == Verdict::Allow {
                passed += 1;
                if answered {
                    bench.packet(OUT, &ping(host, source, 7, true));
                }
            }
        }
        assert_eq!(passed, 100, "{source}");
        assert_eq!(
            alerts(&bench.events()),
            [
                "icmp_flood false: 101 ICMP packets, over the rate of 100 in 1 s",
                "rate true: 1001 packets, over the rate of 1000 in 1 s"
            ],
            "{source} {answered}"
        );
    }
    // What this host asked for comes back at any pace, and so does what the network cannot be without.
    let mut bench = bench(open());
    bench.packet(OUT, &ping(HOST, CLIENT, 7, false));
    for _ in 0..3_000 {
        bench.packet(IN, &ping(CLIENT, HOST, 7, true));
        bench.packet(IN, &ping("192.0.2.254", HOST, 7, false));
    }
    assert_eq!(alerts(&bench.events()), [""; 0]);
    assert_eq!(bench.engine.bans().count(), 0);
}

#[test]
fn packets_of_all_flows_count_once_where_the_rate_asks_for_them() {
    let mut policy = open();
    policy.detect.icmp_flood = None;
    policy.detect.rate.as_mut().unwrap().established = true;
    let mut bench = bench(policy);
    for n in 1..=1_000 {
        let passes = bench.verdict(IN, &ping(CLIENT, HOST, 7, false)) == Verdict::Allow;
        assert!(passes, "{n}");
        bench.packet(OUT, &ping(HOST, CLIENT, 7, true));
    }
    bench.packet(IN, &ping(CLIENT, HOST, 7, false));
    assert_eq!(bench.engine.bans().count(), 1);
}

/// A source goes on with a port every tenth of a second, whatever becomes of it; how many were banned, and when.
fn bans_of_who_goes_on(lift: bool) -> Vec<u64> {
    let mut policy = plan(vec![]);
    policy.detect = Detect {
        scan: Some(policy::Scan {
            ban: std::time::Duration::from_secs(2),
            ..policy::Scan::default()
        }),
        ..Detect::default()
    };
    let mut bench = bench(policy);
    let begun = bench.now;
    let mut banned = Vec::new();
    for port in 1..=80 {
        let found = bench.engine.bans().count();
        bench.packet(IN, &tcp(CLIENT, 40_000, HOST, port, SYN, 1, b""));
        if bench.engine.bans().count() > found {
            banned.push(bench.now.since(begun).as_millis() as u64);
        }
        if lift && port == 8 {
            let prefix = bench.engine.bans().next().unwrap().prefix;
            bench.engine.unban(bench.now, prefix);
        }
        bench.pass(100);
        bench.engine.advance(bench.now);
    }
    banned
}

#[test]
fn who_scans_on_after_a_ban_is_banned_at_the_fifth_further_port() {
    assert_eq!(bans_of_who_goes_on(false), [400, 2_800, 5_200, 7_600]);
    assert_eq!(bans_of_who_goes_on(true), [400, 1_200, 3_600, 6_000]);
}

#[test]
fn segments_out_of_the_blue_that_nobody_answers_are_a_scan_and_answered_ones_are_none() {
    const PSH_ACK: u8 = 0x18;
    for flags in [ACK, PSH_ACK] {
        for (is_answered, found) in [(false, 1), (true, 0)] {
            let mut bench = bench(open());
            for port in 1..=3 {
                bench.packet(IN, &tcp(CLIENT, 40_000, HOST, port, flags, 1, b""));
                if is_answered {
                    bench.packet(OUT, &tcp(HOST, port, CLIENT, 40_000, ACK, 1, b"data"));
                }
            }
            for _ in 0..7 {
                bench.pass(1_000);
                bench.engine.advance(bench.now);
            }
            assert_eq!(bench.engine.bans().count(), found, "{flags} {is_answered}");
        }
    }
}

#[test]
fn all_sources_together_are_nobody() {
    let mut policy = open();
    policy.detect.syn_flood = Some(policy::SynFlood {
        host_half_open: 100,
        ..policy::SynFlood::default()
    });
    let mut bench = bench(policy);
    for n in 0..200_u32 {
        bench.packet(IN, &raw_syn((0x0b00_0000 + n).into(), 443));
    }
    let told: Vec<Event> = (bench.events().into_iter())
        .filter(|event| matches!(event.body, EventBody::Alert(_)))
        .collect();
    assert_eq!((told.len(), told[0].tuple), (1, None));
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

#[test]
fn probes_in_the_name_of_a_served_client_ban_it_for_the_first_step_alone() {
    let first = Detect::standard().scan.unwrap().ban;
    for (client, host, forged) in [
        (CLIENT, HOST, CLIENT),
        (CLIENT6, HOST6, CLIENT6),
        (CLIENT6, HOST6, "2001:db8:1::dead"),
    ] {
        let mut bench = bench(open());
        for round in 0..3 {
            let port = 40_000 + round;
            bench.packet(IN, &tcp(client, port, host, 443, SYN, 1, b""));
            bench.packet(OUT, &tcp(host, 443, client, port, SYN_ACK, 1, b""));
            bench.packet(IN, &tcp(client, port, host, 443, ACK, 2, b""));
            for closed in 1..=5 {
                bench.packet(IN, &tcp(forged, 1_000, host, closed, SYN, 9, b""));
                bench.packet(OUT, &tcp(host, closed, forged, 1_000, RST | ACK, 1, b""));
            }
            let ban = bench.engine.bans().next().unwrap().clone();
            assert!(!ban.evidence.unwrap().proven, "{forged} {round}");
            assert_eq!(ban.expires.since(ban.since), first, "{forged} {round}");
            assert_eq!(ban.offences, 0);
            bench.now = ban.expires;
            bench.engine.advance(bench.now);
        }
    }
}

#[test]
fn forged_probes_beside_served_clients_widen_nothing() {
    let mut bench = bench(open());
    for subnet in 0..6 {
        let client = format!("2001:db8:1:{subnet}::7");
        bench.packet(IN, &tcp(&client, 40_000, HOST6, 443, SYN, 1, b""));
        bench.packet(OUT, &tcp(HOST6, 443, &client, 40_000, SYN_ACK, 1, b""));
        bench.packet(IN, &tcp(&client, 40_000, HOST6, 443, ACK, 2, b""));
        for closed in 1..=5 {
            bench.packet(IN, &tcp(&client, 1_000, HOST6, closed, SYN, 9, b""));
            bench.packet(OUT, &tcp(HOST6, closed, &client, 1_000, RST | ACK, 1, b""));
        }
    }
    assert_eq!(bench.engine.bans().count(), 6);
    assert!(bench.engine.bans().all(|ban| ban.prefix.prefix_len() == 64));
}

/// A rate of 100 packets for all of them, and 200 for UDP alone.
fn two_meters(rate: policy::Response, udp: policy::Response) -> Bench {
    let mut policy = plan(vec![]);
    policy.default.inbound = DefaultAction::Allow;
    policy.detect.rate = Some(policy::RateLimit {
        packets: 100,
        response: rate,
        ..Default::default()
    });
    policy.detect.udp_flood = Some(policy::PacketFlood {
        packets: 200,
        response: udp,
        ..policy::PacketFlood::udp()
    });
    bench(policy)
}

#[test]
fn a_meter_that_only_tells_hides_none_behind_it_and_one_that_drops_does() {
    use policy::Response::{Alert, Ban, Limit};
    for (rate, udp_flood, passed, told) in [
        (Alert, Alert, 1_000, "rate, udp_flood"),
        (Alert, Limit, 200, "rate, udp_flood"),
        (Alert, Ban, 200, "rate, udp_flood"),
        (Limit, Ban, 100, "rate"),
        (Ban, Alert, 100, "rate"),
    ] {
        let mut bench = two_meters(rate, udp_flood);
        let datagram = udp(CLIENT, 40_000, HOST, 4_000, b"x");
        let passes = |_: &i32| bench.verdict(IN, &datagram) == Verdict::Allow;
        let count = (0..1_000).filter(passes).count();
        let names: Vec<String> = alerts(&bench.events())
            .iter()
            .map(|alert| alert.split(' ').next().unwrap().to_owned())
            .collect();
        assert_eq!(
            (count, names.join(", ").as_str()),
            (passed, told),
            "{rate:?} {udp_flood:?}"
        );
    }
}

#[test]
fn services_used_long_ago_excuse_nobody() {
    let mut bench = bench(open());
    for port in 1_000..1_020 {
        bench.packet(IN, &udp(CLIENT, 40_000, HOST, port, b"x"));
        bench.packet(OUT, &udp(HOST, port, CLIENT, 40_000, b"x"));
    }
    bench.pass(7 * 86_400_000);
    bench.engine.advance(bench.now);
    for port in 1..=5 {
        assert_eq!(bans(&mut bench), [""; 0], "{port}");
        bench.packet(IN, &tcp(CLIENT, 40_000, HOST, port, SYN, 1, b""));
        bench.packet(OUT, &tcp(HOST, port, CLIENT, 40_000, RST | ACK, 1, b""));
    }
    assert_eq!(bans(&mut bench).len(), 1);
}

#[test]
fn what_an_ipv6_host_says_of_an_unknown_protocol_is_a_refusal() {
    use etherparse::icmpv6::ParameterProblemCode;
    for (code, found) in [
        (ParameterProblemCode::UnrecognizedNextHeader, 1),
        (ParameterProblemCode::ErroneousHeaderField, 0),
    ] {
        let mut bench = bench(open());
        for port in 1..=5 {
            let probe = udp(CLIENT6, 40_000, HOST6, port, b"x");
            bench.packet(IN, &probe);
            let mut problem = Vec::new();
            ip(HOST6, CLIENT6)
                .icmpv6(etherparse::Icmpv6Type::ParameterProblem(
                    etherparse::icmpv6::ParameterProblemHeader { code, pointer: 6 },
                ))
                .write(&mut problem, &probe)
                .unwrap();
            bench.packet(OUT, &problem);
        }
        assert_eq!(bans(&mut bench).len(), found, "{code:?}");
    }
}

#[test]
fn time_that_passes_in_small_steps_ends_flows_and_tells_silence_within_a_second() {
    let mut policy = open();
    policy.detect.udp_flood = None;
    policy.detect.rate = None;
    let mut bench = bench(policy);
    bench.engine.advance(bench.now);
    for n in 0..1_000_u16 {
        let source = format!("198.51.{}.{}", 100 + n / 250, n % 250);
        bench.packet(IN, &udp(&source, 40_000, HOST, 53, b"x"));
    }
    for port in 1..=5 {
        bench.packet(IN, &udp(CLIENT, 40_000, HOST, port, b"x"));
    }
    let begun = bench.now;
    let mut counts = Vec::new();
    for _ in 0..320 {
        bench.pass(100);
        bench.engine.advance(bench.now);
        counts.push(bench.engine.flows().count());
    }
    let ban = bench.engine.bans().next().unwrap();
    let silence = ban.since.since(begun).as_secs_f64();
    assert!((5.0..=6.0).contains(&silence), "{silence}");
    assert_eq!((counts[298], counts[311]), (1_005, 0));
    let most = counts.windows(2).map(|pair| pair[0] - pair[1]).max();
    assert!(most < Some(200), "all at once: {most:?}");
}
