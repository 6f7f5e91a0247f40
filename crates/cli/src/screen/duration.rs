//! Durations as people write and read them: `1h30m`, `10m`, `45s`.

use std::time::Duration;

use daemon::api::ApplyRequest;

const UNITS: &[(&str, u64)] = &[
    ("w", 604_800),
    ("d", 86_400),
    ("h", 3_600),
    ("m", 60),
    ("s", 1),
];

/// Reads `90s`, `10m`, `1h30m`, `2d`, `1w`, `500ms`.
///
/// # Errors
/// One sentence that shows how to write it.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a duration like 90s, 10m, 1h30m or 7d".to_owned();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_alphabetic())
                .len();
        let (unit, tail) = rest.split_at(letters);
        let part = if unit == "ms" {
            Duration::from_millis(number)
        } else {
            let (_, seconds) = UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(wrong)?;
            Duration::from_secs(number.checked_mul(*seconds).ok_or_else(wrong)?)
        };
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(total)
}

/// The same for how long somebody is banned.
///
/// # Errors
/// Also where nobody would be banned by it.
pub(crate) fn parse_ban_length(text: &str) -> Result<Duration, String> {
    let length = parse_duration(text)?;
    if length.is_zero() {
        return Err("this would ban nobody; name a time from 1s on, or take --forever".to_owned());
    }
    Ok(length)
}

/// The same for how long a policy waits for its confirmation, in whole seconds: what is broken is rounded up.
///
/// # Errors
/// Also where no policy waits so long.
pub(crate) fn parse_confirm(text: &str) -> Result<Duration, String> {
    let length = parse_duration(text)?;
    let range = Duration::from_secs(1)..=Duration::from_secs(ApplyRequest::MOST_CONFIRM_S);
    if !range.contains(&length) {
        return Err(ApplyRequest::wrong_confirm(text));
    }
    let broken = u64::from(length.subsec_nanos() > 0);
    Ok(Duration::from_secs(length.as_secs() + broken))
}

/// The two largest units that count: `3d 4h`, `1m 5s`, `12s`, `1.5ms`.
pub(crate) fn humane(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return match duration.as_micros() {
            0 => "0s".into(),
            micros @ 1..1_000 => format!("{micros}µs"),
            micros => format!("{:.1}ms", micros as f64 / 1_000.0),
        };
    }
    if duration < Duration::from_secs(10) && duration.subsec_millis() >= 100 {
        return format!("{:.1}s", duration.as_secs_f64());
    }
    humane_seconds(duration.as_secs())
}

/// The same for whole seconds.
pub(crate) fn humane_seconds(seconds: u64) -> String {
    // Weeks are for writing; a person reads days more easily.
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, size) in &UNITS[1..] {
        let count = rest / size;
        rest %= size;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() {
        "0s".into()
    } else {
        parts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("10m", Some(600)),
            ("1h30m", Some(5_400)),
            ("1w", Some(604_800)),
            ("10", None),
            ("", None),
            ("m", None),
            ("-5m", None),
            ("5 m", None),
            ("99999999999999999999d", None),
            ("999999999999999999d", None),
        ] {
            assert_eq!(
                parse_duration(text).ok().map(|d| d.as_secs()),
                seconds,
                "{text:?}"
            );
        }
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["0s", "0ms", "0h0m", "", "x"] {
            assert!(parse_ban_length(text).is_err(), "{text:?}");
        }
        assert_eq!(parse_ban_length("1m"), Ok(Duration::from_secs(60)));
    }

    #[test]
    fn what_no_policy_waits_is_refused_as_the_server_does() {
        for (text, seconds) in [
            ("1s", Some(1)),
            ("1500ms", Some(2)),
            ("24h", Some(86_400)),
            ("0s", None),
            ("1ms", None),
            ("999ms", None),
            ("24h1s", None),
        ] {
            let told = format!(
                "a policy waits for its confirmation from 1 s to 86400 s (24 h), not {text}"
            );
            let read = seconds.map(Duration::from_secs).ok_or(told);
            assert_eq!(parse_confirm(text), read, "{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_two_units() {
        for (millis, shown) in [
            (0, "0s"),
            (2, "2.0ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (65_000, "1m 5s"),
            (3_600_000, "1h"),
            (3_605_000, "1h"),
            (100_000_000, "1d 3h"),
        ] {
            assert_eq!(humane(Duration::from_millis(millis)), shown);
        }
    }
}
