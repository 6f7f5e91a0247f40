//! By which clock the times in the file are: a wall clock that was set while nobody looked must neither end bans nor make them longer.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::clock::{Stamp, Step};

/// Notes the clock that all times in the file are by.
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
