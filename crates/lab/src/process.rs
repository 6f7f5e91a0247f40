//! Processes inside a namespace: their output kept, their time limited, their end certain.
//!
//! Output goes to an anonymous memory file instead of a pipe, so that nothing blocks on a full pipe and a grandchild that
//! holds on to standard output cannot keep the caller waiting.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// How long a command may run before it is killed, for every call that does not name a limit of its own.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// A running process (and what it started itself), killed and reaped when this is dropped.
pub struct Guard {
    child: Child,
    what: String,
    stdout: File,
    stderr: File,
}

impl Guard {
    /// Starts `command` with its output captured, in a process group of its own.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Guard> {
        let what = format!("{command:?}");
        let (stdout, stderr) = (memory_file()?, memory_file()?);
        command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        Ok(Guard {
            child,
            what,
            stdout,
            stderr,
        })
    }

    /// The process id, which is also the id of the process group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&contents(&self.stdout)).into_owned()
    }

    /// What it wrote to standard error so far; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&contents(&self.stderr)).into_owned()
    }

    /// Is it still running?
    #[must_use]
    pub fn running(&self) -> bool {
        // The zombie is left in place (WNOWAIT): as long as it is, its group id cannot be given to a stranger.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        matches!(
            waitid(Id::Pid(self.group()), flags),
            Ok(WaitStatus::StillAlive)
        )
    }

    /// Waits until `pattern` stands in standard output or standard error, and returns the line that holds it.
    ///
    /// # Errors
    /// The process ended without it, or `timeout` passed; the error carries all output.
    pub fn wait_for_output(&self, pattern: &str, timeout: Duration) -> anyhow::Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            let running = self.running(); // asked before reading: what was written before the end is seen
            for text in [self.stdout(), self.stderr()] {
                if let Some(line) = text.lines().find(|line| line.contains(pattern)) {
                    return Ok(line.to_owned());
                }
            }
            if !running || Instant::now() >= deadline {
                let how = if running {
                    "did not say"
                } else {
                    "ended without saying"
                };
                bail!(
                    "{} {how} {pattern:?}\n{}{}",
                    self.what,
                    self.stdout(),
                    self.stderr()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// `timeout` passed (the process keeps running), or it cannot be waited for.
    pub fn wait(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        let mut pause = Duration::from_micros(200);
        while self.running() {
            if Instant::now() >= deadline {
                bail!(
                    "{} still runs after {timeout:?}\n{}{}",
                    self.what,
                    self.stdout(),
                    self.stderr()
                );
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        // What it left running in its group goes with it, and only then is the group id given up.
        self.signal(Signal::SIGKILL);
        Ok(self.child.wait()?)
    }

    /// Asks it to end (SIGTERM), kills it when it has not within `timeout`, and gives all it wrote.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn stop(mut self, timeout: Duration) -> anyhow::Result<Output> {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + timeout;
        while self.running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.signal(Signal::SIGKILL);
        let status = self.child.wait()?;
        Ok(Output {
            status,
            stdout: contents(&self.stdout),
            stderr: contents(&self.stderr),
        })
    }

    /// Sends a signal to it and everything it started; nothing happens once it has been waited for.
    pub fn signal(&self, signal: Signal) {
        if self.unreaped() {
            // It may have ended this instant; a zombie takes the signal without effect.
            let _ = killpg(self.group(), signal);
        }
    }

    /// Runs to the end and gives all that was written.
    pub(crate) fn finish(mut self, limit: Duration) -> anyhow::Result<Output> {
        let status = self.wait(limit)?;
        Ok(Output {
            status,
            stdout: contents(&self.stdout),
            stderr: contents(&self.stderr),
        })
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Is the process id still ours: running, or ended and not yet waited for?
    fn unreaped(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(self.group()), flags).is_ok()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        // Already waited for is no failure, and nothing more can be done about any other.
        let _ = self.child.wait();
    }
}

fn memory_file() -> io::Result<File> {
    Ok(File::from(memfd_create(
        c"lab-output",
        MFdFlags::MFD_CLOEXEC,
    )?))
}

/// All of a file from its beginning, without moving the offset that the child writes at.
fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![
        0;
        file.metadata()
            .map_or(0, |about| usize::try_from(about.len()).unwrap_or(0))
    ];
    let mut filled = 0;
    while let Ok(count @ 1..) = file.read_at(&mut bytes[filled..], filled as u64) {
        filled += count;
    }
    bytes.truncate(filled);
    bytes
}
