//! `apply`, `confirm`, `rollback`, `reload`: the policy line from outside.

use daemon::api::{Applied, ApplyRequest};

use crate::args::{Apply, Plain};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::screen::{
    Screen, Tone, humane_seconds, pass_on, visible, warn_if_not_kept, warn_if_observing,
};

/// Puts a policy in force.
pub(super) fn apply(daemon: &Client, asked: &Apply, screen: &mut Screen) -> Result<Exit, Failure> {
    let path = match &asked.file {
        // The daemon has a working directory of its own.
        Some(file) => {
            let absolute =
                std::fs::canonicalize(file).map_err(|why| Failure::file("read", file, &why))?;
            Some(absolute.display().to_string())
        }
        None => None,
    };
    let request = ApplyRequest {
        path,
        confirm_s: asked.confirm.map(|time| time.as_secs()),
        force: asked.force,
        ..ApplyRequest::default()
    };
    let applied = daemon.post("policy/apply", &request)?;
    show(&applied, asked.json, screen)
}

/// One of the verbs that take nothing.
pub(super) fn command(
    daemon: &Client,
    path: &str,
    asked: &Plain,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let applied = daemon.command(path)?;
    show(&applied, asked.json, screen)
}

fn show(applied: &Applied, json: bool, screen: &mut Screen) -> Result<Exit, Failure> {
    if json {
        screen.json(applied)?;
        return Ok(Exit::Done);
    }
    screen.line(visible(&applied.message))?;
    // The warnings are about what was just said.
    screen.flush()?;
    for warning in &applied.warnings {
        pass_on(warning);
    }
    warn_if_observing(Some(&applied.mode));
    warn_if_not_kept(applied.not_kept.as_deref());
    if let Some(pending) = &applied.pending {
        let line = format!(
            "Run `portcullis confirm` within {}, or {} comes back.",
            humane_seconds(pending.remaining_s),
            visible(&pending.previous)
        );
        screen.line(screen.paint(Tone::Warning, &line))?;
    }
    Ok(Exit::Done)
}
