//! TOML into the tree. Tokens and scalars are read by `toml_parser`; the grammar is here, so that a mistake costs one
//! message and no more text than the statement it stands in, and the rest of the file is still read.
//!
//! Accepts TOML 1.1 (so inline tables over several lines too). Where a statement is cut off (a bracket or quote that is never
//! closed), reading goes on with the next line that begins a statement.

mod scalar;
mod statement;
mod tables;
mod token;

use crate::report::Report;
use crate::tree::{Entry, Node, Origin, Span, Table, Value, duplicate_key};
use scalar::Scalar;
use token::{Kind, Tokens};

/// Deepest nesting of brackets; nothing in a policy needs more than four.
const DEEPEST: usize = 32;

/// The table of a whole file.
pub(crate) fn parse(file: u32, report: &mut Report) -> Table {
    // The text is needed while the report is written to.
    let text = report.text(file).to_owned();
    let mut parser = Parser {
        text: &text,
        file,
        tokens: Tokens::of(&text),
        report,
    };
    parser.control_characters();
    parser.document()
}

struct Parser<'t, 'r> {
    text: &'t str,
    file: u32,
    tokens: Tokens<'t>,
    report: &'r mut Report,
}

/// A key as it was written, perhaps with dots.
type Path = Vec<(String, Span)>;

impl Parser<'_, '_> {
    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.file, start, end)
    }

    fn syntax(&mut self, span: Span, message: impl Into<String>) -> &mut crate::Diagnostic {
        self.report.error(span, "toml-syntax", message)
    }

    /// Comments hold no control characters, and a carriage return ends no line by itself.
    fn control_characters(&mut self) {
        let bad: Vec<_> = self.tokens.control_characters().collect();
        for at in bad {
            let span = self.span(at, at + 1);
            self.syntax(span, "there is a control character here")
                .expected("printable characters, and lines that end in a line feed");
        }
    }

    /// A key with its dots; `None`, reported, when there is none.
    fn key(&mut self) -> Option<Path> {
        let mut path = Path::new();
        loop {
            self.tokens.skip_blanks();
            let token = self.tokens.peek();
            let span = self.span(token.start, token.end);
            let Some(key) = scalar::key(self.text, token) else {
                let found = token.describe(self.text);
                self.syntax(span, format!("a key is missing before {found}"))
                    .expected("a key");
                return None;
            };
            self.tokens.next();
            match key {
                Ok(key) => path.push((key, span)),
                Err(problem) => {
                    // `key: value` is another language.
                    let colon = self.text[token.start..token.end].strip_suffix(':');
                    let guess = colon.map(|key| format!("{key} ="));
                    self.syntax(span, problem)
                        .expected("a key of letters, digits, _ and -")
                        .suggest(guess);
                    return None;
                }
            }
            self.tokens.skip_blanks();
            if self.tokens.peek().kind != Kind::Dot {
                return Some(path);
            }
            if path.len() == DEEPEST {
                self.syntax(span, "the key has too many parts");
                return None;
            }
            self.tokens.next();
        }
    }

    fn value(&mut self, depth: usize) -> Node {
        self.tokens.skip_blanks();
        let token = self.tokens.peek();
        let span = self.span(token.start, token.end);
        let opens = matches!(token.kind, Kind::OpenBracket | Kind::OpenBrace);
        if opens && depth == DEEPEST {
            self.syntax(span, "brackets are nested too deeply");
            self.tokens.skip_line();
            return Node::new(span, Value::Damaged);
        }
        match token.kind {
            Kind::OpenBracket => self.array(depth + 1),
            Kind::OpenBrace => self.inline_table(depth + 1),
            Kind::Text | Kind::Atom | Kind::Dot => {
                match scalar::read(self.text, &mut self.tokens) {
                    Scalar::Good { start, end, value } => {
                        Node::new(self.span(start, end), value.place(start))
                    }
                    Scalar::Bad { start, end, what } => {
                        let span = self.span(start, end);
                        self.syntax(span, what.message)
                            .suggest(what.suggestion)
                            .expected = what.expected;
                        Node::new(span, Value::Damaged)
                    }
                }
            }
            _ => {
                let found = token.describe(self.text);
                self.syntax(span, format!("a value is missing before {found}"))
                    .expected("a value, such as \"text\", 22, true or [ … ]");
                Node::new(span, Value::Damaged)
            }
        }
    }

    fn array(&mut self, depth: usize) -> Node {
        let open = self.tokens.next();
        let mut items = Vec::new();
        let end = loop {
            self.tokens.skip_blanks_and_lines();
            let token = self.tokens.peek();
            match token.kind {
                Kind::CloseBracket => break self.tokens.next().end,
                Kind::Comma => {
                    let span = self.span(token.start, token.end);
                    self.syntax(span, "a value is missing before this comma");
                    self.tokens.next();
                    continue;
                }
                Kind::End => break self.unclosed(open.start, "[", "]"),
                _ if self.tokens.statement_begins() => {
                    break self.unclosed(open.start, "[", "]");
                }
                Kind::OpenBracket | Kind::OpenBrace | Kind::Text | Kind::Atom | Kind::Dot => {}
                Kind::CloseBrace | Kind::Equals => {
                    let (span, found) =
                        (self.span(token.start, token.end), token.describe(self.text));
                    self.syntax(span, format!("{found} does not belong in a list"))
                        .expected("a value or ]");
                    self.tokens.next();
                    continue;
                }
                Kind::Blank | Kind::NewLine | Kind::Comment => {
                    // Skipped above.
                    self.tokens.next();
                    continue;
                }
            }
            items.push(self.value(depth));
            if !self.separator(open.start, Kind::CloseBracket) {
                break self.tokens.peek().start;
            }
        };
        Node::new(self.span(open.start, end), Value::List(items))
    }

    fn inline_table(&mut self, depth: usize) -> Node {
        let open = self.tokens.next();
        let mut table = Table::new(Origin::Inline);
        let end = loop {
            self.tokens.skip_blanks_and_lines();
            let token = self.tokens.peek();
            match token.kind {
                Kind::CloseBrace => break self.tokens.next().end,
                Kind::Comma => {
                    let span = self.span(token.start, token.end);
                    self.syntax(span, "a key is missing before this comma");
                    self.tokens.next();
                    continue;
                }
                Kind::End => break self.unclosed(open.start, "{", "}"),
                Kind::OpenBracket if self.tokens.statement_begins() => {
                    break self.unclosed(open.start, "{", "}");
                }
                Kind::Atom | Kind::Text => {}
                _ => {
                    let (span, found) =
                        (self.span(token.start, token.end), token.describe(self.text));
                    self.syntax(span, format!("{found} does not belong here"))
                        .expected("a key or }");
                    table.damaged = true;
                    self.tokens.next();
                    continue;
                }
            }
            let Some(path) = self.key() else {
                table.damaged = true;
                continue;
            };
            let value = self.assigned(depth);
            self.insert(&mut table, path, value);
            if !self.separator(open.start, Kind::CloseBrace) {
                break self.tokens.peek().start;
            }
        };
        seal(&mut table);
        Node::new(self.span(open.start, end), Value::Table(table))
    }

    /// `= value` after a key.
    fn assigned(&mut self, depth: usize) -> Node {
        self.tokens.skip_blanks();
        let token = self.tokens.peek();
        let span = self.span(token.start, token.end);
        if token.kind != Kind::Equals {
            let found = token.describe(self.text);
            self.syntax(span, format!("= is missing before {found}"))
                .expected("=");
            self.tokens.skip_in_brackets();
            return Node::new(span, Value::Damaged);
        }
        self.tokens.next();
        self.value(depth)
    }

    /// What stands between two items; false when the bracket is never closed and the list ends here.
    fn separator(&mut self, open: usize, close: Kind) -> bool {
        let before = self.tokens.previous_end();
        self.tokens.skip_blanks_and_lines();
        let token = self.tokens.peek();
        if token.kind == close || token.kind == Kind::End {
            return true;
        }
        if token.kind == Kind::Comma {
            self.tokens.next();
            return true;
        }
        // Which of the two is missing is worth a look ahead only where it is told.
        let unclosed = self.tokens.statement_begins()
            && (self.report.is_full() || !self.tokens.closes_before_header(close));
        let (opened, close) = match close {
            Kind::CloseBracket => ("[", "]"),
            _ => ("{", "}"),
        };
        if unclosed {
            self.unclosed(open, opened, close);
            return false;
        }
        let span = self.span(before, before);
        let found = token.describe(self.text);
        self.syntax(span, format!("a comma is missing before {found}"))
            .expected(format!(", or {close}"));
        true
    }

    fn unclosed(&mut self, open: usize, opened: &str, close: &str) -> usize {
        let span = self.span(open, open + 1);
        self.syntax(span, format!("{opened} is never closed"))
            .expected(close);
        self.tokens.peek().start
    }

    /// Puts a value where a dotted key says, in a table that is being written.
    fn insert(&mut self, table: &mut Table, path: Path, value: Node) {
        let mut table = table;
        let last = path.len() - 1;
        for (index, (key, span)) in path.into_iter().enumerate() {
            if index == last {
                match table.get(&key).map(|present| present.key_span) {
                    Some(first) => duplicate_key(&key, span, first, self.report),
                    None => {
                        table.push(key, span, value);
                    }
                }
                return;
            }
            if table.get(&key).is_none() {
                let part = Value::Table(Table::new(Origin::Dotted));
                table.push(key.clone(), span, Node::new(span, part));
            }
            let Some(Entry {
                key_span, value, ..
            }) = table.get_mut(&key)
            else {
                return;
            };
            let first = *key_span;
            match &mut value.value {
                Value::Table(inner) if inner.origin == Origin::Dotted => table = inner,
                Value::Damaged => return,
                _ => {
                    duplicate_key(&key, span, first, self.report);
                    return;
                }
            }
        }
    }
}

/// An inline table is complete: neither it nor what its dotted keys made can be added to.
fn seal(table: &mut Table) {
    table.origin = Origin::Inline;
    let keys: Vec<String> = table.entries().iter().map(|e| e.key.clone()).collect();
    for key in keys {
        if let Some(entry) = table.get_mut(&key)
            && let Value::Table(inner) = &mut entry.value.value
        {
            seal(inner);
        }
    }
}

#[cfg(test)]
mod tests;
