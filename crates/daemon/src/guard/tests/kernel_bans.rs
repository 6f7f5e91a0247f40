//! Bans that the engine and the kernel do not agree on: what the kernel refuses to lift, and what it bans by itself.

use super::*;
use kernel::datapath::Datapath as _;

fn unban(prefix: &str) -> UnbanQuery {
    UnbanQuery {
        prefix: Some(prefix.to_owned()),
        all: false,
    }
}

fn in_kernel(stage: &Stage) -> Vec<String> {
    let dump = stage.kernel.dump();
    let lines = dump.lines().filter_map(|line| line.strip_prefix("ban "));
    lines
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect()
}

fn known(stage: &Stage) -> Vec<String> {
    let bans = stage.guard.bans();
    bans.iter().map(|ban| ban.prefix.to_string()).collect()
}

fn warns(stage: &mut Stage) -> bool {
    let warnings = stage.guard.status().warnings;
    warnings
        .iter()
        .any(|warning| warning.contains("still drops"))
}

#[test]
fn a_ban_that_the_kernel_does_not_lift_is_no_success_and_is_tried_again() {
    let mut stage = started(ENFORCE);
    stage.guard.ban(&by_hand("203.0.113.7", 600)).unwrap();
    stage.kernel.fail(1);
    let error = stage.guard.unban(&unban("203.0.113.7")).unwrap_err();
    assert!(matches!(error, BanError::NotLifted { .. }), "{error}");
    assert!(warns(&mut stage));
    // Whoever asks again is not told that nothing is banned.
    stage.kernel.fail(1);
    let error = stage.guard.unban(&unban("203.0.113.7")).unwrap_err();
    assert!(matches!(error, BanError::NotLifted { .. }), "{error}");
    assert_eq!(in_kernel(&stage), ["203.0.113.7/32"]);
    stage.guard.check(clock::now());
    assert_eq!(in_kernel(&stage), [""; 0]);
    assert_eq!(
        known(&stage),
        [""; 0],
        "it is not taken for the kernel's own"
    );
    assert!(!warns(&mut stage));
}

#[test]
fn lifting_all_goes_on_where_the_kernel_refused() {
    let mut stage = started(ENFORCE);
    for host in 1..=3 {
        stage
            .guard
            .ban(&by_hand(&format!("203.0.113.{host}"), 600))
            .unwrap();
    }
    let all = UnbanQuery {
        prefix: None,
        all: true,
    };
    // The kernel is asked for its bans, and lets go of the first.
    stage.kernel.fail(3);
    let error = stage.guard.unban(&all).unwrap_err();
    assert!(
        error.to_string().contains("what 2 lifted bans covered"),
        "{error}"
    );
    // One of them is banned anew before the kernel has followed.
    stage.guard.ban(&by_hand("203.0.113.3", 600)).unwrap();
    stage.guard.check(clock::now());
    assert_eq!(in_kernel(&stage), ["203.0.113.3/32"]);
    assert_eq!(known(&stage), ["203.0.113.3/32"]);
}

#[test]
fn what_the_kernel_banned_and_nobody_was_told_of_is_seen_and_can_be_lifted() {
    let text = format!(
        "{ENFORCE}[[rule]]\naction = \"ban\"\ndirection = \"in\"\nprotocol = \"tcp\"\nport = 23\n"
    );
    let mut stage = started(&text);
    let mut kernel = stage.kernel.clone();
    let day = Some(Duration::from_secs(86_400));
    for prefix in ["203.0.113.7/32", "2001:db8::/64"] {
        kernel.ban(prefix.parse().unwrap(), day).unwrap();
    }
    // Whoever wants to lift it need not wait.
    let answer = stage.guard.unban(&unban("203.0.113.7")).unwrap();
    assert_eq!(answer.lifted[0].origin, "kernel");
    assert_eq!(answer.lifted[0].detector, None);
    assert_eq!(in_kernel(&stage), ["2001:db8::/64"]);
    assert_eq!(known(&stage), ["2001:db8::/64"]);
    // And by itself, though nothing says that the kernel changed: its own rules leave no trace.
    kernel.ban("203.0.113.8/32".parse().unwrap(), day).unwrap();
    stage.guard.check(clock::now());
    assert_eq!(known(&stage).len(), 1, "it is not listed each second");
    stage.guard.last_compared = Instant::now().checked_sub(Duration::from_secs(61)).unwrap();
    stage.guard.check(clock::now());
    assert_eq!(known(&stage), ["203.0.113.8/32", "2001:db8::/64"]);
    let left = stage.guard.bans()[0].remaining_s.unwrap();
    assert!((86_390..=86_400).contains(&left), "{left}");
    let error = stage.guard.unban(&unban("203.0.113.9")).unwrap_err();
    assert!(matches!(error, BanError::NotBanned { .. }), "{error}");
}

#[test]
fn a_host_inside_a_stored_prefix_is_a_ban_of_its_own() {
    let mut kernel = FakeDatapath::new();
    drop({
        let mut first = stage(ENFORCE, kernel.clone(), Vec::new());
        first.guard.start().unwrap();
        first
    });
    let secs = |secs| Some(Duration::from_secs(secs));
    for (prefix, left) in [
        ("203.0.113.9/32", secs(86_400)),
        // Pieces of the wide one, as the kernel holds those that overlap.
        ("203.0.113.0/25", secs(590)),
        ("203.0.113.128/25", secs(598)),
        // One that nobody knows, and one that lasts longer than what is known.
        ("198.51.100.0/25", None),
        ("203.0.113.64/26", secs(86_400)),
    ] {
        kernel.ban(prefix.parse().unwrap(), left).unwrap();
    }
    let now = clock::now();
    let wide = engine::Ban {
        prefix: "203.0.113.0/24".parse().unwrap(),
        origin: BanOrigin::Manual,
        reason: "stored".to_owned(),
        since: now,
        expires: now.after(Duration::from_secs(600)),
        times_banned: 1,
        offences: 1,
        grew_from: Vec::new(),
        would_be: false,
        evidence: None,
    };
    let mut second = stage(ENFORCE, kernel, vec![wide]);
    second.guard.start().unwrap();
    assert_eq!(
        known(&second),
        [
            "198.51.100.0/25",
            "203.0.113.0/24",
            "203.0.113.9/32",
            "203.0.113.64/26"
        ]
    );
    second.guard.unban(&unban("203.0.113.9")).unwrap();
    assert!(!in_kernel(&second).contains(&"203.0.113.9/32".to_owned()));
    // They are in the store as any other, with what is remembered of their sources.
    assert!(second.store.flush(Duration::from_secs(10)));
    let path = second.folder.path().join("store.db");
    let opened = Store::open(&path, &LogSettings::default()).unwrap();
    assert!(
        opened
            .bans
            .iter()
            .any(|ban| ban.origin == BanOrigin::Kernel)
    );
    let remembered = "198.51.100.0/25".parse().unwrap();
    assert!(
        opened
            .offenders
            .iter()
            .any(|offender| offender.prefix == remembered)
    );
}

#[test]
fn what_the_gate_does_not_admit_does_not_stay_in_the_kernel() {
    let mut stage = started(ENFORCE);
    let mut kernel = stage.kernel.clone();
    kernel.ban("192.0.2.254/32".parse().unwrap(), None).unwrap();
    for _ in 0..2 {
        stage.kernel.set_drift(Drift::Nearby);
        stage.guard.check(clock::now());
    }
    assert_eq!(in_kernel(&stage), [""; 0]);
    assert_eq!(known(&stage), [""; 0]);
}

/// The kernel's clock stands still while the machine sleeps: what runs out here by the thousand does not run out there.
#[test]
fn thousands_of_bans_that_end_at_once_leave_the_kernel() {
    let mut stage = started(ENFORCE);
    let import = (0..2_500_u32).map(|n| {
        let address = std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * 3);
        format!("{{\"prefix\":\"{address}\"}}")
    });
    let import = format!("[{}]", import.collect::<Vec<_>>().join(","));
    let import: BanImport = serde_json::from_str(&import).unwrap();
    assert_eq!(stage.guard.import_bans(&import).added, 2_500);
    let end = clock::now().after(Duration::from_secs(86_400));
    stage.guard.engine.advance(end);
    stage.guard.settle(end);
    assert_eq!(known(&stage).len(), 0);
    for _ in 0..3 {
        stage.guard.check(end);
    }
    assert_eq!(in_kernel(&stage).len(), 0);
    assert_eq!(known(&stage).len(), 0, "and none comes back");
}

/// 2.9 s for 100,000 bans when each was looked for among all.
#[test]
fn bans_of_the_kernel_are_known_again_in_no_time() {
    const MANY: u32 = 50_000;
    let mut kernel = FakeDatapath::new();
    drop({
        let mut first = stage(ENFORCE, kernel.clone(), Vec::new());
        first.guard.start().unwrap();
        first
    });
    let nets = (0..MANY).map(|n| {
        let address = std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * 7);
        policy::address::host_prefix(address.into())
    });
    let nets: Vec<IpNet> = nets.collect();
    let held: Vec<_> = nets.iter().map(|net| (*net, None)).collect();
    kernel.bans_many(&held).unwrap();
    let now = clock::now();
    let bans = nets.iter().map(|net| engine::Ban {
        prefix: *net,
        origin: BanOrigin::Manual,
        reason: String::new(),
        since: now,
        expires: Timestamp::MAX,
        times_banned: 1,
        offences: 0,
        grew_from: Vec::new(),
        would_be: false,
        evidence: None,
    });
    let bans = bans.collect();
    let mut stage = stage(ENFORCE, kernel, Vec::new());
    stage
        .guard
        .unban(&UnbanQuery {
            prefix: None,
            all: true,
        })
        .unwrap();
    let begun = Instant::now();
    stage.guard.restore_bans(bans, now);
    println!("{MANY} bans: {:?}", begun.elapsed());
    assert_eq!(stage.guard.bans().len(), MANY as usize);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn what_is_imported_of_the_past_survives_a_restart() {
    let mut stage = started(ENFORCE);
    let import: BanImport =
        serde_json::from_str(r#"[{"prefix": "203.0.113.7", "times_banned": 5}]"#).unwrap();
    assert_eq!(stage.guard.import_bans(&import).added, 1);
    // It ends by itself.
    let end = clock::now().after(Duration::from_secs(7_200));
    stage.guard.engine.advance(end);
    stage.guard.settle(end);
    assert!(stage.store.flush(Duration::from_secs(10)));
    let Stage { folder, guard, .. } = stage;
    drop(guard);
    let next = stage_in(folder, ENFORCE, FakeDatapath::new(), Vec::new());
    let prefix = "203.0.113.7/32".parse().unwrap();
    assert_eq!(next.guard.engine.offender(prefix, clock::now()).times, 5);
}

#[test]
fn a_reason_has_an_end() {
    let mut stage = started(ENFORCE);
    let with = |length: usize| BanRequest {
        reason: Some("x".repeat(length)),
        ..by_hand("203.0.113.7", 600)
    };
    let error = stage.guard.ban(&with(1_001)).unwrap_err().to_string();
    assert!(
        error.contains("1001 characters; write at most 1000"),
        "{error}"
    );
    assert_eq!(known(&stage), [""; 0]);
    assert_eq!(stage.guard.ban(&with(1_000)).unwrap().reason.len(), 1_000);
    let import = format!(
        "[{{\"prefix\":\"203.0.113.8\",\"reason\":\"{}\"}}]",
        "y".repeat(5_000)
    );
    stage
        .guard
        .import_bans(&serde_json::from_str(&import).unwrap());
    assert_eq!(stage.guard.bans()[1].reason.len(), 1_000, "the ban counts");
}

#[test]
fn what_the_kernel_banned_by_itself_is_known_a_moment_after_the_next_check() {
    let text = format!(
        "{ENFORCE}[detect.rate]\nresponse = \"ban\"\nban = \"10m\"\n[[rule]]\nname = \"trap\"\naction = \"ban\"\n\
         direction = \"in\"\nprotocol = \"tcp\"\nport = 23\n"
    );
    let mut stage = started(&text);
    let trap = policy::RuleId(stage.guard.in_force.plan.rules.len() as u32 - 1);
    let ten_minutes = Some(Duration::from_secs(600));
    let by_itself = |stage: &Stage, prefix: &str, cause| {
        let prefix = prefix.parse().unwrap();
        stage.kernel.ban_by_itself(prefix, ten_minutes, cause);
    };
    by_itself(&stage, "203.0.113.7/32", Cause::Rate);
    by_itself(&stage, "2001:db8::/64", Cause::Rule(trap));
    // Told by a packet meanwhile, or lifted: nothing to learn.
    by_itself(&stage, "203.0.113.8/32", Cause::Rate);
    stage.guard.check(clock::now());
    assert_eq!(known(&stage), [""; 0], "packets may tell more");
    stage.guard.ban(&by_hand("203.0.113.8", 600)).unwrap();
    stage.guard.adopt_own_bans(usize::MAX, clock::now());
    let bans = stage.guard.bans();
    let told: Vec<_> = bans
        .iter()
        .map(|ban| {
            (
                ban.origin.as_str(),
                ban.detector.as_deref(),
                ban.reason.as_str(),
            )
        })
        .collect();
    let by_rule = format!(
        "matched rule \"trap\" ({})",
        stage.guard.in_force.plan.rules[trap.0 as usize].position
    );
    assert_eq!(
        told,
        [
            (
                "detector",
                Some("rate"),
                "more than 1000 packets, over the rate of 1000 in 1 s (counted by the kernel)"
            ),
            ("manual", None, "banned by hand"),
            ("rule", None, by_rule.as_str()),
        ]
    );
    // Whoever asks before the next check can lift it, and it does not come back.
    by_itself(&stage, "203.0.113.9/32", Cause::Rate);
    let answer = stage.guard.unban(&unban("203.0.113.9")).unwrap();
    assert_eq!(answer.lifted[0].detector.as_deref(), Some("rate"));
    stage.guard.check(clock::now());
    stage.guard.adopt_own_bans(usize::MAX, clock::now());
    assert_eq!(known(&stage).len(), 3);
    // Nor where a packet had told of it before the kernel's note was adopted.
    by_itself(&stage, "203.0.113.10/32", Cause::Rate);
    stage.guard.check(clock::now());
    stage.guard.ban(&by_hand("203.0.113.10", 600)).unwrap();
    assert_eq!(
        stage
            .guard
            .unban(&unban("203.0.113.10"))
            .unwrap()
            .lifted
            .len(),
        1
    );
    stage.guard.adopt_own_bans(usize::MAX, clock::now());
    assert_eq!(known(&stage).len(), 3);
    // And what a stranger flushes comes back, as every ban does.
    stage.kernel.flush();
    stage.guard.check(clock::now());
    assert_eq!(in_kernel(&stage).len(), 3);
    assert!(stage.store.flush(Duration::from_secs(10)));
    let path = stage.folder.path().join("store.db");
    let stored = Store::open(&path, &LogSettings::default()).unwrap().bans;
    assert_eq!(stored.len(), 3, "{stored:?}");
}
