//! The words of a line: bare ones, and texts in quotes.

use crate::report::Report;
use crate::tree::{Node, Span, Text, Value};

#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) text: String,
    /// Quotes included.
    pub(super) span: Span,
    pub(super) is_quoted: bool,
    verbatim_at: Option<u32>,
}

impl Word {
    /// As a value, without some bytes at its begin and end.
    fn node(&self, skip: usize, keep: usize) -> Node {
        let text = self.text[skip..keep].to_owned();
        let verbatim_at = self.verbatim_at.map(|at| at + skip as u32);
        let span = if self.is_quoted {
            self.span
        } else {
            let start = self.span.start as usize;
            Span::new(self.span.file, start + skip, start + keep)
        };
        Node::new(span, Value::Text(Text { text, verbatim_at }))
    }
}

/// Splits a line that begins at byte `start` of its source; `None`, reported, when a quote is never closed.
pub(super) fn split(line: &str, start: usize, file: u32, report: &mut Report) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        let rest = &line[at..];
        at += rest.len() - rest.trim_start().len();
        let rest = &line[at..];
        let Some(first) = rest.chars().next() else {
            return Some(words);
        };
        match first {
            '#' => return Some(words),
            '"' | '\'' => {
                let Some((text, length)) = in_quotes(rest, first) else {
                    let end = at + rest.trim_end().len();
                    let span = Span::new(file, start + at, start + end);
                    report
                        .error(span, "rules-syntax", "the text is never closed")
                        .expected(first.to_string());
                    return None;
                };
                let verbatim = rest[1..length - 1] == text;
                words.push(Word {
                    text,
                    span: Span::new(file, start + at, start + at + length),
                    is_quoted: true,
                    verbatim_at: verbatim.then_some((start + at + 1) as u32),
                });
                at += length;
            }
            _ => {
                let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
                words.push(Word {
                    text: rest[..length].to_owned(),
                    span: Span::new(file, start + at, start + at + length),
                    is_quoted: false,
                    verbatim_at: Some((start + at) as u32),
                });
                at += length;
            }
        }
    }
}

/// The text, and the bytes it takes with its quotes. In double quotes `\"` and `\\` stand for what they escape; any other backslash
/// is one, so that patterns keep theirs. In single quotes every character is itself.
fn in_quotes(rest: &str, quote: char) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return Some((text, at + 1));
        }
        if character == '\n' || character == '\r' {
            return None;
        }
        if character == '\\' && quote == '"' {
            let escaped = characters.next_if(|&(_, next)| next == '"' || next == '\\');
            text.push(escaped.map_or('\\', |(_, next)| next));
            continue;
        }
        text.push(character);
    }
    None
}

/// The words of one statement, taken from the front.
#[derive(Debug)]
pub(super) struct Line {
    words: Vec<Word>,
    next: usize,
}

impl Line {
    pub(super) fn new(words: Vec<Word>) -> Self {
        Self { words, next: 0 }
    }

    pub(super) fn next(&mut self) -> Option<Word> {
        let word = self.words.get(self.next).cloned();
        self.next += usize::from(word.is_some());
        word
    }

    pub(super) fn peek(&self) -> Option<&Word> {
        self.words.get(self.next)
    }

    /// The next word if it is bare.
    pub(super) fn peek_text(&self) -> Option<&str> {
        let bare = self.peek().filter(|word| !word.is_quoted);
        bare.map(|word| word.text.as_str())
    }

    pub(super) fn peek_is(&self, text: &str) -> bool {
        self.peek_text() == Some(text)
    }

    /// Puts the word that was taken last back.
    pub(super) fn back(&mut self) {
        self.next = self.next.saturating_sub(1);
    }

    /// The next word as a value, commas in it and all.
    pub(super) fn next_value(&mut self) -> Option<Node> {
        self.next().map(|word| word.node(0, word.text.len()))
    }

    /// The place behind the word that was taken last.
    pub(super) fn end(&self) -> Span {
        let before = self
            .next
            .checked_sub(1)
            .and_then(|last| self.words.get(last));
        before.map_or_else(Span::default, |word| {
            let end = word.span.end as usize;
            Span::new(word.span.file, end, end)
        })
    }

    /// The next value: a word, or words that commas join.
    pub(super) fn list(&mut self, report: &mut Report) -> Option<Node> {
        let mut items: Vec<Node> = Vec::new();
        loop {
            let Some(word) = self.next() else {
                if !items.is_empty() {
                    report
                        .error(self.end(), "rules-syntax", "a list ends with a comma")
                        .expected("another item, or no comma");
                }
                break;
            };
            if word.is_quoted {
                items.push(word.node(0, word.text.len()));
            } else {
                let skip = usize::from(
                    word.text.starts_with(',') && (word.text.len() > 1 || !items.is_empty()),
                );
                let ends =
                    word.text.len() > skip && word.text.ends_with(',') && word.text.len() > 1;
                let keep = word.text.len() - usize::from(ends);
                if keep > skip {
                    items.push(word.node(skip, keep));
                }
                if ends {
                    continue;
                }
                if skip == word.text.len() {
                    // A comma by itself.
                    continue;
                }
            }
            let joined = self.peek_text().is_some_and(|next| next.starts_with(','));
            if !joined {
                break;
            }
        }
        match items.len() {
            0 => None,
            1 => items.pop(),
            _ => {
                let span = items[0].span;
                Some(Node::new(span, Value::List(items)))
            }
        }
    }
}
