//! Our consumer of a queue: the daemon's judge, served as its worker serves it, without a guard to report to.

use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use daemon::clock;
use daemon::pump::judge::{Judge, for_kernel};
use engine::Setup;
use kernel::nfqueue::{Batch, Queue, Settings};
use lab::Netns;
use policy::{AddressSet, Plan};

/// How long the worker waits for packets before it looks whether to stop.
const WAIT: Duration = Duration::from_millis(50);
/// How often time passes in the engine.
const ADVANCE: Duration = Duration::from_millis(250);

/// A worker thread on queue 0, stopped and joined when dropped.
pub(super) struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    decided: AtomicU64,
    dropped: AtomicU64,
    /// Why the first packet that did not pass did not.
    reason: OnceLock<String>,
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
            shared: Arc::default(),
            thread: None,
        };
        let judge = Judge::new(Setup {
            plan: Arc::new(plan),
            own: AddressSet::default(),
            protected: AddressSet::default(),
            seed: 7,
        });
        let shared = Arc::clone(&worker.shared);
        let thread = std::thread::spawn(move || {
            if let Err(why) = serve(queue, judge, &shared) {
                eprintln!("the worker ended: {why:#}");
            }
        });
        worker.thread = Some(thread);
        Ok(worker)
    }

    /// Packets decided so far.
    pub(super) fn decided(&self) -> u64 {
        self.shared.decided.load(Ordering::Relaxed)
    }

    /// An error when a packet did not pass.
    pub(super) fn let_all_pass(&self) -> anyhow::Result<()> {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        let reason = self.shared.reason.get().map_or("", String::as_str);
        ensure!(
            dropped == 0,
            "the worker dropped {dropped} packets: {reason}"
        );
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            eprintln!("the worker panicked");
        }
    }
}

fn serve(mut queue: Queue, mut judge: Judge, shared: &Shared) -> anyhow::Result<()> {
    let mut buffers = Batch::default();
    let mut advanced = Instant::now();
    let socket = queue.as_fd().try_clone_to_owned()?;
    while !shared.stop.load(Ordering::Relaxed) {
        queue.serve(&mut buffers, WAIT, |packet| {
            let decision = judge.judge(packet, socket.as_fd());
            shared.decided.fetch_add(1, Ordering::Relaxed);
            if decision.verdict != engine::Verdict::Allow {
                shared.dropped.fetch_add(1, Ordering::Relaxed);
                shared.reason.get_or_init(|| format!("{decision:?}"));
            }
            for_kernel(packet.mark, decision.verdict, decision.inspect)
        })?;
        if advanced.elapsed() >= ADVANCE {
            advanced = Instant::now();
            judge.engine.advance(clock::now());
        }
        while let Some(event) = judge.engine.poll_event() {
            std::hint::black_box(event);
        }
    }
    Ok(())
}
