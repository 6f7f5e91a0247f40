//! What the disk does not take: told once when it begins and once when it is over, and written as soon as there is room.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::Guard;
use crate::api::Sink;
use crate::record::NoticeKind;

/// Checks, one each second, that a file has to go without an error before it counts as written again: the last bytes of a disk let
/// single lines through.
const WELL: u8 = 3;
/// Checks, one each second, without a flow too many after which a flood of them is over.
const QUIET: u8 = 60;

/// How `eve.json`, `firewall.log` and the store did when last looked at.
#[derive(Debug, Default)]
pub(super) struct Sinks([Watched; 3]);

#[derive(Debug, Default)]
struct Watched {
    is_stopped: bool,
    /// What was lost before it stopped.
    lost_before: u64,
    /// Checks without an error since it stopped.
    well: u8,
}

/// Flows that ended and are not on record, as more ended than may be recorded a second.
#[derive(Debug, Default)]
pub(super) struct Unrecorded {
    /// At the last look.
    seen: u64,
    /// Before it was told that some are missing.
    before: Option<u64>,
    /// Looks since that found no more of them.
    quiet: u8,
}

impl Unrecorded {
    fn look(&mut self, now: u64) -> Option<Word> {
        let seen = std::mem::replace(&mut self.seen, now);
        if now > seen {
            self.quiet = 0;
            return (self.before.is_none()).then(|| {
                self.before = Some(seen);
                Word::Stopped
            });
        }
        self.quiet = self.quiet.saturating_add(1);
        let before = self.before.take_if(|_| self.quiet >= QUIET)?;
        Some(Word::Again(now - before))
    }
}

/// What somebody has to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Stopped,
    /// It is written again; so many events are missing in it.
    Again(u64),
}

impl Watched {
    fn look(&mut self, has_error: bool, lost: u64) -> Option<Word> {
        if has_error {
            self.well = 0;
            return (!std::mem::replace(&mut self.is_stopped, true)).then_some(Word::Stopped);
        }
        if self.is_stopped {
            self.well += 1;
            if self.well < WELL {
                return None;
            }
        }
        let missing = lost.saturating_sub(std::mem::replace(&mut self.lost_before, lost));
        std::mem::replace(&mut self.is_stopped, false).then_some(Word::Again(missing))
    }
}

/// Files of the state directory that could not be written, with what belongs in them.
#[derive(Debug, Default)]
pub(super) struct Unsaved(BTreeMap<&'static str, (Value, String)>);

/// In one sentence: a change is in force, and the disk did not take it.
pub(crate) fn not_kept(why: &str) -> String {
    format!(
        "this is in force now and is not written down ({why}): a restart may forget it, unless writing succeeds until then, which is tried by itself"
    )
}

impl Guard {
    /// Tells which part of the record stops, and which goes on.
    pub(super) fn watch_record(&mut self) {
        let (eve, text) = self.recorder.sinks();
        let sinks = [eve, text, self.store.state()];
        let looked: Vec<(Sink, Word)> = (self.sinks.0.iter_mut().zip(sinks))
            .filter_map(|(watched, sink)| {
                let word = watched.look(sink.error.is_some(), sink.lost)?;
                Some((sink, word))
            })
            .collect();
        for (sink, word) in looked {
            let path = &sink.path;
            let why = sink.error.unwrap_or_default();
            let why = why
                .trim_start_matches(path.as_str())
                .trim_start_matches(": ");
            let text = match word {
                Word::Stopped => format!(
                    "the record in {path} stops: {why}; make room or mend the path, it goes on by itself. What is banned stays banned, \
                     and what is banned meanwhile is written down then",
                ),
                Word::Again(0) => format!("the record in {path} goes on again; nothing is missing"),
                Word::Again(1) => {
                    format!("the record in {path} goes on again; one event is missing")
                }
                Word::Again(lost) => {
                    format!("the record in {path} goes on again; {lost} events are missing")
                }
            };
            self.notice(NoticeKind::Daemon, text);
        }
    }

    /// Tells when flows begin to end without a record of each, and when that is over.
    pub(super) fn watch_flows(&mut self) {
        let most = self.in_force.plan.log.flows_per_second;
        let text = match self.unrecorded.look(self.unrecorded_flows()) {
            None => return,
            Some(Word::Stopped) => format!(
                "more flows end than are recorded ([log] flows_per_second = {most}, a tenth of it for those that came to nothing): the \
                 others are counted in `status`; bans, alerts and drops are recorded as ever"
            ),
            Some(Word::Again(missing)) => {
                format!("flows are recorded again as they end; {missing} are not on record")
            }
        };
        self.notice(NoticeKind::Daemon, text);
    }

    /// Keeps a value for the next start. What the disk does not take now is written as soon as it does.
    pub(super) fn save(&mut self, name: &'static str, value: &impl Serialize) {
        let value = match serde_json::to_value(value) {
            Ok(value) => value,
            Err(error) => return tracing::error!("{name} cannot be written as JSON: {error}"),
        };
        match self.state.write(name, &value) {
            Ok(()) => {
                self.unsaved.0.remove(name);
            }
            Err(error) => {
                let is_known = self.unsaved.0.contains_key(name);
                self.unsaved.0.insert(name, (value, error.to_string()));
                if !is_known {
                    self.notice(
                        NoticeKind::Daemon,
                        format!("{name} cannot be kept for the next start: {error}; it is tried again by itself"),
                    );
                }
            }
        }
    }

    /// Removes what was kept for the next start.
    pub(super) fn forget(&mut self, name: &'static str) {
        self.unsaved.0.remove(name);
        if let Err(error) = self.state.remove(name) {
            tracing::warn!("{name} cannot be removed: {error}");
        }
    }

    /// Writes what could not be written before.
    pub(super) fn save_again(&mut self) {
        let state = &self.state;
        let is_written =
            |name: &str, (value, _): &mut (Value, String)| state.write(name, value).is_ok();
        let saved: Vec<&str> = (self.unsaved.0)
            .extract_if(.., |name, value| is_written(name, value))
            .map(|(name, _)| name)
            .collect();
        for name in saved {
            self.notice(
                NoticeKind::Daemon,
                format!("{name} is kept for the next start now"),
            );
        }
    }

    /// What whoever asked for a change has to know when one of these files could not be written.
    pub(super) fn not_kept(&self, names: &[&str]) -> Option<String> {
        let error = names.iter().find_map(|name| self.unsaved.0.get(name));
        error.map(|(_, error)| not_kept(error))
    }

    /// What the next start would not know, one sentence each.
    pub(super) fn unsaved(&self) -> impl Iterator<Item = String> {
        let unsaved = self.unsaved.0.iter();
        unsaved
            .map(|(name, (_, error))| format!("{name} cannot be kept for the next start: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_flows_is_told_once_and_once_when_it_has_been_over_for_a_minute() {
        let mut unrecorded = Unrecorded::default();
        assert_eq!(unrecorded.look(0), None);
        assert_eq!(unrecorded.look(5), Some(Word::Stopped));
        let mut pauses = (0..100).map(|n| unrecorded.look(5 + n / 50));
        assert!(pauses.all(|word| word.is_none()));
        let quiet: Vec<_> = (0..100).filter_map(|_| unrecorded.look(6)).collect();
        assert_eq!(quiet, [Word::Again(6)]);
        assert_eq!(unrecorded.look(7), Some(Word::Stopped));
    }

    #[test]
    fn it_is_told_once_that_it_stops_and_once_that_it_goes_on() {
        let mut watched = Watched::default();
        for (at, (has_error, lost, word)) in [
            (false, 4, None),
            (true, 7, Some(Word::Stopped)),
            (true, 9, None),
            (false, 9, None),
            (true, 12, None),
            (false, 12, None),
            (false, 12, None),
            (false, 12, Some(Word::Again(8))),
            (false, 12, None),
            (true, 12, Some(Word::Stopped)),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(watched.look(has_error, lost), word, "{at}");
        }
    }
}
