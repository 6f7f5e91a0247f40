//! The tokens of a TOML text, and where reading can go on after a mistake.

use toml_parser::Source;
use toml_parser::lexer::TokenKind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dot,
    Equals,
    Comma,
    OpenBracket,
    CloseBracket,
    OpenBrace,
    CloseBrace,
    Blank,
    Comment,
    NewLine,
    /// In quotes of any of the four sorts, closed or not.
    Text,
    /// Anything else: a bare key, a number, a word that lacks its quotes.
    Atom,
    End,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// How the lexer calls it: says the sort of quotes.
    pub(super) sort: TokenKind,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Token {
    /// For messages.
    pub(super) fn describe(&self, text: &str) -> String {
        match self.kind {
            Kind::NewLine | Kind::Comment => "the end of the line".to_owned(),
            Kind::End => "the end of the file".to_owned(),
            Kind::Text => {
                let inner = text[self.start..self.end].trim_matches(['"', '\'']);
                crate::diagnostic::quoted(inner)
            }
            _ => crate::diagnostic::quoted(&text[self.start..self.end]),
        }
    }
}

pub(super) struct Tokens<'t> {
    tokens: Vec<Token>,
    next: usize,
    text: &'t str,
}

impl<'t> Tokens<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let mut tokens = Vec::new();
        lex(text, 0, &mut tokens);
        Self {
            tokens,
            next: 0,
            text,
        }
    }

    /// Where comments and line ends have a control character that they must not have: the first of each.
    pub(super) fn control_characters(&self) -> impl Iterator<Item = usize> {
        self.tokens.iter().filter_map(|token| {
            let written = &self.text[token.start..token.end];
            let is_bad = |c: char| c.is_ascii_control() && c != '\t';
            match token.kind {
                Kind::Comment => written.find(is_bad).map(|at| token.start + at),
                Kind::NewLine if written == "\r" => Some(token.start),
                _ => None,
            }
        })
    }

    /// The next token; the last one is [`Kind::End`] and is never passed.
    pub(super) fn peek(&self) -> Token {
        self.tokens[self.next]
    }

    /// The one after the next.
    pub(super) fn peek_second(&self) -> Token {
        self.tokens[(self.next + 1).min(self.tokens.len() - 1)]
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.peek();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    /// Where the token before, blanks and line ends aside, ends.
    pub(super) fn previous_end(&self) -> usize {
        let mut passed = self.tokens[..self.next].iter().rev();
        passed
            .find(|token| !matches!(token.kind, Kind::Blank | Kind::NewLine | Kind::Comment))
            .map_or(0, |token| token.end)
    }

    pub(super) fn skip_blanks(&mut self) {
        while self.peek().kind == Kind::Blank {
            self.next();
        }
    }

    /// Skips comments too; whether a line ended.
    pub(super) fn skip_blanks_and_lines(&mut self) -> bool {
        let mut line_ended = false;
        loop {
            match self.peek().kind {
                Kind::Blank | Kind::Comment => {}
                Kind::NewLine => line_ended = true,
                _ => return line_ended,
            }
            self.next();
        }
    }

    /// To the end of this line, not past it.
    pub(super) fn skip_line(&mut self) {
        while !matches!(self.peek().kind, Kind::NewLine | Kind::End) {
            self.next();
        }
    }

    /// To the next comma, closing bracket or end of line.
    pub(super) fn skip_in_brackets(&mut self) {
        while !matches!(
            self.peek().kind,
            Kind::NewLine | Kind::End | Kind::Comma | Kind::CloseBrace | Kind::CloseBracket
        ) {
            self.next();
        }
    }

    /// Whether a line that can only be `key = value`, `[key]` or `[[key]]` begins at the next token.
    pub(super) fn statement_begins(&self) -> bool {
        self.statement_begins_at(self.next)
    }

    /// No list item looks so, but for `[[1]]` and its like, whose "key" is a value.
    fn statement_begins_at(&self, place: usize) -> bool {
        let mut before = self.tokens[..place].iter().rev();
        let begins_line = before
            .find(|token| token.kind != Kind::Blank)
            .is_none_or(|token| token.kind == Kind::NewLine);
        if !begins_line {
            return false;
        }
        let mut rest = self.tokens[place..]
            .iter()
            .filter(|token| token.kind != Kind::Blank)
            .peekable();
        let mut brackets = 0;
        while brackets < 2 && rest.next_if(|t| t.kind == Kind::OpenBracket).is_some() {
            brackets += 1;
        }
        loop {
            let is_key = rest.next().is_some_and(|token| match token.kind {
                Kind::Text => brackets == 0,
                Kind::Atom => brackets == 0 || !is_value(&self.text[token.start..token.end]),
                _ => false,
            });
            if !is_key {
                return false;
            }
            match rest.next().map(|token| token.kind) {
                Some(Kind::Dot) => {}
                Some(Kind::Equals) => return brackets == 0,
                Some(Kind::CloseBracket) => return brackets > 0,
                _ => return false,
            }
        }
    }

    /// Whether the bracket that is open here is closed soon and before the next header: then only a comma is missing.
    pub(super) fn closes_before_header(&self, close: Kind) -> bool {
        const SOON: usize = 4_096;
        let mut open = 0_u32;
        let ahead = self.tokens.iter().enumerate().skip(self.next).take(SOON);
        for (place, token) in ahead {
            match token.kind {
                Kind::OpenBracket if self.statement_begins_at(place) => return false,
                Kind::OpenBracket | Kind::OpenBrace => open += 1,
                Kind::CloseBracket | Kind::CloseBrace if open > 0 => open -= 1,
                Kind::CloseBracket | Kind::CloseBrace => return token.kind == close,
                _ => {}
            }
        }
        false
    }

    /// Reads on from `from` as if nothing before it had been opened: for a text whose quotes are never closed.
    pub(super) fn restart(&mut self, from: usize) {
        self.tokens.truncate(self.next);
        lex(self.text, from, &mut self.tokens);
    }
}

/// Whether a bare word is a value rather than a key, where it could be either.
fn is_value(word: &str) -> bool {
    matches!(word, "true" | "false" | "inf" | "nan")
        || word.starts_with(|first: char| first.is_ascii_digit() || "+-".contains(first))
}

fn lex(text: &str, from: usize, tokens: &mut Vec<Token>) {
    for token in Source::new(&text[from..]).lex() {
        let kind = match token.kind() {
            TokenKind::Dot => Kind::Dot,
            TokenKind::Equals => Kind::Equals,
            TokenKind::Comma => Kind::Comma,
            TokenKind::LeftSquareBracket => Kind::OpenBracket,
            TokenKind::RightSquareBracket => Kind::CloseBracket,
            TokenKind::LeftCurlyBracket => Kind::OpenBrace,
            TokenKind::RightCurlyBracket => Kind::CloseBrace,
            TokenKind::Whitespace => Kind::Blank,
            TokenKind::Comment => Kind::Comment,
            TokenKind::Newline => Kind::NewLine,
            TokenKind::LiteralString
            | TokenKind::BasicString
            | TokenKind::MlLiteralString
            | TokenKind::MlBasicString => Kind::Text,
            TokenKind::Atom => Kind::Atom,
            TokenKind::Eof => Kind::End,
        };
        tokens.push(Token {
            kind,
            sort: token.kind(),
            start: from + token.span().start(),
            end: from + token.span().end(),
        });
    }
}
