//! `[sets]` and `[feeds]`: names for addresses.

use std::collections::HashMap;

use crate::address::AddressSet;
use crate::diagnostic::{nearest, quoted};
use crate::fields::{Fields, parts};
use crate::list::ListFormat;
use crate::literal;
use crate::plan::{NamedSet, SetId};
use crate::report::Report;
use crate::tree::{Entry, Span, Value};

use super::addresses;
use super::{MOST_RANGES, MOST_SETS};

/// Longest name of a set, in bytes.
const LONGEST_NAME: usize = 48;

/// A set before its list file is read.
#[derive(Debug)]
pub(crate) struct SetDraft {
    pub(crate) name: String,
    /// Where its name was written.
    pub(crate) span: Span,
    pub(crate) is_feed: bool,
    /// Whether its statement broke off before a value: then its name was perhaps never meant as one.
    pub(crate) is_lost: bool,
    /// What was written in the policy itself.
    pub(crate) ranges: Vec<(u128, u128)>,
    pub(crate) list: Option<ListFile>,
}

/// A file of addresses.
#[derive(Clone, Debug)]
pub(crate) struct ListFile {
    /// As written: relative to the file that names it.
    pub(crate) path: String,
    pub(crate) format: ListFormat,
    /// Where the path was written.
    pub(crate) span: Span,
}

/// Reads the sets (and the feeds, marked with true), all but their files.
pub(crate) fn sets(entries: &[(Entry, bool)], report: &mut Report) -> Vec<SetDraft> {
    let mut drafts: Vec<SetDraft> = Vec::new();
    let mut first: HashMap<&str, Span> = HashMap::new();
    if let Some((entry, _)) = entries.get(MOST_SETS) {
        let message = format!("the policy has {} sets and feeds", entries.len());
        report
            .error(entry.key_span, "too-many", message)
            .expected(format!("at most {MOST_SETS}"));
    }
    for (entry, is_feed) in entries.iter().take(MOST_SETS) {
        // A set of a bad name is a set all the same: rules that use it make no mistake of their own.
        check_name(entry, report);
        if let Some(&first) = first.get(entry.key.as_str()) {
            let first = report.place(first, entry.key_span.file);
            let message = format!(
                "there is a set {} already, at {first}; sets and feeds share their names",
                quoted(&entry.key)
            );
            report.error(entry.key_span, "duplicate-set", message);
            continue;
        }
        first.insert(&entry.key, entry.key_span);
        let (ranges, list) = content(entry, report);
        drafts.push(SetDraft {
            name: entry.key.clone(),
            span: entry.key_span,
            is_feed: *is_feed,
            is_lost: entry.value.is_lost(),
            ranges,
            list,
        });
    }
    drafts
}

fn is_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !name.is_empty() && name.bytes().all(is_good)
}

fn check_name(entry: &Entry, report: &mut Report) {
    let name = entry.key.as_str();
    if name.len() > LONGEST_NAME {
        let message = format!("the name of the set has {} bytes", name.len());
        report
            .error(entry.key_span, "name-too-long", message)
            .expected(format!("at most {LONGEST_NAME} bytes"));
        return;
    }
    if !is_name(name) {
        let tidy: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "-_".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let stripped = name.strip_prefix('@').unwrap_or(&tidy).to_owned();
        let message = format!("a set cannot be called {}", quoted(name));
        report
            .error(entry.key_span, "bad-set-name", message)
            .expected("letters, digits, _ and -")
            .suggest(Some(stripped).filter(|name| is_name(name)));
    }
}

fn content(entry: &Entry, report: &mut Report) -> (Vec<(u128, u128)>, Option<ListFile>) {
    let node = &entry.value;
    if let Value::List(items) = &node.value
        && items.is_empty()
    {
        let message = format!("the set {} is empty", quoted(&entry.key));
        report.warning(node.span, "empty-set", message);
        return (Vec::new(), None);
    }
    if !matches!(node.value, Value::Table(_)) {
        return (inline(node, &entry.key, report), None);
    }
    let Some(mut fields) = Fields::of(node, "a set", report) else {
        return (Vec::new(), None);
    };
    let ranges = match fields.get("addresses") {
        Some(addresses) => inline(addresses, "addresses", report),
        None => Vec::new(),
    };
    let is_fetched = fields.names_what_is_fetched(report);
    let file = fields.text("file", report);
    let format = fields.word("format", ListFormat::WORDS, report);
    let list = file.map(|path| ListFile {
        path: path.to_owned(),
        format: format.unwrap_or_default(),
        span: fields.get("file").map_or(node.span, |file| file.span),
    });
    let (has_file, has_format) = (fields.get("file").is_some(), fields.get("format").is_some());
    if is_fetched {
        // That a file is missing is told.
    } else if has_format && !has_file {
        let span = fields.key_span("format");
        report
            .error(
                span,
                "missing-key",
                "format says how to read a file, and there is no file",
            )
            .expected("file = \"PATH\"");
    } else if !has_file && fields.get("addresses").is_none() && !fields.is_damaged() {
        report
            .error(
                node.span,
                "missing-key",
                format!("the set {} names no addresses", quoted(&entry.key)),
            )
            .expected("file = \"PATH\" or addresses = [ … ]");
    }
    fields.finish(report);
    (ranges, list)
}

impl Fields<'_> {
    /// Reports an address in the network in the place of a file. A firewall that fetches lists would need a network to have a policy.
    fn names_what_is_fetched(&mut self, report: &mut Report) -> bool {
        let Some(key) = ["url", "urls", "uri"]
            .into_iter()
            .find(|key| self.get(key).is_some())
        else {
            return false;
        };
        let message = format!("{key}: nothing is fetched, a list is a file");
        report
            .error(self.key_span(key), "unknown-key", message)
            .expected("file = \"PATH\", and something that downloads it there, such as a timer with curl; a new file is taken over by itself");
        true
    }
}

fn inline(node: &crate::tree::Node, key: &str, report: &mut Report) -> Vec<(u128, u128)> {
    let mut ranges = Vec::new();
    for (part, span) in parts(node, key, literal::EXPECTED, report).unwrap_or_default() {
        if let Some(name) = part.strip_prefix('@') {
            let message = format!("a set cannot hold another set, {}", quoted(name));
            report
                .error(span, "bad-address", message)
                .expected(literal::EXPECTED);
        } else if part == "any" {
            report
                .error(
                    span,
                    "bad-address",
                    "a set cannot hold any; leave the condition out instead",
                )
                .expected(literal::EXPECTED);
        } else if let Some(literal) = addresses::literal(&part, span, report) {
            ranges.extend(literal.ranges());
        }
    }
    ranges
}

/// The sets with their addresses, ordered by name so that every form of a policy numbers them alike.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    pub(crate) named: Vec<NamedSet>,
    pub(crate) feeds: Vec<SetId>,
    ids: HashMap<String, SetId>,
    /// Whether a set comes from a file, and may hold something else tomorrow.
    from_file: Vec<bool>,
    /// Whether the statement of a set broke off before a value.
    is_lost: Vec<bool>,
    /// Whether an include could not be read, which may define any set.
    is_incomplete: bool,
}

impl Sets {
    /// The sets in full. `is_incomplete` says that an include could not be read: then an unknown set is no mistake, unless it is almost
    /// called as one that is known.
    pub(crate) fn new(mut drafts: Vec<SetDraft>, is_incomplete: bool, report: &mut Report) -> Self {
        drafts.sort_by(|a, b| a.name.cmp(&b.name));
        let mut sets = Self {
            is_incomplete,
            ..Self::default()
        };
        let mut ranges_left = MOST_RANGES;
        for draft in drafts {
            let id = SetId(sets.named.len() as u32);
            let addresses = AddressSet::from_ranges(draft.ranges);
            let count = addresses.ranges().len();
            if count > ranges_left {
                let message = "the sets of the policy hold too many address ranges".to_owned();
                report
                    .error(draft.span, "too-many", message)
                    .expected(format!("at most {MOST_RANGES}"));
                break;
            }
            ranges_left -= count;
            if draft.is_feed {
                sets.feeds.push(id);
            }
            sets.ids.insert(draft.name.clone(), id);
            sets.from_file.push(draft.list.is_some());
            sets.is_lost.push(draft.is_lost);
            sets.named.push(NamedSet {
                name: draft.name,
                addresses,
            });
        }
        sets
    }

    pub(super) fn ranges(&self) -> usize {
        let counts = self.named.iter().map(|set| set.addresses.ranges().len());
        counts.sum()
    }

    pub(super) fn addresses(&self, id: SetId) -> &AddressSet {
        &self.named[id.0 as usize].addresses
    }

    pub(super) fn is_from_file(&self, id: SetId) -> bool {
        self.from_file[id.0 as usize]
    }

    /// The set of this name; reported when there is none.
    pub(super) fn find(&self, name: &str, span: Span, report: &mut Report) -> Option<SetId> {
        if let Some(id) = self.ids.get(name) {
            return Some(*id);
        }
        let told = || self.named.iter().zip(&self.is_lost);
        // `my set = […]` breaks off behind `my`, and `@my set` is no second mistake.
        let mut lost = told().filter(|(_, is_lost)| **is_lost);
        if lost.any(|(set, _)| name.starts_with(&set.name)) {
            return None;
        }
        let valid = told()
            .filter(|(set, is_lost)| !**is_lost && is_name(&set.name))
            .map(|(set, _)| set.name.as_str());
        let guess = nearest(name, valid.clone());
        // What could not be read may define it; one that is almost called so is more likely.
        if self.is_incomplete && guess.is_none() {
            return None;
        }
        let among = if self.is_incomplete {
            " in what could be read"
        } else {
            ""
        };
        let message = format!("there is no set called {}{among}", quoted(name));
        let guess = guess.map(|name| format!("@{name}"));
        let expected = if self.named.is_empty() {
            "a set defined in [sets] or [feeds]; there are none".to_owned()
        } else if valid.clone().next().is_none() {
            "a set defined in [sets] or [feeds]".to_owned()
        } else {
            let names = valid.clone().take(8);
            let more = if valid.clone().count() > 8 {
                ", …"
            } else {
                ""
            };
            let names: Vec<String> = names.map(|name| format!("@{name}")).collect();
            format!("{}{more}", names.join(", "))
        };
        report
            .error(span, "unknown-set", message)
            .expected(expected)
            .suggest(guess);
        None
    }
}
