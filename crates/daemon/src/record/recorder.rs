//! The thread that turns events into records: numbers them, writes both files, hands them to the store and to whoever follows.
//!
//! Whoever records never waits: the channel is bounded, and what finds it full is counted.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::Event;
use policy::{LogSettings, Plan, Timestamp};
use tokio::sync::broadcast;

use super::escape::write_json;
use super::writer::{LogFile, RETRY};
use super::{Context, Eve, Notice, Sums, text};
use crate::api;
use crate::store::{Entry, Store};

/// Events that may wait.
const CHANNEL: usize = 8_192;
/// Events that a follower may be behind.
const FOLLOWERS: usize = 4_096;
/// How long a line waits in memory before it is in its file.
const LINGER: Duration = Duration::from_millis(100);

/// A handle on the recording thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queued: AtomicUsize,
    dropped: AtomicU64,
    missed: AtomicU64,
    followers: broadcast::Sender<Arc<Entry>>,
    sinks: Mutex<(api::Sink, api::Sink)>,
}

#[derive(Debug)]
enum Message {
    Event(Box<Event>),
    Notice(Box<Notice>),
    Stats(Timestamp, Box<Sums>),
    Policy(Arc<Plan>, bool),
    Reopen,
    Flush(SyncSender<()>),
    Stop,
}

/// What a recorder is made from.
#[derive(Debug)]
pub struct Settings {
    /// The folder of `eve.json` and `firewall.log`.
    pub folder: PathBuf,
    /// Where events are stored too.
    pub store: Store,
    /// The number of the last event on record.
    pub last_event: u64,
    /// The plan in force, and whether verdicts are carried out.
    pub plan: Arc<Plan>,
    /// See [`Context::enforced`].
    pub enforced: bool,
}

impl Recorder {
    /// Starts the thread. It ends after [`Recorder::stop`].
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn start(settings: Settings) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, receiver) = sync_channel(CHANNEL);
        let shared = Arc::new(Shared {
            queued: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            followers: broadcast::Sender::new(FOLLOWERS),
            sinks: Mutex::default(),
        });
        let mut thread = Thread::new(settings, Arc::clone(&shared));
        let handle = std::thread::Builder::new()
            .name("record".to_owned())
            .spawn(move || thread.run(&receiver))?;
        Ok((Self { sender, shared }, handle))
    }

    /// Records an event.
    pub fn event(&self, event: Event) {
        self.send(Message::Event(Box::new(event)));
    }

    /// Records what happened to the firewall itself.
    pub fn notice(&self, notice: Notice) {
        self.send(Message::Notice(Box::new(notice)));
    }

    /// Records the sums so far, in `eve.json` alone.
    pub fn stats(&self, at: Timestamp, sums: Sums) {
        self.send(Message::Stats(at, Box::new(sums)));
    }

    /// From here on events belong to this plan.
    pub fn set_policy(&self, plan: Arc<Plan>, enforced: bool) {
        // Not subject to loss: rule numbers of later events would mean other rules. It waits for room instead, which the thread
        // makes as long as it lives.
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        let _ = self.sender.send(Message::Policy(plan, enforced));
    }

    /// Opens the files anew, for whoever moved them away.
    pub fn reopen(&self) {
        self.send(Message::Reopen);
    }

    /// Waits, for `patience` at most, until all that was sent before is written. Returns whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        self.sender.send(Message::Flush(done)).is_ok() && wait.recv_timeout(patience).is_ok()
    }

    /// Writes out what was sent before and ends the thread.
    pub fn stop(&self) {
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        // An error says that the thread has ended already.
        let _ = self.sender.send(Message::Stop);
    }

    /// Every event from now on. A follower that is too slow misses some, and is told how many.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.shared.followers.subscribe()
    }

    /// A follower missed so many.
    pub fn count_missed(&self, events: u64) {
        self.shared.missed.fetch_add(events, Ordering::Relaxed);
    }

    /// How many events followers missed.
    pub fn missed(&self) -> u64 {
        self.shared.missed.load(Ordering::Relaxed)
    }

    /// How `eve.json` and `firewall.log` do.
    pub fn sinks(&self) -> (api::Sink, api::Sink) {
        self.shared
            .sinks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How full the channel is.
    pub fn queue(&self) -> api::Queue {
        api::Queue {
            name: "record".to_owned(),
            length: self.shared.queued.load(Ordering::Relaxed),
            capacity: CHANNEL,
            dropped: self.shared.dropped.load(Ordering::Relaxed),
        }
    }

    fn send(&self, message: Message) {
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.sender.try_send(message)
        {
            self.shared.queued.fetch_sub(1, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Thread {
    shared: Arc<Shared>,
    store: Store,
    eve: LogFile,
    text: LogFile,
    plan: Arc<Plan>,
    enforced: bool,
    next_id: u64,
    json: Vec<u8>,
}

impl Thread {
    fn new(settings: Settings, shared: Arc<Shared>) -> Self {
        let LogSettings {
            rotate_bytes,
            rotate_keep,
            ..
        } = settings.plan.log;
        let now = Instant::now();
        let open =
            |name: &str| LogFile::open(settings.folder.join(name), rotate_bytes, rotate_keep, now);
        let thread = Self {
            eve: open("eve.json"),
            text: open("firewall.log"),
            store: settings.store,
            plan: settings.plan,
            enforced: settings.enforced,
            next_id: settings.last_event + 1,
            json: Vec::new(),
            shared,
        };
        thread.show();
        thread
    }

    fn run(&mut self, receiver: &Receiver<Message>) {
        let mut dirty_since: Option<Instant> = None;
        loop {
            let wait = match dirty_since {
                Some(since) => LINGER.saturating_sub(since.elapsed()),
                None if self.eve.is_stopped() || self.text.is_stopped() => RETRY,
                None => Duration::from_secs(3_600),
            };
            let now = Instant::now();
            let message = match receiver.recv_timeout(wait) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => {
                    self.write_out();
                    dirty_since = None;
                    self.retry();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return self.write_out(),
            };
            self.shared.queued.fetch_sub(1, Ordering::Relaxed);
            match message {
                Message::Event(event) => self.record_event(&event, now),
                Message::Notice(notice) => self.record_notice(&notice, now),
                Message::Stats(at, sums) => {
                    self.write_eve(&Eve::of_stats(at, &sums), now);
                }
                Message::Policy(plan, enforced) => {
                    let log = &plan.log;
                    self.eve.set_limits(log.rotate_bytes, log.rotate_keep);
                    self.text.set_limits(log.rotate_bytes, log.rotate_keep);
                    self.store.set_limits(log.clone());
                    (self.plan, self.enforced) = (plan, enforced);
                }
                Message::Reopen => {
                    self.eve.reopen(now);
                    self.text.reopen(now);
                    self.show();
                }
                Message::Flush(done) => {
                    self.write_out();
                    // A waiter that has lost patience is gone.
                    let _ = done.try_send(());
                }
                Message::Stop => return self.write_out(),
            }
            let since = *dirty_since.get_or_insert(now);
            if since.elapsed() >= LINGER {
                self.write_out();
                dirty_since = None;
            }
        }
    }

    fn record_event(&mut self, event: &Event, now: Instant) {
        let plan = Arc::clone(&self.plan);
        let context = Context {
            plan: &plan,
            enforced: self.enforced,
        };
        let id = self.number();
        let eve = Eve::of_event(event, context).numbered(id);
        let kind = eve.kind();
        let line = text::line(event, context);
        if let Some(json) = self.write_eve(&eve, now) {
            let entry = Entry::of_event(id, event, &plan, kind, json);
            self.publish(entry);
        }
        if let Some(line) = line {
            self.text.append(format!("{line} [{id}]").as_bytes(), now);
        }
    }

    fn record_notice(&mut self, notice: &Notice, now: Instant) {
        let id = self.number();
        let eve = Eve::of_notice(notice).numbered(id);
        if let Some(json) = self.write_eve(&eve, now) {
            self.publish(Entry::of_notice(id, notice, json));
        }
        let line = text::notice_line(notice);
        self.text.append(format!("{line} [{id}]").as_bytes(), now);
    }

    fn number(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn write_eve(&mut self, eve: &Eve, now: Instant) -> Option<String> {
        self.json.clear();
        if let Err(error) = write_json(eve, &mut self.json) {
            tracing::error!("an event cannot be written as JSON: {error}");
            return None;
        }
        self.eve.append(&self.json, now);
        Some(String::from_utf8_lossy(&self.json).into_owned())
    }

    fn publish(&self, entry: Entry) {
        if self.shared.followers.receiver_count() > 0 {
            // An error says that nobody follows any more.
            let _ = self.shared.followers.send(Arc::new(entry.clone()));
        }
        self.store.event(entry);
    }

    fn write_out(&mut self) {
        let now = Instant::now();
        self.eve.flush(now);
        self.text.flush(now);
        self.show();
    }

    fn retry(&mut self) {
        let now = Instant::now();
        self.eve.retry(now);
        self.text.retry(now);
        self.show();
    }

    fn show(&self) {
        *self
            .shared
            .sinks
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = (self.eve.state(), self.text.state());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::record::{NoticeKind, samples};
    use crate::store::EventFilter;

    #[test]
    fn an_event_is_in_both_files_in_the_store_and_with_followers_under_one_number() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Arc::new(samples::plan());
        let store = Store::open(&folder.path().join("store.db"), &plan.log)
            .unwrap()
            .store;
        let settings = Settings {
            folder: folder.path().to_owned(),
            store: store.clone(),
            last_event: 41,
            plan: Arc::clone(&plan),
            enforced: true,
        };
        let (recorder, thread) = Recorder::start(settings).unwrap();
        let mut follower = recorder.follow();
        let now = Timestamp::from_nanos(jiff::Timestamp::now().as_nanosecond() as u64);
        let event = Event {
            at: now,
            ..samples::events().remove(0)
        };
        recorder.event(event.clone());
        recorder.set_policy(plan, false);
        recorder.event(event);
        recorder.notice(Notice {
            at: now,
            kind: NoticeKind::Drift,
            text: "put back".to_owned(),
        });
        assert!(recorder.flush(Duration::from_secs(10)));
        assert!(store.flush(Duration::from_secs(10)));

        let eve = std::fs::read_to_string(folder.path().join("eve.json")).unwrap();
        let lines: Vec<serde_json::Value> = eve
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let ids: Vec<_> = lines
            .iter()
            .map(|line| line["metadata"]["pktvars"][0]["event_id"].as_u64())
            .collect();
        assert_eq!(ids, [Some(42), Some(43), Some(44)]);
        let enforced: Vec<_> = lines
            .iter()
            .map(|line| line["metadata"]["pktvars"][0]["enforced"].as_bool())
            .collect();
        assert_eq!(enforced, [Some(true), Some(false), None]);
        let text = std::fs::read_to_string(folder.path().join("firewall.log")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains(" DROP ") && lines[0].ends_with(" [42]"),
            "{text}"
        );
        assert!(
            lines[1].contains(" WOULD-DROP ") && lines[2].ends_with(" DRIFT: put back [44]"),
            "{text}"
        );
        let stored = store
            .reader()
            .unwrap()
            .events(&EventFilter {
                limit: 10,
                ..EventFilter::default()
            })
            .unwrap();
        let stored: Vec<&str> = stored
            .iter()
            .rev()
            .map(|event| event.json.as_str())
            .collect();
        assert_eq!(stored, eve.lines().collect::<Vec<_>>());
        for id in 42..=44 {
            assert_eq!(follower.try_recv().unwrap().id, id);
        }
        assert_eq!(recorder.sinks().0.written, 3);
        recorder.stop();
        thread.join().unwrap();
    }
}
