//! What a list of names holds, whatever it was written as: the entries one by one, before they are hashed.

use std::fmt::Write as _;

use super::pattern::Pattern;

/// What is written before an entry that is allowed.
const ALLOWED: &str = "@@";

/// Entries as text, in the order of their list: one a line, as the policy writes names, `@@` before those that are exceptions from
/// what the list blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameEntries {
    /// Each line is an entry.
    text: String,
    count: usize,
}

impl NameEntries {
    /// From [`NameEntries::text`]. `None` when a line is no entry.
    pub fn from_text(text: String) -> Option<Self> {
        let mut count = 0;
        for line in text.lines() {
            entry(line)?;
            count += 1;
        }
        Some(Self { text, count })
    }

    /// The lines.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn push(&mut self, pattern: &Pattern<'_>, is_exception: bool) {
        let mark = if is_exception { ALLOWED } else { "" };
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{mark}{pattern}");
        self.count += 1;
    }

    /// The entries, and whether each is an exception.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Pattern<'_>, bool)> {
        // Every line is an entry: `push` and `from_text` put no other there.
        self.text.lines().filter_map(entry)
    }
}

fn entry(line: &str) -> Option<(Pattern<'_>, bool)> {
    let (name, is_exception) = match line.strip_prefix(ALLOWED) {
        Some(name) => (name, true),
        None => (line, false),
    };
    Some((Pattern::parse(name).ok()?, is_exception))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn entries_come_back_as_they_were() {
        let mut entries = NameEntries::default();
        let all = [
            ("ads.example", false),
            ("*.Tracker.example.", false),
            (".bücher.example", true),
        ];
        for (name, is_exception) in all {
            entries.push(&Pattern::parse(name).unwrap(), is_exception);
        }
        let text = "ads.example\n*.tracker.example\n@@.xn--bcher-kva.example\n";
        assert_eq!((entries.text(), entries.len()), (text, 3));
        let again = NameEntries::from_text(text.to_owned()).unwrap();
        assert_eq!(again, entries);
        assert!(again.iter().eq(entries.iter()));
        assert!(NameEntries::from_text("ads.example\n\n".to_owned()).is_none());
        assert!(NameEntries::from_text("192.0.2.1\n".to_owned()).is_none());
    }
}
