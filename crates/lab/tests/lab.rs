//! The lab itself: what it makes works, and nothing is left afterwards.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_lab::{Netns, Topology, available, veth};

fn ready() -> bool {
    available()
        .inspect_err(|why| eprintln!("SKIPPED: {why}"))
        .is_ok()
}

fn exists(name: &str) -> bool {
    Path::new("/run/netns").join(name).exists()
}

/// Does a connection to a closed port come back refused within a second?
fn reaches(from: &Netns, address: &str) -> bool {
    let address = SocketAddr::new(address.parse().unwrap(), 9);
    let answer = from
        .enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)))
        .unwrap();
    answer.is_err_and(|why| why.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn the_three_reach_each_other_and_vanish() {
    if !ready() {
        return;
    }
    let lab = Topology::new().unwrap();
    for address in ["10.77.1.1", "fd77:1::1"] {
        assert!(reaches(&lab.client, address));
    }
    for address in ["10.77.2.1", "fd77:2::1"] {
        assert!(reaches(&lab.attacker, address));
    }
    assert!(
        !reaches(&lab.client, "10.77.2.2"),
        "forwarding is off by default"
    );
    lab.forward(true).unwrap();
    for address in ["10.77.2.2", "fd77:2::2"] {
        assert!(reaches(&lab.client, address));
    }
    let names = [&lab.client, &lab.attacker, &lab.server].map(|netns| netns.name().to_owned());
    assert!(names.iter().all(|name| exists(name)));
    drop(lab);
    assert!(!names.iter().any(|name| exists(name)));
}

#[test]
fn a_panic_removes_the_namespace_and_what_runs_in_it() {
    if !ready() {
        return;
    }
    let (tell, told) = std::sync::mpsc::channel();
    let died = std::thread::spawn(move || {
        let netns = Netns::new("panics").unwrap();
        let sleeper = netns.spawn("sleep", &["1000"]).unwrap();
        tell.send((netns.name().to_owned(), sleeper.pid())).unwrap();
        panic!("as meant");
    })
    .join();
    assert!(died.is_err());
    let (name, pid) = told.recv().unwrap();
    assert!(!exists(&name));
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_namespace_of_a_dead_process_is_swept() {
    if !ready() {
        return;
    }
    // The id of a child that has been waited for is free, as far as anything can be said of it.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let stale = format!("pc{}-0-stale", child.id());
    let made = std::process::Command::new("ip")
        .args(["netns", "add", &stale])
        .status()
        .unwrap();
    assert!(made.success() && exists(&stale));
    let _fresh = Netns::new("fresh").unwrap();
    assert!(!exists(&stale));
}

#[test]
fn enter_is_inside_and_hands_the_panic_on() {
    if !ready() {
        return;
    }
    let netns = Netns::new("enter").unwrap();
    let other = Netns::new("other").unwrap();
    veth(&netns, "only0", &[], &other, "v0", &[]).unwrap();
    let devices = netns
        .enter(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap())
        .unwrap();
    assert!(devices.contains("only0"), "{devices}");
    let outside = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    assert!(!outside.contains("only0"));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        netns.enter(|| panic!("as meant"))
    }));
    assert!(caught.is_err());
}

#[test]
fn commands_report_and_are_bounded() {
    if !ready() {
        return;
    }
    let netns = Netns::new("commands").unwrap();
    let error = netns
        .run("sh", &["-c", "echo words >&2; exit 3"])
        .unwrap_err()
        .to_string();
    assert!(error.contains("words") && error.contains('3'), "{error}");
    assert!(
        netns.sh("false\ntrue").is_err(),
        "a script stops at its first failure"
    );
    assert_eq!(netns.sh("printf 'a b'").unwrap(), "a b");
    assert_eq!(netns.output("false", &[]).unwrap().status.code(), Some(1));

    let begun = Instant::now();
    // The grandchild keeps standard output open: it must neither delay the answer nor survive.
    let slow = netns.output_within(Duration::from_millis(200), "sh", &["-c", "sleep 77 & wait"]);
    assert!(slow.unwrap_err().to_string().contains("still runs"));
    assert!(begun.elapsed() < Duration::from_secs(5));

    let guard = netns
        .spawn(
            "sh",
            &["-c", "echo one; sleep 0.1; echo two of them; sleep 100"],
        )
        .unwrap();
    assert_eq!(
        guard
            .wait_for_output("two", Duration::from_secs(5))
            .unwrap(),
        "two of them"
    );
    assert!(
        guard
            .wait_for_output("three", Duration::from_millis(20))
            .is_err()
    );
    let output = guard.stop(Duration::from_secs(1)).unwrap();
    assert_eq!(output.stdout, b"one\ntwo of them\n");
    assert!(!output.status.success());
}
