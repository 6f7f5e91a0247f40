//! N events of one source within a sliding window.
//!
//! Each source has a sliding count; at most [`policy::Limits::sources`] of them are counted at once, and who offends least is
//! put out first.

use std::time::Duration;

use policy::Timestamp;
use wire::FiveTuple;

use crate::ban::Evidence;
use crate::bounded::Bounded;
use crate::clock;
use crate::evidence::Pattern;

/// Parts that a window is counted in; what is older than the window by less than one part may still count.
const PARTS: usize = 8;

/// Counts events by source within a sliding window.
#[derive(Debug)]
pub(crate) struct Threshold {
    limit: u64,
    window: Duration,
    by_source: Bounded<Count>,
}

#[derive(Debug)]
struct Count {
    parts: [u32; PARTS],
    /// Number, since the epoch, of the part that is counted in now.
    current: u64,
    last: Timestamp,
    first: Mark,
    /// The first one of the window's later half: the first once that has left the window. Boxed, as most sources come once.
    next: Option<Box<Mark>>,
    /// The part of the last one that a third party could have sent.
    forgeable: Option<u64>,
}

/// A packet that counted.
#[derive(Clone, Copy, Debug)]
struct Mark {
    part: u64,
    at: Timestamp,
    packet: FiveTuple,
}

impl Threshold {
    pub(crate) fn new(limit: u32, window: Duration, ceiling: u32, seed: u64) -> Self {
        Self {
            limit: u64::from(limit.max(1)),
            window: window.max(Duration::from_millis(PARTS as u64)),
            by_source: Bounded::new(ceiling, seed),
        }
    }

    fn part(&self, now: Timestamp) -> u64 {
        let length = (self.window.as_nanos() / PARTS as u128).max(1);
        u64::try_from(u128::from(now.as_nanos()) / length).unwrap_or(u64::MAX)
    }

    /// Counts one event, `proven` where no third party can have brought it about. Gives the evidence when the source reaches the
    /// limit, and begins anew with it; it is proven when all that counted was.
    pub(crate) fn count(
        &mut self,
        source: u128,
        tuple: FiveTuple,
        proven: bool,
        now: Timestamp,
    ) -> Option<Evidence> {
        let part = self.part(now);
        let mark = Mark {
            part,
            at: now,
            packet: tuple,
        };
        let fresh = || Count {
            parts: [0; PARTS],
            current: part,
            last: now,
            first: mark,
            next: None,
            forgeable: None,
        };
        let entry = self
            .by_source
            .entry(source, fresh, |count| count.sum_at(part, now));
        if clock::age(entry.last, now).is_none() {
            *entry = fresh();
        }
        entry.last = entry.last.max(now);
        entry.advance(part);
        entry.mark(mark);
        if !proven {
            entry.forgeable = Some(entry.current);
        }
        entry.parts[(entry.current % PARTS as u64) as usize] += 1;
        let count = entry.sum();
        if count < self.limit {
            return None;
        }
        let evidence = Evidence {
            count,
            threshold: self.limit,
            window: self.window,
            first: entry.first.at,
            last: now,
            first_packet: entry.first.packet,
            last_packet: tuple,
            proven: entry.is_proven(),
            pattern: Pattern::Plain,
        };
        self.by_source.remove(source);
        Some(evidence)
    }
}

impl Count {
    fn sum(&self) -> u64 {
        self.parts.iter().map(|&part| u64::from(part)).sum()
    }

    /// Whether nobody else could have brought about what counts.
    fn is_proven(&self) -> bool {
        self.forgeable
            .is_none_or(|part| self.current.saturating_sub(part) >= PARTS as u64)
    }

    /// Keeps in mind which was the first within the window.
    fn mark(&mut self, mark: Mark) {
        let since = |begin: Mark| mark.part.saturating_sub(begin.part);
        if since(self.first) >= PARTS as u64 {
            self.first = self
                .next
                .take()
                .map(|next| *next)
                .filter(|&next| since(next) < PARTS as u64)
                .unwrap_or(mark);
        }
        if self.next.is_none() && since(self.first) >= PARTS as u64 / 2 {
            self.next = Some(Box::new(mark));
        }
    }

    /// What it would be once the window has moved on to `part`.
    fn sum_at(&self, part: u64, now: Timestamp) -> u64 {
        let is_over = part.saturating_sub(self.current) >= PARTS as u64;
        if is_over || clock::age(self.last, now).is_none() {
            0
        } else {
            self.sum()
        }
    }

    /// Moves the window on. What comes out of order counts in the current part.
    fn advance(&mut self, part: u64) {
        let steps = part.saturating_sub(self.current);
        for step in 1..=steps.min(PARTS as u64) {
            self.parts[((self.current + step) % PARTS as u64) as usize] = 0;
        }
        self.current = self.current.max(part);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "constants")]
    use super::*;

    fn tuple() -> FiveTuple {
        FiveTuple {
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.2".parse().unwrap(),
            protocol: 6,
            source_port: Some(1),
            destination_port: Some(2),
        }
    }

    #[test]
    fn the_nth_within_the_window_is_the_offence() {
        let mut threshold = Threshold::new(5, Duration::from_secs(10), 100, 1);
        let at = |secs: u64| Timestamp::from_secs(1_000 + secs);
        assert!((0..4).all(|n| threshold.count(1, tuple(), false, at(n)).is_none()));
        let evidence = threshold.count(1, tuple(), false, at(9)).unwrap();
        assert_eq!(
            (evidence.count, evidence.first, evidence.last),
            (5, at(0), at(9))
        );
        assert!(
            threshold.count(1, tuple(), false, at(9)).is_none(),
            "counted anew"
        );
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let mut threshold = Threshold::new(5, Duration::from_secs(10), 100, 1);
        assert!((0..100).all(|n| {
            threshold
                .count(1, tuple(), false, Timestamp::from_secs(n * 3))
                .is_none()
        }));
    }

    #[test]
    fn the_first_that_is_told_lies_within_the_window() {
        let mut threshold = Threshold::new(9, Duration::from_secs(10), 100, 1);
        let at = |n: u64| Timestamp::from_secs(1_000 + n * 2);
        assert!((0..50).all(|n| threshold.count(1, tuple(), false, at(n)).is_none()));
        let evidence = (0..9).find_map(|_| threshold.count(1, tuple(), false, at(50)));
        let evidence = evidence.unwrap();
        assert!(evidence.last.since(evidence.first) <= Duration::from_secs(10));
    }

    #[test]
    fn a_clock_that_is_set_back_begins_the_window_anew() {
        let mut threshold = Threshold::new(5, Duration::from_secs(10), 100, 1);
        let mut count = |secs| threshold.count(1, tuple(), false, Timestamp::from_secs(secs));
        assert!((0..4).all(|_| count(9_000).is_none()));
        let thinly = (0..500).map(|n| 1_000 + n * 3);
        assert!(thinly.clone().all(|secs| count(secs).is_none()));
        let evidence = (0..5).find_map(|_| count(2_600)).unwrap();
        assert_eq!(evidence.first, Timestamp::from_secs(2_600));
    }

    #[test]
    fn a_flood_of_sources_does_not_hide_the_offender() {
        let mut threshold = Threshold::new(50, Duration::from_secs(60), 64, 1);
        let mut offences = 0;
        for n in 0..100_000_u64 {
            let now = Timestamp::from_micros(1_000_000_000 + n * 100);
            threshold.count(u128::from(n) + 1_000, tuple(), false, now);
            if n % 10 == 0 && threshold.count(1, tuple(), false, now).is_some() {
                offences += 1;
            }
            assert!(threshold.by_source.len() <= 64);
        }
        assert!(offences > 100, "{offences}");
    }

    #[test]
    fn evidence_is_proven_while_all_of_it_is() {
        let mut threshold = Threshold::new(3, Duration::from_secs(8), 100, 1);
        let mut run = |events: [(u64, bool); 3]| {
            let [.., last] = events.map(|(secs, proven)| {
                threshold.count(1, tuple(), proven, Timestamp::from_secs(1_000 + secs))
            });
            last.map(|evidence| evidence.proven)
        };
        assert_eq!(run([(0, true), (1, true), (2, true)]), Some(true));
        assert_eq!(run([(10, true), (11, false), (12, true)]), Some(false));
        assert_eq!(run([(20, false), (27, true), (28, true)]), None);
        assert_eq!(run([(28, true), (40, false), (41, true)]), None);
        assert_eq!(run([(60, true), (61, true), (62, true)]), Some(true));
    }
}
