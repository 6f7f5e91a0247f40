//! Enforcing content rules and `[dns]`: workers that answer for packets which the kernel holds.
//!
//! Each worker has an engine of its own for the flows of its queue; what it finds (bans, alerts, drops) goes to the guard. A
//! packet waits for its worker alone: what the guard has no room for waits in the worker, and is lost and counted before it
//! makes a packet wait.

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::{Event, EventBody, Reason, Setup, Totals};
use kernel::datapath::Queues;
use kernel::nfqueue::{self, Queue, QueueError};
use kernel::reply::Replier;
use policy::{AddressSet, Plan};

use super::judge::{Judge, for_kernel};
use super::stand_in::StandIn;
use super::tally::{Hits, Inspected};
use super::{WAIT, lock};
use crate::addresses::Discovered;
use crate::api;
use crate::guard::{Handle, Input};
use crate::record::explain::several;

/// Events that a worker keeps while the guard has no room.
const KEPT: usize = 4_096;
/// How often a worker's engine lets time pass.
const ADVANCE: Duration = Duration::from_millis(250);

/// The workers of all queues.
pub(super) struct Inspectors {
    queues: Queues,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    /// Grows with each new plan.
    generation: AtomicU64,
    orders: Mutex<Orders>,
    lost_events: AtomicU64,
    /// Of all workers; each adds to it when it has answered what came at once.
    tally: Mutex<Inspected>,
    unsent: AtomicU64,
}

#[derive(Clone)]
struct Orders {
    /// What the plan was made of.
    whole: Arc<Plan>,
    plan: Arc<Plan>,
    own: AddressSet,
    protected: AddressSet,
    /// Of this plan's rules: their numbers mean others in another.
    hits: Arc<Hits>,
}

impl Orders {
    fn new(plan: &Arc<Plan>, discovered: &Discovered) -> Self {
        // What flows tell is told to the guard by the kernel, of every flow; workers see some of them.
        let mut inspecting = Plan::clone(plan);
        inspecting.detect = inspecting.detect.of_content();
        Self {
            whole: Arc::clone(plan),
            plan: Arc::new(inspecting),
            own: discovered.own.clone(),
            protected: discovered.protected_set(),
            hits: Arc::new(Hits::of(plan.rules.len())),
        }
    }

    /// The same plan stays the same for the workers too, which reload at another one. Returns the hits of the one before, if it goes.
    fn change(&mut self, plan: &Arc<Plan>, discovered: &Discovered) -> Option<Arc<Hits>> {
        if Arc::ptr_eq(plan, &self.whole) {
            self.own = discovered.own.clone();
            self.protected = discovered.protected_set();
            return None;
        }
        Some(std::mem::replace(self, Self::new(plan, discovered)).hits)
    }
}

impl Inspectors {
    /// Takes the queues and begins a worker for each.
    pub(super) fn begin(
        queues: Queues,
        plan: &Arc<Plan>,
        discovered: &Discovered,
        seed: u64,
        handle: &Handle,
    ) -> Result<Self, String> {
        let settings = nfqueue::Settings {
            first: queues.first,
            count: queues.count,
            // Whoever fills a queue would else choose what passes unseen, and the kernel does not count what it lets pass. `on_failure`
            // is about a daemon that is gone.
            fail_open: false,
            ..nfqueue::Settings::default()
        };
        let open = open(&settings).map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            orders: Mutex::new(Orders::new(plan, discovered)),
            lost_events: AtomicU64::new(0),
            tally: Mutex::default(),
            unsent: AtomicU64::new(0),
        });
        let mut threads = Vec::new();
        for queue in open {
            let (shared, handle) = (Arc::clone(&shared), handle.clone());
            let worker = std::thread::Builder::new()
                .name(format!("inspect-{}", queue.number()))
                .spawn(move || Worker::new(queue, shared, handle, seed).run())
                .map_err(|error| error.to_string())?;
            threads.push(worker);
        }
        Ok(Self {
            queues,
            shared,
            threads,
        })
    }

    /// Whether all workers live.
    pub(super) fn serve(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    pub(super) fn queues(&self) -> Queues {
        self.queues
    }

    /// Returns the rules' hits under the plan before, where this is another.
    pub(super) fn set_plan(&self, plan: &Arc<Plan>, discovered: &Discovered) -> Option<Arc<Hits>> {
        let before = lock(&self.shared.orders).change(plan, discovered);
        self.shared.generation.fetch_add(1, Ordering::Release);
        before
    }

    /// Tells the workers to end. Not waited for: one may be waiting for the guard.
    pub(super) fn end(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn inspected(&self) -> Inspected {
        *lock(&self.shared.tally)
    }

    /// Of the rules of the plan in force.
    pub(super) fn hits(&self) -> Arc<Hits> {
        Arc::clone(&lock(&self.shared.orders).hits)
    }

    /// What was to be sent in the place of others, and could not be.
    pub(super) fn unsent(&self) -> u64 {
        self.shared.unsent.load(Ordering::Relaxed)
    }

    /// Packets that a full queue dropped.
    pub(super) fn lost(&self) -> u64 {
        self.numbers()
            .map(|statistics| statistics.full + statistics.unread)
            .sum()
    }

    pub(super) fn statistics(&self) -> Vec<api::Queue> {
        let capacity = nfqueue::Settings::default().length as usize;
        let mut queues: Vec<api::Queue> = self
            .numbers()
            .map(|statistics| api::Queue {
                name: format!("nfqueue {}", statistics.queue),
                length: statistics.waiting as usize,
                capacity,
                dropped: statistics.full + statistics.unread,
            })
            .collect();
        queues.push(api::Queue {
            name: "inspection events".to_owned(),
            length: 0,
            capacity: KEPT,
            dropped: self.shared.lost_events.load(Ordering::Relaxed),
        });
        queues
    }

    fn numbers(&self) -> impl Iterator<Item = nfqueue::QueueStatistics> {
        let numbers = self.queues.first..=self.queues.last();
        nfqueue::statistics()
            .unwrap_or_default()
            .into_iter()
            .filter(move |statistics| numbers.contains(&statistics.queue))
    }

    pub(super) fn describe(&self) -> String {
        let running = self
            .threads
            .iter()
            .filter(|thread| !thread.is_finished())
            .count();
        format!(
            "{running} of {} workers inspect packets of content rules and questions to name servers, {} so far",
            self.threads.len(),
            several(self.inspected().packets, "packet")
        )
    }
}

/// The workers that had the queues before may still be on their way out.
fn open(settings: &nfqueue::Settings) -> Result<Vec<Queue>, QueueError> {
    for _ in 0..20 {
        match nfqueue::open(settings) {
            Err(QueueError::Taken { .. }) => std::thread::sleep(Duration::from_millis(25)),
            outcome => return outcome,
        }
    }
    nfqueue::open(settings)
}

struct Worker {
    queue: Queue,
    shared: Arc<Shared>,
    handle: Handle,
    judge: Judge,
    hits: Arc<Hits>,
    generation: u64,
    kept: VecDeque<Event>,
    /// Made when there is something to answer.
    replier: Option<Replier>,
}

impl Worker {
    fn new(queue: Queue, shared: Arc<Shared>, handle: Handle, seed: u64) -> Self {
        // Before the orders: a change in between is followed twice rather than missed.
        let generation = shared.generation.load(Ordering::Acquire);
        let Orders {
            plan,
            own,
            protected,
            hits,
            ..
        } = lock(&shared.orders).clone();
        let judge = Judge::new(Setup {
            plan,
            own,
            protected,
            seed,
        });
        Self {
            queue,
            handle,
            judge,
            hits,
            generation,
            shared,
            kept: VecDeque::new(),
            replier: None,
        }
    }

    fn run(mut self) {
        let mut buffers = nfqueue::Batch::default();
        let mut advanced = Instant::now();
        // A second handle on the socket, since the queue is borrowed while packets come out of it.
        let socket = match self.queue.as_fd().try_clone_to_owned() {
            Ok(socket) => socket,
            Err(error) => return tracing::error!("queue {}: {error}", self.queue.number()),
        };
        let mut stand_ins: Vec<StandIn> = Vec::new();
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.judge.notice_step();
            follow_orders(
                &mut self.judge,
                &mut self.hits,
                &self.shared,
                &mut self.generation,
            );
            let before = (
                *self.judge.engine.totals(),
                self.judge.engine.unrecorded_flows(),
            );
            let mut decided = Inspected::default();
            let (judge, shared) = (&mut self.judge, &self.shared);
            let (hits, generation) = (&mut self.hits, &mut self.generation);
            let served = self.queue.serve(&mut buffers, WAIT, |packet| {
                // Orders may have come while nothing else did.
                follow_orders(judge, hits, shared, generation);
                let decision = judge.judge(packet, socket.as_fd());
                decided = decided.and(Inspected::of(packet, &decision));
                hits.note(packet, &decision);
                stand_ins.extend(StandIn::to(packet, &decision, judge.engine.plan()));
                for_kernel(packet.mark, decision.verdict, decision.inspect)
            });
            self.count(decided, &before);
            if let Err(error) = served {
                tracing::error!("content rules of one queue are not inspected any more: {error}");
                return;
            }
            self.stand_in(&mut stand_ins);
            if advanced.elapsed() >= ADVANCE {
                advanced = Instant::now();
                let now = self.judge.now();
                self.judge.engine.advance(now);
            }
            self.report();
        }
    }

    /// Sends what is to be sent in the place of others. No packet waits for it: what it is about has its verdict.
    fn stand_in(&mut self, stand_ins: &mut Vec<StandIn>) {
        if stand_ins.is_empty() {
            return;
        }
        if self.replier.is_none() {
            self.replier = match Replier::open() {
                Ok(replier) => Some(replier),
                Err(error) => {
                    tracing::warn!(
                        "questions for blocked names are not answered, and connections reset on one side alone: {error}"
                    );
                    None
                }
            };
        }
        for stand_in in stand_ins.drain(..) {
            if !stand_in.send(self.replier.as_ref()) {
                self.shared.unsent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Tells what was decided, and what was asked and what of flows is not recorded since the engine stood at `before`.
    fn count(&self, decided: Inspected, (before, unrecorded): &(Totals, u64)) {
        let now = self.judge.engine.totals();
        let more = Inspected {
            dns_questions: now.dns_questions - before.dns_questions,
            dns_blocked: now.dns_blocked - before.dns_blocked,
            unrecorded_flows: self.judge.engine.unrecorded_flows() - unrecorded,
            ..decided
        };
        let mut tally = lock(&self.shared.tally);
        *tally = tally.and(more);
    }

    /// Hands what was found to the guard, when it has room.
    fn report(&mut self) {
        while let Some(event) = self.judge.engine.poll_event() {
            match &event.body {
                // The guard keeps the bans, and lifts them: one kept here would go on when it is lifted there.
                EventBody::Ban(ban) => {
                    let prefix = ban.prefix;
                    let now = self.judge.now();
                    self.judge.engine.unban(now, prefix);
                }
                EventBody::Unban { .. } => continue,
                // The kernel tells of the end of flows that its rules have let in.
                EventBody::Flow(flow) if flow.reason == Reason::Established => continue,
                _ => {}
            }
            if self.kept.len() >= KEPT {
                // Bans are worth more than the rest.
                let place = self
                    .kept
                    .iter()
                    .position(|event| !matters(event))
                    .unwrap_or(0);
                self.kept.remove(place);
                self.shared.lost_events.fetch_add(1, Ordering::Relaxed);
            }
            self.kept.push_back(event);
        }
        if self.kept.is_empty() {
            return;
        }
        let events = std::mem::take(&mut self.kept).into();
        if let Err(Input::Events(events)) = self.handle.try_send(Input::Events(events)) {
            self.kept = events.into();
        }
    }
}

/// Takes up a new plan, when there is one.
fn follow_orders(judge: &mut Judge, hits: &mut Arc<Hits>, shared: &Shared, known: &mut u64) {
    let generation = shared.generation.load(Ordering::Acquire);
    if generation == *known {
        return;
    }
    *known = generation;
    let Orders {
        plan,
        own,
        protected,
        hits: fresh,
        ..
    } = lock(&shared.orders).clone();
    *hits = fresh;
    // A reload begins inspection anew: not for new addresses alone.
    if !Arc::ptr_eq(&plan, judge.engine.plan()) {
        judge.engine.reload(plan);
    }
    let now = judge.now();
    judge.engine.set_addresses(own, protected, now);
}

fn matters(event: &Event) -> bool {
    matches!(event.body, EventBody::Ban(_) | EventBody::Alert(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_addresses_alone_are_no_new_plan() {
        let (plan, other) = (Arc::new(Plan::default()), Arc::new(Plan::default()));
        let mut orders = Orders::new(&plan, &Discovered::default());
        let before = Arc::clone(&orders.plan);
        orders.change(&plan, &Discovered::default());
        assert!(Arc::ptr_eq(&orders.plan, &before));
        orders.change(&other, &Discovered::default());
        assert!(!Arc::ptr_eq(&orders.plan, &before));
    }
}
