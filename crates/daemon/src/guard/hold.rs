//! A policy that waits for its confirmation. What brings the previous state back stands outside the daemon: a file that says how,
//! and a process of its own session that does it when the daemon cannot.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kernel::datapath::Snapshot;
use serde::{Deserialize, Serialize};

use super::rolled_back::RolledBack;
use super::saved::Saved;
use crate::api;
use crate::candidate::Candidate;
use crate::clock;
use crate::state::StateDir;

/// The file that says what waits and how to go back. Whoever removes or renames it decides: it is the only truth about what waits.
pub(crate) const PENDING: &str = "pending.json";
/// Its name while the reverting process brings the previous state back.
pub(crate) const CLAIMED: &str = "pending.reverting";
/// How long after going back has failed it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How the reverting process is started.
#[derive(Clone, Debug)]
pub struct Revert {
    /// The program and its first arguments; [`crate::revert::main`] takes those that follow.
    pub command: Vec<OsString>,
    /// Where it can ask the daemon.
    pub socket: PathBuf,
}

/// What waits, on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// Told apart from every other.
    pub(crate) id: String,
    /// The boot that the deadline counts from.
    pub(crate) boot: String,
    /// Nanoseconds since that boot, suspend included.
    pub(crate) deadline: u64,
    /// The same by the wall clock, for people.
    pub(crate) deadline_at: api::Time,
    /// The policy that waits.
    pub(crate) source: String,
    /// Its digest.
    pub(crate) digest: String,
    /// See [`Candidate::texts`].
    #[serde(default)]
    pub(crate) texts: String,
    /// The policy that comes back.
    pub(crate) previous: Saved,
    /// The kernel's state that comes back; absent when nothing can enforce.
    pub(crate) snapshot: Option<Snapshot>,
    /// Where to ask the daemon.
    pub(crate) socket: PathBuf,
}

/// Why a policy cannot be held for a confirmation.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The file cannot be written.
    #[error(
        "what would bring the previous policy back cannot be written down ({0}), so nothing was applied; mend the state directory"
    )]
    File(#[from] io::Error),
    /// The process does not come up.
    #[error(
        "the process that would bring the previous policy back does not start ({0}), so nothing was applied"
    )]
    Process(io::Error),
    /// The file that says that it waits cannot be removed.
    #[error(
        "the policy still waits: {PENDING} cannot be removed ({0}); mend the state directory, and confirm again"
    )]
    Undecided(io::Error),
    /// Another process took the decision.
    #[error("the time to confirm is over, and the previous policy is being brought back")]
    TooLate,
}

impl Pending {
    /// What is not to be taken up again when this goes back; `None` when what comes back is the same policy.
    pub(crate) fn refused(&self) -> Option<RolledBack> {
        RolledBack::new(self.into(), (&self.previous).into())
    }
}

/// How it was when a policy began to wait.
#[derive(Clone, Debug)]
pub(super) struct Before {
    /// The policy in force.
    pub(super) candidate: Candidate,
    /// Whether the kernel carried it out.
    pub(super) enforcing: bool,
    /// Whether it did not because everything was taken out by hand.
    pub(super) flushed: bool,
}

/// A policy that waits.
#[derive(Debug)]
pub struct Hold {
    pending: Pending,
    before: Before,
    /// When going back was tried last, and failed.
    failed: Option<Instant>,
}

impl Hold {
    /// Writes down how to go back and starts the process that will. Nothing is applied before this has returned.
    pub(super) fn begin(
        state: &StateDir,
        revert: &Revert,
        limit: Duration,
        candidate: &Candidate,
        before: Before,
        snapshot: Option<Snapshot>,
    ) -> Result<Self, HoldError> {
        let deadline = clock::since_boot().saturating_add(limit);
        let pending = Pending {
            id: format!("{}-{}", std::process::id(), deadline.as_nanos()),
            boot: clock::boot(),
            deadline: u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX),
            deadline_at: clock::now().after(limit).into(),
            source: candidate.source.name(),
            digest: candidate.digest.clone(),
            texts: candidate.texts.clone(),
            previous: Saved::from(&before.candidate),
            snapshot,
            socket: revert.socket.clone(),
        };
        state.write(PENDING, &pending)?;
        let hold = Self {
            pending,
            before,
            failed: None,
        };
        match start_reverter(revert, &state.path(PENDING)) {
            Ok(()) => Ok(hold),
            Err(error) => {
                if let Err(error) = hold.end(state) {
                    tracing::error!("{PENDING} cannot be removed: {error}");
                }
                Err(HoldError::Process(error))
            }
        }
    }

    /// Whether its time is over, and going back was not tried just now.
    pub(super) fn is_due(&self) -> bool {
        clock::since_boot() >= Duration::from_nanos(self.pending.deadline)
            && self.failed.is_none_or(|at| at.elapsed() >= AGAIN)
    }

    /// Going back has failed. Returns whether for the first time.
    pub(super) fn has_failed(&mut self) -> bool {
        self.failed.replace(Instant::now()).is_none()
    }

    /// What tells it apart.
    pub(super) fn id(&self) -> &str {
        &self.pending.id
    }

    pub(super) fn snapshot(&self) -> Option<&Snapshot> {
        self.pending.snapshot.as_ref()
    }

    /// How it was before, in this daemon.
    pub(super) fn before(&self) -> &Before {
        &self.before
    }

    /// The policy stays. The reverting process sees that the file is gone, and ends.
    pub(super) fn keep(&self, state: &StateDir) -> Result<(), HoldError> {
        match state.take(PENDING) {
            Ok(true) => Ok(()),
            // Whoever took the file away brings the previous policy back.
            Ok(false) => Err(HoldError::TooLate),
            Err(error) => Err(HoldError::Undecided(error)),
        }
    }

    /// It is as before. The reverting process sees that the file is gone, and ends.
    pub(super) fn end(&self, state: &StateDir) -> io::Result<()> {
        forget_pending(state)
    }

    pub(super) fn shown(&self) -> api::Pending {
        let pending = &self.pending;
        let left = Duration::from_nanos(pending.deadline).saturating_sub(clock::since_boot());
        api::Pending {
            source: pending.source.clone(),
            digest: pending.digest.clone(),
            deadline: pending.deadline_at,
            remaining_s: left.as_secs() + u64::from(left.subsec_nanos() > 0),
            previous: pending.previous.source.name(),
        }
    }
}

/// Starts the process and waits until it stands in its own session, so that no signal to us or to our process group ends it.
fn start_reverter(revert: &Revert, pending: &Path) -> io::Result<()> {
    let [program, arguments @ ..] = revert.command.as_slice() else {
        return Err(io::Error::other("no program is named"));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .arg(crate::revert::FILE)
        .arg(pending)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    // The process itself goes on in the background; what we started ends at once.
    let status = child.wait()?;
    if status.success() && line.trim() == crate::revert::READY {
        Ok(())
    } else {
        Err(io::Error::other(format!("it ended with {status}")))
    }
}

/// A pending file that an earlier daemon left, also one whose reverting process did not come to its end.
pub(crate) fn left_behind(state: &StateDir) -> Option<Pending> {
    state.read(PENDING).or_else(|| state.read(CLAIMED))
}

/// Removes the file under both names: the reverting process sees that it is gone, and ends.
pub(crate) fn forget_pending(state: &StateDir) -> io::Result<()> {
    state.remove(PENDING)?;
    state.remove(CLAIMED)
}

/// Whether the deadline of a pending file is over, or its boot.
pub(crate) fn is_over(pending: &Pending) -> bool {
    pending.boot != clock::boot() || clock::since_boot() >= Duration::from_nanos(pending.deadline)
}

/// When the deadline is, for whoever waits for it.
pub(crate) fn left(pending: &Pending) -> Duration {
    Duration::from_nanos(pending.deadline).saturating_sub(clock::since_boot())
}
