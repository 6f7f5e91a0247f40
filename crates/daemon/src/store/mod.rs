//! The store: an SQLite file behind history, charts and `why`, and the memory of bans over restarts.
//!
//! One thread writes, in batches, out of a bounded channel: whoever has something to store never waits and never fails; what finds
//! the channel full is counted. Readers open the file for themselves ([`Reader`]). A file that is corrupt or locked is moved
//! aside and a new one begun: the store serves the firewall, never the other way round.

mod ban;
mod denied;
mod entry;
mod file;
mod offender;
mod prune;
mod query;
mod uptime;
mod writer;

pub(crate) use ban::PastBan;
pub(crate) use entry::{Entry, Range};
pub(crate) use file::StoreError;
pub(crate) use query::{EventFilter, Reader, StoredEvent};

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::BanEnd;
use ipnet::IpNet;
use policy::{LogSettings, Timestamp};

use crate::api;
use crate::clock::{self, Clock, Stamp, Step};

/// What the channel to the writing thread holds at most.
const CHANNEL: usize = 8_192;
/// By how much a clock that runs may be behind itself.
const DRIFT: Duration = Duration::from_secs(2);

/// A handle on the writing thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
}

/// What the thread and its handles have in common.
#[derive(Debug, Default)]
struct Shared {
    path: PathBuf,
    queued: AtomicUsize,
    dropped: AtomicU64,
    written: AtomicU64,
    lost: AtomicU64,
    bytes: AtomicU64,
    /// Raised when the file may lack bans.
    bans_wanted: AtomicBool,
    error: Mutex<Option<String>>,
    /// See [`Store::bans_missing`].
    bans_missing: Mutex<Option<String>>,
}

#[derive(Debug)]
enum Message {
    Event(Box<Entry>),
    BanPut(Box<engine::Ban>),
    Offender(engine::Offender),
    Replace(Box<Memory>),
    BanGone(IpNet, BanEnd, Timestamp),
    Minute(Timestamp, api::Totals),
    Policy(Box<PolicyEntry>),
    Settings(LogSettings),
    Flush(SyncSender<()>),
    Stop,
}

impl Message {
    /// Whether the file lacks bans without it.
    const fn is_of_bans(&self) -> bool {
        match self {
            Self::BanPut(_) | Self::BanGone(..) | Self::Offender(_) | Self::Replace(_) => true,
            Self::Event(_)
            | Self::Minute(..)
            | Self::Policy(_)
            | Self::Settings(_)
            | Self::Flush(_)
            | Self::Stop => false,
        }
    }
}

/// Everything that the store has to remember for the engine.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Bans in force.
    pub bans: Vec<engine::Ban>,
    /// Who was banned before.
    pub offenders: Vec<engine::Offender>,
    /// By which clock their times are.
    pub clock: Stamp,
}

/// A policy that came into force.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyEntry {
    /// When, where from, and how.
    pub version: api::PolicyVersion,
    /// Its text, without includes and lists.
    pub text: String,
}

/// A store that was opened: its handle, what it remembered, and what had to be done to open it.
#[derive(Debug)]
pub struct Opened {
    /// The handle.
    pub store: Store,
    /// The thread; it ends after [`Store::stop`].
    pub thread: JoinHandle<()>,
    /// Bans that were in force, with those that have run out meanwhile.
    pub bans: Vec<engine::Ban>,
    /// Who was banned before, those among them too.
    pub offenders: Vec<engine::Offender>,
    /// The number of the last event on record.
    pub last_event: u64,
    /// What a person should know of the opening, one sentence each.
    pub warnings: Vec<String>,
}

impl Store {
    /// Opens or creates the file and starts its thread. A file that cannot be used is moved aside; where no file can be made at
    /// all, the store stays stopped and tries again by itself.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn open(path: &Path, settings: &LogSettings) -> std::io::Result<Opened> {
        let mut warnings = Vec::new();
        let mut failure = None;
        let file = match file::open_or_replace(path, &mut warnings) {
            Ok(file) => Some(file),
            Err(error) => {
                warnings.push(format!("nothing is stored: {error}"));
                failure = Some(error.to_string());
                None
            }
        };
        let (mut bans, mut offenders) = (Vec::new(), Vec::new());
        let mut last_event = 0;
        // A disk that is full or cannot be written gives all the same what is on it.
        let unwritable = (file.is_none() && path.exists()).then(|| file::open_to_read(path));
        if let Some(file) = file
            .as_ref()
            .or(unwritable.as_ref().and_then(|file| file.as_ref().ok()))
        {
            match recall(file, &mut warnings) {
                Ok(recalled) => (bans, offenders) = recalled,
                Err(error) => warnings.push(format!("bans of the last run are forgotten: {error}")),
            }
            match query::last_event(file) {
                Ok(last) => last_event = last,
                Err(error) => warnings.push(format!("events are numbered anew: {error}")),
            }
        }
        if let Some(Err(error)) = &unwritable {
            warnings.push(format!("bans of the last run are forgotten: {error}"));
        }
        drop(unwritable);
        let (sender, receiver) = sync_channel(CHANNEL);
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            error: Mutex::new(failure),
            ..Shared::default()
        });
        let thread = spawn(file, receiver, Arc::clone(&shared), settings.clone())?;
        Ok(Opened {
            store: Self { sender, shared },
            thread,
            bans,
            offenders,
            last_event,
            warnings,
        })
    }

    /// Stores an event.
    pub fn event(&self, entry: Entry) {
        self.send(Message::Event(Box::new(entry)));
    }

    /// Remembers a ban, or a change of it.
    pub fn ban(&self, ban: engine::Ban) {
        self.send(Message::BanPut(Box::new(ban)));
    }

    /// Remembers how often somebody was banned.
    pub fn offender(&self, offender: engine::Offender) {
        self.send(Message::Offender(offender));
    }

    /// Remembers these bans and offenders and no other.
    pub fn replace(&self, memory: Memory) {
        self.send(Message::Replace(Box::new(memory)));
    }

    /// Moves a ban to the history.
    pub fn unban(&self, prefix: IpNet, end: BanEnd, at: Timestamp) {
        self.send(Message::BanGone(prefix, end, at));
    }

    /// Adds to the counters of the minute that `at` lies in.
    pub fn minute(&self, at: Timestamp, counts: api::Totals) {
        self.send(Message::Minute(at, counts));
    }

    /// Adds to the policy history.
    pub fn policy(&self, entry: PolicyEntry) {
        self.send(Message::Policy(Box::new(entry)));
    }

    /// Changes how much is kept.
    pub fn set_limits(&self, settings: LogSettings) {
        self.send(Message::Settings(settings));
    }

    /// Waits, for `patience` at most, until all that was sent before is in the file. Returns whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        /// How long the room that is missing is waited for at once.
        const PAUSE: Duration = Duration::from_millis(2);
        let deadline = Instant::now() + patience;
        let left = || deadline.saturating_duration_since(Instant::now());
        let (done, wait) = sync_channel(1);
        let mut message = Message::Flush(done);
        loop {
            match self.sender.try_send(message) {
                Ok(()) => return wait.recv_timeout(left()).is_ok(),
                // Whoever waits for a disk that hangs is told in time.
                Err(TrySendError::Full(back)) if !left().is_zero() => message = back,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return false,
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Writes out what was sent before and ends the thread.
    pub fn stop(&self) {
        // An error says that the thread has ended already.
        let _ = self.sender.send(Message::Stop);
    }

    /// Whether bans were lost since the last call, with their file or on the way to it: then [`Store::replace`] is due.
    pub fn take_bans_wanted(&self) -> bool {
        self.shared.bans_wanted.swap(false, Ordering::Relaxed)
    }

    /// A connection for reading.
    ///
    /// # Errors
    ///
    /// When there is no readable file.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.shared.path)
    }

    /// Why changes of bans are not in the file, if some are not: until [`Store::replace`] has put them there.
    pub fn bans_missing(&self) -> Option<String> {
        lock(&self.shared.bans_missing).clone()
    }

    /// How it does.
    pub fn state(&self) -> api::Sink {
        let shared = &self.shared;
        let error = lock(&shared.error).clone();
        api::Sink {
            path: shared.path.display().to_string(),
            state: if error.is_some() {
                "stopped"
            } else {
                "writing"
            }
            .to_owned(),
            error,
            written: shared.written.load(Ordering::Relaxed),
            lost: shared.lost.load(Ordering::Relaxed) + self.dropped(),
            bytes: shared.bytes.load(Ordering::Relaxed),
        }
    }

    /// How full the channel is.
    pub fn queue(&self) -> api::Queue {
        api::Queue {
            name: "store".to_owned(),
            length: self.shared.queued.load(Ordering::Relaxed),
            capacity: CHANNEL,
            dropped: self.dropped(),
        }
    }

    fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    fn send(&self, message: Message) {
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        if let Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) =
            self.sender.try_send(message)
        {
            self.shared.queued.fetch_sub(1, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            if lost.is_of_bans() {
                *lock(&self.shared.bans_missing) = Some("the store is behind".to_owned());
                self.shared.bans_wanted.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Bans and offenders of the last run, by the clock as it is now. What cannot be written is no reason to forget what was read.
fn recall(
    file: &rusqlite::Connection,
    warnings: &mut Vec<String>,
) -> rusqlite::Result<(Vec<engine::Ban>, Vec<engine::Offender>)> {
    let (mut bans, mut offenders) = (ban::load(file)?, offender::load(file)?);
    let stamp = Clock::new().stamp();
    let step = uptime::step(file, &stamp).unwrap_or_else(|error| {
        warnings.push(format!(
            "whether the clock was set while nothing ran is not known: {error}"
        ));
        None
    });
    if let Some(step) = step {
        for ban in &mut bans {
            (ban.since, ban.expires) = (step.shift(ban.since), step.shift(ban.expires));
        }
        for offender in &mut offenders {
            *offender = offender.shifted(|at| step.shift(at));
        }
        warnings.push(format!(
            "the clock was set while nothing ran: {step}; bans keep the time they had left"
        ));
    }
    let ahead = bound(&mut bans, &mut offenders, clock::now());
    if ahead {
        warnings.push(
            "the clock is behind what is on record; bans that seem to begin later begin now"
                .to_owned(),
        );
    }
    // All of it or nothing: times in the file are by the clock that the file names.
    let written = (|| {
        let transaction = file.unchecked_transaction()?;
        if step.is_some() || ahead {
            for ban in &bans {
                ban::put(&transaction, ban)?;
            }
            for offender in &offenders {
                offender::put(&transaction, offender)?;
            }
        }
        if let Some(step) = step {
            uptime::note_step(&transaction, step.nanos())?;
        }
        uptime::put(&transaction, &stamp)?;
        transaction.commit()
    })();
    if let Err(error) = written {
        warnings.push(format!("the store cannot be written: {error}"));
    }
    Ok((bans, offenders))
}

/// Nothing was before now. A machine without a clock that runs on begins anywhere, and when its clock is set right later, what is
/// left of a ban is kept: more than it was made for must never be left. Returns whether anything seemed to be later.
fn bound(bans: &mut [engine::Ban], offenders: &mut [engine::Offender], now: Timestamp) -> bool {
    let mut found = false;
    let is_ahead = |at: Timestamp| at > now.after(DRIFT);
    for ban in bans.iter_mut().filter(|ban| is_ahead(ban.since)) {
        let back = Step::Back(ban.since.since(now));
        (ban.since, ban.expires) = (now, back.shift(ban.expires));
        found = true;
    }
    for offender in offenders {
        let bounded = offender.shifted(|at| if is_ahead(at) { now } else { at });
        found |= bounded != *offender;
        *offender = bounded;
    }
    found
}

fn spawn(
    file: Option<rusqlite::Connection>,
    receiver: Receiver<Message>,
    shared: Arc<Shared>,
    settings: LogSettings,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || writer::run(file, &receiver, &shared, settings))
}

/// A lock whose holder panicked still guards a value that is whole: each critical section here is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nanoseconds as SQLite keeps them; the far future stays the far future.
fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanos()).unwrap_or(i64::MAX)
}

/// Inverse of [`nanos`].
fn timestamp(nanos: i64) -> Timestamp {
    match u64::try_from(nanos) {
        Ok(nanos) if nanos < i64::MAX as u64 => Timestamp::from_nanos(nanos),
        Ok(_) => Timestamp::MAX,
        Err(_) => Timestamp::default(),
    }
}

#[cfg(test)]
mod tests;
