//! Token buckets in the terms of nft's `limit`.
//!
//! The kernel (net/netfilter/nft_limit.c) counts tokens in nanoseconds. For packets a bucket holds `burst` times
//! `unit / rate`, and a packet takes `unit / rate` (integer divisions, `unit` in nanoseconds); for bytes it holds
//! `unit * (rate + burst) / rate`, and a packet takes `unit * length / rate`. It begins full, and what does not fit is not
//! taken. What is written here keeps within what the kernel accepts: products of 64 bits, units of a week and less.

use std::num::NonZeroU32;
use std::time::Duration;

use policy::{ByteBucket, Rate, RateUnit, TimeUnit};

/// A source that was silent for longer is forgotten in any case.
const LONGEST_MEMORY: u64 = 30 * 86_400;

/// One bucket for each source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meter {
    /// Without `limit rate [over]`: `20/second burst 40 packets`.
    pub(super) terms: String,
    /// After so many seconds without a packet a bucket is full again, so that the kernel may forget it.
    pub(super) memory: u64,
}

/// The bucket of `rate`.
pub(super) fn meter_of(rate: &Rate) -> Meter {
    if rate.unit == RateUnit::Bytes {
        return meter_of_bytes(ByteBucket::of(rate));
    }
    meter(rate.amount, rate.per, rate.burst)
}

fn meter_of_bytes(bucket: ByteBucket) -> Meter {
    let ByteBucket { unit, rate, burst } = bucket;
    Meter {
        terms: format!("{rate} bytes/{} burst {burst} bytes", unit.name()),
        memory: memory(
            u128::from(unit.seconds()) * u128::from(bucket.holds()) / u128::from(rate.max(1)),
        ),
    }
}

/// The bucket of `amount` packets each `per`, with room for `burst`.
///
/// A period that is no unit of nft's is brought to the first unit that divides evenly, or else to packets a week, rounded.
pub(super) fn meter(amount: NonZeroU32, per: Duration, burst: NonZeroU32) -> Meter {
    let (unit, rate) = in_units(u64::from(amount.get()), per);
    let packet = u128::from(unit.nanos() / rate);
    let burst = u128::from(burst.get())
        .min(u128::from(u64::MAX / 4) / packet.max(1))
        .max(1);
    Meter {
        terms: format!("{rate}/{} burst {burst} packets", unit.name()),
        memory: memory(packet * burst / u128::from(TimeUnit::Second.nanos())),
    }
}

/// How long a bucket is remembered that is full after so many seconds.
fn memory(full: u128) -> u64 {
    let full = u64::try_from(full).unwrap_or(LONGEST_MEMORY);
    full.min(LONGEST_MEMORY) + 1
}

/// A unit of nft's, and how much comes in one.
fn in_units(amount: u64, per: Duration) -> (TimeUnit, u64) {
    let per = per.as_nanos().max(1);
    let mut units = TimeUnit::ALL.into_iter();
    if let Some(named) = units.find(|unit| u128::from(unit.nanos()) == per) {
        return (named, amount);
    }
    let each = |unit: TimeUnit| u128::from(amount) * u128::from(unit.nanos());
    let exact = TimeUnit::ALL.into_iter().find_map(|unit| {
        let rate = u64::try_from(each(unit) / per).ok()?;
        (each(unit) % per == 0 && rate > 0).then_some((unit, rate))
    });
    exact.unwrap_or_else(|| {
        let rate = u64::try_from((each(TimeUnit::Week) + per / 2) / per);
        let most = u64::MAX / TimeUnit::Second.nanos();
        (TimeUnit::Week, rate.unwrap_or(most).max(1))
    })
}

/// A time as nft reads it. At least a millisecond: 0 would mean for ever.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis().max(1);
    if !millis.is_multiple_of(1_000) && millis < 10_000_000 {
        return format!("{millis}ms");
    }
    let seconds = millis.div_ceil(1_000).min(100 * 365 * 86_400);
    // nft reads at most 8 digits of each unit.
    let parts = [
        (seconds / 86_400, 'd'),
        (seconds / 3_600 % 24, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "constants")]
    use super::*;

    fn terms(amount: u32, millis: u64, burst: u32, unit: RateUnit) -> (String, u64) {
        let meter = meter_of(&Rate {
            amount: amount.try_into().unwrap(),
            per: Duration::from_millis(millis),
            burst: burst.try_into().unwrap(),
            unit,
        });
        (meter.terms, meter.memory)
    }

    #[test]
    fn periods_become_units() {
        use RateUnit::{Bytes, Connections, Packets};
        for (amount, millis, burst, unit, wanted, memory) in [
            (20, 1_000, 40, Connections, "20/second burst 40 packets", 3),
            (5, 60_000, 1, Packets, "5/minute burst 1 packets", 13),
            (
                1_000,
                10_000,
                1_000,
                Packets,
                "100/second burst 1000 packets",
                11,
            ),
            (5, 10_000, 5, Packets, "30/minute burst 5 packets", 11),
            (5, 7_000, 5, Packets, "432000/week burst 5 packets", 8),
            (
                1,
                86_400_000,
                3,
                Packets,
                "1/day burst 3 packets",
                3 * 86_400 + 1,
            ),
            (
                1_000,
                500,
                1_000,
                Packets,
                "2000/second burst 1000 packets",
                1,
            ),
            (
                1,
                86_400_000,
                u32::MAX,
                Packets,
                "1/day burst 53375 packets",
                LONGEST_MEMORY + 1,
            ),
            (
                4_000_000_000,
                1_000,
                5,
                Packets,
                "4000000000/second burst 5 packets",
                1,
            ),
            (
                1_000_000,
                1_000,
                1,
                Bytes,
                "1000000 bytes/second burst 1 bytes",
                2,
            ),
            (
                600_000,
                60_000,
                20_000,
                Bytes,
                "10000 bytes/second burst 10000 bytes",
                3,
            ),
            (
                1_000_000_000,
                3_600_000,
                1,
                Bytes,
                "277778 bytes/second burst 1 bytes",
                2,
            ),
        ] {
            assert_eq!(
                terms(amount, millis, burst, unit),
                (wanted.to_owned(), memory)
            );
        }
    }

    #[test]
    fn durations_are_read_by_nft() {
        for (millis, wanted) in [
            (0, "1ms"),
            (1_500, "1500ms"),
            (600_000, "10m"),
            (90_061_000, "1d1h1m1s"),
            (u64::MAX, "36500d"),
        ] {
            assert_eq!(duration_text(Duration::from_millis(millis)), wanted);
        }
    }
}
