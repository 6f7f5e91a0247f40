//! The control API: HTTP over a Unix socket. It asks the guard, reads the store, and turns the answers into JSON; it decides
//! nothing but who may ask.

mod event;
mod failure;
mod handler;
mod peer;
mod route;
mod story;
mod why;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::guard::Handle;
use crate::record::Recorder;
use crate::store::Store;
use crate::watch::Watch;

/// Largest request, in bytes: a policy of the largest size, or an import of some 100,000 bans.
const LARGEST_REQUEST: usize = 32 << 20;

/// What the server answers from.
#[derive(Clone)]
pub(crate) struct Service {
    /// The engine and the datapath.
    pub guard: Handle,
    /// The policy's files.
    pub watch: Watch,
    /// Live events.
    pub recorder: Recorder,
    /// Past events.
    pub store: Store,
}

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there already.
    #[error("another portcullis answers on {}; stop it, or give this one its own --socket and --state-dir", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is there and no socket; name another path with --socket", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("cannot listen on {}: {source}; name a path that this user can write to with --socket", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A socket that listens, and is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    path: PathBuf,
    listener: Option<StdListener>,
}

impl Listener {
    /// Listens on a path, in place of a socket that nobody serves any more. Mode 0660.
    ///
    /// # Errors
    ///
    /// When somebody serves it, or it cannot be made.
    pub(crate) fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Io {
            path: path.to_owned(),
            source,
        };
        clear(path)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        // Bound under another name and renamed, so that nobody connects before the permissions stand.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        clear(&temporary)?;
        let listener = StdListener::bind(&temporary).map_err(failed)?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o660)).map_err(failed)?;
        fs::rename(&temporary, path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            listener: Some(listener),
        })
    }
}

/// Takes away a socket that nobody serves.
fn clear(path: &Path) -> Result<(), SocketError> {
    use std::os::unix::fs::FileTypeExt as _;
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(SocketError::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    if !about.file_type().is_socket() {
        return Err(SocketError::NotASocket {
            path: path.to_owned(),
        });
    }
    match StdStream::connect(path) {
        Ok(_) => Err(SocketError::InUse {
            path: path.to_owned(),
        }),
        Err(_) => fs::remove_file(path).map_err(|source| SocketError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // An error says that somebody removed it already.
        let _ = fs::remove_file(&self.path);
    }
}

/// Serves until `stop` says so; requests under way are finished, followers are let go.
///
/// # Errors
///
/// When the socket fails.
pub(crate) async fn serve(
    mut listener: Listener,
    service: Service,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let Some(socket) = listener.listener.take() else {
        return Err(io::Error::other("the socket is served already"));
    };
    let socket = UnixListener::from_std(socket)?;
    let allowed = peer::Allowed::of(&listener.path)?;
    let router = route::router(service, stop.clone(), allowed);
    let router = router.layer(axum::extract::DefaultBodyLimit::max(LARGEST_REQUEST));
    let made = router.into_make_service_with_connect_info::<peer::Peer>();
    axum::serve(socket, made)
        .with_graceful_shutdown(async move {
            // An error says that whoever could stop us is gone.
            let _ = stop.wait_for(|stop| *stop).await;
        })
        .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/api.sock");
        let first = Listener::bind(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        assert!(matches!(
            Listener::bind(&path),
            Err(SocketError::InUse { .. })
        ));
        drop(first);
        assert!(!path.exists());
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists(), "a killed daemon leaves its socket");
        drop(Listener::bind(&path).unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            Listener::bind(&path),
            Err(SocketError::NotASocket { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
