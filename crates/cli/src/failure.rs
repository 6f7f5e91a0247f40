//! How a verb ends: the exit codes, and the one sentence that goes with each failure.

use std::io;
use std::process::ExitCode;

/// The exit codes, which are a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Called the wrong way; clap exits with the same code.
    Usage = 2,
    /// The policy is invalid.
    InvalidPolicy = 3,
    /// No daemon answers on the socket.
    NotRunning = 4,
    /// The caller may not.
    NotPermitted = 5,
    /// `test` found a packet that does not pass, or `check` found warnings.
    Found = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb could not do what it was asked. The message is one sentence with the mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Exit code 1.
    #[error("{0}")]
    Failed(String),
    /// Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Exit code 3.
    #[error("{0}")]
    InvalidPolicy(String),
    /// Exit code 4.
    #[error("{0}")]
    NotRunning(String),
    /// Exit code 5.
    #[error("{0}")]
    NotPermitted(String),
    /// Standard output takes no more. A reader that went away (`portcullis events | head`) is no failure at all.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// The exit code of this failure.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Output(why) if why.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Failed(_) | Self::Output(_) => Exit::Failed,
            Self::Usage(_) => Exit::Usage,
            Self::InvalidPolicy(_) => Exit::InvalidPolicy,
            Self::NotRunning(_) => Exit::NotRunning,
            Self::NotPermitted(_) => Exit::NotPermitted,
        }
    }

    /// A file that cannot be read or written: exit code 5 when permission is what is missing, else 1.
    pub(crate) fn file(what: &str, path: &std::path::Path, why: &io::Error) -> Self {
        let path = path.display();
        match why.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted(format!(
                "you may not {what} {path}; run this as root or as its owner"
            )),
            io::ErrorKind::NotFound => {
                // What is written is made; its folder is not.
                let missing = if what == "write" { "folder" } else { "file" };
                Self::Failed(format!("cannot {what} {path}: there is no such {missing}"))
            }
            _ => Self::Failed(format!("cannot {what} {path}: {why}")),
        }
    }
}
