//! `why`: the story of an address or an event, in plain sentences.

use daemon::api::Why;
use serde_json::value::RawValue;

use crate::args;
use crate::client::{Client, percent};
use crate::eve;
use crate::failure::{Exit, Failure};
use crate::screen::{Screen, Tone, plain_times, visible_once};

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
        screen.line(plain_times(&visible_once(sentence)))?;
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
