//! The whole firewall process, from its options to its end.

mod first;
mod watched;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use kernel::datapath::{Datapath, Queues};
use kernel::nft::{Features, LOG_GROUP, Nft};
use kernel::probe::{Capability, has_capability};
use policy::{DefaultAction, Mode};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use first::First;

use crate::addresses::Discovered;
use crate::api;
use crate::candidate::{Candidate, Invalid};
use crate::guard::{self, ApplyError, Guard, Handle, Inbox, Revert};
use crate::pump::{self, Pump};
use crate::record::{Recorder, recorder};
use crate::server::{self, Listener, Service, SocketError};
use crate::service_manager;
use crate::state::{StateDir, StateError};
use crate::store::Store;
use crate::watch::Watch;
use crate::{discovery, revert};

/// How long the last lines of the record may take.
const FAREWELL: Duration = Duration::from_secs(5);
/// The first NFQUEUE number.
const FIRST_QUEUE: u16 = 1_117;

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The policy; without one the built-in policy, which observes.
    pub config: Option<PathBuf>,
    /// Over the policy's own mode.
    pub mode: Option<Mode>,
    /// Interfaces that observing looks at; empty: all.
    pub interfaces: Vec<String>,
    /// Where bans and history are kept.
    pub state_dir: PathBuf,
    /// Where `eve.json` and `firewall.log` are written.
    pub log_dir: PathBuf,
    /// Where the API is served.
    pub socket: PathBuf,
    /// Whether to start the dashboard. This version has none.
    pub web: bool,
    /// How this program is started as the hidden verb that reverts ([`crate::revert::main`]); without it
    /// `/proc/self/exe __revert`.
    pub revert: Option<Vec<OsString>>,
}

/// What a person should know when it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Banner {
    /// Whether verdicts are carried out.
    pub mode: Mode,
    /// The policy.
    pub source: String,
    /// Rules in it.
    pub rules: usize,
    /// What happens to what no rule decides: inbound, outbound, forward.
    pub defaults: [DefaultAction; 3],
    /// Interfaces that observing looks at; empty: all. Rules and bans hold on every one.
    pub interfaces: Vec<String>,
    /// Where the record is: `eve.json`, `firewall.log`, the store.
    pub record: [PathBuf; 3],
    /// Where the API is.
    pub socket: PathBuf,
    /// Bans that hold from the last run.
    pub bans: usize,
    /// How to enforce; only when observing.
    pub enforce_with: Option<String>,
    /// What is not as it should be.
    pub warnings: Vec<String>,
}

impl Banner {
    /// For the status of a service: one line.
    fn state(&self) -> String {
        let doing = match self.mode {
            Mode::Enforce => "enforces",
            Mode::Observe => "observes",
        };
        format!("{doing} {}", self.source).replace('\n', " ")
    }
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The policy is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The policy cannot be enforced.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// An interface that is not there.
    #[error(
        "there is no interface {name:?} to watch; {there}: correct -i, or leave it out to watch all"
    )]
    NoInterface {
        /// What was asked for.
        name: String,
        /// Those that are there.
        there: String,
    },
    /// Nothing is seen and nothing enforced.
    #[error("nothing can be watched: {0}")]
    Blind(String),
    /// The operating system refuses something that every process may.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    /// The engine ended by itself.
    #[error("the engine ended; its last words are in the log")]
    Ended,
}

impl RunError {
    /// Whether it is for lack of permission.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::State(StateError::Unusable { source, .. })
            | Self::Socket(SocketError::Io { source, .. })
            | Self::System(source) => source.kind() == std::io::ErrorKind::PermissionDenied,
            // Root is not always allowed everything: containers and services are given less.
            Self::Blind(_) => !has_capability(Capability::NetRaw),
            Self::Apply(error) => error.is_permission(),
            _ => false,
        }
    }
}

/// Runs until it is told to stop by SIGTERM or SIGINT. `announce` hears how it is once it runs.
///
/// # Errors
///
/// When it cannot begin, or its engine ends by itself.
pub fn run(options: &RunOptions, announce: impl FnOnce(&Banner)) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    // Before anything is begun: a signal from here on is a request, not an end.
    let signals = {
        let _context = runtime.enter();
        Signals::new()?
    };
    // Before what could be mended and would not help.
    if let Some(why) = powerless() {
        return Err(RunError::Blind(why));
    }
    first::refuse_at_once(options)?;
    let state = StateDir::open(&options.state_dir)?;
    let listener = Listener::bind(&options.socket)?;
    let First {
        candidate,
        mut warnings,
        rejected,
    } = First::choose(options, &state)?;
    let mode = options.mode.unwrap_or(candidate.plan.mode);
    warnings.extend(watched::check_names(&options.interfaces, mode)?);
    let parts = Parts::begin(options, state, candidate, &mut warnings)?;
    let banner = parts.banner(options, warnings)?;
    if let Some(why) = &rejected {
        parts.watch.reject(why);
    }
    announce(&banner);
    service_manager::ready(&banner.state());
    let outcome = runtime.block_on(parts.serve(listener, signals));
    parts.end();
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// The signals that mean something.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// Everything that runs.
struct Parts {
    handle: Handle,
    watch: Watch,
    recorder: Recorder,
    store: Store,
    stop: Arc<AtomicBool>,
    guard: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
    started: api::Applied,
}

impl Parts {
    /// Begins every thread, in the order in which they need each other, and puts the policy in force.
    fn begin(
        options: &RunOptions,
        state: StateDir,
        candidate: Candidate,
        warnings: &mut Vec<String>,
    ) -> Result<Self, RunError> {
        let opened = Store::open(&state.path("store.db"), &candidate.plan.log)?;
        warnings.extend(opened.warnings);
        let (recorder, recording) = Recorder::start(recorder::Settings {
            folder: options.log_dir.clone(),
            store: opened.store.clone(),
            last_event: opened.last_event,
            plan: Arc::clone(&candidate.plan),
            enforced: false,
        })?;
        let discovered = discovery::discover().unwrap_or_else(|error| {
            warnings.push(format!(
                "own addresses, gateways and resolvers are not protected: {error}"
            ));
            Discovered::default()
        });
        let seed = seed()?;
        let (handle, inbox) = Handle::channel();
        let (watch, watching) = Watch::start(handle.clone(), state.lists())?;
        let settings = pump::Settings {
            interfaces: options.interfaces.clone(),
            queues: Some(Queues {
                first: FIRST_QUEUE,
                count: workers(),
            }),
            log_group: LOG_GROUP,
            seed,
        };
        let guard = Guard::new(guard::Setup {
            candidate,
            begins_with: first::source(options)?,
            mode: options.mode,
            datapath: datapath(),
            pump: Pump::new(handle.clone(), settings),
            watch: watch.clone(),
            recorder: recorder.clone(),
            store: opened.store.clone(),
            state,
            revert: reverter(options),
            discovered,
            bans: opened.bans,
            offenders: opened.offenders,
            seed,
        });
        let stop = Arc::new(AtomicBool::new(false));
        let guard = start_guard(guard, inbox)?;
        let mut parts = Self {
            others: vec![watching, recording, opened.thread],
            started: api::Applied::default(),
            handle,
            watch,
            recorder,
            store: opened.store,
            stop,
            guard,
        };
        match parts.put_in_force() {
            Ok(started) => {
                parts.started = started;
                parts.others.push(discovery::start(
                    parts.handle.clone(),
                    Arc::clone(&parts.stop),
                )?);
                Ok(parts)
            }
            Err(error) => {
                parts.end();
                Err(error)
            }
        }
    }

    fn put_in_force(&self) -> Result<api::Applied, RunError> {
        let started = self
            .handle
            .ask(Guard::start)
            .map_err(|_| RunError::Ended)??;
        let blind = self
            .handle
            .ask(|guard| guard.blind())
            .map_err(|_| RunError::Ended)?;
        match blind {
            Some(why) => Err(RunError::Blind(why)),
            None => Ok(started),
        }
    }

    fn banner(&self, options: &RunOptions, mut warnings: Vec<String>) -> Result<Banner, RunError> {
        let status = self
            .handle
            .ask(Guard::status)
            .map_err(|_| RunError::Ended)?;
        let defaults = self
            .handle
            .ask(|guard| guard.defaults())
            .map_err(|_| RunError::Ended)?;
        warnings.extend(self.started.warnings.clone());
        let enforcing = status.mode == "enforce";
        Ok(Banner {
            mode: if enforcing {
                Mode::Enforce
            } else {
                Mode::Observe
            },
            source: status.policy.source,
            rules: status.policy.rules,
            defaults,
            interfaces: status.interfaces,
            record: [
                &status.record.eve,
                &status.record.text,
                &status.record.store,
            ]
            .map(|sink| PathBuf::from(&sink.path)),
            socket: options.socket.clone(),
            bans: status.bans,
            enforce_with: (!enforcing).then(|| match &options.config {
                Some(_) if options.mode == Some(Mode::Observe) => "run without --observe".to_owned(),
                Some(path) => format!(
                    "write mode = \"enforce\" into the policy, and `portcullis apply {} --confirm 60s`",
                    path.display()
                ),
                None => "write a policy, name it with --config, and run with --enforce".to_owned(),
            }),
            warnings,
        })
    }

    /// Serves the API until a signal says to stop.
    async fn serve(&self, listener: Listener, mut signals: Signals) -> Result<(), RunError> {
        let (stop, stopped) = watch::channel(false);
        let service = Service {
            guard: self.handle.clone(),
            watch: self.watch.clone(),
            recorder: self.recorder.clone(),
            store: self.store.clone(),
        };
        let mut server = tokio::spawn(server::serve(listener, service, stopped));
        let mut look = tokio::time::interval(Duration::from_secs(1));
        let outcome = loop {
            tokio::select! {
                _ = signals.terminate.recv() => break Ok(()),
                _ = signals.interrupt.recv() => break Ok(()),
                _ = signals.hang_up.recv() => self.hang_up(),
                served = &mut server => {
                    return match served {
                        Ok(Err(error)) => Err(error.into()),
                        Ok(Ok(())) => Ok(()),
                        Err(_) => Err(RunError::Ended),
                    };
                }
                _ = look.tick() => {
                    if self.guard.is_finished() {
                        break Err(RunError::Ended);
                    }
                }
            }
        };
        // An error says that the server has ended already.
        let _ = stop.send(true);
        if tokio::time::timeout(Duration::from_secs(2), server)
            .await
            .is_err()
        {
            tracing::warn!("some requests were cut off");
        }
        outcome
    }

    /// Log files are opened anew, the policy is read again.
    fn hang_up(&self) {
        self.recorder.reopen();
        let watch = self.watch.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = watch.reload() {
                tracing::error!("the policy is not read again: {error}");
            }
        });
    }

    /// Ends everything, in the order in which nothing is lost. What is in the kernel stays there.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.watch.stop();
        self.handle.stop();
        join(self.guard);
        self.recorder.flush(FAREWELL);
        self.recorder.stop();
        self.store.flush(FAREWELL);
        self.store.stop();
        for thread in self.others {
            join(thread);
        }
    }
}

fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or("?").to_owned();
    if thread.join().is_err() {
        tracing::error!("the thread {name} ended by a fault");
    }
}

fn start_guard(guard: Guard, inbox: Inbox) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("guard".to_owned())
        .spawn(move || guard.run(&inbox))
}

/// Why this process can neither watch nor enforce, if so.
fn powerless() -> Option<String> {
    let may = has_capability(Capability::NetRaw) || has_capability(Capability::NetAdmin);
    (!may).then(|| {
        "capturing packets needs CAP_NET_RAW, and enforcing CAP_NET_ADMIN; run this as root (sudo)"
            .to_owned()
    })
}

/// What can enforce here, or one sentence about why nothing can.
fn datapath() -> Result<Box<dyn Datapath + Send>, String> {
    if !has_capability(Capability::NetAdmin) {
        return Err("changing the kernel's rules needs CAP_NET_ADMIN; run as root".to_owned());
    }
    match Features::probe() {
        Ok(features) => Ok(Box::new(Nft::new(features))),
        Err(error) => Err(error.to_string()),
    }
}

/// A worker for each CPU, four at most: more of them wait for each other in the kernel.
fn workers() -> u16 {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(4) as u16)
}

/// Numbers that senders cannot know.
fn seed() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn reverter(options: &RunOptions) -> Revert {
    Revert {
        command: options.revert.clone().unwrap_or_else(revert::command),
        socket: std::path::absolute(&options.socket).unwrap_or_else(|_| options.socket.clone()),
    }
}
