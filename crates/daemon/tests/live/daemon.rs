//! The daemon with as little around it as can be.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use policy::Mode;
use portcullis_daemon::RunOptions;

/// `FOLDER [observe|enforce] [CONFIG]`.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let word = |at: usize| {
        arguments
            .get(at)
            .and_then(|word| word.to_str())
            .unwrap_or("")
    };
    let folder = PathBuf::from(word(0));
    let options = RunOptions {
        config: Some(word(2))
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        mode: match word(1) {
            "observe" => Some(Mode::Observe),
            "enforce" => Some(Mode::Enforce),
            _ => None,
        },
        interfaces: Vec::new(),
        state_dir: folder.join("state"),
        log_dir: folder.join("log"),
        socket: folder.join("api.sock"),
        web: false,
        revert: None,
    };
    match portcullis_daemon::run(&options, |banner| println!("RUNNING {banner:?}")) {
        Ok(()) => {
            println!("ENDED");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("REFUSED {error}");
            ExitCode::FAILURE
        }
    }
}
