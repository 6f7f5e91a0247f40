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
        .map(|prefix| {
            prefix.parse::<ipnet::IpNet>().unwrap_or_else(|_| {
                let address: std::net::IpAddr = prefix.parse().unwrap();
                address.into()
            })
        })
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

/// Whom a capture of the lab gets banned, by which detector, as what, and after how many of its packets that were the first to
/// their port: with everything allowed, and with inbound denied but for the service that a client uses beside.
const LAB: &[(&str, Expected, Expected)] = &[
    (
        "syn_1000_T4",
        &[("10.66.0.2/32", "scan", "vertical SYN scan", 5)],
        &[("10.66.0.2/32", "scan", "vertical SYN scan", 5)],
    ),
    (
        "connect_200",
        &[("10.66.0.2/32", "scan", "vertical SYN scan", 5)],
        &[("10.66.0.2/32", "scan", "vertical SYN scan", 5)],
    ),
    // Impossible packets weigh double.
    (
        "fin_null_xmas_100",
        &[("10.66.0.3/32", "scan", "vertical FIN scan", 3)],
        &[("10.66.0.3/32", "scan", "vertical FIN scan", 3)],
    ),
    (
        "udp_100",
        &[("10.66.0.5/32", "scan", "vertical UDP scan", 5)],
        &[("10.66.0.5/32", "scan", "vertical UDP scan", 5)],
    ),
    (
        "slow_60_1s",
        &[("10.66.0.2/32", "scan", "vertical SYN scan", 5)],
        &[("10.66.0.2/32", "scan", "vertical SYN scan", 5)],
    ),
    // No answer goes to the forged sources, as nobody is there to be asked for a link address: the capture ends before silence
    // counts. Denied they all look alike.
    (
        "decoy_100",
        &[("10.66.0.2/32", "scan", "vertical SYN scan", 5)],
        &[
            ("10.66.0.2/32", "scan", "vertical SYN scan", 5),
            ("10.66.0.201/32", "scan", "vertical SYN scan", 5),
            ("10.66.0.202/32", "scan", "vertical SYN scan", 5),
            ("10.66.0.203/32", "scan", "vertical SYN scan", 5),
        ],
    ),
    (
        "pingsweep_50",
        &[("10.66.0.4/32", "scan", "horizontal ICMP scan", 10)],
        &[("10.66.0.4/32", "scan", "horizontal ICMP scan", 10)],
    ),
    (
        "v6_syn_200",
        &[("fd66::/64", "scan", "vertical SYN scan", 5)],
        &[("fd66::/64", "scan", "vertical SYN scan", 5)],
    ),
    (
        "synflood_single",
        &[("10.66.0.5/32", "rate", "", 1_001)],
        &[("10.66.0.5/32", "rate", "", 1_001)],
    ),
    ("benign_busy_client", &[], &[]),
];

/// Prefix, detector, pattern, count.
type Expected = &'static [(&'static str, &'static str, &'static str, u64)];

fn standard(inbound: policy::DefaultAction, protected: &str) -> (Arc<Plan>, Options) {
    let mut plan = Plan {
        essentials: true,
        detect: policy::Detect::standard(),
        ..Plan::default()
    };
    plan.default.inbound = inbound;
    plan.default.forward = inbound;
    if inbound == policy::DefaultAction::Deny {
        let text = "allow in tcp port 80,443,8080\n";
        let loaded = policy::load_text("t", text, policy::Format::RulesTxt, Path::new("/"));
        plan.rules = loaded.policy.unwrap().into_plan().rules;
    }
    let options = Options {
        protected: addresses(protected),
        every_event: true,
        ..Options::default()
    };
    (Arc::new(plan), options)
}

fn addresses(text: &str) -> AddressSet {
    text.split_whitespace()
        .map(|prefix| {
            prefix.parse::<ipnet::IpNet>().unwrap_or_else(|_| {
                let address: std::net::IpAddr = prefix.parse().unwrap();
                address.into()
            })
        })
        .collect()
}

fn bans(
    path: &Path,
    inbound: policy::DefaultAction,
    protected: &str,
) -> Vec<(String, String, String, u64)> {
    let (plan, options) = standard(inbound, protected);
    let mut source = Replay::open(path).unwrap();
    let mut events = Vec::new();
    replay(&mut source, plan, options, &mut events).unwrap();
    let mut bans: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Ban(ban) => Some(ban),
            _ => None,
        })
        .map(|ban| {
            let evidence = ban.evidence.as_ref().unwrap();
            let engine::BanOrigin::Detector(detector) = ban.origin else {
                panic!("{ban:?}");
            };
            assert!(evidence.last.since(evidence.first) <= evidence.window);
            assert!(ban.since >= evidence.last);
            let seen = match evidence.pattern {
                engine::Pattern::Scan { distinct, .. } => u64::from(distinct),
                _ => evidence.count,
            };
            (
                ban.prefix.to_string(),
                detector.name().to_owned(),
                evidence.pattern.to_string(),
                seen,
            )
        })
        .collect();
    bans.sort();
    bans
}

#[test]
fn attackers_of_the_lab_are_banned_in_time_and_the_innocent_are_not() {
    let Some(folder) = captures() else { return };
    for (name, allowing, denying) in LAB {
        let path = folder.join(format!("LAB-generated-here/{name}.pcap"));
        for (inbound, expected) in [
            (policy::DefaultAction::Allow, allowing),
            (policy::DefaultAction::Deny, denying),
        ] {
            let found = bans(&path, inbound, "");
            let found: Vec<_> = found
                .iter()
                .map(|(who, by, what, count)| (who.as_str(), by.as_str(), what.as_str(), *count))
                .collect();
            assert_eq!(found, *expected, "{name}, default {inbound:?}");
        }
    }
}

#[test]
fn protected_decoys_are_not_banned() {
    let Some(folder) = captures() else { return };
    let path = folder.join("LAB-generated-here/decoy_100.pcap");
    let found = bans(
        &path,
        policy::DefaultAction::Deny,
        "10.66.0.201 10.66.0.202 10.66.0.203",
    );
    let who: Vec<_> = found.iter().map(|(who, ..)| who.as_str()).collect();
    assert_eq!(who, ["10.66.0.2/32"]);
}

#[test]
fn benign_captures_raise_nothing() {
    let Some(folder) = captures() else { return };
    for (name, own) in [
        ("zeek+zeek/testing/btest/Traces/krb/kinit.pcap", ""),
        ("ntop+nDPI/tests/cfgs/default/pcap/ethereum.pcap", ""),
        ("ntop+nDPI/tests/cfgs/default/pcap/gnutella.pcap", ""),
        (
            "ntop+nDPI/tests/cfgs/default/pcap/gnutella.pcap",
            "10.0.2.15",
        ),
        ("LAB-generated-here/benign_busy_client.pcap", "10.66.1.10"),
    ] {
        let (plan, options) = standard(policy::DefaultAction::Allow, "");
        let options = Options {
            own: addresses(own),
            ..options
        };
        let mut source = Replay::open(&folder.join(name)).unwrap();
        let outcome = replay(&mut source, plan, options, &mut Vec::new()).unwrap();
        assert_eq!(
            (outcome.totals.bans, outcome.totals.alerts),
            (0, 0),
            "{name}"
        );
    }
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
