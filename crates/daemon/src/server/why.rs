//! The story of an address or an event, from the record and from what holds now.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use ipnet::IpNet;
use serde_json::Value;

use super::failure::Failure;
use super::handler::{ApiResult, App, blocking};
use super::story;
use crate::api::{Why, WhyCount};
use crate::clock;
use crate::guard::parse_prefix;
use crate::record::ban::ban as shown;
use crate::store::{Range, Reader, StoredEvent};

/// Bans, refusals and alerts that a story holds.
const TOLD: u32 = 20;
/// Other events that it holds.
const OTHERS: u32 = 30;
/// Past bans that it holds.
const BANS: u32 = 20;
const PATIENCE: Duration = Duration::from_millis(500);

/// `GET why/{subject}`: an address, a prefix, or an event's number.
pub(super) async fn why(State(app): State<App>, Path(subject): Path<String>) -> ApiResult<Why> {
    blocking(move || {
        let (recorder, store) = (&app.service.recorder, &app.service.store);
        if recorder.flush(PATIENCE) {
            store.flush(PATIENCE);
        }
        let reader = store.reader()?;
        let number = subject.strip_prefix('#').unwrap_or(&subject).parse::<u64>();
        match number {
            Ok(number) => of_event(&app, &reader, subject.clone(), number),
            Err(_) => {
                let prefix = parse_prefix(&subject)?;
                of_prefix(&app, &reader, subject.clone(), prefix, None)
            }
        }
        .map(Json)
    })
    .await
}

fn of_event(app: &App, reader: &Reader, subject: String, number: u64) -> Result<Why, Failure> {
    let event = reader.event(number)?.ok_or_else(|| {
        let error = format!("there is no event {number} on record; old ones are deleted, `portcullis events` shows what there is");
        Failure::new(StatusCode::NOT_FOUND, error)
    })?;
    let value = parse(&event);
    // A ban of a prefix has no source address.
    let source = ["/src_ip", "/ban/prefix"]
        .iter()
        .filter_map(|pointer| value.pointer(pointer)?.as_str())
        .find_map(|text| parse_prefix(text).ok());
    let mut story = story::of_event(&value);
    let mut why = match source {
        Some(prefix) => of_prefix(app, reader, subject.clone(), prefix, Some(number))?,
        None => Why::of(subject.clone()),
    };
    // Of the rest of the story only how things are now: the event is what was asked for.
    story.extend(why.story.into_iter().next());
    // Nothing after it is there, so that its place is the first.
    why.events.retain(|other| *other != value);
    why.events.insert(0, value);
    Ok(Why {
        subject,
        story,
        ..why
    })
}

/// The story of a prefix; `up_to` leaves out events after the one of this number.
fn of_prefix(
    app: &App,
    reader: &Reader,
    subject: String,
    prefix: IpNet,
    up_to: Option<u64>,
) -> Result<Why, Failure> {
    let standing = app.service.guard.ask(move |guard| guard.standing(prefix))?;
    let range = Range::from(prefix);
    let now = clock::now();
    let seen = reader.seen(range)?;
    let mut why = Why {
        ban: standing.ban.clone(),
        around: standing.around.clone(),
        parts: standing.parts,
        history: standing.history.clone(),
        protected: standing.protected.clone(),
        feeds: standing.feeds.clone(),
        mode: standing.mode.name().to_owned(),
        past_bans: reader
            .past_bans(range, BANS)?
            .iter()
            .map(|past| shown(&past.ban, now))
            .collect(),
        denied: reader
            .denied(range)?
            .into_iter()
            .map(|denied| WhyCount {
                decided: denied.decided,
                count: denied.count,
                first: denied.first.into(),
                last: denied.last.into(),
                enforced: denied.enforced,
            })
            .collect(),
        first_seen: seen.map(|(first, _)| first.into()),
        last_seen: seen.map(|(_, last)| last.into()),
        events: reader
            .story(range, up_to, TOLD, OTHERS)?
            .iter()
            .map(parse)
            .collect(),
        ..Why::of(subject)
    };
    why.story = story::of_prefix(&why, &standing, prefix);
    Ok(why)
}

impl Why {
    fn of(subject: String) -> Self {
        Self {
            subject,
            story: Vec::new(),
            ban: None,
            around: Vec::new(),
            parts: 0,
            history: None,
            past_bans: Vec::new(),
            protected: None,
            feeds: Vec::new(),
            denied: Vec::new(),
            first_seen: None,
            last_seen: None,
            events: Vec::new(),
            mode: String::new(),
        }
    }
}

/// What was stored was written by us.
fn parse(event: &StoredEvent) -> Value {
    serde_json::from_str(&event.json).unwrap_or(Value::Null)
}
