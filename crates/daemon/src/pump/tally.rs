//! What inspecting workers decided, in numbers: for the sums, and for the rules' hits. Not what they found, which they tell by events.

use std::sync::atomic::{AtomicU64, Ordering};

use engine::{Decision, Reason, Verdict};
use kernel::datapath::mark;
use kernel::nfqueue::QueuedPacket;
use policy::RuleId;

/// What workers decided, in packets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Inspected {
    /// Whatever was decided.
    pub(crate) packets: u64,
    /// Passed, and let in by what the worker asked behind the content rules; packets of established flows pass uncounted, as in the
    /// kernel.
    pub(crate) allowed: u64,
    pub(crate) dropped: u64,
    pub(crate) rejected: u64,
    /// Of the last two: what the kernel's rules had accepted, and counted so.
    pub(crate) taken_back: u64,
    /// From the IP header on, of what the kernel has not counted.
    pub(crate) bytes: u64,
    /// Questions to name servers.
    pub(crate) dns_questions: u64,
    /// For blocked names.
    pub(crate) dns_blocked: u64,
    /// Ends of flows beyond the share of a second, which are told nowhere else.
    pub(crate) unrecorded_flows: u64,
}

impl Inspected {
    /// Both together.
    pub(super) fn and(self, more: Self) -> Self {
        Self {
            packets: self.packets + more.packets,
            allowed: self.allowed + more.allowed,
            dropped: self.dropped + more.dropped,
            rejected: self.rejected + more.rejected,
            taken_back: self.taken_back + more.taken_back,
            bytes: self.bytes + more.bytes,
            dns_questions: self.dns_questions + more.dns_questions,
            dns_blocked: self.dns_blocked + more.dns_blocked,
            unrecorded_flows: self.unrecorded_flows + more.unrecorded_flows,
        }
    }

    /// What one decision adds.
    pub(super) fn of(packet: &QueuedPacket<'_>, decision: &Decision) -> Self {
        let is_counted = was_accepted(packet.mark);
        let mut counts = Self {
            packets: 1,
            ..Self::default()
        };
        match decision.verdict {
            Verdict::Allow if is_counted || decision.reason == Reason::Established => {
                return counts;
            }
            Verdict::Allow => counts.allowed = 1,
            Verdict::Drop => counts.dropped = 1,
            Verdict::Reject => counts.rejected = 1,
        }
        if is_counted {
            counts.taken_back = 1;
        } else {
            counts.bytes = packet.full_len as u64;
        }
        counts
    }
}

/// Packets that each rule of one plan decided in workers, by [`RuleId`].
#[derive(Debug)]
pub(super) struct Hits(Box<[AtomicU64]>);

impl Hits {
    /// None yet, of so many rules.
    pub(super) fn of(rules: usize) -> Self {
        Self((0..rules).map(|_| AtomicU64::new(0)).collect())
    }

    /// Counts a packet for the rule that decided it: what the kernel's rules had accepted they have counted.
    pub(super) fn note(&self, packet: &QueuedPacket<'_>, decision: &Decision) {
        if let Some(RuleId(rule)) = decision.reason.rule()
            && !was_accepted(packet.mark)
            && let Some(hits) = self.0.get(rule as usize)
        {
            hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds them to `sums`, which grows as it has to.
    pub(super) fn add_to(&self, sums: &mut Vec<u64>) {
        if sums.len() < self.0.len() {
            sums.resize(self.0.len(), 0);
        }
        for (sum, hits) in sums.iter_mut().zip(&self.0) {
            *sum += hits.load(Ordering::Relaxed);
        }
    }
}

/// Whether the kernel's rules had accepted it.
const fn was_accepted(mark: u32) -> bool {
    mark & mark::ACCEPTED != 0
}
