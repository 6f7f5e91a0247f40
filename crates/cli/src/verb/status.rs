//! `status`: how the firewall is, worst first.

use daemon::api::{
    Backend, DnsStatus, FeedStatus, List, Losses, Queue, Record, Sink, Stale, Status,
};

use crate::args::Plain;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::screen::{Cell, Screen, Table, Tone, humane_seconds, moment, several, single, visible};
use crate::source;

/// Shows it.
pub(super) fn status(daemon: &Client, asked: &Plain, screen: &mut Screen) -> Result<Exit, Failure> {
    let status: Status = daemon.get("status")?;
    if asked.json {
        screen.json(&status)?;
        return Ok(Exit::Done);
    }
    let (tone, mode) = match status.mode.as_str() {
        "enforce" => (Tone::Good, "enforcing"),
        _ => (Tone::Warning, "observing: nothing is blocked"),
    };
    screen.line(format!(
        "Portcullis {} is {}, for {} (process {})",
        visible(&status.version),
        screen.paint(tone, mode),
        humane_seconds(status.uptime_s),
        status.pid
    ))?;
    for warning in &status.warnings {
        screen.line(screen.paint(Tone::Warning, &format!("! {}", visible(warning))))?;
    }
    if let Some(pending) = &status.pending {
        let line = format!(
            "! {} is unconfirmed: {} comes back in {} without `portcullis confirm`",
            visible(&pending.source),
            visible(&pending.previous),
            humane_seconds(pending.remaining_s)
        );
        screen.line(screen.paint(Tone::Warning, &line))?;
    }
    screen.line("")?;
    let mut facts = Table::new(&[]);
    let mut fact = |name: &str, value: String| {
        facts.row([Cell::new(name).tone(Tone::Faint), Cell::new(value)])
    };
    fact("policy", policy(&status));
    if let Some(why) = &status.policy.rejected {
        fact("", format!("the file as it is now is not in force: {why}"));
    }
    for (list, stale) in stale(&status) {
        fact(
            "list",
            format!(
                "{} {} since {}; in use is what it held at {}: {}",
                list.path,
                stale.why,
                moment(stale.since),
                moment(stale.read),
                if list.kind == "names" {
                    several(list.names, "name")
                } else {
                    several(list.ranges, "range")
                }
            ),
        );
    }
    for backend in &status.backends {
        fact(&backend.name, backend_text(backend));
    }
    fact("kernel", drift(&status));
    fact(
        "interfaces",
        super::interfaces(&status.interfaces, status.mode == "enforce"),
    );
    fact("detectors", detectors(&status));
    for feed in &status.feeds {
        fact("feed", feed_text(feed));
    }
    if let Some(dns) = &status.dns {
        fact("dns", names(dns, &status));
    }
    fact("bans", status.bans.to_string());
    fact("flows", status.flows.to_string());
    fact("packets", packets(&status));
    fact("losses", losses(&status.losses));
    for (name, sink) in sinks(&status.record) {
        fact(name, sink_text(sink));
    }
    for queue in status.queues.iter().filter(|queue| is_noticed(queue)) {
        fact(
            "queue",
            format!(
                "{}: {} of {}, {} found it full",
                queue.name, queue.length, queue.capacity, queue.dropped
            ),
        );
    }
    let essentials: Vec<&str> = status
        .essentials
        .iter()
        .map(|essential| essential.name.as_str())
        .collect();
    fact(
        "essentials",
        if essentials.is_empty() {
            "off".into()
        } else {
            essentials.join(", ")
        },
    );
    let protected: Vec<String> = status
        .protected
        .iter()
        .map(|entry| format!("{} ({})", single(&entry.prefix), entry.why))
        .collect();
    fact(
        "protected",
        if protected.is_empty() {
            "nothing".into()
        } else {
            protected.join(", ")
        },
    );
    screen.table(&facts, "")?;
    Ok(Exit::Done)
}

/// The lists that give nothing.
fn stale(status: &Status) -> impl Iterator<Item = (&List, &Stale)> {
    let lists = status.policy.lists.iter();
    lists.filter_map(|list| Some((list, list.stale.as_ref()?)))
}

fn policy(status: &Status) -> String {
    let policy = &status.policy;
    format!(
        "{}, {}, {}, in force since {}",
        policy.source,
        several(policy.rules, "rule"),
        several(policy.sets, "set"),
        moment(policy.applied)
    )
}

fn detectors(status: &Status) -> String {
    let named: Vec<String> = status
        .detectors
        .iter()
        .map(|detector| format!("{} ({})", detector.name, detector.response))
        .collect();
    if named.is_empty() {
        "none is on: nobody is banned but by rules and by hand".into()
    } else {
        named.join(", ")
    }
}

/// `@drop: 1200 ranges of lists/drop.netset (3h old)`.
fn feed_text(feed: &FeedStatus) -> String {
    let now = source::now().ok();
    let files: Vec<String> = feed
        .files
        .iter()
        .map(|file| {
            let age = now.zip(file.modified).map(|(now, at)| now.since(at.0));
            match age {
                Some(age) => format!("{} ({} old)", file.path, humane_seconds(age.as_secs())),
                None => file.path.clone(),
            }
        })
        .collect();
    let mut text = format!("@{}: {}", feed.name, several(feed.ranges, "range"));
    if !files.is_empty() {
        text.push_str(&format!(" of {}", files.join(", ")));
    }
    text
}

fn names(dns: &DnsStatus, status: &Status) -> String {
    let entries = |count| several(count, "entry");
    let mut text = format!("{} blocked", entries(dns.blocked));
    if dns.allowed > 0 {
        text.push_str(&format!(", {} allowed", entries(dns.allowed)));
    }
    if !dns.lists.is_empty() {
        text.push_str(&format!(", of {}", dns.lists.join(", ")));
    }
    text.push_str(&format!(
        "; answer {}; {} of {} blocked",
        dns.answer,
        status.totals.dns_blocked,
        several(status.totals.dns_questions, "question")
    ));
    text
}

/// What became of packets; what was blocked, and apart from it what would have been while the firewall observed.
fn packets(status: &Status) -> String {
    let totals = &status.totals;
    let observes = status.mode != "enforce";
    let mut parts = vec![
        format!("{} seen", totals.packets),
        format!("{} allowed", totals.allowed),
    ];
    let (is_blocked, would_be) = (
        totals.dropped + totals.rejected > 0,
        totals.would_drop + totals.would_reject > 0,
    );
    if is_blocked || !observes {
        parts.push(format!("{} dropped", totals.dropped));
        parts.push(format!("{} rejected", totals.rejected));
    }
    if would_be || observes {
        parts.push(format!("{} would have been dropped", totals.would_drop));
        parts.push(format!("{} would have been rejected", totals.would_reject));
    }
    if totals.sequels > 0 {
        parts.push(format!("{} of these came of denied flows", totals.sequels));
    }
    parts.push(several(totals.anomalies, "anomaly"));
    parts.join(", ")
}

/// Whether a queue is worth a line: something waits in it, or found it full.
fn is_noticed(queue: &Queue) -> bool {
    queue.length > 0 || queue.dropped > 0
}

fn backend_text(backend: &Backend) -> String {
    if backend.detail.is_empty() {
        backend.state.clone()
    } else {
        format!("{}: {}", backend.state, backend.detail)
    }
}

fn drift(status: &Status) -> String {
    let drift = &status.drift;
    let mut text = match (drift.checked, drift.in_sync) {
        (None, _) => return "nothing is installed there".into(),
        (Some(_), true) => "holds what was applied".to_owned(),
        // A warning says why.
        (Some(_), false) => {
            let since = drift.last_at.map(|at| format!(" since {}", moment(at)));
            let since = since.unwrap_or_default();
            return format!("does not hold what was applied{since}, and it cannot be put back");
        }
    };
    if let (Some(what), Some(at)) = (&drift.last, drift.last_at) {
        text.push_str(&format!(
            "; put back {}, last at {}: {what}",
            several(drift.repaired, "time"),
            moment(at)
        ));
    }
    text
}

fn losses(losses: &Losses) -> String {
    let Losses {
        capture,
        nflog,
        nfqueue,
        answers,
        drop_events,
        flow_events,
        flows_untold,
        flows_untold_since,
        refusals,
        store,
        files,
        followers,
        record,
    } = *losses;
    let first = flows_untold_since.map(|at| format!(", first at {}", moment(at)));
    let untold = format!(
        "whose begin is not on record (more than 5000 a second{})",
        first.unwrap_or_default()
    );
    let named = [
        (capture, "packet", "not captured"),
        (nflog, "packet", "of which no copy came"),
        (nfqueue, "packet", "past a full queue"),
        (answers, "reply", "in the place of others not sent"),
        (drop_events, "drop event", "over the rate"),
        (flow_events, "flow event", "over the rate"),
        (flows_untold, "flow", &untold),
        (refusals, "refusal", "of bans not told one by one"),
        (store, "event", "the store had no time for"),
        (files, "line", "of the files"),
        (followers, "event", "of slow followers"),
        (record, "event", "the record had no time for"),
    ];
    let counted: Vec<String> = named
        .into_iter()
        .filter(|(count, _, _)| *count > 0)
        .map(|(count, what, how)| format!("{} {how}", several(count, what)))
        .collect();
    if counted.is_empty() {
        "none".into()
    } else {
        counted.join(", ")
    }
}

fn sinks(record: &Record) -> [(&'static str, &Sink); 3] {
    [
        ("eve.json", &record.eve),
        ("firewall.log", &record.text),
        ("store", &record.store),
    ]
}

fn sink_text(sink: &Sink) -> String {
    let written = several(sink.written, "event");
    let mut text = format!("{} {}, {written}", sink.state, sink.path);
    if sink.lost > 0 {
        text.push_str(&format!(", {} lost", sink.lost));
    }
    if let Some(why) = &sink.error {
        text.push_str(&format!(" ({why})"));
    }
    text
}

#[cfg(test)]
mod tests {
    use policy::Timestamp;

    use super::*;

    #[test]
    fn what_was_lost_is_counted_in_words() {
        for (lost, told) in [
            (Losses::default(), "none"),
            (
                Losses {
                    capture: 1,
                    refusals: 1,
                    files: 2,
                    ..Losses::default()
                },
                "1 packet not captured, 1 refusal of bans not told one by one, 2 lines of the files",
            ),
            (
                Losses {
                    flows_untold: 4_000,
                    flows_untold_since: Some(Timestamp::from_secs(1_700_000_000).into()),
                    ..Losses::default()
                },
                "4000 flows whose begin is not on record (more than 5000 a second, first at 2023-11-14 22:13:20)",
            ),
            (
                Losses {
                    nfqueue: 7,
                    refusals: 2,
                    ..Losses::default()
                },
                "7 packets past a full queue, 2 refusals of bans not told one by one",
            ),
        ] {
            assert_eq!(losses(&lost), told);
        }
    }
}
