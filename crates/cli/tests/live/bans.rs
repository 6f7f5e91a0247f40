//! A ban cuts, lasts, survives and ends.

use std::time::{Duration, Instant};

use crate::firewall::{Firewall, eventually, only_web};
use crate::network::{
    ATTACKER, Attempt, CLIENT, Echo, SERVER, SERVER_FOR_ATTACKER, SERVER6, connect, echoes, pings,
    tools, topology,
};

const OPEN: &str = r#"
mode = "enforce"

[default]
inbound = "allow"
outbound = "allow"
"#;

/// Bans for ten minutes who sent so many packets that were denied.
fn counting_denied(packets: u32) -> String {
    only_web(&format!(
        "[detect.blocked]\npackets = {packets}\nwindow = \"60s\"\nban = \"10m\"\n"
    ))
}

#[test]
fn a_ban_cuts_an_established_connection_at_once() {
    if !tools(&["ping"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[8080]);
    let firewall = Firewall::start(&lab.server, OPEN);
    let mut times = Vec::new();
    for _ in 0..5 {
        let Attempt::Open(mut stream) = connect(&lab.client, SERVER, 8080) else {
            panic!("not open")
        };
        assert!(echoes(&mut stream, b"before"));
        // One side talks all the time; the other bans, and looks when the last answer came.
        let (asked, last) = std::thread::scope(|scope| {
            let talk = scope.spawn(|| {
                let mut last = Instant::now();
                while echoes(&mut stream, b"still here") {
                    last = Instant::now();
                }
                last
            });
            std::thread::sleep(Duration::from_millis(50));
            let asked = Instant::now();
            let body = format!("{{\"prefix\":\"{CLIENT}\",\"for_s\":60}}");
            let status = firewall.request("POST", "bans", &body);
            assert!(status.contains(" 20"), "{status}");
            (asked, talk.join().unwrap())
        });
        times.push(last.saturating_duration_since(asked));
        assert!(connect(&lab.client, SERVER, 8080).is_silent());
        assert!(!pings(&lab.client, SERVER), "a ban covers every protocol");
        firewall.ask(&format!("unban {CLIENT}"));
        assert!(connect(&lab.client, SERVER, 8080).is_open());
    }
    times.sort();
    eprintln!("from the request to the last answer: {times:?}");
    assert!(times[2] <= Duration::from_millis(10), "{times:?}");
}

#[test]
fn a_ban_ends_on_time_without_the_daemon() {
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[8080]);
    let mut firewall = Firewall::start(&lab.server, OPEN);
    let begun = Instant::now();
    firewall.ask(&format!("ban {CLIENT} --for 4s"));
    firewall.ask("ban fd77:1::2 --for 4s");
    firewall.kill();
    for to in [SERVER, SERVER6] {
        assert!(connect(&lab.client, to, 8080).is_silent(), "{to}");
    }
    assert!(
        connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_open(),
        "others are not touched"
    );
    while begun.elapsed() < Duration::from_millis(3_200) {
        assert!(
            connect(&lab.client, SERVER, 8080).is_silent(),
            "lifted after {:?}",
            begun.elapsed()
        );
    }
    eventually("the ban is over", Duration::from_secs(3), || {
        connect(&lab.client, SERVER, 8080).is_open()
    });
    assert!(
        begun.elapsed() >= Duration::from_millis(3_900),
        "lifted early, after {:?}",
        begun.elapsed()
    );
    assert!(connect(&lab.client, SERVER6, 8080).is_open());
}

#[test]
fn bans_come_back_after_a_restart() {
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[8080]);
    let mut firewall = Firewall::start(&lab.server, OPEN);
    firewall.ask(&format!("ban {ATTACKER} --for 10m --reason scanning"));
    firewall.ask("ban 192.0.2.0/24 --forever");
    firewall.stop();
    // A reboot takes what the kernel had.
    lab.server.sh("nft flush ruleset").unwrap();
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_open());
    firewall.run(&[]);
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_silent());
    let bans = firewall.json("bans");
    let find = |prefix: &str| {
        bans.as_array()
            .unwrap()
            .iter()
            .find(|ban| ban["prefix"] == prefix)
            .unwrap_or_else(|| panic!("{prefix} is not in {bans}"))
    };
    let ban = find(&format!("{ATTACKER}/32"));
    assert_eq!(
        (ban["reason"].as_str(), ban["origin"].as_str()),
        (Some("scanning"), Some("manual")),
        "{ban}"
    );
    let left = ban["remaining_s"].as_u64().unwrap();
    assert!((540..=600).contains(&left), "{ban}");
    assert_eq!(find("192.0.2.0/24")["expires"], serde_json::Value::Null);
    for field in [
        "prefix",
        "family",
        "detector",
        "origin",
        "reason",
        "since",
        "expires",
        "remaining_s",
        "times_banned",
        "evidence",
    ] {
        assert!(ban.get(field).is_some(), "{field} is not in {ban}");
    }
}

#[test]
fn bans_are_written_and_read_in_every_form() {
    let Some(lab) = topology() else { return };
    let firewall = Firewall::start(&lab.server, OPEN);
    firewall.ask("ban 203.0.113.7 --for 10m --reason =1+1");
    firewall.ask("ban 2001:db8:7::/48 --for 1h");
    firewall.ask("ban 198.51.100.0/24 --forever");
    let folder = tempfile::tempdir().unwrap();
    let known = |bans: serde_json::Value| -> Vec<String> {
        let fields = ["prefix", "since", "expires", "reason", "times_banned"];
        let bans = bans.as_array().unwrap().iter();
        bans.map(|ban| fields.map(|field| ban[field].to_string()).join(" "))
            .collect()
    };
    let before = known(firewall.json("bans"));
    let whole = firewall.ask("bans export").stdout;
    for form in ["json", "csv", "banned-ips", "plain"] {
        let file = folder.path().join("bans");
        let file = file.display();
        let exported = firewall.ask(&format!("bans export --format {form}")).stdout;
        firewall.ask(&format!("bans export --format {form} --output {file}"));
        let written = std::fs::read_to_string(file.to_string()).unwrap();
        // What is left of a ban is another number a second later.
        assert_eq!(written.lines().count(), exported.lines().count(), "{form}");
        let again = firewall.ask(&format!("bans import {file} --json")).json();
        if matches!(form, "json" | "csv") {
            assert_eq!(
                (&again["added"], &again["unchanged"]),
                (&0.into(), &3.into()),
                "{again}"
            );
        }
        let now = known(firewall.json("bans"));
        // A list names no end: from now on it is a little later than it was.
        assert!(form == "plain" || now == before, "{form}: {now:?}");
        firewall.ask("unban --all");
        let taken = firewall.ask(&format!("bans import {file} --json")).json();
        assert_eq!(
            (&taken["added"], &taken["refused_count"]),
            (&3.into(), &0.into()),
            "{form}: {taken}"
        );
        if matches!(form, "json" | "csv") {
            assert_eq!(known(firewall.json("bans")), before, "{form}");
            continue;
        }
        // These know no end: the bans are made anew for the next form.
        firewall.ask("unban --all");
        std::fs::write(folder.path().join("whole.json"), &whole).unwrap();
        let file = folder.path().join("whole.json");
        firewall.ask(&format!("bans import {}", file.display()));
        assert_eq!(known(firewall.json("bans")), before, "{form}");
    }
    // The script stands for itself: loaded where no Portcullis is, the sets hold what is banned, each for as long as it has left.
    firewall.ask("ban 198.51.100.7 --for 2m");
    let script = folder.path().join("bans.nft");
    firewall.ask(&format!(
        "bans export --format nft --output {}",
        script.display()
    ));
    lab.attacker
        .sh(&format!("nft -f {}", script.display()))
        .unwrap();
    let sets = lab
        .attacker
        .sh("nft list table inet portcullis_bans")
        .unwrap();
    for part in [
        "198.51.100.0/24",
        "203.0.113.7 timeout",
        "2001:db8:7::/48 timeout",
    ] {
        assert!(sets.contains(part), "{part} is not in {sets}");
    }
}

/// fail2ban's own code makes the database, as its server does with every ban.
const FAIL2BAN: &str = r#"
import sys, time
from fail2ban.server.database import Fail2BanDb
from fail2ban.server.ticket import BanTicket

class Actions:
    def getBanTime(self):
        return 600

class Jail:
    def __init__(self, name):
        self.name, self.actions = name, Actions()

db = Fail2BanDb(sys.argv[1])
sshd, recidive = Jail("sshd"), Jail("recidive")
for jail in sshd, recidive:
    db.addJail(jail)
for jail, ip, at, span in [
    (sshd, "203.0.113.7", 0, None),
    (recidive, "203.0.113.8", -60, -1),
    (sshd, "203.0.113.9", -9000, 600),
    (sshd, sys.argv[2], 0, None),
    (sshd, "2001:db8::7", 0, 3600),
]:
    ticket = BanTicket(ip, time.time() + at, ["a line of a log"])
    ticket.setAttempt(5)
    if span is not None:
        ticket.setBanTime(span)
    db.addBan(jail, ticket)
"#;

#[test]
fn bans_of_a_real_fail2ban_are_taken_in() {
    let Some(lab) = topology() else { return };
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("fail2ban.sqlite3");
    let made = std::process::Command::new("python3")
        .args(["-c", FAIL2BAN, &database.display().to_string(), CLIENT])
        .output();
    match made {
        Ok(made) if made.status.success() => {}
        Ok(made) => {
            let why = String::from_utf8_lossy(&made.stderr).into_owned();
            assert!(why.contains("No module named 'fail2ban'"), "{why}");
            eprintln!("SKIPPED: fail2ban is not installed");
            return;
        }
        Err(why) => {
            eprintln!("SKIPPED: no python3 to run fail2ban: {why}");
            return;
        }
    }
    let policy = format!("{OPEN}\n[protect]\naddresses = [\"{CLIENT}\"]\n");
    let firewall = Firewall::start(&lab.server, &policy);
    let taken = firewall
        .ask(&format!("bans import {} --json", database.display()))
        .json();
    assert_eq!(
        (
            &taken["added"],
            &taken["expired"],
            &taken["refused_count"],
            &taken["bad_count"]
        ),
        (&3.into(), &1.into(), &1.into(), &0.into()),
        "{taken}"
    );
    assert_eq!(
        taken["refused"][0]["prefix"], CLIENT,
        "a protected address stays free"
    );
    let bans = firewall.json("bans");
    let find = |prefix: &str| {
        let bans = bans.as_array().unwrap().iter();
        bans.clone()
            .find(|ban| ban["prefix"] == prefix)
            .unwrap_or_else(|| panic!("{prefix} is not in {bans:?}"))
    };
    let ban = find("203.0.113.7/32");
    assert_eq!(ban["reason"], "fail2ban: sshd (5 failures)");
    // fail2ban rounds the begin to a whole second, up too.
    assert!(
        (540..=601).contains(&ban["remaining_s"].as_u64().unwrap()),
        "{ban}"
    );
    assert_eq!(
        find("203.0.113.8/32")["expires"],
        serde_json::Value::Null,
        "-1 is for good"
    );
    assert!(find("2001:db8::7/128")["remaining_s"].as_u64().unwrap() > 3_500);
    let taken = firewall
        .ask(&format!("bans import {} --all --json", database.display()))
        .json();
    assert_eq!(
        (&taken["added"], &taken["unchanged"]),
        (&1.into(), &3.into()),
        "{taken}"
    );
}

#[test]
fn many_denied_packets_ban_and_the_allow_list_lifts() {
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[8080]);
    let firewall = Firewall::start(&lab.server, &counting_denied(5));
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_open());
    // Datagrams leave at once, where a connect would wait for its silence.
    let send = || {
        lab.attacker.sh(&format!("for port in $(seq 1000 1019); do echo x | nc -u -w1 -q0 {SERVER_FOR_ATTACKER} $port; done"))
    };
    send().unwrap();
    eventually("the attacker is banned", Duration::from_secs(5), || {
        firewall
            .json("bans")
            .as_array()
            .unwrap()
            .iter()
            .any(|ban| ban["detector"] == "blocked")
    });
    let ban = &firewall.json("bans")[0];
    assert_eq!(ban["prefix"], format!("{ATTACKER}/32"));
    assert_eq!(ban["evidence"]["threshold"], 5, "{ban}");
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_silent());
    assert!(
        connect(&lab.client, SERVER, 8080).is_open(),
        "others are not touched"
    );
    let story = firewall.ask(&format!("why {ATTACKER}")).stdout;
    assert!(
        story.contains("banned") && story.contains("blocked") || story.contains("denied"),
        "{story}"
    );

    firewall.ask(&format!("allow {ATTACKER}"));
    assert_eq!(firewall.json("bans"), serde_json::json!([]));
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_open());
    send().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(
        firewall.json("bans"),
        serde_json::json!([]),
        "an allowed address is not banned again"
    );
}

#[test]
fn a_protected_address_is_not_banned() {
    let Some(lab) = topology() else { return };
    let policy = format!("{OPEN}\n[protect]\naddresses = [\"{CLIENT}\"]\n");
    let firewall = Firewall::start(&lab.server, &policy);
    for address in [CLIENT, SERVER, "127.0.0.1"] {
        let called = firewall
            .call(&["ban", address])
            .expect(1)
            .one_sentence("protect");
        assert_eq!(called.stdout, "");
    }
    assert_eq!(firewall.json("bans"), serde_json::json!([]));
}

/// What a detector found while nothing was blocked cuts nobody when blocking begins; what a person wanted does, and it is told.
#[test]
fn enforcing_begins_without_the_bans_that_only_would_have_been() {
    let enforcing = counting_denied(3);
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[8080]);
    let firewall = Firewall::start(&lab.server, &enforcing.replace("enforce", "observe"));
    for port in 100..110 {
        assert!(!connect(&lab.attacker, SERVER_FOR_ATTACKER, port).is_open());
    }
    let soon = Duration::from_secs(5);
    eventually("it would be banned", soon, || {
        firewall.ask("bans").stdout.contains(ATTACKER)
    });
    let ban = firewall.json("bans")[0].clone();
    assert_eq!(
        (&ban["would_be"], &ban["mode"]),
        (&true.into(), &"observe".into())
    );
    firewall.ask("ban 192.0.2.7 --for 10m --reason wanted");

    firewall.write(&enforcing);
    let apply = format!("apply {}", firewall.policy().display());
    let told = firewall.ask(&apply).stderr;
    let line = |what: &str| {
        told.lines()
            .find(|line| line.contains(what))
            .unwrap_or_default()
    };
    assert!(line(ATTACKER).contains("not enforced"), "{told}");
    assert!(line("192.0.2.7").contains("in force from now on"), "{told}");
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_open());
    let bans = firewall.json("bans");
    assert_eq!(bans.as_array().unwrap().len(), 1, "{bans}");
    assert_eq!(
        (&bans[0]["prefix"], &bans[0]["mode"]),
        (&"192.0.2.7/32".into(), &"enforce".into())
    );
    eventually("both are on record", soon, || {
        let events = firewall.ask("events --json").stdout;
        let has = |words: &[&str]| {
            events
                .lines()
                .any(|line| words.iter().all(|word| line.contains(word)))
        };
        has(&["\"unban\"", ATTACKER, "not-enforced"])
            && has(&[
                "\"event_type\":\"ban\"",
                "192.0.2.7",
                "\"mode\":\"enforce\"",
            ])
    });
    let story = firewall.ask(&format!("why {ATTACKER}")).stdout;
    assert!(
        story.contains("would have been banned from") && !story.contains("was banned"),
        "{story}"
    );
    // The first ban that is done is a first one.
    for port in 200..210 {
        assert!(!connect(&lab.attacker, SERVER_FOR_ATTACKER, port).is_open());
    }
    eventually("it is banned", soon, || {
        firewall.ask("bans").stdout.contains(ATTACKER)
    });
    let bans = firewall.json("bans");
    let ban = bans
        .as_array()
        .unwrap()
        .iter()
        .find(|ban| ban["origin"] == "detector")
        .unwrap();
    assert_eq!(ban["times_banned"], 1, "{ban}");
    assert!(ban["remaining_s"].as_u64().unwrap() <= 600, "{ban}");
    assert!(ban.get("would_be").is_none(), "{ban}");
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_silent());
}

/// What the kernel held while no daemon ran was in force, and is: the record says so.
#[test]
fn bans_that_the_kernel_kept_are_recorded_as_bans() {
    let Some(lab) = topology() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut firewall = Firewall::new(&lab.server, OPEN).recording_in(folder.path().to_owned());
    firewall.run(&[]);
    firewall.ask(&format!("ban {ATTACKER} --for 10m"));
    firewall.kill();
    // Nobody remembers but the kernel.
    std::fs::remove_dir_all(folder.path().join("state")).unwrap();
    std::fs::remove_dir_all(folder.path().join("log")).unwrap();
    firewall.run(&[]);
    assert_eq!(firewall.json("bans")[0]["origin"], "kernel");
    let log =
        || std::fs::read_to_string(folder.path().join("log/firewall.log")).unwrap_or_default();
    eventually("it is on record", Duration::from_secs(5), || {
        log().contains(ATTACKER)
    });
    let log = log();
    assert!(
        log.contains(" BAN: ") && !log.contains("WOULD-BAN"),
        "{log}"
    );
    let events = firewall.ask("events --kind ban").stdout;
    assert!(
        events.contains("BAN") && !events.contains("WOULD-BAN"),
        "{events}"
    );
}

/// Its connections are what the rules see them as: behind a port that somebody else's rule sends on.
#[test]
fn guessing_is_seen_behind_a_published_port() {
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[22]);
    let theirs = "table ip published {\n\
        chain pre { type nat hook prerouting priority -100\n tcp dport 222 redirect to :22\n }\n}";
    lab.server.run("nft", &[theirs]).unwrap();
    let policy =
        "mode = \"enforce\"\n[[rule]]\naction = \"allow\"\nprotocol = \"tcp\"\nport = 22\n";
    let firewall = Firewall::start(&lab.server, policy);
    for _ in 0..10 {
        assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 222).is_open());
    }
    eventually("a ban", Duration::from_secs(5), || {
        let bans = firewall.json("bans");
        bans[0]["detector"] == "brute" && bans[0]["prefix"] == format!("{ATTACKER}/32")
    });
}
