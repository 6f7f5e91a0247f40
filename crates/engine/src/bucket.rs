//! Token buckets, with the arithmetic of the kernel's `limit` expression, so that replay and nftables let the same packets
//! through (net/netfilter/nft_limit.c).

use std::num::NonZeroU32;
use std::time::Duration;

use policy::{ByteBucket, Rate, RateUnit, Timestamp};

use crate::bounded::Bounded;
use crate::clock;

/// How fast a bucket fills and how much it holds, in nanoseconds of tokens.
///
/// All divisions are of integers and round down, as in the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Nanoseconds in which `rate` units come.
    period: u64,
    /// Units in each period.
    rate: u64,
    /// Most tokens that it holds.
    capacity: u64,
    /// What a packet costs; `None` where its bytes count.
    each: Option<u64>,
}

impl Shape {
    /// Of packets or connections: `amount` of them each `per`, and room for `burst`.
    pub(crate) fn new(amount: NonZeroU32, per: Duration, burst: NonZeroU32) -> Self {
        let period = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        let rate = u64::from(amount.get());
        let each = period / rate;
        Self {
            period,
            rate,
            capacity: each.saturating_mul(u64::from(burst.get())),
            each: Some(each),
        }
    }

    fn of_bytes(bucket: ByteBucket) -> Self {
        let period = bucket.unit.nanos();
        let rate = bucket.rate.max(1);
        // tokens_max = unit * (rate + burst) / rate
        let capacity = u128::from(period) * u128::from(bucket.holds()) / u128::from(rate);
        Self {
            period,
            rate,
            capacity: u64::try_from(capacity).unwrap_or(u64::MAX),
            each: None,
        }
    }

    pub(crate) fn of(rate: &Rate) -> Self {
        match rate.unit {
            RateUnit::Bytes => Self::of_bytes(ByteBucket::of(rate)),
            RateUnit::Packets | RateUnit::Connections => {
                Self::new(rate.amount, rate.per, rate.burst)
            }
        }
    }

    fn cost(&self, len: u32) -> u64 {
        self.each.unwrap_or_else(|| {
            let cost = u128::from(self.period) * u128::from(len) / u128::from(self.rate);
            u64::try_from(cost).unwrap_or(u64::MAX)
        })
    }
}

/// One bucket: its tokens when it was last looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: u64,
    last: Timestamp,
}

impl Bucket {
    pub(crate) fn full(shape: &Shape, now: Timestamp) -> Self {
        Self {
            tokens: shape.capacity,
            last: now,
        }
    }

    fn level(&self, shape: &Shape, now: Timestamp) -> u64 {
        let elapsed = now.nanos_since(self.last);
        self.tokens.saturating_add(elapsed).min(shape.capacity)
    }

    /// Tokens that are missing to a full bucket.
    pub(crate) fn missing(&self, shape: &Shape, now: Timestamp) -> u64 {
        shape.capacity - self.level(shape, now)
    }

    /// Puts back what one packet cost; for buckets that do not count bytes.
    pub(crate) fn give_back(&mut self, shape: &Shape, now: Timestamp) {
        let level = self.level(shape, now).saturating_add(shape.cost(0));
        self.tokens = level.min(shape.capacity);
        self.last = clock::latest(self.last, now);
    }

    /// Takes what a packet of `len` bytes costs. `false`, and nothing taken, when there is not enough.
    pub(crate) fn take(&mut self, shape: &Shape, len: u32, now: Timestamp) -> bool {
        let tokens = self.level(shape, now);
        let cost = shape.cost(len);
        self.last = clock::latest(self.last, now);
        let enough = tokens >= cost;
        self.tokens = if enough { tokens - cost } else { tokens };
        enough
    }
}

/// One bucket for each source, at most `ceiling` of them.
///
/// When it is full, the fullest of a few neighbours makes room: the source that offends least. A source that was put out
/// begins again with a full bucket, so a flood of sources can win each of them one burst, never more memory.
#[derive(Debug)]
pub(crate) struct Buckets {
    shape: Shape,
    by_source: Bounded<Bucket>,
}

impl Buckets {
    pub(crate) fn new(shape: Shape, ceiling: u32, seed: u64) -> Self {
        Self {
            shape,
            by_source: Bounded::new(ceiling, seed),
        }
    }

    /// Takes from the source's bucket; `false` when the source is over the rate.
    pub(crate) fn take(&mut self, source: u128, len: u32, now: Timestamp) -> bool {
        let shape = self.shape;
        let emptiness = |bucket: &Bucket| bucket.missing(&shape, now);
        self.by_source
            .entry(source, || Bucket::full(&shape, now), emptiness)
            .take(&shape, len, now)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "constants")]
    use super::*;

    fn shape(amount: u32, burst: u32, unit: RateUnit) -> Shape {
        Shape::of(&Rate {
            amount: amount.try_into().unwrap(),
            per: Duration::from_secs(1),
            burst: burst.try_into().unwrap(),
            unit,
        })
    }

    #[test]
    fn a_burst_then_the_rate() {
        let shape = shape(20, 40, RateUnit::Packets);
        let mut bucket = Bucket::full(&shape, Timestamp::from_secs(1));
        let at = |millis: u64| Timestamp::from_micros(1_000_000 + millis * 1_000);
        assert_eq!(
            (0..100).filter(|_| bucket.take(&shape, 60, at(0))).count(),
            40
        );
        assert_eq!(
            (0..100)
                .filter(|_| bucket.take(&shape, 60, at(500)))
                .count(),
            10
        );
        assert_eq!(
            (0..100)
                .filter(|_| bucket.take(&shape, 60, at(60_000)))
                .count(),
            40
        );
    }

    #[test]
    fn a_clock_that_is_set_back_stops_no_bucket_and_disorder_fills_none() {
        let shape = shape(10, 10, RateUnit::Packets);
        let at = |millis: u64| Timestamp::from_micros(10_000_000_000 + millis * 1_000);
        let hour = 3_600_000;
        let mut bucket = Bucket::full(&shape, at(hour));
        assert!((0..10).all(|_| bucket.take(&shape, 60, at(hour))));
        assert!(!bucket.take(&shape, 60, at(0)), "nothing is won by it");
        assert!(bucket.take(&shape, 60, at(100)));
        assert!(!bucket.take(&shape, 60, at(100)));
        let disordered = (0..1_000).map(|n| at(100 + 90 * (n % 2)));
        assert_eq!(
            disordered
                .filter(|&now| bucket.take(&shape, 60, now))
                .count(),
            0
        );
    }

    #[test]
    fn bytes_count_bytes() {
        let shape = shape(1_000, 1_500, RateUnit::Bytes);
        let mut bucket = Bucket::full(&shape, Timestamp::default());
        let mut passed = |len: u32, millis: u64| {
            let now = Timestamp::from_micros(millis * 1_000);
            (0..100).filter(|_| bucket.take(&shape, len, now)).count()
        };
        assert_eq!(passed(1_501, 0), 0, "it holds the burst and no byte more");
        assert_eq!(passed(100, 0), 15);
        assert_eq!(passed(100, 1_000), 10);
        assert_eq!(passed(1_500, 60_000), 1);
    }

    #[test]
    fn sources_are_bounded_and_the_offender_stays() {
        let mut buckets = Buckets::new(shape(1, 2, RateUnit::Packets), 4, 7);
        let now = Timestamp::from_secs(5);
        assert!(buckets.take(1, 60, now) && buckets.take(1, 60, now) && !buckets.take(1, 60, now));
        for source in 2..10_000 {
            buckets.take(source, 60, now);
            assert!(buckets.by_source.len() <= 4);
        }
        assert!(
            !buckets.take(1, 60, now),
            "the one over its rate was not put out"
        );
    }
}
