//! The file itself: opening, its tables, and moving a bad one aside.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// What `PRAGMA user_version` says of a file with these tables.
const VERSION: i64 = 2;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("the store {}: {}; mend the path or the disk, it is tried again by itself", path.display(), brief(source))]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// The file could not be moved out of the way.
    #[error("cannot move the unusable store {} aside: {source}; move it by hand", path.display())]
    Aside {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file was made by a newer version.
    #[error("the store {} has version {found}, this program knows {VERSION}; use the newer program or move the file away", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: i64,
    },
}

impl StoreError {
    pub(super) fn sqlite(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self + '_ {
        move |source| Self::Sqlite {
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the file itself is bad, so that a new one would help.
    pub(super) fn is_files_fault(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => is_files_fault(source),
            Self::Version { .. } => true,
            Self::Aside { .. } => false,
        }
    }
}

/// What SQLite said, without the statement it said it of.
fn brief(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        error => error.to_string(),
    }
}

/// Whether the file itself is bad (or held by somebody else), so that a new one would help.
pub(super) fn is_files_fault(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
        ),
        // "no such table", "no such column": somebody else's database.
        rusqlite::Error::SqlInputError { .. } => true,
        rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => {
            true
        }
        _ => false,
    }
}

/// Opens the file; a bad one is moved aside with a warning and a new one begun.
pub(super) fn open_or_replace(
    path: &Path,
    warnings: &mut Vec<String>,
) -> Result<Connection, StoreError> {
    match open(path) {
        Err(error) if error.is_files_fault() => {
            let aside = move_aside(path)?;
            warnings.push(format!(
                "the store could not be used ({error}); it is kept as {} and a new one was begun",
                aside.display()
            ));
            open(path)
        }
        outcome => outcome,
    }
}

/// Keeps others out of what tells who talked to whom, also in a folder that lets them in; SQLite gives its further files the permissions
/// of the first. What cannot be done shows when the file is opened.
fn keep_private(path: &Path) {
    let mut make = fs::OpenOptions::new();
    let _ = make.write(true).create_new(true).mode(0o600).open(path);
    for suffix in ["", "-wal", "-shm"] {
        let mut path = path.as_os_str().to_owned();
        path.push(suffix);
        let Ok(about) = fs::symlink_metadata(&path) else {
            continue;
        };
        let mode = about.permissions().mode();
        if about.is_file() && mode & 0o007 != 0 {
            let _ = fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o770));
        }
    }
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let sqlite = || StoreError::sqlite(path);
    keep_private(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let file = Connection::open_with_flags(path, flags).map_err(sqlite())?;
    file.busy_timeout(Duration::from_secs(1))
        .map_err(sqlite())?;
    // The vacuum mode has to stand before the first table. NORMAL is safe in WAL mode but for the last moments before a power cut.
    file.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
         PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096; PRAGMA journal_size_limit = 1048576;",
    )
    .map_err(sqlite())?;
    let found: i64 = file
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(sqlite())?;
    if found > VERSION {
        return Err(StoreError::Version {
            path: path.to_owned(),
            found,
        });
    }
    // Immediate, so that a lock of somebody else shows now and not at the first event.
    let more = if found == 1 { SINCE_1 } else { "" };
    file.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES} {more} PRAGMA user_version = {VERSION}; COMMIT;"
    ))
    .map_err(sqlite())?;
    for table in [
        "events",
        "decisions",
        "bans",
        "ban_history",
        "offenders",
        "clock",
        "clock_steps",
        "minutes",
        "policies",
    ] {
        file.query_row(
            &format!("SELECT count(*) FROM (SELECT * FROM {table} LIMIT 1)"),
            [],
            |_| Ok(()),
        )
        .map_err(sqlite())?;
    }
    Ok(file)
}

/// Opens a file that [`open_or_replace`] could not open for want of room or of permission to write, to read what is in it.
///
/// SQLite reads a file with a write-ahead log by an index beside it, for which there is no room; who has the file alone keeps that in
/// memory. Where nothing can be written at all, the log cannot be read either: what was not yet taken out of it is missing.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    let alone = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let as_it_lies = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = |path: &Path, flags| {
        let file = Connection::open_with_flags(path, flags)?;
        file.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA temp_store = MEMORY;")?;
        file.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(file)
    };
    open(path, alone)
        .or_else(|_: rusqlite::Error| open(&uri(path), as_it_lies))
        .map_err(StoreError::sqlite(path))
}

/// A path as SQLite takes it with options, of a file that nobody changes.
fn uri(path: &Path) -> PathBuf {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {
                uri.push(char::from(*byte))
            }
            byte => {
                // Writing to a string cannot fail.
                let _ = write!(uri, "%{byte:02x}");
            }
        }
    }
    uri.push_str("?immutable=1");
    uri.into()
}

/// Renames the file and what SQLite keeps beside it; returns the new name.
pub(super) fn move_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let with = |base: &Path, suffix: &str| {
        let mut name = base.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = (1..)
        .map(|number: u32| with(path, &format!(".bad-{number}")))
        .find(|candidate| !candidate.exists())
        .unwrap_or_else(|| with(path, ".bad"));
    for suffix in ["", "-wal", "-shm"] {
        match std::fs::rename(with(path, suffix), with(&aside, suffix)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(StoreError::Aside {
                    path: path.to_owned(),
                    source,
                });
            }
        }
    }
    Ok(aside)
}

/// Addresses are 16 bytes, IPv4 mapped, so that a prefix is a range; times are nanoseconds since the Unix epoch.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS decisions (
    id INTEGER PRIMARY KEY, verdict TEXT NOT NULL, reason TEXT NOT NULL, rule TEXT NOT NULL, file TEXT NOT NULL,
    line INTEGER NOT NULL, stage TEXT NOT NULL, text TEXT NOT NULL,
    UNIQUE (verdict, reason, rule, file, line, stage, text));
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, src BLOB, src_last BLOB, dst BLOB,
    proto INTEGER, port INTEGER, decision INTEGER, json TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_at ON events (at);
CREATE INDEX IF NOT EXISTS events_kind ON events (kind, id);
CREATE INDEX IF NOT EXISTS events_src ON events (src, id) WHERE src IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_dst ON events (dst, id) WHERE dst IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_decision ON events (decision, id) WHERE decision IS NOT NULL;
CREATE TABLE IF NOT EXISTS bans (prefix TEXT PRIMARY KEY, ban TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ban_history (
    id INTEGER PRIMARY KEY, first BLOB NOT NULL, last BLOB NOT NULL, since INTEGER NOT NULL, ended INTEGER NOT NULL,
    how TEXT NOT NULL, ban TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS ban_history_first ON ban_history (first, id);
CREATE INDEX IF NOT EXISTS ban_history_ended ON ban_history (ended);
CREATE TABLE IF NOT EXISTS offenders (
    prefix TEXT PRIMARY KEY, times INTEGER NOT NULL, last INTEGER NOT NULL, offences INTEGER NOT NULL, offended INTEGER,
    lifted INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY, boot TEXT NOT NULL, offset INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS clock_steps (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, size INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS minutes (
    at INTEGER PRIMARY KEY, packets INTEGER NOT NULL, bytes INTEGER NOT NULL, allowed INTEGER NOT NULL,
    dropped INTEGER NOT NULL, rejected INTEGER NOT NULL, anomalies INTEGER NOT NULL, flows INTEGER NOT NULL,
    alerts INTEGER NOT NULL, bans INTEGER NOT NULL, would_drop INTEGER NOT NULL DEFAULT 0,
    would_reject INTEGER NOT NULL DEFAULT 0, would_ban INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS policies (
    id INTEGER PRIMARY KEY, at INTEGER NOT NULL, source TEXT NOT NULL, digest TEXT NOT NULL, rules INTEGER NOT NULL,
    how TEXT NOT NULL, text TEXT NOT NULL);
";

/// What files of version 1 lack. Their minutes counted what would have been blocked as blocked, and stay as they are.
const SINCE_1: &str = "
ALTER TABLE minutes ADD COLUMN would_drop INTEGER NOT NULL DEFAULT 0;
ALTER TABLE minutes ADD COLUMN would_reject INTEGER NOT NULL DEFAULT 0;
ALTER TABLE minutes ADD COLUMN would_ban INTEGER NOT NULL DEFAULT 0;
";
