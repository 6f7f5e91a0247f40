//! What is counted by the kernel, and told in sums.

use kernel::datapath::Count;
use policy::RuleId;

use super::*;

#[test]
fn counters_go_on_over_transactions() {
    let mut stage = started(ENFORCE);
    let mut counters = Counters::default();
    let count = |packets| Count {
        packets,
        bytes: packets * 100,
    };
    counters.causes.insert(Cause::Rule(RuleId(0)), count(7));
    counters
        .causes
        .insert(Cause::Default(policy::Direction::In), count(5));
    counters.causes.insert(Cause::Banned, count(3));
    stage.kernel.set_counters(counters);
    let totals = stage.guard.status().totals;
    assert_eq!(
        (totals.packets, totals.bytes, totals.allowed, totals.dropped),
        (15, 1_500, 7, 8)
    );
    stage.guard.apply(candidate(ENFORCE), asked(None)).unwrap();
    stage.kernel.set_counters(Counters::default());
    assert_eq!(
        stage.guard.status().totals.packets,
        15,
        "what the transaction forgot is kept"
    );
    assert_eq!(stage.guard.rules()[0].hits, 7, "the same policy again");
    stage.guard.apply(candidate(OTHER), asked(None)).unwrap();
    assert_eq!(stage.guard.rules()[0].hits, 0, "another policy's rule");
}

/// All SYNs together over the threshold: told, and nothing dropped for it (decision 0016).
#[test]
fn a_flood_from_everywhere_is_counted_by_what_decides_about_its_packets() {
    let mut stage = started("mode = \"enforce\"\n[default]\ninbound = \"allow\"\n");
    let count = Count {
        packets: 1_000,
        bytes: 60_000,
    };
    let decided = Cause::Default(policy::Direction::In);
    let counters = Counters {
        causes: [(Cause::SynFloodOfAll, count), (decided, count)]
            .into_iter()
            .collect(),
        ..Counters::default()
    };
    stage.kernel.set_counters(counters);
    let totals = stage.guard.status().totals;
    assert_eq!(
        (totals.packets, totals.allowed, totals.dropped),
        (1_000, 1_000, 0)
    );
}

#[test]
fn flows_that_the_kernel_does_not_tell_are_counted_over_transactions_and_dated_once() {
    let mut stage = started(ENFORCE);
    let lost = |stage: &mut Stage| {
        let losses = stage.guard.status().losses;
        (losses.flows_untold, losses.flows_untold_since)
    };
    assert_eq!(lost(&mut stage), (0, None));
    let untold = |packets| Counters {
        flows_untold: Count { packets, bytes: 0 },
        ..Counters::default()
    };
    stage.kernel.set_counters(untold(7));
    let (count, since) = lost(&mut stage);
    assert_eq!(count, 7);
    assert!(since.is_some());
    stage.guard.apply(candidate(OTHER), asked(None)).unwrap();
    stage.kernel.set_counters(untold(5));
    assert_eq!(lost(&mut stage), (12, since));
    // Enforcing ends before anybody asks again.
    stage.kernel.set_counters(untold(6));
    let observing = OTHER.replace("enforce", "observe");
    stage
        .guard
        .apply(candidate(&observing), asked(None))
        .unwrap();
    assert_eq!(lost(&mut stage), (13, since));
}
