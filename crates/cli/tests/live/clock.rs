//! The wall clock is set by a day while bans are in force: none ends early, none lasts longer, and nothing is forgotten.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use crate::firewall::{Firewall, eventually, only_web};
use crate::network::{
    ATTACKER, CLIENT, Echo, SERVER, SERVER_FOR_ATTACKER, connect, tools, topology,
};

/// What is older than six hours is forgotten: less than by what the clock is set.
const FORGETFUL: &str = "[log]\nstore_age = \"6h\"\n";

/// How long the ban lasts whose end is waited for.
const SHORT: Duration = Duration::from_secs(12);

/// The library that stands between a program and its clock; says loudly when it is not there.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten();
    let library = folders
        .map(|folder| folder.path().join("faketime/libfaketime.so.1"))
        .find(|library| library.is_file());
    if library.is_none() {
        eprintln!("SKIPPED: libfaketime is not installed (Debian: faketime)");
    }
    library
}

/// A wall clock that can be set. The clocks that run since boot stay those of the kernel.
struct WallClock(tempfile::TempDir);

impl WallClock {
    fn new() -> Self {
        let clock = Self(tempfile::tempdir().unwrap());
        clock.set("+0");
        clock
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("offset")
    }

    /// Sets it, as an offset from the kernel's: `+1d`.
    fn set(&self, offset: &str) {
        let new = self.0.path().join("new");
        std::fs::write(&new, format!("{offset}\n")).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    /// What a program is started through to go by it.
    fn through(&self, library: &Path) -> Vec<String> {
        let file = self.file();
        vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "NO_FAKE_STAT=1".to_owned(),
        ]
    }
}

/// Runs a test on a thread with a `/dev/shm` of its own, where the library leaves a file for each process.
fn apart(test: impl FnOnce() + Send) {
    if let Err(why) = lab::available() {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let kind = Some("tmpfs");
        mount(kind, "/dev/shm", kind, MsFlags::empty(), none).unwrap();
        test();
    };
    std::thread::scope(|scope| {
        let inside = scope.spawn(inside);
        inside
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_clock_set_forward_by_a_day_ends_no_ban() {
    apart(|| set_by_a_day("+1d", "+2d", "forward by 86400 s"));
}

#[test]
fn a_clock_set_back_by_a_day_makes_no_ban_longer() {
    apart(|| set_by_a_day("-1d", "-2d", "back by 86400 s"));
}

/// The ban of a prefix, or `Null`.
fn ban_of(firewall: &Firewall<'_>, prefix: &str) -> Value {
    let bans = firewall.json("bans");
    let mut bans = bans.as_array().unwrap().iter();
    bans.find(|ban| ban["prefix"] == prefix)
        .cloned()
        .unwrap_or_default()
}

/// What is left of the ban of ten minutes that was made at `made`, and when it ends, agree with each other and with the clock.
#[track_caller]
fn is_right(firewall: &Firewall<'_>, prefix: &str, made: Instant) {
    let before = made.elapsed().as_secs();
    let ban = ban_of(firewall, prefix);
    let passed = 600
        - ban["remaining_s"]
            .as_u64()
            .unwrap_or_else(|| panic!("{ban}"));
    assert!(
        passed + 2 >= before && passed <= made.elapsed().as_secs() + 2,
        "{before} s have passed: {ban}"
    );
    let moment = |key: &str| jiff(&ban[key]);
    let length = moment("expires") - moment("since");
    assert!((599..=601).contains(&length), "{ban}");
}

/// A time of an answer, in seconds since 1970.
fn jiff(time: &Value) -> i64 {
    let output = std::process::Command::new("date")
        .args(["-u", "+%s", "-d", time.as_str().unwrap()])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap()
}

fn set_by_a_day(running: &str, while_down: &str, told: &str) {
    let Some(library) = library() else { return };
    if !tools(&["nft"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    let clock = WallClock::new();
    let _service = Echo::start(&lab.server, &[8080]);
    let mut firewall =
        Firewall::new(&lab.server, &only_web(FORGETFUL)).through(clock.through(&library));
    firewall.run(&[]);
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_open());
    assert!(connect(&lab.client, SERVER, 23).is_silent());
    let long = Instant::now();
    firewall.ask("ban 192.0.2.7 --for 10m --reason before");
    let short = Instant::now();
    firewall.ask(&format!("ban {ATTACKER} --for {}s", SHORT.as_secs()));
    eventually("they are on record", Duration::from_secs(5), || {
        let events = firewall.ask("events").stdout;
        events.contains("192.0.2.7") && events.contains(CLIENT)
    });

    clock.set(running);
    eventually("it is told", Duration::from_secs(5), || {
        firewall.ask("events --kind daemon").stdout.contains(told)
    });
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_silent());
    is_right(&firewall, "192.0.2.7/32", long);
    let why = firewall.ask(&format!("why {ATTACKER}")).stdout;
    assert!(why.contains("is banned"), "{why}");
    let status = firewall.json("status");
    assert!(status["uptime_s"].as_u64().unwrap() < 60, "{status}");
    assert_eq!(status["bans"], 2, "{status}");

    // Bans that are made now, by a detector and by hand.
    for port in 100..105 {
        assert!(connect(&lab.client, SERVER, port).is_silent());
    }
    let client = format!("{CLIENT}/32");
    eventually("the scan is banned", Duration::from_secs(5), || {
        !ban_of(&firewall, &client).is_null()
    });
    let scan = Instant::now();
    assert_eq!(ban_of(&firewall, &client)["detector"], "scan");
    is_right(&firewall, &client, scan);
    assert!(connect(&lab.client, SERVER, 8080).is_silent());

    while short.elapsed() + Duration::from_secs(1) < SHORT {
        assert!(
            connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_silent(),
            "lifted after {:?}",
            short.elapsed()
        );
    }
    eventually("the ban is over", Duration::from_secs(4), || {
        connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_open()
    });
    let lasted = short.elapsed();
    assert!(lasted + Duration::from_millis(200) >= SHORT, "{lasted:?}");
    eventually("the end is told", Duration::from_secs(5), || {
        let events = firewall.ask("events --kind unban").stdout;
        events.contains(ATTACKER) && ban_of(&firewall, &format!("{ATTACKER}/32")).is_null()
    });
    // By now the store has looked for what is old, more than once.
    let events = firewall.ask("events").stdout;
    for word in ["192.0.2.7", ATTACKER, "before"] {
        assert!(events.contains(word), "{word} is forgotten: {events}");
    }
    assert!(
        firewall
            .ask(&format!("why {CLIENT}"))
            .stdout
            .contains(":23")
    );
    assert_eq!(firewall.json("status")["drift"]["repaired"], 0);

    // Set once more while nothing runs, and the kernel has forgotten everything.
    firewall.stop();
    lab.server
        .run("nft", &["delete", "table", "inet", "portcullis"])
        .unwrap();
    clock.set(while_down);
    firewall.run(&[]);
    is_right(&firewall, "192.0.2.7/32", long);
    is_right(&firewall, &client, scan);
    assert!(ban_of(&firewall, &format!("{ATTACKER}/32")).is_null());
    assert!(connect(&lab.client, SERVER, 8080).is_silent());
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 8080).is_open());
    std::thread::sleep(Duration::from_secs(6));
    let events = firewall.ask("events").stdout;
    assert!(events.contains("before"), "forgotten: {events}");
    firewall.ask("flush");
    assert!(connect(&lab.client, SERVER, 8080).is_open());
}
