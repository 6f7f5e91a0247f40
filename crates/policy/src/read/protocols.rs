//! Protocols, directions and interfaces of a rule.

use crate::diagnostic::quoted;
use crate::fields::{meant, parts, unknown_word, wrong_type};
use crate::plan::{Direction, Directions, Interface};
use crate::protocol::{self, Protocols};
use crate::tree::Node;

use super::{Reader, Reported};

/// Longest name of an interface, `IFNAMSIZ` − 1 (include/uapi/linux/if.h).
const LONGEST_INTERFACE: usize = 15;

impl Reader<'_> {
    pub(super) fn protocols(&mut self, node: Option<&Node>) -> Result<Protocols, Reported> {
        let Some(node) = node else {
            return Ok(Protocols::ANY);
        };
        let expected =
            "tcp, udp, icmp, icmpv6, any, another protocol's name or a number from 0 to 255";
        let mut all = Protocols::NONE;
        let mut is_whole = true;
        for (part, span) in parts(node, "protocol", expected, self.report).ok_or(Reported)? {
            if part == "any" {
                all = Protocols::ANY;
                continue;
            }
            let named = protocol::NAMES.iter().find(|(name, _)| *name == part);
            let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
            let number = part.parse::<u8>().ok().filter(|_| is_number);
            if let Some(protocol) = named.map(|(_, number)| *number).or(number) {
                all = all.union(Protocols::one(protocol));
                continue;
            }
            is_whole = false;
            let valid = protocol::NAMES.iter().map(|(name, _)| *name).chain(["any"]);
            // "tcp/udp" and "tcp+udp" are common elsewhere.
            let split: Vec<&str> = part.split(['/', '+', '|']).collect();
            let guess = if split.len() > 1
                && split
                    .iter()
                    .all(|word| valid.clone().any(|name| name == *word))
            {
                Some(split.join(","))
            } else {
                meant(&part, valid).map(str::to_owned)
            };
            let message = format!("protocol cannot be {}", quoted(&part));
            self.report
                .error(span, "unknown-word", message)
                .expected(expected)
                .suggest(guess);
        }
        if is_whole { Ok(all) } else { Err(Reported) }
    }

    pub(super) fn directions(&mut self, node: Option<&Node>) -> Result<Directions, Reported> {
        let Some(node) = node else {
            return Ok(Directions::ALL);
        };
        let valid = ["in", "out", "forward", "any"];
        let mut all: Option<Directions> = None;
        let mut is_whole = true;
        for (part, span) in
            parts(node, "direction", "in, out, forward or any", self.report).ok_or(Reported)?
        {
            let one = Direction::ALL
                .into_iter()
                .find(|direction| direction.name() == part)
                .map(Directions::one)
                .or((part == "any").then_some(Directions::ALL));
            match one {
                Some(one) => all = Some(all.map_or(one, |all| all.union(one))),
                None => {
                    is_whole = false;
                    unknown_word(span, "direction", &part, valid, self.report);
                }
            }
        }
        all.filter(|_| is_whole).ok_or(Reported)
    }

    pub(super) fn interface(&mut self, node: Option<&Node>) -> Result<Option<Interface>, Reported> {
        let Some(node) = node else {
            return Ok(None);
        };
        let expected =
            "the name of one interface, such as \"eth0\", or the begin of names, such as \"wg*\"";
        let Some(text) = node.text() else {
            wrong_type(node, "interface", expected, self.report);
            return Err(Reported);
        };
        let (name, is_prefix) = match text.strip_suffix('*') {
            Some(begin) => (begin, true),
            None => (text, false),
        };
        let problem = if name.is_empty() && is_prefix {
            Some("interface * is every interface; leave the key out".to_owned())
        } else if name.is_empty() {
            Some("interface is empty".to_owned())
        } else if name.contains('*') {
            Some(format!("{} has a * that is not at its end", quoted(text)))
        } else if name.contains(',') {
            Some(format!(
                "{} lists interfaces; a rule names one",
                quoted(text)
            ))
        } else if name.len() > LONGEST_INTERFACE {
            Some(format!(
                "{} is longer than {LONGEST_INTERFACE} bytes, the longest that Linux has",
                quoted(text)
            ))
        } else if name.contains(|c: char| {
            c == '/' || c.is_whitespace() || c.is_control() || c == '"' || c == '\\'
        }) || matches!(name, "." | "..")
        {
            Some(format!("{} cannot name an interface", quoted(text)))
        } else {
            None
        };
        match problem {
            Some(message) => {
                self.report
                    .error(node.span, "bad-interface", message)
                    .expected(expected);
                Err(Reported)
            }
            None if is_prefix => Ok(Some(Interface::Prefix(name.to_owned()))),
            None => Ok(Some(Interface::Named(name.to_owned()))),
        }
    }
}
