//! The whole daemon, enforcing in a namespace.

use std::time::Duration;

use lab::{Guard, Netns};

use super::peer::Folder;
use super::report::pause;
use crate::demonstration::beside_this_program;

/// A daemon with a folder of its own. [`Whole::stop`] takes its ruleset away; else the namespace does.
pub(super) struct Whole<'a> {
    netns: &'a Netns,
    program: String,
    folder: Folder,
    daemon: Guard,
}

impl<'a> Whole<'a> {
    /// Starts it with this policy; returns when it answers. The policy finds `files` in its folder, by name.
    ///
    /// # Errors
    /// `portcullis` is not built beside this program, or does not start.
    pub(super) fn start(
        netns: &'a Netns,
        policy: &str,
        files: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let program = beside_this_program("portcullis")?.display().to_string();
        let folder = Folder::new("daemon")?;
        for (name, text) in files.iter().chain(&[("policy.toml", policy)]) {
            std::fs::write(folder.path().join(name), text)?;
        }
        let at = |name: &str| folder.path().join(name).display().to_string();
        let options = [
            ("--config", at("policy.toml")),
            ("--state-dir", at("state")),
            ("--log-dir", at("log")),
            ("--socket", at("api.sock")),
        ];
        let mut arguments = vec!["run", "--no-web"];
        for (option, value) in &options {
            arguments.extend([option, value.as_str()]);
        }
        let daemon = netns.spawn(&program, &arguments)?;
        let whole = Self {
            netns,
            program,
            folder,
            daemon,
        };
        for _ in 0..200 {
            if whole.ask(&["status"]).is_ok() {
                return Ok(whole);
            }
            pause(Duration::from_millis(50))?;
        }
        anyhow::bail!("the daemon does not answer:\n{}", whole.daemon.stderr())
    }

    /// What a client verb says.
    ///
    /// # Errors
    /// It fails.
    pub(super) fn ask(&self, verb: &[&str]) -> anyhow::Result<String> {
        let socket = self.folder.path().join("api.sock").display().to_string();
        let words = [&["--socket", socket.as_str()], verb].concat();
        self.netns.run(&self.program, &words)
    }

    /// Takes the ruleset away and ends the daemon.
    ///
    /// # Errors
    /// Either does not work.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.ask(&["flush"])?;
        self.daemon.stop(Duration::from_secs(10))?;
        Ok(())
    }
}
