//! The table being written: its objects, sets and chains in the order in which they are printed, and what reading back must
//! find of them.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use super::{Slot, TABLE};

/// A ruleset as text, with what the kernel must hold once it is loaded.
///
/// The text is the same for the same plan and context, byte by byte. It makes the table anew: loading it twice without
/// deleting the table in between adds every rule twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// For `nft -f -`.
    pub text: String,
    /// What reading back must find.
    pub expected: Expected,
}

/// What the kernel must hold of our table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Chains with the number of their rules.
    pub chains: BTreeMap<String, usize>,
    /// Sets and maps; `Some` with the number of elements (an interval is one) where packets and bans do not change it.
    pub sets: BTreeMap<String, Option<usize>>,
    /// Counters and limits.
    pub objects: Vec<String>,
}

/// Collects the parts of the table.
#[derive(Debug, Default)]
pub(super) struct Table {
    slot: Slot,
    limits: Vec<(String, String)>,
    counters: Vec<String>,
    counted: HashSet<String>,
    sets: Vec<Set>,
    chains: Vec<Chain>,
}

/// A named set or map.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) name: String,
    /// `set` or `map`.
    pub(super) keyword: &'static str,
    /// Statements between the braces, without `elements`.
    pub(super) attributes: Vec<String>,
    /// `None`: filled by packets or bans.
    pub(super) elements: Option<Vec<String>>,
}

#[derive(Debug)]
struct Chain {
    name: String,
    lines: Vec<String>,
    rules: usize,
}

impl Table {
    pub(super) fn new(slot: Slot) -> Self {
        Self {
            slot,
            ..Self::default()
        }
    }

    /// A shared limit, by name.
    pub(super) fn limit(&mut self, name: &str, rate: &str) {
        self.limits.push((name.to_owned(), rate.to_owned()));
    }

    /// A counter, once however often it is asked for. Returns the statement that counts.
    pub(super) fn counter(&mut self, name: &str) -> String {
        if self.counted.insert(name.to_owned()) {
            self.counters.push(name.to_owned());
        }
        format!("counter name \"{name}\"")
    }

    pub(super) fn set(&mut self, set: Set) {
        self.sets.push(set);
    }

    /// A chain that is reached by `goto`.
    pub(super) fn chain(&mut self, name: impl Into<String>, rules: Vec<String>) {
        self.commented_chain(name, None, rules);
    }

    /// A chain that is reached by `goto`, with a remark for people.
    pub(super) fn commented_chain(
        &mut self,
        name: impl Into<String>,
        comment: Option<&str>,
        rules: Vec<String>,
    ) {
        let mut lines: Vec<String> = comment
            .filter(|remark| !remark.is_empty())
            .map(comment_text)
            .into_iter()
            .collect();
        let count = rules.len();
        lines.extend(rules);
        self.chains.push(Chain {
            name: name.into(),
            lines,
            rules: count,
        });
    }

    /// A chain that packets enter by a hook, at this priority in the first slot. Its policy is `accept`: new chains are hooked up while the transaction is being
    /// prepared, and one with another policy would cut all traffic until the transaction is committed.
    pub(super) fn base_chain(&mut self, name: &str, hook: &str, priority: i32, rules: Vec<String>) {
        let priority = self.slot.priority(priority);
        let mut lines = vec![format!(
            "type filter hook {hook} priority {priority}; policy accept;"
        )];
        let count = rules.len();
        lines.extend(rules);
        self.chains.push(Chain {
            name: name.to_owned(),
            lines,
            rules: count,
        });
    }

    pub(super) fn render(self, heading: &[String], comment: &str) -> Script {
        let expected = Expected {
            chains: self
                .chains
                .iter()
                .map(|chain| (chain.name.clone(), chain.rules))
                .collect(),
            sets: self
                .sets
                .iter()
                .map(|set| (set.name.clone(), set.elements.as_ref().map(Vec::len)))
                .collect(),
            objects: self
                .limits
                .iter()
                .map(|(name, _)| name)
                .chain(&self.counters)
                .cloned()
                .collect(),
        };
        let mut text = String::new();
        for line in heading {
            push(&mut text, format_args!("# {line}\n"));
        }
        push(
            &mut text,
            format_args!("table inet {TABLE} {{\n\t{}\n", comment_text(comment)),
        );
        for (name, rate) in &self.limits {
            push(
                &mut text,
                format_args!("\n\tlimit {name} {{\n\t\trate {rate}\n\t}}\n"),
            );
        }
        if !self.counters.is_empty() {
            text.push('\n');
        }
        for name in &self.counters {
            push(&mut text, format_args!("\tcounter {name} {{\n\t}}\n"));
        }
        for set in &self.sets {
            set.render(&mut text);
        }
        for chain in &self.chains {
            push(&mut text, format_args!("\n\tchain {} {{\n", chain.name));
            for line in &chain.lines {
                push(&mut text, format_args!("\t\t{line}\n"));
            }
            text.push_str("\t}\n");
        }
        text.push_str("}\n");
        Script { text, expected }
    }
}

impl Set {
    fn render(&self, text: &mut String) {
        push(
            text,
            format_args!("\n\t{} {} {{\n", self.keyword, self.name),
        );
        for attribute in &self.attributes {
            push(text, format_args!("\t\t{attribute}\n"));
        }
        if let Some(elements) = self
            .elements
            .as_ref()
            .filter(|elements| !elements.is_empty())
        {
            text.push_str("\t\telements = {\n");
            for element in elements {
                push(text, format_args!("\t\t\t{element},\n"));
            }
            text.push_str("\t\t}\n");
        }
        text.push_str("\t}\n");
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(arguments);
}

/// `comment "…"`, of what nft can hold: 128 bytes with the terminating zero, no quotes, no control characters.
pub(super) fn comment_text(remark: &str) -> String {
    let mut kept = String::new();
    for character in remark.chars() {
        let character = match character {
            '"' => '\'',
            '\\' => '/',
            character if character.is_control() => ' ',
            character => character,
        };
        if kept.len() + character.len_utf8() > 100 {
            kept.push('…');
            break;
        }
        kept.push(character);
    }
    format!("comment \"{kept}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_hold_nothing_that_nft_cannot_read() {
        assert_eq!(comment_text("a \"b\" \\ c\nd"), "comment \"a 'b' / c d\"");
        let long = comment_text(&"ü".repeat(400));
        assert!(long.len() < 128, "{long}");
    }
}
