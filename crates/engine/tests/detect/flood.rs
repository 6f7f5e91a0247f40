//! Meters: of half-open connections, of packets, of all sources together.

use super::*;

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
    for n in 0..900 {
        for (direction, packet) in reset_connection(1_023, n * 10_000, 443) {
            assert_eq!(
                bench.verdict(direction, &packet),
                Verdict::Allow,
                "{n}, behind a reset"
            );
        }
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
