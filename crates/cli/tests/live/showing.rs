//! What the read verbs show of a firewall that has something to show, to people and to programs.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use crate::common::command;
use crate::firewall::{Firewall, eventually};
use crate::network::{Attempt, CLIENT, Echo, SERVER, connect, echoes, topology};

const POLICY: &str = r#"
mode = "enforce"
[default]
inbound = "deny"
outbound = "allow"
[sets]
office = ["10.77.1.0/24", "2001:db8::/48"]
[[rule]]
name = "web for the office"
action = "allow"
direction = "in"
protocol = "tcp"
from = "@office"
port = 8080
"#;

/// A firewall with a service behind it, and a connection to that.
fn with_a_flow(lab: &lab::Topology) -> (Echo, Firewall<'_>, TcpStream) {
    let services = Echo::start(&lab.server, &[8080]);
    let firewall = Firewall::start(&lab.server, POLICY);
    let Attempt::Open(mut stream) = connect(&lab.client, SERVER, 8080) else {
        panic!("not open")
    };
    assert!(echoes(&mut stream, b"hello"));
    (services, firewall, stream)
}

/// The fields of each answer that programs rely on.
const CONTRACT: &[(&str, &[&str])] = &[
    (
        "status",
        &[
            "mode", "backends", "policy", "drift", "losses", "queues", "uptime_s",
        ],
    ),
    ("stats", &["totals", "minutes", "top_sources", "top_ports"]),
    (
        "rules",
        &[
            "id",
            "name",
            "action",
            "directions",
            "protocol",
            "from",
            "to",
            "port",
            "file",
            "line",
            "hits",
        ],
    ),
    ("sets", &["name", "prefixes", "feed", "used_by"]),
    ("sets office", &["name", "prefixes", "count"]),
    (
        "flows",
        &[
            "src_ip",
            "src_port",
            "dest_ip",
            "dest_port",
            "proto",
            "direction",
            "start",
            "end",
            "decided",
        ],
    ),
    (
        "bans",
        &[
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
        ],
    ),
    (
        "why 10.77.1.2",
        &["subject", "story", "ban", "denied", "events"],
    ),
    ("allow", &[]),
];

#[test]
fn every_read_verb_speaks_to_people_and_to_programs() {
    let Some(lab) = topology() else { return };
    let (_services, firewall, _stream) = with_a_flow(&lab);
    assert!(connect(&lab.client, SERVER, 23).is_silent());
    firewall.ask("ban 192.0.2.7 --reason because");
    eventually(
        "the flow and the drop are on record",
        Duration::from_secs(5),
        || {
            firewall.json("flows") != serde_json::json!([])
                && firewall.ask("events --kind drop").stdout.contains(CLIENT)
        },
    );
    for (verb, fields) in CONTRACT {
        let answer = firewall.json(verb);
        let one = answer.as_array().map_or(&answer, |all| {
            all.first().unwrap_or(&serde_json::Value::Null)
        });
        for field in *fields {
            assert!(
                one.get(field).is_some(),
                "{verb}: {field} is not in {answer}"
            );
        }
        let told = firewall.ask(verb).stdout;
        assert!(
            !told.is_empty() && !told.contains('\x1b') && !told.contains(['{', '"'])
                || verb.starts_with("why"),
            "{verb}: {told}"
        );
    }
    // Times are RFC 3339 in UTC with microseconds.
    let since = firewall.json("bans")[0]["since"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        since.len() == 27 && since.ends_with('Z') && since.contains('T'),
        "{since}"
    );
    let events = firewall.ask("events --json").stdout;
    assert!(events.lines().count() > 1, "{events}");
    let times: Vec<String> = events
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["timestamp"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let mut ordered = times.clone();
    ordered.sort();
    assert_eq!(times, ordered, "oldest first");
    assert_eq!(
        firewall
            .ask("events --limit 1 --json")
            .stdout
            .lines()
            .count(),
        1
    );
    firewall
        .call(&["sets", "nobody"])
        .expect(1)
        .one_sentence("nobody");
}

#[test]
fn what_is_shown_can_be_asked_for() {
    let Some(lab) = topology() else { return };
    let limit = "[[rule]]\nname = \"pings\"\naction = \"limit\"\ndirection = \"in\"\nprotocol = \"icmp\"\nrate = { packets = 5, per = \"1s\" }\n";
    let firewall = Firewall::start(&lab.server, &format!("{POLICY}{limit}"));

    // Bits past the length of a prefix are not passed over, and a reason is escaped once.
    let banned = firewall
        .call(&["ban", "192.0.2.77/24", "--reason", "a\tx"])
        .expect(0)
        .one_sentence("all of 192.0.2.0/24 is banned");
    assert!(banned.stdout.starts_with("192.0.2.0/24 is banned"));
    let allowed = firewall.call(&["allow", "198.51.100.7/24"]).expect(0);
    allowed.one_sentence("all of 198.51.100.0/24 is never banned");
    for verb in ["bans", "events --kind ban", "why 192.0.2.1"] {
        let told = firewall.ask(verb).stdout;
        assert!(told.contains("a\\tx") && !told.contains("\\\\"), "{told}");
    }

    // The number of an event is what `why` takes.
    let events = firewall.ask("events --kind ban").stdout;
    let number = events.split_whitespace().next().unwrap();
    assert!(number.starts_with('#'), "{events}");
    for number in [number, number.trim_start_matches('#')] {
        let story = firewall.call(&["why", number]).expect(0).stdout;
        assert!(
            story.contains("192.0.2.0/24 was banned") && story.contains(events.trim_end()),
            "{story}"
        );
    }

    let told = firewall.ask(&format!("test in icmp {CLIENT} to {SERVER}"));
    assert!(
        told.stdout.starts_with("allow while within its rate: "),
        "{}",
        told.stdout
    );
    let told = firewall.ask(&format!("test in tcp {CLIENT}:40000 to {SERVER}:8080"));
    assert!(told.stdout.starts_with("allow: "), "{}", told.stdout);
}

#[test]
fn flows_that_nobody_counts_show_no_counts() {
    let Some(lab) = topology() else { return };
    let (_services, firewall, _stream) = with_a_flow(&lab);
    eventually("the flow is shown", Duration::from_secs(5), || {
        firewall.json("flows") != serde_json::json!([])
    });
    let counts = firewall.json("flows")[0]["pkts_toserver"].as_u64();
    let told = firewall.ask("flows").stdout;
    let dashes = told
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .filter(|field| *field == "-");
    assert_eq!(
        (dashes.count(), told.contains("nf_conntrack_acct=1")),
        if counts == Some(0) {
            (3, true)
        } else {
            (0, false)
        },
        "{told}"
    );
}

#[test]
fn a_reader_of_events_may_go_away() {
    let Some(lab) = topology() else { return };
    let firewall = Firewall::start(&lab.server, POLICY);
    let socket = firewall.policy().with_file_name("api.sock");
    let mut child = command()
        .args(["events", "--follow", "--socket"])
        .arg(&socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || lines.next());
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        assert!(
            std::time::Instant::now() < deadline,
            "it goes on without a reader"
        );
        firewall.ask("ban 192.0.2.9 --for 1m");
        firewall.ask("unban 192.0.2.9");
    }
    assert!(
        reader
            .join()
            .unwrap()
            .unwrap()
            .unwrap()
            .contains("192.0.2.9")
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}

/// The kernel calls a connection established until it forgets it: whoever banned its source wants to know that it is cut.
#[test]
fn a_flow_of_a_banned_source_says_so() {
    let Some(lab) = topology() else { return };
    let (_services, firewall, mut stream) = with_a_flow(&lab);
    let flow = |words: &str| {
        let flows = firewall.json(words);
        let mut ours = flows.as_array().unwrap().iter();
        ours.find(|flow| flow["src_ip"] == CLIENT).cloned()
    };
    eventually("the flow is known", Duration::from_secs(5), || {
        flow("flows").is_some_and(|flow| flow["decided"]["rule"] == "web for the office")
    });
    assert_eq!(flow("flows").unwrap().get("cut"), None);
    // A service without a port is one all the same.
    assert!(!crate::network::pings(&lab.client, SERVER));
    eventually("the ping is counted", Duration::from_secs(5), || {
        let stats = firewall.ask("stats").stdout;
        stats.lines().any(|line| line.starts_with("icmp "))
    });
    firewall.ask(&format!("ban {CLIENT}"));
    let cut = flow("flows").unwrap();
    assert_eq!(cut["state"], "ESTABLISHED");
    assert_eq!(cut["cut"]["reason"], "banned");
    assert_eq!(cut["mode"], "enforce");
    let told = firewall.ask("flows").stdout;
    let says = format!("dropped now: {CLIENT} is banned; began by web for the office");
    assert!(told.contains(&says), "{told}");
    assert!(!echoes(&mut stream, b"hello"), "and so it is");
    eventually(
        "what the ban drops is counted",
        Duration::from_secs(5),
        || {
            let stats = firewall.ask("stats").stdout;
            stats.contains("any, by bans and feeds")
                && firewall.json("stats")["shut_out"].as_u64() > Some(0)
        },
    );
    firewall.ask(&format!("unban {CLIENT}"));
    assert_eq!(flow("flows").unwrap().get("cut"), None);
    // Whoever only observes is told what would be.
    firewall.write(&POLICY.replace("enforce", "observe"));
    firewall.ask("reload");
    eventually("the flow is seen", Duration::from_secs(5), || {
        echoes(&mut stream, b"hello") && flow("flows").is_some()
    });
    firewall.ask(&format!("ban {CLIENT}"));
    assert!(echoes(&mut stream, b"hello"));
    let told = firewall.ask("flows").stdout;
    assert!(
        told.contains(&format!("would be dropped: {CLIENT} is banned")),
        "{told}"
    );
}
