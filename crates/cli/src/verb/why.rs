//! `why`: the story of an address or an event, in plain sentences.

use daemon::api::Why;
use serde_json::value::RawValue;

use crate::args;
use crate::client::{Client, percent};
use crate::eve;
use crate::failure::{Exit, Failure};
use crate::screen::{Screen, Tone, visible};

/// How many of its last events stand under the story.
const SHOWN_EVENTS: usize = 10;

/// Tells it.
pub(super) fn why(
    daemon: &Client,
    asked: &args::Why,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let path = format!("why/{}", percent(&asked.subject));
    if asked.json {
        // As the daemon wrote it: the events in it keep the order of their fields.
        let whole: Box<RawValue> = daemon.get(&path)?;
        screen.line(whole.get())?;
        return Ok(Exit::Done);
    }
    let why: Why = daemon.get(&path)?;
    for sentence in &why.story {
        screen.line(plain_times(&visible(sentence)))?;
    }
    if !why.events.is_empty() {
        screen.line("")?;
        screen.line(screen.paint(Tone::Faint, "Its last events:"))?;
        for event in why.events.iter().take(SHOWN_EVENTS).rev() {
            let line = eve::line(event, screen);
            screen.line(line)?;
        }
    }
    Ok(Exit::Done)
}

/// Times to the second and without the letters that are for programs: `2027-01-01 00:00:00`.
fn plain_times(text: &str) -> String {
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
