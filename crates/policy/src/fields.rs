//! Reading a table key by key: each key is asked for once with the kind and range it must have, and what was never asked for
//! is an unknown key.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::diagnostic::{nearest, one_of, quoted};
use crate::quantity;
use crate::report::Report;
use crate::tree::{Node, Span, Table, Value};

/// What users of other tools write, and our word for it.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("src", "from"),
    ("source", "from"),
    ("saddr", "from"),
    ("dst", "to"),
    ("dest", "to"),
    ("destination", "to"),
    ("daddr", "to"),
    ("proto", "protocol"),
    ("dport", "port"),
    ("destination_port", "port"),
    ("dst_port", "port"),
    ("ports", "port"),
    ("sport", "source_port"),
    ("src_port", "source_port"),
    ("iface", "interface"),
    ("dev", "interface"),
    ("interface", "on"),
    ("iface", "on"),
    ("dev", "on"),
    ("via", "on"),
    ("offset", "at"),
    ("bytes", "at"),
    ("sport", "source-port"),
    ("dir", "direction"),
    ("target", "action"),
    ("verdict", "action"),
    ("policy", "action"),
    ("logging", "log"),
    ("duration", "for"),
    ("response", "answer"),
    ("accept", "allow"),
    ("permit", "allow"),
    ("pass", "allow"),
    ("drop", "deny"),
    ("block", "deny"),
    ("refuse", "reject"),
    ("input", "in"),
    ("inbound", "in"),
    ("incoming", "in"),
    ("ingress", "in"),
    ("output", "out"),
    ("outbound", "out"),
    ("outgoing", "out"),
    ("egress", "out"),
    ("routed", "forward"),
    ("fwd", "forward"),
    ("both", "any"),
    ("all", "any"),
    ("*", "any"),
    ("icmp6", "icmpv6"),
    ("ipv6-icmp", "icmpv6"),
    ("enforcing", "enforce"),
    ("permissive", "observe"),
    ("monitor", "observe"),
];

/// The valid word that was probably meant.
pub(crate) fn meant<'a>(
    word: &str,
    valid: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let ours = OTHER_WORDS.iter().filter(|(other, _)| *other == lower);
    ours.filter_map(|(_, ours)| valid.clone().into_iter().find(|word| word == ours))
        .next()
        .or_else(|| nearest(word, valid.clone()))
}

/// A table while it is read.
pub(crate) struct Fields<'t> {
    table: &'t Table,
    pub(crate) span: Span,
    /// How messages call it: `a rule`, `[ban]`.
    what: &'static str,
    known: Vec<&'static str>,
}

impl<'t> Fields<'t> {
    /// Of a value that has to be a table.
    pub(crate) fn of(node: &'t Node, what: &'static str, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Table(table) => Some(Self {
                table,
                span: node.span,
                what,
                known: Vec::new(),
            }),
            _ => {
                wrong_type(node, what, "a table of keys and values", report);
                None
            }
        }
    }

    /// Whether a part of it could not be read.
    pub(crate) fn is_damaged(&self) -> bool {
        self.table.damaged
    }

    pub(crate) fn get(&mut self, key: &'static str) -> Option<&'t Node> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key).map(|entry| &entry.value)
    }

    /// The place of a key that is there.
    pub(crate) fn key_span(&self, key: &str) -> Span {
        self.table
            .get(key)
            .map_or(self.span, |entry| entry.key_span)
    }

    /// The place of the value of a key that is there.
    pub(crate) fn value_span(&self, key: &str) -> Span {
        self.table
            .get(key)
            .map_or(self.span, |entry| entry.value.span)
    }

    pub(crate) fn text(&mut self, key: &'static str, report: &mut Report) -> Option<&'t str> {
        let node = self.get(key)?;
        text(node, key, report)
    }

    pub(crate) fn flag(&mut self, key: &'static str, report: &mut Report) -> Option<bool> {
        let node = self.get(key)?;
        flag(node, key, report)
    }

    pub(crate) fn count(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u32>,
        report: &mut Report,
    ) -> Option<u32> {
        let node = self.get(key)?;
        count(node, key, range, report)
    }

    pub(crate) fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        report: &mut Report,
    ) -> Option<Duration> {
        let node = self.get(key)?;
        let example = "a duration such as \"90s\", \"10m\" or \"1h30m\"";
        match &node.value {
            Value::Text(text) => match quantity::duration(&text.text) {
                Ok(duration) if range.contains(&duration) => Some(duration),
                Ok(_) => {
                    let (least, most) = (
                        quantity::show_duration(*range.start()),
                        quantity::show_duration(*range.end()),
                    );
                    let message = format!("{key} is out of range: {}", quoted(&text.text));
                    report
                        .error(node.span, "out-of-range", message)
                        .expected(format!("{least} to {most}"));
                    None
                }
                Err(meant) => {
                    let message = format!("{key} cannot be {}", quoted(&text.text));
                    report
                        .error(node.span, "bad-duration", message)
                        .expected(example)
                        .suggest(meant);
                    None
                }
            },
            Value::Integer(number) => {
                let message = format!("{key} has no unit");
                report
                    .error(node.span, "bad-duration", message)
                    .expected(example)
                    .suggest((*number >= 0).then(|| format!("{number}s")));
                None
            }
            _ => {
                wrong_type(node, key, example, report);
                None
            }
        }
    }

    /// A number of bytes, `67108864` or `"64MiB"`.
    pub(crate) fn bytes(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        report: &mut Report,
    ) -> Option<u64> {
        let node = self.get(key)?;
        let read = match &node.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Text(text) => match quantity::bytes(&text.text) {
                Some(bytes) => Some(bytes),
                None => {
                    let message = format!("{key} cannot be {}", quoted(&text.text));
                    report
                        .error(node.span, "bad-size", message)
                        .expected("a size such as \"64MiB\" or a number of bytes");
                    return None;
                }
            },
            _ => {
                wrong_type(
                    node,
                    key,
                    "a size such as \"64MiB\" or a number of bytes",
                    report,
                );
                return None;
            }
        };
        match read {
            Some(bytes) if range.contains(&bytes) => Some(bytes),
            _ => {
                let (least, most) = (
                    quantity::show_bytes(*range.start()),
                    quantity::show_bytes(*range.end()),
                );
                report
                    .error(node.span, "out-of-range", format!("{key} is out of range"))
                    .expected(format!("{least} to {most}"));
                None
            }
        }
    }

    /// One of some words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        report: &mut Report,
    ) -> Option<T> {
        let node = self.get(key)?;
        word(node, key, words, report)
    }

    /// Reports what was never asked for.
    pub(crate) fn finish(&self, report: &mut Report) {
        for entry in self.table.entries() {
            if self.known.iter().any(|known| *known == entry.key) || entry.value.is_lost() {
                continue;
            }
            let message = format!("{} has no key {}", self.what, quoted(&entry.key));
            let guess = meant(&entry.key, self.known.iter().copied());
            report
                .error(entry.key_span, "unknown-key", message)
                .expected(one_of(self.known.iter().copied()))
                .suggest(guess);
        }
    }
}

/// A value that has to be text.
pub(crate) fn text<'t>(node: &'t Node, key: &str, report: &mut Report) -> Option<&'t str> {
    let text = node.text();
    if text.is_none() {
        wrong_type(node, key, "text", report);
    }
    text
}

/// A value that has to be true or false.
pub(crate) fn flag(node: &Node, key: &str, report: &mut Report) -> Option<bool> {
    let meant = match &node.value {
        Value::Flag(flag) => return Some(*flag),
        Value::Text(text) => match text.text.to_lowercase().as_str() {
            "true" | "yes" | "on" => Some("true"),
            "false" | "no" | "off" => Some("false"),
            _ => None,
        },
        Value::Integer(1) => Some("true"),
        Value::Integer(0) => Some("false"),
        _ => {
            wrong_type(node, key, "true or false", report);
            return None;
        }
    };
    mistyped(node, key, "true or false", meant, report);
    None
}

/// A value that has to be a whole number in a range.
pub(crate) fn count(
    node: &Node,
    key: &str,
    range: RangeInclusive<u32>,
    report: &mut Report,
) -> Option<u32> {
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    match &node.value {
        Value::Integer(number) => match u32::try_from(*number) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                report
                    .error(
                        node.span,
                        "out-of-range",
                        format!("{key} is out of range: {number}"),
                    )
                    .expected(expected);
                None
            }
        },
        Value::Text(text) => {
            let digits = text.text.parse::<u32>().ok().map(|n| n.to_string());
            mistyped(node, key, &expected, digits.as_deref(), report);
            None
        }
        _ => {
            wrong_type(node, key, &expected, report);
            None
        }
    }
}

/// A value that has to be one of some words.
pub(crate) fn word<T: Copy>(
    node: &Node,
    key: &str,
    words: &[(&'static str, T)],
    report: &mut Report,
) -> Option<T> {
    let valid = words.iter().map(|(word, _)| *word);
    let Some(written) = node.text() else {
        wrong_type(node, key, &one_of(valid), report);
        return None;
    };
    let found = words.iter().find(|(word, _)| *word == written);
    if found.is_none() {
        unknown_word(node.span, key, written, valid, report);
    }
    found.map(|(_, value)| *value)
}

/// Reports a word that is none of the valid ones.
pub(crate) fn unknown_word<'a>(
    span: Span,
    key: &str,
    written: &str,
    valid: impl IntoIterator<Item = &'a str> + Clone,
    report: &mut Report,
) {
    let guess = meant(written, valid.clone());
    report
        .error(
            span,
            "unknown-word",
            format!("{key} cannot be {}", quoted(written)),
        )
        .expected(one_of(valid))
        .suggest(guess);
}

/// Reports a value of the wrong kind; silent about what is reported already.
pub(crate) fn wrong_type(node: &Node, key: &str, expected: &str, report: &mut Report) {
    if matches!(node.value, Value::Damaged) {
        return;
    }
    let message = format!("{key} is {}", node.kind());
    report
        .error(node.span, "wrong-type", message)
        .expected(expected);
}

/// [`wrong_type`] for a value that only wears the wrong quotes.
fn mistyped(node: &Node, key: &str, expected: &str, meant: Option<&str>, report: &mut Report) {
    let message = format!("{key} is {}", node.kind());
    report
        .error(node.span, "wrong-type", message)
        .expected(expected)
        .suggest(meant);
}

/// The parts of a value that is a text with commas, a number, or a list of those; blanks around a part do not count.
pub(crate) fn parts<'t>(
    node: &'t Node,
    key: &str,
    expected: &str,
    report: &mut Report,
) -> Option<Vec<(std::borrow::Cow<'t, str>, Span)>> {
    let mut all = Vec::new();
    let mut is_whole = true;
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    for item in items {
        match &item.value {
            Value::Text(text) => {
                let mut start = 0;
                for part in text.text.split(',') {
                    let inner = part.trim();
                    let at = start + (part.len() - part.trim_start().len());
                    start += part.len() + 1;
                    let span = item.part(at, at + inner.len());
                    if inner.is_empty() {
                        let message = format!("{key} has an empty item");
                        report.error(span, "empty-item", message).expected(expected);
                        is_whole = false;
                        continue;
                    }
                    all.push((inner.into(), span));
                }
            }
            Value::Integer(number) => all.push((number.to_string().into(), item.span)),
            _ => {
                wrong_type(item, key, expected, report);
                is_whole = false;
            }
        }
    }
    if all.is_empty() && is_whole {
        let message = format!("{key} is empty, so that nothing could ever match");
        report
            .error(node.span, "empty-item", message)
            .expected(expected);
        return None;
    }
    // With a part missing the rest would be half of what was meant, but it can still be checked.
    Some(all)
}
