//! `flush`: everything of ours out of the kernel.

use daemon::api::Flushed;
use kernel::datapath::Datapath;
use kernel::nflog::{Log, LogError, Settings};
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
    let mut message = "nothing of ours is in the kernel any more".to_owned();
    // A daemon that enforces reads the log; it may have another socket.
    if let Err(LogError::Taken { .. }) = Log::open(&Settings::default()) {
        message.push_str(
            "; a daemon that does not answer on this socket seems to enforce here, and puts everything back within seconds: \
             name its socket by --socket, or stop it",
        );
    }
    Ok(Flushed { message })
}
