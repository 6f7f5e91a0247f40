//! Patterns of content rules, compiled once for each plan.

use aho_corasick::AhoCorasick;
use policy::{Pattern, Plan, RuleId};
use regex::bytes::Regex;

/// One matcher for each rule with a pattern, by rule.
#[derive(Debug)]
pub(crate) struct Matchers {
    by_rule: Vec<Option<Matcher>>,
}

/// Bytes of the longest pattern whose length is known.
pub(super) fn longest(plan: &Plan) -> usize {
    let patterns = plan.rules.iter().filter_map(|rule| {
        let content = rule.content.as_ref()?;
        Some(match content.pattern.as_ref()? {
            Pattern::At { bytes, .. } | Pattern::Contains { bytes, .. } => bytes.len(),
            Pattern::Regex(_) => 0,
        })
    });
    patterns.max().unwrap_or(0)
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
    /// The pattern could not be compiled, which validation rules out; it matches nothing.
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

    /// Whether the rule's pattern is in `bytes`, of which those before `known` were looked at before without a match, and before
    /// which there were others that are `forgotten`. A rule without a pattern asks only for lengths and matches here.
    pub(crate) fn matches(
        &self,
        rule: RuleId,
        bytes: &[u8],
        known: usize,
        forgotten: usize,
    ) -> bool {
        match self.by_rule.get(rule.0 as usize) {
            Some(Some(matcher)) => matcher.matches(bytes, known, forgotten),
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
            Pattern::Regex(text) => policy::compile_regex(text).map_or(Self::Never, Self::Regex),
        }
    }

    pub(super) fn matches(&self, bytes: &[u8], known: usize, forgotten: usize) -> bool {
        match self {
            Self::At {
                offset,
                bytes: wanted,
                mask,
            } => {
                let place = offset.checked_sub(forgotten);
                let there = place.and_then(|at| bytes.get(at..at + wanted.len()));
                let Some(there) = there else {
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
            // The first byte stands for those before it: the stream does not begin here.
            Self::Regex(regex) => regex.is_match_at(bytes, forgotten.min(bytes.len()).min(1)),
            Self::Never => false,
        }
    }
}
