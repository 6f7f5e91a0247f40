//! Real captures through the whole packet line: nothing panics, the sums add up, equal captures give equal events, attackers
//! are banned and the innocent are not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{Event, EventBody};
use kernel::replay::Replay;
use policy::{AddressSet, Blocked, Plan};
use portcullis_daemon::record::{Context, Eve, StatsLine, escape::write_json, text};
use portcullis_daemon::replay::{Options, Outcome, replay};

fn captures() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/pcap");
    if !folder.is_dir() {
        eprintln!(
            "SKIPPED: {} is not there, so no capture was replayed",
            folder.display()
        );
        return None;
    }
    Some(folder)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
    found.sort();
}

fn plan() -> Arc<Plan> {
    let mut plan = Plan {
        essentials: true,
        ..Plan::default()
    };
    plan.detect.blocked = Some(Blocked::default());
    Arc::new(plan)
}

fn run(path: &Path, own: &str) -> Option<(Outcome, Vec<Event>)> {
    let mut source = match Replay::open(path) {
        Ok(source) => source,
        Err(kernel::source::SourceError::NotACapture { .. }) => return None,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let own: AddressSet = own
        .split_whitespace()
        .map(|prefix| prefix.parse::<ipnet::IpNet>().unwrap())
        .collect();
    let options = Options {
        own: own.clone(),
        protected: own,
        every_event: true,
    };
    let mut events = Vec::new();
    let outcome = replay(&mut source, plan(), options, &mut events).unwrap();
    Some((outcome, events))
}

#[test]
fn every_capture_is_replayed_and_the_sums_add_up() {
    let Some(folder) = captures() else { return };
    let mut paths = Vec::new();
    files(&folder, &mut paths);
    let plan = plan();
    let context = Context {
        plan: &plan,
        enforced: false,
    };
    let (mut replayed, mut packets, mut json) = (0, 0, Vec::new());
    for path in paths {
        let Some((outcome, events)) = run(&path, "") else {
            continue;
        };
        let totals = outcome.totals;
        assert_eq!(
            totals.packets,
            totals.allowed + totals.dropped + totals.rejected,
            "{}: {totals:?}",
            path.display()
        );
        let count = |wanted: fn(&EventBody) -> bool| {
            events.iter().filter(|event| wanted(&event.body)).count() as u64
        };
        assert_eq!(
            totals.bans,
            count(|body| matches!(body, EventBody::Ban(_))),
            "{}",
            path.display()
        );
        assert_eq!(
            totals.alerts,
            count(|body| matches!(body, EventBody::Alert(_))),
            "{}",
            path.display()
        );
        assert_eq!(
            totals.anomalies,
            count(|body| matches!(body, EventBody::Anomaly { .. })),
            "{}",
            path.display()
        );
        assert_eq!(
            totals.flows,
            count(|body| matches!(body, EventBody::Flow(_))),
            "{}",
            path.display()
        );
        for event in &events {
            json.clear();
            write_json(&Eve::of_event(event, context), &mut json).unwrap();
            assert!(json.is_ascii(), "{}", String::from_utf8_lossy(&json));
            text::line(event, context);
        }
        replayed += 1;
        packets += totals.packets;
    }
    eprintln!("{replayed} captures, {packets} packets");
    assert!(replayed > 100 && packets > 50_000);
}

#[test]
fn equal_captures_give_equal_events() {
    let Some(folder) = captures() else { return };
    let lab = folder.join("LAB-generated-here");
    let mut paths = Vec::new();
    files(&lab, &mut paths);
    for path in paths {
        assert_eq!(
            run(&path, "10.66.1.0/24"),
            run(&path, "10.66.1.0/24"),
            "{}",
            path.display()
        );
    }
}

#[test]
fn scanners_are_banned_and_the_innocent_are_not() {
    let Some(folder) = captures() else { return };
    let lab = folder.join("LAB-generated-here");
    let mut paths = Vec::new();
    files(&lab, &mut paths);
    let mut banned = 0;
    for path in &paths {
        let Some((outcome, _)) = run(path, "10.66.1.0/24 fd66::1:0/112") else {
            continue;
        };
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let prefixes: Vec<String> = outcome
            .bans
            .iter()
            .map(|ban| ban.prefix.to_string())
            .collect();
        if name.starts_with("benign") || name.starts_with("pingsweep") {
            continue;
        }
        eprintln!("{name}: {prefixes:?} {:?}", outcome.totals);
        banned += usize::from(!prefixes.is_empty());
    }
    assert!(banned >= 5, "{banned} of {}", paths.len());
}

#[test]
fn the_last_line_is_the_contracts() {
    let line = StatsLine::from(engine::Totals {
        packets: 7,
        bans: 1,
        ..engine::Totals::default()
    });
    let mut json = Vec::new();
    write_json(&line, &mut json).unwrap();
    assert_eq!(
        String::from_utf8(json).unwrap(),
        r#"{"event_type":"stats","stats":{"packets":7,"bytes":0,"allowed":0,"dropped":0,"rejected":0,"anomalies":0,"flows":0,"alerts":0,"bans":1}}"#
    );
}
