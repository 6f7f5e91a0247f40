//! By which clock the times in the file are: a wall clock that was set while nobody looked must neither end bans nor make them longer.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::nanos;
use crate::clock::{self, Stamp, Step};

/// Notes the clock that all times of bans are by.
pub(super) fn put(file: &Connection, stamp: &Stamp) -> rusqlite::Result<()> {
    file.prepare_cached("INSERT OR REPLACE INTO clock (id, boot, offset) VALUES (0, ?1, ?2)")?
        .execute(params![stamp.boot, stamp.offset])
        .map(drop)
}

/// How the wall clock was set since [`put`], where it is still the same run of the machine: after a reboot nobody can say.
pub(super) fn step(file: &Connection, now: &Stamp) -> rusqlite::Result<Option<Step>> {
    let noted = file
        .query_row("SELECT boot, offset FROM clock WHERE id = 0", [], |row| {
            Ok(Stamp {
                boot: row.get(0)?,
                offset: row.get(1)?,
            })
        })
        .optional()?;
    Ok(noted.and_then(|noted| now.step_since(&noted)))
}

/// Writes without a change, to see whether the file can be written.
pub(super) fn touch(file: &Connection) -> rusqlite::Result<()> {
    file.execute("UPDATE clock SET offset = offset", [])
        .map(drop)
}

/// Notes that the clock was set by so many nanoseconds. Times of events stay as they were written.
pub(super) fn note_step(file: &Connection, size: i64) -> rusqlite::Result<()> {
    file.execute(
        "INSERT INTO clock_steps (at, size) VALUES (?1, ?2)",
        [nanos(clock::now()), size],
    )
    .map(drop)
}

/// By how many nanoseconds what is on record seems older than it is: the clock was set forward, and no time passed. `oldest` is the
/// wall clock's time before which events are forgotten. Steps that are older themselves are of no more use and go.
pub(super) fn seems_older(file: &Connection, oldest: i64) -> rusqlite::Result<i64> {
    let mut statement =
        file.prepare_cached("SELECT id, at, size FROM clock_steps ORDER BY id DESC")?;
    let mut rows = statement.query([])?;
    let mut sum = 0_i64;
    let mut useless: Option<i64> = None;
    while let Some(row) = rows.next()? {
        let (id, at, size): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        // A step is as old as it would be without those after it.
        if at < oldest.saturating_sub(sum.max(0)) {
            useless = Some(id);
            break;
        }
        sum = sum.saturating_add(size);
    }
    drop(rows);
    if let Some(last) = useless {
        file.execute("DELETE FROM clock_steps WHERE id <= ?1", [last])?;
    }
    Ok(sum.max(0))
}
