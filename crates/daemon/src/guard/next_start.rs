//! What the next start takes: the file of `--config`, which need not be the policy in force. Nothing here changes anything; it is told.

use std::path::PathBuf;

use super::Guard;
use crate::candidate::Source;
use crate::record::NoticeKind;

impl Guard {
    /// Says that the next start takes another file than the one in force, unless that says the same already, or what was rolled back.
    pub(super) fn next_start(&self) -> Option<String> {
        let candidate = &self.in_force.candidate;
        if candidate.source.clone().again() == self.begins_with {
            return None;
        }
        let says = self.begins_with.text();
        if says.is_some() && says == self.refused {
            return None;
        }
        let (name, next) = (candidate.source.name(), self.begins_with.name());
        let Source::File(_) = &self.begins_with else {
            return Some(format!(
                "the next start takes the built-in policy, which blocks nothing, unless `run --config` names {name}"
            ));
        };
        if says.is_some_and(|text| text == candidate.text) {
            return None;
        }
        Some(match &candidate.source {
            Source::File(_) | Source::Kept { .. } => format!(
                "it stays until the daemon ends: the next start takes {next}; `cp {name} {next}` makes it stay"
            ),
            Source::Text { .. } | Source::BuiltIn => format!(
                "it stays until the daemon ends: the next start takes {next}; write it there"
            ),
        })
    }

    /// Says that the file of `--config` is not the policy in force, so that nothing comes of changes to it before the next start. As long
    /// as a policy waits for its confirmation nothing is settled yet.
    pub(super) fn begins_otherwise(&self) -> Option<String> {
        if self.hold.is_some() {
            return None;
        }
        let told = self.next_start()?;
        let Source::File(path) = &self.begins_with else {
            return Some(told);
        };
        let (next, name) = (path.display(), self.in_force.candidate.source.name());
        Some(format!(
            "{next}, which the next start takes, is not what is in force: {name} is; `portcullis apply {next}` takes it"
        ))
    }

    /// The file of `--config`, where another is in force.
    pub(super) fn aside(&self) -> Option<PathBuf> {
        match &self.begins_with {
            Source::File(path) if self.source() != self.begins_with => Some(path.clone()),
            _ => None,
        }
    }

    /// Tells that the file of `--config` changed, which is not in force; nothing where it says now what is. `false` where that cannot be
    /// said yet, since a policy waits for its confirmation.
    pub(crate) fn tell_of_aside(&self) -> bool {
        if self.is_held() {
            return false;
        }
        if let Some(told) = self.begins_otherwise() {
            self.notice(
                NoticeKind::Policy,
                format!("changed, and not taken: {told}"),
            );
        }
        true
    }
}
