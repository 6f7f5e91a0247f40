//! Plans in force: applied, read back, watched, snapshot, and taken out without a trace.

use std::time::{Duration, Instant};

use policy::{Action, AddressSet, Plan, RateUnit, Rule, RuleId};
use portcullis_kernel::datapath::{Apply, Datapath as _, DatapathError, Drift, Queues};
use portcullis_kernel::nft::{Features, Nft};

use crate::plans::{self};
use crate::stage::{Lab, SERVER, Stop, assert_same, ping, ping_allowed};

#[test]
fn apply_reads_back_applies_again_and_leaves_no_trace() {
    let Some(mut lab) = Lab::new() else { return };
    lab.net.server.sh("nft add table inet other; nft add chain inet other c '{ type filter hook input priority 0; }'; nft add rule inet other c accept").unwrap();
    let before = lab.ruleset();
    assert!(matches!(
        lab.with(Nft::counters),
        Err(DatapathError::NotApplied)
    ));
    assert!(matches!(
        lab.with(|nft| nft.ban("192.0.2.7/32".parse().unwrap(), None)),
        Err(DatapathError::NotApplied)
    ));
    assert!(matches!(
        lab.with(|nft| nft.unban("192.0.2.7/32".parse().unwrap())),
        Err(DatapathError::NotApplied)
    ));
    for plan in [
        plans::server(),
        Plan::default(),
        plans::content_rules(),
        plans::server(),
    ] {
        let applied = lab.apply(&plan);
        assert!(applied.rules > 50 && applied.chains >= 25, "{applied:?}");
        assert_eq!(lab.with(Nft::check).unwrap(), Drift::None);
    }
    lab.with(Nft::remove).unwrap();
    assert_eq!(lab.ruleset(), before);
    lab.with(Nft::remove).unwrap();
    assert_eq!(lab.with(Nft::check).unwrap(), Drift::Gone);
}

#[test]
fn each_ruleset_stands_behind_the_one_before_it() {
    let Some(mut lab) = Lab::new() else { return };
    lab.apply(&plans::server());
    let ban = "192.0.2.7/32".parse().unwrap();
    lab.with(|nft| nft.ban(ban, None)).unwrap();
    let (mut stood, mut begun_anew) = (lab.priority("inbound"), 0);
    for round in 0..40 {
        lab.apply(&plans::server());
        let stands = lab.priority("inbound");
        if stands < stood {
            begun_anew += 1;
            assert_eq!(stands, -40, "round {round}");
        } else {
            assert_eq!(stands, stood + 1, "round {round}");
        }
        assert!(
            (-300..-200).contains(&lab.priority("shield")),
            "before connection tracking"
        );
        assert!(
            (-200..-150).contains(&lab.priority("martian")),
            "before mangle"
        );
        assert!((-40..0).contains(&stands), "before what others filter");
        stood = stands;
    }
    assert_eq!(begun_anew, 1);
    assert_eq!(lab.with(Nft::bans).unwrap().len(), 1, "the ban stayed");
    let tables = lab.net.server.run("nft", &["list", "tables"]).unwrap();
    assert_eq!(tables.trim(), "table inet portcullis");
}

#[test]
fn what_is_gone_back_to_stands_behind_too() {
    let Some(mut lab) = Lab::new() else { return };
    lab.apply(&plans::server());
    for _ in 0..40 {
        let snapshot = lab.with(Nft::snapshot).unwrap();
        lab.apply(&Plan::default());
        let replaced = lab.priority("inbound");
        lab.with(|nft| nft.restore(&snapshot)).unwrap();
        assert!(lab.priority("inbound") > replaced, "{replaced}");
        assert!(lab.priority("inbound") < 0);
    }
}

#[test]
fn a_dormant_table_is_replaced_gone_back_from_and_taken_out() {
    let Some(mut lab) = Lab::new() else { return };
    let sleep = |lab: &Lab| {
        let script = "nft add table inet portcullis '{ flags dormant; }'";
        lab.net.server.sh(script).unwrap();
    };
    let is_dormant = |lab: &Lab| lab.ruleset().contains("dormant");
    lab.apply(&plans::server());
    lab.ban("192.0.2.7/32", Some(3_600));
    lab.ban("192.0.2.64/26", None);
    let bans = lab.bans();
    sleep(&lab);
    // Whoever begins anew finds it so.
    lab.nft = Nft::new(Features { queue: false });
    lab.apply(&plans::server());
    assert!(!is_dormant(&lab));
    assert_eq!(lab.bans(), bans);

    sleep(&lab);
    let snapshot = lab.with(Nft::snapshot).unwrap();
    lab.with(|nft| nft.restore(&snapshot)).unwrap();
    assert!(
        !is_dormant(&lab),
        "a snapshot brings nothing back that sleeps"
    );
    assert_eq!(lab.bans(), bans);
    assert_eq!(lab.with(Nft::check).unwrap(), Drift::None);

    for _ in 0..3 {
        sleep(&lab);
        lab.apply(&plans::content_rules());
        assert_eq!(lab.with(Nft::check).unwrap(), Drift::None);
    }
    sleep(&lab);
    lab.with(Nft::remove).unwrap();
    assert!(!lab.ruleset().contains("portcullis"));
}

#[test]
fn drift_is_seen_and_named() {
    let Some(mut lab) = Lab::new() else { return };
    lab.apply(&plans::server());
    let check = |lab: &mut Lab| lab.with(Nft::check).unwrap();
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(check(&mut lab), Drift::None);
    }
    eprintln!(
        "a check without changes, with a thread and its namespace: {:?}",
        begun.elapsed() / 100
    );
    lab.net
        .server
        .run("nft", &["add", "table", "inet", "foreign"])
        .unwrap();
    assert_eq!(check(&mut lab), Drift::Nearby);
    assert_eq!(check(&mut lab), Drift::None);
    for (script, wanted) in [
        (
            "nft insert rule inet portcullis rules_in accept",
            "chain rules_in was changed",
        ),
        (
            "nft flush chain inet portcullis default_in",
            "chain default_in was changed",
        ),
        (
            "nft add rule inet portcullis related drop",
            "chain related was changed",
        ),
        (
            "nft delete element inet portcullis set_1_v4 '{ 100.64.1.3 }'",
            "set set_1_v4 was changed",
        ),
        ("nft add chain inet portcullis mine", "chain mine was added"),
        (
            "nft add counter inet portcullis mine",
            "counter mine was added",
        ),
        (
            "nft add quota inet portcullis mine '{ over 1 mbytes; }'",
            "counter mine was added",
        ),
        (
            "nft add table inet portcullis '{ flags dormant; }'",
            "the table was made dormant, which filters nothing",
        ),
        (
            "nft add chain inet portcullis inbound '{ policy drop; }'",
            "chain inbound was changed",
        ),
        (
            "nft flush chain inet portcullis outbound; nft delete chain inet portcullis outbound",
            "chain outbound is missing",
        ),
        (
            // Reads as it did before.
            "nft -s list chain inet portcullis related > /tmp/related.$$ && nft flush chain inet portcullis related && nft -f /tmp/related.$$; rm /tmp/related.$$",
            "chain related was changed",
        ),
    ] {
        lab.net.server.sh(script).unwrap();
        assert_eq!(
            check(&mut lab),
            Drift::Changed {
                what: vec![wanted.to_owned()]
            },
            "{script}"
        );
        assert_eq!(
            check(&mut lab),
            Drift::Changed {
                what: vec![wanted.to_owned()]
            },
            "until it is put right: {script}"
        );
        lab.apply(&plans::server());
        assert_eq!(check(&mut lab), Drift::None, "{script}");
    }
    lab.net.server.run("nft", &["flush", "ruleset"]).unwrap();
    assert_eq!(check(&mut lab), Drift::Gone);
    lab.apply(&plans::server());
    assert_eq!(check(&mut lab), Drift::None);
}

#[test]
fn a_refused_script_changes_nothing_and_names_the_rule() {
    let Some(mut lab) = Lab::new() else { return };
    lab.apply(&plans::server());
    let before = lab.stable();
    let mut wrong = plans::server();
    wrong.rules[2].interface = Some(policy::Interface::Named("a\"b".into()));
    assert!(matches!(
        lab.try_apply(&wrong, None),
        Err(DatapathError::Inexpressible {
            rule: RuleId(2),
            ..
        })
    ));
    if !lab.with(|_| Features::probe()).unwrap().queue {
        // The kernel itself refuses what it does not have.
        let mut mistaken = Nft::new(Features { queue: true });
        let queues = Some(Queues { first: 0, count: 1 });
        let none = AddressSet::default();
        let plan = plans::content_rules();
        let request = Apply {
            plan: &plan,
            protected: &none,
            queues,
            goes_on: false,
        };
        let refused = lab.with(|_| mistaken.apply(&request)).unwrap_err();
        assert!(
            matches!(&refused, DatapathError::Refused { message, .. } if message.contains("queue")),
            "{refused}"
        );
    }
    assert_same(&lab.stable(), &before);
    assert_eq!(lab.with(Nft::check).unwrap(), Drift::None);
}

#[test]
fn a_snapshot_brings_everything_back_even_by_a_stranger() {
    let Some(mut lab) = Lab::new() else { return };
    let empty = lab.ruleset();
    let nothing = lab.with(Nft::snapshot).unwrap();
    let mut policy = plans::server();
    policy.rules.push(Rule {
        id: RuleId(6),
        ..ping_allowed()
    });
    lab.apply(&policy);
    lab.ban("192.0.2.7/32", None);
    lab.ban("198.51.100.0/24", Some(3_600));
    lab.reaches(SERVER[0]);
    let before = lab.stable();
    let bans = lab.bans();
    let snapshot = lab.with(Nft::snapshot).unwrap();
    lab.try_apply(&plans::content_rules(), Some(Queues { first: 0, count: 1 }))
        .unwrap();
    lab.with(|nft| nft.restore(&snapshot)).unwrap();
    assert_same(&lab.stable(), &before);
    assert_eq!(lab.bans(), bans);
    assert_eq!(lab.with(Nft::check).unwrap(), Drift::None);

    lab.try_apply(&plans::content_rules(), Some(Queues { first: 0, count: 1 }))
        .unwrap();
    let text = serde_json::to_string(&snapshot).unwrap();
    let read: portcullis_kernel::datapath::Snapshot = serde_json::from_str(&text).unwrap();
    // A stranger in another time zone: shell and nft alone.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot.nft");
    std::fs::write(&file, &read.script).unwrap();
    let run = |words: &Vec<String>| {
        let args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        lab.net.server.run(&words[0], &args).unwrap();
    };
    read.before.iter().for_each(run);
    lab.net
        .server
        .sh(&format!("TZ=America/New_York nft -f {}", file.display()))
        .unwrap();
    read.after.iter().for_each(run);
    assert_same(&lab.stable(), &before);

    lab.with(|nft| nft.restore(&nothing)).unwrap();
    assert_eq!(lab.ruleset(), empty);
}

#[test]
fn a_snapshot_keeps_the_bans_of_now_and_no_stand_in() {
    let Some(mut lab) = Lab::new() else { return };
    let nothing = lab.with(Nft::snapshot).unwrap();
    lab.apply(&plans::server());
    lab.ban("192.0.2.7/32", None);
    lab.ban("198.51.100.0/24", Some(3_600));
    let snapshot = lab.with(Nft::snapshot).unwrap();
    for by_process in [false, true] {
        lab.try_apply(&plans::content_rules(), Some(Queues { first: 0, count: 1 }))
            .unwrap();
        lab.ban("192.0.2.8/32", Some(3_600));
        lab.ban("2001:db8:7::/48", None);
        lab.with(|nft| nft.unban("192.0.2.7/32".parse().unwrap()))
            .unwrap();
        let bans = lab.bans();
        // As a process leaves it that is killed between its two transactions.
        let left = "add table inet portcullis_stand_in; add chain inet portcullis_stand_in c { type filter hook input priority 9; policy drop; }";
        lab.net.server.run("nft", &[left]).unwrap();
        assert!(matches!(
            lab.with(Nft::check).unwrap(),
            Drift::Changed { .. }
        ));
        if by_process {
            let script = lab.with(|_| portcullis_kernel::nft::script_with_bans(&snapshot));
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("snapshot.nft");
            std::fs::write(&file, script.unwrap()).unwrap();
            let path = file.display().to_string();
            lab.net.server.run("nft", &["-f", &path]).unwrap();
        } else {
            lab.with(|nft| nft.restore(&snapshot)).unwrap();
        }
        assert_eq!(lab.bans(), bans);
        assert!(!lab.ruleset().contains("stand_in"));
    }
    lab.with(|nft| nft.restore(&nothing)).unwrap();
}

#[test]
fn nothing_passes_and_nothing_is_cut_while_policies_change() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let Some(mut lab) = Lab::new() else { return };
    let addresses: policy::AddressSet = (0..20_000u32)
        .map(|n| {
            ipnet::IpNet::new(
                std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * 512).into(),
                32,
            )
            .unwrap()
        })
        .collect();
    let welcome = Rule {
        from: plans::of(&["10.77.1.2/32"]),
        ..ping_allowed()
    };
    let mut one = plans::plan(vec![welcome.clone()]);
    one.sets = vec![policy::NamedSet {
        name: "feed".into(),
        addresses,
    }];
    one.feeds = vec![policy::SetId(0)];
    let other = plans::plan(vec![plans::tcp("web", policy::Action::Allow, 80), welcome]);
    lab.apply(&one);
    assert!(lab.reaches(SERVER[0]));
    let stop = AtomicBool::new(false);
    let (client, attacker, server, nft) = (
        &lab.net.client,
        &lab.net.attacker,
        &lab.net.server,
        &mut lab.nft,
    );
    std::thread::scope(|scope| {
        let welcomed = scope.spawn(|| {
            let mut answered = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(
                    ping(client, None, SERVER[0], 20),
                    20,
                    "a welcome packet was cut"
                );
                answered += 20;
            }
            answered
        });
        let refused = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(
                    ping(attacker, None, SERVER[0], 200),
                    0,
                    "a refused packet passed"
                );
            }
        });
        let end = Stop(&stop);
        let none = AddressSet::default();
        for plan in [&other, &one].repeat(6) {
            let request = Apply {
                plan,
                protected: &none,
                queues: None,
                goes_on: false,
            };
            server.enter(|| nft.apply(&request)).unwrap().unwrap();
        }
        drop(end);
        let answered = welcomed.join().unwrap();
        refused.join().unwrap();
        assert!(answered >= 20, "{answered}");
    });
}

/// A bucket that no packet made measures its source by somebody else's rate, or never, for as long as it sends.
#[test]
fn what_others_put_into_a_meter_is_seen() {
    let Some(mut lab) = Lab::new() else { return };
    let mut policy = plans::plan(vec![Rule {
        rate: plans::limit(2, RateUnit::Packets, 1, 2),
        ..plans::rule("few", Action::Limit)
    }]);
    policy.detect.rate = Some(policy::RateLimit::default());
    lab.apply(&policy);
    let disturb = |lab: &Lab| {
        let commands = "nft add table inet other; nft delete table inet other";
        lab.net.server.sh(commands).unwrap();
    };
    let check = |lab: &mut Lab| lab.with(Nft::check).unwrap();
    for address in SERVER {
        assert!(lab.reaches(address));
        ping(&lab.net.client, None, address, 3);
    }
    let as_packets_do = "nft add element inet portcullis loud_tcp '{ 80, 81 timeout 4s }'";
    lab.net.server.sh(as_packets_do).unwrap();
    disturb(&lab);
    assert_eq!(check(&mut lab), Drift::Nearby, "what packets put there");
    for (set, key, bucket) in [
        ("limit_0_v4", "10.77.1.2", ""),
        ("limit_0_v6", "fd77:9::5", ""),
        (
            "limit_0_v4",
            "10.77.9.9",
            "limit rate 1000000/second timeout 9d",
        ),
        (
            "limit_0_v4",
            "10.77.9.9",
            "limit rate over 2/second burst 2 packets",
        ),
        ("rate_v4", "10.77.9.9", ""),
        ("crowd_tcp", "22", ""),
        ("loud_tcp", "22", "timeout 9d"),
        ("loud_udp", "53", "timeout 5s"),
    ] {
        let name = format!("inet portcullis {set}");
        let entry = format!("{name} '{{ {key} {bucket} }}'");
        let script = format!(
            "nft delete element {name} '{{ {key} }}' 2>/dev/null || true; nft add element {entry}"
        );
        lab.net.server.sh(&script).unwrap();
        let what = vec![format!("set {set} has an entry that no packet made")];
        let seen = Drift::Changed { what };
        // After each look the next one waits, so that looking takes a small part of the time.
        let is_seen = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            check(&mut lab) == seen
        });
        assert!(is_seen, "{entry}");
        assert_eq!(check(&mut lab), seen, "until it is put right: {entry}");
        lab.apply(&policy);
        assert_eq!(check(&mut lab), Drift::None, "{entry}");
    }
    let begun = Instant::now();
    let full: Vec<String> = (0..60_000u32)
        .map(|n| {
            format!(
                "10.88.{}.{} limit rate 2/second burst 2 packets timeout 1h",
                n >> 8,
                n & 255
            )
        })
        .collect();
    let full = format!(
        "add element inet portcullis limit_0_v4 {{ {} }}\n",
        full.join(", ")
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), full).unwrap();
    let load = format!("nft -f {}", file.path().display());
    lab.net.server.sh(&load).unwrap();
    let loaded = begun.elapsed();
    assert_eq!(check(&mut lab), Drift::Nearby, "as the rule says");
    eprintln!(
        "60,000 entries: loaded in {loaded:?}, looked at in {:?}",
        begun.elapsed() - loaded
    );
    lab.apply(&policy);
    // Where the rules stay in force as they are, so do their meters, and what is in them is found all the same.
    let name = "inet portcullis limit_0_v4";
    lab.net
        .server
        .sh(&format!(
            "nft add element {name} '{{ 10.77.9.9 timeout 1h }}'"
        ))
        .unwrap();
    let protected = AddressSet::default();
    let goes_on = Apply {
        plan: &policy,
        protected: &protected,
        queues: None,
        goes_on: true,
    };
    lab.with(|nft| nft.apply(&goes_on)).unwrap();
    // After a look at that much the next one waits, so that looking takes a small part of the time.
    let is_seen = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        matches!(check(&mut lab), Drift::Changed { .. })
    });
    assert!(is_seen);
}

/// While a program keeps a table of our name for itself, the kernel lets nobody else change it.
#[test]
fn who_holds_our_table_is_named() {
    let Some(mut lab) = Lab::new() else { return };
    for (is_applied, is_contained) in [(false, false), (true, false), (false, true)] {
        if is_applied {
            lab.apply(&plans::server());
        }
        let hold = "{ echo 'add table inet portcullis'; echo 'delete table inet portcullis'; echo 'add table inet portcullis { flags owner; }'; exec sleep 60; } | nft -i";
        // Another process has its number here.
        let contain = ["--pid", "--fork", "--kill-child", "sh", "-c", hold];
        let holder = if is_contained {
            lab.net.server.spawn("unshare", &contain).unwrap()
        } else {
            lab.net.server.spawn("sh", &contain[4..]).unwrap()
        };
        let is_held = || {
            let tables = lab.net.server.run("nft", &["list", "ruleset"]).unwrap();
            tables.contains("flags owner")
        };
        assert!((0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            is_held()
        }));
        let named = |outcome: Result<(), DatapathError>| {
            let error = outcome.unwrap_err();
            assert!(matches!(error, DatapathError::Held { .. }), "{error}");
            let text = error.to_string();
            let named = text.contains(", \"nft\")");
            assert_eq!(named, !is_contained, "{text}");
            let unnamed = text.contains("a program with netlink port");
            assert_eq!(unnamed, is_contained, "{text}");
        };
        named(lab.try_apply(&plans::server(), None).map(drop));
        named(lab.with(Nft::snapshot).map(drop));
        if is_applied {
            named(lab.with(Nft::check).map(drop));
            let prefix = "192.0.2.7/32".parse().unwrap();
            named(lab.with(|nft| nft.ban(prefix, None)));
        }
        // What is there is not ours.
        lab.with(Nft::remove).unwrap();
        drop(holder);
        assert!((0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            lab.try_apply(&plans::server(), None).is_ok()
        }));
        lab.with(Nft::remove).unwrap();
        assert!(!lab.ruleset().contains("portcullis"));
    }
}
