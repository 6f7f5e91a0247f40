//! Bans on simulated time: how they grow, what the gate refuses, how they widen and are undone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

extern crate portcullis_engine as engine;

#[path = "../common/mod.rs"]
mod common;
mod model;

use std::net::IpAddr;
use std::time::Duration;

use common::{Bench, plan, set};
use engine::{Ban, BanOrigin, BanRefused, Detector, EventBody, NoSource};
use ipnet::IpNet;
use policy::{AddressSet, Timestamp};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A detector asks for ten minutes.
fn offend(bench: &mut Bench, prefix: &str, proven: bool) -> Result<Ban, BanRefused> {
    let ban = Ban {
        prefix: net(prefix),
        origin: BanOrigin::Detector(Detector::Payload),
        reason: "test".into(),
        since: bench.now,
        expires: bench.now.after(10 * MINUTE),
        times_banned: 1,
        offences: u32::from(proven),
        grew_from: Vec::new(),
        would_be: false,
        evidence: None,
    };
    bench.engine.adopt_ban(ban, bench.now)
}

fn by_hand(bench: &mut Bench, prefix: &str, span: Duration) -> Result<Ban, BanRefused> {
    let (now, prefix) = (bench.now, net(prefix));
    let reason = "test".to_owned();
    bench
        .engine
        .ban(now, prefix, Some(span), BanOrigin::Manual, reason)
}

fn later(bench: &mut Bench, span: Duration) {
    bench.now = bench.now.after(span);
    bench.engine.advance(bench.now);
}

fn is_banned(bench: &Bench, address: &str) -> bool {
    let address: IpAddr = address.parse().unwrap();
    bench.engine.ban_of(address, bench.now).is_some()
}

fn refusals(bench: &mut Bench) -> Vec<BanRefused> {
    let refused = |event: engine::Event| match event.body {
        EventBody::BanRefused { refused, .. } => Some(refused),
        _ => None,
    };
    bench.events().into_iter().filter_map(refused).collect()
}

#[test]
fn each_further_ban_lasts_twice_as_long_up_to_a_week() {
    let mut bench = Bench::new(plan(vec![]));
    let minutes: Vec<u64> = (0..13)
        .map(|_| {
            let ban = offend(&mut bench, "203.0.113.7/32", true).unwrap();
            let lasts = ban.expires.since(ban.since);
            later(&mut bench, lasts);
            lasts.as_secs() / 60
        })
        .collect();
    assert_eq!(
        minutes,
        [
            10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 10_080, 10_080, 10_080
        ]
    );
    let other = offend(&mut bench, "203.0.113.8/32", true).unwrap();
    assert_eq!((other.times_banned, other.offences), (1, 1));
    later(&mut bench, 31 * DAY);
    let forgotten = offend(&mut bench, "203.0.113.7/32", true).unwrap();
    assert_eq!((forgotten.times_banned, forgotten.offences), (1, 1));
    assert_eq!(forgotten.expires.since(forgotten.since), 10 * MINUTE);
}

/// Observing shows how bans would grow, and what was shown makes no ban that is done longer.
#[test]
fn what_only_would_have_been_counts_for_nothing_when_enforcing_begins() {
    let mut bench = Bench::new(plan(vec![]));
    let minutes = |ban: &Ban| ban.expires.since(ban.since).as_secs() / 60;
    let (often, once) = ("203.0.113.7/32", "203.0.113.8/32");
    // Really banned once before anybody observed.
    let real = offend(&mut bench, once, true).unwrap();
    assert!(!real.would_be);
    later(&mut bench, 10 * MINUTE);

    bench.engine.only_observe(true);
    for expected in [10, 20, 40] {
        let ban = offend(&mut bench, often, true).unwrap();
        assert_eq!((minutes(&ban), ban.would_be), (expected, true));
        later(&mut bench, ban.expires.since(ban.since));
    }
    let again = offend(&mut bench, once, true).unwrap();
    assert_eq!(minutes(&again), 20);
    let wanted = by_hand(&mut bench, "203.0.113.9/32", MINUTE * 60).unwrap();
    assert!(!wanted.would_be, "a person wants it");
    // Nothing that only would be takes the place of what a person wants.
    let kept = offend(&mut bench, "203.0.113.9/32", true).unwrap();
    assert_eq!(kept.origin, BanOrigin::Manual);
    let now = bench.now;
    assert_eq!(bench.engine.offender(net(often), now).times, 0);
    assert!(
        bench
            .engine
            .offenders()
            .all(|known| known.prefix != net(often))
    );

    bench.engine.only_observe(false);
    let gone = bench.engine.take_would_be();
    let gone: Vec<IpNet> = gone.iter().map(|ban| ban.prefix).collect();
    assert_eq!(gone, [net(once)]);
    assert!(!is_banned(&bench, "203.0.113.8") && is_banned(&bench, "203.0.113.9"));
    let first = offend(&mut bench, often, true).unwrap();
    assert_eq!((minutes(&first), first.times_banned), (10, 1));
    let second = offend(&mut bench, once, true).unwrap();
    assert_eq!(
        (minutes(&second), second.times_banned),
        (20, 2),
        "what was done counts"
    );
}

/// What the kernel leaves out when it bans by itself is what the gate refuses.
#[test]
fn the_unbannable_are_those_whose_ban_as_a_source_is_refused() {
    let protected = set(&["192.0.2.1/32", "2001:db8::1/128", "2001:db8:1::/127"]);
    let mut bench = Bench::new(plan(vec![]));
    let now = bench.now;
    bench
        .engine
        .set_addresses(AddressSet::default(), protected.clone(), now);
    let unbannable = engine::source::unbannable(&protected);
    let borders = [
        "0.0.0.0",
        "1.0.0.0",
        "127.0.0.0",
        "128.0.0.0",
        "192.0.2.1",
        "192.0.2.2",
        "224.0.0.0",
        "240.0.0.0",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "0:0:0:1::",
        "2001:db8::",
        "2001:db8:0:1::",
        "2001:db8:1::",
        "2001:db8:1:1::",
        "fe80::",
        "fe80:0:0:1::",
        "fec0::",
        "ff00::",
        "ffff::",
    ];
    let keys = borders.map(|address| policy::address_key(address.parse().unwrap()));
    for key in keys
        .iter()
        .flat_map(|key| [key.wrapping_sub(1), *key, key + 1])
    {
        let address = policy::key_address(key);
        let length = if address.is_ipv4() { 32 } else { 64 };
        let source = IpNet::new(address, length).unwrap().trunc();
        let origin = BanOrigin::Detector(Detector::IcmpFlood);
        let refused = bench
            .engine
            .ban(now, source, None, origin, String::new())
            .is_err();
        assert_eq!(unbannable.contains_key(key), refused, "{address}");
    }
}

#[test]
fn an_offence_that_several_workers_find_is_one() {
    let mut bench = Bench::new(plan(vec![]));
    for _ in 0..4 {
        let ban = offend(&mut bench, "203.0.113.7/32", true).unwrap();
        assert_eq!((ban.offences, ban.times_banned), (1, 1));
        assert_eq!(ban.expires, bench.now.after(10 * MINUTE));
    }
    assert_eq!(bench.events().len(), 1);
    // The other worker was a minute behind.
    later(&mut bench, MINUTE);
    let ban = offend(&mut bench, "203.0.113.7/32", true).unwrap();
    assert_eq!((ban.offences, ban.times_banned), (1, 1));
    assert_eq!(ban.expires, bench.now.after(10 * MINUTE));
    later(&mut bench, 11 * MINUTE);
    let ban = offend(&mut bench, "203.0.113.7/32", true).unwrap();
    assert_eq!(ban.offences, 2);
    assert_eq!(ban.expires, bench.now.after(20 * MINUTE));
}

#[test]
fn what_a_worker_finds_cuts_no_longer_ban_short() {
    for around in ["203.0.113.7/32", "203.0.113.0/24"] {
        let mut bench = Bench::new(plan(vec![]));
        let by_hand = by_hand(&mut bench, around, 30 * DAY).unwrap();
        let kept = offend(&mut bench, "203.0.113.7/32", true).unwrap();
        assert_eq!(kept, by_hand);
        let held: Vec<&Ban> = bench.engine.bans().collect();
        assert_eq!(held, [&by_hand]);
    }
}

#[test]
fn what_a_third_party_could_forge_never_makes_a_ban_longer() {
    let mut bench = Bench::new(plan(vec![]));
    let mut lasts = |proven| {
        let ban = offend(&mut bench, "203.0.113.7/32", proven).unwrap();
        later(&mut bench, 20 * MINUTE);
        (
            ban.expires.since(ban.since).as_secs() / 60,
            ban.times_banned,
        )
    };
    assert_eq!(lasts(false), (10, 1));
    assert_eq!(lasts(false), (10, 2));
    assert_eq!(
        lasts(true),
        (10, 3),
        "the first that the source itself earned"
    );
    assert_eq!(
        lasts(false),
        (10, 4),
        "the first step, whatever came before"
    );
    assert_eq!(lasts(true), (20, 5));
}

#[test]
fn escalation_can_be_turned_off_and_shortens_nothing() {
    let mut policy = plan(vec![]);
    policy.ban.escalation = false;
    let mut bench = Bench::new(policy.clone());
    for _ in 0..3 {
        let ban = offend(&mut bench, "203.0.113.7/32", true).unwrap();
        assert_eq!(ban.expires.since(ban.since), 10 * MINUTE);
        later(&mut bench, DAY);
    }
    policy.ban.escalation = true;
    policy.ban.longest = MINUTE;
    let mut bench = Bench::new(policy);
    let ban = offend(&mut bench, "203.0.113.7/32", true).unwrap();
    assert_eq!(ban.expires.since(ban.since), 10 * MINUTE);
}

#[test]
fn what_a_person_lifts_begins_anew() {
    let mut bench = Bench::new(plan(vec![]));
    for _ in 0..3 {
        offend(&mut bench, "203.0.113.7/32", true).unwrap();
        later(&mut bench, DAY);
    }
    offend(&mut bench, "203.0.113.7/32", true).unwrap();
    bench
        .engine
        .unban(bench.now, net("::ffff:203.0.113.7/128"))
        .unwrap();
    let ban = offend(&mut bench, "203.0.113.7/32", true).unwrap();
    assert_eq!(ban.expires.since(ban.since), 10 * MINUTE);
    assert_eq!(ban.times_banned, 5, "it stays known how often it was");
}

#[test]
fn the_gate_refuses_with_a_reason_and_ipv4_stays_ipv4() {
    let mut bench = Bench::new(plan(vec![]));
    let protected = set(&["192.0.2.0/28", "2001:db8:5::1/128"]);
    bench
        .engine
        .set_addresses(AddressSet::default(), protected, bench.now);
    for (prefix, why) in [
        ("0.0.0.0/0", NoSource::TooWide),
        ("10.0.0.0/7", NoSource::TooWide),
        ("2000::/15", NoSource::TooWide),
        ("0.0.0.0/32", NoSource::Unspecified),
        ("0.1.2.3/32", NoSource::Unspecified),
        ("::/128", NoSource::Unspecified),
        ("127.0.0.0/8", NoSource::Loopback),
        ("127.3.2.1/32", NoSource::Loopback),
        ("::1/128", NoSource::Loopback),
        ("::ffff:127.0.0.1/128", NoSource::Loopback),
        ("224.0.0.1/32", NoSource::Multicast),
        ("239.0.0.0/8", NoSource::Multicast),
        ("ff02::1/128", NoSource::Multicast),
        ("::ffff:224.0.0.1/128", NoSource::Multicast),
        ("255.255.255.255/32", NoSource::Broadcast),
        ("fe80::/64", NoSource::LinkLocal),
        ("fe80::/10", NoSource::TooWide),
        ("::fff0:0:0/90", NoSource::Mapped),
    ] {
        match by_hand(&mut bench, prefix, MINUTE) {
            Err(BanRefused::NotASource { why: found, .. }) => assert_eq!(found, why, "{prefix}"),
            other => panic!("{prefix}: {other:?}"),
        }
    }
    for prefix in [
        "192.0.2.0/24",
        "192.0.2.3/32",
        "::ffff:192.0.2.3/128",
        "2001:db8:5::/64",
    ] {
        let refused = by_hand(&mut bench, prefix, MINUTE);
        assert!(
            matches!(refused, Err(BanRefused::Protected { .. })),
            "{prefix}: {refused:?}"
        );
    }
    for (prefix, banned) in [
        ("::ffff:198.51.100.7/128", "198.51.100.7/32"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("198.51.100.9/25", "198.51.100.0/25"),
        ("fe80::7/128", "fe80::7/128"),
        ("169.254.1.2/32", "169.254.1.2/32"),
    ] {
        let ban = by_hand(&mut bench, prefix, MINUTE).unwrap();
        assert_eq!(ban.prefix, net(banned));
    }
    assert!(is_banned(&bench, "198.51.100.7") && is_banned(&bench, "::ffff:198.51.100.7"));
    let wide = offend(&mut bench, "203.0.0.0/16", true);
    assert!(
        matches!(wide, Err(BanRefused::Collateral { collateral: 24, .. })),
        "{wide:?}"
    );
    let restored = Ban {
        prefix: net("::ffff:192.0.2.1/128"),
        ..by_hand(&mut bench, "198.51.100.99/32", MINUTE).unwrap()
    };
    let refused = bench.engine.restore_ban(restored, bench.now);
    assert!(matches!(refused, Err(BanRefused::Protected { .. })));
}

#[test]
fn a_refusal_is_told_once_a_minute_for_each_prefix() {
    let mut policy = plan(vec![]);
    policy.ban.capacity = 1;
    let mut bench = Bench::new(policy);
    let protected = set(&["192.0.2.1/32", "192.0.2.2/32"]);
    bench
        .engine
        .set_addresses(AddressSet::default(), protected, bench.now);
    for _ in 0..100 {
        offend(&mut bench, "192.0.2.1/32", false).unwrap_err();
        offend(&mut bench, "192.0.2.2/32", true).unwrap_err();
    }
    assert_eq!(refusals(&mut bench).len(), 2);
    assert_eq!(bench.engine.untold_refusals(), 198);
    later(&mut bench, MINUTE);
    offend(&mut bench, "192.0.2.1/32", false).unwrap_err();
    assert_eq!(refusals(&mut bench).len(), 1);
    // A full table refuses other prefixes each time, and is one story.
    offend(&mut bench, "203.0.113.1/32", false).unwrap();
    for n in 2..100 {
        offend(&mut bench, &format!("203.0.113.{n}/32"), false).unwrap_err();
    }
    assert_eq!(refusals(&mut bench).len(), 1);
    // A clock that was set back by a day does not silence for a day.
    bench.now =
        Timestamp::from_nanos(bench.now.as_nanos() - u64::try_from(DAY.as_nanos()).unwrap());
    offend(&mut bench, "192.0.2.1/32", false).unwrap_err();
    assert_eq!(refusals(&mut bench).len(), 1);
}

/// Bans the first subnets of `2001:db8:0:XX00::/56`.
fn subnets(bench: &mut Bench, site: u8, count: u8, proven: bool) {
    for subnet in 0..count {
        offend(
            bench,
            &format!("2001:db8:0:{site:x}{subnet:02x}::/64"),
            proven,
        )
        .unwrap();
    }
}

#[test]
fn four_subnets_of_a_56_widen_and_sixteen_of_a_48() {
    let mut bench = Bench::new(plan(vec![]));
    subnets(&mut bench, 1, 3, true);
    assert!(!is_banned(&bench, "2001:db8:0:1ff::1"));
    subnets(&mut bench, 2, 9, false);
    assert!(
        !is_banned(&bench, "2001:db8:0:2ff::1"),
        "forged evidence widens nothing"
    );
    offend(&mut bench, "2001:db8:0:109::/64", true).unwrap();
    let wide = bench
        .engine
        .ban_of("2001:db8:0:1ff::1".parse().unwrap(), bench.now)
        .unwrap()
        .clone();
    assert_eq!(wide.prefix, net("2001:db8:0:100::/56"));
    assert_eq!(wide.grew_from.len(), 4);
    assert_eq!(
        wide.reason,
        "4 of its subnets were banned; the last for: test"
    );
    assert!(!is_banned(&bench, "2001:db8:0:300::1"));
    for site in 3..7 {
        subnets(&mut bench, site, 3, true);
    }
    let wide = bench
        .engine
        .ban_of("2001:db8:0:ffff::1".parse().unwrap(), bench.now)
        .unwrap();
    assert_eq!(wide.prefix, net("2001:db8::/48"));
    assert_eq!(wide.grew_from.len(), 16);
    let all: Vec<String> = bench
        .engine
        .bans_of("2001:db8:0:100::1".parse().unwrap(), bench.now)
        .iter()
        .map(|ban| ban.prefix.to_string())
        .collect();
    assert_eq!(
        all,
        [
            "2001:db8:0:100::/64",
            "2001:db8:0:100::/56",
            "2001:db8::/48"
        ]
    );
}

#[test]
fn a_wide_ban_is_undone_exactly_and_does_not_come_back_by_the_same_offences() {
    let mut bench = Bench::new(plan(vec![]));
    let narrow = [0, 1, 2, 3].map(|n| format!("2001:db8:0:10{n}::1"));
    by_hand(&mut bench, "2001:db8:0:100::/64", 30 * DAY).unwrap();
    for subnet in 1..4 {
        offend(&mut bench, &format!("2001:db8:0:10{subnet}::/64"), true).unwrap();
    }
    assert!(is_banned(&bench, "2001:db8:0:1ff::1"));
    bench
        .engine
        .unban(bench.now, net("2001:db8:0:100::/56"))
        .unwrap();
    assert!(!is_banned(&bench, "2001:db8:0:1ff::1"));
    assert!(
        narrow.iter().all(|address| is_banned(&bench, address)),
        "the narrower ones stay"
    );
    later(&mut bench, MINUTE);
    for subnet in 4..7 {
        offend(&mut bench, &format!("2001:db8:0:10{subnet}::/64"), true).unwrap();
        assert!(!is_banned(&bench, "2001:db8:0:1ff::1"), "{subnet}");
    }
    offend(&mut bench, "2001:db8:0:107::/64", true).unwrap();
    assert!(
        is_banned(&bench, "2001:db8:0:1ff::1"),
        "four new ones are another matter"
    );
    later(&mut bench, 10 * MINUTE);
    assert!(!is_banned(&bench, "2001:db8:0:1ff::1"));
    assert!(
        is_banned(&bench, &narrow[0]),
        "what ends later outlives the wide ban"
    );
}

#[test]
fn nothing_widens_over_a_protected_address_and_the_record_says_why() {
    let mut bench = Bench::new(plan(vec![]));
    let protected = set(&["2001:db8:0:2aa::9/128", "192.0.2.200/32"]);
    bench
        .engine
        .set_addresses(AddressSet::default(), protected, bench.now);
    subnets(&mut bench, 2, 9, true);
    assert!(!is_banned(&bench, "2001:db8:0:2ff::1"));
    let told = refusals(&mut bench);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        told[0].to_string(),
        "2001:db8:0:200::/56 holds the protected address 2001:db8:0:2aa::9; `portcullis why 2001:db8:0:2aa::9` says what protects it"
    );
    subnets(&mut bench, 3, 7, true);
    assert!(is_banned(&bench, "2001:db8:0:3ff::1"));
}

#[test]
fn ipv4_widens_only_when_asked_and_never_beyond_the_collateral() {
    for (widen, collateral, banned) in [(false, 24, false), (true, 24, true), (true, 25, false)] {
        let mut policy = plan(vec![]);
        policy.ban.ipv4.widen = widen;
        policy.ban.ipv4.collateral = collateral;
        let mut bench = Bench::new(policy);
        for n in 0..16 {
            assert!(!is_banned(&bench, "198.51.100.200"));
            offend(&mut bench, &format!("198.51.100.{n}/32"), true).unwrap();
        }
        assert_eq!(
            is_banned(&bench, "198.51.100.200"),
            banned,
            "{widen} /{collateral}"
        );
        assert!(!is_banned(&bench, "198.51.101.1"));
    }
}
