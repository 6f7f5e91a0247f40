//! The store on real files: what goes in comes out, bounds hold, bad files do not matter.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clock;

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

mod damage;

use super::*;
use crate::record::{Context, Eve, escape::write_json, samples};

const PATIENCE: Duration = Duration::from_secs(30);

fn entries() -> Vec<Entry> {
    let plan = samples::plan();
    let context = Context {
        plan: &plan,
        enforced: true,
    };
    let base = now();
    samples::events()
        .into_iter()
        .enumerate()
        .map(|(index, mut event)| {
            event.at = Timestamp::from_nanos(base.as_nanos() + index as u64);
            let eve = Eve::of_event(&event, context);
            let mut json = Vec::new();
            write_json(&eve, &mut json).unwrap();
            Entry::of_event(
                index as u64 + 1,
                &event,
                &plan,
                eve.kind(),
                String::from_utf8(json).unwrap(),
            )
        })
        .collect()
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_nanos(since.as_nanos() as u64)
}

fn range(text: &str) -> Range {
    text.parse::<IpNet>().unwrap().into()
}

/// A folder that somebody made by hand lets everybody in.
#[test]
fn strangers_cannot_read_the_record() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("store.db");
    for _ in 0..2 {
        let opened = Store::open(&path, &LogSettings::default()).unwrap();
        opened.store.event(entries().remove(0));
        assert!(opened.store.flush(PATIENCE));
        for file in fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o007, 0, "{:?} {mode:o}", file.file_name());
        }
        opened.store.stop();
        // As an earlier version left it.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
}

#[test]
fn events_come_back_by_what_they_are_looked_up_by() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Store::open(&folder.path().join("store.db"), &LogSettings::default()).unwrap();
    assert_eq!(opened.warnings, Vec::<String>::new());
    let all = entries();
    for entry in &all {
        opened.store.event(entry.clone());
    }
    assert!(opened.store.flush(PATIENCE));
    let reader = opened.store.reader().unwrap();
    let found = |filter: EventFilter| {
        let mut ids: Vec<u64> = reader
            .events(&filter)
            .unwrap()
            .iter()
            .map(|event| event.id)
            .collect();
        assert!(ids.is_sorted_by(|a, b| a > b), "newest first");
        ids.reverse();
        ids
    };
    let expected = |keep: &dyn Fn(&Entry) -> bool| -> Vec<u64> {
        all.iter()
            .filter(|entry| keep(entry))
            .map(|entry| entry.id)
            .collect()
    };
    let filter = EventFilter {
        limit: 100_000,
        ..EventFilter::default()
    };

    assert_eq!(found(filter.clone()), expected(&|_| true));
    assert_eq!(
        found(EventFilter {
            limit: 3,
            ..filter.clone()
        })
        .len(),
        3
    );
    let kinds = vec!["drop".to_owned(), "alert".to_owned()];
    assert_eq!(
        found(EventFilter {
            kinds,
            ..filter.clone()
        }),
        expected(&|entry| matches!(entry.kind, "drop" | "alert"))
    );
    for text in [
        "203.0.113.7/32",
        "203.0.113.0/24",
        "2001:db8::/64",
        "192.0.2.1/32",
        "203.0.112.0/32",
        "0.0.0.0/0",
    ] {
        let wanted = range(text);
        let overlaps = |range: Option<Range>| {
            range.is_some_and(|range| range.first <= wanted.last && range.last >= wanted.first)
        };
        // A refused ban of more than the range is not about it.
        let holds = |range: Option<Range>| {
            range.is_some_and(|range| range.first >= wanted.first && range.last <= wanted.last)
        };
        let expected = expected(&|entry| match entry.kind {
            "ban-refused" => holds(entry.source) || overlaps(entry.destination),
            _ => overlaps(entry.source) || overlaps(entry.destination),
        });
        assert_eq!(
            found(EventFilter {
                range: Some(wanted),
                ..filter.clone()
            }),
            expected,
            "{text}"
        );
        assert_eq!(expected.is_empty(), text == "203.0.112.0/32", "{text}");
    }
    let middle = all[all.len() / 2].at;
    assert_eq!(
        found(EventFilter {
            since: Some(middle),
            ..filter.clone()
        }),
        expected(&|entry| entry.at >= middle)
    );
    assert_eq!(
        found(EventFilter {
            until: Some(middle),
            ..filter.clone()
        }),
        expected(&|entry| entry.at < middle)
    );
    let rule = samples::plan().rules[0].name.clone();
    let by_rule = expected(&|entry| {
        entry
            .decided
            .as_ref()
            .is_some_and(|decided| decided.rule.as_ref() == Some(&rule))
    });
    assert!(!by_rule.is_empty());
    assert_eq!(
        found(EventFilter {
            rule: Some(rule.clone()),
            ..filter.clone()
        }),
        by_rule
    );
    assert_eq!(reader.event(7).unwrap().unwrap().json, all[6].json);
    assert_eq!(reader.event(1 << 40).unwrap(), None);

    let denied = reader.denied(range("203.0.113.7/32")).unwrap();
    assert!(denied.len() == 20 && denied.is_sorted_by(|a, b| a.count >= b.count));
    let ours = denied
        .iter()
        .find(|denied| denied.decided.rule.as_ref() == Some(&rule))
        .unwrap();
    assert_eq!(
        (ours.decided.file.as_deref(), ours.decided.line),
        (Some("policy.toml"), Some(12))
    );
    assert_eq!(reader.seen(range("198.51.100.1/32")).unwrap(), None);
    let since = Timestamp::default();
    let (top, would) = reader.top_denied(since, |_| true).unwrap();
    let is_ours = |(address, _): &(String, u64)| address == "203.0.113.7";
    assert!(top.top_sources.iter().any(is_ours));
    let others = |address| address != std::net::IpAddr::from([203, 0, 113, 7]);
    let (named, _) = reader.top_denied(since, others).unwrap();
    assert!(!named.top_sources.iter().any(is_ours));
    assert_eq!(
        would,
        api::TopDenied::default(),
        "nothing that only would have been"
    );
    assert!(top.top_ports.iter().any(|(port, _)| port == "tcp/22"));
    opened.store.stop();
    opened.thread.join().unwrap();
}

#[test]
fn bans_survive_and_end_in_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let bans: Vec<engine::Ban> = samples::events()
        .into_iter()
        .filter_map(|event| match event.body {
            engine::EventBody::Ban(ban) => Some(ban),
            _ => None,
        })
        .enumerate()
        .map(|(index, ban)| engine::Ban {
            prefix: format!("198.51.100.{index}/32").parse().unwrap(),
            ..ban
        })
        .collect();
    let opened = Store::open(&path, &LogSettings::default()).unwrap();
    for ban in &bans {
        opened.store.ban(ban.clone());
    }
    let lifted = bans[0].prefix;
    opened.store.unban(lifted, BanEnd::Lifted, now());
    opened
        .store
        .unban("192.0.2.9/32".parse().unwrap(), BanEnd::Expired, now());
    opened.store.stop();
    opened.thread.join().unwrap();

    let again = Store::open(&path, &LogSettings::default()).unwrap();
    let mut expected = bans[1..].to_vec();
    expected.sort_by_key(|ban| ban.prefix.to_string());
    assert_eq!(again.bans, expected);
    let past = again
        .store
        .reader()
        .unwrap()
        .past_bans(range("198.51.100.0/24"), 10)
        .unwrap();
    assert_eq!(past.len(), 1);
    assert_eq!(past[0].ban, bans[0]);
    again.store.stop();
    again.thread.join().unwrap();
}

#[test]
fn minutes_add_up_and_policies_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Store::open(&folder.path().join("store.db"), &LogSettings::default()).unwrap();
    let minute = Timestamp::from_secs(now().as_secs() / 60 * 60);
    for second in [0, 30, 59, 60] {
        let counts = api::Totals {
            packets: 10,
            dropped: 1,
            ..api::Totals::default()
        };
        opened
            .store
            .minute(minute.after(Duration::from_secs(second)), counts);
    }
    let version = api::PolicyVersion {
        at: minute.into(),
        source: "policy.toml".to_owned(),
        digest: "0123456789abcdef".to_owned(),
        rules: 3,
        by: "apply".to_owned(),
    };
    opened.store.policy(PolicyEntry {
        version: version.clone(),
        text: "mode = \"observe\"".to_owned(),
    });
    assert!(opened.store.flush(PATIENCE));
    let reader = opened.store.reader().unwrap();
    let minutes = reader.minutes(Timestamp::default()).unwrap();
    assert_eq!(
        minutes
            .iter()
            .map(|minute| minute.counts.packets)
            .collect::<Vec<_>>(),
        [30, 10]
    );
    assert_eq!(reader.policies(10).unwrap(), [version]);
    opened.store.stop();
    opened.thread.join().unwrap();
}

#[test]
fn size_and_age_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let settings = LogSettings {
        store_bytes: 4 << 20,
        store_age: Duration::from_secs(3_600),
        ..LogSettings::default()
    };
    let opened = Store::open(&path, &settings).unwrap();
    let sample = entries().remove(0);
    let old = Timestamp::from_secs(now().as_secs() - 7_200);
    for id in 1..=100 {
        opened.store.event(Entry {
            id,
            at: old,
            ..sample.clone()
        });
    }
    assert!(opened.store.flush(PATIENCE));
    let reader = opened.store.reader().unwrap();
    let filter = EventFilter {
        limit: 1_000_000,
        ..EventFilter::default()
    };
    assert_eq!(reader.events(&filter).unwrap(), [], "older than store_age");

    const LAST: u64 = 40_000;
    for id in 101..=LAST {
        opened.store.event(Entry {
            id,
            at: now(),
            ..sample.clone()
        });
        if id % 5_000 == 0 {
            assert!(opened.store.flush(PATIENCE));
        }
    }
    assert!(opened.store.flush(PATIENCE));
    drop(reader);
    assert!(opened.store.flush(PATIENCE));
    assert_eq!(opened.store.queue().dropped, 0);
    let on_disk: u64 = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(on_disk <= settings.store_bytes, "{on_disk} bytes");
    let left = opened.store.reader().unwrap().events(&filter).unwrap();
    assert!(left.len() > 1_000 && left.len() < 20_000, "{}", left.len());
    assert_eq!(left[0].id, LAST, "the newest stay");
    assert_eq!(
        opened.store.state().bytes,
        fs::metadata(&path).unwrap().len()
    );
    opened.store.stop();
    opened.thread.join().unwrap();
}

#[test]
fn flows_and_drops_push_out_no_ban_no_alert_and_no_notice() {
    let folder = tempfile::tempdir().unwrap();
    let settings = LogSettings {
        store_bytes: 4 << 20,
        ..LogSettings::default()
    };
    let opened = Store::open(&folder.path().join("store.db"), &settings).unwrap();
    let sample = entries().remove(0);
    let kinds = [
        "ban",
        "unban",
        "ban-refused",
        "alert",
        "drift",
        "policy",
        "daemon",
    ];
    let mut id = 0;
    let mut add = |kind| {
        id += 1;
        opened.store.event(Entry {
            id,
            at: now(),
            kind,
            ..sample.clone()
        });
    };
    kinds.into_iter().for_each(&mut add);
    for n in 0..40_000 {
        add(["flow", "drop", "anomaly"][n % 3]);
        if n % 5_000 == 0 {
            assert!(opened.store.flush(PATIENCE));
        }
    }
    for _ in 0..3 {
        assert!(opened.store.flush(PATIENCE));
    }
    assert_eq!(opened.store.queue().dropped, 0);
    let filter = EventFilter {
        limit: 1_000_000,
        ..EventFilter::default()
    };
    let left = opened.store.reader().unwrap().events(&filter).unwrap();
    assert!(left.len() < 20_000, "{}", left.len());
    let first: Vec<u64> = left.iter().rev().take(8).map(|event| event.id).collect();
    assert_eq!(first[..7], [1, 2, 3, 4, 5, 6, 7]);
    assert!(first[7] > 8, "the oldest of the others went");
    opened.store.stop();
    opened.thread.join().unwrap();
}

#[test]
fn offenders_survive_and_those_who_offended_least_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let settings = LogSettings {
        store_bytes: 1 << 20,
        ..LogSettings::default()
    };
    let opened = Store::open(&path, &settings).unwrap();
    let at = now();
    let offender = |n: u32| engine::Offender {
        prefix: IpNet::new(std::net::Ipv4Addr::from_bits(0xc633_6400 + n).into(), 32).unwrap(),
        times: 2,
        last: at,
        offences: n % 3,
        offended: (!n.is_multiple_of(3)).then_some(at),
        lifted: (!n.is_multiple_of(2)).then_some(at),
    };
    // The file of 1 MiB has room for 1,024 of them.
    for n in 0..3_000 {
        opened.store.offender(offender(n));
    }
    opened.store.stop();
    opened.thread.join().unwrap();
    let again = Store::open(&path, &settings).unwrap();
    assert!(again.store.flush(PATIENCE));
    again.store.stop();
    again.thread.join().unwrap();
    let third = Store::open(&path, &settings).unwrap();
    assert_eq!(third.offenders.len(), 1_024);
    assert!(
        third
            .offenders
            .iter()
            .all(|kept| kept.offences > 0 || kept.prefix == offender(0).prefix),
    );
    let kept = third.offenders[0];
    let n = match kept.prefix {
        IpNet::V4(v4) => v4.addr().to_bits() - 0xc633_6400,
        IpNet::V6(_) => panic!("IPv4 alone"),
    };
    assert_eq!(kept, offender(n));
    third.store.stop();
    third.thread.join().unwrap();
}

/// The story of a banned source is what led to the ban, not what the ban dropped; and a refused ban of everything is not about it.
#[test]
fn the_story_of_a_source_is_not_buried_by_its_ban() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Store::open(&folder.path().join("store.db"), &LogSettings::default()).unwrap();
    let source = Some(range("203.0.113.7/32"));
    let decided = |reason: &str| {
        Some(crate::api::Decided {
            verdict: "drop".to_owned(),
            reason: reason.to_owned(),
            ..crate::api::Decided::default()
        })
    };
    let entry = |id: u64, kind: &'static str, reason: &str, port: u16| Entry {
        id,
        at: now(),
        kind,
        source,
        destination: None,
        protocol: Some(policy::protocol::TCP),
        port: Some(port),
        decided: decided(reason),
        json: format!("{{\"id\":{id}}}"),
    };
    for id in 1..=5 {
        opened
            .store
            .event(entry(id, "drop", "default-in", 20 + id as u16));
    }
    opened.store.event(Entry {
        decided: None,
        ..entry(6, "alert", "", 25)
    });
    opened.store.event(Entry {
        decided: None,
        ..entry(7, "ban", "", 25)
    });
    for id in 8..=60 {
        opened.store.event(entry(id, "drop", "banned", id as u16));
    }
    let everything = Some(range("0.0.0.0/0"));
    opened.store.event(Entry {
        source: everything,
        decided: None,
        ..entry(61, "ban-refused", "", 0)
    });
    opened.store.event(Entry {
        decided: None,
        ..entry(62, "ban-refused", "", 0)
    });
    opened.store.event(Entry {
        source: Some(range("2001:db8::/64")),
        decided: None,
        ..entry(63, "ban-refused", "", 0)
    });
    opened.store.event(entry(64, "drop", "feed", 4));
    for id in [65, 66] {
        opened.store.event(Entry {
            source: None,
            protocol: Some(policy::protocol::ICMP),
            port: None,
            ..entry(id, "drop", "default-in", 0)
        });
    }
    assert!(opened.store.flush(PATIENCE));
    let reader = opened.store.reader().unwrap();
    let ids = |prefix: &str, up_to: Option<u64>, told: u32, others: u32| -> Vec<u64> {
        let events = reader.story(range(prefix), up_to, told, others).unwrap();
        events.iter().map(|event| event.id).collect()
    };
    assert_eq!(
        ids("203.0.113.7/32", None, 20, 30),
        [64, 62, 7, 6, 5, 4, 3, 2, 1]
    );
    assert_eq!(ids("203.0.113.7/32", None, 2, 3), [64, 62, 7, 5, 4]);
    assert_eq!(ids("203.0.113.7/32", Some(6), 20, 2), [6, 5, 4]);
    assert_eq!(ids("2001:db8::9/128", None, 20, 30), [63]);
    assert_eq!(ids("0.0.0.0/0", None, 20, 1), [64, 62, 61, 7, 6]);
    // Neither the ban's drops nor the feed's are about a service, and what has no port is one all the same: nothing is left out.
    let since = Timestamp::from_secs(0);
    let (top, _) = reader.top_denied(since, |_| true).unwrap();
    assert_eq!((top.denied_ports, top.denied_port_packets), (6, 7));
    assert_eq!(
        (top.top_ports.len(), &top.top_ports[0]),
        (6, &("icmp".to_owned(), 2))
    );
    assert_eq!(top.shut_out, 54);
}

/// Which had no columns for what only would have been.
#[test]
fn the_minutes_of_a_file_of_version_1_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch(
        "CREATE TABLE minutes (
            at INTEGER PRIMARY KEY, packets INTEGER NOT NULL, bytes INTEGER NOT NULL, allowed INTEGER NOT NULL,
            dropped INTEGER NOT NULL, rejected INTEGER NOT NULL, anomalies INTEGER NOT NULL, flows INTEGER NOT NULL,
            alerts INTEGER NOT NULL, bans INTEGER NOT NULL);
         PRAGMA user_version = 1;",
    )
    .unwrap();
    let minute = now().as_secs() / 60 * 60;
    file.execute(
        "INSERT INTO minutes VALUES (?1, 9, 900, 2, 7, 0, 0, 0, 0, 0)",
        [nanos(Timestamp::from_secs(minute))],
    )
    .unwrap();
    drop(file);
    for run in 1..=2 {
        let opened = Store::open(&path, &LogSettings::default()).unwrap();
        assert!(opened.warnings.is_empty(), "{:?}", opened.warnings);
        let more = api::Totals {
            would_drop: 3,
            ..api::Totals::default()
        };
        opened.store.minute(Timestamp::from_secs(minute + 1), more);
        assert!(opened.store.flush(PATIENCE));
        let reader = opened.store.reader().unwrap();
        let minutes = reader.minutes(Timestamp::default()).unwrap();
        let [minute] = minutes.as_slice() else {
            panic!("{minutes:?}")
        };
        let counts = minute.counts;
        assert_eq!((counts.dropped, counts.would_drop), (7, 3 * run));
        opened.store.stop();
        opened.thread.join().unwrap();
    }
}
