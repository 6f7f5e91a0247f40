//! `flush`: everything of ours out of the kernel.

use daemon::api::Flushed;
use kernel::datapath::Datapath;
use kernel::nft::{Features, Nft};
use kernel::probe::{Capability, has_capability};

use crate::args::Plain;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::screen::{Screen, visible};

/// Asks the daemon, which would put back what somebody else took out; without one, does it itself.
pub(super) fn flush(daemon: &Client, asked: &Plain, screen: &mut Screen) -> Result<Exit, Failure> {
    let flushed = match daemon.command("flush") {
        Err(Failure::NotRunning(_)) => alone()?,
        answer => answer?,
    };
    if asked.json {
        screen.json(&flushed)?;
    } else {
        screen.line(visible(&flushed.message))?;
    }
    Ok(Exit::Done)
}

fn alone() -> Result<Flushed, Failure> {
    if !has_capability(Capability::NetAdmin) {
        return Err(Failure::NotPermitted(
            "no daemon runs, and taking its rules out of the kernel needs CAP_NET_ADMIN; run this as root".into(),
        ));
    }
    // What this kernel can do matters for adding rules, not for taking them out.
    Nft::new(Features { queue: false })
        .remove()
        .map_err(|why| Failure::Failed(why.to_string()))?;
    Ok(Flushed {
        message: "nothing of ours is in the kernel any more".into(),
    })
}
