//! What inspecting workers decided, in numbers: for the sums, and for the rules' hits. Not what they found, which they tell by events.

use std::sync::atomic::{AtomicU64, Ordering};

use engine::{Decision, Reason, Verdict};
use kernel::datapath::mark;
use kernel::nfqueue::QueuedPacket;
use policy::RuleId;

/// What workers decided, in packets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Inspected {
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
        let mut counts = Self::default();
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

/// [`Inspected`] that several workers add to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    allowed: AtomicU64,
    dropped: AtomicU64,
    rejected: AtomicU64,
    taken_back: AtomicU64,
    bytes: AtomicU64,
    dns_questions: AtomicU64,
    dns_blocked: AtomicU64,
    unrecorded_flows: AtomicU64,
}

impl Tally {
    pub(super) fn add(&self, more: Inspected) {
        for (sum, more) in [
            (&self.allowed, more.allowed),
            (&self.dropped, more.dropped),
            (&self.rejected, more.rejected),
            (&self.taken_back, more.taken_back),
            (&self.bytes, more.bytes),
            (&self.dns_questions, more.dns_questions),
            (&self.dns_blocked, more.dns_blocked),
            (&self.unrecorded_flows, more.unrecorded_flows),
        ] {
            // Most packets add nothing, and the workers share the line of memory.
            if more > 0 {
                sum.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn sums(&self) -> Inspected {
        Inspected {
            allowed: self.allowed.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            taken_back: self.taken_back.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            dns_questions: self.dns_questions.load(Ordering::Relaxed),
            dns_blocked: self.dns_blocked.load(Ordering::Relaxed),
            unrecorded_flows: self.unrecorded_flows.load(Ordering::Relaxed),
        }
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

/// Whether the kernel's rules had accepted it, and asked for `[dns]` alone.
const fn was_accepted(mark: u32) -> bool {
    mark & mark::ACCEPTED != 0
}
