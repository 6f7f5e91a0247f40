//! Patterns of content rules, compiled once for each plan.

use aho_corasick::AhoCorasick;
use policy::{Pattern, Plan, RuleId};
use regex::bytes::Regex;

/// One matcher for each rule with a pattern, by rule.
#[derive(Debug)]
pub(crate) struct Matchers {
    by_rule: Vec<Option<Matcher>>,
}

#[derive(Debug)]
pub(super) enum Matcher {
    At {
        offset: usize,
        bytes: Box<[u8]>,
        mask: Box<[u8]>,
    },
    Contains {
        automaton: AhoCorasick,
        len: usize,
    },
    Regex(Regex),
    /// No pattern of bytes, or one that could not be compiled, which validation rules out; it matches nothing.
    Never,
}

impl Matchers {
    pub(crate) fn new(plan: &Plan) -> Self {
        let by_rule = plan
            .rules
            .iter()
            .map(|rule| {
                rule.content
                    .as_ref()
                    .and_then(|content| content.pattern.as_ref())
                    .map(Matcher::new)
            })
            .collect();
        Self { by_rule }
    }

    /// Whether the rule's pattern is in `bytes`, of which those before `known` were looked at before without a match.
    /// A rule without a pattern asks only for lengths and matches here.
    pub(crate) fn matches(&self, rule: RuleId, bytes: &[u8], known: usize) -> bool {
        match self.by_rule.get(rule.0 as usize) {
            Some(Some(matcher)) => matcher.matches(bytes, known),
            Some(None) | None => true,
        }
    }
}

impl Matcher {
    pub(super) fn new(pattern: &Pattern) -> Self {
        match pattern {
            Pattern::At {
                offset,
                bytes,
                mask,
            } => Self::At {
                offset: *offset as usize,
                bytes: bytes.clone().into(),
                mask: mask.clone().into(),
            },
            Pattern::Contains { bytes, ignore_case } => AhoCorasick::builder()
                .ascii_case_insensitive(*ignore_case)
                .build([bytes])
                .map_or(Self::Never, |automaton| Self::Contains {
                    automaton,
                    len: bytes.len(),
                }),
            // Looked up by name, not looked for in bytes.
            Pattern::Host { .. } => Self::Never,
            Pattern::Regex(text) => policy::compile_regex(text).map_or(Self::Never, Self::Regex),
        }
    }

    pub(super) fn matches(&self, bytes: &[u8], known: usize) -> bool {
        match self {
            Self::At {
                offset,
                bytes: wanted,
                mask,
            } => {
                let Some(there) = bytes.get(*offset..*offset + wanted.len()) else {
                    return false;
                };
                there
                    .iter()
                    .zip(mask)
                    .zip(wanted)
                    .all(|((byte, mask), wanted)| byte & mask == *wanted)
            }
            Self::Contains { automaton, len } => {
                let from = known.saturating_sub(len - 1).min(bytes.len());
                automaton.is_match(&bytes[from..])
            }
            Self::Regex(regex) => regex.is_match(bytes),
            Self::Never => false,
        }
    }
}
