//! The process that brings the previous state back when an apply is not confirmed and the daemon is not there to do it.
//!
//! It is started twice over: what the daemon starts stands in a process group of its own, and starts a second one that leads a
//! session of its own and waits. So neither a signal to the daemon nor one to its process group ends it.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use kernel::datapath::Snapshot;

use crate::durable;
use crate::guard::{APPLIED, CLAIMED, PendingFile, REJECTED, hold_is_over, hold_left};

/// What the second process says when it stands in its session.
pub(crate) const READY: &str = "ready";
/// The daemon reverts by itself at the deadline: it gets this long.
const GRACE: Duration = Duration::from_millis(400);
/// How often the file is looked at, so that no process is left behind for long.
const LOOK: Duration = Duration::from_millis(500);
/// How often the kernel's state is brought back before it is given up, and how long between.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// How long the daemon may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Before the pending file.
pub(crate) const FILE: &str = "--pending";
/// Tells the second process from the first.
const SECOND: &str = "--detached";

/// How this program is started so that it calls [`main`].
pub fn command() -> Vec<OsString> {
    ["/proc/self/exe", "__revert"].map(OsString::from).to_vec()
}

/// Runs as the hidden verb, with the arguments that follow `command` (usually [`command`]).
pub fn main(arguments: &[OsString], command: &[OsString]) -> ExitCode {
    let outcome = match arguments {
        [flag, file] if flag == FILE => start_second(Path::new(file), command),
        [flag, file, second] if flag == FILE && second == SECOND => {
            wait_and_revert(Path::new(file))
        }
        _ => Err(io::Error::other("only the daemon starts this")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis: the previous policy could not be brought back: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Without a process group of its own it is no group leader, and may begin a session.
fn start_second(pending: &Path, command: &[OsString]) -> io::Result<()> {
    let [program, arguments @ ..] = command else {
        return Err(io::Error::other("no program is named"));
    };
    Command::new(program)
        .args(arguments)
        .arg(FILE)
        .arg(pending)
        .arg(SECOND)
        .stdin(Stdio::null())
        .stdout(Stdio::inherit())
        .spawn()
        .map(drop)
}

fn wait_and_revert(path: &Path) -> io::Result<()> {
    // Started by a group leader, and so no leader itself: this cannot fail.
    nix::unistd::setsid()?;
    let Some(pending) = durable::read::<PendingFile>(path) else {
        return Err(io::Error::other("there is no readable pending file"));
    };
    {
        let mut output = io::stdout();
        writeln!(output, "{READY}")?;
        output.flush()?;
    }
    while !hold_is_over(&pending) {
        std::thread::sleep(hold_left(&pending).min(LOOK));
        if !still_waits(path, &pending.id) {
            return Ok(());
        }
    }
    std::thread::sleep(GRACE);
    if !still_waits(path, &pending.id) {
        return Ok(());
    }
    match ask_daemon(&pending.socket, &pending.id) {
        // It did, or somebody decided meanwhile.
        Ok(200 | 409) if !still_waits(path, &pending.id) => Ok(()),
        _ => revert(path, &pending, PAUSE, restore),
    }
}

fn still_waits(path: &Path, id: &str) -> bool {
    durable::read::<PendingFile>(path).is_some_and(|pending| pending.id == id)
}

/// The status of the daemon's answer.
fn ask_daemon(socket: &Path, id: &str) -> io::Result<u16> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    let prefix = crate::api::PREFIX;
    write!(
        stream,
        "POST {prefix}/policy/rollback?only={id} HTTP/1.1\r\nHost: portcullis\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    answer
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::other("the daemon's answer makes no sense"))
}

/// Does it alone. The file is renamed first: only one process can do that. Whatever fails, the file has its old name again in the
/// end, so that the next daemon finds it.
fn revert(
    path: &Path,
    pending: &PendingFile,
    pause: Duration,
    restore: impl FnMut(&Snapshot) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let claimed = folder.join(CLAIMED);
    std::fs::rename(path, &claimed)?;
    // Before the kernel, which may take long: a daemon that starts meanwhile begins with the previous policy. And the kernel
    // though this fails: it is what blocks.
    let written = write_down(folder, pending);
    let restored = pending.snapshot.as_ref().map_or(Ok(()), |snapshot| {
        insist(&claimed, snapshot, pause, restore)
    });
    let outcome = restored.and(written);
    if outcome.is_err() {
        // Not renamed: what another apply wrote meanwhile must stay.
        not_gone(std::fs::hard_link(&claimed, path))?;
    }
    not_gone(std::fs::remove_file(claimed))?;
    outcome
}

/// A daemon that starts later begins with the previous policy, not with the one that nobody confirmed.
fn write_down(folder: &Path, pending: &PendingFile) -> io::Result<()> {
    durable::write(
        &folder.join(APPLIED),
        &serde_json::to_vec_pretty(&pending.previous)?,
    )?;
    match pending.refused() {
        Some(refused) => durable::write(&folder.join(REJECTED), &serde_json::to_vec(&refused)?),
        None => Ok(()),
    }
}

/// Tries until it succeeds, has failed often enough, or a daemon took the matter over.
fn insist(
    claimed: &Path,
    snapshot: &Snapshot,
    pause: Duration,
    mut restore: impl FnMut(&Snapshot) -> io::Result<()>,
) -> io::Result<()> {
    let mut tries = 0;
    loop {
        let Err(error) = restore(snapshot) else {
            return Ok(());
        };
        tries += 1;
        if tries == TRIES {
            return Err(error);
        }
        eprintln!(
            "portcullis: the previous rules could not be brought back ({error}); trying again"
        );
        std::thread::sleep(pause);
        if !claimed.exists() {
            return Ok(());
        }
    }
}

/// A file that a daemon took away meanwhile is its own matter.
fn not_gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Brings a snapshot back, without a daemon.
///
/// # Errors
///
/// When a program cannot be run, or nft refuses.
pub fn restore(snapshot: &Snapshot) -> io::Result<()> {
    for command in &snapshot.before {
        if !run(command)? {
            return Err(io::Error::other(format!("{} failed", command.join(" "))));
        }
    }
    // Bans that came since the snapshot stay, where they can.
    let with_bans = kernel::nft::script_with_bans(snapshot);
    if with_bans.is_none_or(|script| load(&script).is_err()) {
        load(&snapshot.script)?;
    }
    for command in &snapshot.after {
        // These may fail when there is nothing to do.
        run(command)?;
    }
    Ok(())
}

fn load(script: &str) -> io::Result<()> {
    let mut nft = Command::new(program("nft"))
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = nft.stdin.take() {
        input.write_all(script.as_bytes())?;
    }
    let status = nft.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("nft ended with {status}")));
    }
    Ok(())
}

fn run(command: &[String]) -> io::Result<bool> {
    let Some((name, arguments)) = command.split_first() else {
        return Ok(true);
    };
    let status = Command::new(program(name))
        .args(arguments)
        .stdin(Stdio::null())
        .status()?;
    Ok(status.success())
}

/// The service manager's PATH may lack the folders of system programs.
fn program(name: &str) -> PathBuf {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| name.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::{Value, json};

    /// A folder with a policy that waits.
    fn waiting() -> (tempfile::TempDir, PathBuf, PendingFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pending.json");
        let policy =
            |digest| json!({"source": "built-in", "format": "toml", "text": "", "digest": digest});
        let pending = json!({
            "id": "1-2", "boot": "", "deadline": 0, "deadline_at": "2026-01-01T00:00:00Z", "source": "new", "digest": "new",
            "previous": policy("old"), "snapshot": {"before": [], "script": "", "after": []}, "socket": "/nowhere",
        });
        std::fs::write(&path, pending.to_string()).unwrap();
        std::fs::write(folder.path().join(APPLIED), policy("new").to_string()).unwrap();
        let pending = durable::read(&path).unwrap();
        (folder, path, pending)
    }

    fn kept(folder: &tempfile::TempDir, name: &str) -> Value {
        durable::read(&folder.path().join(name)).unwrap_or_default()
    }

    #[test]
    fn what_fails_is_tried_again_after_the_policy_was_written_down() {
        let (folder, path, pending) = waiting();
        let mut tries = 0;
        let restore = |_: &Snapshot| {
            assert_eq!(kept(&folder, APPLIED)["digest"], "old");
            assert_eq!(kept(&folder, REJECTED)["digest"], "new");
            tries += 1;
            if tries < 3 {
                Err(io::Error::other("not yet"))
            } else {
                Ok(())
            }
        };
        revert(&path, &pending, Duration::ZERO, restore).unwrap();
        assert_eq!(tries, 3);
        assert!(!path.exists() && !folder.path().join(CLAIMED).exists());
    }

    #[test]
    fn what_fails_for_good_leaves_the_file_to_the_next_daemon() {
        let (folder, path, pending) = waiting();
        let mut tries = 0;
        let restore = |_: &Snapshot| {
            tries += 1;
            Err(io::Error::other("never"))
        };
        let error = revert(&path, &pending, Duration::ZERO, restore).unwrap_err();
        assert_eq!((tries, error.to_string().as_str()), (TRIES, "never"));
        assert!(still_waits(&path, "1-2") && !folder.path().join(CLAIMED).exists());
        assert_eq!(kept(&folder, APPLIED)["digest"], "old");
    }

    #[test]
    fn a_daemon_that_takes_over_is_left_alone() {
        let (folder, path, pending) = waiting();
        let mut tries = 0;
        let restore = |_: &Snapshot| {
            tries += 1;
            std::fs::remove_file(folder.path().join(CLAIMED)).unwrap();
            Err(io::Error::other("not yet"))
        };
        revert(&path, &pending, Duration::ZERO, restore).unwrap();
        assert_eq!(tries, 1);
        assert!(!path.exists());
    }

    #[test]
    fn the_same_policy_is_not_rejected() {
        let (folder, path, mut pending) = waiting();
        pending.digest.clone_from(&pending.previous.digest);
        revert(&path, &pending, Duration::ZERO, |_| Ok(())).unwrap();
        assert_eq!(kept(&folder, REJECTED), Value::Null);
    }
}
