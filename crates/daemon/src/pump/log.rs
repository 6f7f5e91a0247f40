//! Enforcing: what the kernel decided, from NFLOG to the guard.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use kernel::interfaces::Names;
use kernel::nflog::{Log, LogError, LogPacket, Settings};
use kernel::tag::LogTag;
use policy::Direction;
use wire::Link;

use super::capture::shared;
use super::{Outlet, WAIT};
use crate::clock;
use crate::guard::{Batch, How, Input};

pub(super) const NAME: &str = "nflog";

/// Why verdicts are not seen.
#[derive(Debug, thiserror::Error)]
pub(super) enum BeginError {
    /// The kernel refuses.
    #[error("verdicts hold, but detectors and the record see nothing: {0}")]
    Open(#[from] LogError),
    /// No thread.
    #[error("verdicts hold, but detectors and the record see nothing: {0}")]
    Thread(#[from] std::io::Error),
}

/// Opens the group, in the network namespace of the calling thread, and begins the thread.
pub(super) fn begin(group: u16, outlet: Outlet) -> Result<JoinHandle<()>, BeginError> {
    let settings = Settings {
        group,
        // At once: a ban that waits for company is a ban that comes late.
        gather: 1,
        ..Settings::default()
    };
    let log = open(&settings)?;
    Ok(std::thread::Builder::new()
        .name("nflog".to_owned())
        .spawn(move || run(log, &outlet))?)
}

/// The thread that had the group before may still be on its way out.
fn open(settings: &Settings) -> Result<Log, LogError> {
    for _ in 0..20 {
        match Log::open(settings) {
            Err(LogError::Taken { .. }) => std::thread::sleep(Duration::from_millis(25)),
            outcome => return outcome,
        }
    }
    Log::open(settings)
}

fn run(mut log: Log, outlet: &Outlet) {
    let mut names = Names::default();
    let mut texts: Vec<Arc<str>> = Vec::new();
    // A second handle on the socket, since the log is borrowed while packets come out of it.
    let socket = match log.as_fd().try_clone_to_owned() {
        Ok(socket) => socket,
        Err(error) => return outlet.fail(format!("verdicts are not seen: {error}")),
    };
    while !outlet.stopped() {
        let mut batch = outlet.batch();
        let received = log.receive(WAIT, |packet| {
            let interface = match packet.direction() {
                Some(Direction::Out) => packet.interface_out,
                _ => packet.interface_in,
            };
            let now = packet.timestamp.unwrap_or_else(clock::now);
            let name = names
                .name(socket.as_fd(), interface, now)
                .map(|name| shared(&mut texts, name));
            push(&mut batch, packet, now, name);
        });
        let losses = log.losses();
        outlet
            .counts
            .lost
            .store(losses.dropped + losses.malformed, Ordering::Relaxed);
        if !batch.is_empty() && outlet.handle.send(Input::Batch(batch)).is_err() {
            return;
        }
        if let Err(error) = received {
            return outlet.fail(format!("verdicts are not seen any more: {error}"));
        }
    }
}

fn push(
    batch: &mut Batch,
    packet: &LogPacket<'_>,
    now: policy::Timestamp,
    interface: Option<Arc<str>>,
) {
    // A log line of somebody else's rule says nothing about ours.
    let Some(tag) = LogTag::parse(packet.prefix) else {
        return;
    };
    let how = How {
        at: now,
        link: Some(Link::RawIp),
        wire_len: packet.full_len(),
        direction: packet.direction(),
        interface,
        tag: Some(tag),
    };
    batch.push(how, packet.payload);
}
