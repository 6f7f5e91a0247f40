//! A rule in short form: its name when the user gave none.

use std::fmt::Write;

use crate::content::Content;
use crate::host::{HostField, HostPattern};
use crate::plan::{Action, AddressMatch, Directions, Interface, NamedSet, Rule};

use super::rule::LONGEST_NAME;

/// More items of a list than this are not spelt out.
const SPELT_OUT: usize = 3;

/// `allow in tcp from 192.0.2.0/24 to any port 22`. The same rule has the same short form, whatever form it was written in.
pub(super) fn rule(rule: &Rule, sets: &[NamedSet]) -> String {
    let mut text = match rule.action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Reject => "reject",
        Action::Limit => "limit",
        Action::Ban(_) => "ban",
    }
    .to_owned();
    if rule.directions != Directions::ALL {
        let names: Vec<_> = rule.directions.iter().map(|d| d.name()).collect();
        push(&mut text, "", &names.join(","));
    }
    if !rule.protocols.is_any() {
        push(&mut text, "", &rule.protocols.to_string());
    }
    push(&mut text, "from ", &addresses(&rule.from, sets));
    if !rule.source_port.is_any() {
        push(&mut text, "source-port ", &rule.source_port.to_string());
    }
    push(&mut text, "to ", &addresses(&rule.to, sets));
    if !rule.port.is_any() {
        push(&mut text, "port ", &rule.port.to_string());
    }
    match &rule.interface {
        Some(Interface::Named(name)) => push(&mut text, "on ", name),
        Some(Interface::Prefix(begin)) => push(&mut text, "on ", &format!("{begin}*")),
        None => {}
    }
    match rule.content.as_ref().map(Content::hosts) {
        Some(Some((field, hosts))) => push(&mut text, "", &names(field, hosts)),
        Some(None) => push(&mut text, "", "payload"),
        None => {}
    }
    if text.len() > LONGEST_NAME {
        // Everything in it is ASCII but the "…" below; cut where a character begins.
        let mut end = LONGEST_NAME - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

fn push(text: &mut String, word: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = write!(text, " {word}{value}");
}

/// `sni a.example,*.b.example`.
fn names(field: HostField, hosts: &[HostPattern]) -> String {
    let names = hosts.iter().take(SPELT_OUT).map(HostPattern::to_string);
    let more = (hosts.len() > SPELT_OUT).then(|| "…".to_owned());
    let names: Vec<String> = names.chain(more).collect();
    format!("{} {}", field.clause(), names.join(","))
}

fn addresses(condition: &AddressMatch, sets: &[NamedSet]) -> String {
    let AddressMatch::Of {
        inline,
        sets: named,
    } = condition
    else {
        return "any".to_owned();
    };
    let names = named
        .iter()
        .map(|id| format!("@{}", sets[id.0 as usize].name));
    let prefixes = inline.prefixes().map(|prefix| {
        let is_host = prefix.prefix_len() == prefix.max_prefix_len();
        if is_host {
            prefix.addr().to_string()
        } else {
            prefix.to_string()
        }
    });
    let mut items: Vec<String> = names.chain(prefixes).take(SPELT_OUT + 1).collect();
    if items.len() > SPELT_OUT {
        items[SPELT_OUT] = "…".to_owned();
    }
    items.join(",")
}
