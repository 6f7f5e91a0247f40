//! Our consumer of a queue, as the daemon's worker does it: many packets a system call, an engine that decides about each,
//! marks kept and the daemon's own cleared.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use engine::{Arrival, Engine, Inspect, Known, Setup};
use kernel::datapath::mark;
use kernel::interfaces::Names;
use kernel::nfqueue::{Batch, Queue, QueuedPacket, Settings, Verdict};
use lab::Netns;
use policy::{AddressSet, Direction, Plan, Timestamp};
use wire::Link;

/// How long the worker waits for packets before it looks whether to stop.
const WAIT: Duration = Duration::from_millis(50);
/// How often time passes in the engine.
const ADVANCE: Duration = Duration::from_millis(250);

/// A worker thread on queue 0, stopped and joined when dropped.
pub(super) struct Worker {
    stop: Arc<AtomicBool>,
    decided: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
    /// Why the first packet that did not pass did not.
    reason: Arc<OnceLock<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Takes queue 0 of the namespace.
    ///
    /// # Errors
    /// The queue cannot be opened.
    pub(super) fn start(at: &Netns, plan: Plan) -> anyhow::Result<Self> {
        let queue = at
            .enter(|| Queue::open(0, &Settings::default()))?
            .context("cannot open queue 0")?;
        let mut worker = Self {
            stop: Arc::default(),
            decided: Arc::default(),
            dropped: Arc::default(),
            reason: Arc::default(),
            thread: None,
        };
        let judge = Judge {
            engine: Engine::new(Setup {
                plan: Arc::new(plan),
                own: AddressSet::default(),
                protected: AddressSet::default(),
                seed: 7,
            }),
            names: Names::default(),
            reason: Arc::clone(&worker.reason),
        };
        let (stop, decided, dropped) = (
            Arc::clone(&worker.stop),
            Arc::clone(&worker.decided),
            Arc::clone(&worker.dropped),
        );
        let thread = std::thread::spawn(move || {
            if let Err(why) = serve(queue, judge, &stop, &decided, &dropped) {
                eprintln!("the worker ended: {why:#}");
            }
        });
        worker.thread = Some(thread);
        Ok(worker)
    }

    /// Packets decided so far.
    pub(super) fn decided(&self) -> u64 {
        self.decided.load(Ordering::Relaxed)
    }

    /// An error when a packet did not pass.
    pub(super) fn let_all_pass(&self) -> anyhow::Result<()> {
        let dropped = self.dropped.load(Ordering::Relaxed);
        let reason = self.reason.get().map_or("", String::as_str);
        ensure!(
            dropped == 0,
            "the worker dropped {dropped} packets: {reason}"
        );
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            eprintln!("the worker panicked");
        }
    }
}

struct Judge {
    engine: Engine,
    names: Names,
    reason: Arc<OnceLock<String>>,
}

fn serve(
    mut queue: Queue,
    mut judge: Judge,
    stop: &AtomicBool,
    decided: &AtomicU64,
    dropped: &AtomicU64,
) -> anyhow::Result<()> {
    let mut buffers = Batch::default();
    let mut advanced = Instant::now();
    let socket = queue.as_fd().try_clone_to_owned()?;
    while !stop.load(Ordering::Relaxed) {
        queue.serve(&mut buffers, WAIT, |packet| {
            let (verdict, inspect) = judge.judge(packet, socket.as_fd());
            decided.fetch_add(1, Ordering::Relaxed);
            if verdict != engine::Verdict::Allow {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
            answer(packet.mark, verdict, inspect)
        })?;
        if advanced.elapsed() >= ADVANCE {
            advanced = Instant::now();
            judge.engine.advance(now());
        }
        while let Some(event) = judge.engine.poll_event() {
            std::hint::black_box(event);
        }
    }
    Ok(())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_nanos(since.map_or(0, |since| since.as_nanos() as u64))
}

impl Judge {
    fn judge(
        &mut self,
        queued: &QueuedPacket<'_>,
        socket: BorrowedFd<'_>,
    ) -> (engine::Verdict, Inspect) {
        let now = queued.timestamp.unwrap_or_else(now);
        let frame = wire::parse(Link::RawIp, queued.payload, queued.full_len);
        let interface = match queued.direction() {
            Some(Direction::Out) => queued.interface_out,
            _ => queued.interface_in,
        };
        let arrival = Arrival {
            now,
            direction: queued.direction(),
            interface: self.names.name(socket, interface, now),
            wire_len: u32::try_from(queued.full_len).unwrap_or(u32::MAX),
            known: Some(if queued.mark & mark::ESTABLISHED == 0 {
                Known::New
            } else {
                Known::Established
            }),
        };
        let decision = self.engine.handle(&arrival, frame);
        if decision.verdict != engine::Verdict::Allow {
            self.reason.get_or_init(|| format!("{decision:?}"));
        }
        (decision.verdict, decision.inspect)
    }
}

/// The daemon's answer: marks of others stay, its own are cleared or say "settled" or "reject".
fn answer(present: u32, verdict: engine::Verdict, inspect: Inspect) -> Verdict {
    let others = present & !mark::ALL;
    let settled = match (verdict, inspect) {
        (engine::Verdict::Drop, _) => return Verdict::Drop,
        (engine::Verdict::Reject, _) => mark::REJECT,
        (engine::Verdict::Allow, Inspect::Settled) => mark::SETTLED,
        (engine::Verdict::Allow, Inspect::None) if present & mark::ESTABLISHED != 0 => {
            mark::SETTLED
        }
        (engine::Verdict::Allow, Inspect::More | Inspect::None) => 0,
    };
    Verdict::Accept {
        mark: Some(others | settled),
    }
}
