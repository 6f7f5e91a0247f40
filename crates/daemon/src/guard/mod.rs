//! The guard: the one thread that owns the engine and the kernel's datapath. Packets, questions and orders reach it as messages
//! through one bounded channel, so that no lock is held while a packet waits and no two orders cross.

mod address;
mod apply;
mod apply_error;
mod ban;
mod begin;
mod drift;
mod flow;
mod go_back;
mod hold;
mod import;
mod in_force;
mod lists;
mod look_up;
mod next_start;
mod packet;
mod reconcile;
mod record;
mod rolled_back;
mod saved;
mod seen;
mod session;
mod standing;
mod status;

pub use apply::{Asked, By};
pub use apply_error::ApplyError;
pub use ban::BanError;
pub(crate) use ban::parse_prefix;
pub(crate) use hold::{
    CLAIMED, Pending as PendingFile, forget_pending, is_over as hold_is_over, left as hold_left,
    left_behind,
};
pub use hold::{Hold, HoldError, Revert};
pub use look_up::{LookUpError, Standing, probe, result};
pub use packet::Batch;
pub(crate) use packet::How;
pub(crate) use record::not_kept;
pub(crate) use rolled_back::{REJECTED, RolledBack};
pub(crate) use saved::{APPLIED, Saved};
pub(crate) use standing::feed_text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use engine::{Engine, Event, Setup as EngineSetup};
use ipnet::IpNet;
use kernel::datapath::{Datapath, OwnBan};
use policy::{Mode, Plan, Timestamp};

use crate::addresses::Discovered;
use crate::api;
use crate::candidate::{Candidate, Source};
use crate::clock::Clock;
use crate::pump::{Change, Pump};
use crate::record::{Notice, NoticeKind, Recorder};
use crate::state::StateDir;
use crate::store::Store;
use crate::watch::Watch;

/// Messages that may wait. A batch holds up to some hundred packets.
const CHANNEL: usize = 64;
/// How often time passes for the engine when no packet comes.
const TICK: Duration = Duration::from_millis(100);
/// How often the kernel is compared with what was applied.
const CHECK: Duration = Duration::from_secs(1);
/// How often the counters of the current minute are brought up to date.
const COUNT: Duration = Duration::from_secs(5);
/// How often the record says how much was seen.
const STATS: Duration = Duration::from_secs(60);

/// The engine, the datapath, and what is known about both.
pub struct Guard {
    engine: Engine,
    /// `None` when nothing can enforce here; then `no_datapath` says why.
    datapath: Option<Box<dyn Datapath + Send>>,
    no_datapath: Option<String>,
    pump: Pump,
    watch: Watch,
    recorder: Recorder,
    store: Store,
    state: StateDir,
    revert: Revert,
    mode_override: Option<Mode>,
    /// Whether the kernel carries out the plan.
    enforcing: bool,
    /// Everything was taken out of the kernel by hand; nothing goes back in before the next apply.
    flushed: bool,
    in_force: InForce,
    previous: Option<Candidate>,
    rejected: Option<RolledBack>,
    /// What the next start takes, unless it is told otherwise.
    begins_with: Source,
    /// What that says, where it was rolled back: as long as it says so, the next start takes what is in force in its place.
    refused: Option<String>,
    hold: Option<Hold>,
    allowed: BTreeMap<IpNet, api::Allowed>,
    discovered: Discovered,
    clock: Clock,
    drift: api::Drift,
    counts: status::Counts,
    sinks: record::Sinks,
    unrecorded: record::Unrecorded,
    unsaved: record::Unsaved,
    seen: seen::Seen,
    /// Ends of flows whose begins were not seen yet, with when they ended and when they came.
    early: Vec<(Change, Timestamp, Instant)>,
    /// When it was last looked whether their begins have come.
    caught_up: Instant,
    /// The kernel may lack bans that the engine holds, or hold some that are due to be lifted.
    bans_behind: bool,
    /// What the kernel banned by itself, until packets have had the time to tell more of it. At most as many as bans are possible.
    own_bans: Vec<OwnBan>,
    /// What the kernel may hold and should not: lifted or over, or refused by the gate. At most as many as bans are possible, since
    /// none but what the kernel holds has to be here.
    to_lift: BTreeSet<IpNet>,
    untold: begin::Untold,
    /// When the kernel's bans were last compared with the engine's.
    last_compared: Instant,
    began: (Timestamp, Instant),
    last_check: Instant,
    last_count: Instant,
    last_stats: Instant,
}

/// The policy in force.
struct InForce {
    candidate: Candidate,
    /// The candidate's plan with mode, allow list and the like as they are here.
    plan: Arc<Plan>,
    since: Timestamp,
    by: By,
}

/// What a guard is made from.
pub struct Setup {
    /// What to begin with.
    pub candidate: Candidate,
    /// What was asked for to begin with: the next start takes it. Another than the candidate where that is no use or was rolled back.
    pub begins_with: Source,
    /// Over the policy's own mode.
    pub mode: Option<Mode>,
    /// What enforces, or why nothing can.
    pub datapath: Result<Box<dyn Datapath + Send>, String>,
    /// Where packets come from.
    pub pump: Pump,
    /// What is told which files the policy in force was read from.
    pub watch: Watch,
    /// Where events go.
    pub recorder: Recorder,
    /// Where bans and counters go.
    pub store: Store,
    /// Where what must outlive a crash goes.
    pub state: StateDir,
    /// How the process is started that reverts when this one is killed.
    pub revert: Revert,
    /// What was found already.
    pub discovered: Discovered,
    /// Bans of the last run.
    pub bans: Vec<engine::Ban>,
    /// Who was banned before.
    pub offenders: Vec<engine::Offender>,
    /// A seed that senders cannot know.
    pub seed: u64,
}

/// What the guard is told.
pub(crate) enum Input {
    /// Packets to be judged or that the kernel judged.
    Batch(Batch),
    /// What inspecting workers found.
    Events(Vec<Event>),
    /// Flows that the kernel tracked have ended.
    Changes(Vec<Change>),
    /// Something to be done between two packets.
    Ask(Box<dyn FnOnce(&mut Guard) + Send>),
    /// The end.
    Stop,
}

/// A way to the guard. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    sender: SyncSender<Input>,
}

/// The guard does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine does not answer; look at the daemon's log, and restart it")]
pub struct Silent;

impl Handle {
    /// A channel to a guard that is still to be made.
    pub fn channel() -> (Self, Inbox) {
        let (sender, receiver) = sync_channel(CHANNEL);
        (Self { sender }, Inbox(receiver))
    }

    /// Has the guard do something between two packets, and waits for it.
    ///
    /// # Errors
    ///
    /// When the guard has ended.
    pub fn ask<T: Send + 'static>(
        &self,
        order: impl FnOnce(&mut Guard) -> T + Send + 'static,
    ) -> Result<T, Silent> {
        let (answer, wait) = sync_channel(1);
        let order = Box::new(move |guard: &mut Guard| {
            // Nobody waits any more: the order is done all the same.
            let _ = answer.send(order(guard));
        });
        self.send(Input::Ask(order))?;
        wait.recv().map_err(|_| Silent)
    }

    /// Ends the guard after what was sent before.
    pub fn stop(&self) {
        // An error says that it has ended already.
        let _ = self.send(Input::Stop);
    }

    /// Hands something over if there is room, else gives it back. What a guard that has ended would get is gone.
    pub(crate) fn try_send(&self, input: Input) -> Result<(), Input> {
        match self.sender.try_send(input) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(input)) => Err(input),
        }
    }

    /// Hands over packets or events; waits for room.
    pub(crate) fn send(&self, input: Input) -> Result<(), Silent> {
        self.sender.send(input).map_err(|_| Silent)
    }
}

/// The guard's end of the channel.
pub struct Inbox(Receiver<Input>);

impl Guard {
    /// A guard with nothing in force yet: [`Guard::start`] comes next, on the thread that will run it.
    pub fn new(setup: Setup) -> Self {
        let Setup {
            candidate,
            begins_with,
            mode,
            datapath,
            pump,
            watch,
            recorder,
            store,
            state,
            revert,
            discovered,
            bans,
            offenders,
            seed,
        } = setup;
        let clock = Clock::new();
        let now = clock.now();
        let allowed = state
            .read::<Vec<api::Allowed>>(address::ALLOWED)
            .unwrap_or_default()
            .into_iter()
            .map(|entry| (entry.prefix, entry))
            .collect();
        let (datapath, no_datapath) = match datapath {
            Ok(datapath) => (Some(datapath), None),
            Err(why) => (None, Some(why)),
        };
        let previous = saved::before_start(&state, &candidate);
        let is_other = candidate.source.clone().again() != begins_with;
        let refused = is_other.then(|| begins_with.text()).flatten();
        let plan = apply::effective(&candidate.plan, Mode::Observe, &allowed);
        let mut engine = Engine::new(EngineSetup {
            plan: Arc::clone(&plan),
            own: discovered.own.clone(),
            protected: discovered.protected_set(),
            seed,
        });
        engine.only_observe(true);
        let mut guard = Self {
            engine,
            datapath,
            no_datapath,
            pump,
            watch,
            recorder,
            store,
            rejected: state.read(REJECTED),
            begins_with,
            refused,
            state,
            revert,
            mode_override: mode,
            enforcing: false,
            flushed: false,
            in_force: InForce {
                candidate,
                plan,
                since: now,
                by: By::Start,
            },
            previous,
            hold: None,
            allowed,
            discovered,
            clock,
            drift: api::Drift {
                in_sync: true,
                ..api::Drift::default()
            },
            counts: status::Counts::default(),
            sinks: record::Sinks::default(),
            unrecorded: record::Unrecorded::default(),
            unsaved: record::Unsaved::default(),
            seen: seen::Seen::default(),
            early: Vec::new(),
            caught_up: Instant::now(),
            bans_behind: false,
            own_bans: Vec::new(),
            to_lift: BTreeSet::new(),
            untold: begin::Untold::default(),
            last_compared: Instant::now(),
            began: (now, Instant::now()),
            last_check: Instant::now(),
            last_count: Instant::now(),
            last_stats: Instant::now(),
        };
        for offender in offenders {
            guard.engine.restore_offender(offender);
        }
        guard.restore_bans(bans, now);
        guard
    }

    /// Serves the channel until it is told to stop. What is in the kernel then stays there.
    pub fn run(mut self, inbox: &Inbox) {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let wait = next_tick.saturating_duration_since(Instant::now());
            let input = inbox.0.recv_timeout(wait);
            // Before anything that asks what time it is: packets are stamped by a clock that may have been set meanwhile.
            self.notice_step();
            match input {
                Ok(Input::Batch(batch)) => {
                    self.packets(&batch);
                    self.pump.recycle(batch);
                    self.catch_up();
                }
                Ok(Input::Events(events)) => self.inspected(events),
                Ok(Input::Changes(changes)) => self.changes(changes),
                Ok(Input::Ask(order)) => order(&mut self),
                Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= next_tick {
                self.tick();
                next_tick = Instant::now() + TICK;
            }
        }
        self.end();
    }

    fn notice_step(&mut self) {
        if let Some(step) = self.clock.step() {
            self.shift_bans(step, self.clock.now());
        }
    }

    fn tick(&mut self) {
        self.notice_step();
        let now = self.clock.now();
        self.engine.advance(now);
        self.settle(now);
        self.catch_up();
        self.adopt_own_bans(ban::TOLD_AT_ONCE, now);
        self.watch_hold();
        if self.last_check.elapsed() >= CHECK {
            self.last_check = Instant::now();
            self.check(now);
            for warning in self.pump.revive(self.mode()) {
                tracing::warn!("{warning}");
            }
            self.watch_record();
            self.watch_flows();
            self.save_again();
            if self.store.take_bans_wanted() {
                self.store.replace(self.memory());
            }
        }
        if self.last_count.elapsed() >= COUNT {
            self.last_count = Instant::now();
            self.count(now);
        }
        if self.last_stats.elapsed() >= STATS {
            self.last_stats = Instant::now();
            let sums = self.sums();
            self.recorder.stats(now, sums);
        }
    }

    fn end(&mut self) {
        let now = self.clock.now();
        self.pump.stop();
        self.engine.finish(now);
        self.settle(now);
        self.count(now);
        if self.enforcing {
            self.notice(
                NoticeKind::Daemon,
                "stopped; rules and bans stay in the kernel (`portcullis flush` takes them out)",
            );
        } else {
            // Nothing that somebody would have to know: for the record alone.
            self.recorder.notice(Notice {
                at: now,
                kind: NoticeKind::Daemon,
                text: "stopped; nothing of ours is in the kernel".to_owned(),
            });
        }
    }

    /// Takes the engine's events to the record, and bans to the kernel.
    fn settle(&mut self, now: Timestamp) {
        let mut bans = Vec::new();
        while let Some(event) = self.engine.poll_event() {
            self.note_ban(&event, &mut bans);
            self.recorder.event(event);
        }
        if !bans.is_empty() {
            self.carry_out(&bans, now);
        }
    }

    pub(crate) fn notice(&self, kind: NoticeKind, text: impl Into<String>) {
        let text = text.into();
        // What somebody has to know who only looks at the service's output.
        match kind {
            NoticeKind::Drift | NoticeKind::Daemon => tracing::warn!("{text}"),
            NoticeKind::Policy => tracing::info!("{text}"),
        }
        self.recorder.notice(Notice {
            at: self.clock.now(),
            kind,
            text,
        });
    }
}

#[cfg(test)]
mod tests;
