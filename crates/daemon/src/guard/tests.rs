//! The guard over a datapath in memory that fails when it is told to: what fails changes nothing, and what the kernel lacks it gets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use engine::{BanOrigin, Detector, EventBody};
use kernel::datapath::{Counters, Drift};
use kernel::fake::FakeDatapath;
use kernel::tag::{Cause, LogTag, Outcome};
use policy::LogSettings;
use wire::Link;

mod bans;
mod begin;
mod counters;
mod hold;
mod imports;
mod kernel_bans;
mod lists;

use super::*;
use crate::api::{AllowRequest, BanImport, BanRequest, Format, UnbanQuery};
use crate::candidate::Source;
use crate::clock::{self, Step};
use crate::record::recorder;

const ENFORCE: &str = "mode = \"enforce\"\n[[rule]]\nname = \"web\"\naction = \"allow\"\ndirection = \"in\"\nprotocol = \"tcp\"\nport = 80\n\
                       [detect.blocked]\npackets = 3\nwindow = \"60s\"\nban = \"10m\"\n";
const OTHER: &str = "mode = \"enforce\"\n[[rule]]\nname = \"mail\"\naction = \"allow\"\ndirection = \"in\"\nprotocol = \"tcp\"\nport = 25\n";

struct Stage {
    guard: Guard,
    kernel: FakeDatapath,
    store: Store,
    folder: tempfile::TempDir,
}

fn candidate(text: &str) -> Candidate {
    let source = Source::Text {
        format: Format::Toml,
        text: text.to_owned(),
    };
    Candidate::load(&source, clock::now()).unwrap()
}

fn stage(text: &str, kernel: FakeDatapath, bans: Vec<engine::Ban>) -> Stage {
    stage_in(tempfile::tempdir().unwrap(), text, kernel, bans)
}

/// With what the guard before it left in the folder.
fn stage_in(
    folder: tempfile::TempDir,
    text: &str,
    kernel: FakeDatapath,
    bans: Vec<engine::Ban>,
) -> Stage {
    let candidate = candidate(text);
    let opened = Store::open(&folder.path().join("store.db"), &LogSettings::default()).unwrap();
    let (recorder, _) = Recorder::start(recorder::Settings {
        folder: folder.path().to_owned(),
        store: opened.store.clone(),
        last_event: 0,
        plan: Arc::clone(&candidate.plan),
        enforced: true,
    })
    .unwrap();
    let own: IpNet = "192.0.2.1/32".parse().unwrap();
    let discovered = Discovered {
        own: [own].into_iter().collect(),
        protected: vec![(own, "own"), ("192.0.2.254/32".parse().unwrap(), "gateway")],
        sessions: Vec::new(),
    };
    let guard = Guard::new(Setup {
        begins_with: candidate.source.clone(),
        candidate,
        mode: None,
        datapath: Ok(Box::new(kernel.clone())),
        pump: Pump::idle(),
        watch: Watch::none(),
        recorder,
        store: opened.store.clone(),
        state: StateDir::open(&folder.path().join("state")).unwrap(),
        // Starts, and does not say that it stands.
        revert: Revert {
            command: vec!["/bin/true".into()],
            socket: folder.path().join("api.sock"),
        },
        discovered,
        bans,
        offenders: opened.offenders,
        seed: 1,
    });
    Stage {
        guard,
        kernel,
        store: opened.store,
        folder,
    }
}

fn started(text: &str) -> Stage {
    let mut stage = stage(text, FakeDatapath::new(), Vec::new());
    stage.guard.start().unwrap();
    stage
}

fn by_hand(prefix: &str, seconds: u64) -> BanRequest {
    BanRequest {
        prefix: prefix.to_owned(),
        for_s: Some(seconds),
        reason: None,
    }
}

fn asked(confirm: Option<Duration>) -> Asked {
    Asked {
        by: By::Apply,
        confirm,
        force: false,
    }
}

fn passes(guard: &Guard, port: u16) -> bool {
    let packet = api::TestPacket {
        direction: "in".to_owned(),
        protocol: "tcp".to_owned(),
        source: "203.0.113.7".to_owned(),
        source_port: Some(40_000),
        destination: "192.0.2.1".to_owned(),
        destination_port: Some(port),
        ..api::TestPacket::default()
    };
    guard
        .test(&api::TestRequest {
            packets: vec![packet],
        })
        .unwrap()[0]
        .decided
        .verdict
        == "allow"
}

/// A UDP packet from 203.0.113.`host`, as the kernel logs it.
fn logged(host: u8, tag: LogTag) -> Batch {
    let mut bytes = vec![
        0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0, 203, 0, 113, host, 192, 0, 2, 1,
    ];
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend([0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
    let mut batch = Batch::default();
    let how = How {
        at: clock::now(),
        link: Some(Link::RawIp),
        wire_len: bytes.len(),
        direction: Some(policy::Direction::In),
        interface: Some("eth0".into()),
        tag: Some(tag),
    };
    batch.push(how, &bytes);
    batch
}

const DENIED: LogTag = LogTag::new(Outcome::Drop, Cause::Default(policy::Direction::In));

#[test]
fn a_policy_that_the_kernel_refuses_changes_nothing() {
    let mut stage = started(ENFORCE);
    let (before, digest) = (stage.kernel.dump(), stage.guard.status().policy.digest);
    // Behind the check and the counters.
    stage.kernel.fail(3);
    let error = stage
        .guard
        .apply(candidate(OTHER), asked(None))
        .unwrap_err();
    assert!(matches!(error, ApplyError::Kernel(_)), "{error}");
    assert_eq!(stage.kernel.dump(), before);
    assert_eq!(stage.guard.status().policy.digest, digest);
    assert!(passes(&stage.guard, 80) && !passes(&stage.guard, 25));
    stage.guard.apply(candidate(OTHER), asked(None)).unwrap();
    assert!(!passes(&stage.guard, 80) && passes(&stage.guard, 25));
    stage.guard.roll_back(None).unwrap();
    assert!(passes(&stage.guard, 80));
}

#[test]
fn a_policy_that_could_not_be_taken_back_is_not_applied() {
    let mut stage = started(ENFORCE);
    let before = stage.kernel.dump();
    let error = stage
        .guard
        .apply(candidate(OTHER), asked(Some(Duration::from_secs(5))))
        .unwrap_err();
    assert!(
        matches!(error, ApplyError::Hold(HoldError::Process(_))),
        "{error}"
    );
    assert_eq!(stage.kernel.dump(), before);
    assert!(!stage.folder.path().join("state/pending.json").exists());
    assert!(passes(&stage.guard, 80));
    assert_eq!(stage.guard.status().pending, None);
}

#[test]
fn a_wait_without_end_is_no_fault() {
    let mut stage = started(ENFORCE);
    let outcome = stage
        .guard
        .apply(candidate(OTHER), asked(Some(Duration::MAX)));
    assert!(
        matches!(outcome, Err(ApplyError::Hold(HoldError::Process(_)))),
        "{outcome:?}"
    );
    assert!(passes(&stage.guard, 80));
}

#[test]
fn a_ban_is_in_the_engine_and_the_kernel_or_in_neither() {
    let mut stage = started(ENFORCE);
    stage.guard.ban(&by_hand("203.0.113.7", 60)).unwrap();
    assert!(stage.kernel.dump().contains("ban 203.0.113.7/32"));
    assert!(!passes(&stage.guard, 80));
    stage.kernel.fail(1);
    let error = stage.guard.ban(&by_hand("203.0.113.8", 60)).unwrap_err();
    assert!(matches!(error, BanError::Kernel(_)), "{error}");
    assert_eq!(stage.guard.bans().len(), 1);
    // The one that stood before stands again.
    stage.kernel.fail(1);
    stage.guard.ban(&by_hand("203.0.113.7", 6_000)).unwrap_err();
    let left = stage.guard.bans()[0].remaining_s.unwrap();
    assert!((58..=60).contains(&left), "{left}");
    let refused = stage.guard.ban(&by_hand("192.0.2.0/24", 60)).unwrap_err();
    assert!(refused.to_string().contains("protected"), "{refused}");
    assert!(!stage.kernel.dump().contains("192.0.2.0/24"));
}

#[test]
fn what_a_detector_bans_reaches_the_kernel_at_once_or_with_the_next_check() {
    let mut stage = started(ENFORCE);
    for _ in 0..3 {
        stage.guard.packets(&logged(7, DENIED));
    }
    assert_eq!(stage.guard.bans()[0].detector.as_deref(), Some("blocked"));
    assert!(stage.kernel.dump().contains("ban 203.0.113.7/32"));
    for _ in 0..2 {
        stage.guard.packets(&logged(8, DENIED));
    }
    stage.kernel.fail(1);
    stage.guard.packets(&logged(8, DENIED));
    assert_eq!(stage.guard.bans().len(), 2);
    assert!(!stage.kernel.dump().contains("ban 203.0.113.8/32"));
    assert!(
        stage
            .guard
            .status()
            .warnings
            .iter()
            .any(|warning| warning.contains("every ban"))
    );
    stage.guard.check(clock::now());
    assert!(stage.kernel.dump().contains("ban 203.0.113.8/32"));
    assert!(
        !stage
            .guard
            .status()
            .warnings
            .iter()
            .any(|warning| warning.contains("every ban"))
    );
    assert_eq!(
        stage.guard.status().drift.repaired,
        0,
        "our own delay is no drift"
    );
}

#[test]
fn what_the_kernel_banned_itself_is_known_to_the_engine() {
    let text = format!("{ENFORCE}[detect.rate]\npackets = 100\nresponse = \"ban\"\n");
    let mut stage = started(&text);
    stage
        .guard
        .packets(&logged(9, LogTag::new(Outcome::Ban, Cause::Rate)));
    let bans = stage.guard.bans();
    assert_eq!(
        (
            bans[0].detector.as_deref(),
            bans[0].prefix.to_string().as_str()
        ),
        (Some("rate"), "203.0.113.9/32")
    );
}

#[test]
fn the_store_and_the_kernel_are_one_at_the_start() {
    let kernel = FakeDatapath::new();
    let mut first = stage(ENFORCE, kernel.clone(), Vec::new());
    first.guard.start().unwrap();
    first.guard.ban(&by_hand("203.0.113.1", 600)).unwrap();
    first.guard.ban(&by_hand("203.0.113.2", 600)).unwrap();
    drop(first);
    let now = clock::now();
    let stored = |prefix: &str, expires| engine::Ban {
        prefix: prefix.parse().unwrap(),
        origin: BanOrigin::Manual,
        reason: "stored".to_owned(),
        since: now,
        expires,
        times_banned: 3,
        offences: 2,
        grew_from: Vec::new(),
        would_be: false,
        evidence: None,
    };
    let bans = vec![
        stored("203.0.113.2/32", now.after(Duration::from_secs(500))),
        stored("203.0.113.3/32", Timestamp::MAX),
        stored("203.0.113.4/32", Timestamp::from_secs(1)),
        stored("192.0.2.1/32", Timestamp::MAX),
    ];
    let mut second = stage(ENFORCE, kernel, bans);
    second.guard.start().unwrap();
    let known: Vec<(String, String)> = second
        .guard
        .bans()
        .iter()
        .map(|ban| (ban.prefix.to_string(), ban.reason.clone()))
        .collect();
    let expected = [
        (
            "203.0.113.1/32",
            "found in the kernel, which bans by itself too",
        ),
        ("203.0.113.2/32", "stored"),
        ("203.0.113.3/32", "stored"),
    ];
    assert_eq!(
        known,
        expected.map(|(prefix, reason)| (prefix.to_owned(), reason.to_owned()))
    );
    for (prefix, _) in expected {
        assert!(
            second.kernel.dump().contains(&format!("ban {prefix}")),
            "{prefix}"
        );
    }
    assert!(!second.kernel.dump().contains("203.0.113.4"));
}

#[test]
fn tampering_is_put_back_and_told_once() {
    let mut stage = started(ENFORCE);
    stage.guard.ban(&by_hand("203.0.113.7", 600)).unwrap();
    let before = stage.kernel.dump();
    stage.kernel.flush();
    stage.guard.check(clock::now());
    let same = |left: &str, right: &str| {
        let cut = |text: &str| {
            text.lines()
                .filter(|line| !line.starts_with("ban "))
                .collect::<Vec<_>>()
                .join("\n")
        };
        cut(left) == cut(right)
    };
    assert!(
        same(&stage.kernel.dump(), &before) && stage.kernel.dump().contains("ban 203.0.113.7/32")
    );
    stage.kernel.set_drift(Drift::Changed {
        what: vec!["chain inbound".to_owned()],
    });
    stage.guard.check(clock::now());
    assert_eq!(stage.guard.status().drift.repaired, 2);
    assert!(
        stage
            .guard
            .status()
            .drift
            .last
            .unwrap()
            .contains("chain inbound")
    );
    // It cannot be put back: told, and tried again.
    stage.kernel.flush();
    for operation in 1..=6 {
        stage.kernel.fail(operation);
    }
    stage.guard.check(clock::now());
    assert!(!stage.guard.status().drift.in_sync);
    assert!(stage.guard.status().drift.last.is_some());
    for _ in 0..10 {
        stage.guard.check(clock::now());
    }
    let drift = stage.guard.status().drift;
    assert!(drift.in_sync);
    let told = drift.last.unwrap_or_default();
    assert!(!told.contains("cannot be put back"), "{told}");
    assert!(stage.kernel.dump().contains("ban 203.0.113.7/32"));
}

#[test]
fn a_request_that_finds_the_table_gone_has_it_put_back() {
    let mut stage = started(ENFORCE);
    stage.kernel.flush();
    let banned = stage.guard.ban(&by_hand("203.0.113.7", 600)).unwrap();
    assert_eq!(banned.prefix.to_string(), "203.0.113.7/32");
    assert!(stage.kernel.dump().contains("ban 203.0.113.7/32"));
    assert_eq!(stage.guard.status().drift.repaired, 1);
    let lift = |prefix: &str| UnbanQuery {
        prefix: Some(prefix.to_owned()),
        all: false,
    };
    stage.kernel.flush();
    let lifted = stage.guard.unban(&lift("203.0.113.7")).unwrap();
    assert_eq!(lifted.lifted.len(), 1);
    assert!(!stage.kernel.dump().contains("203.0.113.7"));
    assert_eq!(stage.guard.status().drift.repaired, 2);
    stage.kernel.flush();
    assert!(matches!(
        stage.guard.unban(&lift("203.0.113.7")),
        Err(BanError::NotBanned { .. })
    ));
    assert_eq!(stage.guard.status().drift.repaired, 3);

    // A list of bans, and what a detector finds.
    stage.kernel.flush();
    let list = BanImport::Plain([("203.0.113.9".to_owned(), clock::now().as_secs() as f64)].into());
    assert_eq!(stage.guard.import_bans(&list).added, 1);
    assert!(stage.kernel.dump().contains("ban 203.0.113.9/32"));
    assert_eq!(stage.guard.status().drift.repaired, 4);
    stage.kernel.flush();
    let prefix = "203.0.113.10/32".parse().unwrap();
    let found = BanOrigin::Detector(Detector::Scan);
    let made = stage
        .guard
        .engine
        .ban(clock::now(), prefix, None, found, "scan".to_owned());
    made.unwrap();
    stage.guard.settle(clock::now());
    assert!(stage.kernel.dump().contains("ban 203.0.113.10/32"));
    assert_eq!(stage.guard.status().drift.repaired, 5);
    for prefix in ["203.0.113.9", "203.0.113.10"] {
        stage.guard.unban(&lift(prefix)).unwrap();
    }

    // It cannot be put back: nothing is banned, and an event says why.
    stage.kernel.flush();
    for operation in 1..=12 {
        stage.kernel.fail(operation);
    }
    stage.kernel.flush();
    assert!(stage.guard.ban(&by_hand("203.0.113.8", 600)).is_err());
    assert!(stage.guard.bans().is_empty());
}

#[test]
fn what_covers_a_flush_tells_it() {
    type Covers = fn(&mut Stage);
    let covers: [(&str, Covers); 4] = [
        ("apply", |stage| {
            stage.guard.apply(candidate(OTHER), asked(None)).unwrap();
        }),
        ("reload", |stage| {
            let asked = Asked {
                by: By::Reload,
                ..asked(None)
            };
            stage.guard.apply(candidate(ENFORCE), asked).unwrap();
        }),
        ("allow", |stage| {
            let request = AllowRequest {
                prefix: "203.0.113.9".to_owned(),
                persist: false,
            };
            stage.guard.allow(&request).unwrap();
        }),
        ("addresses", |stage| {
            let mut found = stage.guard.discovered.clone();
            let session = ("203.0.113.9/32".parse().unwrap(), "session");
            found.protected.push(session);
            stage.guard.set_discovered(found);
        }),
    ];
    for (name, cover) in covers {
        let mut stage = started(ENFORCE);
        stage.guard.ban(&by_hand("203.0.113.7", 600)).unwrap();
        stage.kernel.flush();
        cover(&mut stage);
        let drift = stage.guard.status().drift;
        assert_eq!(drift.repaired, 1, "{name}");
        let last = drift.last.unwrap();
        assert!(last.contains("took our rules out"), "{name}: {last}");
        assert!(stage.kernel.dump().contains("chain inbound"), "{name}");
        assert!(stage.kernel.dump().contains("ban 203.0.113.7/32"), "{name}");
    }
}

#[test]
fn new_addresses_lift_bans_and_reach_the_kernel() {
    let mut stage = started(ENFORCE);
    stage.guard.ban(&by_hand("203.0.113.7", 600)).unwrap();
    let mut found = stage.guard.discovered.clone();
    found
        .protected
        .push(("203.0.113.7/32".parse().unwrap(), "session"));
    stage.guard.set_discovered(found.clone());
    assert_eq!(stage.guard.bans(), []);
    assert!(!stage.kernel.dump().contains("\nban 203.0.113.7"));
    assert!(
        stage.kernel.dump().contains("203.0.113.7"),
        "among the protected"
    );
    let operations = stage.kernel.operations().len();
    stage.guard.set_discovered(found);
    assert_eq!(
        stage.kernel.operations().len(),
        operations,
        "nothing new, nothing done"
    );
}

/// What is asked while the wall clock was set and nobody noticed yet is answered by the clock that bans are kept by.
#[test]
fn one_clock_for_everything_that_the_guard_says() {
    let mut stage = started(ENFORCE);
    stage.guard.ban(&by_hand("203.0.113.7", 600)).unwrap();
    // As if the clock had been set forward by a day, which the guard has not noticed.
    let day = Duration::from_secs(86_400);
    stage.guard.clock.offset -= i128::try_from(day.as_nanos()).unwrap();
    stage.guard.engine.shift(|at| Step::Back(day).shift(at));
    let status = stage.guard.status();
    assert_eq!(status.bans, 1, "as `bans` lists it");
    let before = clock::now();
    stage.guard.apply(candidate(OTHER), asked(None)).unwrap();
    let applied = stage.guard.status().policy.applied.0;
    assert!(applied.after(day / 2) < before, "{applied}");
    assert_eq!(stage.guard.bans().len(), 1);
}

#[test]
fn observing_touches_no_kernel() {
    let mut stage = stage(
        &ENFORCE.replace("enforce", "observe"),
        FakeDatapath::new(),
        Vec::new(),
    );
    stage.guard.start().unwrap();
    stage.guard.ban(&by_hand("203.0.113.7", 60)).unwrap();
    stage.guard.check(clock::now());
    assert_eq!(stage.kernel.dump(), "");
    assert!(
        stage
            .kernel
            .operations()
            .iter()
            .all(|operation| operation == "bans"),
        "{:?}",
        stage.kernel.operations()
    );
    assert!(!passes(&stage.guard, 80), "the engine judges all the same");
    assert_eq!(stage.guard.bans()[0].mode.as_deref(), Some("observe"));
    // Over to enforcing, with the bans, and back.
    stage.guard.apply(candidate(ENFORCE), asked(None)).unwrap();
    assert!(stage.kernel.dump().contains("ban 203.0.113.7/32"));
    stage
        .guard
        .apply(
            candidate(&ENFORCE.replace("enforce", "observe")),
            asked(None),
        )
        .unwrap();
    assert_eq!(stage.kernel.dump(), "");
}

#[test]
fn without_a_datapath_enforcing_is_refused_in_one_sentence() {
    let mut stage = stage(ENFORCE, FakeDatapath::new(), Vec::new());
    stage.guard.datapath = None;
    stage.guard.no_datapath = Some("nft is not installed".to_owned());
    let error = stage.guard.start().unwrap_err().to_string();
    assert!(
        error.contains("nft is not installed") && error.contains("--observe"),
        "{error}"
    );
}
