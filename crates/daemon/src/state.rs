//! The state directory: what has to be there after a crash. Each file is written whole or not at all.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::durable;
use crate::last_good::LastGood;

/// The folder, locked against a second daemon as long as it lives.
#[derive(Debug)]
pub struct StateDir {
    folder: PathBuf,
    lists: LastGood,
    /// Why nothing can be locked: the disk is full, or cannot be written.
    unlocked: Option<String>,
    _lock: Option<Flock<File>>,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be made or written to.
    #[error("the state directory {}: {source}; give --state-dir a folder that this user can write to", folder.display())]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another daemon has it.
    #[error("another portcullis uses the state directory {}; stop it, or give this one its own --state-dir and --socket", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
}

impl StateDir {
    /// Makes the folder if need be, and locks it. A disk that is full or read-only keeps nobody from starting: a host without a
    /// firewall is worse than a firewall without a memory.
    ///
    /// # Errors
    ///
    /// When it cannot be used, or another daemon uses it.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let unusable = |source| StateError::Unusable {
            folder: folder.to_owned(),
            source,
        };
        let (lock, unlocked) = match lock_file(folder) {
            Ok(file) => {
                let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock);
                let lock = lock.map_err(|(_, errno)| match errno {
                    nix::errno::Errno::EWOULDBLOCK => StateError::InUse {
                        folder: folder.to_owned(),
                    },
                    errno => unusable(errno.into()),
                })?;
                (Some(lock), None)
            }
            Err(error) if is_the_disks(&error) => {
                let why = format!(
                    "the state directory {} cannot be used: {error}; another start does not know what this one bans",
                    folder.display()
                );
                (None, Some(why))
            }
            Err(error) => return Err(unusable(error)),
        };
        Ok(Self {
            folder: folder.to_owned(),
            lists: LastGood::open(folder),
            unlocked,
            _lock: lock,
        })
    }

    /// Why it could not be locked, if so.
    pub fn unlocked(&self) -> Option<&str> {
        self.unlocked.as_deref()
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What lists held when they were good last.
    pub fn lists(&self) -> LastGood {
        self.lists.clone()
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    ///
    /// When the disk refuses; then the file is as it was.
    pub fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        durable::write(&self.path(name), &serde_json::to_vec_pretty(value)?)
    }

    /// Reads a value; `None` when there is none, or none that can be read, which is said.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        durable::read(&self.path(name))
    }

    /// Removes a file. One that is not there is removed already.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.take(name).map(drop)
    }

    /// Removes a file, for good also if the power fails now. Returns whether it was there: of several processes that take the
    /// same file one alone gets it.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn take(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
            Ok(()) => File::open(&self.folder)?.sync_all().map(|()| true),
        }
    }
}

/// The file that is locked, made if need be together with its folder.
fn lock_file(folder: &Path) -> io::Result<File> {
    let path = folder.join("lock");
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(folder)
        .and_then(|()| {
            fs::OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)
        });
    match made {
        // To lock it, it need not be written.
        Err(error) if is_the_disks(&error) => File::open(&path).map_err(|_| error),
        made => made,
    }
}

/// Whether it is for the disk that something cannot be written, and not for the path or the user.
pub(crate) fn is_the_disks(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
    ) || error.raw_os_error() == Some(nix::libc::EIO)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn values_come_back_and_damage_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(&folder.path().join("a/b")).unwrap();
        assert_eq!(state.read::<u32>("number"), None);
        state.write("number", &7).unwrap();
        assert_eq!(state.read("number"), Some(7));
        fs::write(state.path("number"), b"{half").unwrap();
        assert_eq!(state.read::<u32>("number"), None);
        assert!(state.take("number").unwrap());
        assert!(!state.take("number").unwrap());
        state.remove("number").unwrap();
        assert!(!state.path("number").exists());
    }

    #[test]
    fn a_second_daemon_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let refused = StateDir::open(folder.path()).unwrap_err();
        assert!(matches!(refused, StateError::InUse { .. }), "{refused}");
        drop(state);
        StateDir::open(folder.path()).unwrap();
    }
}
