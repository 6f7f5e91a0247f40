//! JSON into the tree: strict RFC 8259 (no comments, no trailing commas: other tools read these files too), read by hand so that
//! reading goes on behind a mistake. An array at the top is the list of rules.

mod text;

use crate::report::Report;
use crate::tree::{Node, Origin, Span, Table, Value, duplicate_key};

/// Deepest nesting of brackets; nothing in a policy needs more than five.
const DEEPEST: usize = 32;

/// The table of a whole file.
pub(crate) fn parse(file: u32, report: &mut Report) -> Table {
    // The text is needed while the report is written to.
    let text = report.text(file).to_owned();
    let mut parser = Parser {
        bytes: text.as_bytes(),
        text: &text,
        at: if text.starts_with('\u{feff}') { 3 } else { 0 },
        file,
        report,
        gave_up_line: false,
    };
    parser.skip_blanks();
    if parser.at == text.len() {
        // An empty file is an empty policy, as in the other forms.
        return Table::default();
    }
    let value = parser.value(0);
    parser.skip_blanks();
    if parser.at < text.len() {
        let span = parser.span(parser.at, parser.at + 1);
        let found = parser.found();
        parser
            .syntax(span, format!("{found} stands behind the end"))
            .expected("the end of the file");
    }
    match value.value {
        Value::Table(table) => table,
        Value::List(_) => {
            let mut table = Table::default();
            table.push("rule".to_owned(), value.span, value);
            table
        }
        Value::Damaged => Table::default(),
        _ => {
            let message = format!("the policy is {}", value.kind());
            report
                .error(value.span, "wrong-type", message)
                .expected("an object with the keys of a policy, or an array of rules");
            Table::default()
        }
    }
}

struct Parser<'t, 'r> {
    bytes: &'t [u8],
    text: &'t str,
    at: usize,
    file: u32,
    report: &'r mut Report,
    /// Whether the rest of a line was given up, and perhaps a comma in it.
    gave_up_line: bool,
}

impl Parser<'_, '_> {
    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.file, start, end)
    }

    fn syntax(&mut self, span: Span, message: impl Into<String>) -> &mut crate::Diagnostic {
        self.report.error(span, "json-syntax", message)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// What stands here, for messages.
    fn found(&self) -> String {
        let rest = &self.text[self.at..];
        if let Some(text) = rest.strip_prefix('"') {
            // A whole text, when it is one of this line.
            let end = text.find(['"', '\n']).unwrap_or(text.len());
            return crate::diagnostic::quoted(&text[..end]);
        }
        let word = rest
            .find(|c: char| c.is_whitespace() || "{}[]:,\"".contains(c))
            .unwrap_or(rest.len());
        let length = rest.chars().next().map_or(0, char::len_utf8).max(word);
        if length == 0 {
            "the end of the file".to_owned()
        } else {
            crate::diagnostic::quoted(&rest[..length])
        }
    }

    /// Blanks, and comments, which are reported.
    fn skip_blanks(&mut self) {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(b'#') => self.comment(1, "\n"),
                Some(b'/') if self.text[self.at..].starts_with("//") => self.comment(2, "\n"),
                Some(b'/') if self.text[self.at..].starts_with("/*") => self.comment(2, "*/"),
                _ => return,
            }
        }
    }

    fn comment(&mut self, opening: usize, closing: &str) {
        let start = self.at;
        let body = &self.text[start + opening..];
        self.at = match body.find(closing) {
            Some(end) => start + opening + end + closing.len(),
            None => self.text.len(),
        };
        let span = self.span(start, self.at);
        self.syntax(span, "JSON has no comments")
            .expected("a key \"comment\" in the rule, or the TOML form");
    }

    fn value(&mut self, depth: usize) -> Node {
        self.skip_blanks();
        let start = self.at;
        match self.peek() {
            Some(b'{' | b'[') if depth == DEEPEST => {
                let span = self.span(start, start + 1);
                self.syntax(span, "brackets are nested too deeply");
                // Nothing behind it can be told apart.
                self.at = self.text.len();
                Node::new(span, Value::Damaged)
            }
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"' | b'\'') => self.string_value(),
            Some(b',' | b'}' | b']' | b':') | None => {
                let found = self.found();
                let span = self.span(start, start);
                self.syntax(span, format!("a value is missing before {found}"))
                    .expected("a value, such as \"text\", 22, true, [ … ] or { … }");
                Node::new(span, Value::Damaged)
            }
            Some(_) => self.word(),
        }
    }

    fn array(&mut self, depth: usize) -> Node {
        let open = self.at;
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.skip_blanks();
            match self.peek() {
                Some(b']') => {
                    self.at += 1;
                    break;
                }
                None | Some(b'}') => {
                    self.unclosed(open, "[", "]");
                    break;
                }
                Some(b',') => {
                    self.stray("a value is missing before this comma");
                    continue;
                }
                Some(b':') => {
                    self.stray("a list has no keys, and this colon follows one");
                    continue;
                }
                Some(_) => {}
            }
            items.push(self.value(depth));
            self.separator("]");
        }
        Node::new(self.span(open, self.at), Value::List(items))
    }

    fn object(&mut self, depth: usize) -> Node {
        let open = self.at;
        self.at += 1;
        let mut table = Table::new(Origin::Inline);
        loop {
            self.skip_blanks();
            match self.peek() {
                Some(b'}') => {
                    self.at += 1;
                    break;
                }
                None | Some(b']' | b'{' | b'[') => {
                    self.unclosed(open, "{", "}");
                    table.damaged = true;
                    break;
                }
                Some(b',') => {
                    self.stray("a key is missing before this comma");
                    continue;
                }
                Some(b':') => {
                    self.stray("a key is missing before this colon");
                    self.value(depth);
                    table.damaged = true;
                    self.separator("}");
                    continue;
                }
                Some(_) => {}
            }
            let Some((key, span)) = self.key() else {
                table.damaged = true;
                self.give_up_item();
                self.separator("}");
                continue;
            };
            self.skip_blanks();
            let value = if self.peek() == Some(b':') {
                self.at += 1;
                self.value(depth)
            } else {
                let here = self.span(self.at, self.at);
                let found = self.found();
                self.syntax(
                    here,
                    format!("a colon is missing between the key and {found}"),
                )
                .expected(":");
                table.damaged = true;
                if self.value_begins() {
                    self.value(depth)
                } else {
                    self.give_up_item();
                    self.separator("}");
                    table.push_lost(vec![(key, span)], here);
                    continue;
                }
            };
            match table.get(&key).map(|present| present.key_span) {
                Some(first) => duplicate_key(&key, span, first, self.report),
                None => {
                    table.push(key, span, value);
                }
            }
            self.separator("}");
        }
        Node::new(self.span(open, self.at), Value::Table(table))
    }

    /// Whether something stands here that can only be a value.
    fn value_begins(&self) -> bool {
        let rest = &self.text[self.at..];
        let words = ["true", "false", "null"];
        rest.starts_with(['"', '{', '[', '-'])
            || rest.starts_with(|c: char| c.is_ascii_digit())
            || words.iter().any(|word| rest.starts_with(word))
    }

    /// To the next comma, closing bracket or line.
    fn give_up_item(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.find(['\n', ',', '}', ']']).unwrap_or(rest.len());
        self.gave_up_line = self.peek() == Some(b'\n');
    }

    /// A comma, or the end that the caller sees.
    fn separator(&mut self, close: &str) {
        let gave_up_line = std::mem::take(&mut self.gave_up_line);
        let before = self.at;
        self.skip_blanks();
        match self.peek() {
            Some(b',') => {
                let comma = self.at;
                self.at += 1;
                self.skip_blanks();
                if matches!(self.peek(), Some(b'}' | b']')) {
                    let span = self.span(comma, comma + 1);
                    self.syntax(span, "a comma stands behind the last item")
                        .expected(format!("{close}, or another item"));
                }
            }
            Some(b'}' | b']') | None => {}
            // An object in an object is one that was not closed; `object` says so.
            Some(b'{') if close == "}" => {}
            Some(_) if gave_up_line => {}
            Some(_) => {
                let span = self.span(before, before);
                let found = self.found();
                self.syntax(span, format!("a comma is missing before {found}"))
                    .expected(format!(", or {close}"));
            }
        }
    }

    fn stray(&mut self, message: &str) {
        let span = self.span(self.at, self.at + 1);
        self.syntax(span, message);
        self.at += 1;
    }

    fn unclosed(&mut self, open: usize, opened: &str, close: &str) {
        let span = self.span(open, open + 1);
        self.syntax(span, format!("{opened} is never closed"))
            .expected(close);
        // What would have been behind it is missing too.
        self.gave_up_line = true;
    }
}

#[cfg(test)]
mod tests;
