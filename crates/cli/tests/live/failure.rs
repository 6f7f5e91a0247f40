//! What others do to us, and what is missing.

use std::time::Duration;

use crate::common::{call, command_through};
use crate::firewall::{Firewall, eventually, only_web};
use crate::network::{Attempt, CLIENT, Echo, SERVER, connect, echoes, tools, topology};

/// Nobody is banned for what is denied.
fn lenient() -> String {
    only_web("[detect.blocked]\nenabled = false\n")
}

#[test]
fn what_somebody_flushes_is_put_back() {
    if !tools(&["nft"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    let _services = Echo::start(&lab.server, &[8080, 22]);
    let firewall = Firewall::start(&lab.server, &lenient());
    firewall.ask("ban 192.0.2.7 --for 10m");
    for tamper in ["flush ruleset", "delete table inet portcullis"] {
        lab.server.run("nft", &[tamper]).unwrap();
        eventually("the table is back", Duration::from_secs(2), || {
            lab.server
                .run("nft", &["list", "table", "inet", "portcullis"])
                .is_ok()
        });
        assert!(connect(&lab.client, SERVER, 22).is_silent());
        assert!(connect(&lab.client, SERVER, 8080).is_open());
        eventually("the ban is back", Duration::from_secs(2), || {
            lab.server
                .run("nft", &["list", "ruleset"])
                .unwrap()
                .contains("192.0.2.7")
        });
    }
    let status = firewall.json("status");
    assert!(
        status["drift"]["repaired"].as_u64().unwrap() >= 2,
        "{status}"
    );
    eventually("an event tells it", Duration::from_secs(3), || {
        firewall.ask("events --kind drift").stdout.contains("DRIFT")
    });
}

#[test]
fn a_killed_daemon_leaves_the_rules_and_a_new_one_takes_over() {
    let Some(lab) = topology() else { return };
    let _services = Echo::start(&lab.server, &[8080, 22]);
    let mut firewall = Firewall::start(&lab.server, &lenient());
    let Attempt::Open(mut stream) = connect(&lab.client, SERVER, 8080) else {
        panic!("not open")
    };
    firewall.kill();
    assert!(echoes(&mut stream, b"hello"));
    assert!(connect(&lab.client, SERVER, 8080).is_open());
    assert!(connect(&lab.client, SERVER, 22).is_silent());
    // The dead one's socket still lies there.
    firewall.run(&[]);
    assert!(
        echoes(&mut stream, b"hello again"),
        "taking over cuts nobody"
    );
    assert!(connect(&lab.client, SERVER, 22).is_silent());
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() {
    let Some(lab) = topology() else { return };
    let firewall = Firewall::start(&lab.server, &lenient());
    let policy = firewall.policy();
    let place = policy.parent().unwrap().display().to_string();
    let socket = format!("{place}/api.sock");
    let output = lab
        .server
        .output(
            crate::common::binary().to_str().unwrap(),
            &[
                "run",
                "--config",
                policy.to_str().unwrap(),
                "--state-dir",
                &place,
                "--log-dir",
                &place,
                "--socket",
                &socket,
            ],
        )
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    firewall.ask("status");
}

#[test]
fn an_invalid_policy_at_the_start_ends_the_start() {
    let Some(lab) = topology() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(
        place("policy.toml"),
        "mode = \"enforce\"\n[default]\ninbound = \"denny\"\n",
    )
    .unwrap();
    let output = lab
        .server
        .output(
            crate::common::binary().to_str().unwrap(),
            &[
                "run",
                "--config",
                &place("policy.toml"),
                "--state-dir",
                &place("state"),
                "--log-dir",
                &place("log"),
                "--socket",
                &place("api.sock"),
            ],
        )
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(
        stderr.contains("policy.toml:3:") && stderr.contains("deny"),
        "{stderr}"
    );
}

#[test]
fn events_follow_what_happens() {
    let Some(lab) = topology() else { return };
    let firewall = Firewall::start(&lab.server, &lenient());
    let socket = firewall
        .policy()
        .with_file_name("api.sock")
        .display()
        .to_string();
    let follower = lab
        .server
        .spawn(
            crate::common::binary().to_str().unwrap(),
            &["events", "--follow", "--json", "--socket", &socket],
        )
        .unwrap();
    // It is connected when it has seen the first thing that happens after it was started.
    eventually("the follower sees a ban", Duration::from_secs(10), || {
        firewall.ask("ban 192.0.2.9 --for 1m");
        firewall.ask("unban 192.0.2.9");
        follower.stdout().contains("192.0.2.9")
    });
    assert!(connect(&lab.client, SERVER, 23).is_silent());
    eventually("the follower sees a drop", Duration::from_secs(5), || {
        follower
            .stdout()
            .lines()
            .any(|line| line.contains("\"event_type\":\"drop\"") && line.contains(CLIENT))
    });
    for line in follower.stdout().lines() {
        serde_json::from_str::<serde_json::Value>(line)
            .unwrap_or_else(|why| panic!("{why}: {line}"));
    }
}

/// What containers and services are given is less than all, whoever they run as.
#[test]
fn root_without_the_capability_is_not_permitted() {
    if !tools(&["setpriv"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    let less = ["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
    let less: Vec<String> = [&["setpriv"][..], &less]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let policy = write("enforce.toml", &lenient());
    let [state, log, socket] =
        ["state", "log", "api.sock"].map(|name| folder.path().join(name).display().to_string());
    let called = lab.server.enter(|| {
        let mut command = command_through(&less);
        command.args(["run", "--no-web", "--config", &policy]);
        command.args(["--state-dir", &state, "--log-dir", &log]);
        command.args(["--socket", &socket]);
        call(command, b"")
    });
    called.unwrap().expect(5).one_sentence("CAP_NET_ADMIN");
    // Who only observes cannot begin to enforce, whoever asks.
    let observing = lenient().replace("enforce", "observe");
    let mut firewall = Firewall::new(&lab.server, &observing).through(less.clone());
    firewall.run(&[]);
    firewall
        .call(&["apply", &policy])
        .expect(5)
        .one_sentence("CAP_NET_ADMIN");
    let flush = lab.server.enter(|| {
        let mut command = command_through(&less);
        command.args(["flush", "--socket", &crate::common::nobody()]);
        call(command, b"")
    });
    flush.unwrap().expect(5).one_sentence("CAP_NET_ADMIN");
}

/// A start that fails leaves the kernel as it was: what an earlier daemon left there still filters.
#[test]
fn an_interface_that_is_not_there_is_told_before_anything_is_changed() {
    let Some(lab) = topology() else { return };
    let _services = Echo::start(&lab.server, &[8080, 22]);
    let mut firewall = Firewall::start(&lab.server, &lenient());
    firewall.kill();
    let why = firewall.fails(&["--observe", "-i", "lo", "-i", "typo0"]);
    assert!(
        why.contains("\"typo0\"") && why.contains("there are lo"),
        "{why}"
    );
    assert!(connect(&lab.client, SERVER, 22).is_silent());
    assert!(connect(&lab.client, SERVER, 8080).is_open());
    // Its rules hold on every interface, and it does not stay away for want of one.
    firewall.run(&["-i", "lo", "-i", "typo0"]);
    assert!(firewall.log().contains("\"typo0\""), "{}", firewall.log());
    let status = firewall.ask("status").stdout;
    assert!(status.contains("hold on every interface"), "{status}");
}

/// What is watched does not hang on what is not there yet.
#[test]
fn an_interface_that_comes_later_is_watched_beside_the_others() {
    let Some(lab) = topology() else { return };
    let mut firewall = Firewall::start(&lab.server, &lenient());
    firewall.stop();
    firewall.run(&["-i", "later0", "-i", "lo", "-i", "lo"]);
    let observing = firewall.policy().with_file_name("observing.toml");
    std::fs::write(&observing, lenient().replace("enforce", "observe")).unwrap();
    firewall
        .call(&["apply", observing.to_str().unwrap()])
        .expect(0);
    let watched = || {
        let status = firewall.json("status");
        let backends = status["backends"].as_array().unwrap().clone();
        let of = |backend: &serde_json::Value| backend["detail"].as_str().unwrap().to_owned();
        let captures = backends
            .iter()
            .filter(|backend| backend["name"] == "af_packet" && backend["state"] == "running");
        (
            captures.map(of).collect::<Vec<_>>(),
            status["warnings"].to_string(),
        )
    };
    let (names, warnings) = watched();
    assert_eq!(names, ["lo"], "{warnings}");
    assert!(warnings.contains("later0 is not watched"), "{warnings}");
    let add = ["link", "add", "later0", "type", "veth", "peer", "later1"];
    lab.server.run("ip", &add).unwrap();
    lab.server
        .run("ip", &["link", "set", "later0", "up"])
        .unwrap();
    eventually("the later one", Duration::from_secs(20), || {
        watched().0 == ["lo", "later0"]
    });
    let (_, warnings) = watched();
    assert!(!warnings.contains("later0"), "{warnings}");
}
