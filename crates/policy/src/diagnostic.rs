//! What is wrong with a policy, said so that the user understands it at once: where, what, what was expected, and the
//! nearest valid word. It is not an `Error` type of this crate's functions: loading never stops at the first mistake.

use std::fmt;

use serde::Serialize;
use serde::ser::SerializeStruct;

use crate::plan::Position;
use crate::witness::Witness;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// The policy can be used, but it may not do what its author meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One mistake. Printed as `file:line:column: error[code]: message; expected …; did you mean "…"?`; by `{:#}` with `[code] message`
/// instead, for where all are of one severity and that is said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What kind of mistake, in kebab-case; `docs/policy.md` lists them all.
    pub code: &'static str,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where.
    pub position: Position,
    /// What could have stood there.
    pub expected: Option<String>,
    /// What was probably meant, to be written there instead.
    pub suggestion: Option<String>,
    /// A packet that shows it.
    pub witness: Option<Witness>,
}

impl Diagnostic {
    /// Says what could have stood there.
    pub(crate) fn expected(&mut self, expected: impl Into<String>) -> &mut Self {
        self.expected = Some(expected.into());
        self
    }

    /// Says what was probably meant, when there is a guess.
    pub(crate) fn suggest(&mut self, suggestion: Option<impl Into<String>>) -> &mut Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }

    /// Whether this makes the policy unusable.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, code, .. } = self;
        if f.alternate() {
            write!(f, "{position}: [{code}] {}", self.message)?;
        } else {
            let severity = self.severity.name();
            write!(f, "{position}: {severity}[{code}]: {}", self.message)?;
        }
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        if let Some(witness) = &self.witness {
            write!(f, "; for example {witness:#}")?;
        }
        if let Some(suggestion) = &self.suggestion {
            // What has quotes in it is quoted otherwise, so that nobody copies one quote too many.
            let quote = if suggestion.contains('"') { '`' } else { '"' };
            write!(f, "; did you mean {quote}{suggestion}{quote}?")?;
        }
        Ok(())
    }
}

/// One flat object: `severity`, `code`, `message`, `file`, `line`, `column`, `expected`, `suggestion`, `witness`.
impl Serialize for Diagnostic {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Diagnostic", 9)?;
        object.serialize_field("severity", self.severity.name())?;
        object.serialize_field("code", self.code)?;
        object.serialize_field("message", &self.message)?;
        object.serialize_field("file", &self.position.file)?;
        object.serialize_field("line", &self.position.line)?;
        object.serialize_field("column", &self.position.column)?;
        object.serialize_field("expected", &self.expected)?;
        object.serialize_field("suggestion", &self.suggestion)?;
        object.serialize_field("witness", &self.witness)?;
        object.end()
    }
}

/// The option that a mistyped word most resembles: the same but for case and dashes, or within an edit for every three
/// letters, or one that begins with the word.
pub fn nearest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(word);
    // A long text is no mistyped word, and the distance costs the product of the lengths.
    if wanted.is_empty() || wanted.len() > 64 {
        return None;
    }
    let length = wanted.chars().count();
    options
        .into_iter()
        .filter_map(|option| {
            let candidate = plain(option);
            let distance = strsim::osa_distance(&wanted, &candidate);
            let abbreviates = length >= 2 && candidate.starts_with(&wanted);
            let extends = candidate.len() >= 3 && wanted.starts_with(&candidate);
            // A word of one letter resembles every other word of one letter.
            let resembles = length > 1 && distance <= ((length + 1) / 3).max(1);
            (resembles || abbreviates || extends).then_some((distance, option))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, option)| option)
}

/// `a, b or c`.
pub(crate) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.into_iter().collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, before)) => format!("{} or {last}", before.join(", ")),
    }
}

/// A text of the user's, quoted for a message: short, and without anything that could play with a terminal.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(60) {
        match character {
            '\\' | '"' | '\'' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_words() {
        let actions = ["allow", "deny", "reject", "limit", "ban"];
        for (word, meant) in [
            ("alow", Some("allow")),
            ("Deny", Some("deny")),
            ("rejct", Some("reject")),
            ("lim", Some("limit")),
            ("bann", Some("ban")),
            ("xyzzy", None),
            ("", None),
            ("a", None),
        ] {
            assert_eq!(nearest(word, actions), meant, "{word}");
        }
        assert_eq!(nearest("source-port", ["source_port"]), Some("source_port"));
    }

    #[test]
    fn lists_of_words() {
        assert_eq!(one_of(["a"]), "a");
        assert_eq!(one_of(["a", "b", "c"]), "a, b or c");
    }

    #[test]
    fn quoting_keeps_terminals_safe() {
        assert_eq!(quoted("a\x1b[31m\"b'"), "\"a\\u{1b}[31m\"b'\"");
        assert!(quoted(&"x".repeat(100)).ends_with("…\""));
    }
}
