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
    let visit = |port: u16| {
        let stream = connect(&scene.net.attacker, SERVER_FOR_ATTACKER, port).unwrap();
        let linger = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&stream, sockopt::Linger, &linger).unwrap();
    };
    for _ in 0..12 {
        visit(8080);
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(
        scene.get("bans").as_array().unwrap().is_empty(),
        "short connections are how the web works"
    );
    for _ in 0..10 {
        visit(2222);
    }
    let (detector, ban) = banned_by(&scene);
    assert_eq!(detector, "brute", "{ban}");
    assert_eq!(ban["evidence"]["proven"], true, "{ban}");
}
