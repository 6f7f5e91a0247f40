//! The tests. Each has namespaces and a folder of its own.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::scene::*;

pub(crate) const ALL: &[(&str, fn())] = &[
    (
        "observing_blocks_nothing_and_says_what_it_would",
        observing_blocks_nothing_and_says_what_it_would,
    ),
    (
        "a_rule_in_a_file_blocks_and_the_record_says_why",
        a_rule_in_a_file_blocks_and_the_record_says_why,
    ),
    (
        "denied_packets_ban_their_source_in_the_kernel",
        denied_packets_ban_their_source_in_the_kernel,
    ),
    (
        "bans_by_hand_survive_kill_and_restart",
        bans_by_hand_survive_kill_and_restart,
    ),
];

const POLICY: &str = r#"mode = "enforce"

[default]
inbound = "deny"
outbound = "allow"

[[rule]]
name = "no back door for strangers"
action = "deny"
direction = "in"
protocol = "tcp"
from = ["10.77.2.0/24", "fd77:2::/64"]
port = "2222"

[[rule]]
name = "services"
action = "allow"
direction = "in"
protocol = "tcp"
port = "2222,8080"
log = true
"#;

fn observing_blocks_nothing_and_says_what_it_would() {
    let mut scene = Scene::new();
    scene.start("", "");
    assert!(connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222));
    let line = scene.log_line(&["WOULD-DROP", ATTACKER, ":2222", "default inbound"]);
    assert!(line.contains(" in a0 TCP "), "{line}");
    assert_eq!(scene.table(), "");
    let status = scene.get("status");
    assert_eq!(status["mode"], "observe");
    assert_eq!(status["policy"]["source"], "<built in>");
    assert!(
        status["totals"]["packets"].as_u64().unwrap() > 0,
        "{status}"
    );
    assert!(
        status["warnings"]
            .to_string()
            .contains("nothing is blocked"),
        "{status}"
    );
    let events = scene.get("events?kind=drop&address=10.77.2.2");
    assert_eq!(events[0]["metadata"]["pktvars"][0]["enforced"], false);
    let text = scene.stop();
    assert!(text.contains("RUNNING") && text.contains("ENDED"), "{text}");
    assert!(!scene.path("api.sock").exists());
}

fn a_rule_in_a_file_blocks_and_the_record_says_why() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    scene.start("", &config);
    assert!(
        !connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222),
        "the rule denies it"
    );
    assert!(
        !connects(&scene.net.attacker, "fd77:2::1", 2222),
        "in IPv6 too"
    );
    assert!(
        connects(&scene.net.client, SERVER_FOR_CLIENT, 2222),
        "the next rule allows it"
    );
    assert!(
        connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080),
        "another port"
    );
    assert!(
        !connects(&scene.net.client, SERVER_FOR_CLIENT, 9),
        "the default denies it"
    );

    let line = scene.log_line(&[
        " DROP in a0 TCP 10.77.2.2:",
        "10.77.2.1:2222",
        "no back door for strangers",
    ]);
    assert!(line.contains("policy.toml:7"), "{line}");
    scene.log_line(&[" DROP in a0 TCP [fd77:2::2]:", "no back door for strangers"]);
    scene.log_line(&[
        " DROP in c0 TCP 10.77.1.2:",
        "10.77.1.1:9 ",
        "default inbound",
    ]);
    scene.log_line(&[" ALLOW in c0 TCP 10.77.1.2:", ":2222", "services"]);

    let event = scene.wait("drop event", || {
        let events = scene.get("events?kind=drop&address=10.77.2.2");
        events.as_array().unwrap().first().cloned()
    });
    assert_eq!(event["drop"]["reason"], "rule");
    assert_eq!(event["alert"]["signature"], "no back door for strangers");
    assert_eq!(event["metadata"]["pktvars"][0]["line"], 7);
    assert_eq!(event["metadata"]["pktvars"][0]["enforced"], true);

    let why = scene.get("why/10.77.2.2");
    let denied = &why["denied"][0]["decided"];
    assert_eq!(
        (denied["rule"].as_str(), denied["line"].as_u64()),
        (Some("no back door for strangers"), Some(7))
    );
    let id = event["metadata"]["pktvars"][0]["event_id"]
        .as_u64()
        .unwrap();
    let why = scene.get(&format!("why/{id}"));
    assert!(
        why["story"][0]
            .as_str()
            .unwrap()
            .contains("no back door for strangers"),
        "{why}"
    );

    let rules = scene.get("rules");
    assert!(rules[0]["hits"].as_u64().unwrap() >= 2, "{rules}");
    assert!(rules[1]["hits"].as_u64().unwrap() >= 1, "{rules}");
    let status = scene.get("status");
    assert_eq!(status["mode"], "enforce");
    assert_eq!(status["drift"]["in_sync"], true);
    assert!(
        status["totals"]["dropped"].as_u64().unwrap() >= 3,
        "{status}"
    );
    assert!(
        status["essentials"].as_array().unwrap().len() >= 5,
        "{status}"
    );
    assert!(
        status["protected"].to_string().contains("10.77.1.1/32"),
        "{status}"
    );

    let packet = json!({"direction": "in", "protocol": "tcp", "source": ATTACKER, "source_port": 40000, "destination": SERVER_FOR_ATTACKER, "destination_port": 2222});
    let result = scene.post("test", json!({ "packets": [packet] }));
    assert_eq!(result[0]["verdict"], "drop");
    assert_eq!(result[0]["rule"], "no back door for strangers");
    assert_eq!(result[0]["stage"], "rule");

    let text = scene.stop();
    assert!(text.contains("ENDED"), "{text}");
    assert!(
        scene.table().contains("chain"),
        "rules stay when the daemon stops"
    );
    assert!(!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222));
}

fn denied_packets_ban_their_source_in_the_kernel() {
    let mut scene = Scene::new();
    let config = scene.write(
        "policy.toml",
        &format!("{POLICY}\n[detect.blocked]\npackets = 5\nwindow = \"60s\"\nban = \"10m\"\n"),
    );
    scene.start("", &config);
    for port in 100..108 {
        datagram(&scene.net.attacker, SERVER_FOR_ATTACKER, port, b"x");
    }
    let ban = scene.wait("ban", || {
        scene.get("bans").as_array().unwrap().first().cloned()
    });
    assert_eq!(ban["prefix"], "10.77.2.2/32");
    assert_eq!(
        (ban["detector"].as_str(), ban["origin"].as_str()),
        (Some("blocked"), Some("detector"))
    );
    assert!(ban["evidence"]["count"].as_u64().unwrap() >= 5, "{ban}");
    assert!(scene.table().contains("10.77.2.2"), "{}", scene.table());
    assert!(
        !connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080),
        "a ban is before every rule"
    );
    scene.log_line(&[" DROP ", "10.77.2.2 is banned"]);
    scene.log_line(&[" BAN: 10.77.2.2 until "]);
    let why = scene.get("why/10.77.2.2");
    assert!(
        why["story"].to_string().contains("is banned since"),
        "{why}"
    );

    let (status, _) = scene.ask("DELETE", "bans?prefix=10.77.2.2", &Value::Null);
    assert_eq!(status, 200);
    assert!(connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080));
    let why = scene.get("why/10.77.2.2");
    assert_eq!(why["past_bans"][0]["prefix"], "10.77.2.2/32", "{why}");
}

fn bans_by_hand_survive_kill_and_restart() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    scene.start("", &config);
    let ban = scene.post(
        "bans",
        json!({"prefix": "10.77.2.2", "for_s": 600, "reason": "a test"}),
    );
    assert_eq!(ban["origin"], "manual");
    scene.post("bans", json!({"prefix": "198.51.100.0/24", "for_s": 0}));
    scene.post("bans", json!({"prefix": "192.0.2.9", "for_s": 2}));
    let (status, error) = scene.ask("POST", "bans", &json!({"prefix": SERVER_FOR_CLIENT}));
    assert_eq!(status, 409, "{error}");
    assert!(
        error["error"].as_str().unwrap().contains("protected"),
        "{error}"
    );
    assert!(!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080));
    scene.wait("stored bans", || {
        let state = scene.get("status");
        (state["queues"][1]["length"] == 0).then_some(())
    });
    std::thread::sleep(Duration::from_millis(300));
    scene.kill();
    assert!(
        !connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080),
        "the kernel holds without the daemon"
    );
    std::thread::sleep(Duration::from_secs(2));
    // As after a reboot: the kernel has forgotten.
    scene
        .net
        .server
        .run("nft", &["delete", "table", "inet", "portcullis"])
        .unwrap();
    assert!(connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080));
    let begun = Instant::now();
    scene.start("", &config);
    assert!(
        !connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080),
        "the store remembers"
    );
    let bans = scene.get("bans");
    let prefixes: Vec<&str> = bans
        .as_array()
        .unwrap()
        .iter()
        .map(|ban| ban["prefix"].as_str().unwrap())
        .collect();
    assert_eq!(
        prefixes,
        ["10.77.2.2/32", "198.51.100.0/24"],
        "the third ran out meanwhile"
    );
    assert_eq!(bans[0]["reason"], "a test");
    assert_eq!(bans[1]["expires"], Value::Null);
    let left = bans[0]["remaining_s"].as_u64().unwrap();
    assert!(
        left <= 598 && left + begun.elapsed().as_secs() >= 560,
        "{left}"
    );
}
