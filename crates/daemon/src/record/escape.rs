//! Text that cannot hurt a terminal, a log reader or the person before it: control characters (ANSI sequences, newlines),
//! invisible characters and those that turn the writing direction come out as visible escapes.

use std::fmt::{self, Write as _};
use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter};

/// Shows its text on one line without anything that a terminal would act on. A backslash is doubled, so that the escapes are
/// unambiguous.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                _ if is_hazard(character) => write!(f, "\\u{{{:x}}}", u32::from(character))?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// Bytes as text: what is not UTF-8 becomes `\xNN`, the rest as [`Escaped`].
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        // Writing into a String cannot fail.
        let _ = write!(text, "{}", Escaped(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Whether a character may change what other characters look like, or do something in a terminal: C0, DEL and C1 controls,
/// line and paragraph separators, marks that turn the direction (Unicode UAX #9), zero-width characters, tags, the byte order
/// mark.
pub fn is_hazard(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Appends `value` as JSON on one line, with every hazard inside strings as `\uXXXX`.
///
/// # Errors
///
/// When `value` refuses to be serialized.
pub fn write_json(value: &impl Serialize, out: &mut Vec<u8>) -> serde_json::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(
        out,
        SafeFormatter,
    ))
}

/// `serde_json` escapes C0 controls alone; this adds the other hazards.
struct SafeFormatter;

impl Formatter for SafeFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, character)) = rest.char_indices().find(|&(_, c)| is_hazard(c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + character.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        serde_json::ser::CompactFormatter.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn hazards_are_visible_in_text() {
        assert_eq!(
            Escaped("a\u{1b}[31mred\n\\").to_string(),
            "a\\u{1b}[31mred\\n\\\\"
        );
        assert_eq!(Escaped("\u{202e}txt.exe").to_string(), "\\u{202e}txt.exe");
        assert_eq!(Escaped("\u{9b}2J\u{7f}").to_string(), "\\u{9b}2J\\u{7f}");
        assert_eq!(Escaped("grün 東京 🏰").to_string(), "grün 東京 🏰");
        assert_eq!(escape_bytes(b"a\xff\xfe\x00z"), "a\\xff\\xfe\\u{0}z");
    }

    #[test]
    fn hazards_are_escaped_in_json_and_come_back() {
        let hostile = "\u{1b}[2J\n\"\\\u{7f}\u{9b}\u{202e}\u{2028}\u{e0041}grün";
        let mut out = Vec::new();
        write_json(&hostile, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.chars().any(is_hazard), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), hostile);
    }
}
