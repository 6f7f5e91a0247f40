//! Bans of prefixes that may overlap, held in a kernel set whose ranges may not: each address keeps the ban that lasts
//! longest. Pure: what is held and what is wanted go in, what to take out and what to put in come out.

use std::time::Duration;

/// A range of keys of one family that is banned; `None` until it is lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Held {
    pub(super) first: u128,
    pub(super) last: u128,
    pub(super) remaining: Option<Duration>,
}

impl Held {
    fn outlives(&self, remaining: Option<Duration>) -> bool {
        match (self.remaining, remaining) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(mine), Some(other)) => mine > other,
        }
    }

    fn overlaps(&self, first: u128, last: u128) -> bool {
        self.first <= last && first <= self.last
    }

    /// What of it lies outside of a range.
    fn outside(self, first: u128, last: u128) -> impl Iterator<Item = Self> {
        let before = (self.first < first).then(|| Self {
            last: self.last.min(first - 1),
            ..self
        });
        let after = (self.last > last).then(|| Self {
            first: self.first.max(last + 1),
            ..self
        });
        before.into_iter().chain(after)
    }
}

/// Ranges to take out of the set and to put into it, in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) out: Vec<Held>,
    pub(super) into: Vec<Held>,
}

impl Change {
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty() && self.into.is_empty()
    }
}

/// How to ban a range when `held` (disjoint) is banned already. A ban of exactly this range is replaced; elsewhere the
/// longer one stays.
pub(super) fn ban(held: &[Held], wanted: Held) -> Change {
    let mut change = Change::default();
    let mut gaps = vec![wanted];
    for &old in held
        .iter()
        .filter(|old| old.overlaps(wanted.first, wanted.last))
    {
        let same = (old.first, old.last) == (wanted.first, wanted.last);
        if old.outlives(wanted.remaining) && !same {
            gaps = gaps
                .into_iter()
                .flat_map(|gap| gap.outside(old.first, old.last))
                .collect();
        } else {
            change.out.push(old);
            change.into.extend(old.outside(wanted.first, wanted.last));
        }
    }
    change.into.extend(gaps);
    change.into.sort_unstable();
    change
}

/// How to lift the ban of every address of a range.
pub(super) fn lift(held: &[Held], first: u128, last: u128) -> Change {
    let out: Vec<Held> = held
        .iter()
        .copied()
        .filter(|old| old.overlaps(first, last))
        .collect();
    let into = out
        .iter()
        .flat_map(|old| old.outside(first, last))
        .collect();
    Change { out, into }
}

/// What is held after a change.
pub(super) fn after(held: &[Held], change: &Change) -> Vec<Held> {
    let mut held: Vec<Held> = held
        .iter()
        .copied()
        .filter(|old| !change.out.contains(old))
        .chain(change.into.iter().copied())
        .collect();
    held.sort_unstable();
    held
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(first: u128, last: u128, secs: u64) -> Held {
        Held {
            first,
            last,
            remaining: (secs > 0).then(|| Duration::from_secs(secs)),
        }
    }

    #[test]
    fn the_longer_ban_stays_and_the_same_is_replaced() {
        for (name, before, wanted, after_it) in [
            ("fresh", vec![], held(10, 19, 5), vec![held(10, 19, 5)]),
            (
                "replaced by a shorter",
                vec![held(10, 19, 9)],
                held(10, 19, 5),
                vec![held(10, 19, 5)],
            ),
            (
                "inside a longer",
                vec![held(0, 99, 9)],
                held(10, 19, 5),
                vec![held(0, 99, 9)],
            ),
            (
                "inside a shorter",
                vec![held(0, 99, 5)],
                held(10, 19, 9),
                vec![held(0, 9, 5), held(10, 19, 9), held(20, 99, 5)],
            ),
            (
                "around a longer",
                vec![held(10, 19, 0)],
                held(0, 99, 5),
                vec![held(0, 9, 5), held(10, 19, 0), held(20, 99, 5)],
            ),
            (
                "around a shorter",
                vec![held(10, 19, 5)],
                held(0, 99, 0),
                vec![held(0, 99, 0)],
            ),
            (
                "to the last key",
                vec![held(10, u128::MAX, 5)],
                held(20, u128::MAX, 6),
                vec![held(10, 19, 5), held(20, u128::MAX, 6)],
            ),
        ] {
            assert_eq!(after(&before, &ban(&before, wanted)), after_it, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_address_keeps_the_longest_ban_and_ranges_stay_disjoint(
            bans in prop::collection::vec((0u128..60, 0u128..20, 0u64..5), 1..12),
            lifted in (0u128..60, 0u128..20),
        ) {
            let mut set: Vec<Held> = Vec::new();
            let mut model = vec![None::<Option<Duration>>; 80];
            for (first, span, secs) in bans {
                let wanted = held(first, first + span, secs);
                let same = set.iter().any(|old| (old.first, old.last) == (wanted.first, wanted.last));
                for slot in &mut model[first as usize..=(first + span) as usize] {
                    let longer = slot.is_some_and(|old| Held { remaining: old, ..wanted }.outlives(wanted.remaining));
                    if !longer || same {
                        *slot = Some(wanted.remaining);
                    }
                }
                set = after(&set, &ban(&set, wanted));
                prop_assert!(set.windows(2).all(|pair| pair[0].last < pair[1].first), "{set:?}");
            }
            let (first, last) = (lifted.0, lifted.0 + lifted.1);
            set = after(&set, &lift(&set, first, last));
            model[first as usize..=last as usize].fill(None);
            for (address, wanted) in (0u128..).zip(&model) {
                let found = set.iter().find(|held| held.overlaps(address, address)).map(|held| held.remaining);
                prop_assert_eq!(found, *wanted, "{}", address);
            }
        }
    }
}
