//! Which rule decides: the specification of "the first match wins" as a plain scan.
//!
//! Slow on purpose and without any state: no flows, no bans, no feeds, no rates, no essentials, no defaults. The engine and the
//! kernel backends have to agree with it about rules, and their tests may use it as an oracle.

use crate::content::{Content, Pattern, Scope, compile_regex};
use crate::host::{AskedHost, Asks};
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
            match content.hosts() {
                Some(_) => has_stream && asks_for(content, packet.asks.as_ref()),
                None => content_matches(content, &packet.payload, has_stream),
            }
        })
}

/// Whether what the client asks for is among the hosts of a content condition. It is told, not read from the payload.
fn asks_for(content: &Content, asks: Option<&Asks>) -> bool {
    let (Some((field, hosts)), Some(asks)) = (content.hosts(), asks) else {
        return false;
    };
    let asked = AskedHost::new(asks.host.as_bytes());
    asks.field == field && hosts.iter().any(|host| host.matches(&asked))
}

/// Whether a content condition holds for a payload that is also the begin of its stream. For one of hosts it does not, as no
/// TLS or HTTP is read here.
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
        Some(Pattern::Host { .. }) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that cannot load its own text has failed"
    )]
    use std::path::Path;

    use super::*;
    use crate::load::{Format, load_text};

    /// Whether `deny CONDITION` matches the payload, with and without a stream.
    fn matches(condition: &str, payload: &[u8]) -> (bool, bool) {
        let text = format!("deny {condition}");
        let loaded = load_text("t", &text, Format::RulesTxt, Path::new(""));
        let plan = loaded.policy.unwrap().into_plan();
        let content = plan.rules[0].content.as_ref().unwrap();
        (
            content_matches(content, payload, true),
            content_matches(content, payload, false),
        )
    }

    #[test]
    fn contents() {
        for (condition, payload, expected) in [
            ("at 0 bytes \"68 ?? 00\"", "h\x7f\0x", (true, true)),
            ("at 0 bytes \"68 ?? 00\"", "h\x7f\x01x", (false, false)),
            ("at 0 bytes \"68 ?? 00\"", "h\x7f", (false, false)),
            ("at 2 bytes \"6?\"", "xxa", (true, true)),
            ("at 2 bytes \"6?\"", "xxq", (false, false)),
            ("at 2 bytes \"?1\"", "xxa", (true, true)),
            ("contains \"b\\x63d\"", "abcde", (true, true)),
            ("contains \"BCD\"", "abcde", (false, false)),
            ("contains \"BCD\" ignore-case", "abcde", (true, true)),
            ("contains \"abcdef\"", "abcde", (false, false)),
            ("hex \"6263\"", "abcde", (true, true)),
            ("regex \"^a.c\"", "abcde", (true, true)),
            ("regex \"^A.C\" ignore-case", "abcde", (true, true)),
            ("regex \"e$\" depth 3", "abcde", (false, true)),
            ("contains \"de\" stream depth 4", "abcde", (false, true)),
            ("contains \"cd\" stream depth 4", "abcde", (true, true)),
            ("min-len 5", "abcde", (true, true)),
            ("min-len 6", "abcde", (false, false)),
            ("max-len 5", "abcde", (true, true)),
            ("max-len 4", "abcde", (false, false)),
            // Without a payload nothing matches, whatever is asked.
            ("max-len 4", "", (false, false)),
            ("regex \"a*\"", "", (false, false)),
        ] {
            assert_eq!(
                matches(condition, payload.as_bytes()),
                expected,
                "{condition} {payload:?}"
            );
        }
    }

    #[test]
    fn witnesses_print_as_test_reads_them() {
        let mut packet = Witness {
            direction: crate::Direction::In,
            protocol: 6,
            source: "203.0.113.7".parse().unwrap(),
            destination: "192.0.2.1".parse().unwrap(),
            source_port: Some(40_000),
            destination_port: Some(22),
            interface: Some("eth0".to_owned()),
            payload: vec![0x68, 0],
            asks: None,
        };
        assert_eq!(
            packet.to_string(),
            "in tcp 203.0.113.7:40000 to 192.0.2.1:22 on eth0 payload 68 00"
        );
        packet.source = "2001:db8::7".parse().unwrap();
        packet.destination = "2001:db8::1".parse().unwrap();
        (packet.interface, packet.payload) = (None, Vec::new());
        assert_eq!(
            packet.to_string(),
            "in tcp [2001:db8::7]:40000 to [2001:db8::1]:22"
        );
        packet.asks = Some(Asks {
            field: crate::host::HostField::HttpHost,
            host: "a.example".to_owned(),
        });
        assert_eq!(
            packet.to_string(),
            "in tcp [2001:db8::7]:40000 to [2001:db8::1]:22 http-host a.example"
        );
        packet.asks = None;
        (packet.source_port, packet.destination_port, packet.protocol) = (None, None, 200);
        assert_eq!(packet.to_string(), "in 200 2001:db8::7 to 2001:db8::1");
    }
}
