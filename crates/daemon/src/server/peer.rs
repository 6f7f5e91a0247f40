//! Who may ask: root, the user that the daemon runs as, and members of the group that owns the socket.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};
use tokio::net::UnixListener;

/// The process at the other end, as the kernel knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// User and group; `None` when the kernel does not tell, and then it may nothing.
    credentials: Option<(u32, u32)>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        Self {
            credentials: credentials.map(|peer| (peer.uid(), peer.gid())),
        }
    }
}

/// Who may.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    user: u32,
    group: u32,
}

impl Allowed {
    /// As the socket says.
    pub(super) fn of(socket: &Path) -> io::Result<Self> {
        Ok(Self {
            user: geteuid().as_raw(),
            group: std::fs::metadata(socket)?.gid(),
        })
    }

    /// Whether this one may.
    pub(super) fn admits(self, peer: Peer) -> bool {
        let Some((user, group)) = peer.credentials else {
            return false;
        };
        user == 0 || user == self.user || group == self.group || self.has_member(user, group)
    }

    /// Whether the user is in the group beside its first one.
    fn has_member(self, user: u32, group: u32) -> bool {
        let Ok(Some(known)) = User::from_uid(Uid::from_raw(user)) else {
            return false;
        };
        let Ok(name) = std::ffi::CString::new(known.name) else {
            return false;
        };
        getgrouplist(&name, Gid::from_raw(group))
            .is_ok_and(|groups| groups.contains(&Gid::from_raw(self.group)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_may_not() {
        let allowed = Allowed {
            user: 1_000,
            group: 2_000,
        };
        for (credentials, expected) in [
            (Some((0, 0)), true),
            (Some((1_000, 1)), true),
            (Some((3_000, 2_000)), true),
            (Some((4_294_900_000, 4_294_900_000)), false),
            (None, false),
        ] {
            assert_eq!(
                allowed.admits(Peer { credentials }),
                expected,
                "{credentials:?}"
            );
        }
    }
}
