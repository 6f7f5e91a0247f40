//! The writing thread: takes messages in batches, one transaction for each batch, and survives what a disk may do.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use policy::LogSettings;
use rusqlite::{Connection, params};

use super::entry::{Entry, Range};
use super::prune::{Age, prune};
use super::{Message, PolicyEntry, Shared, ban, file, lock, nanos, offender, uptime};
use crate::api::{Decided, Totals};

/// Messages in one transaction at most.
const BATCH: usize = 2_048;
/// How long a message waits for company.
const LINGER: Duration = Duration::from_millis(100);
/// How long a store that failed is left alone.
const RETRY: Duration = Duration::from_secs(2);
/// How long after bans were lost they are asked for again, until they are in the file.
const CATCH_UP: Duration = Duration::from_secs(2);
/// How often old events are looked for.
const PRUNE_EACH: Duration = Duration::from_secs(5);
/// Decisions remembered by number.
const DECISIONS: usize = 4_096;

pub(super) fn run(
    mut open: Option<Connection>,
    receiver: &Receiver<Message>,
    shared: &Shared,
    mut settings: LogSettings,
) {
    let mut decisions = HashMap::new();
    let mut failed_at: Option<Instant> = open.is_none().then(Instant::now);
    let mut pruned_at = Instant::now();
    // Bans that a full disk kept out of the file are not in it when there is room again.
    let mut behind: Option<Instant> = None;
    let mut batch = Vec::new();
    let mut age = Age::default();
    loop {
        let (waiters, stop) = gather(receiver, shared, &mut batch, &mut settings);
        if open.is_none() && failed_at.is_none_or(|at| at.elapsed() >= RETRY) {
            open = reopen(&shared.path, shared, &mut decisions);
            failed_at = open.is_none().then(Instant::now);
        }
        if behind.is_some_and(|at| at.elapsed() >= CATCH_UP) {
            behind = None;
            shared.bans_wanted.store(true, Ordering::Relaxed);
        }
        let lost = batch.len() as u64;
        let lost_bans = batch.iter().any(Message::is_of_bans);
        match &mut open {
            None => {
                shared.lost.fetch_add(lost, Ordering::Relaxed);
                if lost_bans {
                    let why = lock(&shared.error).clone();
                    *lock(&shared.bans_missing) = why.or_else(|| Some("it is not open".to_owned()));
                }
            }
            // Nothing says whether there is room again but trying.
            Some(_) if batch.is_empty() && failed_at.is_none_or(|at| at.elapsed() < RETRY) => {}
            Some(connection) => match write(connection, &batch, &mut decisions) {
                Ok(events) => {
                    shared.written.fetch_add(events, Ordering::Relaxed);
                    if batch
                        .iter()
                        .any(|message| matches!(message, Message::Replace(_)))
                    {
                        *lock(&shared.bans_missing) = None;
                    }
                    failed_at = None;
                    *lock(&shared.error) = None;
                }
                Err(error) => {
                    shared.lost.fetch_add(lost, Ordering::Relaxed);
                    decisions.clear();
                    if lost_bans {
                        *lock(&shared.bans_missing) = Some(error.to_string());
                        behind.get_or_insert_with(Instant::now);
                    }
                    // The guard tells of it.
                    *lock(&shared.error) = Some(error.to_string());
                    if file::is_files_fault(&error) {
                        open = None;
                    }
                    failed_at = Some(Instant::now());
                }
            },
        }
        batch.clear();
        if let Some(connection) = &open
            && (pruned_at.elapsed() >= PRUNE_EACH || !waiters.is_empty())
        {
            pruned_at = Instant::now();
            match prune(connection, &settings, &mut age) {
                Ok(bytes) => shared.bytes.store(bytes, Ordering::Relaxed),
                Err(error) => tracing::warn!("old events cannot be deleted: {error}"),
            }
        }
        for waiter in waiters {
            // A waiter that has lost patience is gone.
            let _ = waiter.try_send(());
        }
        if stop {
            return;
        }
    }
}

/// Waits for messages and takes what there is. Settings are taken at once; who waits for a flush, and whether to stop, is returned.
fn gather(
    receiver: &Receiver<Message>,
    shared: &Shared,
    batch: &mut Vec<Message>,
    settings: &mut LogSettings,
) -> (Vec<SyncSender<()>>, bool) {
    let mut waiters = Vec::new();
    let mut first = match receiver.recv_timeout(Duration::from_secs(1)) {
        Ok(message) => Some(message),
        Err(RecvTimeoutError::Timeout) => return (waiters, false),
        Err(RecvTimeoutError::Disconnected) => return (waiters, true),
    };
    let deadline = Instant::now() + LINGER;
    loop {
        let message = match first.take() {
            Some(message) => message,
            None => {
                let left = deadline.saturating_duration_since(Instant::now());
                match receiver.recv_timeout(left) {
                    Ok(message) => message,
                    Err(_) => return (waiters, false),
                }
            }
        };
        match message {
            Message::Flush(done) => {
                waiters.push(done);
                return (waiters, false);
            }
            Message::Stop => return (waiters, true),
            queued => {
                shared.queued.fetch_sub(1, Ordering::Relaxed);
                match queued {
                    Message::Settings(new) => *settings = new,
                    queued => batch.push(queued),
                }
            }
        }
        if batch.len() >= BATCH {
            return (waiters, false);
        }
    }
}

/// After a failure: the same file when it is well again, else a new one.
fn reopen(
    path: &Path,
    shared: &Shared,
    decisions: &mut HashMap<Decided, i64>,
) -> Option<Connection> {
    let mut warnings = Vec::new();
    let outcome = file::open_or_replace(path, &mut warnings);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    decisions.clear();
    match outcome {
        Ok(connection) => {
            shared.bans_wanted.store(true, Ordering::Relaxed);
            Some(connection)
        }
        Err(error) => {
            *lock(&shared.error) = Some(error.to_string());
            None
        }
    }
}

fn write(
    connection: &mut Connection,
    batch: &[Message],
    decisions: &mut HashMap<Decided, i64>,
) -> rusqlite::Result<u64> {
    let mut events = 0;
    let transaction = connection.transaction()?;
    if batch.is_empty() {
        uptime::touch(&transaction)?;
    }
    for message in batch {
        match message {
            Message::Event(entry) => {
                event(&transaction, entry, decisions)?;
                events += 1;
            }
            Message::BanPut(put) => ban::put(&transaction, put)?,
            Message::Offender(put) => offender::put(&transaction, put)?,
            Message::Replace(memory) => {
                transaction.execute("DELETE FROM bans", [])?;
                for put in &memory.bans {
                    ban::put(&transaction, put)?;
                }
                transaction.execute("DELETE FROM offenders", [])?;
                for put in &memory.offenders {
                    offender::put(&transaction, put)?;
                }
                uptime::put(&transaction, &memory.clock)?;
            }
            Message::BanGone(prefix, end, at) => ban::end(&transaction, *prefix, *end, *at)?,
            Message::Minute(at, counts) => minute(&transaction, nanos(*at), counts)?,
            Message::Policy(entry) => policy(&transaction, entry)?,
            // `gather` keeps these.
            Message::Settings(_) | Message::Flush(_) | Message::Stop => {}
        }
    }
    transaction.commit()?;
    Ok(events)
}

fn event(
    connection: &Connection,
    entry: &Entry,
    decisions: &mut HashMap<Decided, i64>,
) -> rusqlite::Result<()> {
    let decision = match &entry.decided {
        Some(decided) => Some(decision(connection, decided, decisions)?),
        None => None,
    };
    let first = |range: Option<Range>| range.map(|range| range.first.to_be_bytes());
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO events (id, at, kind, src, src_last, dst, proto, port, decision, json)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            entry.id as i64,
            nanos(entry.at),
            entry.kind,
            first(entry.source),
            // Only bans speak of more than one address.
            entry.source.filter(|range| range.first != range.last).map(|range| range.last.to_be_bytes()),
            first(entry.destination),
            entry.protocol,
            entry.port,
            decision,
            entry.json,
        ])
        .map(drop)
}

fn decision(
    connection: &Connection,
    decided: &Decided,
    known: &mut HashMap<Decided, i64>,
) -> rusqlite::Result<i64> {
    if let Some(id) = known.get(decided) {
        return Ok(*id);
    }
    let values = params![
        decided.verdict,
        decided.reason,
        decided.rule.as_deref().unwrap_or(""),
        decided.file.as_deref().unwrap_or(""),
        decided.line.unwrap_or(0),
        decided.stage,
        decided.text,
    ];
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO decisions (verdict, reason, rule, file, line, stage, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(values)?;
    let id = connection
        .prepare_cached(
            "SELECT id FROM decisions WHERE verdict = ?1 AND reason = ?2 AND rule = ?3 AND file = ?4 AND line = ?5 AND stage = ?6
             AND text = ?7",
        )?
        .query_row(values, |row| row.get(0))?;
    if known.len() >= DECISIONS {
        known.clear();
    }
    known.insert(decided.clone(), id);
    Ok(id)
}

fn minute(connection: &Connection, at: i64, counts: &Totals) -> rusqlite::Result<()> {
    const MINUTE: i64 = 60_000_000_000;
    connection
        .prepare_cached(
            "INSERT INTO minutes (at, packets, bytes, allowed, dropped, rejected, anomalies, flows, alerts, bans, would_drop,
             would_reject, would_ban) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (at) DO UPDATE SET
             packets = packets + ?2, bytes = bytes + ?3, allowed = allowed + ?4, dropped = dropped + ?5,
             rejected = rejected + ?6, anomalies = anomalies + ?7, flows = flows + ?8, alerts = alerts + ?9, bans = bans + ?10,
             would_drop = would_drop + ?11, would_reject = would_reject + ?12, would_ban = would_ban + ?13",
        )?
        .execute(params![
            at - at % MINUTE,
            counts.packets as i64,
            counts.bytes as i64,
            counts.allowed as i64,
            counts.dropped as i64,
            counts.rejected as i64,
            counts.anomalies as i64,
            counts.flows as i64,
            counts.alerts as i64,
            counts.bans as i64,
            counts.would_drop as i64,
            counts.would_reject as i64,
            counts.would_ban as i64,
        ])
        .map(drop)
}

fn policy(connection: &Connection, entry: &PolicyEntry) -> rusqlite::Result<()> {
    let version = &entry.version;
    connection
        .prepare_cached(
            "INSERT INTO policies (at, source, digest, rules, how, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            nanos(version.at.0),
            version.source,
            version.digest,
            version.rules as i64,
            version.by,
            entry.text
        ])
        .map(drop)
}
