//! What was written, given its meaning: the one place where a policy is validated, whatever form it came in.
//!
//! [`sets()`] comes first and says which list files are needed; the caller reads them; [`policy`] does the rest. No I/O here.

mod addresses;
mod describe;
mod detect;
mod dns;
mod hosts;
mod later;
mod payload;
mod ports;
mod protocols;
mod rate;
mod rule;
mod sets;
mod settings;
mod way_in;

use std::collections::HashMap;

use crate::plan::{Plan, Position, Rule, RuleId};
use crate::report::Report;
use crate::tree::{Node, Table};

pub(crate) use dns::{DnsDraft, NameList};
pub(crate) use sets::{SetDraft, Sets, sets};
pub(crate) use settings::check_default;

/// Most rules in a policy.
pub(crate) const MOST_RULES: usize = 100_000;
/// Most names in `sni` or `http_host` of a rule.
pub(crate) const MOST_HOSTS: usize = 10_000;
/// Most named sets in a policy.
pub(crate) const MOST_SETS: usize = 1_000;
/// Most address ranges in all sets and rules of a policy together.
pub(crate) const MOST_RANGES: usize = 10_000_000;

/// A whole policy as it was written, includes in their places.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) settings: Table,
    pub(crate) rules: Vec<Node>,
}

/// Gives the meaning, the lists of names aside. What has errors, reported, is left out.
pub(crate) fn policy(
    written: &Written,
    sets: Sets,
    report: &mut Report,
) -> (Plan, Option<DnsDraft>) {
    let (mut plan, dns) = settings::read(&written.settings, &sets, report);
    let mut reader = Reader {
        sets: &sets,
        ban_for: plan.ban.duration,
        names: HashMap::new(),
        ranges_left: MOST_RANGES.saturating_sub(sets.ranges()),
        report,
    };
    for (index, node) in written.rules.iter().enumerate() {
        if index == MOST_RULES {
            let message = format!("the policy has {} rules", written.rules.len());
            reader
                .report
                .error(node.span, "too-many", message)
                .expected(format!(
                    "at most {MOST_RULES}; addresses and ports can be lists"
                ));
            break;
        }
        if let Some(mut rule) = reader.rule(node) {
            rule.id = RuleId(plan.rules.len() as u32);
            plan.rules.push(rule);
        }
    }
    // A rule that could not be read may be the one that is missed.
    if let Some(mode) = written.settings.get("mode")
        && !reader.report.has_errors()
    {
        way_in::check(&plan, &mode.value, reader.report);
    }
    (plan.feeds, plan.sets) = (sets.feeds, sets.named);
    (plan, dns)
}

/// What the reading of each rule needs.
struct Reader<'a> {
    sets: &'a Sets,
    ban_for: std::time::Duration,
    names: HashMap<String, Position>,
    ranges_left: usize,
    report: &'a mut Report,
}

/// Something is wrong with the rule, and it is reported.
struct Reported;

/// A rule, or nothing when it is off or wrong.
type MaybeRule = Option<Rule>;
