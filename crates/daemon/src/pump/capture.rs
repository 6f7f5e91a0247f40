//! Observing: every packet of an interface, from AF_PACKET to the guard.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use kernel::capture::{Capture, Settings};
use kernel::source::{Captured, Source as _, SourceError};

use super::{Outlet, WAIT};
use crate::guard::{Batch, How, Input};

pub(super) const NAME: &str = "af_packet";
/// How long an interface that went away is waited for between two looks.
const AGAIN: Duration = Duration::from_secs(1);

/// Opens the capture, in the network namespace of the calling thread, and begins the thread.
pub(super) fn begin(interface: Option<String>, outlet: Outlet) -> Result<JoinHandle<()>, String> {
    let settings = Settings {
        interface,
        ..Settings::default()
    };
    let capture = Capture::open(&settings).map_err(|error| error.to_string())?;
    std::thread::Builder::new()
        .name("capture".to_owned())
        .spawn(move || run(capture, &settings, &outlet))
        .map_err(|error| error.to_string())
}

fn run(mut capture: Capture, settings: &Settings, outlet: &Outlet) {
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut lost_before = 0;
    while !outlet.stopped() {
        let mut batch = outlet.batch();
        let outcome = fill(&mut capture, &mut batch, &mut names);
        let lost = lost_before + capture.losses().dropped;
        outlet.counts.lost.store(lost, Ordering::Relaxed);
        if !batch.is_empty() && outlet.handle.send(Input::Batch(batch)).is_err() {
            return;
        }
        match outcome {
            Ok(()) => {}
            Err(SourceError::Down { name }) => {
                tracing::warn!("{name} went down; it is watched again when it comes back");
                lost_before = lost;
                match wait_for(settings, outlet) {
                    Some(again) => capture = again,
                    None => return,
                }
            }
            Err(error) => return outlet.fail(format!("packets are not watched any more: {error}")),
        }
    }
}

/// Takes what is there, and waits only for the first packet.
fn fill(
    capture: &mut Capture,
    batch: &mut Batch,
    names: &mut Vec<Arc<str>>,
) -> Result<(), SourceError> {
    let mut wait = WAIT;
    while !batch.is_full() {
        let Some(captured) = capture.next_timeout(wait)? else {
            break;
        };
        push(batch, &captured, names);
        wait = Duration::ZERO;
    }
    Ok(())
}

fn push(batch: &mut Batch, captured: &Captured<'_>, names: &mut Vec<Arc<str>>) {
    let how = How {
        at: captured.timestamp,
        link: captured.link,
        wire_len: captured.wire_len,
        direction: captured.direction,
        interface: captured.interface.map(|name| shared(names, name)),
        tag: None,
    };
    batch.push(how, captured.bytes);
}

/// The one shared copy of a name.
pub(super) fn shared(names: &mut Vec<Arc<str>>, name: &str) -> Arc<str> {
    /// Hosts with more interfaces than this share fewer copies.
    const MOST: usize = 256;
    if let Some(known) = names.iter().find(|known| &***known == name) {
        return Arc::clone(known);
    }
    if names.len() >= MOST {
        names.clear();
    }
    let fresh: Arc<str> = name.into();
    names.push(Arc::clone(&fresh));
    fresh
}

/// Waits until the interface is back; `None` when the thread shall end meanwhile.
fn wait_for(settings: &Settings, outlet: &Outlet) -> Option<Capture> {
    loop {
        std::thread::sleep(AGAIN);
        if outlet.stopped() {
            return None;
        }
        if let Ok(capture) = Capture::open(settings) {
            return Some(capture);
        }
    }
}
