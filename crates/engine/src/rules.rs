//! The rules, indexed, with the token buckets of those that limit.

use policy::{Action, Direction, Plan, RuleId, Timestamp};

use crate::bucket::{Buckets, Shape};

use crate::facts::Facts;
use crate::index::{Index, header_matches};
use crate::source::subnet_of;
use crate::verdict::{Reason, Verdict};

/// Indexes and buckets of one plan.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Rules that ask for headers alone, by direction.
    indexes: [Index; 3],
    /// `limit` rules that count packets or bytes, which see packets of established flows too, and what lets flows pass
    /// before them.
    metered: [Index; 3],
    any_metered: bool,
    /// What lets flows pass before a content rule.
    passing: [Index; 3],
    /// What is asked of a rule each time that it matches, close together.
    briefs: Vec<Brief>,
    buckets: Vec<Option<Buckets>>,
}

/// What is asked of a rule each time that it matches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Brief {
    pub(crate) action: Action,
    pub(crate) has_content: bool,
    pub(crate) log: bool,
}

impl Rules {
    pub(crate) fn new(plan: &Plan, seed: u64) -> Self {
        let buckets = plan.rules.iter().map(|rule| {
            let rate = rule.rate.filter(|_| rule.action == Action::Limit)?;
            Some(Buckets::new(Shape::of(&rate), plan.limits.sources, seed))
        });
        let last_meter = plan.rules.iter().rfind(|rule| rule.measures_every_packet());
        let last_meter = last_meter.map(|rule| rule.id);
        let last_content = plan.rules.iter().rfind(|rule| rule.content.is_some());
        let last_content = last_content.map(|rule| rule.id);
        Self {
            indexes: Direction::ALL
                .map(|direction| Index::build(plan, direction, |rule| rule.content.is_none())),
            metered: Direction::ALL.map(|direction| {
                Index::build(plan, direction, |rule| {
                    rule.lets_pass() && last_meter.is_some_and(|last| rule.id <= last)
                })
            }),
            any_metered: last_meter.is_some(),
            passing: Direction::ALL.map(|direction| {
                Index::build(plan, direction, |rule| {
                    rule.lets_pass() && last_content.is_some_and(|last| rule.id < last)
                })
            }),
            briefs: plan
                .rules
                .iter()
                .map(|rule| Brief {
                    action: rule.action,
                    has_content: rule.content.is_some(),
                    log: rule.log,
                })
                .collect(),
            buckets: buckets.collect(),
        }
    }

    /// The first rule that matches, of those that do not ask for content.
    #[inline]
    pub(crate) fn first_match(
        &self,
        plan: &Plan,
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> Option<RuleId> {
        self.indexes[facts.direction as usize].first(facts, |id| holds(id, plan, facts, now))
    }

    /// What a rule does, in short. Rules are numbered by the plan that these indexes were built from.
    pub(crate) fn brief(&self, id: RuleId) -> Brief {
        self.briefs[id.0 as usize]
    }

    /// What the rule does with a packet that it matches; takes from its bucket.
    pub(crate) fn act(
        &mut self,
        id: RuleId,
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> (Verdict, Reason) {
        match self.brief(id).action {
            Action::Allow => (Verdict::Allow, Reason::Rule(id)),
            Action::Deny | Action::Ban(_) => (Verdict::Drop, Reason::Rule(id)),
            Action::Reject => (Verdict::Reject, Reason::Rule(id)),
            Action::Limit if self.take(id, facts, now) => (Verdict::Allow, Reason::Rule(id)),
            Action::Limit => (Verdict::Drop, Reason::Limited(id)),
        }
    }

    /// The rule that would let in the flow that this packet began, of those with a content rule behind them.
    pub(crate) fn let_in_by(
        &self,
        plan: &Plan,
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> Option<RuleId> {
        self.passing[facts.direction as usize].first(facts, |id| holds(id, plan, facts, now))
    }

    /// The rule that let this packet's flow pass, when it measures every packet and this one is over its rate. It is the first
    /// that matches, as it was for the flow's first packet.
    pub(crate) fn over_rate(
        &mut self,
        plan: &Plan,
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> Option<RuleId> {
        if !self.any_metered {
            return None;
        }
        let id = self.metered[facts.direction as usize]
            .first(facts, |id| holds(id, plan, facts, now))?;
        let measures = plan.rules[id.0 as usize].measures_every_packet();
        (measures && !self.take(id, facts, now)).then_some(id)
    }

    fn take(&mut self, rule: RuleId, facts: &Facts<'_>, now: Timestamp) -> bool {
        match self.buckets.get_mut(rule.0 as usize) {
            Some(Some(buckets)) => buckets.take(subnet_of(facts.source), facts.len, now),
            // A `limit` rule always has a rate: validation asks for it.
            Some(None) | None => false,
        }
    }
}

/// Whether a rule matches but for what it asks of the content.
#[inline]
fn holds(id: RuleId, plan: &Plan, facts: &Facts<'_>, now: Timestamp) -> bool {
    let rule = &plan.rules[id.0 as usize];
    header_matches(rule, facts, plan) && rule.expires.is_none_or(|expires| now < expires)
}
