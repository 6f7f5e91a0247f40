//! Which rule decides: the specification of "the first match wins" as a plain scan.
//!
//! Slow on purpose and without any state: no flows, no bans, no feeds, no rates, no essentials, no defaults. The engine and the
//! kernel backends have to agree with it about rules, and their tests may use it as an oracle.

use crate::content::{Content, Pattern, Scope, compile_regex};
use crate::plan::{Plan, Rule, RuleId};
use crate::protocol;
use crate::time::Timestamp;
use crate::witness::Witness;

/// The first rule that matches the packet.
pub fn first_match(plan: &Plan, packet: &Witness, now: Timestamp) -> Option<RuleId> {
    let mut rules = plan.rules.iter();
    rules
        .find(|rule| rule_matches(plan, rule, packet, now))
        .map(|rule| rule.id)
}

/// Whether every part of the rule matches the packet.
pub fn rule_matches(plan: &Plan, rule: &Rule, packet: &Witness, now: Timestamp) -> bool {
    rule.expires.is_none_or(|expiry| now < expiry)
        && rule.directions.contains(packet.direction)
        && rule.protocols.contains(packet.protocol)
        && rule.source_port.matches(packet.source_port)
        && rule.port.matches(packet.destination_port)
        && rule
            .interface
            .as_ref()
            .is_none_or(|interface| interface.matches(packet.interface.as_deref()))
        && rule.from.matches(packet.source, &plan.sets)
        && rule.to.matches(packet.destination, &plan.sets)
        && rule.content.as_ref().is_none_or(|content| {
            // Only these protocols have streams; for the others a stream is the packet.
            let has_stream = packet.protocol == protocol::TCP;
            content_matches(content, &packet.payload, has_stream)
        })
}

/// Whether a content condition holds for a payload that is also the begin of its stream.
pub fn content_matches(content: &Content, payload: &[u8], has_stream: bool) -> bool {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    if length == 0 || length < content.min_len || content.max_len.is_some_and(|most| length > most)
    {
        return false;
    }
    let seen = match content.scope {
        Scope::Stream { depth } if has_stream => &payload[..payload.len().min(depth as usize)],
        _ => payload,
    };
    match &content.pattern {
        None => true,
        Some(Pattern::At {
            offset,
            bytes,
            mask,
        }) => {
            let begin = *offset as usize;
            let window = seen.get(begin..begin.saturating_add(bytes.len()));
            window.is_some_and(|window| {
                let masked = window.iter().zip(mask).map(|(byte, mask)| byte & mask);
                masked.eq(bytes.iter().copied())
            })
        }
        Some(Pattern::Contains { bytes, ignore_case }) => {
            seen.windows(bytes.len().max(1)).any(|window| {
                if *ignore_case {
                    window.eq_ignore_ascii_case(bytes)
                } else {
                    window == bytes
                }
            })
        }
        // A pattern that does not compile is in no plan that was loaded.
        Some(Pattern::Regex(pattern)) => {
            compile_regex(pattern).is_ok_and(|regex| regex.is_match(seen))
        }
    }
}
