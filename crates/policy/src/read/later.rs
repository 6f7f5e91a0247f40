//! Sections that the language has and this version does not execute. They are checked like all others, so that a policy is
//! right when the version that executes them comes; each gives a warning, as a firewall must not pretend.

use std::time::Duration;

use crate::fields::{Fields, text};
use crate::report::Report;
use crate::tree::{Entry, Node, Span, Value};

use super::{Sets, addresses, detect};

/// A section: its key, its name for messages, and its keys.
pub(super) struct Section {
    pub(super) key: &'static str,
    name: &'static str,
    keys: &'static [(&'static str, Kind)],
}

/// What a key holds.
#[derive(Clone, Copy)]
enum Kind {
    Flag,
    Count(u32),
    Duration,
    Text,
    Texts,
    Word(&'static [(&'static str, ())]),
    Response,
    Addresses,
    /// A whole number that may be below 0.
    Number,
}

/// The detectors of features.md that are not executed yet.
pub(super) const DETECTORS: &[Section] = &[
    Section {
        key: "scan",
        name: "[detect.scan]",
        keys: &[
            ("ports", Kind::Count(65_536)),
            ("window", Kind::Duration),
            ("slow_ports", Kind::Count(65_536)),
            ("slow_window", Kind::Duration),
            ("hosts", Kind::Count(1_000_000)),
        ],
    },
    Section {
        key: "syn_flood",
        name: "[detect.syn_flood]",
        keys: &[
            ("half_open", Kind::Count(1_000_000_000)),
            ("host_half_open", Kind::Count(1_000_000_000)),
            ("window", Kind::Duration),
        ],
    },
    Section {
        key: "icmp_flood",
        name: "[detect.icmp_flood]",
        keys: &[
            ("packets", Kind::Count(1_000_000_000)),
            ("window", Kind::Duration),
        ],
    },
    Section {
        key: "udp_flood",
        name: "[detect.udp_flood]",
        keys: &[
            ("packets", Kind::Count(1_000_000_000)),
            ("window", Kind::Duration),
        ],
    },
    Section {
        key: "brute",
        name: "[detect.brute]",
        keys: &[
            ("connections", Kind::Count(1_000_000_000)),
            ("window", Kind::Duration),
            ("shorter_than", Kind::Duration),
        ],
    },
];

const DETECTOR_KEYS: &[(&str, Kind)] = &[
    ("response", Kind::Response),
    ("ban", Kind::Duration),
    ("ignore", Kind::Addresses),
];

const SECTIONS: &[Section] = &[
    Section {
        key: "web",
        name: "[web]",
        keys: &[("listen", Kind::Text)],
    },
    Section {
        key: "watch",
        name: "[[watch]]",
        keys: &[
            ("name", Kind::Text),
            ("command", Kind::Texts),
            ("restart", Kind::Flag),
            ("check", Kind::Duration),
        ],
    },
    Section {
        key: "notify",
        name: "[notify]",
        keys: &[
            ("desktop", Kind::Flag),
            ("webhook", Kind::Text),
            ("command", Kind::Texts),
            ("events", Kind::Texts),
        ],
    },
    Section {
        key: "runtime",
        name: "[runtime]",
        keys: &[
            ("priority", Kind::Number),
            (
                "scheduling",
                Kind::Word(&[("other", ()), ("fifo", ()), ("rr", ())]),
            ),
            ("cpus", Kind::Texts),
            ("title", Kind::Flag),
        ],
    },
];

/// Checks one of the sections.
pub(super) fn section(entry: &Entry, sets: &Sets, report: &mut Report) {
    let Some(section) = SECTIONS.iter().find(|section| section.key == entry.key) else {
        return;
    };
    match &entry.value.value {
        Value::List(items) if section.key == "watch" => {
            for item in items {
                check(section, item.span, item, sets, report);
            }
        }
        _ => check(section, entry.key_span, &entry.value, sets, report),
    }
}

/// Checks a section, and warns unless it is turned off.
pub(super) fn check(section: &Section, span: Span, node: &Node, sets: &Sets, report: &mut Report) {
    let Some(mut fields) = Fields::of(node, section.name, report) else {
        return;
    };
    let is_detector = section.name.starts_with("[detect");
    let common = if is_detector { DETECTOR_KEYS } else { &[] };
    let is_enabled = fields.flag("enabled", report).unwrap_or(true);
    for &(key, kind) in section.keys.iter().chain(common) {
        read(&mut fields, key, kind, sets, report);
    }
    fields.finish(report);
    if is_enabled {
        not_enforced(span, section.name, report);
    }
}

pub(super) fn not_enforced(span: Span, what: &str, report: &mut Report) {
    let message = format!("{what} is not enforced by this version");
    report.warning(span, "not-enforced", message);
}

fn read(fields: &mut Fields<'_>, key: &'static str, kind: Kind, sets: &Sets, report: &mut Report) {
    match kind {
        Kind::Flag => {
            fields.flag(key, report);
        }
        Kind::Count(most) => {
            fields.count(key, 1..=most, report);
        }
        Kind::Duration => {
            let range = Duration::from_millis(1)..=Duration::from_secs(3_650 * 86_400);
            fields.duration(key, range, report);
        }
        Kind::Text => {
            fields.text(key, report);
        }
        Kind::Texts => {
            if let Some(node) = fields.get(key) {
                texts(node, key, report);
            }
        }
        Kind::Word(words) => {
            fields.word(key, words, report);
        }
        Kind::Response => {
            fields.word(key, detect::RESPONSES, report);
        }
        Kind::Addresses => {
            if let Some(node) = fields.get(key) {
                addresses::listed(node, key, sets, report);
            }
        }
        Kind::Number => {
            let expected = "a whole number from -20 to 19";
            match fields.get(key) {
                None => {}
                Some(Node {
                    value: Value::Integer(-20..=19),
                    ..
                }) => {}
                Some(Node {
                    value: Value::Integer(number),
                    span,
                }) => {
                    let message = format!("{key} is out of range: {number}");
                    report
                        .error(*span, "out-of-range", message)
                        .expected(expected);
                }
                Some(node) => crate::fields::wrong_type(node, key, expected, report),
            }
        }
    }
}

/// A text or a list of texts (or numbers).
fn texts(node: &Node, key: &str, report: &mut Report) {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    for item in items {
        if !matches!(item.value, Value::Integer(_)) {
            text(item, key, report);
        }
    }
}
