//! Why a policy did not come into force.

use kernel::datapath::DatapathError;
use kernel::probe::{Capability, has_capability};

use super::hold::HoldError;
use crate::api;

/// Why a policy did not come into force. The one before stays, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Nothing can enforce here.
    #[error("nothing can be enforced: {0}; --observe still shows what would happen")]
    NoDatapath(String),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] DatapathError),
    /// Another daemon enforces here.
    #[error("another portcullis enforces in this network namespace ({0}); stop it first")]
    Taken(String),
    /// It would cut an administrator off.
    #[error(
        "the policy would not let {peer} open the SSH session anew that it has now ({why}); add a rule for it, or use --force or --confirm 60s"
    )]
    CutsSession {
        /// Whose session.
        peer: std::net::SocketAddr,
        /// What decides.
        why: String,
    },
    /// What was rolled back does not come back by itself.
    #[error(
        "{name} was rolled back and does not come back by itself: change it, or enforce it with `portcullis apply {name} --confirm 60s`"
    )]
    RolledBack {
        /// Where it comes from.
        name: String,
    },
    /// A file that changes does not begin to block by itself.
    #[error(
        "{name} says enforce now, and what is observed does not begin to block because a file changed: `portcullis apply {name} --confirm 60s` enforces it"
    )]
    WouldEnforce {
        /// Where it comes from.
        name: String,
    },
    /// There is nothing that the end of the time could bring back.
    #[error(
        "{name} is in force already (since {since}, by {by}), so nothing would change when nobody confirms it; {mend}"
    )]
    InForceAlready {
        /// Where it comes from.
        name: String,
        /// Since when.
        since: api::Time,
        /// How it came into force.
        by: &'static str,
        /// What to do instead.
        mend: String,
    },
    /// Another apply waits for its confirmation.
    #[error(
        "the policy of the last apply still waits; `portcullis confirm` or `portcullis rollback` first"
    )]
    Pending,
    /// Nothing waits for a confirmation.
    #[error("no policy waits for a confirmation")]
    NothingPending,
    /// There is nothing to go back to.
    #[error(
        "there is no older policy to go back to; `portcullis apply FILE --confirm 60s` puts another in force"
    )]
    NoPrevious,
    /// What brings the previous state back could not be set up.
    #[error(transparent)]
    Hold(#[from] HoldError),
}

impl ApplyError {
    /// Whether it is for lack of permission: of the daemon, whoever asks it.
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::NoDatapath(_) | Self::Kernel(_))
            && !has_capability(Capability::NetAdmin)
    }
}
