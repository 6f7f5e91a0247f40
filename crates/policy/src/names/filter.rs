//! What is blocked and what is allowed all the same: the allow list stands above the block list, however wide the one and however
//! narrow the other.

use std::fmt;

use super::listed::{ListedNames, ListedNamesBuilder};
use super::pattern::{Pattern, Reach};
use super::set::{Hit, NameSet, NameSetBuilder, SourceId, TooMany};
use super::suffix::asked;
use crate::plan::Position;

/// Where entries come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The policy itself, here.
    Policy(Position),
    /// This list file.
    List(String),
    /// One of more sources than are told apart.
    Unknown,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(position) => position.fmt(f),
            Self::List(path) => f.write_str(path),
            Self::Unknown => f.write_str("one of many sources"),
        }
    }
}

/// Decides about names. Immutable; looking up allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NameFilter {
    allow: ListedNames,
    block: NameSet,
    sources: Box<[Source]>,
}

/// What a filter says about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameVerdict<'a> {
    /// No list has it.
    NotListed,
    /// An allow list has it, whatever the block lists say.
    Allowed(Match<'a>),
    /// A block list has it, and no allow list.
    Blocked(Match<'a>),
}

/// The entry that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match<'a> {
    /// Its name as a suffix of the name that was asked for, in the case of the question; empty for the entry that stands for every name.
    pub name: &'a [u8],
    /// What it stands for.
    pub reach: Reach,
    /// Where it comes from; of an entry in several lists the first.
    pub source: &'a Source,
    /// The same as a number: its place in [`NameFilter::sources`].
    pub source_id: SourceId,
}

impl fmt::Display for Match<'_> {
    /// As lists write it: `ads.example`, `*.ads.example`, `.ads.example`. Bytes that no name has are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            return f.write_str("*");
        }
        write!(
            f,
            "{}{}",
            self.reach.prefix(),
            self.name.to_ascii_lowercase().escape_ascii()
        )
    }
}

impl NameFilter {
    /// What is listed about a name: its labels joined by dots, in any case, with or without the dot at the end; bytes are taken as they
    /// are. Of a text that is too long for a name its end is judged.
    #[inline]
    pub fn judge<'a>(&'a self, name: &'a [u8]) -> NameVerdict<'a> {
        let name = asked(name);
        if let Some(hit) = self.allow.find(name) {
            return NameVerdict::Allowed(self.shown(name, hit));
        }
        match self.block.find(name, Some) {
            Some(hit) => NameVerdict::Blocked(self.shown(name, hit)),
            None => NameVerdict::NotListed,
        }
    }

    fn shown<'a>(&'a self, name: &'a [u8], hit: Hit) -> Match<'a> {
        Match {
            name: &name[hit.start..],
            reach: hit.reach,
            source: &self.sources[hit.source.index()],
            source_id: hit.source,
        }
    }

    /// The block list.
    pub fn blocked(&self) -> &NameSet {
        &self.block
    }

    /// The allow list.
    pub fn allowed(&self) -> &ListedNames {
        &self.allow
    }

    /// Where the entries come from.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }
}

/// Makes a [`NameFilter`].
#[derive(Debug)]
pub struct NameFilterBuilder {
    allow: ListedNamesBuilder,
    block: NameSetBuilder,
    sources: Vec<Source>,
}

impl NameFilterBuilder {
    /// An empty one. `seed` must be something that nobody outside can know: see [`NameSetBuilder::new`].
    pub fn new(seed: u64) -> Self {
        Self {
            allow: ListedNamesBuilder::new(seed),
            block: NameSetBuilder::new(seed),
            sources: Vec::new(),
        }
    }

    /// A further source of entries. Of too many, those from [`SourceId::COUNT`] on are [`Source::Unknown`].
    pub fn source(&mut self, source: Source) -> SourceId {
        if self.sources.len() < SourceId::LAST.index() {
            self.sources.push(source);
        } else if self.sources.len() == SourceId::LAST.index() {
            self.sources.push(Source::Unknown);
        }
        SourceId::new(self.sources.len() - 1).unwrap_or(SourceId::LAST)
    }

    /// Names that can still be added, whatever they are for.
    pub fn room(&self) -> usize {
        NameSetBuilder::MOST - self.block.len().max(self.allow.len())
    }

    /// Adds a name to block. `source` is one of this builder's.
    ///
    /// # Errors
    ///
    /// There are [`NameSetBuilder::MOST`] already.
    pub fn block(&mut self, pattern: &Pattern<'_>, source: SourceId) -> Result<(), TooMany> {
        self.block.add(pattern, source)
    }

    /// Adds a name to allow. `source` is one of this builder's.
    ///
    /// # Errors
    ///
    /// There are [`NameSetBuilder::MOST`] already.
    pub fn allow(&mut self, pattern: &Pattern<'_>, source: SourceId) -> Result<(), TooMany> {
        self.allow.add(pattern, source)
    }

    /// The filter.
    pub fn build(self) -> NameFilter {
        NameFilter {
            allow: self.allow.build(),
            block: self.block.build(),
            sources: self.sources.into(),
        }
    }
}

#[cfg(test)]
mod tests;
