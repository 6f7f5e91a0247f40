//! Spans of time and numbers of bytes as the policy writes them: `90s`, `1h30m`, `64MiB`.

use std::time::Duration;

const TIME_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

const BYTE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// `10m`, `1h30m`, `500ms`. `Err` holds what was probably meant, if that can be told.
pub(crate) fn duration(text: &str) -> Result<Duration, Option<String>> {
    let mut rest = text;
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(None);
    }
    while !rest.is_empty() {
        let (number, after) = leading_number(rest).ok_or_else(|| respell(text))?;
        let unit_end = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let scale = TIME_UNITS.iter().find(|(name, _)| *name == unit);
        let (_, scale) = scale.ok_or_else(|| respell(text))?;
        total = number
            .checked_mul(*scale)
            .and_then(|part| total.checked_add(part))
            .ok_or(None)?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// A duration spelt with blanks, in capitals, with whole words or without a unit.
fn respell(text: &str) -> Option<String> {
    let plain: String = text
        .to_lowercase()
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let (_, unit) = leading_number(&plain)?;
    let number = &plain[..plain.len() - unit.len()];
    let meant = match unit {
        "" | "sec" | "secs" | "second" | "seconds" => "s",
        "min" | "mins" | "minute" | "minutes" => "m",
        "hr" | "hrs" | "hour" | "hours" => "h",
        "day" | "days" => "d",
        "week" | "weeks" => "w",
        "ms" | "s" | "m" | "h" | "d" | "w" => unit,
        _ => return None,
    };
    Some(format!("{number}{meant}"))
}

/// `64MiB`, `1GB`, `4096`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = leading_number(text)?;
    let (_, scale) = BYTE_UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim_start()))?;
    number.checked_mul(*scale)
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// A duration as the policy writes it: `1h30m`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let mut rest = duration.as_millis() as u64;
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut shown = String::new();
    // Weeks are not shown: 7d reads better than 1w.
    for (unit, scale) in TIME_UNITS[..5].iter().rev() {
        if rest >= *scale {
            shown.push_str(&format!("{}{unit}", rest / scale));
            rest %= scale;
        }
    }
    shown
}

/// A number of bytes as the policy writes it: `64MiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let unit = BYTE_UNITS[2..6]
        .iter()
        .rev()
        .find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale));
    match unit {
        Some((unit, scale)) => format!("{}{unit}", bytes / scale),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("90s", 90),
            ("1h30m", 5_400),
            ("10m", 600),
            ("2w", 1_209_600),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for (text, meant) in [
            ("", None),
            ("10", Some("10s")),
            ("10 minutes", Some("10m")),
            ("10M", Some("10m")),
            ("10x", None),
            ("m", None),
            ("-5s", None),
            ("99999999999999999999s", None),
            ("99999999999999w", None),
        ] {
            assert_eq!(duration(text), Err(meant.map(str::to_owned)), "{text}");
        }
        assert_eq!(
            show_duration(Duration::from_millis(5_400_500)),
            "1h30m500ms"
        );
        assert_eq!(show_duration(Duration::from_secs(7 * 86_400)), "7d");
    }

    #[test]
    fn sizes() {
        for (text, bytes_) in [
            ("4096", Some(4_096)),
            ("64MiB", Some(64 << 20)),
            ("1 gb", Some(1_000_000_000)),
            ("x", None),
            ("5 apples", None),
        ] {
            assert_eq!(bytes(text), bytes_, "{text}");
        }
        assert_eq!(show_bytes(64 << 20), "64MiB");
        assert_eq!(show_bytes(1_000), "1000 bytes");
    }
}
