//! What would become of packets that have not come: of hypothetical ones, and of the next of a flow.

use policy::{Action, Timestamp};

use super::{Decision, Engine, Inspect};
use crate::facts::{Facts, Probe};
use crate::impossible::impossible;
use crate::inspect::Places;
use crate::verdict::{Reason, Verdict};

impl Engine {
    /// What drops each packet of a flow of these ends before any rule is asked, if something does: a ban or a feed.
    pub fn cut(&self, now: Timestamp, probe: &Probe) -> Option<Reason> {
        self.shield(&probe.facts(), now).map(|(reason, _)| reason)
    }

    /// Decides a hypothetical packet as the first of its flow. Changes nothing: rates are taken as not exceeded.
    pub fn test(&self, now: Timestamp, probe: &Probe) -> Decision {
        let facts = probe.facts();
        let (verdict, reason) = self.test_facts(now, &facts);
        Decision {
            verdict,
            reason,
            direction: probe.direction,
            inspect: Inspect::None,
            reply: self.reply_to(&facts, reason),
        }
    }

    pub(super) fn test_facts(&self, now: Timestamp, facts: &Facts<'_>) -> (Verdict, Reason) {
        let (verdict, reason) = self.test_headers(now, facts);
        if verdict == Verdict::Allow
            && let Some(refusal) = self.test_question(facts)
        {
            return (Verdict::Drop, Reason::Dns(refusal));
        }
        (verdict, reason)
    }

    fn test_headers(&self, now: Timestamp, facts: &Facts<'_>) -> (Verdict, Reason) {
        if let Some((reason, _)) = self.shield(facts, now) {
            return (Verdict::Drop, reason);
        }
        if let Some(kind) = impossible(facts) {
            return (Verdict::Drop, Reason::Impossible(kind));
        }
        let room = &mut Places::default();
        if let Some((id, _)) = self.first_match(&self.plan, facts, now, room) {
            let verdict = match self.rules.brief(id).action {
                Action::Allow | Action::Limit => Verdict::Allow,
                Action::Deny | Action::Ban(_) => Verdict::Drop,
                Action::Reject => Verdict::Reject,
            };
            return (verdict, Reason::Rule(id));
        }
        self.after_rules(facts)
    }
}
