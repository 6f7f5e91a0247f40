//! Lines: `[header]`, `[[header]]` and `key = value`, one after another.

use super::tables::Place;
use super::token::Kind;
use super::{Parser, Path};
use crate::tree::{Origin, Table};

impl Parser<'_, '_> {
    pub(super) fn document(&mut self) -> Table {
        let mut root = Table::new(Origin::Header);
        // What follows an unreadable header; its keys are checked for syntax and then forgotten.
        let mut nowhere = Table::default();
        let mut place = Place::Root;
        loop {
            self.tokens.skip_blanks_and_lines();
            match self.tokens.peek().kind {
                Kind::End => return root,
                Kind::OpenBracket => {
                    place = match self.header() {
                        Some((path, is_element)) => self.open(&mut root, path, is_element),
                        None => Place::Nowhere,
                    };
                    if place == Place::Nowhere {
                        nowhere = Table::new(Origin::Header);
                    }
                }
                _ => {
                    let table = match place.of(&mut root) {
                        Some(table) => table,
                        None => &mut nowhere,
                    };
                    self.assignment(table);
                }
            }
        }
    }

    /// `[a.b]` or `[[a.b]]`: the path, and whether it is the second.
    fn header(&mut self) -> Option<(Path, bool)> {
        let open = self.tokens.next();
        let is_element =
            self.tokens.peek().kind == Kind::OpenBracket && self.tokens.peek().start == open.end;
        if is_element {
            self.tokens.next();
        }
        let Some(mut path) = self.key() else {
            self.tokens.skip_line();
            return None;
        };
        // A header is named by its begin, so that a message about the table points at its bracket.
        if let Some((_, span)) = path.last_mut() {
            *span = self.span(open.start, span.end as usize);
        }
        let close = if is_element { "]]" } else { "]" };
        let before = self.tokens.previous_end();
        let first = self.tokens.peek();
        let mut closed = 0;
        while closed < close.len() && self.tokens.peek().kind == Kind::CloseBracket {
            self.tokens.next();
            closed += 1;
        }
        if closed < close.len() {
            let before = if closed == 0 {
                before
            } else {
                self.tokens.previous_end()
            };
            let span = self.span(before, before);
            let found = first.describe(self.text);
            let message = if closed == 0 {
                format!("{close} is missing before {found}")
            } else {
                "one ] is missing".to_owned()
            };
            self.syntax(span, message).expected(close);
            self.tokens.skip_line();
        } else {
            self.line_end("the header");
        }
        Some((path, is_element))
    }

    fn assignment(&mut self, table: &mut Table) {
        let first = self.tokens.peek();
        if !matches!(first.kind, Kind::Atom | Kind::Text | Kind::Dot) {
            let found = first.describe(self.text);
            let span = self.span(first.start, first.end);
            self.syntax(span, format!("a line cannot begin with {found}"))
                .expected("key = value, [section] or [[rule]]");
            table.damaged = true;
            self.tokens.skip_line();
            return;
        }
        let Some(path) = self.key() else {
            table.damaged = true;
            self.tokens.skip_line();
            return;
        };
        if self.tokens.peek().kind != Kind::Equals {
            let found = self.tokens.peek().describe(self.text);
            let at = self.tokens.peek();
            let span = self.span(at.start, at.start);
            let name: Vec<_> = path.iter().map(|(part, _)| part.as_str()).collect();
            let message = format!("= is missing between {} and {found}", name.join("."));
            self.syntax(span, message).expected("key = value");
            table.damaged = true;
            table.push_lost(path, span);
            self.tokens.skip_line();
            return;
        }
        self.tokens.next();
        let value = self.value(0);
        self.insert(table, path, value);
        self.line_end("the value");
    }

    /// Nothing but a comment may follow on the line.
    fn line_end(&mut self, what: &str) {
        self.tokens.skip_blanks();
        let token = self.tokens.peek();
        if !matches!(token.kind, Kind::Comment | Kind::NewLine | Kind::End)
            && !self.tokens.statement_begins()
        {
            let span = self.span(token.start, token.end);
            let found = token.describe(self.text);
            self.syntax(span, format!("{found} stands behind {what}"))
                .expected("the end of the line");
            self.tokens.skip_line();
        }
    }
}
