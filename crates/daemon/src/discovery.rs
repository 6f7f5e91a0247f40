//! The thread that notices other addresses, routes, resolvers and administrator sessions, and tells the guard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kernel::interfaces::{Changes, HostAddresses, HostError, host_addresses};

use crate::addresses::Discovered;
use crate::guard::{Handle, Silent};
use crate::record::NoticeKind;
use crate::{leases, sessions};

/// How often sessions are looked for.
const LOOK: Duration = Duration::from_secs(3);
/// How often addresses and routes are listed though the kernel told of no change: a router has a million of them.
const RELIST: Duration = Duration::from_secs(60);
/// Changes come in flocks.
const SETTLE: Duration = Duration::from_millis(300);

/// What there is now, in the network namespace of the calling thread.
///
/// # Errors
///
/// When the kernel or the resolver's configuration does not tell.
pub(crate) fn discover() -> Result<Discovered, HostError> {
    Ok(Discovered::new(
        &host_addresses()?,
        &leases::servers(),
        sessions::live(),
    ))
}

/// Looks for other addresses and sessions, off the guard's thread.
pub(crate) fn start(handle: Handle, stop: Arc<AtomicBool>) -> std::io::Result<JoinHandle<()>> {
    let mut discovery = Discovery {
        changes: Changes::open().ok(),
        host: HostAddresses::default(),
        servers: Vec::new(),
        told: None,
    };
    std::thread::Builder::new()
        .name("discover".to_owned())
        .spawn(move || {
            let (mut looked, mut listed) = (Instant::now(), None);
            while !stop.load(Ordering::Relaxed) {
                let changed = discovery.wait();
                if changed {
                    std::thread::sleep(SETTLE);
                    listed = None;
                } else if looked.elapsed() < LOOK {
                    continue;
                }
                looked = Instant::now();
                let stale = listed.is_none_or(|at: Instant| at.elapsed() >= RELIST);
                let outcome = discovery.look(stale, &handle);
                if stale {
                    listed = Some(looked);
                }
                if outcome.is_err() {
                    return;
                }
            }
        })
}

struct Discovery {
    changes: Option<Changes>,
    host: HostAddresses,
    servers: Vec<leases::Server>,
    told: Option<String>,
}

impl Discovery {
    /// Waits a little; returns whether addresses or routes changed.
    fn wait(&mut self) -> bool {
        let step = Duration::from_millis(250);
        let changed = self.changes.as_mut().map(|changes| changes.changed(step));
        match changed {
            Some(Ok(changed)) => changed,
            // The regular look still comes.
            Some(Err(_)) | None => {
                std::thread::sleep(step);
                false
            }
        }
    }

    /// Tells the guard what is found; fails when it is gone.
    fn look(&mut self, list: bool, handle: &Handle) -> Result<(), Silent> {
        if list {
            match host_addresses() {
                Ok(host) => {
                    (self.host, self.told) = (host, None);
                    self.servers = leases::servers();
                }
                Err(error) => {
                    let text = format!("changed addresses are not seen: {error}");
                    if self.told.as_ref() != Some(&text) {
                        self.told = Some(text.clone());
                        handle.ask(move |guard| guard.notice(NoticeKind::Daemon, text))?;
                    }
                    return Ok(());
                }
            }
        }
        let found = Discovered::new(&self.host, &self.servers, sessions::live());
        handle.ask(move |guard| guard.set_discovered(found))
    }
}
