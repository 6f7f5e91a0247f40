//! `[dns]`: all but its list files, which the caller reads.

use std::time::Duration;

use crate::diagnostic::quoted;
use crate::dns::{DnsAnswer, DnsFilter, DnsLog};
use crate::fields::{Fields, parts, text};
use crate::names::{Pattern, Source};
use crate::port::PortSet;
use crate::report::Report;
use crate::tree::{Entry, Node, Span, Value};

use super::ports;

const EXPECTED: &str =
    "a domain such as ads.example, *.ads.example for all below it, or .ads.example for both";

const ANSWERS: &[(&str, DnsAnswer)] = &[
    ("refuse", DnsAnswer::Refuse),
    ("drop", DnsAnswer::Drop),
    ("nxdomain", DnsAnswer::NxDomain),
    ("zero", DnsAnswer::Zero),
];

const LOGS: &[(&str, DnsLog)] = &[
    ("blocked", DnsLog::Blocked),
    ("all", DnsLog::All),
    ("none", DnsLog::None),
];

/// The section before its lists are read.
#[derive(Debug)]
pub(crate) struct DnsDraft {
    pub(crate) block: Vec<Written>,
    pub(crate) allow: Vec<Written>,
    pub(crate) lists: Vec<NameList>,
    pub(crate) answer: DnsAnswer,
    pub(crate) ports: PortSet,
    pub(crate) ttl: Duration,
    pub(crate) log: DnsLog,
}

/// An entry in the policy itself.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) pattern: Pattern<'static>,
    pub(crate) source: Source,
}

/// A file of names, or a folder of such files.
#[derive(Clone, Debug)]
pub(crate) struct NameList {
    /// As written: relative to the file that names it.
    pub(crate) path: String,
    /// Where the path was written.
    pub(crate) span: Span,
    /// Whether what it lists is allowed.
    pub(crate) is_allow: bool,
}

/// Reads the section; nothing when it is turned off.
pub(super) fn read(entry: &Entry, report: &mut Report) -> Option<DnsDraft> {
    let mut fields = Fields::of(&entry.value, "[dns]", report)?;
    let is_enabled = fields.flag("enabled", report).unwrap_or(true);
    let draft = DnsDraft {
        block: names(fields.get("block"), "block", report),
        allow: names(fields.get("allow"), "allow", report),
        lists: [("lists", false), ("allow_lists", true)]
            .into_iter()
            .flat_map(|(key, is_allow)| lists(fields.get(key), key, is_allow, report))
            .collect(),
        answer: fields.word("answer", ANSWERS, report).unwrap_or_default(),
        ports: ports::listed(fields.get("ports"), "ports", report)
            .unwrap_or_else(|| PortSet::from_ranges([(DnsFilter::PORT, DnsFilter::PORT)])),
        ttl: fields
            .duration(
                "ttl",
                Duration::from_secs(1)..=Duration::from_secs(86_400),
                report,
            )
            .map_or(DnsFilter::TTL, |ttl| Duration::from_secs(ttl.as_secs())),
        log: fields.word("log", LOGS, report).unwrap_or_default(),
    };
    fields.finish(report);
    if !is_enabled {
        return None;
    }
    for wide in draft
        .block
        .iter()
        .filter(|written| written.pattern.is_top_level())
    {
        tell_of_wide(wide, entry.key_span, report);
    }
    Some(draft)
}

fn names(node: Option<&Node>, key: &str, report: &mut Report) -> Vec<Written> {
    let parts = node.and_then(|node| parts(node, key, EXPECTED, report));
    let mut names = Vec::new();
    for (name, span) in parts.unwrap_or_default() {
        match Pattern::parse(&name) {
            Ok(pattern) => names.push(Written {
                pattern: pattern.into_owned(),
                source: Source::Policy(report.position(span)),
            }),
            Err(why) => {
                let message = format!("{} is no domain name: it {why}", quoted(&name));
                report.error(span, "bad-domain", message).expected(EXPECTED);
            }
        }
    }
    names
}

/// What is allowed to the policy alone: a list never means it.
fn tell_of_wide(written: &Written, near: Span, report: &mut Report) {
    let Source::Policy(position) = &written.source else {
        return;
    };
    let message = match written.pattern.name() {
        "" => "* blocks every name that is not allowed".to_owned(),
        name => format!(
            "{} blocks in the top-level domain {name}",
            quoted(&written.pattern.to_string())
        ),
    };
    let severity = crate::diagnostic::Severity::Warning;
    report.add(near, severity, "wide-domain", message, position.clone());
}

fn lists(node: Option<&Node>, key: &str, is_allow: bool, report: &mut Report) -> Vec<NameList> {
    let items = match node {
        None => &[],
        Some(Node {
            value: Value::List(items),
            ..
        }) => items.as_slice(),
        Some(node) => std::slice::from_ref(node),
    };
    let list = |item: &Node| {
        let path = text(item, key, report)?;
        Some(NameList {
            path: path.to_owned(),
            span: item.span,
            is_allow,
        })
    };
    items.iter().filter_map(list).collect()
}
