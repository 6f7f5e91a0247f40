//! What becomes of a packet, as the stages of the decision hand it on.

use super::Inspect;
use crate::flow::FlowSlot;
use crate::verdict::{Reason, Verdict};

/// A verdict with what the record needs beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decided {
    pub(super) verdict: Verdict,
    pub(super) reason: Reason,
    pub(super) flow: Option<FlowSlot>,
    pub(super) inspect: Inspect,
    /// What a content rule has stopped, sent again, or what was under way behind it: nobody asks for more than was denied before.
    pub(super) is_again: bool,
}

impl Decided {
    /// Of a packet that belongs to no flow of this engine's, or of none yet.
    pub(super) fn untracked(verdict: Verdict, reason: Reason) -> Self {
        Self {
            verdict,
            reason,
            flow: None,
            inspect: Inspect::None,
            is_again: false,
        }
    }

    pub(super) fn drop(reason: Reason) -> Self {
        Self::untracked(Verdict::Drop, reason)
    }

    pub(super) fn allow(reason: Reason, flow: Option<FlowSlot>) -> Self {
        Self {
            flow,
            ..Self::untracked(Verdict::Allow, reason)
        }
    }

    /// By a content rule: what it lets pass is looked at further.
    pub(super) fn by_content(verdict: Verdict, reason: Reason, flow: Option<FlowSlot>) -> Self {
        Self {
            flow,
            inspect: if verdict == Verdict::Allow {
                Inspect::More
            } else {
                Inspect::None
            },
            ..Self::untracked(verdict, reason)
        }
    }

    /// By the content rule that stopped it before.
    pub(super) fn again(verdict: Verdict, reason: Reason, flow: FlowSlot) -> Self {
        Self {
            is_again: verdict != Verdict::Allow,
            ..Self::by_content(verdict, reason, Some(flow))
        }
    }
}
