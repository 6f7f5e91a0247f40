#![allow(clippy::unwrap_used, reason = "constants")]
use super::*;

const STANDARD: Thresholds = Thresholds {
    ports: 5,
    window: Duration::from_secs(10),
    slow_ports: 20,
    slow_window: Duration::from_secs(3_600),
    hosts: 10,
};

fn at(millis: u64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000 + millis * 1_000)
}

fn attempt(target: u32, port: u16, outcome: Outcome, millis: u64) -> Attempt {
    Attempt {
        source: "203.0.113.7".parse().unwrap(),
        direction: policy::Direction::In,
        contact: Contact {
            target: policy::address_key(IpAddr::V4(target.into())),
            at: at(millis),
            port,
            source_port: 40_000,
            protocol: 6,
            has_ports: true,
            outcome,
            technique: Technique::Syn,
            is_own: false,
            goes_out: false,
        },
    }
}

/// Runs steps of `(target, port, outcome, millis)`; the place of the first offence and its shape.
fn run(steps: impl IntoIterator<Item = (u32, u16, Outcome, u64)>) -> Option<(usize, Shape)> {
    let mut scan = Scan::new(STANDARD, 1_000, 3);
    let mut now = at(0);
    steps
        .into_iter()
        .enumerate()
        .find_map(|(place, (target, port, outcome, millis))| {
            now = now.max(at(millis));
            let evidence = scan.contact(1, &attempt(target, port, outcome, millis), now)?;
            match evidence.pattern {
                Pattern::Scan { shape, .. } => Some((place + 1, shape)),
                _ => None,
            }
        })
}

#[test]
fn what_is_a_scan_and_when() {
    use Outcome::{Failed, Pinged, Served};
    let same_port = (0..100).map(|n| (1, 80, Failed, n * 10));
    assert_eq!(run(same_port), None, "one closed port, again and again");
    let vertical = (0..9).map(|n| (1, n as u16, Failed, n * 100));
    assert_eq!(run(vertical), Some((5, Shape::Vertical)));
    let four = (0..400).map(|n| (1, (n % 4) as u16, Failed, n * 100));
    assert_eq!(run(four), None, "four are still none");
    let slow = (0..60).map(|n| (1, n as u16, Failed, n * 60_000));
    assert_eq!(run(slow), Some((20, Shape::Slow)));
    let slower = (0..60).map(|n| (1, n as u16, Failed, n * 200_000));
    assert_eq!(run(slower), None, "eighteen an hour");
    let border = (0..60).map(|n| (1, n as u16, Failed, n * 2_600));
    assert_eq!(run(border), Some((20, Shape::Slow)), "four in ten seconds");
    let served = (0..400).map(|n| (1, n as u16, Served, n));
    assert_eq!(run(served), None);
    let horizontal = (0..20).map(|n| (n as u32, 22, Failed, n * 100));
    assert_eq!(run(horizontal), Some((10, Shape::Horizontal)));
    let sweep = (0..20).map(|n| (n as u32, 0, Pinged, n * 100));
    assert_eq!(run(sweep), Some((10, Shape::Horizontal)));
    let pings = (0..100).map(|n| (n as u32 % 9, 0, Pinged, n * 100));
    assert_eq!(run(pings), None, "nine addresses, again and again");
}

#[test]
fn served_ports_between_do_not_hide_a_scan_and_many_excuse_a_few_failures() {
    use Outcome::{Failed, Served};
    // One service that answers, asked between any two probes.
    let between = (0..20).map(|n| match n % 2 {
        0 => (1, 80, Served, n * 10),
        _ => (1, 1_000 + n as u16, Failed, n * 10),
    });
    assert_eq!(
        run(between),
        Some((10, Shape::Vertical)),
        "the fifth closed"
    );
    let client = (0..15)
        .map(|n| (1, n, Served, u64::from(n)))
        .chain((100..105).map(|n| (1, n, Failed, u64::from(n))));
    assert_eq!(run(client), None, "fifteen services and five misses");
    let scanner = (0..15)
        .map(|n| (1, n, Served, u64::from(n)))
        .chain((100..120).map(|n| (1, n, Failed, u64::from(n))));
    assert_eq!(run(scanner), Some((23, Shape::Vertical)));
}

/// One source's memory is smaller than the slow threshold of each of them.
#[test]
fn who_probes_several_targets_in_turn_is_slow_at_one_of_them() {
    use Outcome::Failed;
    for (targets, millis) in [(2, 15_000), (2, 2_600), (3, 5_000), (5, 5_000), (9, 3_000)] {
        let turns = (0..2_000).map(|n| {
            (
                (n % targets) as u32,
                (n / targets) as u16,
                Failed,
                n * millis,
            )
        });
        let found = run(turns);
        let enough = found.is_some_and(|(probes, shape)| {
            shape == Shape::Slow
                && probes as u64 <= 40 * targets
                && probes as u64 * millis < 3_600_000
        });
        assert!(enough, "{targets} targets, {millis} ms: {found:?}");
    }
    // What was failed at long ago leaves room for what is quick.
    let old = (0..19).map(|n| (1, n as u16, Failed, n * 20_000));
    let other = (0..13).map(|n| (10 + n as u32, 80, Failed, 400_000 + n * 20_000));
    let quick = (0..5).map(|n| (50, n as u16, Failed, 1_000_000 + n * 100));
    assert_eq!(
        run(old.chain(other).chain(quick)),
        Some((37, Shape::Vertical))
    );
}

#[test]
fn impossible_packets_weigh_double() {
    let mut scan = Scan::new(STANDARD, 1_000, 3);
    let offence = (0..5).find_map(|n| {
        let mut null = attempt(1, n, Outcome::Failed, 0);
        null.contact.technique = Technique::Null;
        let evidence = scan.contact(1, &null, at(0))?;
        Some((n + 1, evidence.count, evidence.pattern))
    });
    let pattern = Pattern::Scan {
        shape: Shape::Vertical,
        technique: Technique::Null,
        distinct: 3,
    };
    assert_eq!(offence, Some((3, 6, pattern)));
}

#[test]
fn answers_out_of_order_count_by_when_the_question_was_asked() {
    use Outcome::Failed;
    let late = [4, 1, 3, 0, 2].map(|n: u16| (1, n, Failed, u64::from(n) * 2_000));
    assert_eq!(run(late), Some((5, Shape::Vertical)));
    let apart = [4, 1, 3, 0, 2].map(|n: u16| (1, n, Failed, u64::from(n) * 3_000));
    assert_eq!(run(apart), None, "twelve seconds from first to last");
}

#[test]
fn addresses_of_this_host_are_one_target() {
    // Of `(address, port)`, the place of the first offence and what it is.
    let run = |contacts: &[(u32, u16)]| {
        let mut scan = Scan::new(STANDARD, 1_000, 3);
        contacts
            .iter()
            .enumerate()
            .find_map(|(place, &(target, port))| {
                let mut own = attempt(target, port, Outcome::Failed, place as u64);
                own.contact.is_own = true;
                let evidence = scan.contact(1, &own, own.contact.at)?;
                Some((place + 1, evidence.describe(crate::ban::Detector::Scan)))
            })
    };
    let ports: Vec<_> = (1..=9).map(|n| (u32::from(n), n)).collect();
    let vertical = "vertical SYN scan of 5 ports in 0.0 s (threshold 5 in 10 s)";
    assert_eq!(run(&ports), Some((5, vertical.to_owned())));
    let one_port: Vec<_> = (1..=9).map(|n| (n, 445)).collect();
    assert_eq!(run(&one_port), None, "one port of nine addresses");
    let one_port: Vec<_> = (1..=12).map(|n| (n, 445)).collect();
    let horizontal = "horizontal SYN scan of 10 addresses in 0.0 s (threshold 10 in 10 s)";
    assert_eq!(run(&one_port), Some((10, horizontal.to_owned())));
    let four: Vec<_> = (0..36).map(|n| (n / 4, 1 + (n % 4) as u16)).collect();
    assert_eq!(run(&four), None, "four ports of nine addresses");
}

#[test]
fn what_is_asked_for_after_a_ban_counts_anew() {
    let mut scan = Scan::new(STANDARD, 1_000, 3);
    let mut probe = |port: u16, asked: u64, now: u64| {
        let one = attempt(1, port, Outcome::Failed, asked);
        let found = scan.contact(1, &one, at(now)).map(|found| found.count);
        if port == 8 {
            scan.begin_anew(1, at(now));
        }
        found
    };
    let before: Vec<_> = (1..=8).map(|n| probe(n, n.into(), n.into())).collect();
    assert_eq!(before[4], Some(5));
    assert!(before[5..].iter().all(Option::is_none), "told already");
    let late = (11..=20).all(|n| probe(n, 7, 500).is_none());
    assert!(late, "asked before the ban ended");
    let after: Vec<_> = (21..=25).map(|n| probe(n, 600, 600)).collect();
    assert_eq!(
        after,
        [None, None, None, None, Some(5)],
        "within the window"
    );
}

#[test]
fn an_offender_among_a_million_random_sources_is_found_and_nobody_else() {
    let mut scan = Scan::new(STANDARD, 4_096, 3);
    let (mut found, mut others) = (0, 0);
    let mut random = 7_u64;
    for n in 0..1_000_000_u64 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let source = u128::from(random >> 20) << 8 | 0xff;
        let one = attempt(1, (random >> 40) as u16, Outcome::Failed, n / 100);
        others += usize::from(scan.contact(source, &one, one.contact.at).is_some());
        if n % 1_000 == 0 {
            let one = attempt(1, (n / 1_000) as u16, Outcome::Failed, n / 100);
            found += usize::from(scan.contact(2, &one, one.contact.at).is_some());
        }
    }
    assert!(scan.len() <= 4_096);
    assert!(found > 0 && others == 0, "{found} {others}");
}

#[test]
fn memory_of_one_source_is_fixed() {
    let mut scan = Scan::new(STANDARD, 16, 3);
    for n in 0..100_000_u32 {
        let one = attempt(n, n as u16, Outcome::Served, u64::from(n));
        scan.contact(1, &one, one.contact.at);
    }
    let source = scan.by_source.get_mut(1).unwrap();
    assert!(source.contacts.len() <= 32 && source.contacts.capacity() <= 32);
}

#[test]
fn a_clock_that_steps_back_and_contacts_of_all_kinds_change_nothing_of_the_bounds() {
    use proptest::prelude::*;
    let outcome = prop_oneof![
        Just(Outcome::Failed),
        Just(Outcome::Pinged),
        Just(Outcome::Served)
    ];
    let steps = proptest::collection::vec(
        (0_u32..4, 0_u16..40, outcome, 0_u64..40_000, 0_u128..3),
        0..200,
    );
    proptest!(|(steps in steps)| {
        let mut scan = Scan::new(STANDARD, 2, 3);
        for (target, port, outcome, millis, source) in steps {
            let one = attempt(target, port, outcome, millis);
            if let Some(evidence) = scan.contact(source, &one, at(millis)) {
                prop_assert!(evidence.count >= evidence.threshold);
                prop_assert!(evidence.first <= evidence.last);
                prop_assert!(evidence.last.since(evidence.first) <= evidence.window);
            }
            prop_assert!(scan.len() <= 2);
        }
    });
}
