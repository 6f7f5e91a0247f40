//! The packet line of a live run: threads that take packets from the kernel and hand them to the guard in batches, and workers
//! that answer for packets which the kernel holds.
//!
//! Observing, an AF_PACKET ring shows every packet and the engine judges it. Enforcing, the kernel judges, NFLOG shows what it
//! did, and workers look into the packets of content rules. The guard reads from the top: `switch` begins and ends threads.

mod capture;
mod flow;
mod inspect;
pub mod judge;
mod log;
mod stand_in;
mod tally;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kernel::datapath::Queues;
use kernel::nflog::LogError;
use policy::{Mode, Plan};

use crate::addresses::Discovered;
use crate::api;
use crate::guard::{Batch, Handle};

pub(crate) use flow::Change;
pub use flow::{Tracked, tracked};
pub(crate) use tally::Inspected;

/// Emptied batches that wait for packets again.
const SPARE: usize = 16;
/// How long a thread waits for a packet before it looks whether it shall end.
const WAIT: Duration = Duration::from_millis(100);

/// How long a thread that died again is left alone.
const REVIVAL: Duration = Duration::from_secs(10);

/// What is to be watched and how.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Interfaces that observing looks at; empty: all, also those that appear later.
    pub interfaces: Vec<String>,
    /// The first NFQUEUE number, and how many.
    pub queues: Option<Queues>,
    /// The NFLOG group.
    pub log_group: u16,
    /// A seed that senders cannot know.
    pub seed: u64,
}

/// The threads.
pub struct Pump {
    /// Without a guard to hand packets to there are no threads: for tests of the guard.
    handle: Option<Handle>,
    settings: Settings,
    sources: Vec<Thread>,
    inspectors: Option<inspect::Inspectors>,
    /// Why content rules are not inspected, when they should be.
    not_inspected: Option<String>,
    spare: (SyncSender<Batch>, Arc<Mutex<Receiver<Batch>>>),
    failures: Arc<Mutex<Vec<String>>>,
    /// Of threads that have ended.
    lost: Lost,
    /// By workers that have ended.
    inspected_before: Inspected,
    /// Of the rules in force, by workers that have ended and under earlier plans with the same rules.
    hits_before: Vec<u64>,
    /// When threads that had died were last begun anew.
    revived: Option<Instant>,
}

/// A thread that takes packets.
struct Thread {
    name: String,
    what: &'static str,
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    join: JoinHandle<()>,
}

/// What a thread tells of itself.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    lost: AtomicU64,
    failed: AtomicBool,
}

/// What every source thread works with.
struct Outlet {
    handle: Handle,
    spare: Arc<Mutex<Receiver<Batch>>>,
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    failures: Arc<Mutex<Vec<String>>>,
}

/// What was lost on the way, and how full the ways are.
#[derive(Debug, Default)]
pub struct Lost {
    /// By AF_PACKET.
    pub capture: u64,
    /// By NFLOG.
    pub nflog: u64,
    /// By NFQUEUE.
    pub nfqueue: u64,
    /// What was to be sent in the place of others, and could not be.
    pub unsent: u64,
    /// The kernel's queues.
    pub queues: Vec<api::Queue>,
}

impl Pump {
    /// A pump that hands packets to a guard. No thread runs before [`Pump::switch`].
    pub fn new(handle: Handle, settings: Settings) -> Self {
        Self::with(Some(handle), settings)
    }

    /// A pump without packets.
    pub fn idle() -> Self {
        Self::with(None, Settings::default())
    }

    fn with(handle: Option<Handle>, settings: Settings) -> Self {
        let (give, take) = sync_channel(SPARE);
        Self {
            handle,
            settings,
            sources: Vec::new(),
            inspectors: None,
            not_inspected: None,
            spare: (give, Arc::new(Mutex::new(take))),
            failures: Arc::default(),
            lost: Lost::default(),
            inspected_before: Inspected::default(),
            hits_before: Vec::new(),
            revived: None,
        }
    }

    /// Begins to take packets as the mode needs them, and ends what it does not need. Returns what does not work.
    pub fn switch(&mut self, mode: Mode) -> Vec<String> {
        let Some(handle) = self.handle.clone() else {
            return Vec::new();
        };
        let wanted: &[&str] = match mode {
            Mode::Observe => &[capture::NAME],
            Mode::Enforce => &[log::NAME, flow::NAME],
        };
        let other =
            |thread: &mut Thread| !wanted.contains(&thread.what) || thread.join.is_finished();
        let ended: Vec<Thread> = self.sources.extract_if(.., other).collect();
        for thread in ended {
            self.end(thread);
        }
        if mode == Mode::Observe {
            self.end_inspectors();
        }
        lock(&self.failures).clear();
        let mut failures = Vec::new();
        for &what in wanted {
            match what {
                capture::NAME => failures.extend(self.begin_captures(&handle)),
                _ if self.sources.iter().any(|thread| thread.what == what) => {}
                log::NAME => {
                    let begun = self.begin_log(&handle);
                    failures.extend(begun.err().map(|error| error.to_string()));
                }
                _ => failures.extend(self.begin_flows(&handle).err()),
            }
        }
        // Kept, so that it stays in sight.
        lock(&self.failures).extend(failures.iter().cloned());
        failures
    }

    /// Begins anew what has died and what could not begin, seldom enough that a fault which stays is no storm. Returns what does not work
    /// and was not said before.
    pub fn revive(&mut self, mode: Mode) -> Vec<String> {
        let dead = |thread: &Thread| thread.join.is_finished();
        let lately = |at: Instant| at.elapsed() < REVIVAL;
        let lacks = self.sources.iter().any(dead)
            || mode == Mode::Observe && self.handle.is_some() && !self.unwatched().is_empty();
        if !lacks || self.revived.is_some_and(lately) {
            return Vec::new();
        }
        self.revived = Some(Instant::now());
        let said = lock(&self.failures).clone();
        let mut failures = self.switch(mode);
        failures.retain(|failure| !said.contains(failure));
        failures
    }

    /// Takes the kernel's log, which one process alone can have. Where the kernel has none that is no failure.
    ///
    /// # Errors
    ///
    /// When another process has it.
    pub fn claim_log(&mut self) -> Result<(), String> {
        let Some(handle) = self.handle.clone() else {
            return Ok(());
        };
        if self
            .sources
            .iter()
            .any(|thread| thread.what == log::NAME && !thread.join.is_finished())
        {
            return Ok(());
        }
        match self.begin_log(&handle) {
            Err(log::BeginError::Open(error @ LogError::Taken { .. })) => Err(error.to_string()),
            // `switch` tries again, and tells.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Gives the kernel's log back.
    pub fn release_log(&mut self) {
        let is_log = |thread: &mut Thread| thread.what == log::NAME;
        let ended: Vec<Thread> = self.sources.extract_if(.., is_log).collect();
        for thread in ended {
            self.end(thread);
        }
    }

    /// Of the interfaces that are to be watched those that are not; `None` stands for all.
    fn unwatched(&self) -> Vec<Option<String>> {
        let mut names: Vec<Option<String>> = if self.settings.interfaces.is_empty() {
            vec![None]
        } else {
            self.settings.interfaces.iter().cloned().map(Some).collect()
        };
        names.sort_unstable();
        names.dedup();
        names.retain(|name| {
            let name = shown(name.as_deref());
            let captures = |thread: &Thread| thread.what == capture::NAME && thread.name == name;
            !self.sources.iter().any(captures)
        });
        names
    }

    /// Begins to watch what is not watched yet. Returns what cannot be; the others are watched all the same.
    fn begin_captures(&mut self, handle: &Handle) -> Vec<String> {
        let mut failures = Vec::new();
        for interface in self.unwatched() {
            let name = shown(interface.as_deref()).to_owned();
            let outlet = self.outlet(handle);
            let (stop, counts) = (Arc::clone(&outlet.stop), Arc::clone(&outlet.counts));
            match capture::begin(interface, outlet) {
                Ok(join) => self.sources.push(Thread {
                    name,
                    what: capture::NAME,
                    stop,
                    counts,
                    join,
                }),
                Err(error) => failures.push(format!("{name} is not watched: {error}")),
            }
        }
        failures
    }

    fn begin_log(&mut self, handle: &Handle) -> Result<(), log::BeginError> {
        let outlet = self.outlet(handle);
        let (stop, counts) = (Arc::clone(&outlet.stop), Arc::clone(&outlet.counts));
        let join = log::begin(self.settings.log_group, outlet)?;
        self.sources.push(Thread {
            name: format!("group {}", self.settings.log_group),
            what: log::NAME,
            stop,
            counts,
            join,
        });
        Ok(())
    }

    fn begin_flows(&mut self, handle: &Handle) -> Result<(), String> {
        let outlet = self.outlet(handle);
        let (stop, counts) = (Arc::clone(&outlet.stop), Arc::clone(&outlet.counts));
        let join =
            flow::begin(outlet).map_err(|error| format!("flows are not recorded: {error}"))?;
        self.sources.push(Thread {
            name: "ends of connections, for the record".to_owned(),
            what: flow::NAME,
            stop,
            counts,
            join,
        });
        Ok(())
    }

    fn outlet(&self, handle: &Handle) -> Outlet {
        Outlet {
            handle: handle.clone(),
            spare: Arc::clone(&self.spare.1),
            stop: Arc::default(),
            counts: Arc::default(),
            failures: Arc::clone(&self.failures),
        }
    }

    /// The queues that the kernel may hand packets of this plan's content rules to: their workers run when this returns. Also
    /// why there are none where there should be.
    pub fn queues(
        &mut self,
        plan: &Arc<Plan>,
        discovered: &Discovered,
    ) -> (Option<Queues>, Option<String>) {
        let wanted = plan.looks_inside();
        let (Some(handle), true) = (self.handle.clone(), wanted) else {
            return (None, None);
        };
        if let Some(running) = &self.inspectors
            && running.serve()
        {
            return (Some(running.queues()), None);
        }
        self.end_inspectors();
        let queues = self
            .settings
            .queues
            .unwrap_or(Queues { first: 0, count: 1 });
        match inspect::Inspectors::begin(queues, plan, discovered, self.settings.seed, &handle) {
            Ok(inspectors) => {
                self.inspectors = Some(inspectors);
                self.not_inspected = None;
                (Some(queues), None)
            }
            Err(error) => {
                let text = format!(
                    "content rules and [dns] are not enforced (on_failure decides): {error}"
                );
                self.not_inspected = Some(text.clone());
                (None, Some(text))
            }
        }
    }

    /// Workers judge by this plan from now on.
    pub fn set_plan(&mut self, plan: &Arc<Plan>, discovered: &Discovered) {
        if let Some(inspectors) = &self.inspectors {
            if plan.looks_inside() {
                if let Some(hits) = inspectors.set_plan(plan, discovered) {
                    hits.add_to(&mut self.hits_before);
                }
            } else {
                self.end_inspectors();
            }
        }
    }

    /// Takes an emptied batch back.
    pub fn recycle(&self, mut batch: Batch) {
        batch.clear();
        match self.spare.0.try_send(batch) {
            // There are enough of them already.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Ends every thread.
    pub fn stop(&mut self) {
        for thread in std::mem::take(&mut self.sources) {
            self.end(thread);
        }
        self.end_inspectors();
    }

    /// Tells a thread to end. Not waited for: it may be waiting for room in the channel that the caller serves.
    fn end(&mut self, thread: Thread) {
        thread.stop.store(true, Ordering::Relaxed);
        let lost = thread.counts.lost.load(Ordering::Relaxed);
        match thread.what {
            capture::NAME => self.lost.capture += lost,
            _ => self.lost.nflog += lost,
        }
    }

    fn end_inspectors(&mut self) {
        if let Some(inspectors) = self.inspectors.take() {
            self.lost.nfqueue += inspectors.lost();
            self.lost.unsent += inspectors.unsent();
            self.inspected_before = self.inspected_before.and(inspectors.inspected());
            inspectors.hits().add_to(&mut self.hits_before);
            inspectors.end();
        }
    }

    /// What was lost.
    pub fn losses(&self) -> Lost {
        let mut lost = Lost {
            queues: Vec::new(),
            ..self.lost
        };
        for thread in &self.sources {
            let count = thread.counts.lost.load(Ordering::Relaxed);
            match thread.what {
                capture::NAME => lost.capture += count,
                _ => lost.nflog += count,
            }
        }
        if let Some(inspectors) = &self.inspectors {
            lost.nfqueue += inspectors.lost();
            lost.unsent += inspectors.unsent();
            lost.queues = inspectors.statistics();
        }
        lost
    }

    /// What workers decided.
    pub(crate) fn inspected(&self) -> Inspected {
        let running = self.inspectors.as_ref();
        let now = running
            .map(inspect::Inspectors::inspected)
            .unwrap_or_default();
        self.inspected_before.and(now)
    }

    /// Packets that workers decided by each rule since [`Pump::forget_hits`], by [`policy::RuleId`]; what is not there is none.
    pub(crate) fn hits(&self) -> Vec<u64> {
        let mut hits = self.hits_before.clone();
        if let Some(running) = &self.inspectors {
            running.hits().add_to(&mut hits);
        }
        hits
    }

    /// Forgets what was decided under plans before the one in force: its rules are others.
    pub(crate) fn forget_hits(&mut self) {
        self.hits_before.clear();
    }

    /// Whether packets should come and none can.
    pub fn is_blind(&self) -> bool {
        self.handle.is_some() && self.sources.is_empty()
    }

    /// What does not work.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = lock(&self.failures).clone();
        warnings.extend(self.not_inspected.clone());
        warnings
    }

    /// The interfaces that are watched; empty stands for all.
    pub fn interfaces(&self) -> Vec<String> {
        self.settings.interfaces.clone()
    }

    /// The parts that run.
    pub fn backends(&self) -> Vec<api::Backend> {
        let mut backends: Vec<api::Backend> = self
            .sources
            .iter()
            .map(|thread| {
                let failed = thread.counts.failed.load(Ordering::Relaxed);
                api::Backend {
                    name: thread.what.to_owned(),
                    state: if failed { "failed" } else { "running" }.to_owned(),
                    detail: thread.name.clone(),
                }
            })
            .collect();
        let inspection = match (&self.inspectors, &self.not_inspected) {
            (Some(inspectors), _) => Some(("running", inspectors.describe())),
            (None, Some(why)) => Some(("unavailable", why.clone())),
            (None, None) => None,
        };
        backends.extend(inspection.map(|(state, detail)| api::Backend {
            name: "nfqueue".to_owned(),
            state: state.to_owned(),
            detail,
        }));
        backends
    }
}

impl Outlet {
    /// An empty batch: one that was used before, where there is one.
    fn batch(&self) -> Batch {
        lock(&self.spare).try_recv().unwrap_or_default()
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The thread cannot go on.
    fn fail(&self, text: String) {
        tracing::error!("{text}");
        self.counts.failed.store(true, Ordering::Relaxed);
        lock(&self.failures).push(text);
    }
}

/// What a capture of an interface, or of all, is called.
fn shown(interface: Option<&str>) -> &str {
    interface.unwrap_or("all interfaces")
}

/// A lock whose holder panicked still guards a whole value: no critical section here leaves one half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
