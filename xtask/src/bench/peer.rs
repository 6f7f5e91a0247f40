//! The programs that are measured beside ours, built into a folder that is gone afterwards.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// A folder that is removed when this is dropped.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(label: &str) -> anyhow::Result<Self> {
        let name = format!("portcullis-bench-{label}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(why) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is left behind: {why}", self.0.display());
        }
    }
}

/// The C loop over libnetfilter_queue: one packet and one verdict a system call.
///
/// # Errors
/// It does not compile; libnetfilter-queue-dev is missing, most likely.
pub(super) fn c_loop(folder: &Path) -> anyhow::Result<PathBuf> {
    let (source, binary) = (folder.join("nfq_loop.c"), folder.join("nfq_loop"));
    std::fs::write(&source, include_str!("../../peers/nfq_loop.c"))?;
    run(Command::new("cc")
        .arg("-O2")
        .arg(&source)
        .arg("-o")
        .arg(&binary)
        .arg("-lnetfilter_queue"))
    .context("the C peer does not compile; install libnetfilter-queue-dev")?;
    Ok(binary)
}

/// The Scapy firewall's interpreter and script.
pub(super) struct Scapy {
    pub(super) python: PathBuf,
    pub(super) script: PathBuf,
}

/// NetfilterQueue and Scapy in an environment of their own.
///
/// # Errors
/// They cannot be installed: no Python with venv, no network, or libnetfilter-queue-dev is missing.
pub(super) fn scapy(folder: &Path) -> anyhow::Result<Scapy> {
    let (place, script) = (folder.join("venv"), folder.join("nfq_scapy.py"));
    std::fs::write(&script, include_str!("../../peers/nfq_scapy.py"))?;
    run(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
    run(Command::new(place.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(["NetfilterQueue==1.1.0", "scapy"]))?;
    let python = place.join("bin/python3");
    Ok(Scapy { python, script })
}

/// Runs a preparation to its end, with what it complains of in the error.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
