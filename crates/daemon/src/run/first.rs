//! The policy to begin with, which need not be the one that was asked for.

use super::{RunError, RunOptions};
use crate::candidate::{Candidate, Source};
use crate::clock;
use crate::guard::{self, ApplyError, PendingFile, REJECTED, RolledBack, Saved};
use crate::state::{StateDir, is_the_disks};

/// The policy to begin with.
pub(super) struct First {
    pub(super) candidate: Candidate,
    pub(super) warnings: Vec<String>,
    /// Why the file as it is now is not in force, if it is not.
    pub(super) rejected: Option<String>,
}

impl First {
    /// Chooses it. One that nobody confirmed, or that was rolled back, is not taken up again by a restart; and where the
    /// file has become invalid, what was in force before is better than nothing.
    pub(super) fn choose(options: &RunOptions, state: &StateDir) -> Result<Self, RunError> {
        let now = clock::now();
        let source = source(options)?;
        let mut warnings: Vec<String> = state.unlocked().map(str::to_owned).into_iter().collect();
        let mut rejected: Option<RolledBack> = state.read(REJECTED);
        let mut saved: Option<Saved> = state.read(guard::APPLIED);
        if let Some(pending) = guard::left_behind(state) {
            rejected = pending.refused().or(rejected);
            match write_back(state, &pending, rejected.as_ref()) {
                Ok(()) => {}
                // The next start finds it as this one did.
                Err(error) if is_the_disks(&error) => {
                    warnings.push(format!("what went back cannot be written down: {error}"));
                }
                Err(error) => return Err(error.into()),
            }
            warnings.push(format!(
                "{} was not confirmed when the last daemon ended, and is not in force",
                pending.source
            ));
            saved = Some(pending.previous);
        }
        let lists = state.lists();
        let fresh = Candidate::load_with(&source, now, &lists);
        let fresh_only = |candidate, warnings| Self {
            candidate,
            warnings,
            rejected: None,
        };
        let (why, kept) = match &fresh {
            // Whatever it came from: what was in force is what was gone back to.
            Ok(fresh) if rejected.is_some_and(|rejected| rejected.is(fresh)) => {
                let name = fresh.source.name();
                let kept = saved.filter(|saved| saved.digest != fresh.digest);
                (ApplyError::RolledBack { name }.to_string(), kept)
            }
            Ok(begins) => {
                warnings.extend(saved.and_then(|saved| another(&saved, begins)));
                return Ok(fresh_only(fresh?, warnings));
            }
            Err(invalid) => {
                let kept = saved.filter(|saved| saved.is_for(&source));
                (invalid.to_string(), kept)
            }
        };
        let Some(kept) = kept else {
            return Ok(fresh_only(fresh?, warnings));
        };
        match (Candidate::load_with(&kept.as_it_was(), now, &lists), fresh) {
            (Ok(candidate), _) => {
                warnings.push(format!("{why}; what was in force before is"));
                Ok(Self {
                    candidate,
                    warnings,
                    rejected: Some(why),
                })
            }
            (Err(_), Err(invalid)) | (Err(invalid), Ok(_)) => Err(invalid.into()),
        }
    }
}

/// Refuses a policy that cannot be used before anything is made on the disk. Only where the state directory is empty: a policy that
/// was in force, or what lists held, could stand in for what is wrong.
pub(super) fn refuse_at_once(options: &RunOptions) -> Result<(), RunError> {
    let is_empty = match std::fs::read_dir(&options.state_dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if is_empty {
        Candidate::load(&source(options)?, clock::now())?;
    }
    Ok(())
}

/// What the options name.
pub(super) fn source(options: &RunOptions) -> std::io::Result<Source> {
    Ok(match &options.config {
        Some(path) => Source::File(std::path::absolute(path)?),
        None => Source::BuiltIn,
    })
}

/// Writes down that a policy that nobody confirmed has gone back.
fn write_back(
    state: &StateDir,
    pending: &PendingFile,
    rejected: Option<&RolledBack>,
) -> std::io::Result<()> {
    if let Some(refused) = rejected {
        state.write(REJECTED, refused)?;
    }
    state.write(guard::APPLIED, &pending.previous)?;
    // Last, so that a crash in between leaves it to the next start; the reverting process sees that the file is gone, and leaves
    // it to us.
    guard::forget_pending(state)
}

/// Says that another file was in force than the one that is taken now.
fn another(saved: &Saved, fresh: &Candidate) -> Option<String> {
    if saved.digest == fresh.digest || saved.is_for(&fresh.source) {
        return None;
    }
    let (was, is) = (saved.source.name(), fresh.source.name());
    Some(format!(
        "{was} was in force when the last daemon ended, and this start takes {is}, which says something else; {}",
        match saved.source.clone().again() {
            Source::File(_) =>
                format!("`portcullis apply {was} --confirm 60s` puts it in force again"),
            _ => "give the file with --config that is meant".to_owned(),
        }
    ))
}
