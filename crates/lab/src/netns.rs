//! One named network namespace, from its making to its removal.
//!
//! The name is `pc<pid>-<n>-<label>`, which `ip netns` and people can use. A namespace whose process died without cleaning up
//! is swept, with what still runs inside, by the next one that is made.
#![allow(
    unsafe_code,
    reason = "a child enters the namespace between fork and exec"
)]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::process::{Guard, TIME_LIMIT};

const FOLDER: &str = "/run/netns";

/// Can namespaces be made here? Tried once for each process.
///
/// # Errors
/// One sentence saying why not: a test prints it and skips.
pub fn available() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER
        .get_or_init(|| {
            if !geteuid().is_root() {
                return Err("network namespaces need root; run the tests as root".into());
            }
            let netns = Netns::new("probe").map_err(|why| {
                format!("network namespaces do not work here ({why:#}); install iproute2 and allow CLONE_NEWNET")
            })?;
            netns
                .run("ip", &["link", "add", "v0", "type", "veth", "peer", "name", "v1"])
                .map_err(|why| format!("veth pairs do not work here ({why:#}); load the veth module"))?;
            Ok(())
        })
        .clone()
}

/// A network namespace with `lo` up and nothing else in it; removed, with all that runs in it, when dropped.
pub struct Netns {
    name: String,
    file: File,
}

impl Netns {
    /// Makes one. `label` becomes part of the name; anything but letters and digits in it is replaced by `_`.
    ///
    /// # Errors
    /// No root, no iproute2, or a kernel without network namespaces.
    pub fn new(label: &str) -> anyhow::Result<Netns> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let label: String = label
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .take(40)
            .collect();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pc{}-{number}-{label}", std::process::id());
        ip(&["netns", "add", &name])?;
        let file = File::open(Path::new(FOLDER).join(&name)).inspect_err(|_| {
            // The caller hears of the failed opening; there is no value yet whose drop would remove the name.
            let _ = ip(&["netns", "del", &name]);
        })?;
        let netns = Netns { name, file };
        // IPv6 addresses are usable at once, and what the machine's own namespace has set is not inherited.
        for (key, value) in [
            ("net.ipv6.conf.all.accept_dad", "0"),
            ("net.ipv6.conf.default.accept_dad", "0"),
            ("net.ipv6.conf.all.forwarding", "0"),
            ("net.ipv4.ip_forward", "0"),
        ] {
            netns.sysctl(key, value)?;
        }
        netns.run("ip", &["link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// The name as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside. Its output is the caller's business; nothing limits or ends it.
    ///
    /// Only the network namespace differs: `/sys` still shows the devices of the caller's.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // The open file must outlive this `Netns` if the command does: a copy moves into the closure.
        let kept = self
            .file
            .try_clone()
            .map_err(|why| why.raw_os_error().unwrap_or(nix::libc::EBADF));
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; `setns` is a bare system call, and neither
        // it nor an `io::Error` made from an errno allocates. The descriptor is open: the closure owns a copy, or, where
        // copying failed, reports that instead of using one.
        unsafe {
            command.pre_exec(move || match &kept {
                Ok(file) => setns(file, CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from),
                Err(errno) => Err(std::io::Error::from_raw_os_error(*errno)),
            });
        }
        command
    }

    /// Runs a command to its end, at most [`TIME_LIMIT`] long, whatever its exit code.
    ///
    /// # Errors
    /// It cannot be started or does not end in time.
    pub fn output(&self, program: &str, args: &[&str]) -> anyhow::Result<Output> {
        self.output_within(TIME_LIMIT, program, args)
    }

    /// Runs a command to its end, at most `limit` long, whatever its exit code.
    ///
    /// # Errors
    /// It cannot be started or does not end in time.
    pub fn output_within(
        &self,
        limit: Duration,
        program: &str,
        args: &[&str],
    ) -> anyhow::Result<Output> {
        self.spawn(program, args)?.finish(limit)
    }

    /// Runs a command to its end, at most [`TIME_LIMIT`] long, and returns its standard output.
    ///
    /// # Errors
    /// It cannot be started, does not end in time, or ends with an exit code other than 0; the error carries standard error.
    pub fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        succeeded(
            &format!("{program} {}", args.join(" ")),
            self.output(program, args)?,
        )
    }

    /// Runs a shell script (`sh -e`) to its end, at most [`TIME_LIMIT`] long, and returns its standard output.
    ///
    /// # Errors
    /// As [`Netns::run`].
    pub fn sh(&self, script: &str) -> anyhow::Result<String> {
        succeeded(script, self.output("sh", &["-ec", script])?)
    }

    /// Starts a command and leaves it running until the guard is dropped.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, program: &str, args: &[&str]) -> anyhow::Result<Guard> {
        let mut command = self.command(program);
        command.args(args);
        Guard::start(command)
    }

    /// Runs `f` on a thread of its own inside the namespace and waits for it; a panic in `f` goes on in the caller.
    ///
    /// Sockets opened by `f` stay in this namespace wherever they are used later. `/proc/net` follows the process's first
    /// thread, not this one: read `/proc/thread-self/net`.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> anyhow::Result<R> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("cannot enter the namespace {}", self.name))?;
                Ok(f())
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Writes a `net.*` setting of this namespace, such as `net.ipv4.ip_forward`. A setting of a protocol that the kernel
    /// was built without is passed over.
    ///
    /// # Errors
    /// The setting exists and cannot be written.
    pub fn sysctl(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        match self.enter(|| fs::write(&path, value))? {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                Err(why).with_context(|| format!("cannot write {value} to {key}"))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Runs `ip` where the caller lives: only ever to name or delete namespaces and to make veth pairs inside them.
pub(crate) fn ip(args: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("ip");
    command.args(args);
    succeeded(
        &format!("ip {}", args.join(" ")),
        Guard::start(command)?.finish(TIME_LIMIT)?,
    )
}

fn succeeded(what: &str, output: Output) -> anyhow::Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{what}: {}\n{}{text}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(text)
}

/// Removes the namespaces whose process is gone.
fn sweep() {
    for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if owner(name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            remove(name);
        }
    }
}

/// The process that made a namespace of this name; `None` for a name that is not of our making.
fn owner(name: &str) -> Option<u32> {
    let (pid, rest) = name.strip_prefix("pc")?.split_once('-')?;
    let (number, _label) = rest.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

/// Kills what runs inside and deletes the name. Two processes may sweep the same one: who comes second finds nothing.
fn remove(name: &str) {
    let path = Path::new(FOLDER).join(name);
    for pid in inside(&path) {
        let _ = kill(pid, Signal::SIGKILL);
    }
    if let Err(why) = ip(&["netns", "del", name])
        && path.exists()
    {
        eprintln!("the namespace {name} is left behind: {why:#}");
    }
}

/// The processes whose first thread is in the namespace, but for this one.
fn inside(namespace: &PathBuf) -> Vec<Pid> {
    let Ok(wanted) = fs::metadata(namespace) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let Ok(about) = fs::metadata(entry.path().join("ns/net")) else {
            continue;
        };
        if (about.dev(), about.ino()) == (wanted.dev(), wanted.ino())
            && pid.cast_unsigned() != std::process::id()
        {
            found.push(Pid::from_raw(pid));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_names_of_our_making_have_an_owner() {
        for (name, pid) in [
            ("pc12-0-server", Some(12)),
            ("pc12-0-", Some(12)),
            ("pc12-server", None),
            ("pc-0-x", None),
            ("pcx-0-x", None),
            ("cni-1-2-3", None),
        ] {
            assert_eq!(owner(name), pid, "{name}");
        }
    }
}
