//! The list files of the policy in force: how good they are, and what is told when that changes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use policy::LoadedList;

use super::Guard;
use crate::api;
use crate::candidate::Candidate;
use crate::record::NoticeKind;

impl Guard {
    /// Tells what changed about the lists since `before`, and forgets what was kept of lists that neither the policy in force nor the
    /// one before it names.
    pub(super) fn tell_of_lists(&self, before: &[LoadedList]) {
        let now = &self.in_force.candidate.lists;
        for list in now {
            let old = before.iter().find(|old| is_same(old, list));
            let was_stale = old.is_some_and(|old| old.stale.is_some());
            match &list.stale {
                Some(_) if !was_stale => self.notice(NoticeKind::Policy, self.stale(list)),
                None if was_stale => self.notice(
                    NoticeKind::Policy,
                    format!("{} is good again: {} ranges", name(list), list.ranges),
                ),
                _ => {}
            }
            let known_bad = old.map_or(0, |old| old.bad_lines);
            if list.bad_lines > 0 && list.bad_lines != known_bad {
                let lines = match list.bad_lines {
                    1 => "1 line is".to_owned(),
                    many => format!("{many} lines are"),
                };
                let text = format!(
                    "{}: {lines} skipped: {}",
                    name(list),
                    list.first_bad.join(", ")
                );
                self.notice(NoticeKind::Policy, text);
            }
        }
        let named = |candidate: &Candidate| {
            let lists = candidate.lists.iter();
            lists
                .map(|list| (list.path.clone(), list.is_feed))
                .collect::<BTreeSet<(PathBuf, bool)>>()
        };
        let mut all = named(&self.in_force.candidate);
        all.extend(self.previous.iter().flat_map(named));
        if let Some(hold) = &self.hold {
            all.extend(named(&hold.before().candidate));
        }
        self.state.lists().retain(&all);
    }

    /// The lists, as `status` shows them.
    pub(super) fn lists(&self) -> Vec<api::List> {
        let kept = self.state.lists();
        let lists = self.in_force.candidate.lists.iter();
        lists
            .map(|list| api::List {
                set: list.set.clone(),
                feed: list.is_feed,
                path: list.path.display().to_string(),
                ranges: list.ranges,
                bad_lines: list.bad_lines,
                first_bad: list.first_bad.clone(),
                stale: list.stale.as_ref().map(|stale| api::Stale {
                    why: stale.why.clone(),
                    since: kept
                        .stale_since(&list.path, list.is_feed)
                        .unwrap_or(self.in_force.since.into()),
                    read: stale.read.into(),
                }),
            })
            .collect()
    }

    /// What is said of a list that is not used as it is.
    fn stale(&self, list: &LoadedList) -> String {
        let Some(stale) = &list.stale else {
            return String::new();
        };
        let since = self.state.lists().stale_since(&list.path, list.is_feed);
        format!(
            "{} {} since {}; its {} ranges of {} stay in force",
            name(list),
            stale.why,
            since.unwrap_or(self.in_force.since.into()),
            list.ranges,
            stale.read
        )
    }
}

fn is_same(a: &LoadedList, b: &LoadedList) -> bool {
    a.path == b.path && a.is_feed == b.is_feed && a.set == b.set
}

fn name(list: &LoadedList) -> String {
    let kind = if list.is_feed { "feed" } else { "set" };
    format!("{kind} {}: the list {}", list.set, list.path.display())
}
