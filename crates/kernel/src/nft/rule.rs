//! The chain of each rule: count, log, and what the rule does. However often the tree names a rule, there is one such chain
//! and one counter.

use policy::{Action, Direction, OnFailure, Rule};

use super::list::Family;
use super::own_ban;
use super::rate::meter_of;
use super::table::Set;
use super::writer::Writer;
use crate::tag::{Cause, Outcome};

/// What becomes of a packet that meets the header conditions of a content rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// User space looks at it.
    HandUp,
    /// Nobody can look at it, and the policy says: drop it then.
    Drop,
    /// Nobody can look at it, and the policy says: go on as if the rule were not there.
    Skip,
}

impl Content {
    /// What the plan and its backend make of content rules.
    pub(super) fn of(writer: &Writer<'_>) -> Self {
        match (writer.context.queues, writer.plan.on_failure) {
            _ if writer.observes() => Self::Skip,
            (Some(_), _) => Self::HandUp,
            (None, OnFailure::Closed) => Self::Drop,
            (None, OnFailure::Open | OnFailure::LastKnown) => Self::Skip,
        }
    }
}

/// Writes the chains of all rules, with their counters and meters.
pub(super) fn write(writer: &mut Writer<'_>) {
    let content = Content::of(writer);
    for rule in &writer.plan.rules {
        let cause = Cause::Rule(rule.id);
        let name = format!("rule_{}", rule.id.0);
        let rules = match (&rule.content, content) {
            (Some(_), Content::Skip) => continue,
            (Some(_), Content::HandUp) => {
                let counter = writer.table.counter(&handed_up_counter(rule.id));
                vec![format!("{counter} goto hand_up")]
            }
            (Some(_), Content::Drop) => writer.refusal(Outcome::Drop, cause),
            (None, _) => decide(writer, rule, &name),
        };
        writer.table.commented_chain(name, Some(&rule.name), rules);
    }
}

/// What a rule without content conditions does.
fn decide(writer: &mut Writer<'_>, rule: &Rule, name: &str) -> Vec<String> {
    let cause = Cause::Rule(rule.id);
    match rule.action {
        Action::Allow => writer.acceptance(cause, rule.log),
        Action::Deny => writer.refusal(Outcome::Drop, cause),
        Action::Reject => writer.refusal(Outcome::Reject, cause),
        Action::Limit => limit(writer, rule),
        Action::Ban(duration) => {
            if rule.directions.contains(Direction::Out) {
                let rules = writer.refusal(Outcome::Drop, cause);
                writer
                    .table
                    .commented_chain(format!("{name}_out"), Some(&rule.name), rules);
            }
            own_ban::rules(writer, duration, cause)
        }
    }
}

/// The name of the counter of packets handed up for a content rule.
pub(super) fn handed_up_counter(rule: policy::RuleId) -> String {
    format!("handed_up_{}", rule.0)
}

/// The rule whose handed-up packets a counter of this name counts.
pub(super) fn handed_up_rule(name: &str) -> Option<policy::RuleId> {
    name.strip_prefix("handed_up_")?
        .parse()
        .ok()
        .map(policy::RuleId)
}

/// `limit`: within the rate accept, else drop. The bucket is tested as "within", so that a source for which the full meter
/// has no room fails the test and is dropped: a flood of sources costs new sources the service of this rule until others
/// fall silent, and lets nobody pass unmeasured.
fn limit(writer: &mut Writer<'_>, rule: &Rule) -> Vec<String> {
    let number = rule.id.0;
    let counter = writer.table.counter(&Cause::Rule(rule.id).counter());
    let mut tests = Vec::new();
    if let Some(rate) = rule.rate {
        let meter = meter_of(&rate);
        for family in Family::BOTH {
            let name = format!("limit_{number}_{}", family.suffix());
            writer.table.set(meter_set(
                &name,
                family.key_type(),
                writer.plan.limits.sources,
                meter.memory,
            ));
            let key = family.counted_source();
            tests.push(format!(
                "update @{name} {{ {key} limit rate {} }}",
                meter.terms
            ));
        }
    }
    if rule.measures_every_packet() {
        let mut rules: Vec<String> = tests.iter().map(|test| format!("{test} return")).collect();
        rules.push(format!("goto over_{number}"));
        writer.table.chain(format!("meter_{number}"), rules);
    }
    let within = writer.acceptance_uncounted(Cause::Rule(rule.id), rule.log);
    writer.table.chain(format!("within_{number}"), within);
    let over = writer.refusal(Outcome::Drop, Cause::Limited(rule.id));
    writer.table.chain(format!("over_{number}"), over);
    let mut rules = vec![counter];
    rules.extend(
        tests
            .into_iter()
            .map(|test| format!("{test} goto within_{number}")),
    );
    rules.push(format!("goto over_{number}"));
    rules
}

/// A set of buckets by source. Who was silent until the bucket was full again is forgotten.
pub(super) fn meter_set(name: &str, key_type: &str, sources: u32, memory: u64) -> Set {
    Set {
        name: name.to_owned(),
        keyword: "set",
        attributes: vec![
            format!("type {key_type}"),
            format!("size {}", sources.max(1)),
            "flags dynamic,timeout".to_owned(),
            format!(
                "timeout {}",
                super::rate::duration_text(std::time::Duration::from_secs(memory))
            ),
        ],
        elements: None,
    }
}
