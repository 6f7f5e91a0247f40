//! What is a scan, whoever seems to send it, and what looks like one.

use super::*;

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
