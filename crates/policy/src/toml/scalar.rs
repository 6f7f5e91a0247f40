//! Keys and single values: decoding is `toml_parser`'s, the words of the mistakes are ours.

use toml_parser::decoder::{Encoding, ScalarKind};
use toml_parser::lexer::TokenKind;
use toml_parser::{ErrorSink, ParseError, Raw, Span};

use super::token::{Kind, Token, Tokens};
use crate::diagnostic::quoted;
use crate::tree::{Text, Value};

/// A value that could be read, or what is wrong with it; offsets are those of the text.
pub(super) enum Scalar {
    Good {
        start: usize,
        end: usize,
        value: Decoded,
    },
    Bad {
        start: usize,
        end: usize,
        what: Mistake,
    },
}

pub(super) struct Mistake {
    pub(super) message: String,
    pub(super) expected: Option<String>,
    pub(super) suggestion: Option<String>,
}

pub(super) enum Decoded {
    /// With the bytes of the opening quote, if what follows stands there verbatim.
    Text(String, Option<usize>),
    Other(Value),
}

impl Decoded {
    pub(super) fn place(self, start: usize) -> Value {
        match self {
            Self::Text(text, quote) => Value::Text(Text {
                text,
                verbatim_at: quote.map(|quote| (start + quote) as u32),
            }),
            Self::Other(value) => value,
        }
    }
}

/// The first thing that the decoder does not like.
#[derive(Default)]
struct First(Option<ParseError>);

impl ErrorSink for First {
    fn report_error(&mut self, error: ParseError) {
        self.0.get_or_insert(error);
    }
}

/// A part of a key; `None` when the token is none at all.
pub(super) fn key(text: &str, token: Token) -> Option<Result<String, String>> {
    if !matches!(token.kind, Kind::Atom | Kind::Text) {
        return None;
    }
    let written = &text[token.start..token.end];
    let raw = Raw::new_unchecked(
        written,
        token.sort.encoding(),
        Span::new_unchecked(0, written.len()),
    );
    let (mut decoded, mut first) = (String::new(), First::default());
    raw.decode_key(&mut decoded, &mut first);
    Some(match first.0 {
        None => Ok(decoded),
        Some(_) => Err(format!("{} is no key", quoted(written))),
    })
}

/// The value that begins at the next token.
pub(super) fn read(text: &str, tokens: &mut Tokens<'_>) -> Scalar {
    let first = tokens.peek();
    if first.kind == Kind::Text {
        return in_quotes(text, tokens);
    }
    let start = first.start;
    let mut end = start;
    // Atoms and dots side by side are one word: 10.0.0.0/8, 1.5, 2027-01-01T00:00:00.5Z.
    while matches!(tokens.peek().kind, Kind::Atom | Kind::Dot) {
        end = tokens.next().end;
        let is_date =
            end - start == 10 && text[start..end].bytes().filter(|&b| b == b'-').count() == 2;
        // TOML lets a blank stand for the T.
        let time_follows = is_date
            && tokens.peek().kind == Kind::Blank
            && text[tokens.peek().start..tokens.peek().end] == *" "
            && tokens.peek_second().kind == Kind::Atom
            && text.as_bytes().get(tokens.peek_second().start + 2) == Some(&b':');
        if time_follows {
            tokens.next();
        }
    }
    let written = &text[start..end];
    let raw = Raw::new_unchecked(written, None, Span::new_unchecked(0, written.len()));
    let (mut decoded, mut problem) = (String::new(), First::default());
    let kind = raw.decode_scalar(&mut decoded, &mut problem);
    if problem.0.is_some() {
        let what = bare(written, kind);
        return Scalar::Bad { start, end, what };
    }
    let value = match kind {
        ScalarKind::Boolean(flag) => Value::Flag(flag),
        ScalarKind::Float => Value::Float,
        ScalarKind::DateTime => Value::Moment(decoded),
        ScalarKind::String => Value::Damaged,
        ScalarKind::Integer(radix) => match i64::from_str_radix(&decoded, radix.value()) {
            Ok(number) => Value::Integer(number),
            Err(_) => {
                let what = Mistake {
                    message: format!("{} is too large a number", quoted(written)),
                    expected: None,
                    suggestion: None,
                };
                return Scalar::Bad { start, end, what };
            }
        },
    };
    let value = Decoded::Other(value);
    Scalar::Good { start, end, value }
}

/// A bare word that is no value.
fn bare(written: &str, kind: ScalarKind) -> Mistake {
    let curly = ['“', '”', '‘', '’', '„', '«', '»'];
    let looks_numeric = !matches!(kind, ScalarKind::String | ScalarKind::Boolean(_))
        && written
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || b"+-_.xob".contains(&b));
    let (message, suggestion) = if written.contains(curly) {
        (
            format!("{} is in curly quotes", quoted(written)),
            format!("\"{}\"", written.trim_matches(curly)),
        )
    } else if looks_numeric {
        return Mistake {
            message: format!("{} is no number as TOML writes them", quoted(written)),
            expected: Some("digits without a leading zero, or text in quotes".to_owned()),
            suggestion: None,
        };
    } else if matches!(written, "yes" | "on" | "True" | "TRUE" | "Yes") {
        (
            format!("{} is no value", quoted(written)),
            "true".to_owned(),
        )
    } else if matches!(written, "no" | "off" | "False" | "FALSE" | "No") {
        (
            format!("{} is no value", quoted(written)),
            "false".to_owned(),
        )
    } else {
        let inner = written.trim_matches(['"', '\'']);
        (
            format!("the text {} is not in quotes", quoted(inner)),
            format!("\"{inner}\""),
        )
    };
    Mistake {
        message,
        expected: None,
        suggestion: Some(suggestion).filter(|text| text.len() <= 80),
    }
}

fn in_quotes(text: &str, tokens: &mut Tokens<'_>) -> Scalar {
    let token = tokens.next();
    let (start, mut end) = (token.start, token.end);
    let written = &text[start..end];
    let quote = match token.sort {
        TokenKind::MlLiteralString => "'''",
        TokenKind::MlBasicString => "\"\"\"",
        TokenKind::LiteralString => "'",
        _ => "\"",
    };
    let (mut decoded, mut problem) = (String::new(), First::default());
    let encoding = token.sort.encoding();
    let raw = Raw::new_unchecked(written, encoding, Span::new_unchecked(0, written.len()));
    let _: ScalarKind = raw.decode_scalar(&mut decoded, &mut problem);
    let Some(problem) = problem.0 else {
        let body = written.get(quote.len()..written.len() - quote.len());
        let verbatim = body == Some(decoded.as_str());
        let value = Decoded::Text(decoded, verbatim.then_some(quote.len()));
        return Scalar::Good { start, end, value };
    };
    let closed = written.len() >= 2 * quote.len() && written.ends_with(quote);
    let is_long = matches!(
        encoding,
        Some(Encoding::MlBasicString | Encoding::MlLiteralString)
    );
    // The decoder knows of escaped closing quotes, which `closed` does not.
    let at_end = problem
        .unexpected()
        .is_some_and(|span| span.start() >= written.len());
    let what = if !closed || at_end {
        if is_long {
            // It swallowed the rest of the file: read on in the next line.
            end = start + written.find('\n').unwrap_or(written.len());
            tokens.restart(end);
        }
        Mistake {
            message: "the text is never closed".to_owned(),
            expected: Some(quote.to_owned()),
            suggestion: None,
        }
    } else {
        let escape = problem.unexpected().and_then(|span| {
            let before = written.get(..span.start())?;
            let at = before.rfind('\\')?;
            written
                .get(at..)?
                .chars()
                .take(2)
                .collect::<String>()
                .into()
        });
        match escape {
            Some(escape) if !encoding.is_some_and(is_literal) => Mistake {
                message: format!("the text has an escape that TOML does not know, {escape}"),
                expected: Some(
                    "\\\\, \\\", \\n, \\t, \\xNN or \\uNNNN; in '…' a backslash needs no escape"
                        .to_owned(),
                ),
                suggestion: None,
            },
            _ => Mistake {
                message: "the text has a character that TOML does not allow in it".to_owned(),
                expected: Some("printable characters".to_owned()),
                suggestion: None,
            },
        }
    };
    Scalar::Bad { start, end, what }
}

fn is_literal(encoding: Encoding) -> bool {
    matches!(
        encoding,
        Encoding::LiteralString | Encoding::MlLiteralString
    )
}
