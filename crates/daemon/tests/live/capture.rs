//! A capture of what the daemon saw, enforcing or observing, replays to the bans that the daemon made.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::Event;
use ipnet::IpNet;
use kernel::replay::Replay;
use policy::Format;
use portcullis_daemon::record;
use portcullis_daemon::replay::{Options, replay};
use serde_json::Value;

use crate::scan::{ALLOW, DENY, PATIENCE, PORTS, foreign_network};
use crate::scene::*;

/// What a ban is by: source, detector, how many, and the packets between which they lay.
fn evidence_of(ban: &Value) -> [String; 5] {
    let evidence = &ban["evidence"];
    ["prefix", "detector"]
        .map(|key| ban[key].to_string())
        .into_iter()
        .chain(["count", "first_packet", "last_packet"].map(|key| evidence[key].to_string()))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

/// Gives a capture other times: `gap` between two packets of the attacker.
fn stretch(capture: &Path, gap: Duration) {
    let mut bytes = std::fs::read(capture).unwrap();
    let number =
        |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(
        number(&bytes, 0),
        0xa1b2_c3d4,
        "pcap with microseconds, as tcpdump writes here"
    );
    let begun = Duration::from_secs(1_700_000_000);
    let (mut at, mut packets) = (24, 0_u32);
    while at < bytes.len() {
        let time = begun + gap * packets;
        let fields = [time.as_secs() as u32, time.subsec_micros()];
        for (place, field) in fields.into_iter().enumerate() {
            bytes[at + place * 4..][..4].copy_from_slice(&field.to_le_bytes());
        }
        // ARP takes no time.
        packets += u32::from(bytes[at + 28..at + 30] == [8, 0]);
        at += 16 + number(&bytes, at + 8) as usize;
    }
    std::fs::write(capture, bytes).unwrap();
}

pub(crate) fn a_captured_scan_that_takes_its_time_is_banned_by_the_slow_window() {
    // Few more than are needed: the ban is in force when the capture ends.
    let recorded = record_a_scan(DENY, "-sS", "200-221", false);
    let capture = &recorded.capture;
    for (gap, banned) in [(15, true), (60, true), (189, true), (190, false)] {
        stretch(capture, Duration::from_secs(gap));
        let bans = replayed(DENY, capture);
        assert_eq!(bans.len(), usize::from(banned), "{gap} s: {bans:?}");
        for ban in bans {
            assert_eq!(ban["evidence"]["count"], 20, "{gap} s: {ban}");
            assert_eq!(
                ban["evidence"]["pattern"], "slow SYN scan",
                "{gap} s: {ban}"
            );
        }
    }
}

/// The bans of a capture, as answers have them.
fn replayed(policy: &str, capture: &Path) -> Vec<Value> {
    let loaded = policy::load_text("policy.toml", policy, Format::Toml, Path::new("/"));
    let plan = loaded.policy.unwrap().plan();
    let own = ["10.77.1.1", "10.77.2.1", "fd77:1::1", "fd77:2::1"];
    let options = Options {
        own: own
            .map(|address| IpNet::from(address.parse::<IpAddr>().unwrap()))
            .into_iter()
            .collect(),
        ..Options::default()
    };
    let mut source = Replay::open(capture).unwrap();
    let mut events: Vec<Event> = Vec::new();
    let outcome = replay(&mut source, Arc::new(plan), options, &mut events).unwrap();
    let end = outcome.span.unwrap().1;
    let bans = outcome.bans.iter();
    bans.map(|ban| serde_json::to_value(record::ban::ban(ban, end)).unwrap())
        .collect()
}

/// What the daemon said of what happened, and the recording of the same. The folder holds the recording.
struct Recorded {
    bans: Vec<Value>,
    capture: PathBuf,
    _folder: tempfile::TempDir,
}

/// Has the daemon look on while something happens, and the cable to the attacker recorded. `mode` is that of the policy where it is
/// empty.
fn record(mode: &str, policy: &str, happens: impl FnOnce(&Scene)) -> Recorded {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", policy);
    scene.start(mode, &config);
    foreign_network(&scene);
    let capture = scene.path("scan.pcap");
    let file = capture.display().to_string();
    let words = [
        "-i",
        "a0",
        "-U",
        "--immediate-mode",
        "-Z",
        "root",
        "-w",
        &file,
    ];
    let recording = scene.net.server.spawn("tcpdump", &words).unwrap();
    recording.wait_for_output("listening on", PATIENCE).unwrap();
    happens(&scene);
    let bans = scene.get("bans").as_array().unwrap().clone();
    let recorded = recording.stop(PATIENCE).unwrap();
    assert!(
        recorded.status.success(),
        "{}",
        String::from_utf8_lossy(&recorded.stderr)
    );
    scene.stop();
    let Scene { folder, .. } = scene;
    Recorded {
        bans,
        capture,
        _folder: folder,
    }
}

/// Scans these ports of the server.
fn scan(scene: &Scene, scan: &str, ports: &str, is_v6: bool) {
    let target = if is_v6 {
        "fd77:2::1"
    } else {
        SERVER_FOR_ATTACKER
    };
    let mut words = vec![scan, "-T4", "-Pn", "-n", "-p", ports, "--max-retries", "0"];
    // What asks by `connect` leaves the packets to the kernel.
    if scan != "-sT" {
        words.extend(["--send-ip", "-e", "s0"]);
    }
    if is_v6 {
        words.extend(["-6", "-S", "fd99::2"]);
    }
    words.push(target);
    scene.net.attacker.run("nmap", &words).unwrap();
}

/// Scans these ports while the cable is recorded, until somebody is banned for it.
fn record_a_scan(policy: &str, technique: &str, ports: &str, is_v6: bool) -> Recorded {
    record("", policy, |scene| {
        scan(scene, technique, ports, is_v6);
        scene.wait("a ban", || {
            (scene.get("bans").as_array().unwrap().first().cloned()).map(drop)
        });
    })
}

pub(crate) fn a_capture_of_a_scan_replays_to_the_same_ban() {
    for (policy, technique, is_v6) in [
        (DENY, "-sS", false),
        (DENY, "-sX", true),
        (DENY, "-sU", true),
        (DENY, "-sO", false),
        (ALLOW, "-sS", true),
        (ALLOW, "-sS", false),
        (ALLOW, "-sA", false),
        (ALLOW, "-sM", true),
        (ALLOW, "-sU", false),
        (ALLOW, "-sU", true),
    ] {
        let live = record_a_scan(policy, technique, PORTS, is_v6);
        let what = format!("{technique} {is_v6} {policy}");
        assert_eq!(same_bans(&live, policy, &what), 1, "{what}");
    }
}

/// Two stamps of one packet, by the two that look on, or by the kernel's log of it.
const APART: i64 = 2_000_000;

/// When a source was banned, and when the packets were that counted first and last, in microseconds since the epoch.
fn times_of(ban: &Value) -> [i64; 3] {
    let evidence = &ban["evidence"];
    [&ban["since"], &evidence["first"], &evidence["last"]].map(|time| {
        let time: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
        time.as_microsecond()
    })
}

/// Whether the recording gives the bans that there were, for the same packets and at the same time; how many there were.
fn same_bans(live: &Recorded, policy: &str, what: &str) -> usize {
    let replayed = replayed(policy, &live.capture);
    let evidence = |bans: &[Value]| {
        let mut all: Vec<_> = bans.iter().map(evidence_of).collect();
        all.sort();
        all
    };
    assert_eq!(evidence(&live.bans), evidence(&replayed), "{what}");
    for ban in &live.bans {
        let same = replayed
            .iter()
            .find(|other| other["prefix"] == ban["prefix"]);
        let (there, here) = (times_of(ban), times_of(same.unwrap()));
        let is_near = there.iter().zip(here).all(|(a, b)| (a - b).abs() <= APART);
        assert!(is_near, "{what}: {there:?} and {here:?}");
    }
    live.bans.len()
}

/// A datagram to a port of its own that the record tells: what was before it was looked at.
fn mark(scene: &Scene) {
    datagram(&scene.net.attacker, SERVER_FOR_ATTACKER, 9, b"?");
    scene.log_line(&["DROP", ATTACKER, ":9 "]);
}

/// Denied packets alone, so that each one counts.
fn blocked(packets: u32) -> String {
    let services = DENY.replace("8080", "8081");
    format!("{services}[detect.scan]\nenabled = false\n[detect.blocked]\npackets = {packets}\n")
}

pub(crate) fn a_capture_of_a_host_that_only_observed_replays_to_the_same_bans() {
    let closed = DENY.replace("8080", "8081");
    // Services answer at 2222 and 8080, which the policy denies. What is asked there counts once, and so does the mark.
    for (policy, technique, ports, is_v6, bans) in [
        (&closed, "-sS", "2222,8080,100-110", false, 1),
        (&closed, "-sT", "2222,8080,100-110", false, 1),
        (&closed, "-sS", "2222,8080,100-110", true, 1),
        (&closed, "-sA", "2222,8080,100-110", false, 1),
        (&closed, "-sU", "2222,8080,100-110", false, 1),
        (&blocked(9), "-sT", "2222,8080,100-110", false, 1),
        (&blocked(9), "-sS", "2222,8080,100-110", true, 1),
        (&blocked(5), "-sT", "2222,8080,100", false, 0),
        (&blocked(4), "-sT", "2222,8080,100", false, 1),
    ] {
        let what = format!("{technique} {ports} {is_v6} {policy}");
        let live = record("observe", policy, |scene| {
            scan(scene, technique, ports, is_v6);
            mark(scene);
        });
        assert_eq!(same_bans(&live, policy, &what), bans, "{what}");
    }
}

pub(crate) fn what_nobody_answers_is_denied_each_time_live_and_in_a_capture() {
    let policy = blocked(3);
    let visit = |scene: &Scene| {
        let is_open = reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222);
        mark(scene);
        is_open
    };
    // Enforcing, its SYN is sent again after a second, and after two more.
    let mut is_open = true;
    let live = record("enforce", &policy, |scene| is_open = visit(scene));
    assert!(!is_open);
    assert_eq!(same_bans(&live, &policy, "dropped"), 1);
    let live = record("observe", &policy, |scene| is_open = visit(scene));
    assert!(is_open);
    assert_eq!(same_bans(&live, &policy, "answered"), 0);
}
