//! The files of the policy in force are watched: a change is read, and comes into force when it is valid. What is invalid is told
//! and changes nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use notify::{RecursiveMode, Watcher as _};

use crate::candidate::{Candidate, Source};
use crate::guard::{ApplyError, Asked, By, Handle};
use crate::record::NoticeKind;
use crate::{api, clock};

/// How long a change is left alone: editors and package managers write in several steps.
const SETTLE: Duration = Duration::from_millis(250);
/// How often the files are looked at, where the kernel's notifications do not reach (network file systems, overlays).
const LOOK: Duration = Duration::from_secs(2);

/// The guard's handle on the watching thread.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    sender: Option<SyncSender<Message>>,
    rejected: Arc<Mutex<Option<String>>>,
}

#[derive(Debug)]
enum Message {
    /// Something under a watched folder changed.
    Touched,
    /// Another policy is in force.
    Policy(Source, Vec<PathBuf>, Vec<PathBuf>),
    /// Read again now, for whoever asks.
    Reload(SyncSender<Result<api::Applied, ReloadError>>),
    Stop,
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
    pub fn start(handle: Handle) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, receiver) = sync_channel(1_024);
        let rejected = Arc::new(Mutex::new(None));
        let mut thread = Thread {
            handle,
            rejected: Arc::clone(&rejected),
            source: Source::BuiltIn,
            seen: HashMap::new(),
            folders: Vec::new(),
            watcher: None,
            watched: Vec::new(),
            sender: sender.clone(),
            told: Arc::default(),
        };
        let join = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || thread.run(&receiver))?;
        let sender = Some(sender);
        Ok((Self { sender, rejected }, join))
    }

    /// This policy is in force: its files are to be watched.
    pub fn set(&self, candidate: &Candidate) {
        *lock(&self.rejected) = None;
        let (mut files, folders) = (candidate.files.clone(), candidate.folders.clone());
        // A policy that is kept although its file says something else: the file may be mended.
        if let Source::Kept { path, .. } = &candidate.source {
            files.push(path.clone());
        }
        self.send(Message::Policy(
            candidate.source.clone().again(),
            files,
            folders,
        ));
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

/// What a file was when last looked at: `None` when it was not there.
type Mark = Option<(SystemTime, u64)>;

struct Thread {
    handle: Handle,
    rejected: Arc<Mutex<Option<String>>>,
    source: Source,
    seen: HashMap<PathBuf, Mark>,
    /// Included folders: what appears in one counts too.
    folders: Vec<PathBuf>,
    watcher: Option<notify::RecommendedWatcher>,
    watched: Vec<PathBuf>,
    sender: SyncSender<Message>,
    /// A notification is on its way: one is enough, and a flood of them must not fill the channel.
    told: Arc<AtomicBool>,
}

impl Thread {
    fn run(&mut self, receiver: &Receiver<Message>) {
        let mut changed_at: Option<Instant> = None;
        loop {
            let wait = match changed_at {
                Some(at) => SETTLE.saturating_sub(at.elapsed()),
                None => LOOK,
            };
            match receiver.recv_timeout(wait) {
                Ok(Message::Touched) => {
                    self.told.store(false, Ordering::Relaxed);
                    if self.look() {
                        changed_at = Some(Instant::now());
                    }
                }
                Ok(Message::Policy(source, files, folders)) => {
                    self.source = source;
                    self.watch(files, folders);
                }
                Ok(Message::Reload(answer)) => {
                    changed_at = None;
                    // Whoever asked may be gone; the policy is in force all the same.
                    let _ = answer.send(self.reload());
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => match changed_at {
                    Some(at) if at.elapsed() >= SETTLE => {
                        changed_at = self.changed().then(Instant::now);
                    }
                    Some(_) => {}
                    None => changed_at = self.look().then(Instant::now),
                },
            }
        }
    }

    /// Reads what changed. Returns whether it has to be tried again.
    fn changed(&mut self) -> bool {
        match self.reload() {
            Ok(_) => false,
            // Whoever is asked to confirm a policy is not given another one meanwhile.
            Err(ReloadError::Apply(ApplyError::Pending)) => true,
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
                false
            }
        }
    }

    fn reload(&mut self) -> Result<api::Applied, ReloadError> {
        self.mark();
        let candidate = match Candidate::load(&self.source, clock::now()) {
            Ok(candidate) => candidate,
            Err(invalid) => {
                // A file that it names now may be the one that has to change.
                self.watch(invalid.files.clone(), self.folders.clone());
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

    /// Watches these files from now on, as they are now.
    fn watch(&mut self, files: Vec<PathBuf>, folders: Vec<PathBuf>) {
        self.folders = folders;
        let old = std::mem::take(&mut self.seen);
        for file in files {
            // What changed while it was read counts as a change.
            let mark = old.get(&file).copied().unwrap_or_else(|| mark(&file));
            self.seen.insert(file, mark);
        }
        for folder in &self.folders {
            self.seen.insert(
                folder.clone(),
                old.get(folder).copied().unwrap_or_else(|| mark(folder)),
            );
        }
        self.notifications();
    }

    /// Has the kernel tell of changes. Folders are watched rather than files: editors put a new file in place of the old one.
    fn notifications(&mut self) {
        let parent = |file: &PathBuf| match file.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut folders: Vec<PathBuf> = self.seen.keys().map(parent).collect();
        folders.extend(self.folders.iter().cloned());
        folders.sort();
        folders.dedup();
        if folders == self.watched {
            return;
        }
        self.watched.clone_from(&folders);
        let sender = self.sender.clone();
        let told = Arc::clone(&self.told);
        let tell = move |event: notify::Result<notify::Event>| {
            // Reading a file is no change.
            let change = event.is_ok_and(|event| !event.kind.is_access());
            if change && !told.swap(true, Ordering::Relaxed) {
                // When the channel is full the thread looks anyway, as soon as nothing comes.
                let _ = sender.try_send(Message::Touched);
            }
        };
        let mut watcher = match notify::recommended_watcher(tell) {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(
                    "changes of the policy are seen within {} s only: {error}",
                    LOOK.as_secs()
                );
                self.watcher = None;
                return;
            }
        };
        for folder in folders {
            if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
                tracing::warn!(
                    "changes in {} are seen within {} s only: {error}",
                    folder.display(),
                    LOOK.as_secs()
                );
            }
        }
        self.watcher = Some(watcher);
    }

    /// Takes the files as they are now for seen.
    fn mark(&mut self) {
        for (path, seen) in &mut self.seen {
            *seen = mark(path);
        }
    }

    /// Whether any file is another than when it was last looked at.
    fn look(&mut self) -> bool {
        let mut changed = false;
        for (path, seen) in &mut self.seen {
            let now = mark(path);
            changed |= now != *seen;
            *seen = now;
        }
        changed
    }
}

fn mark(path: &Path) -> Mark {
    let about = std::fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
