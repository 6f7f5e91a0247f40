//! What becomes of bans when enforcing begins: those that only would have been are none, those that hold from now on are told.

use engine::{Ban, BanEnd, Event, EventBody};
use ipnet::IpNet;
use policy::Timestamp;

use super::Guard;
use super::apply::By;
use super::ban::TOLD_AT_ONCE;
use super::drift::named;
use crate::record::NoticeKind;

/// What is still to be told of bans, as soon as the record knows whether the kernel carries out the plan.
#[derive(Default)]
pub(super) struct Untold {
    /// What the kernel held at the start and nobody knew of.
    pub(super) found_at_start: Vec<Ban>,
    /// What only would have been when enforcing began.
    pub(super) not_enforced: Vec<Ban>,
    /// Enforcing begins: so do the bans that the kernel lacks.
    pub(super) in_force_from_now: bool,
}

impl Guard {
    /// After the judge has changed, and the record knows it: tells of bans that were found in the kernel at the start, and of those that
    /// only would have been. Gives what whoever asked for it has to know.
    pub(super) fn tell_of_begin(
        &mut self,
        found: Vec<Ban>,
        gone: Vec<Ban>,
        now: Timestamp,
    ) -> Option<String> {
        if !found.is_empty() {
            self.tell_of_bans(found, "were found in the kernel", now);
        }
        if gone.is_empty() {
            return None;
        }
        let prefixes: Vec<IpNet> = gone.iter().map(|ban| ban.prefix).collect();
        let text = match gone.len() {
            1 => format!(
                "the ban of {}, which a detector or a rule would have made while observing, is not enforced; `portcullis ban` makes it one",
                named(&prefixes)
            ),
            many => format!(
                "{many} bans that detectors and rules would have made while observing are not enforced ({}); `portcullis ban` makes one",
                named(&prefixes)
            ),
        };
        self.end_would_be(gone, now);
        Some(text)
    }

    /// Takes note that these bans ended without having been in force.
    fn end_would_be(&mut self, gone: Vec<Ban>, now: Timestamp) {
        if gone.len() > TOLD_AT_ONCE {
            let text = format!(
                "{} bans that only would have been are not enforced",
                gone.len()
            );
            self.notice(NoticeKind::Policy, text);
            self.store.replace(self.memory());
            return;
        }
        for ban in gone {
            let end = BanEnd::NotEnforced;
            self.store.unban(ban.prefix, end, now);
            let body = EventBody::Unban { ban, end };
            self.recorder.event(Event::without_packet(now, body));
        }
    }

    /// Tells of the bans that the kernel lacked when enforcing began and holds from now on: nobody is cut off without a record of it.
    pub(super) fn tell_of_cut(&mut self, cut: &[IpNet], by: By, now: Timestamp) -> Option<String> {
        if cut.is_empty() {
            return None;
        }
        let bans = self.engine.bans().filter(|ban| cut.contains(&ban.prefix));
        let bans: Vec<Ban> = bans.cloned().collect();
        self.tell_of_bans(bans, "are in force from now on", now);
        // At a start they were in force when the one before ended.
        (by != By::Start).then(|| match cut.len() {
            1 => format!("the ban of {} is in force from now on", named(cut)),
            many => format!("{many} bans are in force from now on ({})", named(cut)),
        })
    }
}
