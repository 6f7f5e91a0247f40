//! The policy that was rolled back. It comes back when somebody applies it, and never by itself: not by a restart, not because its
//! file was touched, and not because one of its lists changed.

use serde::{Deserialize, Serialize};

use super::apply_error::ApplyError;
use super::hold::Pending;
use super::saved::Saved;
use super::{By, Guard};
use crate::candidate::{Candidate, Source};
use crate::record::NoticeKind;

/// Its digest, in the state directory.
pub(crate) const REJECTED: &str = "rejected.json";

/// What tells a policy apart that was rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RolledBack {
    /// The digest of all that it was made from.
    digest: String,
    /// The digest of its texts alone; absent where what came back has the same texts.
    texts: Option<String>,
}

/// The digests of a policy: of all that it was made from, and of its texts alone.
#[derive(Clone, Copy)]
pub(crate) struct Digests<'a> {
    all: &'a str,
    texts: &'a str,
}

macro_rules! has_digests {
    ($($policy:ty),*) => {$(
        impl<'a> From<&'a $policy> for Digests<'a> {
            fn from(policy: &'a $policy) -> Self {
                Self { all: &policy.digest, texts: &policy.texts }
            }
        }
    )*};
}

has_digests!(Candidate, Saved, Pending);

impl RolledBack {
    /// When `back` comes in place of `gone`; `None` when they are the same policy.
    pub(crate) fn new(gone: Digests<'_>, back: Digests<'_>) -> Option<Self> {
        (gone.all != back.all).then(|| Self {
            digest: gone.all.to_owned(),
            texts: (gone.texts != back.texts).then(|| gone.texts.to_owned()),
        })
    }

    /// Whether a policy is this one.
    pub(crate) fn is(&self, candidate: &Candidate) -> bool {
        self.digest == candidate.digest || self.texts.as_ref() == Some(&candidate.texts)
    }
}

impl Guard {
    /// Whether this policy was rolled back.
    pub(super) fn was_rolled_back(&self, candidate: &Candidate) -> bool {
        (self.rejected.as_ref()).is_some_and(|rejected| rejected.is(candidate))
    }

    /// Remembers that `gone` was rolled back to what is in force now.
    pub(super) fn turn_away(&mut self, gone: &Candidate) {
        let back = &self.in_force.candidate;
        let Some(rejected) = RolledBack::new(gone.into(), back.into()) else {
            return;
        };
        let file = back.source.clone().again();
        let name = gone.source.name();
        let text = ApplyError::RolledBack { name }.to_string();
        if matches!(file, Source::File(_)) && file == gone.source.clone().again() {
            self.watch.reject(&text);
        }
        if gone.source.clone().again() == self.begins_with {
            self.refused = Some(gone.text.clone());
        }
        self.save(REJECTED, &rejected);
        self.rejected = Some(rejected);
        self.notice(NoticeKind::Policy, text);
    }

    /// A policy that is in force is none that is kept away.
    pub(super) fn take_up(&mut self, by: By) {
        let taken = matches!(by, By::Apply | By::Rollback);
        if taken && self.was_rolled_back(&self.in_force.candidate) {
            self.rejected = None;
            self.refused = None;
            self.forget(REJECTED);
        }
    }
}
