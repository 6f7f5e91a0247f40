//! What is counted.

use serde::{Deserialize, Serialize};

/// Sums since the begin. What was blocked and what would have been, had it been enforced, stand apart. In the last line of
/// `replay --json`, where nothing was done, `dropped`, `rejected` and `bans` are what this policy would have done, and the others are
/// left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Packets seen.
    pub packets: u64,
    /// Bytes of the frames on the wire.
    pub bytes: u64,
    /// Packets that passed.
    pub allowed: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Packets rejected.
    pub rejected: u64,
    /// Packets that went on while observing, and would have been dropped; left out when there were none, as the others that only would
    /// have been.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub would_drop: u64,
    /// Packets that went on while observing, and would have been rejected.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub would_reject: u64,
    /// Of what was denied, done or not: what came of flows that would have been denied, as nothing was blocked. Nobody would have sent it, and nothing of it
    /// is told or held against anybody.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sequels: u64,
    /// Broken or impossible packets.
    pub anomalies: u64,
    /// Flows begun.
    pub flows: u64,
    /// Alerts.
    pub alerts: u64,
    /// Bans made.
    pub bans: u64,
    /// Bans that would have been made, while observing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub would_ban: u64,
    /// Questions to name servers that `[dns]` looked at; left out when there were none, as the next.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dns_questions: u64,
    /// And those of them that asked for a blocked name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dns_blocked: u64,
}

/// By reference, as serde asks.
#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What an engine that decides counts as done.
impl From<engine::Totals> for Totals {
    fn from(totals: engine::Totals) -> Self {
        let engine::Totals {
            packets,
            bytes,
            allowed,
            dropped,
            rejected,
            sequels,
            anomalies,
            flows,
            alerts,
            bans,
            dns_questions,
            dns_blocked,
        } = totals;
        Self {
            packets,
            bytes,
            allowed,
            dropped,
            rejected,
            sequels,
            anomalies,
            flows,
            alerts,
            bans,
            dns_questions,
            dns_blocked,
            would_drop: 0,
            would_reject: 0,
            would_ban: 0,
        }
    }
}

impl Totals {
    /// Each sum with its other, by the same rule.
    fn zip(&self, other: &Self, rule: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            packets: rule(self.packets, other.packets),
            bytes: rule(self.bytes, other.bytes),
            allowed: rule(self.allowed, other.allowed),
            dropped: rule(self.dropped, other.dropped),
            rejected: rule(self.rejected, other.rejected),
            sequels: rule(self.sequels, other.sequels),
            would_drop: rule(self.would_drop, other.would_drop),
            would_reject: rule(self.would_reject, other.would_reject),
            anomalies: rule(self.anomalies, other.anomalies),
            flows: rule(self.flows, other.flows),
            alerts: rule(self.alerts, other.alerts),
            bans: rule(self.bans, other.bans),
            would_ban: rule(self.would_ban, other.would_ban),
            dns_questions: rule(self.dns_questions, other.dns_questions),
            dns_blocked: rule(self.dns_blocked, other.dns_blocked),
        }
    }

    /// The same of an engine that only observes: nothing of it was done.
    #[must_use]
    pub fn observed(self) -> Self {
        Self {
            dropped: 0,
            rejected: 0,
            bans: 0,
            would_drop: self.would_drop + self.dropped,
            would_reject: self.would_reject + self.rejected,
            would_ban: self.would_ban + self.bans,
            ..self
        }
    }

    /// What was counted since the sums were `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        self.zip(before, u64::saturating_sub)
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, more: Self) {
        *self = self.zip(&more, u64::saturating_add);
    }
}
