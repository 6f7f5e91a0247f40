//! `events`: the record, and what is added to it.

use std::time::Duration;

use daemon::api::{EventQuery, Time};
use policy::Timestamp;
use serde_json::value::RawValue;

use crate::args;
use crate::client::Client;
use crate::eve;
use crate::failure::{Exit, Failure};
use crate::screen::{Screen, parse_duration, warn};
use crate::source;

/// Shows them, oldest first.
pub(super) fn events(
    daemon: &Client,
    asked: &args::Events,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let query = EventQuery {
        limit: asked.limit,
        kind: kinds(&asked.kind),
        since: asked.since.as_deref().map(since).transpose()?,
        until: None,
        address: asked.address.map(|address| address.to_string()),
        rule: asked.rule.clone(),
        follow: asked.follow,
    };
    if asked.follow {
        // Both closures write to the one screen, never at the same time.
        let screen = std::cell::RefCell::new(screen);
        daemon.follow(
            "events",
            &query,
            |line| {
                show(
                    &String::from_utf8_lossy(line),
                    asked.json,
                    &mut screen.borrow_mut(),
                )
            },
            || Ok(screen.borrow_mut().flush()?),
        )?;
        warn(
            "the daemon has ended, and no more events come; `portcullis events --follow` again once it runs",
        );
    } else {
        let events: Vec<Box<RawValue>> = daemon.query("events", &query)?;
        for event in events.iter().rev() {
            show(event.get(), asked.json, screen)?;
        }
        if events.is_empty() && screen.is_terminal() && !asked.json {
            screen.line("No events.")?;
        }
    }
    Ok(Exit::Done)
}

fn show(event: &str, json: bool, screen: &mut Screen) -> Result<(), Failure> {
    if json {
        // Escaped by the daemon, and kept as it wrote it.
        screen.line(event)?;
    } else {
        let event = serde_json::from_str(event).map_err(|why| {
            Failure::Failed(format!(
                "the daemon sends an event that is no JSON ({why}); restart it after an update"
            ))
        })?;
        let line = eve::line(&event, screen);
        screen.line(line)?;
    }
    Ok(())
}

/// As the API takes them.
fn kinds(asked: &[args::EventKind]) -> Option<String> {
    let names: Vec<String> = asked.iter().map(|kind| kind.name()).collect();
    (!names.is_empty()).then(|| names.join(","))
}

/// `10m` ago, or a moment.
fn since(text: &str) -> Result<Time, Failure> {
    if let Some(moment) = Timestamp::parse_rfc3339(text) {
        return Ok(Time(moment));
    }
    let ago = parse_duration(text)
        .map_err(|_| Failure::Usage(format!("{text:?} is no time; write how long ago, like 10m, or a moment like 2027-01-01T00:00:00Z")))?;
    let now = Duration::from_nanos(source::now()?.as_nanos());
    let nanos = u64::try_from(now.saturating_sub(ago).as_nanos()).unwrap_or(0);
    Ok(Time(Timestamp::from_nanos(nanos)))
}
