//! The database of fail2ban (`/var/lib/fail2ban/fail2ban.sqlite3`): opened for reading alone, so that nothing of fail2ban's changes.
//!
//! Its table, from fail2ban 1.0.2, `fail2ban/server/database.py`, `Fail2BanDb._CREATE_SCRIPTS`:
//! `bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1,
//! data JSON, …)`. Times are seconds; a `bantime` of -1 is for good. Before 0.11 there was neither `bantime` nor `bancount`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use daemon::api::ImportedBan;
use policy::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, types::Value};

use super::{Bad, Found, Wish, open_ended};
use crate::failure::Failure;

/// What such a file begins with.
pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";
/// How long fail2ban may hold its lock: it writes for milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// A row of `bans`.
struct Row {
    jail: String,
    ip: String,
    begin: Timestamp,
    /// `None`: before 0.11. `Some(None)`: for good.
    lasts: Option<Option<Duration>>,
    count: u32,
    failures: Option<u64>,
}

impl Row {
    /// When it ends; `None` where no end is named.
    fn end(&self) -> Option<Timestamp> {
        match self.lasts {
            Some(Some(span)) => Some(self.begin.after(span)),
            Some(None) => Some(Timestamp::MAX),
            None => None,
        }
    }
}

/// Reads the bans that hold, or all of them.
pub(super) fn read(path: &Path, wish: Wish) -> Result<Found, Failure> {
    let (rows, bad) = rows(path).map_err(|why| told(path, &why))?;
    let mut expired = 0;
    let mut by_ip: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows {
        if !wish.all && row.end().is_some_and(|end| end <= wish.now) {
            expired += 1;
        } else {
            by_ip.entry(row.ip.clone()).or_default().push(row);
        }
    }
    let bans = by_ip
        .into_iter()
        .filter_map(|(ip, rows)| ban(ip, &rows, wish))
        .collect();
    let mut found = Found::full("the database of fail2ban", bans, bad);
    found.expired = expired;
    Ok(found)
}

/// One ban for all rows of an address: several jails can ban it, and each can more than once. The longest counts.
fn ban(ip: String, rows: &[Row], wish: Wish) -> Option<ImportedBan> {
    let longest = rows.iter().max_by_key(|row| row.end())?;
    let mut jails: Vec<&str> = rows.iter().map(|row| row.jail.as_str()).collect();
    jails.sort_unstable();
    jails.dedup();
    let failures = match longest.failures {
        Some(1) => " (1 failure)".to_owned(),
        Some(count) => format!(" ({count} failures)"),
        None => String::new(),
    };
    let reason = format!("fail2ban: {}{failures}", jails.join(", "));
    let times_banned = rows.iter().map(|row| row.count).max();
    let bare = match longest.lasts {
        None => open_ended(ip, Some(longest.begin), wish),
        Some(lasts) => {
            let is_over = longest.end().is_some_and(|end| end <= wish.now);
            // Whoever wants those that ran out too bans them anew.
            let since = if is_over {
                wish.now
            } else {
                longest.begin.min(wish.now)
            };
            let end = match lasts {
                Some(span) if is_over => Some(since.after(span)),
                Some(span) => Some(longest.begin.after(span)),
                None => None,
            };
            ImportedBan {
                prefix: ip,
                reason: None,
                since: Some(since.into()),
                expires: end.map(Into::into),
                times_banned: None,
            }
        }
    };
    Some(ImportedBan {
        reason: Some(reason),
        times_banned,
        ..bare
    })
}

/// Why the rows cannot be had.
enum Why {
    Sqlite(rusqlite::Error),
    NoTable,
}

impl From<rusqlite::Error> for Why {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn rows(path: &Path) -> Result<(Vec<Row>, Bad), Why> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags)?;
    database.busy_timeout(PATIENCE)?;
    let mut columns = Vec::new();
    database.pragma(None, "table_info", "bans", |row| {
        columns.push(row.get::<_, String>("name")?);
        Ok(())
    })?;
    let has = |name: &str| columns.iter().any(|column| column == name);
    if !["jail", "ip", "timeofban"].iter().all(|name| has(name)) {
        return Err(Why::NoTable);
    }
    let or_null = |name: &'static str| if has(name) { name } else { "NULL" };
    let query = format!(
        "SELECT jail, ip, timeofban, {}, {}, {} FROM bans ORDER BY timeofban",
        or_null("bantime"),
        or_null("bancount"),
        or_null("data")
    );
    let mut statement = database.prepare(&query)?;
    let mut found = statement.query([])?;
    let (mut rows, mut bad) = (Vec::new(), Bad::default());
    let mut number = 0_usize;
    while let Some(row) = found.next()? {
        number += 1;
        let values: [Value; 6] = [
            row.get(0)?,
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
            row.get(5)?,
        ];
        match read_row(values) {
            Ok(row) => rows.push(row),
            Err(why) => bad.add(|| format!("ban {number}: {why}")),
        }
    }
    Ok((rows, bad))
}

/// SQLite keeps in a column what it is given, whatever its type says.
fn read_row(values: [Value; 6]) -> Result<Row, String> {
    let [jail, ip, begin, lasts, count, data] = values;
    let (Value::Text(jail), Value::Text(ip)) = (jail, ip) else {
        return Err("it names no address or no jail".to_owned());
    };
    let begin = seconds(&begin).ok_or("it has no time")?;
    let wrong = |why| format!("its time, {begin}, {why}");
    let begin = Timestamp::from_secs_f64(begin as f64).map_err(wrong)?;
    let lasts = match &lasts {
        Value::Null => None,
        value => Some(seconds(value).ok_or("its duration is no number")?),
    };
    let data = match data {
        Value::Text(text) => serde_json::from_str(&text).unwrap_or_default(),
        Value::Blob(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        _ => serde_json::Value::Null,
    };
    Ok(Row {
        jail,
        ip,
        begin,
        // Every negative number is for good, as fail2ban takes it.
        lasts: lasts.map(|span| u64::try_from(span).ok().map(Duration::from_secs)),
        count: seconds(&count)
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(1),
        failures: data.get("failures").and_then(serde_json::Value::as_u64),
    })
}

fn seconds(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        Value::Real(number) if number.is_finite() => Some(*number as i64),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn told(path: &Path, why: &Why) -> Failure {
    let path = path.display();
    Failure::Failed(match why {
        Why::NoTable => format!(
            "{path} is a database, but none of fail2ban: it has no table `bans` with jail, ip and timeofban"
        ),
        Why::Sqlite(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => format!(
                "{path} is locked by another program; try again, or stop fail2ban and import a copy"
            ),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => format!(
                "{path} is damaged ({error}); repair it with `sqlite3 {path} .recover`, or import a backup"
            ),
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
                format!("{path} cannot be opened ({error}); stop fail2ban, or import a copy")
            }
            _ => format!("{path} cannot be read: {error}"),
        },
    })
}
