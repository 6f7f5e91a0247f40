//! `why`: the story of an address or an event, in plain sentences.

use daemon::api::Why;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::args;
use crate::client::{Client, percent};
use crate::eve;
use crate::failure::{Exit, Failure};
use crate::screen::{Screen, Tone, plain_times, several, visible_once};

/// How many bans, refusals and alerts stand under the story.
const SHOWN_TOLD: usize = 6;
/// And how many lines of other events, runs of like ones being one line.
const SHOWN_OTHERS: usize = 10;
/// How many ports of a run are named.
const SHOWN_PORTS: usize = 12;

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
    if why.events.is_empty() {
        return Ok(Exit::Done);
    }
    let is_event = why
        .subject
        .trim_start_matches('#')
        .bytes()
        .all(|byte| byte.is_ascii_digit());
    let title = if is_event {
        "What came before it, and the event itself:"
    } else if why.ban.is_some() {
        "What came before the ban, and since then without what the ban dropped:"
    } else {
        "Its last events:"
    };
    screen.line("")?;
    screen.line(screen.paint(Tone::Faint, title))?;
    for run in shown(&why.events) {
        let mut line = eve::line(run.first, screen);
        line.push_str(&screen.paint(Tone::Faint, &run.rest()));
        screen.line(line)?;
    }
    if is_event && let Some(address) = why.events[0]["src_ip"].as_str() {
        let more = format!("`portcullis why {address}` tells everything of {address}.");
        screen.line("")?;
        screen.line(screen.paint(Tone::Faint, &crate::screen::visible(&more)))?;
    }
    Ok(Exit::Done)
}

/// Events that follow each other and say the same.
struct Run<'e> {
    first: &'e Value,
    last: &'e Value,
    /// How many follow the first.
    more: usize,
    /// The destination ports of those.
    ports: Vec<u64>,
}

impl Run<'_> {
    /// What is said behind the first event; nothing where it is alone.
    fn rest(&self) -> String {
        if self.more == 0 {
            return String::new();
        }
        let until = self.last["timestamp"].as_str().unwrap_or_default();
        let until = until.get(11..23).unwrap_or(until);
        let mut text = format!(" (and {} more like it until {until}", self.more);
        if !self.ports.is_empty() {
            let named: Vec<String> = self
                .ports
                .iter()
                .take(SHOWN_PORTS)
                .map(u64::to_string)
                .collect();
            let plural = if self.ports.len() == 1 {
                "port"
            } else {
                "ports"
            };
            text.push_str(&format!(", to {plural} {}", named.join(", ")));
            if self.ports.len() > SHOWN_PORTS {
                let more = several(self.ports.len() - SHOWN_PORTS, "other");
                text.push_str(&format!(" and {more}"));
            }
        }
        text.push(')');
        text
    }
}

/// What a person should know of a source, as against single packets and flows.
fn is_told(event: &Value) -> bool {
    ["ban", "unban", "ban-refused", "alert"].contains(&event["event_type"].as_str().unwrap_or(""))
}

/// Whether the two differ in nothing but time and port.
fn alike(a: &Value, b: &Value) -> bool {
    let fields = ["event_type", "direction", "proto", "src_ip", "dest_ip"];
    let pointers = ["/metadata/pktvars/0/text", "/anomaly/event", "/flow/reason"];
    !is_told(a)
        && fields.iter().all(|field| a[*field] == b[*field])
        && pointers.iter().all(|at| a.pointer(at) == b.pointer(at))
}

/// The lines that are shown, oldest first, of events that come newest first.
fn shown(events: &[Value]) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for event in events.iter().rev() {
        match runs.last_mut() {
            Some(run) if alike(run.first, event) => {
                run.last = event;
                run.more += 1;
                if let Some(port) = event["dest_port"].as_u64()
                    && run.first["dest_port"] != event["dest_port"]
                    && !run.ports.contains(&port)
                {
                    run.ports.push(port);
                }
            }
            _ => runs.push(Run {
                first: event,
                last: event,
                more: 0,
                ports: Vec::new(),
            }),
        }
    }
    // The newest of both kinds: neither buries the other.
    let (mut told, mut others) = (SHOWN_TOLD, SHOWN_OTHERS);
    runs.reverse();
    runs.retain(|run| {
        let left = if is_told(run.first) {
            &mut told
        } else {
            &mut others
        };
        let is_shown = *left > 0;
        *left = left.saturating_sub(1);
        is_shown
    });
    runs.reverse();
    runs
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn drop_to(port: u16, second: u8) -> Value {
        json!({"event_type": "drop", "timestamp": format!("2027-01-01T10:20:{second:02}.000000Z"), "proto": "TCP",
            "src_ip": "203.0.113.7", "dest_ip": "192.0.2.1", "dest_port": port,
            "metadata": {"pktvars": [{"text": "no rule matches"}]}})
    }

    #[test]
    fn a_scan_is_one_line_and_its_ban_another() {
        let ban = json!({"event_type": "ban", "timestamp": "2027-01-01T10:20:06.000000Z", "src_ip": "203.0.113.7"});
        let mut events: Vec<Value> = (0..5).map(|n| drop_to(20 + n, n as u8)).collect();
        events.push(drop_to(20, 5));
        events.extend([ban.clone(), ban]);
        events.reverse();
        let runs = shown(&events);
        let rests: Vec<String> = runs.iter().map(Run::rest).collect();
        assert_eq!(
            rests,
            [
                " (and 5 more like it until 10:20:05.000, to ports 21, 22, 23, 24)",
                "",
                ""
            ]
        );
        assert_eq!(runs[1].first["event_type"], "ban");
    }

    #[test]
    fn what_differs_stands_by_itself_and_the_newest_are_kept() {
        let mut events: Vec<Value> = Vec::new();
        for n in 0..40u8 {
            let mut event = drop_to(22, n);
            event["src_ip"] = json!(format!("203.0.113.{n}"));
            events.push(event);
            events.push(json!({"event_type": "alert", "timestamp": n}));
        }
        events.reverse();
        let runs = shown(&events);
        let count = |told| runs.iter().filter(|run| is_told(run.first) == told).count();
        assert_eq!((count(true), count(false)), (SHOWN_TOLD, SHOWN_OTHERS));
        assert_eq!(
            runs.last().map(|run| run.first["timestamp"].clone()),
            Some(json!(39))
        );
    }
}
