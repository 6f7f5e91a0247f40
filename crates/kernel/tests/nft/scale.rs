//! Large feeds, policies and ban lists.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use policy::protocol::UDP;
use policy::{Action, AddressSet, NamedSet, Protocols, Rule, RuleId, SetId};
use portcullis_kernel::datapath::{Apply, Datapath as _, DatapathError};
use portcullis_kernel::nft::{Features, Nft};
use portcullis_kernel::tag::Cause;

use crate::plans::{self, of, plan, ports, rule, tcp};
use crate::stage::{Lab, SERVER, ping_allowed};

#[test]
fn a_hundred_thousand_addresses_and_ten_thousand_rules_apply() {
    let Some(mut lab) = Lab::new() else { return };
    let feed: AddressSet = (0..100_000u32)
        .map(|n| {
            IpNet::new(
                std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * 512).into(),
                if n % 10 == 0 { 24 } else { 32 },
            )
            .unwrap()
        })
        .collect();
    let mut policy = plans::server();
    policy.sets.push(NamedSet {
        name: "feed".into(),
        addresses: feed,
    });
    policy.feeds.push(SetId(2));
    // Three times: what stands in the way of the next is left by the one before.
    for _ in 0..3 {
        let applied = lab.apply(&policy);
        assert_eq!(applied.elements, 100_000 + 20);
        eprintln!("100,000 addresses: {applied:?}");
    }

    let rules = (0..10_000u32).map(|n| {
        let action = [Action::Allow, Action::Deny, Action::Reject][n as usize % 3];
        match n % 4 {
            0 => Rule {
                from: of(&[&format!("10.{}.{}.0/24", n / 256 % 256, n % 256)]),
                ..tcp("subnet", action, (n % 1_000) as u16)
            },
            1 => Rule {
                from: of(&[&format!("2001:db8:{n:x}::/48")]),
                ..rule("site", action)
            },
            2 => Rule {
                protocols: Protocols::one(UDP),
                port: ports(&[(n as u16, n as u16 + 3)]),
                ..rule("udp", action)
            },
            _ => Rule {
                from: of(&[&format!("10.{}.{}.7/32", n / 256 % 256, n % 256)]),
                to: of(&["10.77.1.1/32"]),
                ..rule("host", action)
            },
        }
    });
    let mut policy = plan(rules.collect());
    policy.rules.push(Rule {
        id: RuleId(10_000),
        ..ping_allowed()
    });
    let policy = policy;
    let begun = Instant::now();
    let script = Nft::new(Features { queue: false })
        .script(&Apply {
            plan: &policy,
            protected: &AddressSet::default(),
            queues: None,
            goes_on: false,
        })
        .unwrap();
    let compiled = begun.elapsed();
    if let Some(file) = std::env::var_os("SCRIPT_OUT") {
        std::fs::write(file, &script.text).unwrap();
    }
    let applied = lab.apply(&policy);
    eprintln!(
        "10,000 rules: compiled in {compiled:?}, {} bytes, {applied:?}",
        script.text.len()
    );
    // Text that grows with the rules, and not with their square.
    assert!(script.text.len() < 10_000 * 1_000, "{}", script.text.len());
    assert!(lab.reaches(SERVER[0]));
    assert_eq!(lab.count(Cause::Rule(RuleId(10_000))), 1);
    let begun = Instant::now();
    lab.apply(&plans::server());
    eprintln!("back to a small policy: {:?}", begun.elapsed());
}

#[test]
fn a_hundred_thousand_bans_in_one_transaction() {
    let Some(mut lab) = Lab::new() else { return };
    lab.apply(&plan(vec![ping_allowed()]));
    let bans: Vec<(IpNet, Option<Duration>)> = (0..100_000u32)
        .map(|n| {
            (
                IpNet::new(
                    std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * 7).into(),
                    32,
                )
                .unwrap(),
                Some(Duration::from_secs(3_600)),
            )
        })
        .collect();
    let begun = Instant::now();
    lab.with(|nft| nft.bans_many(&bans)).unwrap();
    eprintln!("100,000 bans: {:?}", begun.elapsed());
    assert_eq!(lab.with(Nft::bans).unwrap().len(), 100_000);
    let full = lab.with(|nft| nft.ban("192.0.2.1/32".parse().unwrap(), None));
    assert!(matches!(full, Err(DatapathError::BansFull)), "{full:?}");
    // What is there already can be banned anew even so.
    lab.with(|nft| nft.ban(bans[5].0, None)).unwrap();
    assert!(
        lab.with(Nft::bans)
            .unwrap()
            .iter()
            .any(|ban| ban.prefix == bans[5].0 && ban.remaining.is_none())
    );
    assert!(
        lab.with(|nft| nft.bans_many(&[("192.0.2.1/32".parse().unwrap(), None)]))
            .is_err()
    );
    let begun = Instant::now();
    lab.apply(&plans::server());
    eprintln!("a policy over 100,000 bans: {:?}", begun.elapsed());
    assert_eq!(lab.with(Nft::bans).unwrap().len(), 100_000);
    let single = lab.with(|nft| {
        nft.unban(bans[0].0).unwrap();
        let begun = Instant::now();
        for _ in 0..100 {
            nft.ban(bans[0].0, Some(Duration::from_secs(60))).unwrap();
            nft.unban(bans[0].0).unwrap();
        }
        begun.elapsed() / 200
    });
    eprintln!("one ban by netlink: {single:?}");
    assert!(single < Duration::from_millis(5));
}
