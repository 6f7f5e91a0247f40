//! The record and the API: live, full, moved away, asked wrongly.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::scene::*;

pub(crate) fn followers_hear_events_as_they_come() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    scene.start("", &config);
    let mut stream = std::os::unix::net::UnixStream::connect(scene.path("api.sock")).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    write!(
        stream,
        "GET /api/v1/events?follow=true&kind=drop&address=10.77.2.2 HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    .unwrap();
    let mut lines = BufReader::new(stream).lines();
    while !lines.next().unwrap().unwrap().is_empty() {}
    assert!(
        !connects(&scene.net.client, SERVER_FOR_CLIENT, 9),
        "not what is followed"
    );
    assert!(!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222));
    let event: Value = lines
        .by_ref()
        .find_map(|line| {
            serde_json::from_str(&line.unwrap())
                .ok()
                .filter(Value::is_object)
        })
        .unwrap();
    assert_eq!(
        (event["src_ip"].as_str(), event["dest_port"].as_u64()),
        (Some(ATTACKER), Some(2222))
    );
    let begun = Instant::now();
    scene.stop();
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "a follower does not keep the daemon: {:?}",
        begun.elapsed()
    );
}

pub(crate) fn the_api_says_what_is_wrong_with_a_request() {
    let mut scene = Scene::new();
    scene.start("observe", "");
    for (method, path, body, expected) in [
        ("GET", "nowhere", Value::Null, 404),
        ("PUT", "bans", Value::Null, 405),
        ("POST", "bans", json!({"prefix": "nobody"}), 400),
        ("POST", "bans", json!({}), 400),
        ("POST", "bans", json!({"prefix": "0.0.0.0/0"}), 409),
        ("DELETE", "bans?prefix=192.0.2.1", Value::Null, 404),
        ("DELETE", "bans", Value::Null, 400),
        ("GET", "events?limit=many", Value::Null, 400),
        ("GET", "events?address=nobody", Value::Null, 400),
        ("GET", "why/999999", Value::Null, 404),
        ("GET", "sets/absent", Value::Null, 404),
        (
            "POST",
            "test",
            json!({"packets": [{"direction": "up", "protocol": "tcp", "source": "192.0.2.1", "destination": "192.0.2.2"}]}),
            400,
        ),
        (
            "POST",
            "policy/apply",
            json!({"path": "relative.toml"}),
            400,
        ),
        (
            "POST",
            "policy/apply",
            json!({"path": "/nonexistent/policy.toml"}),
            422,
        ),
    ] {
        let (status, answer) = scene.ask(method, path, &body);
        assert_eq!(status, expected, "{method} {path}: {answer}");
        let error = answer["error"].as_str().unwrap();
        assert!(!error.contains('\n') && error.len() > 10, "{error:?}");
    }
    assert_eq!(
        scene.get("why/2001:db8::9/128")["story"][2],
        "Nothing of it is on record."
    );
}

pub(crate) fn a_full_disk_stops_the_record_alone() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    std::fs::create_dir(scene.path("log")).unwrap();
    std::os::unix::fs::symlink("/dev/full", scene.path("log/eve.json")).unwrap();
    scene.start("", &config);
    assert!(!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222));
    scene.log_line(&[" DROP ", ":2222"]);
    let status = scene.get("status");
    assert_eq!(status["record"]["eve"]["state"], "stopped", "{status}");
    assert!(status["losses"]["files"].as_u64().unwrap() > 0, "{status}");
    assert!(
        status["warnings"].to_string().contains("No space left"),
        "{status}"
    );
    std::fs::remove_file(scene.path("log/eve.json")).unwrap();
    scene.wait("record that resumes", || {
        reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222);
        (scene.get("status")["record"]["eve"]["state"] == "writing").then_some(())
    });
    assert!(
        std::fs::read_to_string(scene.path("log/eve.json"))
            .unwrap()
            .contains("no back door")
    );
}

pub(crate) fn a_hang_up_reopens_the_files_and_reads_the_policy() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    scene.start("", &config);
    std::fs::rename(scene.path("log/eve.json"), scene.path("log/moved.json")).unwrap();
    let daemon = scene.daemon.as_ref().unwrap().pid();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(daemon.cast_signed()),
        nix::sys::signal::Signal::SIGHUP,
    )
    .unwrap();
    scene.log_line(&["POLICY: ", "(reload)"]);
    assert!(!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222));
    scene.wait("event in the new file", || {
        std::fs::read_to_string(scene.path("log/eve.json"))
            .unwrap_or_default()
            .contains("no back door")
            .then_some(())
    });
}
