//! `sni` and `http_host` as a person meets them: `check`, `test`, and `replay` over real captures.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::{Called, portcullis, shared_data};

const POLICY: &str = r#"
mode = "observe"
[default]
inbound = "allow"
outbound = "allow"
forward = "allow"
[log]
drops_per_second = 1000000
[detect.blocked]
enabled = false
[detect.payload]
enabled = false
[detect.scan]
enabled = false

[[rule]]
name = "TLS names"
action = "deny"
sni = [NAMES]

[[rule]]
name = "HTTP hosts"
action = "reject"
http_host = [NAMES]
"#;

fn with_policy(names: &str, arguments: &[&str]) -> Called {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, POLICY.replace("NAMES", names)).unwrap();
    let (verb, more) = arguments.split_first().unwrap();
    let config = ["--config", file.to_str().unwrap()];
    portcullis([verb].into_iter().chain(&config).chain(more))
}

#[test]
fn a_packet_may_ask_for_a_host() {
    let packet = "in tcp 203.0.113.7:40000 to 192.0.2.1:443";
    for (more, code) in [
        ("sni www.ads.example", 6),
        ("sni ADS.example.", 0),
        ("sni good.example", 0),
        ("http-host www.ads.example", 6),
        ("host www.ads.example", 6),
        ("http-host good.example", 0),
        ("", 0),
    ] {
        let words = format!("{packet} {more}");
        let words: Vec<&str> = words.split_whitespace().collect();
        with_policy("\"*.ads.example\"", &[&["test"], words.as_slice()].concat()).expect(code);
    }
    for flags in [["--sni", "www.ads.example"], ["--host", "www.ads.example"]] {
        let words: Vec<&str> = packet.split(' ').chain(flags).collect();
        let called = with_policy("\"*.ads.example\"", &[&["test"], words.as_slice()].concat());
        assert!(called.expect(6).stdout.contains("policy.toml:"));
    }
    let words = "test in udp 203.0.113.7:40000 to 192.0.2.1:443 sni a.example";
    let words: Vec<&str> = words.split(' ').collect();
    with_policy("\"a.example\"", &words).expect(2);
}

/// What was told of the capture: TLS names and HTTP hosts.
fn told(names: &str, capture: &std::path::Path) -> [BTreeSet<String>; 2] {
    let arguments = ["replay", capture.to_str().unwrap(), "--json"];
    let replayed = with_policy(names, &arguments);
    // Some are packed, or end in the middle of a packet.
    let events = replayed.stdout;
    let mut told = [BTreeSet::new(), BTreeSet::new()];
    for line in events.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        if event["event_type"] != "alert" {
            continue;
        }
        for (at, name) in [&event["tls"]["sni"], &event["http"]["hostname"]]
            .iter()
            .enumerate()
        {
            told[at].extend(name.as_str().map(str::to_ascii_lowercase));
        }
    }
    told
}

#[test]
fn a_name_in_a_capture_is_found_and_its_neighbours_are_left_alone() {
    let Some(data) = shared_data() else { return };
    let captures = data.join("pcap/ntop+nDPI/tests/cfgs/default/pcap");
    let [tls, _] = told("\"*.indazn.com\"", &captures.join("dazn.pcapng"));
    let found: Vec<&str> = tls.iter().map(String::as_str).collect();
    assert_eq!(found, ["user-profile.ar.indazn.com"]);
    let [tls, _] = told("\".facebook.com\"", &captures.join("facebook.pcap"));
    let found: Vec<&str> = tls.iter().map(String::as_str).collect();
    assert_eq!(found, ["facebook.com", "www.facebook.com"]);
}

/// Against what tshark reads. What is missing lies in captures whose packets are dropped before any rule (from loopback
/// addresses, with wrong checksums, without a begin), in tunnels, or behind another protocol (SOCKS, STARTTLS).
#[test]
fn names_in_all_captures_are_found() {
    const LEAST: usize = 400;
    let Some(data) = shared_data() else { return };
    let mut wanted: BTreeMap<String, [BTreeSet<String>; 2]> = BTreeMap::new();
    for (at, table, column) in [(0, "sni.tsv", "sni"), (1, "http.tsv", "host")] {
        let text = std::fs::read_to_string(data.join("truth").join(table)).unwrap();
        let mut lines = text
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>());
        let head = lines.next().unwrap();
        let place = |name: &str| head.iter().position(|column| *column == name).unwrap();
        let (file, port, name) = (place("file"), place("tcp_dport"), place(column));
        for row in lines.filter(|row| !row[port].is_empty() && !row[name].is_empty()) {
            let names = wanted.entry(row[file].to_owned()).or_default();
            names[at].extend(row[name].split(',').map(str::to_ascii_lowercase));
        }
    }
    let (mut all, mut found) = (0, 0);
    for (file, names) in &wanted {
        let told = told("\"*\"", &data.join("pcap").join(file));
        for (names, told) in names.iter().zip(&told) {
            let without_port = |name: &String| {
                let (host, port) = name.rsplit_once(':').unwrap_or((name, ""));
                let has_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
                if has_port {
                    host.to_owned()
                } else {
                    name.clone()
                }
            };
            all += names.len();
            let is_told =
                |name: &&String| told.contains(*name) || told.contains(&without_port(name));
            found += names.iter().filter(is_told).count();
        }
    }
    println!("{found} of {all} names");
    assert!(found >= LEAST, "{found} of {all}");
}
