//! Detectors fed by what the kernel decided: its log of packets, and its table of connections.

use nix::sys::socket::{setsockopt, sockopt};

use crate::scene::*;

const ALLOW: &str = "mode = \"enforce\"\n[default]\ninbound = \"allow\"\noutbound = \"allow\"\n";

fn banned_by(scene: &Scene) -> (String, serde_json::Value) {
    let ban = scene.wait("a ban", || {
        scene.get("bans").as_array().unwrap().first().cloned()
    });
    assert_eq!(ban["prefix"], "10.77.2.2/32");
    (ban["detector"].as_str().unwrap().to_owned(), ban)
}

pub(crate) fn denied_ports_make_a_scan() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    scene.start("", &config);
    for port in 100..104 {
        connects(&scene.net.attacker, SERVER_FOR_ATTACKER, port);
    }
    assert!(scene.get("bans").as_array().unwrap().is_empty());
    connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 104);
    let (detector, ban) = banned_by(&scene);
    assert_eq!(detector, "scan", "{ban}");
    assert_eq!(ban["evidence"]["pattern"], "vertical SYN scan", "{ban}");
    assert_eq!(ban["evidence"]["count"], 5, "{ban}");
    assert_eq!(ban["evidence"]["proven"], false, "{ban}");
}

pub(crate) fn closed_ports_make_a_scan_where_all_is_allowed() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", ALLOW);
    scene.start("", &config);
    for port in 100..105 {
        connects(&scene.net.attacker, SERVER_FOR_ATTACKER, port);
    }
    let (detector, ban) = banned_by(&scene);
    assert_eq!(detector, "scan", "{ban}");
    assert_eq!(ban["evidence"]["pattern"], "vertical SYN scan", "{ban}");
    scene.log_line(&[" ALERT ", "vertical SYN scan of 5 ports"]);
}

pub(crate) fn who_comes_and_goes_at_a_service_is_banned() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", ALLOW);
    scene.start("", &config);
    for _ in 0..12 {
        visit(&scene, 8080);
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(
        scene.get("bans").as_array().unwrap().is_empty(),
        "short connections are how the web works"
    );
    for _ in 0..10 {
        visit(&scene, 2222);
    }
    let (detector, ban) = banned_by(&scene);
    assert_eq!(detector, "brute", "{ban}");
    assert_eq!(ban["evidence"]["proven"], true, "{ban}");
}

/// A connection that is reset at once.
fn visit(scene: &Scene, port: u16) {
    let stream = connect(&scene.net.attacker, SERVER_FOR_ATTACKER, port).unwrap();
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, sockopt::Linger, &linger).unwrap();
}

pub(crate) fn who_comes_and_goes_behind_a_flood_is_banned() {
    let mut scene = Scene::new();
    for key in ["all", "default", "a0"] {
        let key = format!("net.ipv4.conf.{key}.rp_filter");
        scene.net.server.sysctl(&key, "0").unwrap();
    }
    let config = scene.write("policy.toml", ALLOW);
    scene.start("", &config);
    // Four times the flows that the kernel tells a second of what it lets in, for 15 seconds at most.
    let words = ["-S", "-p", "8080", "--rand-source", "-q", "-n", "-i", "u50"];
    let words = [&words[..], &["-c", "300000", SERVER_FOR_ATTACKER]].concat();
    let flood = scene.net.attacker.spawn("hping3", &words).unwrap();
    // The burst that is told is over in a moment.
    std::thread::sleep(std::time::Duration::from_secs(2));
    for _ in 0..10 {
        visit(&scene, 2222);
    }
    let (detector, ban) = banned_by(&scene);
    assert!(flood.running(), "{}", flood.stderr());
    assert_eq!(detector, "brute", "{ban}");
    assert_eq!(ban["evidence"]["count"], 10, "{ban}");
    assert_eq!(ban["evidence"]["proven"], true, "{ban}");
}
