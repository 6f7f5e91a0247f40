//! What list files held when they were good last, in the state directory: a list that is emptied, vanishes or cannot be read keeps
//! it, also over a restart. It is tied to the path of the file and to what it is a list of, and forgotten when no policy names that
//! any more.
//!
//! `lists.json` says what there is; each list is a text under `lists/` whose name says what it holds, so that a crash between the two
//! leaves an index and the lists that it speaks of. Whoever loads a policy waits for the disk, and for others who load one; the guard
//! waits for neither.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use policy::names::NameEntries;
use policy::{AddressSet, Entries, Kept, ListKind};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::api::Time;
use crate::{clock, durable};
pub(crate) use text::{digest, hex};
use text::{range, written};

/// The index.
const INDEX: &str = "lists.json";
/// The folder of the lists.
const FOLDER: &str = "lists";
/// Most bytes on disk; what a list holds that would be over it is not kept, and said: then what it held before stays kept.
const MOST_BYTES: u64 = 512 << 20;

/// The lists as they were when they were good. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LastGood {
    shelf: Option<Arc<Shelf>>,
}

#[derive(Debug)]
struct Shelf {
    folder: PathBuf,
    most_bytes: u64,
    /// Held over work on files, which may take seconds. Taken before the index, never by the guard.
    disk: Mutex<()>,
    /// Held over assignments alone.
    index: Mutex<Index>,
}

/// What there is.
#[derive(Debug, Default)]
struct Index {
    entries: Vec<Entry>,
    /// Of policies that are in force, may come into force, or may come back.
    claims: Vec<Weak<Claim>>,
    /// Why what these lists hold now is not kept.
    not_kept: BTreeMap<Key, String>,
}

/// A list: its file, and what it is a list of.
type Key = (PathBuf, Kind);

/// [`ListKind`], as the index has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Set,
    Feed,
    Names,
}

impl From<ListKind> for Kind {
    fn from(kind: ListKind) -> Self {
        match kind {
            ListKind::Set => Self::Set,
            ListKind::Feed => Self::Feed,
            ListKind::Names => Self::Names,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    path: PathBuf,
    kind: Kind,
    /// Of what is kept.
    digest: String,
    bytes: u64,
    /// When it was first read.
    read: Time,
    /// Since when the file itself is not good.
    stale_since: Option<Time>,
}

impl Entry {
    fn is(&self, path: &Path, kind: Kind) -> bool {
        self.path == path && self.kind == kind
    }

    fn key(&self) -> Key {
        (self.path.clone(), self.kind)
    }

    /// The name of its file.
    fn file(&self) -> String {
        let mut hash = Sha1::new();
        hash.update([self.kind as u8]);
        hash.update(self.path.as_os_str().as_encoded_bytes());
        format!("{}-{}", hex(&hash.finalize()), self.digest)
    }
}

/// The lists that a policy names: while it lives, nothing of theirs is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Claim(Mutex<BTreeSet<Key>>);

impl LastGood {
    /// Keeps nothing: for tests, and where there is no state directory.
    pub fn none() -> Self {
        Self::default()
    }

    /// What an earlier daemon kept under this folder, and a place for more.
    pub(crate) fn open(folder: &Path) -> Self {
        Self::open_with(folder, MOST_BYTES)
    }

    fn open_with(folder: &Path, most_bytes: u64) -> Self {
        let index = Index {
            entries: durable::read(&folder.join(INDEX)).unwrap_or_default(),
            ..Index::default()
        };
        let shelf = Shelf {
            folder: folder.to_owned(),
            most_bytes,
            disk: Mutex::default(),
            index: Mutex::new(index),
        };
        Self {
            shelf: Some(Arc::new(shelf)),
        }
    }

    /// For a policy that is about to be read.
    pub(crate) fn claim(&self) -> Arc<Claim> {
        let claim = Arc::new(Claim::default());
        if let Some(shelf) = &self.shelf {
            lock(&shelf.index).claims.push(Arc::downgrade(&claim));
        }
        claim
    }

    /// This list is good. What cannot be kept is said; the list is used all the same.
    pub(crate) fn keep(
        &self,
        claim: &Claim,
        path: &Path,
        kind: ListKind,
        entries: &Entries,
        digest: &str,
    ) {
        let Some(shelf) = &self.shelf else {
            return;
        };
        let key = (path.to_owned(), Kind::from(kind));
        lock(&claim.0).insert(key.clone());
        let outcome = shelf.keep(&key, entries, digest);
        let mut index = lock(&shelf.index);
        match outcome {
            Ok(()) => {
                index.not_kept.remove(&key);
            }
            Err(error) => {
                let text = format!(
                    "what {} holds is not kept for when it is gone: {error}",
                    path.display()
                );
                tracing::warn!("{text}");
                index.not_kept.insert(key, text);
            }
        }
    }

    /// What the list of this path held, or the files of this folder. It is stale from now on, if it was not already.
    pub(crate) fn recall(&self, claim: &Claim, path: &Path, kind: ListKind) -> Vec<Kept> {
        let Some(shelf) = &self.shelf else {
            return Vec::new();
        };
        shelf.recall(claim, path, kind.into())
    }

    /// Since when the list of this path is not good.
    pub(crate) fn stale_since(&self, path: &Path, kind: ListKind) -> Option<Time> {
        let index = lock(&self.shelf.as_ref()?.index);
        index.entry(path, kind.into())?.stale_since
    }

    /// Of which lists what they hold now is not kept, and why; a sentence each.
    pub(crate) fn not_kept(&self) -> Vec<String> {
        let Some(shelf) = &self.shelf else {
            return Vec::new();
        };
        lock(&shelf.index).not_kept.values().cloned().collect()
    }

    /// Forgets the lists that no policy claims. Waits for nothing: the files follow with [`LastGood::tidy`].
    pub(crate) fn forget_unclaimed(&self) {
        let Some(shelf) = &self.shelf else {
            return;
        };
        let mut index = lock(&shelf.index);
        let Index {
            entries,
            claims,
            not_kept,
        } = &mut *index;
        claims.retain(|claim| claim.strong_count() > 0);
        let alive: Vec<Arc<Claim>> = claims.iter().filter_map(Weak::upgrade).collect();
        let is_claimed = |key: &Key| alive.iter().any(|claim| lock(&claim.0).contains(key));
        entries.retain(|entry| is_claimed(&entry.key()));
        not_kept.retain(|key, _| is_claimed(key));
    }

    /// Removes the files of what was forgotten. What cannot be done is done the next time.
    pub(crate) fn tidy(&self) {
        if let Some(shelf) = &self.shelf
            && let Err(error) = shelf.tidy()
        {
            tracing::warn!("what no policy names stays in {FOLDER}: {error}");
        }
    }
}

impl Index {
    fn entry(&self, path: &Path, kind: Kind) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.is(path, kind))
    }
}

impl Shelf {
    fn file(&self, entry: &Entry) -> PathBuf {
        self.folder.join(FOLDER).join(entry.file())
    }

    /// Writes the index down. For holders of the disk.
    fn save(&self) -> io::Result<()> {
        let entries = lock(&self.index).entries.clone();
        durable::write(
            &self.folder.join(INDEX),
            &serde_json::to_vec_pretty(&entries)?,
        )
    }

    /// Writes the list, then the index, then removes what is in neither: whenever the power fails, what the index names is there.
    fn keep(&self, (path, kind): &Key, entries: &Entries, digest: &str) -> io::Result<()> {
        let _disk = lock(&self.disk);
        let (known, others) = {
            let index = lock(&self.index);
            let others = index.entries.iter().filter(|entry| !entry.is(path, *kind));
            let others: u64 = others.map(|entry| entry.bytes).sum();
            (index.entry(path, *kind).cloned(), others)
        };
        let is_there = |known: &Entry| known.digest == digest && self.file(known).is_file();
        if let Some(known) = known.as_ref().filter(|known| is_there(known)) {
            if known.stale_since.is_none() {
                return Ok(());
            }
            self.put(Entry {
                stale_since: None,
                ..known.clone()
            });
            return self.save();
        }
        let text = written(entries);
        let bytes = text.len() as u64;
        // The file is good, whether what it holds can be kept or not.
        if let Some(known) = &known
            && known.stale_since.is_some()
        {
            self.put(Entry {
                stale_since: None,
                ..known.clone()
            });
        }
        if others + bytes > self.most_bytes {
            return Err(io::Error::other(format!(
                "the lists that are kept would be larger than {} MiB",
                self.most_bytes >> 20
            )));
        }
        let fresh = Entry {
            path: path.clone(),
            kind: *kind,
            digest: digest.to_owned(),
            bytes,
            read: clock::now().into(),
            stale_since: None,
        };
        fs::create_dir_all(self.folder.join(FOLDER))?;
        durable::write(&self.file(&fresh), text.as_bytes())?;
        self.put(fresh.clone());
        self.save()?;
        if let Some(known) = known.filter(|known| known.digest != fresh.digest) {
            // One that stays behind is removed by `tidy`.
            let _ = fs::remove_file(self.file(&known));
        }
        Ok(())
    }

    /// Puts an entry in the place of the one of the same list.
    fn put(&self, entry: Entry) {
        let mut index = lock(&self.index);
        index
            .entries
            .retain(|other| !other.is(&entry.path, entry.kind));
        index.entries.push(entry);
    }

    fn recall(&self, claim: &Claim, path: &Path, kind: Kind) -> Vec<Kept> {
        let is_wanted = |entry: &Entry| {
            entry.kind == kind && (entry.path == path || entry.path.parent() == Some(path))
        };
        let _disk = lock(&self.disk);
        let now = Time::from(clock::now());
        let mut changed = false;
        let wanted: Vec<Entry> = {
            let mut index = lock(&self.index);
            let wanted = index.entries.iter_mut().filter(|entry| is_wanted(entry));
            let mut all = Vec::new();
            for entry in wanted {
                lock(&claim.0).insert(entry.key());
                changed |= entry.stale_since.is_none();
                entry.stale_since.get_or_insert(now);
                all.push(entry.clone());
            }
            all
        };
        if changed && let Err(error) = self.save() {
            tracing::warn!("{INDEX} cannot be written: {error}");
        }
        let mut kept = Vec::new();
        for entry in wanted {
            match self.read(&entry) {
                Ok(entries) => kept.push(Kept {
                    path: entry.path,
                    entries,
                    read: entry.read.0,
                }),
                Err(error) => {
                    tracing::warn!("what {} held last is lost: {error}", entry.path.display())
                }
            }
        }
        kept.sort_by(|a, b| a.path.cmp(&b.path));
        kept
    }

    /// Reads a list back, and makes sure that it is the one that was kept.
    fn read(&self, entry: &Entry) -> io::Result<Entries> {
        let text = fs::read_to_string(self.file(entry))?;
        let damaged = || io::Error::other("the copy in the state directory is damaged");
        let entries = match entry.kind {
            Kind::Set | Kind::Feed => {
                let ranges: Option<Vec<(u128, u128)>> = text.lines().map(range).collect();
                Entries::Addresses(AddressSet::from_ranges(ranges.ok_or_else(damaged)?))
            }
            Kind::Names => Entries::Names(NameEntries::from_text(text).ok_or_else(damaged)?),
        };
        if digest(&entries) == entry.digest {
            Ok(entries)
        } else {
            Err(damaged())
        }
    }

    fn tidy(&self) -> io::Result<()> {
        let _disk = lock(&self.disk);
        let named: BTreeSet<String> = lock(&self.index).entries.iter().map(Entry::file).collect();
        let files = match fs::read_dir(self.folder.join(FOLDER)) {
            Ok(files) => files,
            // Nothing was kept yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut gone = Vec::new();
        for file in files {
            let file = file?;
            if !named.contains(&*file.file_name().to_string_lossy()) {
                gone.push(file.path());
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        self.save()?;
        gone.iter().try_for_each(fs::remove_file)
    }
}

/// A lock whose holder panicked still guards a whole value: no critical section here leaves one half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
