//! Bans in the store: those in force, which come back at the next start, and those that are over.

use std::net::IpAddr;
use std::time::Duration;

use engine::{Ban, BanEnd, BanOrigin, Detector, Evidence, Pattern, Shape, Technique};
use ipnet::IpNet;
use policy::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use wire::FiveTuple;

use super::entry::Range;
use super::nanos;

/// A ban that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct PastBan {
    /// As it stood.
    pub ban: Ban,
    /// When it ended.
    pub ended: Timestamp,
}

/// Remembers a ban in force.
pub(super) fn put(file: &Connection, ban: &Ban) -> rusqlite::Result<()> {
    file.prepare_cached("INSERT OR REPLACE INTO bans (prefix, ban) VALUES (?1, ?2)")?
        .execute(params![ban.prefix.to_string(), encode(ban)])
        .map(drop)
}

/// Moves a ban to the history. Nothing to do when it is not remembered.
pub(super) fn end(
    file: &Connection,
    prefix: IpNet,
    end: BanEnd,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let text: Option<String> = file
        .prepare_cached("DELETE FROM bans WHERE prefix = ?1 RETURNING ban")?
        .query_row([prefix.to_string()], |row| row.get(0))
        .optional()?;
    let Some(text) = text else { return Ok(()) };
    let since = decode(&text).map_or_else(|| nanos(at), |ban| nanos(ban.since));
    let range = Range::from(prefix);
    file.prepare_cached(
        "INSERT INTO ban_history (first, last, since, ended, how, ban) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        range.first.to_be_bytes(),
        range.last.to_be_bytes(),
        since,
        nanos(at),
        end.name(),
        text
    ])
    .map(drop)
}

/// The bans in force when the last run ended.
pub(super) fn load(file: &Connection) -> rusqlite::Result<Vec<Ban>> {
    let mut statement = file.prepare("SELECT ban FROM bans ORDER BY prefix")?;
    let texts = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut bans = Vec::new();
    for text in texts {
        match decode(&text?) {
            Some(ban) => bans.push(ban),
            None => tracing::warn!("a stored ban cannot be read and is forgotten"),
        }
    }
    Ok(bans)
}

/// Bans that are over and overlap the range, newest first.
pub(super) fn past(file: &Connection, range: Range, limit: u32) -> rusqlite::Result<Vec<PastBan>> {
    let mut statement = file.prepare_cached(
        "SELECT ban, ended FROM ban_history WHERE first <= ?2 AND last >= ?1 ORDER BY id DESC LIMIT ?3",
    )?;
    let rows = statement.query_map(
        params![range.first.to_be_bytes(), range.last.to_be_bytes(), limit],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)),
    )?;
    let mut past = Vec::new();
    for row in rows {
        let (text, ended) = row?;
        past.extend(decode(&text).map(|ban| PastBan {
            ban,
            ended: super::timestamp(ended),
        }));
    }
    Ok(past)
}

/// A ban as text. Shorter than the API's form, and exact.
#[derive(Serialize, Deserialize)]
struct Stored {
    prefix: IpNet,
    origin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    reason: String,
    since: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    times: u32,
    #[serde(default)]
    offences: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    grew_from: Vec<IpNet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<StoredEvidence>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    would_be: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredEvidence {
    count: u64,
    threshold: u64,
    window: u64,
    first: u64,
    last: u64,
    first_packet: StoredTuple,
    last_packet: StoredTuple,
    #[serde(default)]
    proven: bool,
    /// For scans: shape, technique, and over how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scan: Option<(String, String, u32)>,
}

/// Source, destination, protocol, ports.
type StoredTuple = (IpAddr, IpAddr, u8, Option<u16>, Option<u16>);

fn encode(ban: &Ban) -> String {
    let tuple = |tuple: &FiveTuple| {
        (
            tuple.source,
            tuple.destination,
            tuple.protocol,
            tuple.source_port,
            tuple.destination_port,
        )
    };
    let stored = Stored {
        prefix: ban.prefix,
        origin: ban.origin.name().to_owned(),
        by: match &ban.origin {
            BanOrigin::Detector(detector) => Some(detector.name().to_owned()),
            BanOrigin::Rule(name) => Some(name.clone()),
            BanOrigin::Manual | BanOrigin::Import | BanOrigin::Kernel => None,
        },
        reason: ban.reason.clone(),
        since: ban.since.as_nanos(),
        expires: (ban.expires != Timestamp::MAX).then(|| ban.expires.as_nanos()),
        times: ban.times_banned,
        offences: ban.offences,
        grew_from: ban.grew_from.clone(),
        would_be: ban.would_be,
        evidence: ban.evidence.as_ref().map(|evidence| StoredEvidence {
            count: evidence.count,
            threshold: evidence.threshold,
            window: u64::try_from(evidence.window.as_nanos()).unwrap_or(u64::MAX),
            first: evidence.first.as_nanos(),
            last: evidence.last.as_nanos(),
            first_packet: tuple(&evidence.first_packet),
            last_packet: tuple(&evidence.last_packet),
            proven: evidence.proven,
            scan: match evidence.pattern {
                Pattern::Scan {
                    shape,
                    technique,
                    distinct,
                } => Some((
                    shape.name().to_owned(),
                    technique.name().to_owned(),
                    distinct,
                )),
                Pattern::Plain | Pattern::WholeHost => None,
            },
        }),
    };
    serde_json::to_string(&stored)
        .expect("strings, numbers and options have no failing form in JSON")
}

fn decode(text: &str) -> Option<Ban> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    let origin = match (stored.origin.as_str(), stored.by) {
        ("detector", Some(name)) => BanOrigin::Detector(detector(&name)?),
        ("rule", Some(name)) => BanOrigin::Rule(name),
        ("manual", None) => BanOrigin::Manual,
        ("import", None) => BanOrigin::Import,
        ("kernel", None) => BanOrigin::Kernel,
        _ => return None,
    };
    let tuple =
        |(source, destination, protocol, source_port, destination_port): StoredTuple| FiveTuple {
            source,
            destination,
            protocol,
            source_port,
            destination_port,
        };
    Some(Ban {
        prefix: stored.prefix,
        origin,
        reason: stored.reason,
        since: Timestamp::from_nanos(stored.since),
        expires: stored.expires.map_or(Timestamp::MAX, Timestamp::from_nanos),
        times_banned: stored.times,
        offences: stored.offences,
        grew_from: stored.grew_from,
        would_be: stored.would_be,
        evidence: stored.evidence.map(|evidence| Evidence {
            count: evidence.count,
            threshold: evidence.threshold,
            window: Duration::from_nanos(evidence.window),
            first: Timestamp::from_nanos(evidence.first),
            last: Timestamp::from_nanos(evidence.last),
            first_packet: tuple(evidence.first_packet),
            last_packet: tuple(evidence.last_packet),
            proven: evidence.proven,
            pattern: evidence
                .scan
                .as_ref()
                .and_then(scan)
                .unwrap_or(Pattern::Plain),
        }),
    })
}

fn detector(name: &str) -> Option<Detector> {
    Detector::ALL
        .into_iter()
        .find(|detector| detector.name() == name)
}

fn scan((shape, technique, distinct): &(String, String, u32)) -> Option<Pattern> {
    Some(Pattern::Scan {
        shape: Shape::ALL.into_iter().find(|known| known.name() == shape)?,
        technique: Technique::ALL
            .into_iter()
            .find(|known| known.name() == technique)?,
        distinct: *distinct,
    })
}
