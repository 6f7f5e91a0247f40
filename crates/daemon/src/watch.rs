//! The files of the policy in force are watched: a change is read, and comes into force when it is valid. What is invalid is told
//! and changes nothing.
//!
//! A change is what a file is – its inode, size and times –, not what was notified: notifications only say when to look, and every
//! second it is looked anyway, so that a link that leads elsewhere, a folder that was put in place of another and a file system
//! that tells nothing are noticed too.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use policy::Stamp;

use crate::candidate::{Candidate, Source, Stamps};
use crate::guard::{ApplyError, Asked, By, Handle};
use crate::last_good::LastGood;
use crate::record::NoticeKind;
use crate::{api, clock};

mod ear;

use ear::{Ear, Heard};

/// How long a change is left alone: editors and package managers write in several steps.
const SETTLE: Duration = Duration::from_millis(250);
/// The same while somebody still has a file open to write to it: a download comes in pieces.
const SETTLE_WRITING: Duration = Duration::from_millis(1_500);
/// How long changes that do not end are waited for.
const MOST_SETTLE: Duration = Duration::from_secs(10);
/// How often the files are looked at, where the kernel's notifications do not reach (network file systems, links).
const LOOK: Duration = Duration::from_secs(1);

/// The guard's handle on the watching thread.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    sender: Option<SyncSender<Message>>,
    rejected: Arc<Mutex<Option<String>>>,
    lists: LastGood,
}

#[derive(Debug)]
enum Message {
    /// Something under a watched folder changed.
    Touched,
    /// Another policy is in force.
    Policy(Source, Watched, Option<PathBuf>),
    /// Read again now, for whoever asks.
    Reload(SyncSender<Result<api::Applied, ReloadError>>),
    Stop,
}

/// What is to be watched.
#[derive(Debug, Default)]
struct Watched {
    /// Files and folders, as they were just before they were read. `None` stands for those that were not there.
    stamps: Stamps,
    /// What was read long ago is watched as it is now: a change since then is no news, and was perhaps undone on purpose.
    is_old: bool,
    /// Those that are folders: what appears in one counts too.
    folders: Vec<PathBuf>,
}

/// Why a policy was not read again.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It is wrong.
    #[error(transparent)]
    Invalid(#[from] crate::candidate::Invalid),
    /// It could not be put in force.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The engine is gone.
    #[error(transparent)]
    Silent(#[from] crate::guard::Silent),
}

impl Watch {
    /// Watches nothing: for tests of the guard.
    pub fn none() -> Self {
        Self::default()
    }

    /// Starts the thread. It ends after [`Watch::stop`].
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn start(handle: Handle, lists: LastGood) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, receiver) = sync_channel(1_024);
        let rejected = Arc::new(Mutex::new(None));
        let mut thread = Thread {
            handle,
            rejected: Arc::clone(&rejected),
            lists: lists.clone(),
            source: Source::BuiltIn,
            seen: BTreeMap::new(),
            folders: Vec::new(),
            ear: Ear::new(sender.clone()),
            changed: None,
            aside: None,
        };
        let join = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || thread.run(&receiver))?;
        let sender = Some(sender);
        let watch = Self {
            sender,
            rejected,
            lists,
        };
        Ok((watch, join))
    }

    /// This policy is in force: its files are to be watched. Of the file `aside`, which is not in force, it is only told that it changed.
    pub fn set(&self, candidate: &Candidate, by: By, aside: Option<PathBuf>) {
        *lock(&self.rejected) = None;
        let mut stamps = candidate.stamps.clone();
        // A policy that is kept although its file says something else: the file may be mended.
        let is_kept = matches!(candidate.source, Source::Kept { .. });
        if let Source::Kept { path, .. } = &candidate.source {
            stamps.insert(path.clone(), Stamp::of(path));
        }
        let watched = Watched {
            stamps,
            is_old: by == By::Rollback || is_kept,
            folders: candidate.folders.clone(),
        };
        let source = candidate.source.clone().again();
        self.send(Message::Policy(source, watched, aside));
    }

    /// What lists held when they were good last.
    pub(crate) fn lists(&self) -> LastGood {
        self.lists.clone()
    }

    /// Reads the policy again and puts it in force, changed or not. Must not be called by the guard's own thread.
    ///
    /// # Errors
    ///
    /// When it is invalid or cannot be put in force; then the one before stays.
    pub fn reload(&self) -> Result<api::Applied, ReloadError> {
        let (answer, wait) = sync_channel(1);
        self.send(Message::Reload(answer));
        wait.recv().map_err(|_| crate::guard::Silent)?
    }

    /// Why the files as they are now are not in force, if they are not.
    pub fn rejected(&self) -> Option<String> {
        lock(&self.rejected).clone()
    }

    /// Says why the files as they are now are not in force.
    pub(crate) fn reject(&self, why: &str) {
        *lock(&self.rejected) = Some(why.to_owned());
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.send(Message::Stop);
    }

    fn send(&self, message: Message) {
        if let Some(sender) = &self.sender {
            // An error says that the thread has ended.
            let _ = sender.send(message);
        }
    }
}

struct Thread {
    handle: Handle,
    rejected: Arc<Mutex<Option<String>>>,
    lists: LastGood,
    source: Source,
    /// What each file and folder was when last looked at: `None` when it was not there.
    seen: Stamps,
    folders: Vec<PathBuf>,
    ear: Ear,
    /// Since when something is changing, and when it changed last.
    changed: Option<Change>,
    aside: Option<Aside>,
}

/// The file that the next start takes, where another is in force.
struct Aside {
    path: PathBuf,
    /// What it was when last looked at.
    seen: Option<Stamp>,
    /// When it last changed, if that was not told yet.
    news: Option<Instant>,
}

impl Aside {
    fn new(path: PathBuf) -> Self {
        Self {
            seen: Stamp::of(&path),
            path,
            news: None,
        }
    }

    /// Looks at it. Whether it has changed, and has been left alone since.
    fn has_settled(&mut self, now: Instant) -> bool {
        let stamp = Stamp::of(&self.path);
        if stamp != self.seen {
            self.seen = stamp;
            self.news = Some(now);
        }
        (self.news).is_some_and(|last| now.duration_since(last) >= SETTLE)
    }
}

#[derive(Clone, Copy)]
struct Change {
    first: Instant,
    last: Instant,
}

impl Thread {
    fn run(&mut self, receiver: &Receiver<Message>) {
        loop {
            let wait = match self.changed {
                Some(change) => self.settles_in(change),
                None => LOOK,
            };
            match receiver.recv_timeout(wait) {
                Ok(Message::Touched) => {
                    self.ear.has_heard();
                    self.look();
                    self.look_aside();
                }
                Ok(Message::Policy(source, watched, aside)) => {
                    self.source = source;
                    let known = self.aside.take();
                    self.aside = aside.map(|path| {
                        let known = known.filter(|known| known.path == path);
                        known.unwrap_or_else(|| Aside::new(path))
                    });
                    self.watch(watched);
                    self.lists.tidy();
                }
                Ok(Message::Reload(answer)) => {
                    self.changed = None;
                    // Whoever asked may be gone; the policy is in force all the same.
                    let _ = answer.send(self.reload());
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.look();
                    self.look_aside();
                    // What changed just now begins to settle just now.
                    if let Some(change) = self.changed
                        && self.settles_in(change).is_zero()
                    {
                        self.changed = None;
                        self.read_changes();
                    }
                }
            }
        }
    }

    /// How long a change is still left alone.
    fn settles_in(&self, change: Change) -> Duration {
        let quiet = match self.ear.heard() {
            Heard::Writing => SETTLE_WRITING,
            Heard::Written => SETTLE,
        };
        let patience = MOST_SETTLE.saturating_sub(change.first.elapsed());
        quiet.saturating_sub(change.last.elapsed()).min(patience)
    }

    fn note_change(&mut self) {
        let now = Instant::now();
        let first = self.changed.map_or(now, |change| change.first);
        self.changed = Some(Change { first, last: now });
    }

    /// Reads what changed.
    fn read_changes(&mut self) {
        // Whoever is asked to confirm a policy is not given another one meanwhile: then it is read when that is over, and not before,
        // since reading may be much work. An error says that the guard is gone.
        if self.handle.ask(|guard| guard.is_held()).unwrap_or(false) {
            return self.note_change();
        }
        match self.reload() {
            Ok(_) => {}
            // It began to ask meanwhile.
            Err(ReloadError::Apply(ApplyError::Pending)) => self.note_change(),
            Err(error) => {
                let text = format!("the changed policy is not used: {error}");
                let told = lock(&self.rejected).replace(error.to_string());
                if told.as_ref() != Some(&error.to_string()) {
                    tracing::warn!("{text}");
                    // An error says that the guard is gone, and with it whoever would want to know.
                    let _ = self
                        .handle
                        .ask(move |guard| guard.notice(NoticeKind::Policy, text));
                }
            }
        }
    }

    /// Tells that the file that is not in force changed, once it is left alone. While a policy waits for its confirmation nobody knows
    /// which file that will be.
    fn look_aside(&mut self) {
        if let Some(aside) = &mut self.aside
            && aside.has_settled(Instant::now())
            // An error says that the guard is gone, and with it whoever would want to know.
            && self.handle.ask(|guard| guard.tell_of_aside()).unwrap_or(true)
        {
            aside.news = None;
        }
    }

    fn reload(&mut self) -> Result<api::Applied, ReloadError> {
        self.mark();
        let candidate = match Candidate::load_with(&self.source, clock::now(), &self.lists) {
            Ok(candidate) => candidate,
            Err(invalid) => {
                // A file that it names now may be the one that has to change.
                self.watch(Watched {
                    stamps: invalid.stamps.clone(),
                    is_old: false,
                    folders: invalid.folders.clone(),
                });
                return Err(invalid.into());
            }
        };
        let asked = Asked {
            by: By::Reload,
            confirm: None,
            force: false,
        };
        let outcome = self
            .handle
            .ask(move |guard| guard.apply(candidate, asked))?;
        if outcome.is_ok() {
            *lock(&self.rejected) = None;
        }
        Ok(outcome?)
    }

    /// Watches these from now on. What changed since they were read is noticed with the next look.
    fn watch(&mut self, watched: Watched) {
        self.folders = watched.folders;
        let old = std::mem::take(&mut self.seen);
        for (path, read) in watched.stamps {
            let stamp = if watched.is_old {
                old.get(&path).copied().unwrap_or_else(|| Stamp::of(&path))
            } else {
                read
            };
            self.seen.insert(path, stamp);
        }
        self.ear.listen(self.seen.keys(), &self.folders);
    }

    /// Takes the files as they are now for seen.
    fn mark(&mut self) {
        for (path, seen) in &mut self.seen {
            *seen = Stamp::of(path);
        }
    }

    /// Looks whether any file is another than when it was last looked at.
    fn look(&mut self) {
        let mut changed = false;
        for (path, seen) in &mut self.seen {
            let now = Stamp::of(path);
            changed |= now != *seen;
            *seen = now;
        }
        if changed {
            self.note_change();
            // A folder may be another one under the same name.
            self.ear.listen(self.seen.keys(), &self.folders);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// A list that comes back while the other files are read, or while the kernel takes the plan.
    #[test]
    fn what_appears_between_reading_and_watching_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        let list = folder.path().join("feed.netset");
        std::fs::write(&list, "198.51.100.0/24\n").unwrap();
        std::fs::write(&path, "[feeds]\nbad = { file = \"feed.netset\" }\n").unwrap();
        let state = crate::state::StateDir::open(&folder.path().join("state")).unwrap();
        let (source, lists) = (Source::File(path), state.lists());
        let load = || Candidate::load_with(&source, clock::now(), &lists).unwrap();
        let good = load();
        std::fs::remove_file(&list).unwrap();
        let stale = load();
        std::fs::write(&list, "203.0.113.0/24\n").unwrap();
        let (sender, _receiver) = sync_channel(16);
        let noticed = |candidate: &Candidate| {
            let (handle, _) = Handle::channel();
            let mut thread = Thread {
                handle,
                rejected: Arc::default(),
                lists: lists.clone(),
                source: Source::BuiltIn,
                seen: Stamps::new(),
                folders: Vec::new(),
                ear: Ear::new(sender.clone()),
                changed: None,
                aside: None,
            };
            thread.watch(Watched {
                stamps: candidate.stamps.clone(),
                is_old: false,
                folders: Vec::new(),
            });
            thread.look();
            thread.changed.is_some()
        };
        assert!(noticed(&stale), "it is there again");
        assert!(noticed(&good), "it is another one");
        assert!(!noticed(&load()), "nothing has changed since");
    }

    #[test]
    fn a_file_that_is_not_in_force_is_news_once_for_each_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        std::fs::write(&path, "mode = \"observe\"\n").unwrap();
        let mut aside = Aside::new(path.clone());
        let begin = Instant::now();
        assert!(!aside.has_settled(begin), "nothing changed");
        let mut now = begin;
        for text in ["mode = \"enforce\"\n", "essentials = false\n"] {
            now += Duration::from_secs(60);
            std::fs::write(&path, text).unwrap();
            assert!(!aside.has_settled(now), "it may change still");
            assert!(aside.has_settled(now + SETTLE));
            assert!(aside.has_settled(now + SETTLE), "nobody has told it");
            aside.news = None;
            assert!(!aside.has_settled(now + 2 * SETTLE), "it was told");
        }
        std::fs::remove_file(&path).unwrap();
        now += Duration::from_secs(60);
        assert!(!aside.has_settled(now));
        assert!(aside.has_settled(now + SETTLE), "gone is a change too");
    }
}
