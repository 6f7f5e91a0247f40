//! A point in time, as an argument: nothing in the pure crates reads a clock.

use std::fmt;
use std::time::Duration;

/// Why a text is no [`Timestamp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTime {
    /// Not as in RFC 3339.
    #[error("is no time; write it like 2027-01-01T00:00:00Z")]
    Form,
    /// A moment that cannot be held.
    #[error("is no moment from 1970-01-01 to 2554-07-21, which is as far as times go here")]
    Range,
}

/// Nanoseconds since the Unix epoch, UTC. Holds until the year 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The last moment that can be named; stands for "never".
    pub const MAX: Self = Self(u64::MAX);

    /// From nanoseconds since the Unix epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From microseconds since the Unix epoch; saturates.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros.saturating_mul(1_000))
    }

    /// From whole seconds since the Unix epoch; saturates.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// From whole or broken seconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// [`BadTime::Range`] for what is before it, later than can be held, or no number.
    pub fn from_secs_f64(secs: f64) -> Result<Self, BadTime> {
        let span = Duration::try_from_secs_f64(secs).map_err(|_| BadTime::Range)?;
        let nanos = u64::try_from(span.as_nanos());
        nanos.map(Self).map_err(|_| BadTime::Range)
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[inline]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    /// How many nanoseconds after `earlier` this is; zero when it is not after it.
    #[inline]
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment and `span` more; saturates at [`Timestamp::MAX`].
    pub fn after(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// Reads RFC 3339, with any offset and any number of decimals.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to stand behind the text.
    pub fn read_rfc3339(text: &str) -> Result<Self, BadTime> {
        let instant: jiff::Timestamp = text.parse().map_err(|_| {
            // The library counts until a day before the last moment of RFC 3339, in which some say "never".
            let pieces = jiff::fmt::temporal::Pieces::parse(text);
            match pieces.is_ok_and(|pieces| pieces.time().and(pieces.offset()).is_some()) {
                true => BadTime::Range,
                false => BadTime::Form,
            }
        })?;
        let nanos = u64::try_from(instant.as_nanosecond());
        nanos.map(Self).map_err(|_| BadTime::Range)
    }

    /// The same where it does not matter what is wrong.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        Self::read_rfc3339(text).ok()
    }
}

/// RFC 3339 in UTC with microseconds: `2027-01-01T00:00:00.000000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second_of_day) = (self.as_secs() / 86_400, self.as_secs() % 86_400);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (
            second_of_day / 3_600,
            second_of_day / 60 % 60,
            second_of_day % 60,
        );
        let micros = self.0 % 1_000_000_000 / 1_000;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
        )
    }
}

/// Days since 1970-01-01 to the Gregorian date; valid for the whole range of [`Timestamp`]
/// (Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_and_parse_are_inverse() {
        for text in [
            "1970-01-01T00:00:00.000000Z",
            "2000-02-29T23:59:59.999999Z",
            "2027-01-01T00:00:00.000001Z",
            "2400-12-31T12:00:00.500000Z",
        ] {
            assert_eq!(
                Timestamp::parse_rfc3339(text)
                    .map(|t| t.to_string())
                    .as_deref(),
                Some(text)
            );
        }
        assert_eq!(
            Timestamp::parse_rfc3339("2027-01-01T02:00:00+02:00"),
            Timestamp::parse_rfc3339("2027-01-01T00:00:00Z")
        );
        for (text, wrong) in [
            ("1969-12-31T23:59:59Z", BadTime::Range),
            ("2554-07-22T00:00:00Z", BadTime::Range),
            ("9999-12-31T23:59:59Z", BadTime::Range),
            ("9999-12-30T00:00:00Z", BadTime::Range),
            ("tomorrow", BadTime::Form),
            ("2027-13-01T00:00:00Z", BadTime::Form),
        ] {
            assert_eq!(Timestamp::read_rfc3339(text), Err(wrong), "{text}");
        }
        assert!(Timestamp::parse_rfc3339("2554-07-21T00:00:00Z").is_some());
    }

    #[test]
    fn seconds_out_of_range_are_told() {
        for (secs, nanos) in [
            (0.0, Ok(0)),
            (1.5, Ok(1_500_000_000)),
            (1_795_300_000.0, Ok(1_795_300_000_000_000_000)),
            (18_446_744_073.0, Ok(18_446_744_073_000_000_000)),
            (18_446_744_074.0, Err(BadTime::Range)),
            (1_795_300_000_000.0, Err(BadTime::Range)),
            (1e30, Err(BadTime::Range)),
            (-1.0, Err(BadTime::Range)),
            (f64::INFINITY, Err(BadTime::Range)),
            (f64::NAN, Err(BadTime::Range)),
        ] {
            let read = Timestamp::from_secs_f64(secs).map(Timestamp::as_nanos);
            assert_eq!(read, nanos, "{secs}");
        }
    }
}
