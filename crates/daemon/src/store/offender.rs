//! Who was banned before, over restarts: one row for each prefix, however often.

use engine::Offender;
use ipnet::IpNet;
use policy::Timestamp;
use rusqlite::{Connection, params};

use super::{nanos, timestamp};

/// Remembers an offender, in place of what was.
pub(super) fn put(file: &Connection, offender: &Offender) -> rusqlite::Result<()> {
    file.prepare_cached(
        "INSERT OR REPLACE INTO offenders (prefix, times, last, offences, offended, lifted) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        offender.prefix.to_string(),
        offender.times,
        nanos(offender.last),
        offender.offences,
        offender.offended.map(nanos),
        offender.lifted.map(nanos)
    ])
    .map(drop)
}

/// Everybody who is remembered. A row that cannot be read is nobody.
pub(super) fn load(file: &Connection) -> rusqlite::Result<Vec<Offender>> {
    let mut statement =
        file.prepare("SELECT prefix, times, last, offences, offended, lifted FROM offenders")?;
    let rows = statement.query_map([], |row| {
        let at =
            |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(timestamp));
        Ok(row.get::<_, String>(0)?.parse::<IpNet>().ok().zip(Some((
            row.get::<_, u32>(1)?,
            timestamp(row.get(2)?),
            row.get::<_, u32>(3)?,
            at(4)?,
            at(5)?,
        ))))
    })?;
    let mut offenders = Vec::new();
    for row in rows {
        offenders.extend(
            row?.map(
                |(prefix, (times, last, offences, offended, lifted))| Offender {
                    prefix,
                    times,
                    last,
                    offences,
                    offended,
                    lifted,
                },
            ),
        );
    }
    Ok(offenders)
}

/// Forgets those who were banned last before `oldest`, and of the rest all but `most`: who offended least and longest ago goes first.
pub(super) fn prune(file: &Connection, oldest: Timestamp, most: u64) -> rusqlite::Result<()> {
    file.prepare_cached("DELETE FROM offenders WHERE max(last, ifnull(lifted, 0)) < ?1")?
        .execute([nanos(oldest)])?;
    let count: i64 = file.query_row("SELECT count(*) FROM offenders", [], |row| row.get(0))?;
    let surplus = count.saturating_sub(i64::try_from(most).unwrap_or(i64::MAX));
    if surplus > 0 {
        file.prepare_cached(
            "DELETE FROM offenders WHERE prefix IN (SELECT prefix FROM offenders ORDER BY offences, times, last LIMIT ?1)",
        )?
        .execute([surplus])?;
    }
    Ok(())
}
