//! The list files of the policy in force: how good they are, and what is told when that changes.

use policy::{ListKind, LoadedList};

use super::Guard;
use crate::api;
use crate::record::NoticeKind;
use crate::record::explain::several;

impl Guard {
    /// Tells what changed about the lists since `before`, and forgets what was kept of lists that no policy names any more.
    pub(super) fn tell_of_lists(&self, before: &[LoadedList]) {
        let now = &self.in_force.candidate.lists;
        for list in now {
            let old = before.iter().find(|old| is_same(old, list));
            let was_stale = old.is_some_and(|old| old.stale.is_some());
            match &list.stale {
                Some(_) if !was_stale => self.notice(NoticeKind::Policy, self.stale(list)),
                None if was_stale => self.notice(
                    NoticeKind::Policy,
                    format!("{} is good again: {}", name(list), size(list)),
                ),
                _ => {}
            }
            let known_bad = old.map_or(0, |old| old.bad_lines);
            if list.bad_lines > 0 && list.bad_lines != known_bad {
                let is = if list.bad_lines == 1 { "is" } else { "are" };
                let text = format!(
                    "{}: {} {is} skipped: {}",
                    name(list),
                    several(list.bad_lines, "line"),
                    list.first_bad.join(", ")
                );
                self.notice(NoticeKind::Policy, text);
            }
        }
        // Policies that are gone name nothing any more: those in force, before it, waiting and on their way still do.
        self.state.lists().forget_unclaimed();
    }

    /// The lists, as `status` shows them.
    pub(super) fn lists(&self) -> Vec<api::List> {
        let kept = self.state.lists();
        let lists = self.in_force.candidate.lists.iter();
        lists
            .map(|list| api::List {
                set: list.set.clone(),
                kind: kind(list.kind).to_owned(),
                feed: list.kind == ListKind::Feed,
                path: list.path.display().to_string(),
                ranges: match list.kind {
                    ListKind::Set | ListKind::Feed => list.entries,
                    ListKind::Names => 0,
                },
                names: match list.kind {
                    ListKind::Set | ListKind::Feed => 0,
                    ListKind::Names => list.entries,
                },
                skipped: list.skipped,
                bad_lines: list.bad_lines,
                first_bad: list.first_bad.clone(),
                stale: list.stale.as_ref().map(|stale| api::Stale {
                    why: stale.why.clone(),
                    since: kept
                        .stale_since(&list.path, list.kind)
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
        let since = self.state.lists().stale_since(&list.path, list.kind);
        format!(
            "{} {} since {}; its {} of {} stay in force",
            name(list),
            stale.why,
            since.unwrap_or(self.in_force.since.into()),
            size(list),
            stale.read
        )
    }
}

fn is_same(a: &LoadedList, b: &LoadedList) -> bool {
    a.path == b.path && a.kind == b.kind && a.set == b.set
}

fn name(list: &LoadedList) -> String {
    let path = list.path.display();
    match list.kind {
        ListKind::Set | ListKind::Feed => {
            format!("{} {}: the list {path}", kind(list.kind), list.set)
        }
        ListKind::Names => format!("[dns] {}: the list {path}", list.set),
    }
}

const fn kind(kind: ListKind) -> &'static str {
    match kind {
        ListKind::Set => "set",
        ListKind::Feed => "feed",
        ListKind::Names => "names",
    }
}

/// How much it holds.
fn size(list: &LoadedList) -> String {
    match list.kind {
        ListKind::Set | ListKind::Feed => several(list.entries, "range"),
        ListKind::Names => several(list.entries, "name"),
    }
}
