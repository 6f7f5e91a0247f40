//! The story of an address or an event, from the record and from what holds now.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use ipnet::IpNet;
use serde_json::Value;

use super::failure::Failure;
use super::route::{Answer, App, blocking};
use crate::api::{Ban, BanHistory, Decided, Why, WhyCount};
use crate::clock;
use crate::guard::{mode_name, parse_prefix};
use crate::record::ban::ban as shown;
use crate::record::explain::short;
use crate::store::{EventFilter, Range, Reader, StoredEvent};

/// Events that a story holds.
const EVENTS: u32 = 50;
/// Past bans that it holds.
const BANS: u32 = 20;
/// The mode in which nothing is blocked.
const OBSERVE: &str = "observe";
const PATIENCE: Duration = Duration::from_millis(500);

/// `GET why/{subject}`: an address, a prefix, or an event's number.
pub(super) async fn why(State(app): State<App>, Path(subject): Path<String>) -> Answer<Why> {
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
                of_prefix(&app, &reader, subject.clone(), prefix)
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
    let source = value["src_ip"]
        .as_str()
        .and_then(|text| parse_prefix(text).ok());
    let mut story = vec![sentence(&value)];
    let mut why = match source {
        Some(prefix) => of_prefix(app, reader, subject.clone(), prefix)?,
        None => Why::of(subject.clone()),
    };
    story.append(&mut why.story);
    why.events.retain(|other| *other != value);
    why.events.insert(0, value);
    Ok(Why {
        subject,
        story,
        ..why
    })
}

fn of_prefix(app: &App, reader: &Reader, subject: String, prefix: IpNet) -> Result<Why, Failure> {
    let standing = app.service.guard.ask(move |guard| guard.standing(prefix))?;
    let range = Range::from(prefix);
    let filter = EventFilter {
        limit: EVENTS,
        range: Some(range),
        ..EventFilter::default()
    };
    let now = clock::now();
    let seen = reader.seen(range)?;
    let mut why = Why {
        ban: standing.ban,
        around: standing.around,
        history: standing.history,
        protected: standing.protected,
        mode: mode_name(standing.mode).to_owned(),
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
        events: reader.events(&filter)?.iter().map(parse).collect(),
        ..Why::of(subject)
    };
    why.story = story(&why, prefix);
    Ok(why)
}

impl Why {
    fn of(subject: String) -> Self {
        Self {
            subject,
            story: Vec::new(),
            ban: None,
            around: Vec::new(),
            history: None,
            past_bans: Vec::new(),
            protected: None,
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

/// What holds now, then what happened.
fn story(why: &Why, prefix: IpNet) -> Vec<String> {
    let name = short(prefix);
    let mut story = Vec::new();
    if why.mode == OBSERVE {
        story.push("Nothing is blocked now: the firewall only observes.".to_owned());
    }
    if let Some(why) = &why.protected {
        story.push(format!(
            "{name} is protected ({why}): no ban, feed or detector drops it, rules still do."
        ));
    }
    match &why.ban {
        Some(ban) => story.push(ban_sentence(ban)),
        None => story.push(format!("{name} is not banned.")),
    }
    if let Some(ban) = &why.ban {
        story.extend(about(ban));
    }
    for ban in &why.around {
        story.push(ban_sentence(ban));
        story.extend(about(ban));
    }
    story.extend(why.history.as_ref().map(history_sentence));
    for denied in &why.denied {
        story.push(format!(
            "{} {} {}, from {} to {}: {}.",
            denied.count,
            match (denied.enforced, denied.count) {
                (true, 1) => "packet was",
                (true, _) => "packets were",
                (false, 1) => "packet would have been",
                (false, _) => "packets would have been",
            },
            if denied.decided.verdict == "reject" {
                "rejected"
            } else {
                "dropped"
            },
            denied.first,
            denied.last,
            reason(&denied.decided),
        ));
    }
    for ban in &why.past_bans {
        let by = ban.detector.as_ref().unwrap_or(&ban.origin);
        story.push(format!(
            "{} was banned from {} on ({by}): {}.",
            short(ban.prefix),
            ban.since,
            ban.reason
        ));
    }
    match (why.first_seen, why.last_seen) {
        (Some(first), Some(last)) => story.push(format!("It is on record from {first} to {last}.")),
        _ => story.push("Nothing of it is on record.".to_owned()),
    }
    story
}

/// What a ban rests on beside its reason.
fn about(ban: &Ban) -> Vec<String> {
    let mut story = Vec::new();
    if !ban.grew_from.is_empty() {
        let names: Vec<String> = ban.grew_from.iter().map(|net| short(*net)).collect();
        story.push(format!(
            "It was widened to {} because of the bans of {}, which stay as they are.",
            short(ban.prefix),
            names.join(", ")
        ));
    }
    if ban.evidence.proven == Some(false) {
        story.push(
            "Somebody else could have sent these packets in its name, so that this ban makes no other longer or wider."
                .to_owned(),
        );
    }
    story
}

fn history_sentence(history: &BanHistory) -> String {
    let times = |count: u32| match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    };
    let name = short(history.prefix);
    let doubled = match history.offences {
        0 => "its next ban is as long as a first one".to_owned(),
        count => format!("its next ban is doubled {}", times(count)),
    };
    let lifted = history.lifted.map_or_else(String::new, |at| {
        format!(", and what was before its ban was lifted at {at} does not count")
    });
    format!(
        "{name} was banned {} that is remembered, last at {}: {doubled}{lifted}.",
        times(history.times_banned),
        history.last
    )
}

fn ban_sentence(ban: &Ban) -> String {
    let until = match ban.expires {
        Some(expires) => format!("until {expires}"),
        None => "until the ban is lifted".to_owned(),
    };
    let by = match (&ban.detector, ban.evidence.rule.as_ref()) {
        (Some(detector), _) => format!("by the detector {detector}"),
        (None, Some(rule)) => format!("by the rule \"{rule}\""),
        (None, None) => format!(
            "by {}",
            if ban.origin == "manual" {
                "hand"
            } else {
                &ban.origin
            }
        ),
    };
    let times = match ban.times_banned {
        1 => String::new(),
        times => format!(", the {times}. time"),
    };
    format!(
        "{} {} banned since {} {until}, {by}{times}: {}.",
        short(ban.prefix),
        if ban.mode.as_deref() == Some(OBSERVE) {
            "would be"
        } else {
            "is"
        },
        ban.since,
        ban.reason
    )
}

fn reason(decided: &Decided) -> &str {
    &decided.text
}

/// An event in one sentence.
fn sentence(event: &Value) -> String {
    let text = |pointer: &str| {
        event
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let at = text("/timestamp");
    let packet = || {
        let end = |address: &str, port: &str| match event[port].as_u64() {
            Some(port) => format!("{} port {port}", text(address)),
            None => text(address).to_owned(),
        };
        format!(
            "{} from {} to {}",
            text("/proto"),
            end("/src_ip", "src_port"),
            end("/dest_ip", "dest_port")
        )
    };
    let decided = text("/metadata/pktvars/0/text");
    match text("/event_type") {
        "drop" => {
            let enforced = event
                .pointer("/metadata/pktvars/0/enforced")
                .and_then(Value::as_bool);
            let verdict = match (text("/metadata/pktvars/0/verdict"), enforced) {
                ("reject", Some(false)) => "would have been rejected",
                ("reject", _) => "was rejected",
                (_, Some(false)) => "would have been dropped",
                _ => "was dropped",
            };
            format!("At {at}, a packet, {}, {verdict}: {decided}.", packet())
        }
        "firewall" => format!("At {at}, a packet, {}, passed: {decided}.", packet()),
        "dns" => format!("At {at}, a question, {}: {decided}.", packet()),
        "alert" => format!("At {at}, {}: {}.", packet(), text("/alert/signature")),
        "anomaly" => format!(
            "At {at}, a broken or impossible packet, {}: {}.",
            packet(),
            text("/anomaly/event")
        ),
        "flow" => format!(
            "At {at}, a flow, {}, ended ({}).",
            packet(),
            text("/flow/reason")
        ),
        "ban" => format!(
            "At {at}, {} {} banned: {}.",
            text("/ban/prefix"),
            if text("/ban/mode") == OBSERVE {
                "would have been"
            } else {
                "was"
            },
            text("/ban/reason")
        ),
        "unban" => format!(
            "At {at}, the ban of {} ended ({}).",
            text("/ban/prefix"),
            text("/ban/ended")
        ),
        "ban-refused" => format!("At {at}, a ban was refused: {}.", text("/ban/refused")),
        _ => format!("At {at}: {}.", text("/engine/message")),
    }
}
