//! Bans: made, refreshed, ended, kept over policies.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use policy::{Action, AddressSet, NamedSet, Plan, SetId};
use portcullis_kernel::datapath::{Datapath as _, Drift};
use portcullis_kernel::nft::{Features, Nft};
use portcullis_kernel::tag::Cause;

use crate::plans::{self, plan, set, tcp};
use crate::stage::{Lab, Outcome, SERVER, ping, ping_allowed};

#[test]
fn bans_survive_another_policy_and_another_capacity() {
    let Some(mut lab) = Lab::new() else { return };
    lab.apply(&plans::server());
    let bans: [(&str, Option<u64>); 6] = [
        ("192.0.2.7/32", Some(3_600)),
        ("198.51.100.0/24", Some(7_200)),
        ("203.0.113.9/32", None),
        ("2001:db8:1::/64", Some(3_600)),
        ("2001:db8:2::/48", None),
        ("2001:db8:3::5/128", Some(100)),
    ];
    for (prefix, secs) in bans {
        lab.ban(prefix, secs);
    }
    let wanted: Vec<(String, Option<u64>)> = bans
        .iter()
        .map(|(prefix, secs)| ((*prefix).to_owned(), *secs))
        .collect();
    assert_eq!(lab.bans(), wanted);
    assert_eq!(
        lab.with(Nft::check).unwrap(),
        Drift::None,
        "own bans are no drift"
    );
    lab.apply(&plans::content_rules());
    assert_eq!(lab.bans(), wanted);
    for capacity in [500_000, 3, 50] {
        let mut plan = Plan::default();
        plan.ban.capacity = capacity;
        lab.apply(&plan);
        assert_eq!(lab.bans(), wanted, "{capacity}");
    }
    // A table of another version, without one of the sets.
    lab.net
        .server
        .sh("nft flush table inet portcullis; nft delete set inet portcullis ban6")
        .unwrap();
    lab.apply(&plans::server());
    let fewer: Vec<_> = wanted
        .iter()
        .filter(|(prefix, _)| !prefix.ends_with("/128"))
        .cloned()
        .collect();
    assert_eq!(lab.bans(), fewer);
    lab.ban("2001:db8:3::5/128", Some(100));
    // A second process takes over.
    lab.nft = Nft::new(Features { queue: false });
    assert!(matches!(
        lab.with(Nft::check).unwrap(),
        Drift::Changed { .. }
    ));
    lab.apply(&plans::server());
    assert_eq!(lab.bans(), wanted);
    assert!(
        lab.with(|nft| nft.unban("198.51.100.0/24".parse().unwrap()))
            .unwrap()
    );
    assert!(
        !lab.with(|nft| nft.unban("198.51.100.0/24".parse().unwrap()))
            .unwrap()
    );
    assert!(
        lab.with(|nft| nft.unban("203.0.113.9/32".parse().unwrap()))
            .unwrap()
    );
    assert!(
        !lab.with(|nft| nft.unban("203.0.113.9/32".parse().unwrap()))
            .unwrap()
    );
    assert_eq!(lab.bans().len(), 4);
}

#[test]
fn a_ban_cuts_within_milliseconds_is_refreshed_and_ends_by_itself() {
    let Some(mut lab) = Lab::new() else { return };
    lab.apply(&plan(vec![ping_allowed(), tcp("web", Action::Allow, 80)]));
    let listeners = lab.listen(80);
    let Outcome::Open(mut stream) = lab.connect(SERVER[0], 80) else {
        panic!("not connected")
    };
    let (mut accepted, _) = listeners[0].accept().unwrap();
    stream.write_all(b"before").unwrap();
    accepted.read_exact(&mut [0; 6]).unwrap();

    for (target, prefix) in [
        (SERVER[0], "10.77.1.2/32"),
        (SERVER[1], "fd77:1::/64"),
        (SERVER[0], "10.77.0.0/16"),
        (SERVER[1], "fd77:1::2/128"),
        (SERVER[1], "fd77::/16"),
    ] {
        assert!(lab.reaches(target));
        let begun = Instant::now();
        lab.ban(prefix, Some(3_600));
        assert!(
            begun.elapsed() < Duration::from_millis(50),
            "{:?}",
            begun.elapsed()
        );
        assert!(!lab.pings(target), "{prefix}");
        assert!(lab.with(|nft| nft.unban(prefix.parse().unwrap())).unwrap());
        assert!(lab.reaches(target), "{prefix}");
    }
    // Established connections are cut too.
    lab.ban("10.77.1.2/32", Some(3_600));
    stream.write_all(b"after").unwrap();
    accepted
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(accepted.read(&mut [0; 6]).is_err());
    assert!(lab.count(Cause::Banned) >= 6);
    // Banned anew, with another time left; then it runs out.
    lab.ban("10.77.1.2/32", Some(1));
    let left = lab.with(Nft::bans).unwrap()[0].remaining.unwrap();
    assert!(left <= Duration::from_secs(1), "{left:?}");
    std::thread::sleep(Duration::from_millis(1_300));
    assert!(lab.bans().is_empty());
    assert!(lab.reaches(SERVER[0]));
}

#[test]
fn prefix_bans_may_overlap_and_run_out_one_by_one() {
    let Some(mut lab) = Lab::new() else { return };
    lab.apply(&plan(vec![ping_allowed()]));
    lab.ban("10.77.1.0/25", Some(1));
    lab.ban("10.77.1.0/24", Some(3));
    lab.ban("10.77.0.0/16", Some(2));
    assert!(!lab.pings(SERVER[0]));
    std::thread::sleep(Duration::from_millis(1_200));
    // What ran out lies inside of what did not; a wider ban comes on top of the leftovers.
    lab.ban("10.77.0.0/17", Some(1));
    lab.ban("10.76.0.0/15", Some(2));
    assert!(!lab.pings(SERVER[0]));
    let covered: AddressSet = lab
        .with(Nft::bans)
        .unwrap()
        .iter()
        .map(|ban| ban.prefix)
        .collect();
    assert_eq!(covered, set(&["10.76.0.0/15"]));
    std::thread::sleep(Duration::from_millis(2_300));
    assert!(lab.reaches(SERVER[0]));
    assert!(lab.bans().is_empty());
    // Leftovers of ranges that ran out do not split a new one.
    lab.ban("10.77.1.0/28", Some(1));
    lab.ban("10.77.1.64/28", Some(1));
    std::thread::sleep(Duration::from_millis(1_200));
    lab.ban("10.77.1.0/24", Some(60));
    for host in ["10.77.1.2", "10.77.1.17", "10.77.1.90", "10.77.1.254"] {
        lab.net
            .client
            .run("ip", &["addr", "add", &format!("{host}/32"), "dev", "s0"])
            .ok();
        assert_eq!(ping(&lab.net.client, Some(host), SERVER[0], 1), 0, "{host}");
    }
}

#[test]
fn protected_addresses_pass_bans_and_feeds_but_not_rules() {
    let Some(mut lab) = Lab::new() else { return };
    let mut policy = plan(vec![
        tcp("never", Action::Deny, 82),
        ping_allowed(),
        tcp("web", Action::Allow, 80),
    ]);
    policy.sets = vec![NamedSet {
        name: "feed".into(),
        addresses: set(&["10.77.0.0/16", "fd77::/16"]),
    }];
    policy.feeds = vec![SetId(0)];
    lab.apply(&policy);
    assert!(!lab.pings(SERVER[0]) && !lab.pings(SERVER[1]));
    assert_eq!(lab.count(Cause::Feed(SetId(0))), 2);
    policy.protect.addresses = set(&["10.77.1.2/32", "fd77:1::2/128"]);
    lab.apply(&policy);
    lab.ban("10.77.1.2/32", None);
    lab.ban("fd77:1::/64", None);
    assert!(lab.reaches(SERVER[0]) && lab.reaches(SERVER[1]));
    let _listeners = lab.listen(82);
    assert_eq!(lab.connect(SERVER[0], 82).name(), "silence");
}

#[test]
fn a_neighbour_that_floods_from_its_link_local_address_takes_no_other_with_it() {
    let Some(mut lab) = Lab::new() else { return };
    let mut policy = plan(vec![ping_allowed()]);
    policy.default.inbound = policy::DefaultAction::Allow;
    policy.detect.icmp_flood = Some(policy::PacketFlood {
        packets: 20,
        response: policy::Response::Ban,
        ..policy::PacketFlood::icmp()
    });
    lab.apply(&policy);
    // Whatever its source: multicast takes the link-local one.
    lab.net
        .client
        .command("ping")
        .args([
            "-6",
            "-c",
            "100",
            "-i",
            "0.002",
            "-W",
            "1",
            "-q",
            "ff02::1%s0",
        ])
        .output()
        .unwrap();
    assert!(lab.count(Cause::IcmpFlood) > 0, "there was a flood");
    assert_eq!(lab.bans(), []);
}

#[test]
fn a_ban_rule_bans_by_itself_but_never_the_protected() {
    let Some(mut lab) = Lab::new() else { return };
    let bait = tcp("bait", Action::Ban(Duration::from_secs(600)), 23);
    lab.apply(&plan(vec![bait.clone(), ping_allowed()]));
    assert!(lab.reaches(SERVER[0]) && lab.reaches(SERVER[1]));
    assert_eq!(lab.connect(SERVER[0], 23).name(), "silence");
    assert_eq!(lab.connect(SERVER[1], 23).name(), "silence");
    assert!(!lab.pings(SERVER[0]) && !lab.pings(SERVER[1]));
    let for_ten_minutes =
        ["10.77.1.2/32", "fd77:1::/64"].map(|prefix| (prefix.to_owned(), Some(600)));
    assert_eq!(lab.bans(), for_ten_minutes);
    for prefix in ["10.77.1.2/32", "fd77:1::/64"] {
        assert!(lab.with(|nft| nft.unban(prefix.parse().unwrap())).unwrap());
    }
    let mut kind = plan(vec![bait, ping_allowed()]);
    kind.protect.addresses = set(&["10.77.1.2/32", "fd77:1::3/128"]);
    lab.apply(&kind);
    assert_eq!(lab.connect(SERVER[0], 23).name(), "silence");
    assert_eq!(lab.connect(SERVER[1], 23).name(), "silence");
    assert!(lab.bans().is_empty());
    assert!(lab.reaches(SERVER[0]) && lab.reaches(SERVER[1]));
}

#[test]
fn a_copy_that_cannot_be_taken_out_fails_no_apply_and_goes_when_it_can() {
    let Some(mut lab) = Lab::new() else { return };
    // Nobody but its owner deletes a table with one.
    let mut owner = lab
        .net
        .server
        .command("nft")
        .arg("-i")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let words = b"add table inet portcullis_stand_in { flags owner; }\n";
    owner.stdin.as_mut().unwrap().write_all(words).unwrap();
    let is_there = |lab: &Lab| lab.net.server.run("nft", &["list", "tables"]).unwrap();
    let begun = Instant::now();
    while !is_there(&lab).contains("stand_in") && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    lab.apply(&plan(vec![ping_allowed()]));
    assert!(is_there(&lab).contains("portcullis_stand_in"));
    assert!(lab.with(Nft::check).is_err(), "the copy is still there");
    // Now without an owner: it was there when this process was not.
    drop(owner.stdin.take());
    owner.wait().unwrap();
    lab.net
        .server
        .run("nft", &["add", "table", "inet", "portcullis_stand_in"])
        .unwrap();
    assert_eq!(lab.with(Nft::check).unwrap(), Drift::Nearby);
    assert!(!is_there(&lab).contains("portcullis_stand_in"));
    assert_eq!(lab.with(Nft::check).unwrap(), Drift::None);
}

#[test]
fn what_the_kernel_bans_by_itself_it_tells_once_however_much_is_logged() {
    let Some(mut lab) = Lab::new() else { return };
    let mut plan = plan(vec![ping_allowed()]);
    plan.detect.icmp_flood = Some(policy::PacketFlood {
        response: policy::Response::Ban,
        packets: 3,
        ..policy::PacketFlood::icmp()
    });
    lab.apply(&plan);
    assert_eq!(lab.with(Nft::take_own_bans).unwrap(), []);
    let overdo = |lab: &Lab| {
        for target in SERVER {
            assert!(ping(&lab.net.client, None, target, 8) < 8);
        }
    };
    overdo(&lab);
    let told = lab.with(Nft::take_own_bans).unwrap();
    let told: Vec<_> = told
        .iter()
        .map(|ban| (ban.held.prefix.to_string(), ban.cause))
        .collect();
    assert_eq!(
        told,
        [
            ("10.77.1.2/32".to_owned(), Cause::IcmpFlood),
            ("fd77:1::/64".to_owned(), Cause::IcmpFlood)
        ]
    );
    assert_eq!(lab.with(Nft::take_own_bans).unwrap(), [], "it is told once");
    let check = lab.with(Nft::check).unwrap();
    assert_eq!(check, Drift::None, "asking is no drift");
    // What was lifted before anybody asked is no ban any more.
    let lift = |lab: &mut Lab| {
        for prefix in ["10.77.1.2/32", "fd77:1::/64"] {
            assert!(lab.with(|nft| nft.unban(prefix.parse().unwrap())).unwrap());
        }
    };
    lift(&mut lab);
    std::thread::sleep(Duration::from_millis(1_500));
    overdo(&lab);
    lift(&mut lab);
    assert_eq!(lab.with(Nft::take_own_bans).unwrap(), []);
    // Without a plan there is nobody to ask.
    lab.net.server.sh("nft flush ruleset").unwrap();
    assert_eq!(lab.with(Nft::take_own_bans).unwrap(), []);
}
