//! The sources of a policy, and what was found wrong in them.

use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Severity};
use crate::plan::Position;
use crate::tree::Span;

/// More than this many diagnostics help nobody; the rest is counted.
const MOST_DIAGNOSTICS: usize = 1_000;

/// A text that was read.
#[derive(Debug)]
pub(crate) struct Source {
    /// As the user named it.
    name: String,
    /// Where relative paths in it begin.
    base: PathBuf,
    text: String,
    /// Byte offset of the begin of each line.
    lines: Vec<u32>,
    /// Characters before each block of [`BLOCK`] bytes, so that a column in a very long line costs no scan of the line.
    characters: Vec<u32>,
}

const BLOCK: usize = 4_096;

impl Source {
    pub(crate) fn new(name: String, base: PathBuf, text: String) -> Self {
        let newlines = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let lines = std::iter::once(0)
            .chain(newlines.map(|(at, _)| at as u32 + 1))
            .collect();
        let mut seen = 0;
        let characters = text
            .as_bytes()
            .chunks(BLOCK)
            .map(|block| {
                let before = seen;
                seen += count_characters(block);
                before
            })
            .collect();
        Self {
            name,
            base,
            text,
            lines,
            characters,
        }
    }

    /// Line and column, both from 1, of a byte offset; the column counts characters.
    fn line_and_column(&self, offset: usize) -> (u32, u32) {
        let offset = offset.min(self.text.len());
        let line = self
            .lines
            .partition_point(|&start| start as usize <= offset);
        let start = self.lines[line.saturating_sub(1)] as usize;
        let column = self.characters_before(offset) - self.characters_before(start) + 1;
        (line as u32, column)
    }

    fn characters_before(&self, offset: usize) -> u32 {
        let block = offset / BLOCK;
        let rest = &self.text.as_bytes()[(block * BLOCK).min(self.text.len())..offset];
        match self.characters.get(block) {
            Some(before) => before + count_characters(rest),
            // Only at the very end of a text whose length is a multiple of the block.
            None => count_characters(&self.text.as_bytes()[..offset]),
        }
    }
}

/// Every byte of UTF-8 that is not a continuation byte begins a character.
fn count_characters(bytes: &[u8]) -> u32 {
    bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() as u32
}

/// Collects what is wrong while a policy is read.
#[derive(Debug, Default)]
pub(crate) struct Report {
    sources: Vec<Source>,
    found: Vec<(Span, Diagnostic)>,
    errors: usize,
    left_out: usize,
    /// What is written to when there are too many already.
    spare: Option<Diagnostic>,
}

impl Report {
    /// Adds a source and gives its number.
    pub(crate) fn add_source(&mut self, source: Source) -> u32 {
        self.sources.push(source);
        self.sources.len() as u32 - 1
    }

    /// The text of a source.
    pub(crate) fn text(&self, file: u32) -> &str {
        &self.sources[file as usize].text
    }

    /// Where relative paths in a source begin.
    pub(crate) fn base(&self, file: u32) -> &Path {
        &self.sources[file as usize].base
    }

    pub(crate) fn position(&self, span: Span) -> Position {
        let Some(source) = self.sources.get(span.file as usize) else {
            return Position::default();
        };
        let (line, column) = source.line_and_column(span.start as usize);
        Position {
            file: source.name.clone(),
            line,
            column,
        }
    }

    /// A place for a message: without the file's name when it is the file that the message is about.
    pub(crate) fn place(&self, span: Span, seen_from: u32) -> String {
        let position = self.position(span);
        if span.file == seen_from {
            format!("line {}, column {}", position.line, position.column)
        } else {
            position.to_string()
        }
    }

    pub(crate) fn error(
        &mut self,
        span: Span,
        code: &'static str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let position = self.position_if_shown(span);
        self.add(span, Severity::Error, code, message.into(), position)
    }

    pub(crate) fn warning(
        &mut self,
        span: Span,
        code: &'static str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let position = self.position_if_shown(span);
        self.add(span, Severity::Warning, code, message.into(), position)
    }

    /// With a position that is in none of the sources, such as a line of a list; `near` orders it among the others.
    pub(crate) fn add(
        &mut self,
        near: Span,
        severity: Severity,
        code: &'static str,
        message: String,
        position: Position,
    ) -> &mut Diagnostic {
        self.errors += usize::from(severity == Severity::Error);
        let diagnostic = Diagnostic {
            severity,
            code,
            message,
            position,
            expected: None,
            suggestion: None,
            witness: None,
        };
        if self.is_full() {
            self.left_out += 1;
            return self.spare.insert(diagnostic);
        }
        let place = self.found.len();
        self.found.push((near, diagnostic));
        &mut self.found[place].1
    }

    /// Whether what is found from now on is only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= MOST_DIAGNOSTICS
    }

    fn position_if_shown(&self, span: Span) -> Position {
        if self.is_full() {
            Position::default()
        } else {
            self.position(span)
        }
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    pub(crate) fn error_count(&self) -> usize {
        self.errors
    }

    /// The names and texts of the sources; positions in them are known no more.
    pub(crate) fn take_texts(&mut self) -> Vec<(String, String)> {
        let sources = std::mem::take(&mut self.sources).into_iter();
        sources.map(|source| (source.name, source.text)).collect()
    }

    /// Everything found, in the order of the files and their lines.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.found
            .sort_by_key(|(span, _)| (span.file, span.start, span.end));
        let mut all: Vec<_> = self.found.into_iter().map(|(_, found)| found).collect();
        if self.left_out > 0 {
            let position = all
                .last()
                .map(|last| last.position.clone())
                .unwrap_or_default();
            let severity = if self.errors > 0 {
                Severity::Error
            } else {
                Severity::Warning
            };
            all.push(Diagnostic {
                severity,
                code: "too-many",
                message: format!("{} more are not shown", self.left_out),
                position,
                expected: None,
                suggestion: None,
                witness: None,
            });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = "aé€x\nzweite\n";
        let source = Source::new("f".into(), PathBuf::new(), text.into());
        for (offset, at) in [
            (0, (1, 1)),
            (1, (1, 2)),
            (3, (1, 3)),
            (6, (1, 4)),
            (8, (2, 1)),
            (9, (2, 2)),
            (15, (3, 1)),
            (99, (3, 1)),
        ] {
            assert_eq!(source.line_and_column(offset), at, "{offset}");
        }
    }

    #[test]
    fn columns_in_long_lines() {
        let text = "é".repeat(BLOCK * 3);
        let source = Source::new("f".into(), PathBuf::new(), text);
        for characters in [0, 1, BLOCK / 2, BLOCK, 2 * BLOCK + 7, 3 * BLOCK] {
            assert_eq!(
                source.line_and_column(characters * 2),
                (1, characters as u32 + 1)
            );
        }
    }
}
