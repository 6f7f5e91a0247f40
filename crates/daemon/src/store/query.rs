//! Reading: events, the history of an address, charts. Each reader has a connection of its own; SQLite's write-ahead log lets it
//! read while the writer writes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use policy::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params, params_from_iter};

use super::entry::Range;
use super::{PastBan, StoreError, ban, nanos, timestamp};
use crate::api;

/// A connection for reading.
#[derive(Debug)]
pub struct Reader {
    file: Connection,
    path: PathBuf,
}

/// Which events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventFilter {
    /// At most so many, the newest.
    pub limit: u32,
    /// Kinds; empty: every kind.
    pub kinds: Vec<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// Source or destination lies in it, or a ban that covers part of it.
    pub range: Option<Range>,
    /// By name.
    pub rule: Option<String>,
}

/// An event as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its number.
    pub id: u64,
    /// The EVE object.
    pub json: String,
}

/// How often a reason denied packets of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The reason.
    pub decided: api::Decided,
    /// Events on record.
    pub count: u64,
    /// The first of them.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// Whether they were stopped, and not only would have been.
    pub enforced: bool,
}

/// Source in the range, destination in the range, a ban's prefix over it, or a refused ban of what it would be banned by: that
/// somebody asked in vain for all of the Internet is not about each of its addresses.
const IN_RANGE: &str = "((src BETWEEN ? AND ? AND (kind != 'ban-refused' OR coalesce(src_last, src) <= ?)) OR dst BETWEEN ? AND ? OR (kind IN ('ban','unban') AND src <= ? AND src_last >= ?)
    OR (kind = 'ban-refused' AND src BETWEEN ? AND ? AND coalesce(src_last, src) <= ?))";

/// What a person should know of a source, as against single packets and flows.
const TOLD: &str = "kind IN ('ban','unban','ban-refused','alert')";
/// What a banned source sends is counted, and buries what it was banned for.
const NOT_OF_THE_BANNED: &str =
    "(decision IS NULL OR decision NOT IN (SELECT id FROM decisions WHERE reason = 'banned'))";
/// Whether an event tells of what was done, and not of what would have been.
pub(super) const ENFORCED: &str = "(instr(json, '\"enforced\":false') = 0)";
/// What bans and feeds drop says nothing about the service that was asked for.
pub(super) const DECIDED_BY_POLICY: &str =
    "decision NOT IN (SELECT id FROM decisions WHERE reason IN ('banned', 'feed'))";

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let file = Connection::open_with_flags(path, flags).map_err(StoreError::sqlite(path))?;
        file.busy_timeout(Duration::from_secs(1))
            .map_err(StoreError::sqlite(path))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Events that match, newest first.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn events(&self, filter: &EventFilter) -> Result<Vec<StoredEvent>, StoreError> {
        let mut sql = "SELECT id, json FROM events WHERE 1".to_owned();
        let mut values = Vec::new();
        if !filter.kinds.is_empty() {
            let marks = vec!["?"; filter.kinds.len()].join(",");
            sql += &format!(" AND kind IN ({marks})");
            values.extend(filter.kinds.iter().cloned().map(Value::from));
        }
        for (condition, at) in [
            (" AND at >= ?", filter.since),
            (" AND at < ?", filter.until),
        ] {
            if let Some(at) = at {
                sql += condition;
                values.push(nanos(at).into());
            }
        }
        if let Some(range) = filter.range {
            sql += &format!(" AND {IN_RANGE}");
            values.extend(range_values(range));
        }
        if let Some(rule) = &filter.rule {
            sql += " AND decision IN (SELECT id FROM decisions WHERE rule = ?)";
            values.push(rule.clone().into());
        }
        sql += " ORDER BY id DESC LIMIT ?";
        values.push(i64::from(filter.limit).into());
        self.rows(&sql, values, |row| {
            Ok(StoredEvent {
                id: row.get::<_, i64>(0)? as u64,
                json: row.get(1)?,
            })
        })
    }

    /// The story of the range in events, newest first: at most `told` bans, unbans, refused bans and alerts, and at most `others`,
    /// without drops for a ban. `up_to`: nothing after the event of this number.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn story(
        &self,
        range: Range,
        up_to: Option<u64>,
        told: u32,
        others: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let select = |which: &str, limit: u32| {
            let sql = format!(
                "SELECT id, json FROM events WHERE id <= ? AND {which} AND {IN_RANGE} ORDER BY id DESC LIMIT ?"
            );
            let last = up_to.map_or(i64::MAX, |id| i64::try_from(id).unwrap_or(i64::MAX));
            let mut values = vec![last.into()];
            values.extend(range_values(range));
            values.push(i64::from(limit).into());
            self.rows(&sql, values, |row| {
                Ok(StoredEvent {
                    id: row.get::<_, i64>(0)? as u64,
                    json: row.get(1)?,
                })
            })
        };
        let mut events = select(TOLD, told)?;
        let rest = format!("NOT {TOLD} AND {NOT_OF_THE_BANNED}");
        events.extend(select(&rest, others)?);
        events.sort_by_key(|event| std::cmp::Reverse(event.id));
        Ok(events)
    }

    /// The event of a number.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn event(&self, id: u64) -> Result<Option<StoredEvent>, StoreError> {
        self.file
            .query_row(
                "SELECT id, json FROM events WHERE id = ?1",
                [id as i64],
                |row| {
                    Ok(StoredEvent {
                        id: row.get::<_, i64>(0)? as u64,
                        json: row.get(1)?,
                    })
                },
            )
            .optional()
            .map_err(StoreError::sqlite(&self.path))
    }

    /// Whether an event of a rule of this name is on record.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn knows_rule(&self, name: &str) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM decisions WHERE rule = ? LIMIT 1";
        let rows = self.rows(sql, vec![name.to_owned().into()], |_| Ok(()))?;
        Ok(!rows.is_empty())
    }

    /// Why packets from or to the range were denied, most frequent first.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn denied(&self, range: Range) -> Result<Vec<Denied>, StoreError> {
        let sql = format!(
            "SELECT d.verdict, d.reason, d.rule, d.file, d.line, d.stage, d.text, count(*), min(e.at), max(e.at),
                    {ENFORCED} AS enforced
             FROM events e JOIN decisions d ON d.id = e.decision
             WHERE e.kind = 'drop' AND {IN_RANGE} GROUP BY d.id, enforced ORDER BY 8 DESC, d.id LIMIT 20"
        );
        self.rows(&sql, range_values(range), |row| {
            let text = |index| row.get::<_, String>(index);
            let some = |text: String| Some(text).filter(|text| !text.is_empty());
            Ok(Denied {
                decided: api::Decided {
                    verdict: text(0)?,
                    reason: text(1)?,
                    rule: some(text(2)?),
                    file: some(text(3)?),
                    line: Some(row.get::<_, u32>(4)?).filter(|line| *line > 0),
                    stage: text(5)?,
                    text: text(6)?,
                },
                count: row.get::<_, i64>(7)? as u64,
                first: timestamp(row.get(8)?),
                last: timestamp(row.get(9)?),
                enforced: row.get(10)?,
            })
        })
    }

    /// When the range was first and last seen, as far as the record goes back.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn seen(&self, range: Range) -> Result<Option<(Timestamp, Timestamp)>, StoreError> {
        let sql = format!("SELECT min(at), max(at) FROM events WHERE {IN_RANGE}");
        let rows = self.rows(&sql, range_values(range), |row| {
            Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
        })?;
        Ok(rows
            .first()
            .and_then(|(first, last)| Some((timestamp((*first)?), timestamp((*last)?)))))
    }

    /// Bans that are over and overlap the range, newest first.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn past_bans(&self, range: Range, limit: u32) -> Result<Vec<PastBan>, StoreError> {
        ban::past(&self.file, range, limit).map_err(StoreError::sqlite(&self.path))
    }

    /// The counters of each minute from `since` on, oldest first.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn minutes(&self, since: Timestamp) -> Result<Vec<api::Minute>, StoreError> {
        let sql = "SELECT at, packets, bytes, allowed, dropped, rejected, anomalies, flows, alerts, bans, would_drop,
                   would_reject, would_ban FROM minutes WHERE at >= ? ORDER BY at";
        self.rows(sql, vec![nanos(since).into()], |row| {
            let number = |index| row.get::<_, i64>(index).map(|value| value.max(0) as u64);
            Ok(api::Minute {
                at: timestamp(row.get(0)?).into(),
                counts: api::Totals {
                    packets: number(1)?,
                    bytes: number(2)?,
                    allowed: number(3)?,
                    dropped: number(4)?,
                    rejected: number(5)?,
                    anomalies: number(6)?,
                    flows: number(7)?,
                    alerts: number(8)?,
                    bans: number(9)?,
                    would_drop: number(10)?,
                    would_reject: number(11)?,
                    would_ban: number(12)?,
                    // Not kept by minute.
                    ..api::Totals::default()
                },
            })
        })
    }

    /// Policies that were in force, newest first.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn policies(&self, limit: u32) -> Result<Vec<api::PolicyVersion>, StoreError> {
        let sql = "SELECT at, source, digest, rules, how FROM policies ORDER BY id DESC LIMIT ?";
        self.rows(sql, vec![i64::from(limit).into()], |row| {
            Ok(api::PolicyVersion {
                at: timestamp(row.get(0)?).into(),
                source: row.get(1)?,
                digest: row.get(2)?,
                rules: row.get::<_, i64>(3)?.max(0) as usize,
                by: row.get(4)?,
            })
        })
    }

    pub(super) fn rows<T>(
        &self,
        sql: &str,
        values: Vec<Value>,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let collect = || {
            let mut statement = self.file.prepare(sql)?;
            statement
                .query_map(params_from_iter(values), read)?
                .collect::<rusqlite::Result<Vec<T>>>()
        };
        collect().map_err(StoreError::sqlite(&self.path))
    }
}

/// The number of the last event on record; 0 without one.
pub(super) fn last_event(file: &Connection) -> rusqlite::Result<u64> {
    file.query_row(
        "SELECT coalesce(max(id), 0) FROM events",
        params![],
        |row| row.get::<_, i64>(0),
    )
    .map(|id| id.max(0) as u64)
}

fn range_values(range: Range) -> Vec<Value> {
    let blob = |key: u128| Value::Blob(key.to_be_bytes().to_vec());
    let (first, last) = (blob(range.first), blob(range.last));
    let source = range.banned_by();
    let (source_first, source_last) = (blob(source.first), blob(source.last));
    vec![
        first.clone(),
        last.clone(),
        source_last.clone(),
        first.clone(),
        last.clone(),
        last,
        first,
        source_first,
        source_last.clone(),
        source_last,
    ]
}
