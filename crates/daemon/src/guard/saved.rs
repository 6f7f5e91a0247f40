//! Policies that outlive the daemon: the one in force and the one before, in the state directory.

use serde::{Deserialize, Serialize};

use crate::api::Format;
use crate::candidate::{Candidate, Source};
use crate::clock;
use crate::state::StateDir;

/// The policy in force, in the state directory.
pub(crate) const APPLIED: &str = "applied.json";
/// The one before.
pub(crate) const PREVIOUS: &str = "previous.json";

/// A policy as the state directory keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) source: Source,
    pub(crate) format: Format,
    pub(crate) text: String,
    pub(crate) digest: String,
    /// See [`Candidate::texts`].
    #[serde(default)]
    pub(crate) texts: String,
}

impl Saved {
    /// Whether it is of the same file.
    pub(crate) fn is_for(&self, source: &Source) -> bool {
        self.source.clone().again() == source.clone().again()
    }

    /// The policy as it was, whatever its file says now.
    pub(crate) fn as_it_was(&self) -> Source {
        match &self.source {
            Source::File(path) | Source::Kept { path, .. } => Source::Kept {
                path: path.clone(),
                format: self.format,
                text: self.text.clone(),
            },
            source => source.clone(),
        }
    }
}

impl From<&Candidate> for Saved {
    fn from(candidate: &Candidate) -> Self {
        Self {
            source: candidate.source.clone(),
            format: candidate.format,
            text: candidate.text.clone(),
            digest: candidate.digest.clone(),
            texts: candidate.texts.clone(),
        }
    }
}

/// What was in force before the policy that a daemon begins with, as the last one left it.
pub(super) fn before_start(state: &StateDir, begins: &Candidate) -> Option<Candidate> {
    let other = |saved: &Saved| saved.digest != begins.digest;
    let last = state.read::<Saved>(APPLIED).filter(other);
    let saved = last.or_else(|| state.read::<Saved>(PREVIOUS).filter(other))?;
    match Candidate::load_with(&saved.as_it_was(), clock::now(), &state.lists()) {
        Ok(candidate) => Some(candidate),
        Err(invalid) => {
            tracing::warn!("the policy before this one is not there to go back to: {invalid}");
            None
        }
    }
}
