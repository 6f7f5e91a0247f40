//! Times as people read them.

use daemon::api::Time;

/// To the second, in UTC: `2027-01-01 00:00:00`.
pub(crate) fn moment(time: Time) -> String {
    plain_times(&time.to_string())
}

/// The text with each time in it as [`moment`] shows it.
pub(crate) fn plain_times(text: &str) -> String {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00.000000Z";
    let is_time = |at: usize| {
        text.as_bytes()
            .get(at..at + SHAPE.len())
            .is_some_and(|bytes| {
                bytes
                    .iter()
                    .zip(SHAPE)
                    .all(|(&byte, &wanted)| match wanted {
                        b'0' => byte.is_ascii_digit(),
                        _ => byte == wanted,
                    })
            })
    };
    let mut plain = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(character) = text[at..].chars().next() {
        if is_time(at) {
            plain.push_str(&text[at..at + 10]);
            plain.push(' ');
            plain.push_str(&text[at + 11..at + 19]);
            at += SHAPE.len();
        } else {
            plain.push(character);
            at += character.len_utf8();
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::plain_times;

    #[test]
    fn only_times_are_made_plain() {
        for (text, plain) in [
            (
                "banned since 2027-01-01T10:20:30.123456Z.",
                "banned since 2027-01-01 10:20:30.",
            ),
            (
                "2027-01-01T10:20:30.123456Z–2027-01-01T10:20:31.123456Z",
                "2027-01-01 10:20:30–2027-01-01 10:20:31",
            ),
            ("Regel „ä“ 2027-01-01T10:20", "Regel „ä“ 2027-01-01T10:20"),
            ("", ""),
        ] {
            assert_eq!(plain_times(text), plain);
        }
    }
}
