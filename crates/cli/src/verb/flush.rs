//! `flush`: everything of ours out of the kernel.

use daemon::api::Flushed;

use crate::args::Plain;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::screen::{Screen, visible};

/// Asks the daemon, which would put back what somebody else took out.
pub(super) fn flush(daemon: &Client, asked: &Plain, screen: &mut Screen) -> Result<Exit, Failure> {
    let flushed: Flushed = daemon.command("flush")?;
    if asked.json {
        screen.json(&flushed)?;
    } else {
        screen.line(visible(&flushed.message))?;
    }
    Ok(Exit::Done)
}
