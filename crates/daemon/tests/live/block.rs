//! What is blocked and what is not, with the words that the record has for it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::scene::*;

pub(crate) fn observing_blocks_nothing_and_says_what_it_would() {
    let mut scene = Scene::new();
    scene.start("", "");
    assert!(reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222));
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
    // What came of it would not have: it is neither told nor a flow that passed.
    let stays = scene.get("events?kind=drop");
    let of_it = stays
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| [&event["src_port"], &event["dest_port"]].contains(&&json!(2222)));
    assert_eq!(of_it.count(), 1, "{stays}");
    assert_eq!(scene.get("flows"), json!([]));
    let stats = scene.get("stats");
    assert!(
        !stats["top_sources"]
            .to_string()
            .contains(SERVER_FOR_ATTACKER),
        "{stats}"
    );
    let text = scene.stop();
    assert!(text.contains("RUNNING") && text.contains("ENDED"), "{text}");
    assert!(!scene.path("api.sock").exists());
}

pub(crate) fn a_rule_in_a_file_blocks_and_the_record_says_why() {
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
        reaches(&scene.net.client, SERVER_FOR_CLIENT, 2222),
        "the next rule allows it"
    );
    assert!(
        reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080),
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

    let held = connect(&scene.net.client, SERVER_FOR_CLIENT, 8080).unwrap();
    let flow = scene.wait("live flow with its rule", || {
        let flows = scene.get("flows?address=10.77.1.2");
        let port = held.local_addr().unwrap().port();
        let ours = flows
            .as_array()
            .unwrap()
            .iter()
            .find(|flow| flow["src_port"] == port)
            .cloned();
        ours.filter(|flow| flow["decided"]["rule"] == "services")
    });
    assert_eq!(
        (flow["dest_port"].as_u64(), flow["direction"].as_str()),
        (Some(8080), Some("in")),
        "{flow}"
    );
    assert_eq!(
        (flow["state"].as_str(), flow["proto"].as_str()),
        (Some("ESTABLISHED"), Some("TCP")),
        "{flow}"
    );
    // The kernel forgets it, as it does when it has ended.
    scene
        .net
        .server
        .run("conntrack", &["-D", "-s", CLIENT])
        .unwrap();
    let ended = scene.wait("flow event", || {
        scene
            .get("events?kind=flow&address=10.77.1.2")
            .as_array()
            .unwrap()
            .first()
            .cloned()
    });
    assert_eq!(
        ended["metadata"]["flowvars"][0]["rule"], "services",
        "{ended}"
    );
    drop(held);

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

pub(crate) fn what_a_stranger_flushes_is_put_back_within_two_seconds() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    scene.start("", &config);
    scene.post("bans", json!({"prefix": "203.0.113.0/24"}));
    scene.post("bans", json!({"prefix": ATTACKER}));
    scene.net.server.run("nft", &["flush", "ruleset"]).unwrap();
    let begun = Instant::now();
    scene.wait("table", || {
        scene.table().contains("10.77.2.2").then_some(())
    });
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert!(scene.table().contains("203.0.113.0/24"));
    assert!(!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080));
    scene.log_line(&[" DRIFT: ", "put back"]);
    let status = scene.get("status");
    assert_eq!(
        (
            status["drift"]["in_sync"].as_bool(),
            status["drift"]["repaired"].as_u64()
        ),
        (Some(true), Some(1))
    );

    // One rule and one ban less.
    let chain = "inbound";
    scene
        .net
        .server
        .run("nft", &["flush", "chain", "inet", "portcullis", chain])
        .unwrap();
    scene.wait("repair", || {
        (scene.get("status")["drift"]["repaired"] == 2).then_some(())
    });
    assert!(!connects(&scene.net.client, SERVER_FOR_CLIENT, 9));
    // Nothing is taken out, but all of it sleeps.
    let sleep = "nft add table inet portcullis '{ flags dormant; }'";
    scene.net.server.sh(sleep).unwrap();
    let begun = Instant::now();
    scene.wait("awake", || {
        (scene.get("status")["drift"]["repaired"] == 3).then_some(())
    });
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(!scene.table().contains("dormant"));
    assert!(scene.table().contains("203.0.113.0/24"));
    assert!(!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080));
    scene.log_line(&[" DRIFT: ", "dormant", "put back"]);
    // A request does not wait for the check.
    scene.net.server.run("nft", &["flush", "ruleset"]).unwrap();
    scene.post("bans", json!({"prefix": "198.51.100.7"}));
    assert!(scene.table().contains("198.51.100.7"));
    scene.net.server.run("nft", &["flush", "ruleset"]).unwrap();
    let (status, lifted) = scene.ask("DELETE", "bans?prefix=198.51.100.7", &Value::Null);
    assert_eq!(status, 200, "{lifted}");
    assert!(!scene.table().contains("198.51.100.7"));
    assert!(scene.table().contains("203.0.113.0/24"));
    assert_eq!(scene.get("status")["drift"]["repaired"], 5);
    // Others' tables are others' business.
    scene
        .net
        .server
        .run("nft", &["add", "table", "inet", "stranger"])
        .unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(scene.get("status")["drift"]["repaired"], 5);
    assert!(
        scene
            .net
            .server
            .run("nft", &["list", "tables"])
            .unwrap()
            .contains("stranger")
    );
}

pub(crate) fn content_rules_drop_and_reject_what_they_name() {
    let mut scene = Scene::new();
    let config = scene.write(
        "policy.toml",
        r#"mode = "enforce"
[[rule]]
name = "D2GS: bad login packet"
action = "deny"
direction = "in"
protocol = "udp"
port = 4000
payload = { offset = 0, bytes = "68 ?? 00", min_len = 3 }

[[rule]]
name = "no such words"
action = "reject"
direction = "in"
protocol = "tcp"
port = 8080
payload = { contains = "forbidden" }

[[rule]]
action = "allow"
direction = "in"
protocol = "udp"
port = 4000

[[rule]]
action = "allow"
direction = "in"
protocol = "tcp"
port = 8080
"#,
    );
    scene.start("", &config);
    let status = scene.get("status");
    if let Some(queue) = status["backends"]
        .as_array()
        .unwrap()
        .iter()
        .find(|backend| backend["name"] == "nfqueue")
        && queue["state"] != "running"
    {
        eprintln!("SKIPPED: {queue}");
        return;
    }
    let receiver = scene
        .net
        .server
        .enter(|| std::net::UdpSocket::bind(("0.0.0.0", 4000)).unwrap())
        .unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let mut buffer = [0; 64];
    for (payload, passes) in [
        (&b"hello"[..], true),
        (b"\x68\x01\x00bad", false),
        (b"\x68\x01\x01fine", true),
    ] {
        datagram(&scene.net.client, SERVER_FOR_CLIENT, 4000, payload);
        if passes {
            let (length, _) = receiver
                .recv_from(&mut buffer)
                .unwrap_or_else(|error| panic!("{payload:?}: {error}"));
            assert_eq!(&buffer[..length], payload);
        }
    }
    receiver
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(
        receiver.recv_from(&mut buffer).is_err(),
        "nothing else came"
    );
    scene.log_line(&[
        " DROP in c0 UDP 10.77.1.2:",
        ":4000",
        "D2GS: bad login packet",
    ]);
    scene.log_line(&[" ALERT in c0 UDP 10.77.1.2:", "D2GS: bad login packet"]);

    use std::io::{Read as _, Write as _};
    let mut good = connect(&scene.net.client, SERVER_FOR_CLIENT, 8080).unwrap();
    good.write_all(b"fine words").unwrap();
    passes(&scene, &good);
    let mut bad = connect(&scene.net.client, SERVER_FOR_CLIENT, 8080).unwrap();
    bad.write_all(b"some forbidden words").unwrap();
    bad.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let error = bad.read(&mut buffer).unwrap_err();
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::ConnectionReset,
        "rejected with a reset"
    );
    scene.log_line(&[" REJECT in c0 TCP 10.77.1.2:", ":8080", "no such words"]);
    let status = scene.get("status");
    assert!(
        status["totals"]["alerts"].as_u64().unwrap() >= 2,
        "{status}"
    );
}

pub(crate) fn flush_takes_everything_out_and_apply_puts_it_back() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    scene.start("", &config);
    scene.post("bans", json!({"prefix": ATTACKER}));
    scene.post("flush", Value::Null);
    assert_eq!(scene.table(), "");
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(scene.table(), "", "it is not taken for drift");
    assert!(reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222));
    let status = scene.get("status");
    assert_eq!(status["mode"], "observe");
    assert!(status["warnings"].to_string().contains("flush"), "{status}");
    // A change of the policy, or of a list of it, is no wish to enforce again; nor is reading it again.
    scene.write("policy.toml", OTHER);
    scene.log_line(&["POLICY: ", "1 rule,", "(reload)"]);
    scene.post("policy/reload", Value::Null);
    assert_eq!(scene.table(), "");
    assert_eq!(scene.get("status")["mode"], "observe");
    scene.write("policy.toml", POLICY);
    scene.log_line(&["POLICY: ", "2 rules", "(reload)"]);
    assert_eq!(scene.table(), "");
    scene.post("policy/apply", json!({}));
    assert!(scene.table().contains("10.77.2.2"), "with its bans");
    assert!(!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080));
    assert_eq!(scene.get("status")["mode"], "enforce");
}
