//! Domain names in bulk: what a DNS filter blocks and allows, compact and quick for millions of names.
//!
//! [`Pattern`] is one entry as people write it. A [`NameSet`] holds entries as keyed fingerprints; [`ListedNames`] holds them as
//! they are; a [`NameFilter`] puts an allow list of the second kind above a block list of the first and answers a
//! name with a [`NameVerdict`]. How files of names are read is `list`. Which packets carry names, and what is
//! answered instead, is decided elsewhere.

mod entries;
mod filter;
mod fingerprint;
pub(crate) mod list;
mod listed;
mod pattern;
mod set;
mod suffix;

pub use entries::NameEntries;
pub use filter::{Match, NameFilter, NameFilterBuilder, NameVerdict, Source};
pub use listed::ListedNames;
pub use pattern::{BadName, Pattern, Reach};
pub use set::{NameSet, NameSetBuilder, SourceId, TooMany};
