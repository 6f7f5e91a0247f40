//! Bans as files: what other tools and we ourselves write, told apart by what is in it, and the forms that we write.
//!
//! Nothing is decided here: the daemon admits or refuses each ban that is read.

mod csv;
mod fail2ban;
mod json;
mod list;
mod nft;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use write::{Form, replace, write};

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use daemon::api::{BanImport, ImportedBan, PlainBans};
use policy::Timestamp;

use crate::failure::Failure;

/// The largest import: a million bans with their evidence.
const LARGEST: u64 = 512 << 20;
/// Bad lines that are told one by one.
const SHOWN: usize = 5;
/// Bans in one request: some MiB, and the daemon judges packets between two requests.
const AT_ONCE: usize = 10_000;

/// What is taken, for who brought something else.
pub(crate) const FORMS: &str = "what is taken: a list with one address a line, CSV whose first line names its columns (ip,reason), JSON, an export \
                     of ours, or the database of fail2ban (fail2ban.sqlite3), which holds what its status only prints";

/// How to take in bans.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// For bans that name no end.
    pub(crate) lasts: Lasts,
    /// Bans that ran out too, from now on for as long as they lasted.
    pub(crate) all: bool,
    /// Now.
    pub(crate) now: Timestamp,
}

/// How long a ban lasts that names no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// As the policy says.
    Policy,
    /// So long.
    For(Duration),
    /// Until it is lifted.
    ForGood,
}

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Found {
    /// What it is, for people.
    pub(crate) form: &'static str,
    /// Its bans, in pieces for one request each.
    pub(crate) bans: Vec<BanImport>,
    /// Bans that ran out and were left out here.
    pub(crate) expired: usize,
    /// What could not be read.
    pub(crate) bad: Bad,
}

/// Entries that could not be read.
#[derive(Debug, Default)]
pub(crate) struct Bad {
    pub(crate) count: usize,
    /// The first few.
    pub(crate) first: Vec<String>,
}

impl Bad {
    fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(what());
        }
    }
}

impl Found {
    fn full(form: &'static str, bans: Vec<ImportedBan>, bad: Bad) -> Self {
        let bans = bans
            .chunks(AT_ONCE)
            .map(|some| BanImport::Full(some.to_vec()))
            .collect();
        Self {
            form,
            bans,
            expired: 0,
            bad,
        }
    }
}

/// Reads a file of bans, or standard input for `-`.
///
/// # Errors
///
/// When it cannot be read, or is nothing that holds bans.
pub(crate) fn read(path: &Path, wish: Wish) -> Result<Found, Failure> {
    let unreadable = |why: io::Error| Failure::file("read", path, &why);
    let (mut input, is_file) = open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let head = input.by_ref().take(fail2ban::MAGIC.len() as u64);
    read_to_end(head, &mut bytes).map_err(unreadable)?;
    // A database is opened by its name, however large it is.
    if is_file && bytes == fail2ban::MAGIC {
        return fail2ban::read(path, wish);
    }
    read_to_end(input.take(LARGEST - bytes.len() as u64), &mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 == LARGEST {
        let why = io::Error::other("it is larger than 512 MiB; split it");
        return Err(unreadable(why));
    }
    let nothing = |why: &str| Failure::Failed(format!("{} holds no bans: {why}", path.display()));
    if bytes.starts_with(fail2ban::MAGIC) {
        return Err(nothing(
            "a database cannot come through a pipe; name its file",
        ));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    if bytes.iter().take(4_096).any(|&byte| byte == 0) {
        return Err(nothing(
            "it is a binary file; take JSON, CSV, a list of addresses, or the database of fail2ban",
        ));
    }
    let found = match bytes.trim_ascii_start().first() {
        Some(b'[' | b'{') => json::read(bytes, wish).map_err(|why| nothing(&why))?,
        _ => match csv::Header::of(bytes) {
            Some(header) => csv::read(bytes, &header, wish),
            None => list::read(bytes, wish),
        },
    };
    Ok(found)
}

/// What is read, and whether it can be opened a second time. A pipe cannot: what was read of it is gone.
fn open(path: &Path) -> io::Result<(Box<dyn Read>, bool)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), false));
    }
    let file = File::open(path)?;
    let is_file = file.metadata()?.is_file();
    Ok((Box::new(file), is_file))
}

fn read_to_end(mut input: impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    input.read_to_end(bytes).map(drop)
}

/// A ban that names no end, and perhaps no begin either.
fn open_ended(prefix: String, since: Option<Timestamp>, wish: Wish) -> ImportedBan {
    let since = since.map(|since| since.min(wish.now));
    let begin = since.unwrap_or(wish.now);
    let (since, expires) = match wish.lasts {
        // Without a begin and an end it is the daemon that knows.
        Lasts::Policy => (None, None),
        Lasts::For(span) => (Some(begin), Some(begin.after(span))),
        // With a begin and no end it holds until it is lifted.
        Lasts::ForGood => (Some(begin), None),
    };
    ImportedBan {
        prefix,
        reason: None,
        since: since.map(Into::into),
        expires: expires.map(Into::into),
        times_banned: None,
    }
}

/// Bans of which only the begin is known.
fn begun(bans: PlainBans, wish: Wish) -> Vec<BanImport> {
    if wish.lasts == Lasts::Policy {
        // The daemon knows how long the policy bans.
        let mut pieces = Vec::new();
        let mut rest = bans.into_iter();
        loop {
            let piece: PlainBans = rest.by_ref().take(AT_ONCE).collect();
            if piece.is_empty() {
                return pieces;
            }
            pieces.push(BanImport::Plain(piece));
        }
    }
    let bans: Vec<ImportedBan> = bans
        .into_iter()
        .map(|(prefix, begin)| {
            // Who read them left out what is none.
            let since = Timestamp::from_secs_f64(begin).unwrap_or(wish.now);
            open_ended(prefix, Some(since), wish)
        })
        .collect();
    Found::full("", bans, Bad::default()).bans
}
