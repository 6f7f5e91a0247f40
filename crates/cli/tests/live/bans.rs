//! A ban cuts, lasts, survives and ends.

use std::time::{Duration, Instant};

use crate::firewall::{Firewall, eventually};
use crate::network::{
    ATTACKER, Attempt, CLIENT, Echo, SERVER, SERVER_FOR_ATTACKER, SERVER6, connect, echoes, pings,
    tools, topology,
};

const OPEN: &str = r#"
mode = "enforce"

[default]
inbound = "allow"
outbound = "allow"
"#;

#[test]
fn a_ban_cuts_an_established_connection_at_once() {
    if !tools(&["ping"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[8080]);
    let firewall = Firewall::start(&lab.server, OPEN);
    let mut times = Vec::new();
    for _ in 0..5 {
        let Attempt::Open(mut stream) = connect(&lab.client, SERVER, 8080) else {
            panic!("not open")
        };
        assert!(echoes(&mut stream, b"before"));
        // One side talks all the time; the other bans, and looks when the last answer came.
        let (asked, last) = std::thread::scope(|scope| {
            let talk = scope.spawn(|| {
                let mut last = Instant::now();
                while echoes(&mut stream, b"still here") {
                    last = Instant::now();
                }
                last
            });
            std::thread::sleep(Duration::from_millis(50));
            let asked = Instant::now();
            let body = format!("{{\"prefix\":\"{CLIENT}\",\"for_s\":60}}");
            let status = firewall.request("POST", "bans", &body);
            assert!(status.contains(" 20"), "{status}");
            (asked, talk.join().unwrap())
        });
        times.push(last.saturating_duration_since(asked));
        assert!(connect(&lab.client, SERVER, 8080).is_silent());
        assert!(!pings(&lab.client, SERVER), "a ban covers every protocol");
        firewall.ask(&format!("unban {CLIENT}"));
        assert!(connect(&lab.client, SERVER, 8080).is_open());
    }
    times.sort();
    eprintln!("from the request to the last answer: {times:?}");
    assert!(times[2] <= Duration::from_millis(10), "{times:?}");
}

#[test]
fn a_ban_ends_on_time_without_the_daemon() {
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[8080]);
    let mut firewall = Firewall::start(&lab.server, OPEN);
    let begun = Instant::now();
    firewall.ask(&format!("ban {CLIENT} --for 4s"));
    firewall.ask("ban fd77:1::2 --for 4s");
    firewall.kill();
    for to in [SERVER, SERVER6] {
        assert!(connect(&lab.client, to, 8080).is_silent(), "{to}");
    }
    assert!(
        connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_open(),
        "others are not touched"
    );
    while begun.elapsed() < Duration::from_millis(3_200) {
        assert!(
            connect(&lab.client, SERVER, 8080).is_silent(),
            "lifted after {:?}",
            begun.elapsed()
        );
    }
    eventually("the ban is over", Duration::from_secs(3), || {
        connect(&lab.client, SERVER, 8080).is_open()
    });
    assert!(
        begun.elapsed() >= Duration::from_millis(3_900),
        "lifted early, after {:?}",
        begun.elapsed()
    );
    assert!(connect(&lab.client, SERVER6, 8080).is_open());
}

#[test]
fn bans_come_back_after_a_restart() {
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[8080]);
    let mut firewall = Firewall::start(&lab.server, OPEN);
    firewall.ask(&format!("ban {ATTACKER} --for 10m --reason scanning"));
    firewall.ask("ban 192.0.2.0/24 --forever");
    firewall.stop();
    // A reboot takes what the kernel had.
    lab.server.sh("nft flush ruleset").unwrap();
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_open());
    firewall.run(&[]);
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_silent());
    let bans = firewall.json("bans");
    let find = |prefix: &str| {
        bans.as_array()
            .unwrap()
            .iter()
            .find(|ban| ban["prefix"] == prefix)
            .unwrap_or_else(|| panic!("{prefix} is not in {bans}"))
    };
    let ban = find(&format!("{ATTACKER}/32"));
    assert_eq!(
        (ban["reason"].as_str(), ban["origin"].as_str()),
        (Some("scanning"), Some("manual")),
        "{ban}"
    );
    let left = ban["remaining_s"].as_u64().unwrap();
    assert!((540..=600).contains(&left), "{ban}");
    assert_eq!(find("192.0.2.0/24")["expires"], serde_json::Value::Null);
    for field in [
        "prefix",
        "family",
        "detector",
        "origin",
        "reason",
        "since",
        "expires",
        "remaining_s",
        "times_banned",
        "evidence",
    ] {
        assert!(ban.get(field).is_some(), "{field} is not in {ban}");
    }
}

#[test]
fn bans_are_written_and_read_in_both_forms() {
    let Some(lab) = topology() else { return };
    let firewall = Firewall::start(&lab.server, OPEN);
    firewall.ask("ban 203.0.113.7 --for 10m");
    firewall.ask("ban 2001:db8:7::/48 --for 1h");
    let folder = tempfile::tempdir().unwrap();
    for form in ["", "--plain"] {
        let exported = firewall.ask(&format!("bans export {form}")).stdout;
        firewall.ask("unban --all");
        assert_eq!(firewall.json("bans"), serde_json::json!([]));
        let file = folder.path().join("banned_ips.json");
        std::fs::write(&file, &exported).unwrap();
        firewall.ask(&format!("bans import {}", file.display()));
        let bans = firewall.json("bans");
        assert_eq!(
            bans.as_array().unwrap().len(),
            2,
            "{form:?}: {exported} {bans}"
        );
    }
    assert!(firewall.ask("bans").stdout.contains("203.0.113.7"));
}

#[test]
fn many_denied_packets_ban_and_the_allow_list_lifts() {
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[8080]);
    let policy = r#"
mode = "enforce"
[default]
inbound = "deny"
[detect.blocked]
packets = 5
window = "60s"
ban = "10m"
[[rule]]
name = "web"
action = "allow"
direction = "in"
protocol = "tcp"
port = 8080
"#;
    let firewall = Firewall::start(&lab.server, policy);
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_open());
    // Datagrams leave at once, where a connect would wait for its silence.
    let send = || {
        lab.attacker.sh(&format!("for port in $(seq 1000 1019); do echo x | nc -u -w1 -q0 {SERVER_FOR_ATTACKER} $port; done"))
    };
    send().unwrap();
    eventually("the attacker is banned", Duration::from_secs(5), || {
        firewall
            .json("bans")
            .as_array()
            .unwrap()
            .iter()
            .any(|ban| ban["detector"] == "blocked")
    });
    let ban = &firewall.json("bans")[0];
    assert_eq!(ban["prefix"], format!("{ATTACKER}/32"));
    assert_eq!(ban["evidence"]["threshold"], 5, "{ban}");
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_silent());
    assert!(
        connect(&lab.client, SERVER, 8080).is_open(),
        "others are not touched"
    );
    let story = firewall.ask(&format!("why {ATTACKER}")).stdout;
    assert!(
        story.contains("banned") && story.contains("blocked") || story.contains("denied"),
        "{story}"
    );

    firewall.ask(&format!("allow {ATTACKER}"));
    assert_eq!(firewall.json("bans"), serde_json::json!([]));
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_open());
    send().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(
        firewall.json("bans"),
        serde_json::json!([]),
        "an allowed address is not banned again"
    );
}

#[test]
fn a_protected_address_is_not_banned() {
    let Some(lab) = topology() else { return };
    let policy = format!("{OPEN}\n[protect]\naddresses = [\"{CLIENT}\"]\n");
    let firewall = Firewall::start(&lab.server, &policy);
    for address in [CLIENT, SERVER, "127.0.0.1"] {
        let called = firewall
            .call(&["ban", address])
            .expect(1)
            .one_sentence("protect");
        assert_eq!(called.stdout, "");
    }
    assert_eq!(firewall.json("bans"), serde_json::json!([]));
}
