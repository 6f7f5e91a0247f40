//! Scanners that take their time, as far as a test can wait for them.

use std::time::{Duration, Instant};

use crate::firewall::{Firewall, eventually, only_web};
use crate::network::{ATTACKER, SERVER_FOR_ATTACKER, connect, tools, topology};

/// Three slow ports instead of twenty: nmap's `-T1` waits 15 s between two, and for each that does not answer as long again.
const IMPATIENT: &str = "[detect.scan]\nslow_ports = 3\n";

#[test]
fn nmap_at_its_slowest_but_one_is_banned_by_the_slow_window() {
    if !tools(&["nmap"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    let policy = only_web(IMPATIENT).replace("deny", "reject");
    let firewall = Firewall::start(&lab.server, &policy);
    let words = [
        "-sS",
        "-T1",
        "-Pn",
        "--send-ip",
        "-n",
        "--max-retries",
        "0",
        "-p",
        "100-104",
        SERVER_FOR_ATTACKER,
    ];
    let begun = Instant::now();
    let _nmap = lab.attacker.spawn("nmap", &words).unwrap();
    eventually("the scan is banned", Duration::from_secs(80), || {
        firewall.ask("bans").stdout.contains(ATTACKER)
    });
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(28),
        "{took:?}: no window of ten seconds saw it"
    );
    let bans = firewall.json("bans");
    assert_eq!(bans[0]["detector"], "scan", "{bans}");
    assert_eq!(bans[0]["evidence"]["count"], 3, "{bans}");
    assert_eq!(bans[0]["evidence"]["pattern"], "slow SYN scan", "{bans}");
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_silent());
    firewall.ask("flush");
    assert!(!connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_silent());
}
