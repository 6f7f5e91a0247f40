//! Time: the wall clock for records, and how it stepped against the clock that runs on through suspend and is never set.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use policy::Timestamp;

/// A step smaller than this is drift, which the kernel slews anyway.
const STEP: Duration = Duration::from_secs(2);
/// No packet waits longer for us: one that seems to have was stamped before the clock was set.
const WAIT: Duration = Duration::from_secs(60);

/// The two clocks and their distance when last looked at.
#[derive(Debug)]
pub struct Clock {
    /// Wall clock less time since boot, in nanoseconds.
    pub(crate) offset: i128,
}

/// Which clock times are by: the run of the machine, and how far its wall clock is from its boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The kernel's name for this run of the machine; empty where it does not tell.
    pub boot: String,
    /// Wall clock less time since boot, in nanoseconds.
    pub offset: i64,
}

impl Stamp {
    /// How the wall clock was set since an earlier stamp. `None` also for one of another run of the machine.
    pub fn step_since(&self, earlier: &Self) -> Option<Step> {
        if self.boot.is_empty() || self.boot != earlier.boot {
            return None;
        }
        Step::of(i128::from(self.offset) - i128::from(earlier.offset))
    }
}

/// How the wall clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Forward by this much.
    Forward(Duration),
    /// Back by this much.
    Back(Duration),
}

impl Clock {
    /// A clock that has seen no step.
    pub fn new() -> Self {
        Self { offset: offset() }
    }

    /// Whether the wall clock was set since the last call.
    pub fn step(&mut self) -> Option<Step> {
        let now = offset();
        let step = Step::of(now - self.offset)?;
        self.offset = now;
        Some(step)
    }

    /// The present by the wall clock as it was at the last [`Clock::step`]: no setting of it shows here before it was told.
    pub fn now(&self) -> Timestamp {
        let now = i128::from(nanos(ClockId::CLOCK_BOOTTIME)) + self.offset;
        Timestamp::from_nanos(u64::try_from(now.max(0)).unwrap_or(u64::MAX))
    }

    /// When a packet came that the kernel stamped with `stamp`. Stamps are by the wall clock, which may have been set since: what
    /// lies ahead, or further back than packets wait, is now.
    pub fn arrival(&self, stamp: Timestamp) -> Timestamp {
        let now = self.now();
        if stamp > now || now.since(stamp) > WAIT {
            now
        } else {
            stamp
        }
    }

    /// By which clock [`Clock::now`] is.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            boot: boot(),
            offset: i64::try_from(self.offset).unwrap_or(i64::MAX),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Forward(size) => write!(f, "forward by {:.0} s", size.as_secs_f64()),
            Self::Back(size) => write!(f, "back by {:.0} s", size.as_secs_f64()),
        }
    }
}

impl Step {
    /// Nanoseconds, negative when it went back.
    pub(crate) fn nanos(self) -> i64 {
        let nanos = |size: Duration| i64::try_from(size.as_nanos()).unwrap_or(i64::MAX);
        match self {
            Self::Forward(size) => nanos(size),
            Self::Back(size) => -nanos(size),
        }
    }

    /// From a difference in nanoseconds; `None` for one that is drift.
    fn of(difference: i128) -> Option<Self> {
        let nanos = u64::try_from(difference.unsigned_abs()).unwrap_or(u64::MAX);
        let size = Duration::from_nanos(nanos);
        match difference {
            _ if size < STEP => None,
            0.. => Some(Self::Forward(size)),
            _ => Some(Self::Back(size)),
        }
    }

    /// The moment that has the same distance from the new present as `at` had from the old one.
    pub fn shift(self, at: Timestamp) -> Timestamp {
        match self {
            _ if at == Timestamp::MAX => at,
            Self::Forward(size) => at.after(size),
            Self::Back(size) => {
                let size = u64::try_from(size.as_nanos()).unwrap_or(u64::MAX);
                Timestamp::from_nanos(at.as_nanos().saturating_sub(size))
            }
        }
    }
}

/// The present, by the wall clock.
pub fn now() -> Timestamp {
    Timestamp::from_nanos(nanos(ClockId::CLOCK_REALTIME))
}

/// Time since boot, suspend included. Nobody can set it.
pub fn since_boot() -> Duration {
    Duration::from_nanos(nanos(ClockId::CLOCK_BOOTTIME))
}

/// The id that the kernel gave to this run of the machine; empty where it does not tell.
pub(crate) fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

fn offset() -> i128 {
    i128::from(nanos(ClockId::CLOCK_REALTIME)) - i128::from(nanos(ClockId::CLOCK_BOOTTIME))
}

/// 0 for a time before 1970. Linux has both clocks, so reading one cannot fail.
fn nanos(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(at: Timestamp, seconds: u64) -> Timestamp {
        Step::Back(Duration::from_secs(seconds)).shift(at)
    }

    #[test]
    fn a_step_is_seen_once_and_shifts_both_ways() {
        let mut clock = Clock::new();
        assert_eq!(clock.step(), None);
        let hour = 3_600_000_000_000_i128;
        clock.offset -= hour;
        let Some(Step::Forward(size)) = clock.step() else {
            panic!("an hour forward was not seen");
        };
        assert!(size.as_secs().abs_diff(3_600) <= 1);
        assert_eq!(clock.step(), None);
        clock.offset += hour;
        assert!(matches!(clock.step(), Some(Step::Back(_))));

        let now = clock.now();
        for (stamp, arrived) in [
            (now, now),
            (before(now, 5), before(now, 5)),
            (before(now, 86_400), now),
            (now.after(Duration::from_secs(86_400)), now),
        ] {
            let off = clock.arrival(stamp).as_nanos().abs_diff(arrived.as_nanos());
            assert!(off < 1_000_000_000, "{stamp}: {off}");
        }

        let at = Timestamp::from_secs(100);
        assert_eq!(
            Step::Forward(Duration::from_secs(5)).shift(at),
            Timestamp::from_secs(105)
        );
        assert_eq!(
            Step::Back(Duration::from_secs(500)).shift(at),
            Timestamp::default()
        );
        let never = Timestamp::MAX;
        assert_eq!(Step::Back(Duration::from_secs(5)).shift(never), never);
    }
}
