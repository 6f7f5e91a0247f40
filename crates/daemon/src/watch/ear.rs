//! The kernel's notifications about watched files: when to look, and whether somebody is still writing.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecursiveMode, Watcher as _};

use super::{LOOK, Message, lock};

/// How writers stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A file was written to and is still open.
    Writing,
    /// What was written was closed, or put in place whole.
    Written,
}

/// Hears of changes in folders: editors put a new file in place of the old one, so files themselves are not watched.
pub(super) struct Ear {
    sender: SyncSender<Message>,
    watcher: Option<notify::RecommendedWatcher>,
    /// The folders that are watched, each with its inode: another one of the same name is watched anew.
    folders: Vec<(PathBuf, Option<u64>)>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// A notification is on its way: one is enough, and a flood of them must not fill the channel.
    is_told: AtomicBool,
    /// The files that matter, and the folders in which each does.
    wanted: Mutex<HashSet<PathBuf>>,
    /// Those of them that are open and were written to.
    open: Mutex<HashSet<PathBuf>>,
}

impl Ear {
    pub(super) fn new(sender: SyncSender<Message>) -> Self {
        Self {
            sender,
            watcher: None,
            folders: Vec::new(),
            shared: Arc::default(),
        }
    }

    /// What was told has arrived: the next change is told again.
    pub(super) fn has_heard(&self) {
        self.shared.is_told.store(false, Ordering::Relaxed);
    }

    /// How writers stand.
    pub(super) fn heard(&self) -> Heard {
        if lock(&self.shared.open).is_empty() {
            Heard::Written
        } else {
            Heard::Writing
        }
    }

    /// Listens for changes of these files, and for whatever appears in these folders.
    pub(super) fn listen<'a>(
        &mut self,
        files: impl Iterator<Item = &'a PathBuf>,
        folders: &[PathBuf],
    ) {
        let mut wanted: HashSet<PathBuf> = folders.iter().cloned().collect();
        let mut parents: Vec<PathBuf> = folders.to_vec();
        for file in files {
            // Where a link leads is written to in another folder.
            for path in [file.canonicalize().ok(), Some(file.clone())]
                .into_iter()
                .flatten()
            {
                parents.push(parent(&path));
                wanted.insert(path);
            }
        }
        lock(&self.shared.open).retain(|path| wanted.contains(path));
        *lock(&self.shared.wanted) = wanted;
        parents.sort();
        parents.dedup();
        let folders: Vec<_> = parents
            .into_iter()
            .map(|folder| {
                let inode = folder.metadata().ok().map(|about| about.ino());
                (folder, inode)
            })
            .collect();
        if folders == self.folders {
            return;
        }
        self.folders = folders;
        self.watch();
    }

    fn watch(&mut self) {
        let (sender, shared) = (self.sender.clone(), Arc::clone(&self.shared));
        let hear = move |event: notify::Result<Event>| {
            let matters = event.map_or(true, |event| shared.matters(&event));
            if matters && !shared.is_told.swap(true, Ordering::Relaxed) {
                // When the channel is full the thread looks anyway, as soon as nothing comes.
                let _ = sender.try_send(Message::Touched);
            }
        };
        self.watcher = match notify::recommended_watcher(hear) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(
                    "changes of the policy are seen within {} s only: {error}",
                    LOOK.as_secs()
                );
                None
            }
        };
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for (folder, inode) in &self.folders {
            // One that is not there is looked for.
            if inode.is_some()
                && let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
            {
                tracing::warn!(
                    "changes in {} are seen within {} s only: {error}",
                    folder.display(),
                    LOOK.as_secs()
                );
            }
        }
    }
}

impl Shared {
    /// Whether an event says that something may have changed; notes who writes.
    fn matters(&self, event: &Event) -> bool {
        let is_written = matches!(event.kind, EventKind::Modify(ModifyKind::Data(_)));
        let is_closed = matches!(
            event.kind,
            EventKind::Access(AccessKind::Close(AccessMode::Write))
        );
        for path in &event.paths {
            if is_written && self.is_wanted(path) {
                lock(&self.open).insert(path.clone());
            } else if is_closed || !event.kind.is_access() {
                lock(&self.open).remove(path);
            }
        }
        // Reading a file is no change.
        is_closed || !event.kind.is_access()
    }

    fn is_wanted(&self, path: &Path) -> bool {
        let wanted = lock(&self.wanted);
        wanted.contains(path) || path.parent().is_some_and(|folder| wanted.contains(folder))
    }
}

fn parent(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}
