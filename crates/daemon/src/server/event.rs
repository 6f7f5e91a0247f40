//! Events: from the store, and as they come.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};
use ipnet::IpNet;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;

use super::failure::Failure;
use super::handler::{App, Query, blocking, know, read};
use crate::api::EventQuery;
use crate::guard::{Guard, parse_prefix};
use crate::record::Recorder;
use crate::store::{Entry, EventFilter, Range};

/// Events in an answer when nobody says.
const DEFAULT: u32 = 100;
/// Events in an answer at most.
const MOST: u32 = 10_000;
/// The kinds that are on record, by `event_type`.
const KINDS: [&str; 12] = [
    "drop",
    "firewall",
    "alert",
    "anomaly",
    "flow",
    "dns",
    "ban",
    "unban",
    "ban-refused",
    "policy",
    "drift",
    "daemon",
];
/// How long what is on its way to the store is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// `GET events`.
pub(super) async fn events(
    State(app): State<App>,
    Query(query): Query<EventQuery>,
) -> Result<Response, Failure> {
    let filter = filter(&query)?;
    if let Some(rule) = filter.rule.clone() {
        known_rule(&app, rule).await?;
    }
    if query.follow {
        return follow(app, filter, query.limit.unwrap_or(0)).await;
    }
    let lines = past(&app, filter).await?;
    // The objects are JSON already: they are put into an array as they are.
    let mut body =
        String::with_capacity(lines.iter().map(|line| line.len() + 1).sum::<usize>() + 2);
    body.push('[');
    body.push_str(&lines.join(","));
    body.push(']');
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

fn filter(query: &EventQuery) -> Result<EventFilter, Failure> {
    let prefix: Option<IpNet> = query.address.as_deref().map(parse_prefix).transpose()?;
    let kinds = query.kind.as_deref().unwrap_or_default().split(',');
    let kinds: Vec<&str> = kinds
        .map(str::trim)
        .filter(|kind| !kind.is_empty())
        .collect();
    if let Some(unknown) = kinds.iter().find(|kind| !KINDS.contains(kind)) {
        let meant = policy::nearest(unknown, KINDS)
            .map_or_else(String::new, |kind| format!("; did you mean {kind:?}?"));
        return Err(Failure::request(format!(
            "there is no kind of event {unknown:?}, but {}{meant}",
            KINDS.join(", ")
        )));
    }
    Ok(EventFilter {
        limit: query.limit.unwrap_or(DEFAULT).min(MOST),
        kinds: kinds.into_iter().map(str::to_owned).collect(),
        since: query.since.map(|time| time.0),
        until: query.until.map(|time| time.0),
        range: prefix.map(Range::from),
        rule: query.rule.clone(),
    })
}

/// A rule that neither the policy in force has nor the record knows is a mistake, not a rule without events.
async fn known_rule(app: &App, rule: String) -> Result<(), Failure> {
    let rules = know(app, Guard::rules).await?.0;
    if rules.iter().any(|known| known.name == rule) {
        return Ok(());
    }
    let name = rule.clone();
    if read(app, move |reader| reader.knows_rule(&name)).await? {
        return Ok(());
    }
    let meant = policy::nearest(&rule, rules.iter().map(|known| known.name.as_str()))
        .map_or_else(String::new, |name| format!("; did you mean {name:?}?"));
    let error = format!(
        "there is no rule {rule:?} in force, and none on record; `portcullis rules` lists them{meant}"
    );
    Err(Failure::new(StatusCode::NOT_FOUND, error))
}

async fn past(app: &App, filter: EventFilter) -> Result<Vec<String>, Failure> {
    let (recorder, store) = (app.service.recorder.clone(), app.service.store.clone());
    blocking(move || {
        // What happened before the question belongs into the answer; a writer that is too slow is not waited for.
        if recorder.flush(PATIENCE) {
            store.flush(PATIENCE);
        }
        let events = store.reader()?.events(&filter)?;
        Ok(events.into_iter().map(|event| event.json).collect())
    })
    .await
}

async fn follow(app: App, filter: EventFilter, old: u32) -> Result<Response, Failure> {
    // Subscribed before the past is read, so that nothing falls between; what comes in both is sent once.
    let live = app.service.recorder.follow();
    let mut before = Vec::new();
    if old > 0 {
        let wanted = EventFilter {
            limit: old.min(MOST),
            ..filter.clone()
        };
        before = past(&app, wanted).await?;
        before.reverse();
    }
    let (sender, body) = Channel::<Bytes, Infallible>::new(64);
    tokio::spawn(send(
        sender,
        before,
        live,
        filter,
        app.service.recorder,
        app.stop,
    ));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::new(body)).into_response())
}

async fn send(
    mut sender: Sender<Bytes, Infallible>,
    before: Vec<String>,
    mut live: Receiver<Arc<Entry>>,
    filter: EventFilter,
    recorder: Recorder,
    mut stop: watch::Receiver<bool>,
) {
    let known: std::collections::HashSet<&str> = before.iter().map(String::as_str).collect();
    for line in &before {
        if sender
            .send_data(Bytes::from(format!("{line}\n")))
            .await
            .is_err()
        {
            return;
        }
    }
    loop {
        let entry = tokio::select! {
            entry = live.recv() => entry,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match entry {
            Ok(entry) => {
                if !matches(&entry, &filter) || known.contains(entry.json.as_str()) {
                    continue;
                }
                let line = Bytes::from(format!("{}\n", entry.json));
                // An error says that the follower is gone.
                if sender.send_data(line).await.is_err() {
                    return;
                }
            }
            // A follower that is too slow goes on with what is new.
            Err(RecvError::Lagged(events)) => recorder.count_missed(events),
            Err(RecvError::Closed) => return,
        }
    }
}

/// The same conditions as the store's.
fn matches(entry: &Entry, filter: &EventFilter) -> bool {
    let overlaps = |wanted: Range| {
        let within = |range: Option<Range>| {
            range.is_some_and(|range| range.first <= wanted.last && range.last >= wanted.first)
        };
        let source = match entry.kind {
            "ban-refused" => {
                let whole = wanted.banned_by();
                (entry.source)
                    .is_some_and(|range| range.first >= whole.first && range.last <= whole.last)
            }
            _ => within(entry.source),
        };
        source || within(entry.destination)
    };
    let rule = entry
        .decided
        .as_ref()
        .and_then(|decided| decided.rule.as_ref());
    (filter.kinds.is_empty() || filter.kinds.iter().any(|kind| kind == entry.kind))
        && filter.since.is_none_or(|since| entry.at >= since)
        && filter.until.is_none_or(|until| entry.at < until)
        && filter.range.is_none_or(overlaps)
        && filter
            .rule
            .as_ref()
            .is_none_or(|wanted| rule == Some(wanted))
}
