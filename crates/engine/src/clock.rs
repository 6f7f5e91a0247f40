//! How what was remembered is read by a wall clock that may be set meanwhile.
//!
//! Packets come out of order by a little, and then the later time counts. What was remembered at a time further ahead is from before
//! the clock was set back: how long ago that was nobody knows, and to wait until the clock comes by there again would silence
//! a detector, or keep a bucket empty, for as long as the clock was set back.

use std::time::Duration;

use policy::Timestamp;

/// How far packets may be out of order. In nanoseconds, as this is asked several times a packet and a [`Duration`] is made by a
/// division.
const DISORDER_NANOS: u64 = 2_000_000_000;

/// How long ago `then` was. `None` when the clock was set back since.
#[inline]
pub(crate) fn age(then: Timestamp, now: Timestamp) -> Option<Duration> {
    is_same_clock(then, now).then(|| now.since(then))
}

/// Whether the clock was not set back since `then`.
#[inline]
pub(crate) fn is_same_clock(then: Timestamp, now: Timestamp) -> bool {
    then.nanos_since(now) <= DISORDER_NANOS
}

/// Whether `then` is less than `span` ago.
pub(crate) fn is_within(then: Timestamp, now: Timestamp, span: Duration) -> bool {
    age(then, now).is_some_and(|age| age < span)
}

/// The later of the two, or `now` when the clock was set back since `last`.
#[inline]
pub(crate) fn latest(last: Timestamp, now: Timestamp) -> Timestamp {
    if is_same_clock(last, now) {
        last.max(now)
    } else {
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_ahead_is_disorder_and_more_is_another_clock() {
        let at = |millis: u64| Timestamp::from_micros(1_000_000_000 + millis * 1_000);
        let second = Duration::from_secs(1);
        for (then, now, expected, within, last) in [
            (0, 0, Some(0), true, 0),
            (0, 900, Some(900), true, 900),
            (0, 1_000, Some(1_000), false, 1_000),
            (2_000, 0, Some(0), true, 2_000),
            (2_001, 0, None, false, 0),
            (3_600_000, 5, None, false, 5),
        ] {
            let (then, now) = (at(then), at(now));
            assert_eq!(age(then, now), expected.map(Duration::from_millis));
            assert_eq!(is_within(then, now, second), within, "{then} {now}");
            assert_eq!(latest(then, now), at(last), "{then} {now}");
        }
    }
}
