//! Bans over time: clocks that are set, restarts, widening, and a kernel that somebody else writes to.

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const DAY_NANOS: i128 = 86_400_000_000_000;

/// What an inspecting worker reports of a source whose address a handshake has proven.
fn caught(guard: &Guard, prefix: &str) -> Event {
    let now = guard.clock.now();
    let ban = engine::Ban {
        prefix: prefix.parse().unwrap(),
        origin: BanOrigin::Detector(Detector::Payload),
        reason: "3 content-rule hits".to_owned(),
        since: now,
        expires: now.after(Duration::from_secs(600)),
        times_banned: 1,
        offences: 1,
        grew_from: Vec::new(),
        would_be: false,
        evidence: None,
    };
    Event::without_packet(now, EventBody::Ban(ban))
}

pub(super) fn catch(guard: &mut Guard, prefix: &str) {
    let event = caught(guard, prefix);
    guard.inspected(vec![event]);
}

/// Seconds left of the only ban.
fn left(guard: &Guard) -> u64 {
    match guard.bans().as_slice() {
        [ban] => ban.remaining_s.unwrap(),
        bans => panic!("{bans:?}"),
    }
}

#[test]
fn a_clock_set_by_a_day_ends_no_ban_and_makes_none_longer() {
    for days in [1, -1] {
        let mut stage = started(ENFORCE);
        let guard = &mut stage.guard;
        // The guard's clock is that of before the setting: what it reads next is the real one.
        guard.clock.offset -= days * DAY_NANOS;
        guard.ban(&by_hand("203.0.113.7", 600)).unwrap();
        assert!((599..=600).contains(&left(guard)));
        // Packets are stamped by the clock as it is now, before anybody told.
        guard.packets(&logged(8, DENIED));
        assert!(
            (598..=600).contains(&left(guard)),
            "{days}: {}",
            left(guard)
        );
        guard.tick();
        assert!(
            (598..=600).contains(&left(guard)),
            "{days}: {}",
            left(guard)
        );
        // Others were under way while it was set.
        let mut batch = logged(9, DENIED);
        let before = i128::from(clock::now().as_nanos()) - days * DAY_NANOS;
        batch.restamp(Timestamp::from_nanos(u64::try_from(before).unwrap()));
        guard.packets(&batch);
        guard.tick();
        assert!(
            (597..=600).contains(&left(guard)),
            "{days}: {}",
            left(guard)
        );
        assert!(stage.kernel.dump().contains("ban 203.0.113.7/32"));
        assert!(stage.store.flush(Duration::from_secs(10)));
        let path = stage.folder.path().join("store.db");
        let stored = Store::open(&path, &LogSettings::default()).unwrap().bans;
        let rest = stored[0].remaining(clock::now()).unwrap().as_secs();
        assert!((590..=600).contains(&rest), "{days}: {rest}");
    }
}

#[test]
fn a_clock_that_was_set_while_nothing_ran_is_told_by_the_store() {
    for days in [1, -1] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let opened = Store::open(&path, &LogSettings::default()).unwrap();
        let mut stage = stage_in(folder, ENFORCE, FakeDatapath::new(), Vec::new());
        stage.guard.start().unwrap();
        // All of this run was by another clock than the next will be.
        stage.guard.clock.offset -= days * DAY_NANOS;
        stage.guard.ban(&by_hand("203.0.113.7", 600)).unwrap();
        stage.store.replace(stage.guard.memory());
        assert!(stage.store.flush(Duration::from_secs(10)));
        drop(opened);
        let again = Store::open(&path, &LogSettings::default()).unwrap();
        let rest = again.bans[0].remaining(clock::now()).unwrap().as_secs();
        assert!((590..=600).contains(&rest), "{days}: {rest}");
        assert!(
            again.warnings[0].contains("the clock was set"),
            "{:?}",
            again.warnings
        );
        let banned = again.offenders[0].last;
        assert!(
            clock::now().since(banned).as_secs() < 10,
            "{days}: {banned}"
        );
        let third = Store::open(&path, &LogSettings::default()).unwrap();
        assert_eq!(third.warnings, Vec::<String>::new(), "once is enough");
        assert_eq!(third.bans, again.bans);
        assert_eq!(third.offenders, again.offenders);
    }
}

#[test]
fn what_somebody_does_to_single_bans_is_undone_and_told() {
    let mut stage = started(ENFORCE);
    let mut kernel = stage.kernel.clone();
    for prefix in ["203.0.113.7", "203.0.113.8", "2001:db8::/64"] {
        stage.guard.ban(&by_hand(prefix, 600)).unwrap();
    }
    let taken: IpNet = "2001:db8::/64".parse().unwrap();
    kernel.unban(taken).unwrap();
    // And one that shall end at once.
    kernel
        .ban(
            "203.0.113.8/32".parse().unwrap(),
            Some(Duration::from_secs(5)),
        )
        .unwrap();
    stage.kernel.set_drift(Drift::Nearby);
    stage.guard.check(clock::now());
    assert!(stage.kernel.dump().contains("ban 2001:db8::/64"));
    let held = kernel.bans().unwrap();
    assert!(
        held.iter()
            .all(|ban| ban.remaining > Some(Duration::from_secs(590))),
        "{held:?}"
    );
    let told = stage.guard.status().drift;
    assert_eq!(told.repaired, 1);
    assert_eq!(
        told.last.unwrap(),
        "somebody took bans out of the kernel or made them end earlier (203.0.113.8, 2001:db8::/64); they were put back"
    );
    stage.kernel.set_drift(Drift::Nearby);
    stage.guard.check(clock::now());
    assert_eq!(
        stage.guard.status().drift.repaired,
        1,
        "nothing was missing"
    );
}

#[test]
fn widened_bans_reach_the_kernel_and_are_lifted_alone() {
    let mut stage = started(ENFORCE);
    for subnet in 0..4 {
        catch(&mut stage.guard, &format!("2001:db8:0:10{subnet}::/64"));
    }
    let lines = |stage: &Stage| {
        let dump = stage.kernel.dump();
        dump.lines().filter(|line| line.starts_with("ban ")).count()
    };
    assert_eq!(lines(&stage), 5);
    let wide = stage.guard.bans()[0].clone();
    assert_eq!(wide.prefix.to_string(), "2001:db8:0:100::/56");
    assert_eq!(wide.grew_from.len(), 4);
    let query = |prefix: &str| UnbanQuery {
        prefix: Some(prefix.to_owned()),
        all: false,
    };
    let unbanned = stage.guard.unban(&query("2001:db8:0:101::/64")).unwrap();
    assert_eq!(
        unbanned.still[0].prefix, wide.prefix,
        "it says what still drops it"
    );
    let unbanned = stage.guard.unban(&query("2001:db8:0:100::/56")).unwrap();
    assert_eq!((unbanned.lifted.len(), unbanned.still.len()), (1, 0));
    assert_eq!(lines(&stage), 3);
    assert!(!stage.kernel.dump().contains("/56"));
}

#[test]
fn who_comes_back_after_a_restart_is_banned_for_twice_as_long() {
    let mut stage = started(ENFORCE);
    catch(&mut stage.guard, "203.0.113.7/32");
    catch(&mut stage.guard, "203.0.113.9/32");
    stage
        .guard
        .unban(&UnbanQuery {
            prefix: Some("203.0.113.9".to_owned()),
            all: false,
        })
        .unwrap();
    // It ran out.
    stage.guard.engine.advance(clock::now().after(DAY));
    stage.guard.settle(clock::now());
    assert!(stage.store.flush(Duration::from_secs(10)));
    let Stage { folder, guard, .. } = stage;
    drop(guard);
    let mut next = stage_in(folder, ENFORCE, FakeDatapath::new(), Vec::new());
    next.guard.start().unwrap();
    catch(&mut next.guard, "203.0.113.7/32");
    let ban = next.guard.bans()[0].clone();
    assert_eq!((ban.times_banned, ban.offences), (2, 2));
    assert!((1_199..=1_200).contains(&left(&next.guard)));
    catch(&mut next.guard, "203.0.113.9/32");
    let ban = next.guard.bans()[1].clone();
    assert_eq!((ban.times_banned, ban.offences), (2, 1), "lifted by hand");
    assert_eq!(ban.remaining_s, Some(600));
}

#[test]
fn what_comes_back_from_store_or_kernel_passes_the_gate_too() {
    let now = clock::now();
    let stored = |prefix: &str| {
        let EventBody::Ban(ban) = caught(&started(ENFORCE).guard, prefix).body else {
            panic!("it is a ban");
        };
        ban
    };
    let mut kernel = FakeDatapath::new();
    drop({
        let mut first = stage(ENFORCE, kernel.clone(), Vec::new());
        first.guard.start().unwrap();
        first
    });
    for prefix in ["192.0.2.254/32", "203.0.113.3/32"] {
        kernel.ban(prefix.parse().unwrap(), None).unwrap();
    }
    let bans = [
        "192.0.2.1/32",
        "198.51.0.0/16",
        "224.0.0.0/8",
        "203.0.113.1/32",
    ]
    .map(stored);
    let mut stage = stage(ENFORCE, kernel, bans.to_vec());
    let mut refused = Vec::new();
    while let Some(event) = stage.guard.engine.poll_event() {
        if let EventBody::BanRefused { refused: why, .. } = event.body {
            refused.push(why.prefix().unwrap().to_string());
        }
    }
    assert_eq!(
        refused,
        [
            "192.0.2.1/32",
            "198.51.0.0/16",
            "224.0.0.0/8",
            "192.0.2.254/32"
        ]
    );
    let held: Vec<String> = stage
        .guard
        .bans()
        .iter()
        .map(|ban| ban.prefix.to_string())
        .collect();
    assert_eq!(held, ["203.0.113.1/32", "203.0.113.3/32"]);
    assert!(stage.guard.bans()[1].expires.is_none());
    stage.guard.settle(now);
}

/// Wide and narrow ones, and others of a stranger.
fn nested(strangers: &[&str]) -> Stage {
    let mut stage = started(ENFORCE);
    let nested = [
        "203.0.113.0/24",
        "203.0.113.128/25",
        "203.0.0.0/16",
        "203.0.113.7",
    ];
    for prefix in nested.iter().chain(strangers) {
        stage.guard.ban(&by_hand(prefix, 600)).unwrap();
    }
    stage
}

#[test]
fn lifting_a_wide_ban_leaves_the_narrow_ones() {
    let mut stage = nested(&["198.51.100.0/24"]);
    let query = UnbanQuery {
        prefix: Some("203.0.113.0/24".to_owned()),
        all: false,
    };
    assert_eq!(stage.guard.unban(&query).unwrap().lifted.len(), 1);
    // Both that overlap are put in anew; the single address and the stranger are not touched.
    let operations = stage.kernel.operations();
    assert_eq!(
        operations[operations.len() - 2..],
        ["unban 203.0.113.0/24", "bans_many 2"]
    );
    // A network is not let in for one of its addresses.
    let query = UnbanQuery {
        prefix: Some("203.0.113.200".to_owned()),
        all: false,
    };
    let error = stage.guard.unban(&query).unwrap_err().to_string();
    assert!(
        error.contains("`portcullis unban 203.0.113.128/25`")
            && error.contains("`portcullis allow 203.0.113.200`"),
        "{error}"
    );
    let query = UnbanQuery {
        prefix: None,
        all: true,
    };
    assert_eq!(stage.guard.unban(&query).unwrap().lifted.len(), 4);
    assert!(!stage.kernel.dump().contains("\nban "));
    // An IPv6 address stands for what it is banned by.
    stage.guard.ban(&by_hand("2001:db8:0:7::/64", 600)).unwrap();
    let query = UnbanQuery {
        prefix: Some("2001:db8:0:7::1".to_owned()),
        all: false,
    };
    assert_eq!(stage.guard.unban(&query).unwrap().lifted.len(), 1);
}

#[test]
fn what_covers_a_prefix_is_told_before_what_is_of_a_part_of_it() {
    let stage = nested(&["198.51.100.7", "198.51.100.128/25"]);
    // Asked for, the ban that is told first, those around it, and how many more are of parts.
    for (asked, first, around, parts) in [
        (
            "203.0.113.0/24",
            Some("203.0.113.0/24"),
            vec!["203.0.0.0/16"],
            2,
        ),
        (
            "203.0.113.64/26",
            Some("203.0.113.0/24"),
            vec!["203.0.0.0/16"],
            0,
        ),
        (
            "203.0.113.200/32",
            Some("203.0.113.128/25"),
            vec!["203.0.113.0/24", "203.0.0.0/16"],
            0,
        ),
        ("203.0.0.0/8", Some("203.0.0.0/16"), vec![], 3),
        ("198.51.100.0/24", Some("198.51.100.128/25"), vec![], 1),
        ("192.0.2.0/24", None, vec![], 0),
    ] {
        let standing = stage.guard.standing(asked.parse().unwrap());
        let name = |ban: &api::Ban| ban.prefix.to_string();
        assert_eq!(standing.ban.as_ref().map(name).as_deref(), first, "{asked}");
        let others: Vec<String> = standing.around.iter().map(name).collect();
        assert_eq!(
            (others, standing.parts),
            (around.into_iter().map(str::to_owned).collect(), parts),
            "{asked}"
        );
    }
}

#[test]
fn an_allow_list_of_everybody_is_told() {
    let mut stage = started(ENFORCE);
    let mut allow = |prefix: &str| {
        let request = AllowRequest {
            prefix: prefix.to_owned(),
            persist: true,
        };
        stage.guard.allow(&request).unwrap().warning
    };
    assert_eq!(allow("203.0.113.7"), None);
    assert_eq!(allow("0.0.0.0/1"), None);
    let both = allow("128.0.0.0/1").unwrap();
    assert!(both.contains("every IPv4 address"), "{both}");
    let warnings = stage.guard.status().warnings;
    assert!(warnings.contains(&both), "{warnings:?}");
}

#[test]
fn a_set_clock_does_not_change_what_is_left_of_a_ban() {
    let mut stage = started(ENFORCE);
    stage.guard.ban(&by_hand("203.0.113.7", 600)).unwrap();
    stage.guard.ban(&by_hand("203.0.113.8", 0)).unwrap();
    let now = clock::now();
    let hour = Duration::from_secs(3_600);
    stage.guard.shift_bans(Step::Forward(hour), now.after(hour));
    let shifted: Vec<_> = stage
        .guard
        .engine
        .bans()
        .map(|ban| ban.remaining(now.after(hour)))
        .collect();
    assert!(shifted.contains(&None));
    let left = shifted.iter().flatten().next().unwrap();
    assert!(
        (Duration::from_secs(598)..=Duration::from_secs(600)).contains(left),
        "{left:?}"
    );
}

#[test]
fn a_ban_by_hand_without_a_time_makes_none_shorter() {
    let again = |reason: Option<&str>, seconds| BanRequest {
        reason: reason.map(str::to_owned),
        for_s: seconds,
        ..by_hand("203.0.113.7", 0)
    };
    // Seconds of the first; reason and seconds of the second; what is left (`None`: until lifted), whether that is told, the reason.
    type Case = (
        u64,
        (Option<&'static str>, Option<u64>),
        (Option<u64>, bool, &'static str),
    );
    let cases: [Case; 7] = [
        (0, (None, None), (None, true, "first")),
        (0, (Some("again"), None), (None, true, "again")),
        (7_200, (None, None), (Some(7_200), true, "first")),
        (7_200, (Some("again"), None), (Some(7_200), true, "again")),
        (60, (None, None), (Some(600), false, "banned by hand")),
        (0, (None, Some(60)), (Some(60), false, "banned by hand")),
        (7_200, (None, Some(0)), (None, false, "banned by hand")),
    ];
    for (first, (reason, seconds), (remains, kept, why)) in cases {
        let mut stage = started(ENFORCE);
        let guard = &mut stage.guard;
        guard.ban(&again(Some("first"), Some(first))).unwrap();
        let answer = guard.ban(&again(reason, seconds)).unwrap();
        let held = guard.bans().remove(0);
        for ban in [&answer, &held] {
            let case = (first, reason, seconds);
            assert_eq!(ban.remaining_s.is_some(), remains.is_some(), "{case:?}");
            let off = remains.unwrap_or(0).abs_diff(ban.remaining_s.unwrap_or(0));
            assert!(off <= 1, "{case:?}: {:?}", ban.remaining_s);
            assert_eq!(ban.reason, why, "{case:?}");
        }
        assert_eq!((answer.kept, held.kept), (kept, false), "{first}");
        let mut kernel = stage.kernel.clone();
        let left = kernel.bans().unwrap()[0].remaining;
        assert_eq!(left.is_some(), remains.is_some(), "{first}: {left:?}");
    }
}
