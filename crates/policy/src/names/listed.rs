//! A list of names kept as they are: what is allowed must be what was written, not what looks like it.
//!
//! Some 40 bytes a name and its text. Fingerprints find the entry, its text confirms it.

use super::pattern::{Pattern, Reach};
use super::set::{Hit, NameSet, NameSetBuilder, SourceId, TooMany};

/// An immutable list of names. Looking up never errs.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ListedNames {
    fingerprints: NameSet,
    /// Sorted by name; each name once.
    names: Box<[Name]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    text: Box<str>,
    reach: u8,
    source: SourceId,
}

impl ListedNames {
    /// Entries.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The entry that stands for the name that [`asked`](super::suffix::asked) gave, if one does: the widest.
    #[inline]
    pub(super) fn find(&self, name: &[u8]) -> Option<Hit> {
        self.fingerprints.find(name, |hit| {
            let text = &name[hit.start..];
            let order = |listed: &Name| {
                let lower = text.iter().map(u8::to_ascii_lowercase);
                listed.text.bytes().cmp(lower)
            };
            let place = self.names.binary_search_by(order).ok()?;
            let listed = &self.names[place];
            let wanted = if hit.start == 0 {
                Reach::ITSELF
            } else {
                Reach::BELOW
            };
            (listed.reach & wanted != 0).then(|| Hit {
                start: hit.start,
                reach: Reach::from_bits(listed.reach),
                source: listed.source,
            })
        })
    }
}

/// Makes [`ListedNames`].
#[derive(Debug)]
pub(super) struct ListedNamesBuilder {
    fingerprints: NameSetBuilder,
    names: Vec<Name>,
}

impl ListedNamesBuilder {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            fingerprints: NameSetBuilder::new(seed),
            names: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Adds an entry. Of several entries for one name the reaches add up, and the first source is kept.
    pub(super) fn add(&mut self, pattern: &Pattern<'_>, source: SourceId) -> Result<(), TooMany> {
        self.fingerprints.add(pattern, source)?;
        self.names.push(Name {
            text: pattern.name().into(),
            reach: pattern.reach().bits(),
            source,
        });
        Ok(())
    }

    pub(super) fn build(mut self) -> ListedNames {
        self.names
            .sort_unstable_by(|a, b| (&a.text, a.source).cmp(&(&b.text, b.source)));
        self.names.dedup_by(|next, kept| {
            let is_same = next.text == kept.text;
            if is_same {
                kept.reach |= next.reach;
            }
            is_same
        });
        ListedNames {
            fingerprints: self.fingerprints.build(),
            names: self.names.into(),
        }
    }
}
