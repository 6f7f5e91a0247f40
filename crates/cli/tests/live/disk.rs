//! The disk of state and record is full, or cannot be written at all: the firewall goes on, says so, and catches up.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{Guard, Topology};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::firewall::{Firewall, eventually, only_web};
use crate::network::{ATTACKER, Echo, SERVER, SERVER_FOR_ATTACKER, connect, tools, topology};

/// A few MiB of memory as a disk, which nobody but the thread that made it and what it starts can see.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Takes the calling thread into a mount namespace of its own.
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kind = Some("tmpfs");
        mount(kind, folder.path(), kind, MsFlags::empty(), Some("size=6m")).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Leaves no room, also where some is given back later.
    fn fill(&self) {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())
            .unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while ballast
                .write(&vec![0; size])
                .is_ok_and(|written| written > 0)
            {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    /// Nothing can be written from here on. Nobody may have a file open for writing.
    fn forbid_writing(&self) {
        let none: Option<&str> = None;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, self.0.path(), none, flags, none).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(why) = umount2(self.0.path(), MntFlags::MNT_DETACH) {
            eprintln!("the small disk stays until the test ends: {why}");
        }
    }
}

/// Runs a test on a thread of its own, with a small disk; or says loudly why not.
fn with_small_disk(test: impl FnOnce(&Topology, &SmallDisk) + Send) {
    if !tools(&["nft"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| test(&lab, &SmallDisk::new()));
        inside
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Hears all events from now on.
fn follow(lab: &Topology, firewall: &Firewall<'_>) -> Guard {
    let socket = firewall.policy().with_file_name("api.sock");
    let socket = socket.display().to_string();
    let words = ["events", "--follow", "--json", "--socket", &socket];
    let follower = lab
        .server
        .spawn(crate::common::binary().to_str().unwrap(), &words)
        .unwrap();
    eventually("the follower hears", Duration::from_secs(10), || {
        firewall.ask("ban 192.0.2.99 --for 1m");
        firewall.ask("unban 192.0.2.99");
        follower.stdout().contains("192.0.2.99")
    });
    follower
}

/// How many lines hold all of these.
fn lines(text: &str, words: &[&str]) -> usize {
    let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
    text.lines().filter(has_all).count()
}

/// Whether one sentence says that what was asked for is in force and not written down, and why.
fn is_told(said: &str, why: &str) -> bool {
    let mut lines = said.lines();
    lines.any(|line| line.contains("in force now and is not written down (") && line.contains(why))
}

fn is_banned_in_kernel(lab: &Topology, address: &str) -> bool {
    let table = ["list", "table", "inet", "portcullis"];
    (lab.server.run("nft", &table)).is_ok_and(|table| table.contains(address))
}

fn forget_in_kernel(lab: &Topology) {
    let table = ["delete", "table", "inet", "portcullis"];
    lab.server.run("nft", &table).unwrap();
}

fn eve(disk: &SmallDisk) -> String {
    std::fs::read_to_string(disk.path().join("log/eve.json")).unwrap_or_default()
}

#[test]
fn a_full_disk_stops_the_record_and_nothing_else() {
    with_small_disk(|lab, disk| {
        let _service = Echo::start(&lab.server, &[8080]);
        let mut firewall = Firewall::new(&lab.server, &only_web("")).recording_in(disk.path());
        firewall.run(&[]);
        firewall.ask("ban 192.0.2.7 --for 10m --reason before");
        let follower = follow(lab, &firewall);
        disk.fill();

        for port in 100..105 {
            assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, port).is_silent());
        }
        eventually("the scan is banned", Duration::from_secs(5), || {
            is_banned_in_kernel(lab, ATTACKER)
        });
        firewall.ask("ban 192.0.2.8 --for 10m --reason meanwhile");
        firewall.ask("unban 192.0.2.7");
        let told = firewall.ask("allow 192.0.2.50");
        assert!(is_told(&told.stderr, "No space left"), "{}", told.stderr);
        eventually("a ban says so too", Duration::from_secs(20), || {
            // The page that the file has begun may still take some.
            firewall.ask("unban 192.0.2.8");
            let told = firewall.ask("ban 192.0.2.8 --for 10m --reason meanwhile");
            is_told(&told.stderr, "full")
        });
        assert!(connect(&lab.client, SERVER, 8080).is_open());
        assert!(connect(&lab.client, SERVER, 22).is_silent());
        lab.server.run("nft", &["flush", "ruleset"]).unwrap();
        eventually("what was flushed is back", Duration::from_secs(2), || {
            is_banned_in_kernel(lab, ATTACKER) && is_banned_in_kernel(lab, "192.0.2.8")
        });
        assert!(!is_banned_in_kernel(lab, "192.0.2.7"));
        let stopped = |what: &str| lines(&follower.stdout(), &["\"daemon\"", what, "the record"]);
        for what in ["eve.json", "firewall.log", "store.db"] {
            // The page that a file has begun still takes a few lines.
            eventually("it says so", Duration::from_secs(20), || {
                firewall.ask("ban 192.0.2.99 --for 1m");
                firewall.ask("unban 192.0.2.99");
                stopped(what) > 0
            });
        }
        let status = firewall.json("status");
        for (sink, file) in [("eve", "eve.json"), ("store", "store.db")] {
            assert_eq!(status["record"][sink]["state"], "stopped", "{status}");
            assert!(status["warnings"].to_string().contains(file), "{status}");
        }
        assert!(status["warnings"].to_string().contains("allow"), "{status}");
        firewall.ask("bans");
        firewall.ask(&format!("why {ATTACKER}"));
        firewall.ask("stats");
        firewall.ask("rules");
        std::thread::sleep(Duration::from_secs(3));
        for what in ["eve.json", "firewall.log", "store.db"] {
            assert_eq!(stopped(what), 1, "{what}: {}", follower.stdout());
        }

        disk.make_room();
        eventually("all is recorded again", Duration::from_secs(10), || {
            let record = firewall.json("status")["record"].clone();
            ["eve", "text", "store"]
                .iter()
                .all(|sink| record[sink]["state"] == "writing")
        });
        eventually("nothing more to be told", Duration::from_secs(10), || {
            firewall.ask("ban 192.0.2.99 --for 1m");
            let told = firewall.json("unban 192.0.2.99");
            told.get("not_kept").is_none()
        });
        eventually("the gap is on record", Duration::from_secs(5), || {
            lines(&eve(disk), &["\"daemon\"", "again", "eve.json"]) == 1
                && firewall
                    .ask("events --kind daemon")
                    .stdout
                    .contains("store.db")
        });
        for line in eve(disk).lines() {
            serde_json::from_str::<serde_json::Value>(line)
                .unwrap_or_else(|why| panic!("{why}: {line}"));
        }
        let status = firewall.json("status");
        assert!(
            !status["warnings"].to_string().contains("record"),
            "{status}"
        );
        std::thread::sleep(Duration::from_secs(4));

        // As after a power cut.
        firewall.kill();
        forget_in_kernel(lab);
        firewall.run(&[]);
        let bans = firewall.json("bans");
        let reasons: Vec<&str> = (bans.as_array().unwrap().iter())
            .map(|ban| ban["origin"].as_str().unwrap())
            .collect();
        assert_eq!(reasons, ["detector", "manual"], "{bans}");
        assert_eq!(bans[1]["reason"], "meanwhile");
        assert!(firewall.ask("allow").stdout.contains("192.0.2.50"));
        assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_silent());
        firewall.ask("flush");
        assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_open());
    });
}

#[test]
fn a_start_on_a_full_disk_keeps_what_was_banned() {
    with_small_disk(|lab, disk| {
        let _service = Echo::start(&lab.server, &[8080]);
        let mut firewall = Firewall::new(&lab.server, &only_web("")).recording_in(disk.path());
        // The very first start: there is nothing to read either.
        disk.fill();
        firewall.run(&[]);
        assert!(connect(&lab.client, SERVER, 22).is_silent());
        firewall.ask(&format!("ban {ATTACKER} --for 10m --reason first"));
        eventually("it is said", Duration::from_secs(5), || {
            let status = firewall.json("status");
            status["record"]["store"]["state"] == "stopped"
                && status["warnings"].to_string().contains("store.db")
        });
        // The kernel knows what the store could not be told.
        firewall.kill();
        firewall.run(&[]);
        assert!(firewall.ask("bans").stdout.contains(ATTACKER));
        assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_silent());
        disk.make_room();
        eventually("all is recorded again", Duration::from_secs(10), || {
            connect(&lab.client, SERVER, 22);
            let record = firewall.json("status")["record"].clone();
            ["eve", "text", "store"]
                .iter()
                .all(|sink| record[sink]["state"] == "writing")
        });
        firewall.ask("ban 192.0.2.8 --for 10m --reason second");
        eventually("it is stored", Duration::from_secs(5), || {
            firewall
                .ask("events --kind ban")
                .stdout
                .contains("192.0.2.8")
        });
        // A power cut, and by the next start the disk is full: what was stored is read all the same.
        std::thread::sleep(Duration::from_secs(4));
        firewall.kill();
        forget_in_kernel(lab);
        disk.fill();
        firewall.run(&[]);
        let bans = firewall.json("bans").to_string();
        assert!(bans.contains("second") && bans.contains(ATTACKER), "{bans}");
        assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_silent());
        firewall.stop();
        disk.make_room();
    });
}

#[test]
fn a_disk_that_cannot_be_written_keeps_the_firewall_running() {
    with_small_disk(|lab, disk| {
        let _service = Echo::start(&lab.server, &[8080]);
        let mut firewall = Firewall::new(&lab.server, &only_web("")).recording_in(disk.path());
        firewall.run(&[]);
        firewall.ask(&format!("ban {ATTACKER} --for 10m --reason before"));
        firewall.stop();
        forget_in_kernel(lab);
        disk.forbid_writing();
        firewall.run(&[]);
        let log = firewall.log();
        assert!(log.contains("Read-only file system"), "{log}");
        assert!(firewall.ask("bans").stdout.contains(ATTACKER), "{log}");
        assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_silent());
        assert!(connect(&lab.client, SERVER, 8080).is_open());
        assert!(connect(&lab.client, SERVER, 22).is_silent());
        let apply = format!("apply {}", firewall.policy().display());
        for words in [
            "ban 192.0.2.8 --for 10m",
            "ban 192.0.2.9 --for 10m",
            "unban 192.0.2.9",
            "allow 192.0.2.50",
            &apply,
        ] {
            let told = firewall.ask(words);
            assert!(is_told(&told.stderr, ""), "{words}: {}", told.stderr);
            let json = firewall.json(words.replace("192.0.2.9", "192.0.2.8").as_str());
            let why = json["not_kept"].as_str().unwrap_or_default();
            assert!(why.contains("is not written down ("), "{words}: {json}");
            firewall.ask("ban 192.0.2.8 --for 10m");
        }
        firewall.ask("allow 192.0.2.52");
        for words in [
            "allow --remove 192.0.2.50",
            // The array that is left has no room for the sentence.
            "allow --remove 192.0.2.52 --json",
        ] {
            let told = firewall.ask(words);
            assert!(is_told(&told.stderr, ""), "{words}: {}", told.stderr);
        }
        assert!(is_banned_in_kernel(lab, "192.0.2.8"));
        let told = firewall.ask("allow 192.0.2.51 --until-restart").stderr;
        assert!(
            !told.contains("written down"),
            "nobody asked for that: {told}"
        );
        let status = firewall.json("status");
        for sink in ["eve", "text", "store"] {
            assert_eq!(status["record"][sink]["state"], "stopped", "{status}");
        }
        firewall.kill();
        firewall.run(&[]);
        assert!(firewall.ask("bans").stdout.contains("192.0.2.8"));
        firewall.stop();
    });
}

#[test]
fn a_folder_that_is_none_is_refused_with_the_mend() {
    let Some(lab) = topology() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(place("file"), "").unwrap();
    std::fs::write(place("policy.toml"), only_web("")).unwrap();
    let words = ["run", "--no-web", "--config", &place("policy.toml")];
    let more = ["--log-dir", &place("log"), "--socket", &place("api.sock")];
    let state = ["--state-dir", &place("file/state")];
    let words = [&words[..], &more, &state].concat();
    let program = crate::common::binary().to_str().unwrap();
    let output = lab.server.output(program, &words).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--state-dir"), "{said}");
    assert!(!Path::new(&place("api.sock")).exists());
}
