//! What systemd is told when the policy is in force, so that nothing that needs the firewall starts before: the protocol of
//! sd_notify(3), which is one datagram.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says to whoever started this process as a service that it is ready, and in what state. Without such a one, nothing.
pub(crate) fn ready(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = tell(&socket, state) {
        tracing::warn!("the service manager is not told that the firewall is ready: {error}");
    }
}

fn tell(socket: &OsString, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(OsStr::from_bytes(socket.as_bytes()))?,
    };
    let message = format!("READY=1\nSTATUS={state}");
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn a_socket_with_a_path_and_one_without_hear_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        tell(&path.into_os_string(), "observes").unwrap();
        assert_eq!(heard(&manager), "READY=1\nSTATUS=observes");

        let name = format!("portcullis-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        tell(&format!("@{name}").into(), "enforces").unwrap();
        assert_eq!(heard(&manager), "READY=1\nSTATUS=enforces");
    }

    #[test]
    fn nobody_there_is_an_error_and_no_end() {
        assert!(tell(&"/nowhere/at/all".into(), "observes").is_err());
    }
}
