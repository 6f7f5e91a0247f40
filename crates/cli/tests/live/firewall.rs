//! The daemon inside a namespace, and its client verbs.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lab::{Guard, Netns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::common::{Called, binary, call, command_through};

/// How long the daemon may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// Lets in who comes to port 8080.
pub(crate) const WEB: &str = r#"
[[rule]]
name = "web"
action = "allow"
direction = "in"
protocol = "tcp"
port = 8080
"#;

/// A policy that lets nothing in but by [`WEB`], with `more` sections.
pub(crate) fn only_web(more: &str) -> String {
    format!("mode = \"enforce\"\n[default]\ninbound = \"deny\"\noutbound = \"allow\"\n{more}{WEB}")
}

/// Portcullis in a namespace. Ended when dropped.
pub(crate) struct Firewall<'a> {
    netns: &'a Netns,
    directory: tempfile::TempDir,
    daemon: Option<Guard>,
    /// Where `state` and `log` are; else in the directory.
    record: Option<PathBuf>,
    /// What daemon and client verbs are started through, such as `env` with what it sets.
    through: Vec<String>,
}

impl<'a> Firewall<'a> {
    /// Writes the policy and starts the daemon; returns when it answers.
    pub(crate) fn start(netns: &'a Netns, policy: &str) -> Self {
        let mut firewall = Self::new(netns, policy);
        firewall.run(&[]);
        firewall
    }

    /// Writes the policy and starts nothing.
    pub(crate) fn new(netns: &'a Netns, policy: &str) -> Self {
        let firewall = Self {
            netns,
            directory: tempfile::tempdir().unwrap(),
            daemon: None,
            record: None,
            through: Vec::new(),
        };
        firewall.write(policy);
        firewall
    }

    /// Has daemon and client verbs started through another program.
    pub(crate) fn through(self, through: Vec<String>) -> Self {
        Self { through, ..self }
    }

    /// Has state and log in another folder.
    pub(crate) fn recording_in(self, folder: PathBuf) -> Self {
        let record = Some(folder);
        Self { record, ..self }
    }

    /// The policy file.
    pub(crate) fn policy(&self) -> PathBuf {
        self.directory.path().join("policy.toml")
    }

    /// Writes the policy file anew, as an editor does: another file moved into its place.
    pub(crate) fn write(&self, policy: &str) {
        let new = self.directory.path().join("policy.toml.new");
        std::fs::write(&new, policy).unwrap();
        std::fs::rename(&new, self.policy()).unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    /// How it is started on what is in the directory, with further arguments.
    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let folder = self.directory.path();
        let record = self.record.as_deref().unwrap_or(folder);
        let places = [
            ("--config", folder.join("policy.toml")),
            ("--state-dir", record.join("state")),
            ("--log-dir", record.join("log")),
            ("--socket", self.socket()),
        ];
        let places = places.map(|(option, path)| [option.to_owned(), path.display().to_string()]);
        let run = [binary().to_str().unwrap(), "run", "--no-web"].map(str::to_owned);
        let more = more.iter().map(|&argument| argument.to_owned());
        (self.through.iter().cloned())
            .chain(run)
            .chain(places.into_iter().flatten())
            .chain(more)
            .collect()
    }

    /// Starts the daemon on what is in the directory, with further arguments.
    pub(crate) fn run(&mut self, more: &[&str]) {
        assert!(self.daemon.is_none(), "it runs already");
        let arguments = self.arguments(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let daemon = self.netns.spawn(arguments[0], &arguments[1..]).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while self.call(&["status"]).code != 0 {
            if !daemon.running() || Instant::now() > deadline {
                panic!(
                    "it does not answer:\n{}{}",
                    daemon.stdout(),
                    daemon.stderr()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.daemon = Some(daemon);
    }

    /// Starts it so that it ends at once; gives what it says of that.
    pub(crate) fn fails(&self, more: &[&str]) -> String {
        let arguments = self.arguments(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = self.netns.output(arguments[0], &arguments[1..]).unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Asks it to end, as systemd does, and waits until it has.
    pub(crate) fn stop(&mut self) {
        let daemon = self.daemon.take().expect("it runs");
        let output = daemon.stop(PATIENCE).unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Kills the process of the daemon alone: what it started lives on.
    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        self.signal_process(&daemon, Signal::SIGKILL);
        // The group stays until here: whoever is in it is needed by the test.
        let deadline = Instant::now() + PATIENCE;
        while daemon.running() {
            assert!(Instant::now() < deadline, "it survives SIGKILL");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Reaps the daemon alone; the namespace ends what it left.
        let _ = daemon.wait(PATIENCE);
    }

    /// Sends a signal to the daemon.
    pub(crate) fn signal(&self, signal: Signal) {
        self.signal_process(self.daemon.as_ref().expect("it runs"), signal);
    }

    fn signal_process(&self, daemon: &Guard, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(daemon.pid()).unwrap()), signal).unwrap();
    }

    /// The most that it ever had in memory, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let daemon = self.daemon.as_ref().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|number| number.parse().ok()).unwrap()
    }

    /// What it wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.daemon.as_ref().map(Guard::stderr).unwrap_or_default()
    }

    /// Calls a client verb. The socket is a file, so that the caller's namespace does not matter.
    pub(crate) fn call(&self, arguments: &[&str]) -> Called {
        let mut command = command_through(&self.through);
        command.args(arguments).arg("--socket").arg(self.socket());
        call(command, b"")
    }

    /// Calls a client verb that must succeed.
    #[track_caller]
    pub(crate) fn ask(&self, words: &str) -> Called {
        let words: Vec<&str> = words.split_whitespace().collect();
        let called = self.call(&words);
        assert_eq!(
            called.code,
            0,
            "{words:?}: {}{}\n{}",
            called.stdout,
            called.stderr,
            self.log()
        );
        called
    }

    /// What a client verb says with `--json`.
    #[track_caller]
    pub(crate) fn json(&self, words: &str) -> Value {
        self.ask(&format!("{words} --json")).json()
    }

    /// One request over the socket without starting a process, so that time can be measured; returns the status line.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "{method} /api/v1/{path} HTTP/1.1\r\nhost: portcullis\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }
}

/// Waits until it is so, and fails when it is not within the time.
#[track_caller]
pub(crate) fn eventually(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
