//! The command as a user calls it: started, bounded in time, its output at hand.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::ffi::OsStr;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a verb may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a call.
#[derive(Debug)]
pub(crate) struct Called {
    /// The exit code; -1 for death by a signal.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Called {
    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|why| panic!("{why}: {:?} {:?}", self.stdout, self.stderr))
    }

    /// Standard error is exactly one line that ends without a chain of causes, and names what is wrong or what to do.
    #[track_caller]
    pub(crate) fn one_sentence(self, says: &str) -> Self {
        assert_eq!(self.stderr.lines().count(), 1, "{:?}", self.stderr);
        for never in ["panicked", "Caused by", "stack backtrace", "Error("] {
            assert!(!self.stderr.contains(never), "{:?}", self.stderr);
        }
        assert!(
            self.stderr.contains(says),
            "{says:?} is not in {:?}",
            self.stderr
        );
        self
    }
}

/// The command under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_portcullis"))
}

/// The command with what would disturb a test taken out of its environment.
pub(crate) fn command() -> Command {
    command_through(&[])
}

/// The same, started through another program with its arguments.
pub(crate) fn command_through(words: &[String]) -> Command {
    let mut command = match words {
        [] => Command::new(binary()),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary());
            command
        }
    };
    command
        .env_remove("PORTCULLIS_SOCKET")
        .env_remove("RUST_LOG")
        .env_remove("NO_COLOR");
    command
}

/// Calls it with these arguments.
pub(crate) fn portcullis<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Called {
    let mut command = command();
    command.args(arguments);
    call(command, b"")
}

/// The same, with the words of one line.
pub(crate) fn line(words: &str) -> Called {
    portcullis(words.split_whitespace())
}

/// Runs a command to its end with this standard input; kills it and fails when it takes longer than [`PATIENCE`].
pub(crate) fn call(mut command: Command, input: &[u8]) -> Called {
    let deadline = Instant::now() + PATIENCE;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = loop {
        match command.spawn() {
            Ok(child) => break child,
            // A program that was just copied is busy as long as a child that another test forked holds on to the file that
            // was written.
            Err(why)
                if why.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(why) => panic!("{command:?} does not start: {why}"),
        }
    };
    let mut stdin = child.stdin.take().expect("it is piped");
    let (mut stdout, mut stderr) = (
        child.stdout.take().expect("it is piped"),
        child.stderr.take().expect("it is piped"),
    );
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // It need not read what it is given.
            let _ = stdin.write_all(input);
        });
        let out = scope.spawn(move || read(&mut stdout));
        let err = scope.spawn(move || read(&mut stderr));
        let status = loop {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                break status;
            }
            if Instant::now() > deadline {
                child.kill().expect("it can be killed");
                panic!("{command:?} still runs after {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        Called {
            code: status.code().unwrap_or(-1),
            stdout: out.join().expect("reading does not panic"),
            stderr: err.join().expect("reading does not panic"),
        }
    })
}

fn read(from: &mut impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("a pipe can be read");
    String::from_utf8(bytes).expect("all output is UTF-8")
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// The captures and lists beside the checkout; says loudly when they are not there.
pub(crate) fn shared_data() -> Option<PathBuf> {
    let data = repository("../shared/data");
    if data.is_dir() {
        Some(data)
    } else {
        eprintln!("SKIPPED: ../shared/data is not beside the checkout");
        None
    }
}

/// A socket path that nobody listens on.
pub(crate) fn nobody() -> String {
    std::env::temp_dir()
        .join("portcullis-no-such-socket")
        .display()
        .to_string()
}
