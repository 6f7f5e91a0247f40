//! Conditions on addresses: literals, sets by name, `any`.

use crate::address::AddressSet;
use crate::diagnostic::quoted;
use crate::fields::parts;
use crate::literal::{self, Literal};
use crate::plan::{AddressMatch, SetId};
use crate::report::Report;
use crate::tree::{Node, Span};

use super::{Reader, Reported, Sets};

/// What can stand in `from` and `to`.
const EXPECTED: &str = "any, @SET, an address such as 192.0.2.7, a prefix such as 2001:db8::/32 or a range such as 192.0.2.1-192.0.2.9";

/// A literal; reported when it is none.
pub(super) fn literal(text: &str, span: Span, report: &mut Report) -> Option<Literal> {
    match literal::read(text) {
        Ok(literal) => {
            if let Some(masked) = &literal.masked {
                let message = format!(
                    "{} has bits set behind its prefix; {masked} is used",
                    quoted(text)
                );
                report
                    .warning(span, "host-bits", message)
                    .suggest(Some(masked.to_string()));
            }
            Some(literal)
        }
        Err(bad) => {
            let message = format!("{} {}", quoted(text), bad.why);
            report
                .error(span, "bad-address", message)
                .expected(literal::EXPECTED)
                .suggest(bad.meant);
            None
        }
    }
}

/// Addresses and sets that a key lists.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) inline: Vec<(u128, u128)>,
    /// Ascending, each once.
    pub(super) sets: Vec<SetId>,
    /// Where `any` was written.
    pub(super) any: Option<Span>,
    /// Whether every item could be read.
    pub(super) is_whole: bool,
    count: usize,
}

/// Reads a list of addresses and `@sets`; `None` when there is nothing in it to use.
pub(super) fn listed(node: &Node, key: &str, sets: &Sets, report: &mut Report) -> Option<Listed> {
    let mut listed = Listed {
        is_whole: true,
        ..Listed::default()
    };
    for (part, span) in parts(node, key, EXPECTED, report)? {
        listed.count += 1;
        if part == "any" {
            listed.any = Some(span);
        } else if let Some(name) = part.strip_prefix('@') {
            match sets.find(name, span, report) {
                Some(id) => listed.sets.push(id),
                None => listed.is_whole = false,
            }
        } else {
            match literal(&part, span, report) {
                Some(literal) => listed.inline.extend(literal.ranges()),
                None => listed.is_whole = false,
            }
        }
    }
    listed.sets.sort_unstable();
    listed.sets.dedup();
    Some(listed)
}

/// All addresses of a list, sets included, for settings that want one set of them.
pub(super) fn union(node: &Node, key: &str, sets: &Sets, report: &mut Report) -> AddressSet {
    let Some(listed) = listed(node, key, sets, report) else {
        return AddressSet::default();
    };
    if listed.any.is_some() {
        return AddressSet::all();
    }
    let inline = AddressSet::from_ranges(listed.inline);
    let named = listed.sets.iter().map(|&id| sets.addresses(id));
    named.fold(inline, |all, set| all.union(set))
}

impl Reader<'_> {
    /// `from` or `to`.
    pub(super) fn addresses(
        &mut self,
        node: Option<&Node>,
        key: &'static str,
    ) -> Result<AddressMatch, Reported> {
        let Some(node) = node else {
            return Ok(AddressMatch::Any);
        };
        let listed = listed(node, key, self.sets, self.report).ok_or(Reported)?;
        if let Some(span) = listed.any {
            if listed.count > 1 {
                let message = format!("{key} holds any, so that its other items change nothing");
                self.report.warning(span, "any-among-others", message);
            }
            return if listed.is_whole {
                Ok(AddressMatch::Any)
            } else {
                Err(Reported)
            };
        }
        if !listed.is_whole {
            return Err(Reported);
        }
        let inline = AddressSet::from_ranges(listed.inline);
        let Some(left) = self.ranges_left.checked_sub(inline.ranges().len()) else {
            let most = super::MOST_RANGES;
            self.report
                .error(
                    node.span,
                    "too-many",
                    "the policy holds too many address ranges",
                )
                .expected(format!("at most {most}"));
            return Err(Reported);
        };
        self.ranges_left = left;
        Ok(AddressMatch::Of {
            inline,
            sets: listed.sets,
        })
    }

    /// Whether a condition can hold addresses of IPv4 and of IPv6; both for sets that files fill, as those change.
    pub(super) fn families(&self, addresses: &AddressMatch) -> (bool, bool) {
        match addresses {
            AddressMatch::Any => (true, true),
            AddressMatch::Of { inline, sets } => {
                let begin = (inline.has_ipv4(), inline.has_ipv6());
                sets.iter().fold(begin, |(v4, v6), &id| {
                    let set = self.sets.addresses(id);
                    let unsure = self.sets.is_from_file(id) || set.is_empty();
                    (
                        v4 || unsure || set.has_ipv4(),
                        v6 || unsure || set.has_ipv6(),
                    )
                })
            }
        }
    }
}
