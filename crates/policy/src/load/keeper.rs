//! What lists hold, and who remembers it: a list that gives nothing is what it was when it was good last, where somebody kept that.

use std::path::{Path, PathBuf};

use crate::address::AddressSet;
use crate::names::NameEntries;
use crate::time::Timestamp;

/// What a list is of: the same file read as another kind is another list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListKind {
    /// Addresses of a set.
    Set,
    /// Addresses of a feed, which may hold less.
    Feed,
    /// Names of `[dns]`.
    Names,
}

/// What a list holds, whatever it was written as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entries {
    /// Of a [`ListKind::Set`] or a [`ListKind::Feed`].
    Addresses(AddressSet),
    /// Of [`ListKind::Names`].
    Names(NameEntries),
}

impl Entries {
    /// Ranges of addresses, or names.
    pub fn len(&self) -> usize {
        match self {
            Self::Addresses(addresses) => addresses.ranges().len(),
            Self::Names(names) => names.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a list of this kind can hold them.
    pub(super) fn are_of(&self, kind: ListKind) -> bool {
        match self {
            Self::Addresses(_) => matches!(kind, ListKind::Set | ListKind::Feed),
            Self::Names(_) => kind == ListKind::Names,
        }
    }
}

/// Remembers what lists held, for when they hold nothing.
pub trait Keeper {
    /// This list was read and is good. An empty one says of itself that it is meant so.
    fn keep(&mut self, path: &Path, kind: ListKind, entries: &Entries);

    /// What the list of this path held when it was good last; if the path is a folder's, what each of its files held.
    fn recall(&mut self, path: &Path, kind: ListKind) -> Vec<Kept>;
}

/// What a list held when it was good last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// What it held.
    pub entries: Entries,
    /// When that was first read.
    pub read: Timestamp,
}

/// Keeps nothing: a list without entries is empty, one that is gone an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct NothingKept;

impl Keeper for NothingKept {
    fn keep(&mut self, _: &Path, _: ListKind, _: &Entries) {}

    fn recall(&mut self, _: &Path, _: ListKind) -> Vec<Kept> {
        Vec::new()
    }
}

/// A list file of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedList {
    /// What it is a list of.
    pub kind: ListKind,
    /// The set or feed that it fills; of names the key of `[dns]` that names it.
    pub set: String,
    /// The file.
    pub path: PathBuf,
    /// Ranges of addresses in it, overlapping and adjacent ones merged; or names.
    pub entries: usize,
    /// Lines that could not be read.
    pub bad_lines: usize,
    /// The first few of them, with their places.
    pub first_bad: Vec<String>,
    /// Rules of a list of names that are about pages, and were left out.
    pub skipped: usize,
    /// Set when what it held before is used.
    pub stale: Option<Stale>,
}

/// Why a list is not used as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Completes the sentence `the file …`.
    pub why: String,
    /// When what is used was first read.
    pub read: Timestamp,
}
