//! Patterns of content rules, compiled once for each plan.

use aho_corasick::AhoCorasick;
use policy::{Pattern, Plan, RuleId, Scope};
use regex::bytes::Regex;
use regex_syntax::ParserBuilder;

/// One matcher for each rule with a pattern, by rule.
#[derive(Debug)]
pub(crate) struct Matchers {
    by_rule: Vec<Option<Matcher>>,
}

/// How many bytes of a stream the longest match in it may have: all that its rule looks at where an expression has no end.
pub(super) fn longest(plan: &Plan) -> usize {
    let patterns = plan.rules.iter().filter_map(|rule| {
        let content = rule.content.as_ref()?;
        let Scope::Stream { depth } = content.scope else {
            return None;
        };
        let depth = depth as usize;
        Some(match content.pattern.as_ref()? {
            Pattern::At { bytes, .. } | Pattern::Contains { bytes, .. } => bytes.len(),
            // The byte behind a match may decide about it.
            Pattern::Regex(text) => longest_match(text).map_or(depth, |longest| longest + 1),
            Pattern::Host { .. } => 0,
        })
    });
    patterns.max().unwrap_or(0)
}

/// Bytes of the longest text that an expression matches; nothing where it has no end.
fn longest_match(expression: &str) -> Option<usize> {
    let mut parser = ParserBuilder::new().utf8(false).unicode(false).build();
    parser.parse(expression).ok()?.properties().maximum_len()
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
    Regex {
        regex: Regex,
        /// Bytes of the longest match, where there is one.
        longest: Option<usize>,
    },
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
            // Looked up by name, not looked for in bytes.
            Pattern::Host { .. } => Self::Never,
            Pattern::Regex(text) => {
                policy::compile_regex(text).map_or(Self::Never, |regex| Self::Regex {
                    regex,
                    longest: longest_match(text),
                })
            }
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
            Self::Regex { regex, longest } => {
                // Whether a match ends at the last byte known may have hung on the next one, as of `\b`. So streams of small segments
                // cost what their bytes cost, not the square of it.
                let new = longest.map_or(0, |longest| known.saturating_sub(longest + 1));
                // The first byte stands for those that are forgotten: the stream does not begin here.
                regex.is_match_at(bytes, new.max(forgotten.min(1)).min(bytes.len()))
            }
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A stream that grows is matched when it would be if all of it were looked at each time.
        #[test]
        fn looking_at_what_is_new_misses_nothing(
            expression in prop::sample::select(vec![
                "a.{3}b", "^ab", "b$", r"a\b", r"a\B", r"\bab", "(?m)^b", "(?m)a$", "a|bb", "a{2,5}x", "(?s)a.b", "a.*b", "",
            ]),
            text in prop::collection::vec(prop::sample::select(b"aabx \n".to_vec()), 0..60),
            steps in prop::collection::vec(1usize..6, 60),
        ) {
            let matcher = Matcher::new(&Pattern::Regex(expression.to_owned()));
            let Ok(whole) = policy::compile_regex(expression) else {
                return Err(TestCaseError::fail("an expression"));
            };
            let mut known = 0;
            for step in steps {
                let len = (known + step).min(text.len());
                let held = &text[..len];
                let found = matcher.matches(held, known, 0);
                prop_assert_eq!(found, whole.is_match(held), "{} of {:?}", known, held);
                if found {
                    break;
                }
                known = len;
            }
        }
    }
}
