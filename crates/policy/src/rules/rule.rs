//! `ACTION [DIRECTION] [PROTOCOL] clauses…`: one rule.

use super::elsewhere;
use super::word::{Line, Word};
use super::{Statements, typed};
use crate::diagnostic::quoted;
use crate::fields::meant;
use crate::tree::{Node, Origin, Span, Table, Value, duplicate_key};

/// Words that begin a clause, or are one.
const CLAUSES: &[&str] = &[
    "in",
    "out",
    "forward",
    "direction",
    "protocol",
    "from",
    "to",
    "port",
    "source-port",
    "on",
    "log",
    "name",
    "comment",
    "expires",
    "for",
    "rate",
    "burst",
    "sni",
    "http-host",
    "payload",
    "contains",
    "hex",
    "regex",
    "at",
    "ignore-case",
    "min-len",
    "max-len",
    "stream",
    "depth",
    "every-packet",
    "disabled",
];

/// Clauses of one word.
const FLAGS: &[&str] = &["log", "ignore-case", "stream", "every-packet", "disabled"];

/// A rule as it grows.
struct Draft {
    rule: Table,
    payload: Table,
    payload_span: Option<Span>,
    rate: Table,
    rate_span: Option<Span>,
}

impl Statements<'_> {
    /// Reads a rule. Its action may be a mistyped one, which is reported: the rest of the rule is checked all the same.
    pub(super) fn rule(&mut self, action: &Word, mut line: Line) {
        let mut draft = Draft {
            rule: Table::new(Origin::Inline),
            payload: Table::new(Origin::Inline),
            payload_span: None,
            rate: Table::new(Origin::Inline),
            rate_span: None,
        };
        let is_action = super::RULE_STATEMENTS.contains(&action.text.as_str());
        let value = if is_action {
            Node::verbatim(action.span, &action.text)
        } else {
            Node::new(action.span, Value::Damaged)
        };
        draft.rule.push("action".to_owned(), action.span, value);
        let mut clause_seen = false;
        while let Some(word) = line.next() {
            let is_clause = !word.is_quoted && CLAUSES.contains(&word.text.as_str());
            if is_clause {
                clause_seen |= !matches!(word.text.as_str(), "in" | "out" | "forward");
                self.clause(&word, &mut line, &mut draft);
            } else if !word.is_quoted && begins_directions(&word.text) {
                let value = Node::verbatim(word.span, &word.text);
                self.put_in(&mut draft.rule, "direction", word.span, value);
            } else if !clause_seen && !word.is_quoted && draft.rule.get("protocol").is_none() {
                self.protocol(action, &word, &mut line, &mut draft);
            } else {
                self.stray(&word, &mut line);
                draft.rule.damaged = true;
                draft.payload.damaged = true;
            }
        }
        for (key, table, span) in [
            ("payload", draft.payload, draft.payload_span),
            ("rate", draft.rate, draft.rate_span),
        ] {
            if let Some(span) = span {
                let node = Node::new(span, Value::Table(table));
                draft.rule.push(key.to_owned(), span, node);
            }
        }
        let node = Node::new(action.span, Value::Table(draft.rule));
        self.rules.push(node);
    }

    /// The first word that is no clause is the protocol; one that resembles a clause is that clause, mistyped.
    fn protocol(&mut self, action: &Word, word: &Word, line: &mut Line, draft: &mut Draft) {
        let direction = draft
            .rule
            .get("direction")
            .and_then(|entry| entry.value.text());
        if let Some(foreign) = elsewhere::protocol(&action.text, direction, &word.text) {
            self.syntax(word.span, foreign.message)
                .expected(format!("{}, for example", foreign.example));
            draft.rule.damaged = true;
            draft.payload.damaged = true;
            // What follows is perhaps good; a protocol is not missing any more.
            let lost = Node::new(word.span, Value::Damaged);
            draft.rule.push("protocol".to_owned(), word.span, lost);
            return;
        }
        elsewhere::number(&action.text, &word.text, word.span, self.report);
        let protocols = crate::protocol::NAMES.iter().map(|(name, _)| *name);
        let is_protocol = protocols.clone().any(|name| name == word.text);
        let resembles_protocol =
            is_protocol || meant(&word.text, protocols.chain(["any"])).is_some();
        let resembles_clause = !is_protocol && meant(&word.text, CLAUSES.iter().copied()).is_some();
        let value_follows = line
            .peek_text()
            .is_some_and(|next| !CLAUSES.contains(&next))
            || line.peek().is_some_and(|next| next.is_quoted);
        if !resembles_protocol && resembles_clause && value_follows {
            self.stray(word, line);
            draft.rule.damaged = true;
            return;
        }
        // The word again, with what commas join to it.
        line.back();
        if let Some(value) = line.list(self.report) {
            draft.rule.push("protocol".to_owned(), word.span, value);
        }
    }

    /// A word that nothing allows here: reported, and what belongs to it passed over.
    fn stray(&mut self, word: &Word, line: &mut Line) {
        let valid = CLAUSES.iter().copied();
        let guess = meant(&word.text, valid);
        let message = format!("{} does not belong in a rule here", quoted(&word.text));
        self.syntax(word.span, message)
            .expected("a clause, such as from, to, port, on, log or name")
            .suggest(guess);
        while line
            .peek()
            .is_some_and(|next| next.is_quoted || !CLAUSES.contains(&next.text.as_str()))
        {
            line.next();
        }
    }

    fn clause(&mut self, word: &Word, line: &mut Line, draft: &mut Draft) {
        let span = word.span;
        let clause = word.text.as_str();
        if FLAGS.contains(&clause) {
            let flag = |on| Node::new(span, Value::Flag(on));
            match clause {
                "log" => self.put_in(&mut draft.rule, "log", span, flag(true)),
                "disabled" => self.put_in(&mut draft.rule, "enabled", span, flag(false)),
                "ignore-case" => self.put_payload(draft, "ignore_case", span, flag(true)),
                "stream" => self.put_payload(draft, "stream", span, flag(true)),
                _ => self.put_payload(draft, "every_packet", span, flag(true)),
            }
            return;
        }
        match clause {
            "in" | "out" | "forward" => {
                let value = Node::verbatim(span, clause);
                self.put_in(&mut draft.rule, "direction", span, value);
            }
            "payload" => {
                draft.payload_span.get_or_insert(span);
            }
            "rate" => self.rate(span, line, draft),
            "at" => self.bytes_at(span, line, draft),
            _ => {
                let end = line.end();
                let value = match clause {
                    "for" => self.duration(line),
                    "name" | "comment" | "contains" | "hex" | "regex" | "on" | "expires" => {
                        line.next_value()
                    }
                    _ => line.list(self.report),
                };
                let Some(value) = value else {
                    self.syntax(end, format!("nothing follows {clause}"));
                    draft.rule.damaged = true;
                    draft.payload.damaged = true;
                    return;
                };
                match clause {
                    "direction" | "protocol" | "from" | "to" | "port" | "name" | "comment"
                    | "expires" | "for" => self.put_in(&mut draft.rule, clause, span, value),
                    "sni" => self.put_in(&mut draft.rule, "sni", span, value),
                    "http-host" => self.put_in(&mut draft.rule, "http_host", span, value),
                    "source-port" => self.put_in(&mut draft.rule, "source_port", span, value),
                    "on" => self.put_in(&mut draft.rule, "interface", span, value),
                    "burst" => {
                        draft.rate_span.get_or_insert(span);
                        self.put_in(&mut draft.rate, "burst", span, typed(value));
                    }
                    "hex" => self.put_payload(draft, "contains_hex", span, value),
                    "contains" | "regex" => self.put_payload(draft, clause, span, value),
                    _ => {
                        let key = clause.replace('-', "_");
                        self.put_payload(draft, &key, span, typed(value));
                    }
                }
            }
        }
    }

    /// `10m`; of `10 minutes` both words, so that one message says what is wrong with it.
    fn duration(&mut self, line: &mut Line) -> Option<Node> {
        let number = line.next()?;
        let is_number = number.text.bytes().all(|byte| byte.is_ascii_digit());
        let unit = line
            .peek_text()
            .filter(|next| is_number && !CLAUSES.contains(next));
        let Some(unit) = unit.map(str::to_owned) else {
            line.back();
            return line.next_value();
        };
        let end = line.next().map_or(number.span, |word| word.span);
        let span = Span::new(
            number.span.file,
            number.span.start as usize,
            end.end as usize,
        );
        Some(Node::verbatim(span, &format!("{} {unit}", number.text)))
    }

    /// `rate 20/second`, `rate 20 packets/second`.
    fn rate(&mut self, span: Span, line: &mut Line, draft: &mut Draft) {
        let form = "rate 20/second, rate 20 packets/second or rate 1000 bytes/second";
        draft.rate_span.get_or_insert(span);
        draft.rate.damaged = true;
        let end = line.end();
        let Some(first) = line.next() else {
            self.syntax(end, "nothing follows rate").expected(form);
            return;
        };
        let (amount, unit, per_at) = if let Some((amount, per)) = first.text.split_once('/') {
            (
                amount.to_owned(),
                ("connections", first.span),
                (per.to_owned(), first.span),
            )
        } else {
            let known = |word: &Word| {
                let (unit, per) = word.text.split_once('/')?;
                Some((unit.to_owned(), per.to_owned()))
            };
            let Some((unit, per)) = line.peek().and_then(known) else {
                self.syntax(first.span, format!("{} is no rate", quoted(&first.text)))
                    .expected(form);
                return;
            };
            let at = line.next().map_or(first.span, |word| word.span);
            let Some(unit) = ["connections", "packets", "bytes"]
                .into_iter()
                .find(|known| *known == unit)
            else {
                let valid = ["connections", "packets", "bytes"];
                crate::fields::unknown_word(at, "rate", &unit, valid, self.report);
                self.put_period(draft, at, &per);
                return;
            };
            (first.text.clone(), (unit, at), (per, at))
        };
        draft.rate.damaged = false;
        let amount = typed(Node::verbatim(first.span, &amount));
        self.put_in(&mut draft.rate, unit.0, first.span, amount);
        let (per, at) = per_at;
        self.put_period(draft, at, &per);
    }

    /// The `second` of `20/second`, which ends at `at`.
    fn put_period(&mut self, draft: &mut Draft, at: Span, per: &str) {
        let from = at.end as usize - per.len();
        let at = Span::new(at.file, from, at.end as usize);
        self.put_in(&mut draft.rate, "per", at, Node::verbatim(at, per));
    }

    /// `at 0 bytes "68 ?? 00"`.
    fn bytes_at(&mut self, span: Span, line: &mut Line, draft: &mut Draft) {
        let form = "at OFFSET bytes \"68 ?? 00\"";
        let end = line.end();
        let Some(offset) = line.next_value() else {
            self.syntax(end, "nothing follows at").expected(form);
            draft.rule.damaged = true;
            return;
        };
        let end = line.end();
        let is_bytes = line.peek_is("bytes");
        let key = if is_bytes { line.next() } else { None };
        let value = key.as_ref().and_then(|_| line.next_value());
        match (key, value) {
            (Some(key), Some(value)) => {
                self.put_payload(draft, "offset", span, typed(offset));
                self.put_payload(draft, "bytes", key.span, value);
            }
            _ => {
                self.syntax(end, "at is not followed by bytes")
                    .expected(form);
                draft.payload_span.get_or_insert(span);
                draft.payload.damaged = true;
            }
        }
    }

    fn put_payload(&mut self, draft: &mut Draft, key: &str, span: Span, value: Node) {
        draft.payload_span.get_or_insert(span);
        self.put_in(&mut draft.payload, key, span, value);
    }

    fn put_in(&mut self, table: &mut Table, key: &str, span: Span, value: Node) {
        match table.get(key).map(|entry| entry.key_span) {
            Some(first) => duplicate_key(key, span, first, self.report),
            None => {
                table.push(key.to_owned(), span, value);
            }
        }
    }
}

/// `in,forward`.
fn begins_directions(word: &str) -> bool {
    word.contains(',')
        && word
            .split(',')
            .all(|part| matches!(part, "in" | "out" | "forward"))
}
