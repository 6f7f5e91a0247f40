//! A verdict and its typed reason in words, with the rule and where it was written: the same in every record, screen and answer.

use std::fmt::Display;

use engine::{DnsQuestion, DnsRefusal, Invalid, Reason, Verdict};
use policy::{Action, Direction, HostField, Plan, Rule, RuleId};

use crate::api::Decided;

/// Explains a decision taken under `plan`.
pub fn decided(plan: &Plan, verdict: Verdict, reason: Reason) -> Decided {
    let rule = reason.rule().and_then(|id| rule(plan, id));
    Decided {
        verdict: verdict.name().to_owned(),
        reason: reason.name().to_owned(),
        rule: rule.map(|rule| rule.name.clone()),
        file: rule.map(|rule| rule.position.file.clone()),
        line: rule.map(|rule| rule.position.line),
        stage: reason.stage().name().to_owned(),
        text: sentence(plan, reason),
    }
}

/// Explains what becomes of a question to a name server.
pub(crate) fn question(question: &DnsQuestion, tuple: Option<&wire::FiveTuple>) -> Decided {
    let is_stream = tuple.is_some_and(|tuple| tuple.protocol == policy::protocol::TCP);
    let (verdict, reason) = match (question.blocked, is_stream, &question.entry) {
        (Some(_), true, _) => (Verdict::Reject, "dns-blocked"),
        (Some(_), false, _) => (Verdict::Drop, "dns-blocked"),
        (None, _, Some(_)) => (Verdict::Allow, "dns-allowed"),
        (None, _, None) => (Verdict::Allow, "dns-not-listed"),
    };
    Decided {
        verdict: verdict.name().to_owned(),
        reason: reason.to_owned(),
        rule: None,
        file: None,
        line: None,
        stage: engine::Stage::Dns.name().to_owned(),
        text: asked(question, is_stream),
    }
}

/// `A ads.example is blocked by *.example of lists/ads.txt, answered with zero`.
fn asked(question: &DnsQuestion, is_stream: bool) -> String {
    let name = match &*question.name {
        "" => ".",
        name => name,
    };
    let mut text = format!("{} {name} is ", question.record_type);
    text.push_str(match (question.blocked, &question.entry) {
        (Some(_), _) => "blocked",
        (None, Some(_)) => "allowed",
        (None, None) => "in no list",
    });
    if let Some(listed) = &question.entry {
        text.push_str(&format!(" by {} of {}", listed.entry, listed.source));
    }
    match question.blocked {
        Some(_) if is_stream => text.push_str(", reset"),
        Some(policy::DnsAnswer::Drop) => text.push_str(", not answered"),
        Some(answer) => text.push_str(&format!(", answered with {}", answer.name())),
        None => {}
    }
    text
}

fn refusal(plan: &Plan, refusal: DnsRefusal) -> String {
    match refusal {
        DnsRefusal::Blocked(entry) => {
            let filter = plan.dns.as_ref();
            let source = filter.and_then(|filter| filter.names.sources().get(entry.source.index()));
            match source {
                Some(source) => format!("it asks for a name that is blocked by an entry of {source}"),
                None => "it asks for a name that is blocked".to_owned(),
            }
        }
        DnsRefusal::Defect(defect) => format!("it cannot be looked at: {defect}"),
        DnsRefusal::Questions => "it asks a name server more than one question at once".to_owned(),
        DnsRefusal::Opcode(opcode) => {
            format!("what it asks of a name server is no query: its opcode is {opcode}")
        }
        DnsRefusal::TooLong => "it asks a name server a question longer than 4,096 bytes".to_owned(),
        DnsRefusal::BeginUnseen => "it belongs to a connection to a name server whose begin was not seen; the client connects anew".to_owned(),
        DnsRefusal::Ambiguous => "questions to name servers are looked at, and client and server could take this segment for different bytes".to_owned(),
        DnsRefusal::Memory => "questions to name servers are looked at, and the memory for streams is used up, or its source's share of it; see [limits] stream_bytes".to_owned(),
    }
}

/// `: it asks for the TLS server ads.example`.
pub(crate) fn asked_host(asked: &engine::AskedHost) -> String {
    let what = match asked.field {
        HostField::Sni => "TLS server",
        HostField::HttpHost => "HTTP host",
    };
    format!(": it asks for the {what} {}", asked.host)
}

/// The rule of an id, if the plan has it. An event may be older than the plan.
pub(crate) fn rule(plan: &Plan, id: RuleId) -> Option<&Rule> {
    plan.rules.get(id.0 as usize)
}

/// `allow`, `deny`, `reject`, `limit`, `ban`.
pub fn action_name(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Reject => "reject",
        Action::Limit => "limit",
        Action::Ban(_) => "ban",
    }
}

fn invalid(kind: Invalid) -> String {
    match kind {
        Invalid::StreamMemory => "a content rule has to see its stream whole, and the memory for streams is used up, or its source's share of it; see [limits] stream_bytes".to_owned(),
        Invalid::StreamAmbiguous => "a content rule has to see its stream, and sender and receiver could take this segment for different bytes: it contradicts an earlier one, is urgent, comes with a SYN, is older than what came before, or signed".to_owned(),
        Invalid::Damaged => "a checksum or a length in it is wrong, as the kernel's connection tracking finds".to_owned(),
        Invalid::CopyCut => "a content rule has to see it whole, and it is longer than the 65,531 bytes that the kernel hands up".to_owned(),
        Invalid::FlowTableFull => "the flow table is full; see [limits] flows".to_owned(),
        Invalid::TcpState
        | Invalid::TcpNoConnection
        | Invalid::IcmpNoFlow
        | Invalid::SctpNoAssociation
        | Invalid::Gre => format!(
            "it belongs to no connection and cannot begin one: {}",
            words(kind.name())
        ),
    }
}

/// `rule "ssh" (policy.toml:12)`.
pub(crate) fn rule_text(plan: &Plan, id: RuleId) -> String {
    match rule(plan, id) {
        Some(rule) => format!(
            "rule \"{}\" ({}:{})",
            rule.name, rule.position.file, rule.position.line
        ),
        None => format!("rule {} of a policy that is no longer in force", id.0),
    }
}

/// One sentence without full stop. May hold names that the user chose: escape it before it reaches a terminal.
fn sentence(plan: &Plan, reason: Reason) -> String {
    match reason {
        Reason::NotIp => "not IP, outside what the policy speaks of".to_owned(),
        Reason::Banned(prefix) => format!("{} is banned", short(prefix)),
        Reason::Feed(set) => match plan.sets.get(set.0 as usize) {
            Some(set) => format!("its address is in the feed @{}", set.name),
            None => "its address is in a feed".to_owned(),
        },
        Reason::Malformed(kind) => format!("malformed: {kind}"),
        Reason::Impossible(kind) => format!("impossible packet: {}", words(kind.name())),
        Reason::Fragment(fault) => words(fault.name()),
        Reason::Invalid(kind) => invalid(kind),
        Reason::Established => "it belongs to a flow that was allowed".to_owned(),
        Reason::Related => "it is about a flow that was allowed".to_owned(),
        Reason::Rule(id) => rule_text(plan, id),
        Reason::Limited(id) => format!("over the rate of {}", rule_text(plan, id)),
        Reason::Flood(detector) => format!("the detector {detector} limits its source"),
        Reason::Essential(kind) => format!("a network needs it: {}", words(kind.name())),
        Reason::Default(direction) => format!(
            "no rule matches, and the default {} decides",
            default_name(direction)
        ),
        Reason::Dns(why) => refusal(plan, why),
    }
}

/// As `[default]` names it.
fn default_name(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "inbound",
        Direction::Out => "outbound",
        Direction::Forward => "forward",
    }
}

fn words(name: &str) -> String {
    name.replace('-', " ")
}

/// `1 rule`, `2 rules`, `2 anomalies`, `2 addresses`.
pub fn several<N: Display + PartialEq + From<u8>>(count: N, what: &str) -> String {
    if count == N::from(1) {
        return format!("1 {what}");
    }
    match what.strip_suffix('y') {
        Some(stem) => format!("{count} {stem}ies"),
        None if what.ends_with('s') => format!("{count} {what}es"),
        None => format!("{count} {what}s"),
    }
}

/// A prefix without its length when it is one address.
pub fn short(prefix: ipnet::IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_one_or_several() {
        for (count, what, text) in [
            (0, "rule", "0 rules"),
            (1, "rule", "1 rule"),
            (2, "rule", "2 rules"),
            (1, "anomaly", "1 anomaly"),
            (3, "anomaly", "3 anomalies"),
            (1, "address", "1 address"),
            (2, "address", "2 addresses"),
            (2, "bad line", "2 bad lines"),
        ] {
            assert_eq!(several(count, what), text);
        }
        assert_eq!(several(10_u64, "entry"), "10 entries");
    }
}
