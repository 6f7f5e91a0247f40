//! How many ends of flows are recorded a second: strangers begin as many flows as they like, and a record that holds nothing else
//! has lost what it is for.
//!
//! Flows that came to nothing – whoever forges sources makes no others – get a tenth, so that they leave room for the rest.

use std::num::NonZeroU32;
use std::time::Duration;

use policy::{LogSettings, Timestamp};

use crate::bucket::{Bucket, Shape};

/// The part of all that flows get which came to nothing.
const PART: u32 = 10;

/// What is left of a second's share.
#[derive(Debug)]
pub(crate) struct FlowBudget {
    all: (Shape, Bucket),
    of_nothing: (Shape, Bucket),
    refused: u64,
}

impl FlowBudget {
    pub(crate) fn new(settings: &LogSettings) -> Self {
        let full = |shape: Shape| (shape, Bucket::full(&shape, Timestamp::default()));
        let [all, of_nothing] = shapes(settings);
        Self {
            all: full(all),
            of_nothing: full(of_nothing),
            refused: 0,
        }
    }

    /// Other shares from now on.
    pub(crate) fn change(&mut self, settings: &LogSettings) {
        [self.all.0, self.of_nothing.0] = shapes(settings);
    }

    /// Whether a flow that ended may be recorded.
    pub(crate) fn take(&mut self, was_served: bool, now: Timestamp) -> bool {
        let within = |(shape, bucket): &mut (Shape, Bucket)| bucket.take(shape, 0, now);
        let may = (was_served || within(&mut self.of_nothing)) && within(&mut self.all);
        self.refused += u64::from(!may);
        may
    }

    /// Those that were not to be recorded.
    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }
}

fn shapes(settings: &LogSettings) -> [Shape; 2] {
    let all = settings.flows_per_second;
    [all, all.div_ceil(PART)].map(|share| {
        let share = NonZeroU32::new(share).unwrap_or(NonZeroU32::MIN);
        Shape::new(share, Duration::from_secs(1), share)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_to_nothing_leaves_room_for_the_rest() {
        let mut budget = FlowBudget::new(&LogSettings {
            flows_per_second: 100,
            ..LogSettings::default()
        });
        let mut recorded = [0, 0];
        for n in 0..10_000_u64 {
            // 1,000 a second of either kind, for ten seconds.
            let now = Timestamp::from_micros(1_000_000_000 + n * 1_000);
            for was_served in [false, true] {
                recorded[usize::from(was_served)] += u64::from(budget.take(was_served, now));
            }
        }
        assert_eq!(budget.refused(), 20_000 - recorded[0] - recorded[1]);
        assert!((100..=110).contains(&recorded[0]), "{recorded:?}");
        assert!((980..=1_100).contains(&recorded[1]), "{recorded:?}");
    }
}
