//! What list files held when they were good last, in the state directory: a list that is emptied, vanishes or cannot be read keeps
//! it, also over a restart. It is tied to the path of the file, and forgotten when no policy names that any more.
//!
//! `lists.json` says what there is; each list is a text of ranges under `lists/`, written whole or not at all.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy::{AddressSet, Kept, address_key, key_address};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::api::Time;
use crate::{clock, state};

/// The index.
const INDEX: &str = "lists.json";
/// The folder of the lists.
const FOLDER: &str = "lists";
/// Most bytes on disk; a list that would be over it is not kept, and said.
const MOST_BYTES: u64 = 512 << 20;

/// The lists as they were when they were good. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LastGood {
    shelf: Option<Arc<Mutex<Shelf>>>,
}

#[derive(Debug)]
struct Shelf {
    folder: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    path: PathBuf,
    /// What a feed may hold is narrower.
    feed: bool,
    /// Of what is kept.
    digest: String,
    bytes: u64,
    /// When it was first read.
    read: Time,
    /// Since when the file itself is not good.
    stale_since: Option<Time>,
}

impl LastGood {
    /// Keeps nothing: for tests, and where there is no state directory.
    pub fn none() -> Self {
        Self::default()
    }

    /// What an earlier daemon kept under this folder, and a place for more.
    pub(crate) fn open(folder: &Path) -> Self {
        let entries = state::read(&folder.join(INDEX)).unwrap_or_default();
        let shelf = Shelf {
            folder: folder.to_owned(),
            entries,
        };
        Self {
            shelf: Some(Arc::new(Mutex::new(shelf))),
        }
    }

    /// This list is good. What cannot be kept is said; the list is used all the same.
    pub(crate) fn keep(&self, path: &Path, feed: bool, addresses: &AddressSet, digest: &str) {
        let Some(mut shelf) = self.lock() else {
            return;
        };
        if let Err(error) = shelf.keep(path, feed, addresses, digest) {
            tracing::warn!(
                "what {} holds is not kept for when it is gone: {error}",
                path.display()
            );
        }
    }

    /// What the list of this path held, or the files of this folder. It is stale from now on, if it was not already.
    pub(crate) fn recall(&self, path: &Path, feed: bool) -> Vec<Kept> {
        let Some(mut shelf) = self.lock() else {
            return Vec::new();
        };
        shelf.recall(path, feed)
    }

    /// Since when the list of this path is not good.
    pub(crate) fn stale_since(&self, path: &Path, feed: bool) -> Option<Time> {
        self.lock()?.entry(path, feed)?.stale_since
    }

    /// Forgets all lists but these.
    pub(crate) fn retain(&self, named: &BTreeSet<(PathBuf, bool)>) {
        if let Some(mut shelf) = self.lock() {
            shelf.retain(named);
        }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Shelf>> {
        let shelf = self.shelf.as_ref()?;
        Some(shelf.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shelf {
    fn entry(&self, path: &Path, feed: bool) -> Option<&Entry> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.path == path && entry.feed == feed)
    }

    fn file(&self, path: &Path, feed: bool) -> PathBuf {
        let mut hash = Sha1::new();
        hash.update([u8::from(feed)]);
        hash.update(path.as_os_str().as_encoded_bytes());
        self.folder.join(FOLDER).join(hex(&hash.finalize()))
    }

    fn save(&self) -> io::Result<()> {
        let index = serde_json::to_vec_pretty(&self.entries)?;
        state::write_atomically(&self.folder.join(INDEX), &index)
    }

    fn keep(
        &mut self,
        path: &Path,
        feed: bool,
        addresses: &AddressSet,
        digest: &str,
    ) -> io::Result<()> {
        let known = self.entry(path, feed);
        if let Some(known) = known
            && known.digest == digest
            && self.file(path, feed).is_file()
        {
            if known.stale_since.is_none() {
                return Ok(());
            }
            for entry in &mut self.entries {
                if entry.path == path && entry.feed == feed {
                    entry.stale_since = None;
                }
            }
            return self.save();
        }
        let text = written(addresses);
        let bytes = text.len() as u64;
        self.entries
            .retain(|entry| entry.path != path || entry.feed != feed);
        let others: u64 = self.entries.iter().map(|entry| entry.bytes).sum();
        if others + bytes > MOST_BYTES {
            self.save()?;
            return Err(io::Error::other(format!(
                "the lists that are kept would be larger than {} MiB",
                MOST_BYTES >> 20
            )));
        }
        fs::create_dir_all(self.folder.join(FOLDER))?;
        state::write_atomically(&self.file(path, feed), text.as_bytes())?;
        self.entries.push(Entry {
            path: path.to_owned(),
            feed,
            digest: digest.to_owned(),
            bytes,
            read: clock::now().into(),
            stale_since: None,
        });
        self.save()
    }

    fn recall(&mut self, path: &Path, feed: bool) -> Vec<Kept> {
        let is_wanted = |entry: &Entry| {
            entry.feed == feed && (entry.path == path || entry.path.parent() == Some(path))
        };
        let wanted: Vec<Entry> = self
            .entries
            .iter()
            .filter(|e| is_wanted(e))
            .cloned()
            .collect();
        let mut kept = Vec::new();
        for entry in wanted {
            match self.read(&entry) {
                Ok(addresses) => kept.push(Kept {
                    path: entry.path,
                    addresses,
                    read: entry.read.0,
                }),
                Err(error) => {
                    tracing::warn!("what {} held last is lost: {error}", entry.path.display())
                }
            }
        }
        let now = Time::from(clock::now());
        let mut changed = false;
        for entry in self.entries.iter_mut().filter(|entry| is_wanted(entry)) {
            if entry.stale_since.is_none() {
                entry.stale_since = Some(now);
                changed = true;
            }
        }
        if changed && let Err(error) = self.save() {
            tracing::warn!("{INDEX} cannot be written: {error}");
        }
        kept.sort_by(|a, b| a.path.cmp(&b.path));
        kept
    }

    /// Reads a list back, and makes sure that it is the one that was kept.
    fn read(&self, entry: &Entry) -> io::Result<AddressSet> {
        let text = fs::read_to_string(self.file(&entry.path, entry.feed))?;
        let damaged = || io::Error::other("the copy in the state directory is damaged");
        let ranges: Option<Vec<(u128, u128)>> = text.lines().map(range).collect();
        let addresses = AddressSet::from_ranges(ranges.ok_or_else(damaged)?);
        if digest(&addresses) == entry.digest {
            Ok(addresses)
        } else {
            Err(damaged())
        }
    }

    fn retain(&mut self, named: &BTreeSet<(PathBuf, bool)>) {
        let is_named = |entry: &Entry| named.contains(&(entry.path.clone(), entry.feed));
        let (kept, gone): (Vec<_>, Vec<_>) = self.entries.drain(..).partition(is_named);
        self.entries = kept;
        if gone.is_empty() {
            return;
        }
        if let Err(error) = self.save() {
            tracing::warn!("{INDEX} cannot be written: {error}");
            return;
        }
        for entry in gone {
            // One that stays behind is overwritten when its path is named again.
            let _ = fs::remove_file(self.file(&entry.path, entry.feed));
        }
    }
}

/// The first 16 hexadecimal digits of the SHA-1 of the addresses, however they were written.
pub(crate) fn digest(addresses: &AddressSet) -> String {
    let mut hash = Sha1::new();
    for (first, last) in addresses.ranges() {
        hash.update(first.to_be_bytes());
        hash.update(last.to_be_bytes());
    }
    hex(&hash.finalize()[..8])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A range on each line.
fn written(addresses: &AddressSet) -> String {
    let mut text = String::new();
    for &(first, last) in addresses.ranges() {
        let (first, last) = (key_address(first), key_address(last));
        // Writing to a string does not fail.
        let _ = if first == last {
            writeln!(text, "{first}")
        } else {
            writeln!(text, "{first}-{last}")
        };
    }
    text
}

fn range(line: &str) -> Option<(u128, u128)> {
    let (first, last) = line.split_once('-').unwrap_or((line, line));
    Some((
        address_key(first.parse().ok()?),
        address_key(last.parse().ok()?),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn set(prefixes: &[&str]) -> AddressSet {
        let prefixes = prefixes.iter().map(|prefix| prefix.parse().unwrap());
        prefixes
            .collect::<Vec<ipnet::IpNet>>()
            .into_iter()
            .collect()
    }

    fn keep(shelf: &LastGood, path: &str, addresses: &AddressSet) {
        shelf.keep(Path::new(path), true, addresses, &digest(addresses));
    }

    #[test]
    fn what_was_good_comes_back_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = LastGood::open(folder.path());
        let addresses = set(&["192.0.2.1/32", "10.0.0.0/8", "2001:db8::/32", "::/0"]);
        keep(&shelf, "/lists/a", &addresses);
        keep(&shelf, "/lists/b", &set(&["192.0.2.2/32"]));
        let path = Path::new("/lists/a");
        assert_eq!(shelf.stale_since(path, true), None);
        let shelf = LastGood::open(folder.path());
        let kept = shelf.recall(path, true);
        assert_eq!(kept[0].addresses, addresses);
        assert!(shelf.recall(path, false).is_empty(), "a set is no feed");
        assert!(shelf.recall(Path::new("/lists/c"), true).is_empty());
        // The index has microseconds.
        let since = shelf.stale_since(path, true).unwrap().to_string();
        let shelf = LastGood::open(folder.path());
        shelf.recall(path, true);
        let again = shelf.stale_since(path, true).unwrap().to_string();
        assert_eq!(again, since, "the first time counts");
        let whole = shelf.recall(Path::new("/lists"), true);
        assert_eq!(whole.len(), 2, "a folder is its files");
        keep(&shelf, "/lists/a", &addresses);
        assert_eq!(shelf.stale_since(path, true), None, "it is good again");
    }

    #[test]
    fn what_no_policy_names_is_forgotten_and_damage_is_no_list() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = LastGood::open(folder.path());
        for path in ["/a", "/b"] {
            keep(&shelf, path, &set(&["192.0.2.0/24"]));
        }
        shelf.retain(&BTreeSet::from([(PathBuf::from("/a"), true)]));
        let files = || fs::read_dir(folder.path().join(FOLDER)).unwrap();
        assert_eq!(files().count(), 1);
        assert!(shelf.recall(Path::new("/b"), true).is_empty());
        assert_eq!(shelf.recall(Path::new("/a"), true).len(), 1);
        let file = files().next().unwrap().unwrap().path();
        for damage in ["192.0.2.0-192.0.2.7\n", "", "nonsense\n"] {
            fs::write(&file, damage).unwrap();
            assert!(shelf.recall(Path::new("/a"), true).is_empty(), "{damage:?}");
        }
        // The next good reading mends it, though the digest says that nothing is new.
        fs::remove_file(&file).unwrap();
        keep(&shelf, "/a", &set(&["192.0.2.0/24"]));
        assert_eq!(shelf.recall(Path::new("/a"), true).len(), 1);
    }

    #[test]
    fn a_million_ranges_are_kept_and_come_back_soon() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = LastGood::open(folder.path());
        let ranges = (0..1_000_000_u128).map(|n| {
            (
                policy::address::IPV4_FIRST + n * 3,
                policy::address::IPV4_FIRST + n * 3,
            )
        });
        let addresses = AddressSet::from_ranges(ranges);
        let begun = std::time::Instant::now();
        keep(&shelf, "/lists/a", &addresses);
        let kept = begun.elapsed();
        keep(&shelf, "/lists/a", &addresses);
        let again = begun.elapsed() - kept;
        let begun = std::time::Instant::now();
        assert_eq!(
            shelf.recall(Path::new("/lists/a"), true)[0].addresses,
            addresses
        );
        println!(
            "1,000,000 ranges: kept in {kept:?}, the same again in {again:?}, read back in {:?}",
            begun.elapsed()
        );
        assert!(
            kept.as_secs() < 10 && begun.elapsed().as_secs() < 10,
            "{kept:?}"
        );
    }
}
