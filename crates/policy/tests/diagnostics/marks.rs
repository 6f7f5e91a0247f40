//! Texts with marks in them: `«` stands where a diagnostic is expected.

use std::path::Path;

use portcullis_policy::{Diagnostic, Format, Loaded, load_text};

/// The text without its marks, and line and column of each.
pub(crate) fn unmark(marked: &str) -> (String, Vec<(u32, u32)>) {
    let mut text = String::new();
    let mut places = Vec::new();
    let (mut line, mut column) = (1, 1);
    for character in marked.chars() {
        match character {
            '«' => {
                places.push((line, column));
                continue;
            }
            '\n' => (line, column) = (line + 1, 1),
            _ => column += 1,
        }
        text.push(character);
    }
    (text, places)
}

pub(crate) fn load(text: &str, format: Format) -> Loaded {
    load_text("policy", text, format, Path::new("/nonexistent"))
}

pub(crate) fn place(found: &Diagnostic) -> (u32, u32) {
    (found.position.line, found.position.column)
}

pub(crate) fn lines(found: &[Diagnostic]) -> String {
    found.iter().map(|found| format!("{found}\n")).collect()
}
