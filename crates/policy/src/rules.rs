//! `rules.txt` into the tree: one statement a line, `#` begins a comment. A mistake costs its own line, never another.
//!
//! The statements say exactly what the TOML form can say; `docs/policy.md` has the grammar.

mod elsewhere;
mod rule;
mod word;

use crate::diagnostic::{one_of, quoted};
use crate::fields::meant;
use crate::report::Report;
use crate::tree::{Entry, Node, Origin, Span, Table, Value};
use word::{Line, Word};

const RULE_STATEMENTS: &[&str] = &["allow", "deny", "reject", "limit", "ban"];

const OTHER_STATEMENTS: &[&str] = &[
    "default",
    "set",
    "feed",
    "include",
    "mode",
    "on-failure",
    "essentials",
    "protect",
    "detect",
    "option",
];

/// Whether a word begins a statement.
pub(crate) fn is_statement(word: &str) -> bool {
    RULE_STATEMENTS.contains(&word) || OTHER_STATEMENTS.contains(&word)
}

/// The table of a whole file.
pub(crate) fn parse(file: u32, report: &mut Report) -> Table {
    // The text is needed while the report is written to.
    let text = report.text(file).to_owned();
    let mut reader = Statements {
        file,
        report,
        root: Table::default(),
        sets: Table::default(),
        feeds: Table::default(),
        rules: Vec::new(),
    };
    let mut start = if text.starts_with('\u{feff}') { 3 } else { 0 };
    for line in text[start..].split_inclusive('\n') {
        let words = word::split(line, start, file, reader.report);
        start += line.len();
        // `None` is a line whose quotes are wrong, which is reported.
        if let Some(words) = words
            && !words.is_empty()
        {
            reader.statement(Line::new(words));
        }
    }
    let Statements {
        mut root,
        sets,
        feeds,
        rules,
        ..
    } = reader;
    let whole = Span::new(file, 0, 0);
    for (key, value) in [
        ("sets", Value::Table(sets)),
        ("feeds", Value::Table(feeds)),
        ("rule", Value::List(rules)),
    ] {
        root.push(key.to_owned(), whole, Node::new(whole, value));
    }
    root
}

struct Statements<'r> {
    file: u32,
    report: &'r mut Report,
    root: Table,
    sets: Table,
    feeds: Table,
    rules: Vec<Node>,
}

impl Statements<'_> {
    fn syntax(&mut self, span: Span, message: impl Into<String>) -> &mut crate::Diagnostic {
        self.report.error(span, "rules-syntax", message)
    }

    fn statement(&mut self, mut line: Line) {
        let Some(first) = line.next() else {
            return;
        };
        match first.text.as_str() {
            "allow" | "deny" if line.peek_is("dns") => self.dns(&first, line),
            word if RULE_STATEMENTS.contains(&word) => self.rule(&first, line),
            "default" => self.default(line),
            "set" | "feed" => self.set(&first, line),
            "include" => self.include(&first, line),
            "mode" => self.single(&first, &["mode"], line),
            "on-failure" => self.single(&first, &["on_failure"], line),
            "essentials" => self.single(&first, &["essentials"], line),
            "protect" => self.protect(&first, line),
            "detect" => self.detect(line),
            "option" => self.option(line),
            unknown => {
                let valid = RULE_STATEMENTS.iter().chain(OTHER_STATEMENTS).copied();
                let guess = meant(unknown, valid.clone());
                let message = format!("no statement begins with {}", quoted(unknown));
                self.syntax(first.span, message)
                    .expected(one_of(valid))
                    .suggest(guess);
                if guess.is_some_and(|guess| RULE_STATEMENTS.contains(&guess)) {
                    self.rule(&first, line);
                }
            }
        }
    }

    /// The value that has to follow; reported when it does not.
    fn value(&mut self, line: &mut Line, what: &str) -> Option<Node> {
        let end = line.end();
        let value = line.list(self.report);
        if value.is_none() {
            self.syntax(end, format!("{what} is missing"));
        }
        value
    }

    /// Nothing may follow.
    fn end(&mut self, line: &mut Line) {
        if let Some(word) = line.next() {
            let message = format!(
                "{} stands behind the end of the statement",
                quoted(&word.text)
            );
            self.syntax(word.span, message)
                .expected("the end of the line, or # and a comment");
        }
    }

    /// Sets a key by its path from the root; tables on the way are made.
    fn put(&mut self, path: &[(&str, Span)], value: Node) {
        let Some(((key, span), before)) = path.split_last() else {
            return;
        };
        let leaf = Entry {
            key: (*key).to_owned(),
            key_span: *span,
            value,
        };
        let whole = before.iter().rev().fold(leaf, |inner, (key, span)| {
            let mut table = Table::new(Origin::Inline);
            table.push(inner.key, inner.key_span, inner.value);
            Entry {
                key: (*key).to_owned(),
                key_span: *span,
                value: Node::new(*span, Value::Table(table)),
            }
        });
        self.root.merge(whole, self.report);
    }

    /// `mode enforce`.
    fn single(&mut self, first: &Word, path: &[&str], mut line: Line) {
        let what = format!("a value for {}", first.text);
        if let Some(value) = self.value(&mut line, &what) {
            let value = if first.text == "essentials" {
                switch(value)
            } else {
                value
            };
            let path: Vec<_> = path.iter().map(|key| (*key, first.span)).collect();
            self.put(&path, value);
            self.end(&mut line);
        }
    }

    /// `default in deny`.
    fn default(&mut self, mut line: Line) {
        const DIRECTIONS: &[(&str, &str)] = &[
            ("in", "inbound"),
            ("out", "outbound"),
            ("forward", "forward"),
        ];
        let end = line.end();
        let Some(direction) = line.next() else {
            self.syntax(end, "a direction is missing")
                .expected("default in deny, or out or forward, and allow or reject");
            return;
        };
        let key = DIRECTIONS.iter().find(|(word, _)| *word == direction.text);
        let Some((_, key)) = key else {
            if let Some(example) = elsewhere::default(&direction.text, line.peek_text()) {
                let message = format!(
                    "a default names its direction first, and {} is none",
                    quoted(&direction.text)
                );
                self.syntax(direction.span, message)
                    .expected(format!("{example}, for example"));
                return;
            }
            let valid = DIRECTIONS.iter().map(|(word, _)| *word);
            crate::fields::unknown_word(
                direction.span,
                "default",
                &direction.text,
                valid,
                self.report,
            );
            // Of which direction it is does not matter to whether there is such a default.
            if let Some(value) = self.value(&mut line, "allow, deny or reject") {
                crate::read::check_default(&value, self.report);
                self.end(&mut line);
            }
            return;
        };
        if let Some(value) = self.value(&mut line, "allow, deny or reject") {
            self.put(&[("default", direction.span), (key, direction.span)], value);
            self.end(&mut line);
        }
    }

    /// `set office 192.0.2.0/24 2001:db8::/48`, `feed drop file lists/drop.netset format netset`.
    fn set(&mut self, first: &Word, mut line: Line) {
        let end = line.end();
        let Some(name) = line.next() else {
            self.syntax(end, format!("the name of the {} is missing", first.text))
                .expected(format!(
                    "{} NAME ADDRESS… or {} NAME file PATH",
                    first.text, first.text
                ));
            return;
        };
        let value = if line.peek_is("file") {
            let key = line.next().map_or(name.span, |word| word.span);
            let path = self.value(&mut line, "the path of a file");
            let path = path.unwrap_or_else(|| Node::new(line.end(), Value::Damaged));
            let mut table = Table::new(Origin::Inline);
            let span = path.span;
            table.push("file".to_owned(), key, path);
            if line.peek_is("format") {
                let key = line.next().map_or(span, |word| word.span);
                if let Some(format) = self.value(&mut line, "a format") {
                    table.push("format".to_owned(), key, format);
                }
            }
            self.end(&mut line);
            Node::new(span, Value::Table(table))
        } else {
            // Without addresses the name is known all the same: that it is used is no second mistake.
            let items = self.items(&mut line, "an address, or file PATH");
            items.unwrap_or_else(|| Node::new(line.end(), Value::Damaged))
        };
        let sets = if first.text == "set" {
            &mut self.sets
        } else {
            &mut self.feeds
        };
        let present = sets.get(&name.text).map(|entry| entry.key_span);
        if let Some(present) = present {
            let present = self.report.place(present, self.file);
            let message = format!(
                "there is a {} {} already, at {present}",
                first.text,
                quoted(&name.text)
            );
            self.report.error(name.span, "duplicate-set", message);
            return;
        }
        sets.push(name.text, name.span, value);
    }

    /// Everything up to the end of the line, in one list.
    fn items(&mut self, line: &mut Line, what: &str) -> Option<Node> {
        let first = self.value(line, what)?;
        let span = first.span;
        let mut all = Vec::new();
        let mut next = Some(first);
        while let Some(node) = next {
            match node.value {
                Value::List(mut items) => all.append(&mut items),
                _ => all.push(node),
            }
            next = line.list(self.report);
        }
        Some(Node::new(span, Value::List(all)))
    }

    /// Stands among the rules, at its place.
    fn include(&mut self, first: &Word, mut line: Line) {
        let Some(paths) = self.items(&mut line, "the path of a file or folder") else {
            return;
        };
        let mut table = Table::new(Origin::Inline);
        table.push("include".to_owned(), first.span, paths);
        self.rules.push(Node::new(first.span, Value::Table(table)));
    }

    /// `protect 192.0.2.1 @office`, `protect discover off`.
    fn protect(&mut self, first: &Word, mut line: Line) {
        let begin = ("protect", first.span);
        if line.peek_is("discover") {
            let key = line.next().map_or(first.span, |word| word.span);
            if let Some(value) = self.value(&mut line, "on or off") {
                self.put(&[begin, ("discover", key)], switch(value));
                self.end(&mut line);
            }
            return;
        }
        if let Some(items) = self.items(&mut line, "an address or @SET") {
            self.put(&[begin, ("addresses", first.span)], items);
        }
    }

    /// `detect blocked off`, `detect blocked packets 50 window 60s`: keys and values of one detector.
    fn detect(&mut self, mut line: Line) {
        let end = line.end();
        let Some(name) = line.next() else {
            self.syntax(end, "the name of the detector is missing")
                .expected("detect NAME on, detect NAME off or detect NAME KEY VALUE …");
            return;
        };
        let begin = [("detect", name.span), (name.text.as_str(), name.span)];
        if matches!(line.peek_text(), Some("on" | "off")) {
            if let Some(value) = line.list(self.report) {
                let path = [begin[0], begin[1], ("enabled", name.span)];
                self.put(&path, switch(value));
            }
            self.end(&mut line);
            return;
        }
        if line.peek_text().is_none() {
            self.syntax(line.end(), "the detector is given nothing")
                .expected("on, off or KEY VALUE …");
        }
        while let Some(key) = line.next() {
            let Some(value) = self.value(&mut line, &format!("a value for {}", key.text)) else {
                return;
            };
            let name = key.text.replace('-', "_");
            let path = [begin[0], begin[1], (name.as_str(), key.span)];
            self.put(&path, typed(value));
        }
    }

    /// `option ban.duration 10m`: any setting by its path.
    fn option(&mut self, mut line: Line) {
        let end = line.end();
        let Some(path) = line.next() else {
            self.syntax(end, "the name of the setting is missing")
                .expected("option SECTION.KEY VALUE, such as option ban.duration 10m");
            return;
        };
        let parts: Vec<_> = path.text.split('.').collect();
        let reserved = ["rule", "rules", "sets", "feeds", "include"];
        if parts.iter().any(|part| part.is_empty())
            || reserved.contains(&parts[0])
            || parts.len() > 4
        {
            let message = format!("{} is no setting", quoted(&path.text));
            self.syntax(path.span, message)
                .expected("SECTION.KEY, such as ban.duration");
            return;
        }
        let Some(first) = line.list(self.report) else {
            self.syntax(line.end(), format!("a value for {} is missing", path.text));
            return;
        };
        let mut values = vec![first];
        while let Some(more) = line.list(self.report) {
            values.push(more);
        }
        let value = match values.pop() {
            Some(only) if values.is_empty() => typed(only),
            Some(last) => {
                values.push(last);
                let span = values[0].span;
                let flat = values.into_iter().flat_map(|node| match node.value {
                    Value::List(items) => items,
                    _ => vec![node],
                });
                Node::new(span, Value::List(flat.map(typed).collect()))
            }
            None => return,
        };
        let parts: Vec<_> = parts.iter().map(|part| (*part, path.span)).collect();
        self.put(&parts, value);
    }

    /// `deny dns *.ads.example`.
    fn dns(&mut self, first: &Word, mut line: Line) {
        let word = line.next().map_or(first.span, |word| word.span);
        if let Some(items) = self.items(&mut line, "a domain, such as *.ads.example") {
            let key = if first.text == "deny" {
                "block"
            } else {
                "allow"
            };
            self.put(&[("dns", word), (key, word)], items);
        }
    }
}

/// `on` and `off` are true and false.
fn switch(node: Node) -> Node {
    let flag = match node.text() {
        Some("on" | "true") => true,
        Some("off" | "false") => false,
        _ => return node,
    };
    Node::new(node.span, Value::Flag(flag))
}

/// A bare word as the kind of value that it looks like.
fn typed(node: Node) -> Node {
    let Some(text) = node.text() else {
        return node;
    };
    if let Ok(number) = text.parse::<i64>() {
        return Node::new(node.span, Value::Integer(number));
    }
    switch(node)
}
