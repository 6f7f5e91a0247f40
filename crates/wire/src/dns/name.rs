//! The canonical form of a domain name: one text for each name, in a buffer of fixed size.
//!
//! Labels stand in lower case with dots between them, without the root's dot at the end. A byte that is no printable ASCII, a
//! space, and a dot or backslash *inside* a label are written as `\DDD` (RFC 1035 section 5.1, RFC 4343 section 2.1). So a dot
//! always parts labels, two names have the same text only if DNS takes them for the same, and the text can be shown on a
//! terminal as it is.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::Defect;

/// Labels with their length bytes and the root's, on the wire (RFC 1035 section 2.3.4).
pub(super) const WIRE_MAX: usize = 255;
/// Bytes of one label (RFC 1035 section 2.3.4).
const LABEL_MAX: usize = 63;
/// The longest text: 250 bytes in four labels, each byte escaped, and three dots.
const TEXT_MAX: usize = 250 * 4 + 3;

/// For each byte its lower-case form, or 0 where it must be escaped.
const PLAIN: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        if byte != b'.' && byte != b'\\' {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// A domain name in canonical form; empty for the root.
///
/// Its 1 KiB is meant to be made once and written again for each name.
#[derive(Clone)]
pub struct Name {
    text: [u8; TEXT_MAX],
    len: usize,
}

impl Name {
    /// The root: no labels.
    pub const fn new() -> Self {
        Self {
            text: [0; TEXT_MAX],
            len: 0,
        }
    }

    /// Reads a name written by a person or a program, as in a list, a TLS server name or an HTTP host: labels between dots, in
    /// any case, perhaps with a dot at the end; `\X` and `\DDD` are escapes.
    ///
    /// # Errors
    /// A label is empty or above 63 bytes, the name is above 255 bytes on the wire, or an escape is incomplete. `.` alone is
    /// the root, an empty text is an error.
    pub fn from_text(text: &[u8]) -> Result<Self, Defect> {
        let mut name = Self::new();
        if text == b"." {
            return Ok(name);
        }
        let (mut label, mut len, mut wire) = ([0; LABEL_MAX], 0, 1);
        let mut rest = text;
        loop {
            let (byte, after) = match rest {
                [] | [b'.', ..] => {
                    wire += 1 + len;
                    if len == 0 {
                        return Err(Defect::LabelLength);
                    }
                    if wire > WIRE_MAX {
                        return Err(Defect::NameTooLong);
                    }
                    name.push(label.get(..len).unwrap_or_default())?;
                    len = 0;
                    if matches!(rest, [] | [b'.']) {
                        return Ok(name);
                    }
                    rest = &rest[1..];
                    continue;
                }
                [
                    b'\\',
                    a @ b'0'..=b'9',
                    b @ b'0'..=b'9',
                    c @ b'0'..=b'9',
                    after @ ..,
                ] => {
                    let value = [a, b, c]
                        .iter()
                        .fold(0, |value, digit| value * 10 + u16::from(**digit - b'0'));
                    (u8::try_from(value).map_err(|_| Defect::Escape)?, after)
                }
                [b'\\'] | [b'\\', b'0'..=b'9', ..] => return Err(Defect::Escape),
                [b'\\', byte, after @ ..] | [byte, after @ ..] => (*byte, after),
            };
            *label.get_mut(len).ok_or(Defect::LabelLength)? = byte;
            len += 1;
            rest = after;
        }
    }

    /// The text. Always ASCII without spaces and control characters.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        // `len` only grows with what was written, so the range is there.
        self.text.get(..self.len).unwrap_or_default()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // ASCII, so the text is UTF-8.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// True for the root, which has no labels.
    #[inline]
    pub const fn is_root(&self) -> bool {
        self.len == 0
    }

    /// The name and each name above it but the root: `a.b.c`, `b.c`, `c`.
    pub fn suffixes(&self) -> Suffixes<'_> {
        Suffixes {
            rest: self.as_bytes(),
        }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends a label.
    #[inline]
    pub(super) fn push(&mut self, label: &[u8]) -> Result<(), Defect> {
        let mut at = self.len;
        if at > 0 {
            *self.text.get_mut(at).ok_or(Defect::NameTooLong)? = b'.';
            at += 1;
        }
        let room = self
            .text
            .get_mut(at..at + label.len())
            .ok_or(Defect::NameTooLong)?;
        let mut all_plain = true;
        for (room, byte) in room.iter_mut().zip(label) {
            *room = PLAIN[usize::from(*byte)];
            all_plain &= *room != 0;
        }
        self.len = at + label.len();
        if all_plain {
            return Ok(());
        }
        self.len = at;
        self.push_escaped(label)
    }

    #[cold]
    fn push_escaped(&mut self, label: &[u8]) -> Result<(), Defect> {
        for byte in label {
            let plain = PLAIN[usize::from(*byte)];
            let escape = [
                b'\\',
                b'0' + byte / 100,
                b'0' + byte / 10 % 10,
                b'0' + byte % 10,
            ];
            let written = if plain == 0 { &escape[..] } else { &[plain] };
            self.text
                .get_mut(self.len..self.len + written.len())
                .ok_or(Defect::NameTooLong)?
                .copy_from_slice(written);
            self.len += written.len();
        }
        Ok(())
    }
}

impl Default for Name {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if self.is_root() { "." } else { self.as_str() })
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

/// Iterator over a name and the names above it.
#[derive(Clone, Debug)]
pub struct Suffixes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Suffixes<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let suffix = self.rest;
        if suffix.is_empty() {
            return None;
        }
        let dot = suffix.iter().position(|byte| *byte == b'.');
        self.rest = dot
            .and_then(|dot| suffix.get(dot + 1..))
            .unwrap_or_default();
        Some(suffix)
    }
}

impl std::iter::FusedIterator for Suffixes<'_> {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;

    fn text(text: &[u8]) -> Result<String, Defect> {
        Name::from_text(text).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn texts() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        for (written, read) in [
            ("Example.COM", Ok("example.com")),
            ("example.com.", Ok("example.com")),
            (".", Ok("")),
            ("_dmarc.x-y.Z0", Ok("_dmarc.x-y.z0")),
            ("a\\.b.c", Ok("a\\046b.c")),
            ("a\\046b.c", Ok("a\\046b.c")),
            ("\\097", Ok("a")),
            ("\\\\", Ok("\\092")),
            ("a b", Ok("a\\032b")),
            ("\u{fc}ber", Ok("\\195\\188ber")),
            (&longest, Ok(longest.as_str())),
            ("", Err(Defect::LabelLength)),
            ("..", Err(Defect::LabelLength)),
            ("a..b", Err(Defect::LabelLength)),
            (".a", Err(Defect::LabelLength)),
            (&format!("{label}a"), Err(Defect::LabelLength)),
            (&format!("{longest}b"), Err(Defect::NameTooLong)),
            ("a\\", Err(Defect::Escape)),
            ("a\\25", Err(Defect::Escape)),
            ("a\\256", Err(Defect::Escape)),
        ] {
            assert_eq!(
                text(written.as_bytes()),
                read.map(ToOwned::to_owned),
                "{written}"
            );
        }
    }

    #[test]
    fn the_longest_text_fits() {
        let written = [63, 63, 63, 61].map(|len| "\\255".repeat(len)).join(".");
        assert_eq!(text(written.as_bytes()).unwrap().len(), TEXT_MAX);
        assert_eq!(text(written.as_bytes()).unwrap(), written);
    }

    #[test]
    fn suffixes_go_up_to_the_last_label() {
        let above = |text: &[u8]| -> Vec<String> {
            let name = Name::from_text(text).unwrap();
            let suffixes = name.suffixes();
            suffixes
                .map(|suffix| String::from_utf8_lossy(suffix).into_owned())
                .collect()
        };
        assert_eq!(above(b"a.b.c"), ["a.b.c", "b.c", "c"]);
        // A dot inside a label parts nothing.
        assert_eq!(above(b"ads\\.example.com"), ["ads\\046example.com", "com"]);
        assert_eq!(above(b"."), [""; 0]);
    }

    #[test]
    fn the_root_is_shown_as_a_dot() {
        assert_eq!(Name::new().to_string(), ".");
        assert_eq!(format!("{:>6}", Name::from_text(b"a.b").unwrap()), "   a.b");
    }
}
