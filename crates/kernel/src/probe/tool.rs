//! Other programs: where they are, and what they answer within five seconds.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How a program ended.
pub(super) enum Ran {
    /// With exit code 0, and what it wrote to standard output.
    Well(String),
    /// With another exit code, or not within the time.
    Badly,
    /// It could not be started.
    NotAtAll,
}

/// Finds a program on `PATH` and where administration programs are, which not every `PATH` names.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        // A relative entry would run whatever lies in the current folder, as root.
        .filter(|folder| folder.is_absolute())
        .chain(usual)
        .map(|folder| folder.join(name))
        .find(|file| {
            file.metadata()
                .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
        })
}

/// Runs a program with `input` on its standard input; both must be short, so that no pipe fills.
pub(super) fn run(program: &Path, args: &[&str], input: &str) -> Ran {
    const LIMIT: Duration = Duration::from_secs(5);
    let mut command = Command::new(program);
    command
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        return Ran::NotAtAll;
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input may have ended already; its exit code tells the rest.
        let _ = stdin.write_all(input.as_bytes());
    }
    let deadline = Instant::now() + LIMIT;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Ok(Some(status)) if status.success() => break,
            // It hangs, failed, or cannot be waited for; after the kill it can.
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Ran::Badly;
            }
        }
    }
    match child.wait_with_output() {
        Ok(output) => Ran::Well(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(_) => Ran::Badly,
    }
}
