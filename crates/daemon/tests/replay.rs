//! Real captures through the whole packet line: nothing panics, the sums add up, equal captures give equal events, attackers
//! are banned and the innocent are not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{Event, EventBody};
use kernel::replay::Replay;
use policy::{AddressSet, Blocked, Direction, Plan, Timestamp};
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
        own,
        every_event: true,
        ..Options::default()
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
    // No answer goes to the forged sources, as nobody is there to be asked for a link address: silence behind the end of the
    // capture counts against them, and denied they all look alike.
    (
        "decoy_100",
        &[
            ("10.66.0.2/32", "scan", "vertical SYN scan", 5),
            ("10.66.0.201/32", "scan", "vertical SYN scan", 5),
            ("10.66.0.202/32", "scan", "vertical SYN scan", 5),
            ("10.66.0.203/32", "scan", "vertical SYN scan", 5),
        ],
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

/// Packets in memory, each with its second.
struct Packets {
    packets: Vec<(f64, Vec<u8>)>,
    next: usize,
}

impl kernel::source::Source for Packets {
    fn next(
        &mut self,
    ) -> Result<Option<kernel::source::Captured<'_>>, kernel::source::SourceError> {
        let packet = self.packets.get(self.next);
        self.next += 1;
        Ok(packet.map(|(at, bytes)| kernel::source::Captured {
            timestamp: Timestamp::from_micros(1_700_000_000_000_000 + (at * 1e6) as u64),
            link: Some(wire::Link::RawIp),
            linktype: 101,
            bytes,
            wire_len: bytes.len(),
            direction: Some(Direction::In),
            interface: None,
            checksum_unfilled: true,
        }))
    }
}

/// A SYN or a datagram from a stranger to a port.
fn probe(source: u8, protocol: u8, port: u16) -> Vec<u8> {
    let ends = [198, 51, 100, source, 10, 9, 0, 1];
    let mut transport = vec![0xc3, 0x50];
    transport.extend(port.to_be_bytes());
    match protocol {
        // Without a checksum, which UDP may do.
        policy::protocol::UDP => transport.extend([0, 8, 0, 0]),
        _ => {
            transport.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0]);
            let pseudo = [&ends, &[0, protocol, 0, 20][..], &transport].concat();
            transport[16..18].copy_from_slice(&checksum(&pseudo));
        }
    }
    let len = 20 + transport.len() as u8;
    let mut packet = vec![0x45, 0, 0, len, 0, 1, 0x40, 0, 64, protocol, 0, 0];
    packet.extend(ends);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum);
    packet.extend(transport);
    packet
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes()
}

#[test]
fn silence_behind_the_last_packet_and_in_a_gap_is_told_as_on_a_quiet_link() {
    let mut plan = Plan::default();
    plan.default.inbound = policy::DefaultAction::Allow;
    plan.detect = policy::Detect::standard();
    let plan = Arc::new(plan);
    for protocol in [policy::protocol::TCP, policy::protocol::UDP] {
        for probes in 4..=8_u16 {
            for gap in [
                None,
                Some(6.0),
                Some(30.0),
                Some(60.0),
                Some(300.0),
                Some(3_000.0),
            ] {
                let mut packets: Vec<_> = (0..probes)
                    .map(|n| (f64::from(n) * 0.2, probe(7, protocol, 100 + n)))
                    .collect();
                packets.extend(gap.map(|gap| (gap, probe(99, protocol, 2))));
                let mut source = Packets { packets, next: 0 };
                let mut events = Vec::new();
                let options = Options::default();
                replay(&mut source, Arc::clone(&plan), options, &mut events).unwrap();
                let bans: Vec<_> = events
                    .iter()
                    .filter_map(|event| match &event.body {
                        EventBody::Ban(ban) => Some((ban.evidence?.count, event.at)),
                        _ => None,
                    })
                    .collect();
                let told = |at: &Timestamp| {
                    (5.0..=7.0)
                        .contains(&at.since(Timestamp::from_secs(1_700_000_000)).as_secs_f64())
                };
                match bans.as_slice() {
                    [] => assert_eq!(probes, 4, "{protocol} {gap:?}"),
                    [(5, at)] => assert!(told(at), "{protocol} {probes} {gap:?}: {at}"),
                    others => panic!("{protocol} {probes} {gap:?}: {others:?}"),
                }
                let times: Vec<Timestamp> = (events.iter())
                    .filter(|event| !matches!(event.body, EventBody::Flow(_)))
                    .map(|event| event.at)
                    .collect();
                assert!(times.is_sorted(), "{protocol} {probes} {gap:?}: {times:?}");
            }
        }
    }
}
