//! Keeping the file within its bounds: what is too old goes, and when that is not enough, what is oldest of what
//! strangers make as much of as they like, and then of the rest.

use policy::LogSettings;
use rusqlite::{Connection, params};

use super::{nanos, offender, timestamp, uptime};
use crate::clock::Clock;

/// Rows deleted in one statement: small transactions keep the write-ahead log small.
const CHUNK: i64 = 4_000;
/// Chunks deleted in one call, so that new events are not kept waiting.
const CHUNKS: usize = 64;
/// Policies that the history keeps.
const POLICIES: i64 = 100;
/// Bans over are kept at least so long, for whoever asks what became of them. What makes the next ban longer is kept by offender.
const HISTORY: i64 = 30 * 86_400 * 1_000_000_000;
/// Offenders are kept so long: the most that `[ban] memory` can be.
const OFFENDERS: i64 = 365 * 86_400 * 1_000_000_000;
/// The part of the file that offenders may take, with what one takes, in bytes.
const OFFENDERS_PART: (u64, u64) = (8, 128);

/// The clock by which what is on record grows old: by time that passes, not by what the clock is set by.
#[derive(Debug, Default)]
pub(super) struct Age {
    clock: Clock,
    /// By how many nanoseconds the clock was set since the file was told.
    untold: i64,
}

impl Age {
    /// The present; no setting of the clock shows here that the file does not know of.
    fn now(&mut self, file: &Connection) -> rusqlite::Result<i64> {
        if let Some(step) = self.clock.step() {
            self.untold = self.untold.saturating_add(step.nanos());
        }
        if self.untold != 0 {
            uptime::note_step(file, self.untold)?;
            self.untold = 0;
        }
        Ok(nanos(self.clock.now()))
    }
}

/// The oldest events of kinds of which strangers make as many as they like: they make room first, so that no flood of them
/// pushes out a ban, an alert or what happened to the firewall itself.
const OLDEST_OF_MANY: &str = "
SELECT id FROM (
    SELECT * FROM (SELECT id FROM events WHERE kind = 'flow' ORDER BY id LIMIT ?1)
    UNION ALL SELECT * FROM (SELECT id FROM events WHERE kind = 'drop' ORDER BY id LIMIT ?1)
    UNION ALL SELECT * FROM (SELECT id FROM events WHERE kind = 'anomaly' ORDER BY id LIMIT ?1)
    UNION ALL SELECT * FROM (SELECT id FROM events WHERE kind = 'firewall' ORDER BY id LIMIT ?1)
    UNION ALL SELECT * FROM (SELECT id FROM events WHERE kind = 'dns' ORDER BY id LIMIT ?1))
ORDER BY id LIMIT ?1";
/// The oldest of all.
const OLDEST: &str = "SELECT id FROM events ORDER BY id LIMIT ?1";

/// Deletes what is past its bounds; returns how many bytes the file has now.
pub(super) fn prune(
    file: &Connection,
    settings: &LogSettings,
    clock: &mut Age,
) -> rusqlite::Result<u64> {
    let now = clock.now(file)?;
    let age = i64::try_from(settings.store_age.as_nanos()).unwrap_or(i64::MAX);
    let oldest = now.saturating_sub(age);
    let set = uptime::seems_older(file, oldest)?;
    let (now, oldest) = (now.saturating_sub(set), oldest.saturating_sub(set));
    for _ in 0..CHUNKS {
        let gone = file
            .prepare_cached(
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < ?1 LIMIT ?2)",
            )?
            .execute(params![oldest, CHUNK])?;
        if gone < CHUNK as usize {
            break;
        }
    }
    file.execute("DELETE FROM minutes WHERE at < ?1", [oldest])?;
    file.execute(
        "DELETE FROM ban_history WHERE ended < ?1",
        [oldest.min(now - HISTORY)],
    )?;
    let (part, each) = OFFENDERS_PART;
    offender::prune(
        file,
        timestamp(now.saturating_sub(OFFENDERS)),
        settings.store_bytes / part / each,
    )?;
    file.execute(
        "DELETE FROM policies WHERE id <= (SELECT max(id) FROM policies) - ?1",
        [POLICIES],
    )?;

    // The write-ahead log is part of the bill.
    let bound = settings.store_bytes - settings.store_bytes / 8;
    let pages = (bound / 8 / page_size(file)?.max(1)).clamp(16, 1_000);
    file.pragma_update(None, "wal_autocheckpoint", pages as i64)?;
    let mut deleted = false;
    for _ in 0..CHUNKS {
        if used(file)? <= bound {
            break;
        }
        let delete = |which: &str| {
            file.prepare_cached(&format!("DELETE FROM events WHERE id IN ({which})"))?
                .execute([CHUNK])
        };
        deleted = true;
        if delete(OLDEST_OF_MANY)? == 0 && delete(OLDEST)? == 0 {
            break;
        }
    }
    if deleted {
        file.execute(
            "DELETE FROM decisions WHERE id NOT IN (SELECT decision FROM events WHERE decision IS NOT NULL)",
            [],
        )?;
        // The statement yields a row for each page it frees; it has to be stepped to its end.
        let mut vacuum = file.prepare("PRAGMA incremental_vacuum(65536)")?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        drop(rows);
        file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok(count(file, "page_count")? * page_size(file)?)
}

fn used(file: &Connection) -> rusqlite::Result<u64> {
    let pages = count(file, "page_count")?.saturating_sub(count(file, "freelist_count")?);
    Ok(pages * page_size(file)?)
}

fn page_size(file: &Connection) -> rusqlite::Result<u64> {
    count(file, "page_size")
}

fn count(file: &Connection, pragma: &str) -> rusqlite::Result<u64> {
    file.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
        .map(|value| value.max(0) as u64)
}
