//! The tree that all three front ends produce, with the place of every part. It is what was written, not what it means:
//! meaning is given once, in [`crate::read`], whatever the form.

use std::collections::HashMap;

use crate::report::Report;

/// A stretch of a source, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    /// Which source, in the order of reading.
    pub(crate) file: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn new(file: u32, start: usize, end: usize) -> Self {
        // Sources are below 16 MiB, see `load`.
        Self {
            file,
            start: start as u32,
            end: end as u32,
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// What was written.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(Text),
    Integer(i64),
    Float,
    Flag(bool),
    /// A date or time as TOML writes it without quotes.
    Moment(String),
    List(Vec<Node>),
    Table(Table),
    /// JSON's `null`.
    Null,
    /// Something that is reported already; whoever reads it stays silent.
    Damaged,
}

/// A text, and where its first byte stands in the source if it stands there verbatim.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) verbatim_at: Option<u32>,
}

impl Node {
    pub(crate) fn new(span: Span, value: Value) -> Self {
        Self { span, value }
    }

    /// A text that stands in the source as it is.
    pub(crate) fn verbatim(span: Span, text: &str) -> Self {
        let value = Value::Text(Text {
            text: text.to_owned(),
            verbatim_at: Some(span.start),
        });
        Self { span, value }
    }

    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Text(_) => "text",
            Value::Integer(_) => "a whole number",
            Value::Float => "a decimal number",
            Value::Flag(true) => "true",
            Value::Flag(false) => "false",
            Value::Moment(_) => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Null => "null",
            Value::Damaged => "unreadable",
        }
    }

    /// Whether the value got lost, and its key with it was perhaps never meant as one.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.value, Value::Damaged) && self.span.start == self.span.end
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(&text.text),
            _ => None,
        }
    }

    /// The place of a part of the text; of the whole where the part cannot be placed or is the whole.
    pub(crate) fn part(&self, start: usize, end: usize) -> Span {
        match &self.value {
            Value::Text(Text {
                text,
                verbatim_at: Some(first),
            }) if start > 0 || end < text.len() => {
                let first = *first as usize;
                Span::new(self.span.file, first + start, first + end)
            }
            _ => self.span,
        }
    }
}

/// Keys and values in the order of writing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    entries: Vec<Entry>,
    /// Made when the table is large, so that a hostile file does not cost the square of its keys.
    index: HashMap<String, usize>,
    pub(crate) origin: Origin,
    /// Whether a part of it could not be read; what is missing in it is then no mistake of its own.
    pub(crate) damaged: bool,
}

/// How a table came to be; TOML's rules on what may be opened again need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `{ … }`; complete as it is.
    #[default]
    Inline,
    /// Named only on the way to another, as `a` by `[a.b]`.
    Passed,
    /// `[a]`.
    Header,
    /// One element of `[[a]]`.
    Element,
    /// By a dotted key, as `a` by `a.b = 1`.
    Dotted,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

/// Above this many keys a table is searched by hash.
const SMALL: usize = 16;

impl Table {
    pub(crate) fn new(origin: Origin) -> Self {
        Self {
            origin,
            ..Self::default()
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.find(key).map(|place| &self.entries[place])
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.find(key).map(|place| &mut self.entries[place])
    }

    fn find(&self, key: &str) -> Option<usize> {
        if self.index.is_empty() {
            self.entries.iter().position(|entry| entry.key == key)
        } else {
            self.index.get(key).copied()
        }
    }

    /// Adds a key that is not there yet, and gives its value back to be filled.
    pub(crate) fn push(&mut self, key: String, key_span: Span, value: Node) -> &mut Node {
        let place = self.entries.len();
        if place == SMALL {
            let keys = self.entries.iter().enumerate();
            self.index = keys.map(|(at, entry)| (entry.key.clone(), at)).collect();
        }
        if place >= SMALL {
            self.index.insert(key.clone(), place);
        }
        self.entries.push(Entry {
            key,
            key_span,
            value,
        });
        &mut self.entries[place].value
    }

    /// Notes a key whose value got lost: whoever asks for it finds something that is reported already.
    pub(crate) fn push_lost(&mut self, mut path: Vec<(String, Span)>, at: Span) {
        if let Some((key, key_span)) = path.pop()
            && path.is_empty()
            && self.get(&key).is_none()
        {
            self.push(key, key_span, Node::new(at, Value::Damaged));
        }
    }

    /// Adds an entry of another statement or another file: tables and lists grow together, anything else may be set once.
    pub(crate) fn merge(&mut self, entry: Entry, report: &mut Report) {
        let Some(present) = self.get_mut(&entry.key) else {
            self.push(entry.key, entry.key_span, entry.value);
            return;
        };
        match (&mut present.value.value, entry.value.value) {
            (Value::Damaged, _) | (_, Value::Damaged) => {}
            (Value::Table(into), Value::Table(from)) => {
                into.damaged |= from.damaged;
                for entry in from.into_entries() {
                    into.merge(entry, report);
                }
            }
            (Value::List(into), Value::List(mut from)) => into.append(&mut from),
            _ => {
                let first = present.key_span;
                duplicate_key(&entry.key, entry.key_span, first, report);
            }
        }
    }
}

/// Reports a key that is there already.
pub(crate) fn duplicate_key(key: &str, span: Span, first: Span, report: &mut Report) {
    let first = if report.is_full() {
        String::new()
    } else {
        report.place(first, span.file)
    };
    report.error(
        span,
        "duplicate-key",
        format!("{key} is set a second time; it is set already at {first}"),
    );
}
