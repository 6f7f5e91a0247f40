//! A store whose clock was set, or begins anew.

use super::*;
use crate::clock::Step;

const DAY: Duration = Duration::from_secs(86_400);

fn ban(since: Timestamp) -> engine::Ban {
    engine::Ban {
        prefix: "203.0.113.7/32".parse().unwrap(),
        origin: engine::BanOrigin::Manual,
        reason: "by hand".to_owned(),
        since,
        expires: since.after(Duration::from_secs(600)),
        times_banned: 2,
        offences: 2,
        grew_from: Vec::new(),
        would_be: false,
        evidence: None,
    }
}

#[test]
fn what_a_clock_is_set_by_makes_nothing_older() {
    let folder = tempfile::tempdir().unwrap();
    let hours = |hours: i64| hours * 3_600_000_000_000;
    // When steps were noted and how large they were; before which time events are forgotten; how much older they seem.
    for (number, (steps, oldest, seems)) in [
        (&[][..], 100, 0),
        (&[(100, 24)], 90, 24),
        (&[(100, 24)], 101, 0),
        (&[(100, 24), (130, 24)], 120, 48),
        (&[(100, 24), (130, 24)], 125, 24),
        (&[(100, 24), (130, 24)], 131, 0),
        (&[(100, 24), (76, -24)], 70, 0),
        (&[(76, -24)], 70, 0),
        (&[(76, -24), (101, 24)], 70, 0),
        (&[(0, 490_000)], -3, 490_000),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(number.to_string());
        let file = file::open_or_replace(&path, &mut Vec::new()).unwrap();
        for &(at, size) in steps {
            file.execute(
                "INSERT INTO clock_steps (at, size) VALUES (?1, ?2)",
                [hours(at), hours(size)],
            )
            .unwrap();
        }
        for _ in 0..2 {
            let found = uptime::seems_older(&file, hours(oldest)).unwrap();
            assert_eq!(found, hours(seems), "{number}");
        }
    }
}

/// A machine without a clock that runs on while it is off begins its next run somewhere in the past.
#[test]
fn a_clock_that_begins_in_the_past_makes_no_ban_longer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let opened = Store::open(&path, &LogSettings::default()).unwrap();
    let later = now().after(20_000 * DAY);
    let ban = ban(later);
    opened.store.ban(ban.clone());
    opened.store.offender(engine::Offender {
        prefix: ban.prefix,
        times: 2,
        last: later,
        offences: 2,
        offended: Some(later),
        lifted: None,
    });
    opened.store.stop();
    opened.thread.join().unwrap();
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute("UPDATE clock SET boot = 'another'", [])
        .unwrap();
    let (bans, offenders) = recall(&file, &mut Vec::new()).unwrap();
    let left = bans[0].remaining(now()).unwrap().as_secs();
    assert!((590..=600).contains(&left), "{left}");
    assert!(bans[0].since <= now() && offenders[0].last <= now());
    // And when the clock is set right, that is kept.
    let step = Step::Forward(20_000 * DAY);
    let set = bans[0].expires.since(bans[0].since);
    assert_eq!(
        step.shift(bans[0].expires).since(step.shift(bans[0].since)),
        set
    );
    let mut warnings = Vec::new();
    assert_eq!(recall(&file, &mut warnings).unwrap().0, bans);
    assert_eq!(warnings, Vec::<String>::new(), "once is enough");
}

/// Written by a clock that was set since, into a file that nobody can write to any more.
#[test]
fn what_cannot_be_written_is_no_reason_to_forget_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let earlier = Timestamp::from_nanos(now().as_nanos() - DAY.as_nanos() as u64);
    let prefix: IpNet = "203.0.113.7/32".parse().unwrap();
    let opened = Store::open(&path, &LogSettings::default()).unwrap();
    let ban = ban(earlier);
    let offender = engine::Offender {
        prefix,
        times: 2,
        last: earlier,
        offences: 2,
        offended: Some(earlier),
        lifted: None,
    };
    let mut clock = Clock::new();
    clock.offset -= i128::try_from(DAY.as_nanos()).unwrap();
    opened.store.replace(Memory {
        bans: vec![ban],
        offenders: vec![offender],
        clock: clock.stamp(),
    });
    assert!(opened.store.flush(PATIENCE));
    opened.store.stop();
    opened.thread.join().unwrap();
    let file = rusqlite::Connection::open(&path).unwrap();
    file.pragma_update(None, "query_only", true).unwrap();
    let mut warnings = Vec::new();
    let (bans, offenders) = recall(&file, &mut warnings).unwrap();
    let left = bans[0].remaining(now()).unwrap().as_secs();
    assert!((590..=600).contains(&left), "{left}");
    let near = |at: Timestamp| now().since(at) < Duration::from_secs(60);
    assert!(near(offenders[0].last) && near(offenders[0].offended.unwrap()));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[1].contains("cannot be written"), "{warnings:?}");
    // Where it can be, the file is by the new clock from now on, all of it.
    file.pragma_update(None, "query_only", false).unwrap();
    let (bans, _) = recall(&file, &mut warnings).unwrap();
    let (again, offenders) = recall(&file, &mut Vec::new()).unwrap();
    assert_eq!(again, bans);
    assert!(near(offenders[0].last));
}
