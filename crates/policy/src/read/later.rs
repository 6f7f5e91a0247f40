//! Sections that the language has and this version does not execute. They are checked like all others, so that a policy is
//! right when the version that executes them comes; each gives a warning, as a firewall must not pretend.

use std::time::Duration;

use crate::fields::{Fields, text};
use crate::report::Report;
use crate::tree::{Entry, Node, Span, Value};

/// A section: its key, its name for messages, and its keys.
struct Section {
    key: &'static str,
    name: &'static str,
    keys: &'static [(&'static str, Kind)],
}

/// What a key holds.
#[derive(Clone, Copy)]
enum Kind {
    Flag,
    Duration,
    Text,
    Texts,
    Word(&'static [(&'static str, ())]),
    /// A whole number that may be below 0.
    Number,
}

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
pub(super) fn section(entry: &Entry, report: &mut Report) {
    let Some(section) = SECTIONS.iter().find(|section| section.key == entry.key) else {
        return;
    };
    match &entry.value.value {
        Value::List(items) if section.key == "watch" => {
            for item in items {
                check(section, item.span, item, report);
            }
        }
        _ => check(section, entry.key_span, &entry.value, report),
    }
}

/// Checks a section, and warns unless it is turned off.
fn check(section: &Section, span: Span, node: &Node, report: &mut Report) {
    let Some(mut fields) = Fields::of(node, section.name, report) else {
        return;
    };
    let is_enabled = fields.flag("enabled", report).unwrap_or(true);
    for &(key, kind) in section.keys {
        read(&mut fields, key, kind, report);
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

fn read(fields: &mut Fields<'_>, key: &'static str, kind: Kind, report: &mut Report) {
    match kind {
        Kind::Flag => {
            fields.flag(key, report);
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
