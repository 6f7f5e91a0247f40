//! Strings, keys, numbers and words of JSON.

use super::Parser;
use crate::diagnostic::quoted;
use crate::tree::{Node, Span, Text, Value};

impl Parser<'_, '_> {
    /// A key; one in the wrong quotes or in none is reported and used.
    pub(super) fn key(&mut self) -> Option<(String, Span)> {
        let start = self.at;
        match self.peek() {
            Some(b'"' | b'\'') => {
                let (text, _) = self.string()?;
                Some((text, self.span(start, self.at)))
            }
            _ => {
                let end = self.word_end();
                let span = self.span(start, end.max(start + 1));
                let word = self.text[start..end].to_owned();
                let is_key = !word.is_empty()
                    && word
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                let found = self.found();
                self.at = end.max(start + self.first_length());
                if is_key {
                    self.syntax(span, format!("the key {word} is not in double quotes"))
                        .suggest(Some(format!("\"{word}\"")));
                    Some((word, span))
                } else {
                    self.syntax(span, format!("{found} is no key"))
                        .expected("a key in double quotes");
                    None
                }
            }
        }
    }

    pub(super) fn string_value(&mut self) -> Node {
        let start = self.at;
        let value = match self.string() {
            Some((text, verbatim)) => Value::Text(Text {
                text,
                verbatim_at: verbatim.then_some(start as u32 + 1),
            }),
            None => Value::Damaged,
        };
        Node::new(self.span(start, self.at), value)
    }

    /// The text, and whether it stands in the source as it is. A text that is not closed ends with its line.
    fn string(&mut self) -> Option<(String, bool)> {
        let start = self.at;
        let quote = self.bytes[start];
        self.at += 1;
        let mut text = String::new();
        let (mut verbatim, mut is_good) = (true, true);
        loop {
            let rest = &self.text[self.at..];
            let plain = rest
                .find(|c: char| c == quote as char || c == '\\' || c.is_ascii_control())
                .unwrap_or(rest.len());
            text.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(byte) if byte == quote => {
                    self.at += 1;
                    break;
                }
                Some(b'\\') => {
                    verbatim = false;
                    let at = self.at;
                    match self.escape() {
                        Some(character) => text.push(character),
                        None => {
                            if is_good {
                                let shown: String = self.text[at..].chars().take(2).collect();
                                let span = self.span(at, at + shown.len());
                                self.syntax(
                                    span,
                                    format!(
                                        "the text has an escape that JSON does not know, {shown}"
                                    ),
                                )
                                .expected("\\\\, \\\", \\n, \\t or \\uNNNN");
                            }
                            is_good = false;
                        }
                    }
                }
                Some(b'\n' | b'\r') | None => {
                    let span = self.span(start, self.at);
                    let quote = char::from(quote).to_string();
                    self.syntax(span, "the text is never closed")
                        .expected(quote);
                    self.gave_up_line = true;
                    return None;
                }
                Some(_) => {
                    if is_good {
                        let span = self.span(self.at, self.at + 1);
                        self.syntax(span, "the text has a control character in it")
                            .expected("an escape such as \\t or \\u0007");
                    }
                    is_good = false;
                    self.at += 1;
                }
            }
        }
        if quote == b'\'' && is_good {
            let span = self.span(start, self.at);
            let inner = self.text[start + 1..self.at - 1].to_owned();
            self.syntax(span, "the text is in single quotes")
                .suggest(Some(format!("\"{inner}\"")));
        }
        is_good.then_some((text, verbatim))
    }

    /// An escape; the parser stands behind it, or behind its backslash and the character after that when it is none.
    fn escape(&mut self) -> Option<char> {
        let rest = &self.bytes[self.at + 1..];
        let Some(first) = rest.first() else {
            self.at += 1;
            return None;
        };
        let simple = match first {
            b'"' => '"',
            b'\'' => '\'',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => {
                self.at += 1;
                // The end of the line still ends the text.
                if !matches!(self.peek(), Some(b'\n' | b'\r')) {
                    self.at += self.first_length();
                }
                return None;
            }
        };
        self.at += 2;
        // JSON knows no \'.
        (simple != '\'').then_some(simple)
    }

    /// `\uNNNN`, two of them for a character beyond the first 65,536.
    fn unicode(&mut self) -> Option<char> {
        let unit = |at: usize| -> Option<u32> {
            let digits = self.text.get(at..at + 6)?.strip_prefix("\\u")?;
            let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)
        };
        let Some(first) = unit(self.at) else {
            self.at += 2;
            return None;
        };
        let second = unit(self.at + 6).filter(|unit| (0xdc00..0xe000).contains(unit));
        self.at += 6;
        if (0xd800..0xdc00).contains(&first) {
            let second = second?;
            self.at += 6;
            return char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00));
        }
        char::from_u32(first)
    }

    /// A number, `true`, `false`, `null`, or a word that is none of these.
    pub(super) fn word(&mut self) -> Node {
        let start = self.at;
        let end = self.word_end().max(start + self.first_length());
        self.at = end;
        let span = self.span(start, end);
        let word = &self.text[start..end];
        let value = match word {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            "null" => Value::Null,
            _ if is_number(word) => match word.parse::<i64>() {
                Ok(number) => Value::Integer(number),
                Err(_) if word.contains(['.', 'e', 'E']) => Value::Float,
                Err(_) => {
                    let message = format!("{} is too large a number", quoted(word));
                    self.syntax(span, message);
                    Value::Damaged
                }
            },
            _ => {
                let word = word.to_owned();
                self.bad_word(&word, span);
                Value::Damaged
            }
        };
        Node::new(span, value)
    }

    fn bad_word(&mut self, word: &str, span: Span) {
        let lower = word.to_lowercase();
        let meant = match lower.as_str() {
            "true" | "yes" | "on" => "true".to_owned(),
            "false" | "no" | "off" => "false".to_owned(),
            "none" | "nil" | "undefined" => "null".to_owned(),
            _ => format!("\"{}\"", word.trim_matches(['\'', '“', '”', '‘', '’', '`'])),
        };
        let is_number = word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
            && word
                .bytes()
                .all(|b| b.is_ascii_hexdigit() || b"+-_.xob".contains(&b));
        if is_number {
            self.syntax(
                span,
                format!("{} is no number as JSON writes them", quoted(word)),
            )
            .expected("digits without a leading zero, or text in double quotes");
        } else {
            self.syntax(span, format!("{} is not in double quotes", quoted(word)))
                .suggest(Some(meant).filter(|text| text.len() <= 80));
        }
    }

    fn word_end(&self) -> usize {
        let rest = &self.text[self.at..];
        let length = rest
            .find(|c: char| c.is_whitespace() || "{}[]:,\"".contains(c))
            .unwrap_or(rest.len());
        self.at + length
    }

    /// Bytes of the character that stands here.
    fn first_length(&self) -> usize {
        let character = self.text[self.at..].chars().next();
        character.map_or(0, char::len_utf8)
    }
}

/// RFC 8259 §6.
fn is_number(word: &str) -> bool {
    let rest = word.strip_prefix('-').unwrap_or(word);
    let (whole, rest) = digits(rest);
    if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
        return false;
    }
    let rest = match rest.strip_prefix('.') {
        Some(after) => match digits(after) {
            ("", _) => return false,
            (_, rest) => rest,
        },
        None => rest,
    };
    match rest.strip_prefix(['e', 'E']) {
        Some(after) => {
            let (exponent, rest) = digits(after.strip_prefix(['+', '-']).unwrap_or(after));
            !exponent.is_empty() && rest.is_empty()
        }
        None => rest.is_empty(),
    }
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}
