//! Rules that do not do what their author meant: shadowed, redundant, contradictory, never matching. Each finding shows a packet.
//!
//! Pure and exact: a finding is true of every packet, not only of those tried. What would cost too much to prove (a rule covered
//! by thousands of others together) is passed over in silence, never guessed.

mod cover;
mod example;
mod index;
mod region;
mod verdict;

use crate::diagnostic::{Diagnostic, Severity, quoted};
use crate::evaluate::first_match;
use crate::plan::{Action, AddressMatch, Direction, Directions, Plan, Rule};
use crate::time::Timestamp;
use crate::witness::Witness;
use cover::{Cover, Coverage};

/// Looks at every rule, as of `now`. The findings are warnings, in the order of the rules.
pub fn lint(plan: &Plan, now: Timestamp) -> Vec<Diagnostic> {
    let mut coverage = Coverage::new(plan, now);
    let rules = 0..plan.rules.len();
    rules
        .filter_map(|place| look_at(plan, now, &mut coverage, place))
        .collect()
}

/// The first thing that is wrong with a rule; the rest would only repeat it.
fn look_at(
    plan: &Plan,
    now: Timestamp,
    coverage: &mut Coverage<'_>,
    place: usize,
) -> Option<Diagnostic> {
    let rule = &plan.rules[place];
    if let Some(expiry) = rule.expires
        && expiry <= now
    {
        let message = format!(
            "{} matches nothing since it expired at {expiry}",
            named(rule)
        );
        let mut found = finding(rule, "never-matches", message);
        found.expected("a later expires, or no such rule");
        found.witness = coverage.example(place);
        return Some(found);
    }
    if let Some(why) = never_matches(plan, rule, coverage, place) {
        let message = format!("{} can never match: {why}", named(rule));
        return Some(finding(rule, "never-matches", message));
    }
    if matches!(rule.action, Action::Ban(_)) && rule.directions == Directions::one(Direction::Out) {
        let message = format!(
            "{} bans the source of what this host sends, which is this host, and that is never banned",
            named(rule)
        );
        let mut found = finding(rule, "bans-own-host", message);
        found.expected("direction = \"in\", or action = \"deny\"");
        found.witness = coverage.example(place);
        return Some(found);
    }
    match coverage.of(place) {
        Cover::Dead(dead) => Some(dead_rule(plan, now, rule, &dead)),
        Cover::Alive if coverage.changes_nothing(place) => {
            let default = coverage.example(place)?;
            let word = verdict::name(rule.action);
            let message = format!(
                "{} changes nothing: without it the default {word}s the same packets",
                named(rule)
            );
            let mut found = finding(rule, "redundant", message);
            found.witness = Some(default);
            Some(found)
        }
        Cover::Alive | Cover::Unknown => None,
    }
}

fn finding(rule: &Rule, code: &'static str, message: String) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        code,
        message,
        position: rule.position.clone(),
        expected: None,
        suggestion: None,
        witness: None,
    }
}

fn named(rule: &Rule) -> String {
    format!("rule {}", quoted(&rule.name))
}

/// Another rule, as seen from this one.
fn named_with_place(other: &Rule, seen_from: &Rule) -> String {
    let position = &other.position;
    if position.file == seen_from.position.file {
        format!("{} (line {})", named(other), position.line)
    } else {
        format!("{} ({position})", named(other))
    }
}

/// Why no packet at all can match.
fn never_matches(
    plan: &Plan,
    rule: &Rule,
    coverage: &mut Coverage<'_>,
    place: usize,
) -> Option<String> {
    for (key, condition) in [("from", &rule.from), ("to", &rule.to)] {
        let AddressMatch::Of { inline, sets } = condition else {
            continue;
        };
        let mut named = sets.iter().map(|id| &plan.sets[id.0 as usize]);
        if inline.is_empty() && named.clone().all(|set| set.addresses.is_empty()) {
            return Some(match named.next() {
                Some(set) => format!("the set @{} in {key} is empty", set.name),
                None => format!("{key} names no address"),
            });
        }
    }
    if rule.directions.is_empty() {
        return Some("it covers no direction".to_owned());
    }
    if rule.protocols.is_empty() {
        return Some("it covers no protocol".to_owned());
    }
    if rule.port.is_empty() || rule.source_port.is_empty() {
        return Some("it covers no port".to_owned());
    }
    if !coverage.has_packets(place) {
        let asks_ports = !rule.port.is_any() || !rule.source_port.is_any();
        let has_ports = rule.protocols.iter().any(crate::protocol::has_ports);
        return Some(if asks_ports && !has_ports {
            format!("{} has no ports", rule.protocols)
        } else {
            "from and to have no address family in common".to_owned()
        });
    }
    None
}

/// A rule all of whose packets earlier rules decide.
fn dead_rule(plan: &Plan, now: Timestamp, rule: &Rule, dead: &cover::Dead) -> Diagnostic {
    let by: Vec<&Rule> = dead.by.iter().map(|&place| &plan.rules[place]).collect();
    let contradicted = match by.as_slice() {
        [one] => {
            same_packets(one, rule) && verdict::passes(one.action) != verdict::passes(rule.action)
        }
        _ => false,
    };
    let others = match by.as_slice() {
        [one] => named_with_place(one, rule),
        [one, two] => format!(
            "{} and {}",
            named_with_place(one, rule),
            named_with_place(two, rule)
        ),
        [one, two, rest @ ..] => format!(
            "{}, {} and {} more together",
            named_with_place(one, rule),
            named_with_place(two, rule),
            rest.len()
        ),
        // Some rule covered it, or it would not be dead.
        [] => "another rule".to_owned(),
    };
    let several = by.len() > 1;
    let (matches, decides) = if several {
        ("match", "decide")
    } else {
        ("matches", "decides")
    };
    let mut found = if contradicted {
        let word = verdict::name(by[0].action);
        let message = format!(
            "{} contradicts {others}: both match the same packets, and the first {word}s them",
            named(rule)
        );
        let mut found = finding(rule, "contradictory", message);
        found.expected("one of the two");
        found
    } else if dead.is_same {
        let message = format!(
            "{} changes nothing: {others} {matches} all of its packets first and {decides} them alike",
            named(rule)
        );
        let mut found = finding(rule, "redundant", message);
        found.expected("no such rule, or one that matches more");
        found
    } else {
        let mut message = format!(
            "{} never decides a packet: {others} {matches} all of its packets first",
            named(rule)
        );
        if rule.content.is_some() && by.iter().any(|other| other.content.is_none()) {
            // They pass as part of an established flow, and only content rules are asked about them.
            message.push_str(", but for answers of flows that began the other way");
        }
        let mut found = finding(rule, "shadowed", message);
        found.expected("the narrower rule first");
        found
    };
    found.witness = dead
        .witness
        .clone()
        .filter(|witness| shows(plan, now, rule, witness));
    found
}

/// Whether the packet matches the rule, and an earlier one decides it.
fn shows(plan: &Plan, now: Timestamp, rule: &Rule, witness: &Witness) -> bool {
    crate::evaluate::rule_matches(plan, rule, witness, now)
        && first_match(plan, witness, now).is_some_and(|first| first < rule.id)
}

/// Whether two rules are written for exactly the same packets.
fn same_packets(a: &Rule, b: &Rule) -> bool {
    a.directions == b.directions
        && a.protocols == b.protocols
        && a.from == b.from
        && a.to == b.to
        && a.source_port == b.source_port
        && a.port == b.port
        && a.interface == b.interface
        && a.content == b.content
}

#[cfg(test)]
mod tests;
