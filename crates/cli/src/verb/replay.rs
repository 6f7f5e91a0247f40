//! `replay`: what would have happened to the packets of a capture.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daemon::candidate::Candidate;
use daemon::record::eve::StatsLine;
use daemon::record::{Context, Eve};
use daemon::replay::{Options, Outcome, Sink};
use engine::{Event, EventBody};
use indicatif::ProgressBar;
use kernel::replay::Replay;
use kernel::source::{Captured, Losses, Source, SourceError};
use policy::{AddressSet, Detect, Direction, Plan};

use super::ends::Ends;
use crate::args;
use crate::eve;
use crate::failure::{Exit, Failure};
use crate::prefix::IpNetOrAddress;
use crate::screen::{Cell as Field, Screen, Table, Tone, bar, humane, several, warn};
use crate::source;

/// Rows of each table of the summary.
const TOP: usize = 10;

/// Distinct remote addresses that are counted for the summary; a flood of forged ones does not grow it further.
const MOST_REMOTES: usize = 1 << 20;

/// Replays a capture.
pub(super) fn replay(asked: &args::Replay, screen: &mut Screen) -> Result<Exit, Failure> {
    let plan = match &asked.config {
        Some(file) => Arc::new(source::load(file)?.into_plan()),
        // Whose address is this host's own is guessed in a replay: detectors are for those who name a policy.
        None => Arc::new(Plan {
            detect: Detect::default(),
            ..Plan::clone(&Candidate::built_in().plan)
        }),
    };
    let capture = if asked.capture == Path::new("-") {
        Replay::read(io::stdin())
    } else {
        Replay::open(&asked.capture)
    }
    .map_err(|why| failed(&asked.capture, &why))?;

    let events_scroll = screen.is_terminal() && !asked.quiet;
    let stop = Cell::new(false);
    let mut capture = Stoppable {
        capture,
        stop: &stop,
        ends: (asked.local.is_empty() && !asked.json).then(Ends::default),
    };
    let mut watcher = Watcher {
        screen,
        plan: &plan,
        json: asked.json,
        quiet: asked.quiet,
        denied: HashMap::new(),
        // Events that scroll by on the same terminal are progress enough.
        progress: if events_scroll {
            ProgressBar::hidden()
        } else {
            bar()
        },
        failure: None,
        stop: &stop,
    };
    let options = Options {
        own: AddressSet::from_prefixes(asked.local.iter().map(|&IpNetOrAddress(prefix)| prefix)),
        protected: AddressSet::default(),
        every_event: true,
    };
    let outcome = daemon::replay::replay(&mut capture, Arc::clone(&plan), options, &mut watcher);
    watcher.progress.finish_and_clear();
    let (failure, denied) = (watcher.failure, watcher.denied);
    if let Some(why) = failure {
        return Err(why.into());
    }
    let outcome = outcome.map_err(|why| failed(&asked.capture, &why))?;

    if let Some(damage) = capture.capture.warning() {
        warn(&format!("{}: {damage}", asked.capture.display()));
    }
    if asked.json {
        screen.json(&StatsLine::from(outcome.totals))?;
    } else {
        summary(&outcome, &plan, &denied, screen)?;
        // After the summary, where both go to one terminal.
        screen.flush()?;
        if let Some(hint) = capture.ends.as_ref().and_then(Ends::hint) {
            warn(&hint);
        }
    }
    Ok(Exit::Done)
}

fn failed(capture: &Path, why: &SourceError) -> Failure {
    if let SourceError::Open { source, .. } = why {
        return Failure::file("read", capture, source);
    }
    if let SourceError::Read { source, .. } = why
        && source.kind() == io::ErrorKind::IsADirectory
    {
        return Failure::Failed(format!(
            "{} is a directory; name a capture file, such as one in it",
            capture.display()
        ));
    }
    Failure::Failed(format!("{}: {why}", capture.display()))
}

/// A capture that ends early when nobody reads what comes of it, and from which the host is guessed.
struct Stoppable<'a> {
    capture: Replay,
    stop: &'a Cell<bool>,
    /// Where nobody named the host's own addresses.
    ends: Option<Ends>,
}

impl Source for Stoppable<'_> {
    fn next(&mut self) -> Result<Option<Captured<'_>>, SourceError> {
        if self.stop.get() {
            return Ok(None);
        }
        let captured = self.capture.next()?;
        if let (Some(ends), Some(captured)) = (&mut self.ends, &captured) {
            ends.see(captured);
        }
        Ok(captured)
    }

    fn losses(&self) -> Losses {
        self.capture.losses()
    }

    fn progress(&self) -> Option<(u64, u64)> {
        self.capture.progress()
    }
}

/// Prints each event and counts for the summary.
struct Watcher<'a> {
    screen: &'a mut Screen,
    plan: &'a Plan,
    json: bool,
    quiet: bool,
    denied: HashMap<IpAddr, u64>,
    progress: ProgressBar,
    failure: Option<io::Error>,
    stop: &'a Cell<bool>,
}

impl Watcher<'_> {
    fn print(&mut self, event: &Event) -> io::Result<()> {
        // Flows are for machines; there are as many as connections.
        if !self.json && (self.quiet || matches!(event.body, EventBody::Flow(_))) {
            return Ok(());
        }
        let eve = Eve::of_event(
            event,
            Context {
                plan: self.plan,
                enforced: false,
            },
        );
        if self.json {
            return self.screen.json(&eve);
        }
        let value = serde_json::to_value(&eve)?;
        let line = eve::line(&value, self.screen);
        self.screen.line(line)
    }
}

impl Sink for Watcher<'_> {
    fn event(&mut self, event: Event) {
        if self.failure.is_some() {
            return;
        }
        if let (EventBody::Drop { .. }, Some(tuple)) = (&event.body, &event.tuple) {
            let remote = match event.direction {
                Some(Direction::Out) => tuple.destination,
                _ => tuple.source,
            };
            let full = self.denied.len() >= MOST_REMOTES;
            if let Some(count) = self.denied.get_mut(&remote) {
                *count += 1;
            } else if !full {
                self.denied.insert(remote, 1);
            }
        }
        if let Err(why) = self.print(&event) {
            self.failure = Some(why);
            self.stop.set(true);
        }
    }

    fn progress(&mut self, progress: Option<(u64, u64)>) {
        if let Some((read, size)) = progress {
            self.progress.set_length(size);
            self.progress.set_position(read);
        }
    }
}

fn summary(
    outcome: &Outcome,
    plan: &Plan,
    denied: &HashMap<IpAddr, u64>,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let totals = &outcome.totals;
    let span = outcome
        .span
        .map_or(Duration::ZERO, |(first, last)| last.since(first));
    let bold = screen.paint(
        Tone::Bold,
        &format!("{} in {}", several(totals.packets, "packet"), humane(span)),
    );
    screen.line(format!(
        "{bold}: {} allowed, {} dropped, {} rejected, {}, {}, {}, {}",
        totals.allowed,
        totals.dropped,
        totals.rejected,
        several(totals.anomalies, "anomaly"),
        several(totals.flows, "flow"),
        several(totals.alerts, "alert"),
        several(totals.bans, "ban")
    ))?;
    if totals.sequels > 0 {
        screen.line(format!(
            "of the dropped and rejected, {} came of denied flows that went on in the capture: enforced, nobody would have sent them",
            totals.sequels
        ))?;
    }
    if outcome.unread_links > 0 {
        screen.line(format!(
            "of link layers that are not read, and counted as allowed: {}",
            several(outcome.unread_links, "packet")
        ))?;
    }
    if outcome.losses.truncated > 0 {
        screen.line(format!(
            "captured in part only, so that what is missing could not be inspected: {}",
            several(outcome.losses.truncated, "packet")
        ))?;
    }

    let mut remotes: Vec<(&IpAddr, &u64)> = denied.iter().collect();
    remotes.sort_by_key(|&(address, count)| (std::cmp::Reverse(*count), *address));
    let mut table = Table::new(&["denied", "packets"]);
    for (address, count) in remotes.into_iter().take(TOP) {
        table.row([Field::new(address.to_string()), Field::number(*count)]);
    }
    section(&table, screen)?;

    let mut table = Table::new(&["rule", "action", "hits", "written"]);
    for (rule, hits) in plan
        .rules
        .iter()
        .zip(&outcome.rule_hits)
        .filter(|(_, hits)| **hits > 0)
    {
        let action = daemon::record::explain::action_name(rule.action);
        table.row([
            Field::new(&rule.name),
            Field::new(action).tone(Tone::of_verdict(action)),
            Field::number(*hits),
            Field::new(rule.position.to_string()).tone(Tone::Faint),
        ]);
    }
    section(&table, screen)?;

    let mut table = Table::new(&["banned at the end", "times", "reason"]);
    for ban in &outcome.bans {
        table.row([
            Field::new(IpNetOrAddress(ban.prefix).to_string()).tone(Tone::Bad),
            Field::number(u64::from(ban.times_banned)),
            Field::escaped(&ban.reason),
        ]);
    }
    section(&table, screen)
}

fn section(table: &Table, screen: &mut Screen) -> Result<(), Failure> {
    if !table.is_empty() {
        screen.line("")?;
        screen.table(table, "")?;
    }
    Ok(())
}
