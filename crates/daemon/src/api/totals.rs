//! What is counted.

use serde::{Deserialize, Serialize};

/// Sums since the begin: also the last line of `replay --json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Packets seen.
    pub packets: u64,
    /// Bytes of the frames on the wire.
    pub bytes: u64,
    /// Packets that passed.
    pub allowed: u64,
    /// Packets dropped, or that would have been.
    pub dropped: u64,
    /// Packets rejected, or that would have been.
    pub rejected: u64,
    /// Where nothing is blocked: packets of flows that would have been denied, which nobody would have sent then, and which are none of
    /// the three above; left out when there were none.
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
            anomalies: rule(self.anomalies, other.anomalies),
            flows: rule(self.flows, other.flows),
            alerts: rule(self.alerts, other.alerts),
            bans: rule(self.bans, other.bans),
            dns_questions: rule(self.dns_questions, other.dns_questions),
            dns_blocked: rule(self.dns_blocked, other.dns_blocked),
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
