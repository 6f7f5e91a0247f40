//! What somebody without rights is told.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::common::{Called, binary, call, portcullis};

/// `nobody` on every Debian.
const NOBODY: u32 = 65534;

/// Calls the command as a user without any rights, with a directory of that user's own.
fn as_nobody(arguments: &[&str], directory: &std::path::Path) -> Option<Called> {
    if std::fs::metadata("/proc/self")
        .map(|about| std::os::unix::fs::MetadataExt::uid(&about))
        .ok()
        != Some(0)
    {
        eprintln!("SKIPPED: only root can become somebody else");
        return None;
    }
    // The build directory may stand where nobody may look.
    let copy = directory.join("portcullis");
    std::fs::copy(binary(), &copy).unwrap();
    for (path, mode) in [(directory, 0o755), (copy.as_path(), 0o755)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = Command::new(&copy);
    command
        .args(arguments)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .env_remove("PORTCULLIS_SOCKET");
    Some(call(command, b""))
}

#[test]
fn run_without_rights_says_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let writable = directory.path().join("state");
    std::fs::create_dir(&writable).unwrap();
    std::fs::set_permissions(&writable, std::fs::Permissions::from_mode(0o777)).unwrap();
    let place = writable.to_str().unwrap();
    let socket = writable.join("api.sock");
    for mode in ["--observe", "--enforce"] {
        let arguments = [
            "run",
            mode,
            "--state-dir",
            place,
            "--log-dir",
            place,
            "--socket",
            socket.to_str().unwrap(),
        ];
        let Some(called) = as_nobody(&arguments, directory.path()) else {
            return;
        };
        called.expect(5).one_sentence("root");
    }
}

#[test]
fn a_socket_of_somebody_else_is_not_permitted() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("api.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).unwrap();
    let socket = socket.to_str().unwrap();
    for verb in ["status", "reload"] {
        let Some(called) = as_nobody(&[verb, "--socket", socket], directory.path()) else {
            return;
        };
        called.expect(5).one_sentence("root");
    }
}

#[test]
fn a_policy_that_may_not_be_read_is_not_permitted() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    std::fs::write(&policy, "mode = \"observe\"\n").unwrap();
    std::fs::set_permissions(&policy, std::fs::Permissions::from_mode(0o600)).unwrap();
    let policy = policy.to_str().unwrap();
    for verb in ["check", "compile"] {
        let Some(called) = as_nobody(&[verb, policy], directory.path()) else {
            return;
        };
        called.expect(5).one_sentence(policy);
    }
}

/// A mistake in the policy of the first start leaves nothing behind that somebody would have to clear away.
#[test]
fn run_with_an_invalid_policy_touches_nothing() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: whoever may not run it is told that first");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    std::fs::write(&policy, "mode = \"enforec\"\n").unwrap();
    let place = |name: &str| directory.path().join(name).display().to_string();
    let called = portcullis([
        "run",
        "--config",
        &place("policy.toml"),
        "--state-dir",
        &place("state"),
        "--log-dir",
        &place("log"),
        "--socket",
        &place("run/api.sock"),
    ])
    .expect(3);
    assert!(
        called.stderr.contains("policy.toml:1:"),
        "{}",
        called.stderr
    );
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
