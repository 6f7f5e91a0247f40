//! Floods from real tools: told, limited by the kernel, and without harm to the service behind.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use lab::{Guard, Web};

use crate::scene::*;

/// All may come in, so that nothing but the detector under test stops a flood.
const OPEN: &str = r#"mode = "enforce"
[default]
inbound = "allow"
outbound = "allow"
[detect.rate]
enabled = false
"#;
const WEB: u16 = 9_090;

fn curl(scene: &Scene) {
    let url = format!("http://{SERVER_FOR_CLIENT}:{WEB}/");
    let page = scene.net.client.run("curl", &["-sS", "-m", "10", &url]);
    assert_eq!(page.unwrap(), Web::PAGE);
}

/// Starts hping3 as fast as it can; it ends when the guard is dropped.
fn flood(scene: &Scene, words: &[&str]) -> Guard {
    let words = [&["--flood", "-q", "-n"], words, &[SERVER_FOR_ATTACKER]].concat();
    scene.net.attacker.spawn("hping3", &words).unwrap()
}

fn dropped(scene: &Scene) -> u64 {
    scene.get("status")["totals"]["dropped"].as_u64().unwrap()
}

/// What a flood of one source that is limited does: it is told and dropped, nobody is banned, and others are served.
fn is_limited(detector: &str, words: &[&str], over: &str) {
    let mut scene = Scene::new();
    let web = Web::start(&scene.net.server, WEB).unwrap();
    let config = scene.write("policy.toml", OPEN);
    scene.start("", &config);
    curl(&scene);
    let flooding = flood(&scene, words);
    scene.log_line(&[" ALERT ", ATTACKER, detector, over]);
    for _ in 0..10 {
        curl(&scene);
    }
    scene.wait("drops", || (dropped(&scene) > 10_000).then_some(()));
    assert!(flooding.running(), "{}", flooding.stderr());
    assert_eq!(
        scene.get("bans"),
        serde_json::json!([]),
        "it is limited, not banned"
    );
    drop(flooding);
    assert!(
        reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080),
        "and is served again once it has stopped"
    );
    scene.post("flush", serde_json::Value::Null);
    assert_eq!(scene.table(), "");
    scene.stop();
    drop(web);
}

pub(crate) fn a_flood_of_syns_from_one_source_is_limited_and_the_service_answers() {
    is_limited(
        "syn_flood",
        &["-S", "-p", "9090"],
        "half-open connections, over the rate of 200",
    );
}

pub(crate) fn a_flood_of_datagrams_from_one_source_is_limited_and_the_service_answers() {
    is_limited(
        "udp_flood",
        &["--udp", "-p", "9"],
        "unanswered UDP packets, over the rate of 2000",
    );
}

pub(crate) fn a_flood_of_pings_is_limited_or_banned_as_the_policy_says() {
    is_limited(
        "icmp_flood",
        &["--icmp"],
        "ICMP packets, over the rate of 100",
    );

    let mut scene = Scene::new();
    let web = Web::start(&scene.net.server, WEB).unwrap();
    let bans = OPEN.to_owned() + "[detect.icmp_flood]\nresponse = \"ban\"\nban = \"3s\"\n";
    let config = scene.write("policy.toml", &bans);
    scene.start("", &config);
    let flooding = flood(&scene, &["--icmp"]);
    let ban = scene.wait("a ban", || {
        scene.get("bans").as_array().unwrap().first().cloned()
    });
    assert_eq!(
        (&ban["prefix"], &ban["detector"]),
        (&"10.77.2.2/32".into(), &"icmp_flood".into()),
        "{ban}"
    );
    assert_eq!(ban["evidence"]["proven"], false, "{ban}");
    curl(&scene);
    drop(flooding);
    assert!(!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, WEB));
    // This host's own questions are no flood, nor are their answers.
    let ping = ["-q", "-n", "-i", "0.002", "-c", "300", CLIENT];
    let pinged = scene.net.server.run("ping", &ping).unwrap();
    assert!(pinged.contains(" 0% packet loss"), "{pinged}");
    // On a busy machine the ban may be over by now; there is no other in any case.
    let bans = scene.get("bans");
    let is_flooder = |ban: &serde_json::Value| ban["prefix"] == "10.77.2.2/32";
    assert!(bans.as_array().unwrap().iter().all(is_flooder), "{bans}");
    scene.wait("end of the ban", || {
        scene
            .get("bans")
            .as_array()
            .unwrap()
            .is_empty()
            .then_some(())
    });
    assert!(reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, WEB));
    scene.stop();
    drop(web);
}

pub(crate) fn a_flood_of_pings_is_limited_and_then_banned_for_its_rate() {
    let mut scene = Scene::new();
    let web = Web::start(&scene.net.server, WEB).unwrap();
    let open = OPEN.replace("enabled = false", "ban = \"60s\"");
    let config = scene.write("policy.toml", &open);
    scene.start("", &config);
    let flooding = flood(&scene, &["--icmp"]);
    scene.log_line(&[" ALERT ", ATTACKER, "icmp_flood", "over the rate of 100"]);
    let ban = scene.wait("a ban", || {
        scene.get("bans").as_array().unwrap().first().cloned()
    });
    assert_eq!(
        (&ban["prefix"], &ban["detector"]),
        (&"10.77.2.2/32".into(), &"rate".into()),
        "{ban}"
    );
    curl(&scene);
    drop(flooding);
    scene.stop();
    drop(web);
}

pub(crate) fn a_flood_of_syns_from_everywhere_bans_nobody() {
    let mut scene = Scene::new();
    let web = Web::start(&scene.net.server, WEB).unwrap();
    for key in ["all", "default", "a0"] {
        scene
            .net
            .server
            .sysctl(&format!("net.ipv4.conf.{key}.rp_filter"), "0")
            .unwrap();
    }
    let text = OPEN.to_owned() + "[detect.syn_flood]\nhost_half_open = 500\n";
    let config = scene.write("policy.toml", &text);
    scene.start("", &config);
    let held = connect(&scene.net.client, SERVER_FOR_CLIENT, 8080).unwrap();
    let flooding = flood(&scene, &["-S", "-p", "9090", "--rand-source"]);
    scene.log_line(&[
        " ALERT ",
        "syn_flood",
        "half-open connections of all sources, over the rate of 500",
    ]);
    passes(&scene, &held);
    for _ in 0..5 {
        // Who is new gets through: nothing is dropped for what all sources do together.
        curl(&scene);
    }
    drop(flooding);
    assert_eq!(scene.get("bans"), serde_json::json!([]));
    assert!(
        reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080),
        "it is over"
    );
    scene.stop();
    drop(web);
}

const RATE: &str = r#"mode = "enforce"
[default]
inbound = "allow"
outbound = "allow"
[detect.rate]
established = true
ban = "3s"
"#;

/// Sends single bytes without waiting for company; gives how many of them came to the other end.
fn send_single_bytes(scene: &Scene, count: usize) -> usize {
    let bind = || TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], 0))).unwrap();
    let listener = scene.net.server.enter(bind).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut sender = connect(&scene.net.attacker, SERVER_FOR_ATTACKER, port).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    let receiving = std::thread::spawn(move || {
        receiver
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let (mut came, mut buffer) = (0, [0; 1_024]);
        while let Ok(read @ 1..) = receiver.read(&mut buffer) {
            came += read;
        }
        came
    });
    sender.set_nodelay(true).unwrap();
    sender
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    for _ in 0..count {
        if sender.write_all(b"x").is_err() {
            break;
        }
        // What waits for room is sent together: a moment, so that each byte leaves alone.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(40) {
            std::hint::spin_loop();
        }
    }
    drop(sender);
    receiving.join().unwrap()
}

pub(crate) fn many_small_segments_are_over_the_rate_unless_their_sender_is_protected() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", RATE);
    scene.start("", &config);
    let came = send_single_bytes(&scene, 5_000);
    assert!((900..5_000).contains(&came), "{came} bytes came");
    let ban = scene.wait("a ban", || {
        scene.get("bans").as_array().unwrap().first().cloned()
    });
    assert_eq!(
        (&ban["prefix"], &ban["detector"]),
        (&"10.77.2.2/32".into(), &"rate".into()),
        "{ban}"
    );
    assert_eq!(ban["evidence"]["threshold"], 1_000, "{ban}");
    assert!(!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080));
    assert!(reaches(&scene.net.client, SERVER_FOR_CLIENT, 8080));
    scene.wait("end of the ban", || {
        scene
            .get("bans")
            .as_array()
            .unwrap()
            .is_empty()
            .then_some(())
    });
    assert!(
        reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080),
        "it comes back"
    );

    scene.write(
        "policy.toml",
        &(RATE.to_owned() + "[protect]\naddresses = \"10.77.2.2\"\n"),
    );
    scene.post("policy/reload", serde_json::Value::Null);
    assert_eq!(send_single_bytes(&scene, 5_000), 5_000);
    assert_eq!(scene.get("bans"), serde_json::json!([]));
    scene.post("flush", serde_json::Value::Null);
    assert_eq!(scene.table(), "");
    scene.stop();
}
