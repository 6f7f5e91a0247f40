//! Rates of bytes in the terms of the kernel's `limit` expression (net/netfilter/nft_limit.c, `nft_limit_init`), which engine and
//! kernel share so that they let the same bytes pass.
//!
//! The kernel's bucket does not hold `burst` bytes but `rate + burst`, and its unit of time is a second or longer. So the rate is
//! put in a unit short enough that the bucket is what the policy says, and what the rate has too much is taken from the burst.

use crate::plan::Rate;
use crate::time_unit::TimeUnit;

/// A token bucket of bytes, as the kernel is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteBucket {
    /// The unit of time, a day at most.
    pub unit: TimeUnit,
    /// Bytes that come in each unit; at least 1.
    pub rate: u64,
    /// What the kernel is told as burst, in bytes: what the bucket holds beyond `rate`. At least 1, as some versions of nft
    /// refuse 0 and others take it for 5.
    pub burst: u32,
}

impl ByteBucket {
    /// What the kernel counts for this rate.
    ///
    /// The bucket holds `burst` bytes, unless that is less than what comes in a second, or than 3,000 bytes: then it may hold as
    /// much, and a byte. The rate is exact where a unit makes it so, and else the nearest that keeps the bucket, at most a hundredth
    /// off where [`Self::counts`] says so.
    #[must_use]
    pub fn of(rate: &Rate) -> Self {
        let least = Self {
            unit: TimeUnit::Second,
            rate: rate.amount.get().into(),
            burst: 1,
        };
        // In seconds every rate fits of which a second or more is the period.
        Candidate::best(rate).map_or(least, |best| best.bucket)
    }

    /// Whether the kernel can count this rate to a hundredth. Of few bytes in a long time, and a large burst, its 64 bits for
    /// nanoseconds cannot hold both.
    #[must_use]
    pub fn counts(rate: &Rate) -> bool {
        Candidate::best(rate).is_some_and(|best| best.is_close())
    }

    /// Bytes that may come at once.
    #[must_use]
    pub const fn holds(&self) -> u64 {
        self.rate + self.burst as u64
    }
}

struct Candidate {
    bucket: ByteBucket,
    /// Bytes that the bucket holds too many.
    excess: u64,
    /// By how much the rate is off, in millionths of it.
    millionths_off: u128,
}

impl Candidate {
    fn best(rate: &Rate) -> Option<Self> {
        TimeUnit::PERIODS
            .into_iter()
            .filter_map(|unit| Self::of(rate, unit))
            // Of equals the first, which is the shortest unit.
            .min_by_key(|one| (!one.is_close(), one.excess, one.millionths_off))
    }

    const fn is_close(&self) -> bool {
        self.millionths_off <= 10_000
    }

    /// `None` when the kernel would refuse it.
    fn of(rate: &Rate, unit: TimeUnit) -> Option<Self> {
        let per = rate.per.as_nanos().max(1);
        let burst = u64::from(rate.burst.get());
        // Bytes in the unit, times `per`.
        let wanted = u128::from(rate.amount.get()) * u128::from(unit.nanos());
        let rate = u64::try_from((wanted + per / 2) / per).ok()?.max(1);
        let holds = burst.max(rate + 1);
        unit.nanos().checked_mul(holds)?;
        Some(Self {
            bucket: ByteBucket {
                unit,
                rate,
                burst: u32::try_from(holds - rate).ok()?,
            },
            excess: holds - burst,
            millionths_off: (u128::from(rate) * per).abs_diff(wanted) * 1_000_000 / wanted,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "constants")]
    use super::*;
    use crate::plan::RateUnit;
    use proptest::prelude::*;
    use std::time::Duration;

    fn bucket(amount: u32, per: u64, burst: u32) -> Option<ByteBucket> {
        let rate = Rate {
            amount: amount.try_into().unwrap(),
            unit: RateUnit::Bytes,
            per: Duration::from_secs(per),
            burst: burst.try_into().unwrap(),
        };
        ByteBucket::counts(&rate).then(|| ByteBucket::of(&rate))
    }

    #[test]
    fn the_bucket_is_the_burst() {
        // amount, per, burst; seconds, rate, the kernel's burst
        let table = [
            // The rate of a minute is more than the burst, that of a second less.
            ((600_000, 60, 20_000), Some((1, 10_000, 10_000))),
            ((600_000, 60, 600_000), Some((1, 10_000, 590_000))),
            ((10_000, 1, 100_000), Some((1, 10_000, 90_000))),
            // What comes in a second, and a byte, is the least.
            ((10_000, 1, 10_000), Some((1, 10_000, 1))),
            ((10_000, 1, 1_000), Some((1, 10_000, 1))),
            ((100_000_000, 86_400, 1_000), Some((1, 1_157, 1))),
            // The shortest unit that is exact.
            ((100, 60, 3_000), Some((60, 100, 2_900))),
            ((1, 86_400, 100), Some((86_400, 1, 99))),
            ((3_600, 3_600, 500), Some((1, 1, 499))),
            // The burst leaves no unit that is exact.
            ((100_000_000, 86_400, 100_000), Some((60, 69_444, 30_556))),
            (
                (u32::MAX, 86_400, u32::MAX),
                Some((1, 49_710, 4_294_917_585)),
            ),
            ((u32::MAX, 1, u32::MAX), Some((1, 4_294_967_295, 1))),
            // A second has no whole byte, a minute not the right number, an hour nearly.
            ((1_000, 86_400, 1), Some((3_600, 42, 1))),
            ((40_000, 86_400, u32::MAX), None),
        ];
        for ((amount, per, burst), wanted) in table {
            let found = bucket(amount, per, burst);
            assert_eq!(
                found.map(|one| (one.unit.seconds(), one.rate, one.burst)),
                wanted,
                "{amount}/{per}s burst {burst}"
            );
        }
    }

    proptest! {
        #[test]
        fn it_holds_the_burst_or_what_comes_in_a_second(
            amount in 1u32..,
            per in prop::sample::select(TimeUnit::PERIODS.map(TimeUnit::seconds).to_vec()),
            burst in 1u32..,
        ) {
            if let Some(bucket) = bucket(amount, per, burst) {
                let (burst, second) = (u64::from(burst), (u64::from(amount) + per / 2) / per);
                prop_assert!(bucket.holds() >= burst);
                prop_assert!(bucket.holds() <= burst.max(second + 1).max(3_001), "{:?}", bucket);
                let wanted = f64::from(amount) / per as f64;
                let is = bucket.rate as f64 / bucket.unit.seconds() as f64;
                prop_assert!((is / wanted - 1.0).abs() <= 0.010_001, "{} for {}", is, wanted);
            }
        }
    }
}
