//! CSV (RFC 4180) with a header: what we write, and what names its columns likewise.
//!
//! A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return for a formula, and a reason can hold
//! what a stranger sent (OWASP, "CSV Injection"). So such a cell begins with an apostrophe, which reading takes away again.

use daemon::api::{Ban, ImportedBan, Time};
use policy::Timestamp;

use super::{Bad, Found, Wish, open_ended};
use crate::prefix::IpNetOrAddress;
use crate::screen::visible_once;

/// What we write, in this order.
const COLUMNS: &str =
    "prefix,family,detector,origin,reason,since,expires,remaining_s,times_banned\r\n";

/// What a column of addresses is called.
const ADDRESS: [&str; 8] = [
    "prefix",
    "ip",
    "address",
    "addr",
    "cidr",
    "network",
    "ip address",
    "ip_address",
];

/// The bans as CSV.
pub(super) fn write(bans: &[Ban]) -> String {
    let mut text = COLUMNS.to_owned();
    for ban in bans {
        let number = |number: Option<u64>| number.map_or(String::new(), |n| n.to_string());
        let cells = [
            IpNetOrAddress(ban.prefix).to_string(),
            ban.family.clone(),
            ban.detector.clone().unwrap_or_default(),
            ban.origin.clone(),
            ban.reason.clone(),
            ban.since.to_string(),
            ban.expires.map_or(String::new(), |time| time.to_string()),
            number(ban.remaining_s),
            ban.times_banned.to_string(),
        ];
        let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

/// What a spreadsheet would calculate, and the apostrophe that keeps it from that.
fn needs_apostrophe(cell: &str) -> bool {
    cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\''])
}

fn quoted(cell: &str) -> String {
    let mut text = visible_once(cell);
    if needs_apostrophe(&text) {
        text.insert(0, '\'');
    }
    if text.contains([',', '"', '\n', '\r']) {
        text = format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

/// Which column is what.
#[derive(Debug)]
pub(super) struct Header {
    /// What stands between two cells: spreadsheets of half of the world write `;`.
    between: char,
    address: usize,
    reason: Option<usize>,
    since: Option<usize>,
    expires: Option<usize>,
    times_banned: Option<usize>,
}

impl Header {
    /// Of a text whose first line names its columns, one of them the addresses.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        [',', ';', '\t']
            .into_iter()
            .find_map(|between| Self::with(bytes, between))
    }

    fn with(bytes: &[u8], between: char) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (_, first) = Records::of(&text, between).next()?;
        let names: Vec<String> = first
            .iter()
            .map(|name| name.trim().to_ascii_lowercase())
            .collect();
        let find = |wanted: &[&str]| names.iter().position(|name| wanted.contains(&&**name));
        Some(Self {
            between,
            address: find(&ADDRESS)?,
            reason: find(&["reason", "comment", "scenario"]),
            since: find(&["since", "start", "banned_at", "created_at"]),
            expires: find(&["expires", "until", "expires_at", "expiration"]),
            times_banned: find(&["times_banned", "bancount"]),
        })
    }
}

/// Reads what stands behind the header; one bad record costs itself alone.
pub(super) fn read(bytes: &[u8], header: &Header, wish: Wish) -> Found {
    let text = String::from_utf8_lossy(bytes);
    let (mut bans, mut bad) = (Vec::new(), Bad::default());
    for (line, record) in Records::of(&text, header.between).skip(1) {
        match ban(&record, header, wish) {
            Ok(ban) => bans.push(ban),
            Err(why) => bad.add(|| format!("line {line}: {why}")),
        }
    }
    Found::full("CSV", bans, bad)
}

fn ban(record: &[String], header: &Header, wish: Wish) -> Result<ImportedBan, String> {
    let cell = |column: Option<usize>| {
        let cell = record.get(column?)?;
        let bare = cell
            .strip_prefix('\'')
            .filter(|rest| needs_apostrophe(rest));
        Some(bare.unwrap_or(cell)).filter(|cell| !cell.is_empty())
    };
    let prefix = cell(Some(header.address)).ok_or("it names no address")?;
    let prefix = prefix.trim().to_owned();
    let since = cell(header.since).map(time).transpose()?;
    let expires = cell(header.expires).map(time).transpose()?;
    // Who has a column for the end and leaves it empty means none.
    let names_end = expires.is_some() || (header.expires.is_some() && since.is_some());
    let times_banned = cell(header.times_banned).and_then(|text| text.trim().parse().ok());
    let bare = match (since, names_end) {
        (_, true) => ImportedBan {
            prefix,
            reason: None,
            since,
            expires,
            times_banned: None,
        },
        (since, false) => open_ended(prefix, since.map(|time| time.0), wish),
    };
    Ok(ImportedBan {
        reason: cell(header.reason).map(str::to_owned),
        times_banned,
        ..bare
    })
}

/// RFC 3339, or seconds since 1970.
fn time(text: &str) -> Result<Time, String> {
    let text = text.trim();
    let time = match text.parse() {
        Ok(seconds) => Timestamp::from_secs_f64(seconds),
        Err(_) => Timestamp::read_rfc3339(text),
    };
    time.map(Into::into)
        .map_err(|why| format!("{text:?} {why}"))
}

/// The records of a text with the number of the line that each begins on; empty lines and comments are none.
struct Records<'a> {
    rest: &'a str,
    line: usize,
    between: char,
}

impl<'a> Records<'a> {
    fn of(text: &'a str, between: char) -> Self {
        Self {
            rest: text,
            line: 1,
            between,
        }
    }

    fn record(&mut self) -> Vec<String> {
        let mut cells = vec![String::new()];
        let mut is_quoted = false;
        let mut characters = self.rest.char_indices().peekable();
        let mut end = self.rest.len();
        while let Some((at, character)) = characters.next() {
            let last = cells.len() - 1;
            match character {
                '"' if is_quoted && characters.peek().is_some_and(|next| next.1 == '"') => {
                    characters.next();
                    cells[last].push('"');
                }
                '"' if is_quoted => is_quoted = false,
                '"' if cells[last].is_empty() => is_quoted = true,
                _ if character == self.between && !is_quoted => cells.push(String::new()),
                '\n' if !is_quoted => {
                    end = at + 1;
                    break;
                }
                _ => cells[last].push(character),
            }
        }
        let (whole, rest) = self.rest.split_at(end);
        self.line += whole.matches('\n').count();
        self.rest = rest;
        if let Some(last) = cells.last_mut()
            && last.ends_with('\r')
        {
            last.pop();
        }
        cells
    }
}

impl Iterator for Records<'_> {
    type Item = (usize, Vec<String>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let line = self.line;
            let is_comment = self.rest.starts_with('#');
            let record = self.record();
            let is_empty = record.len() == 1 && record[0].trim().is_empty();
            if !is_empty && !is_comment {
                return Some((line, record));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;
    use crate::ban_file::Lasts;

    #[test]
    fn cells_are_quoted_and_come_back() {
        for (reason, written) in [
            ("scan", "scan"),
            ("a, b", "\"a, b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@x", "'@x"),
            ("'=x", "''=x"),
            ("it's", "it's"),
        ] {
            assert_eq!(quoted(reason), written);
            let line = format!("{written},x\n");
            let (_, record) = Records::of(&line, ',').next().unwrap();
            let text = format!("ip,reason\n192.0.2.1,{written}\n");
            let header = Header::of(text.as_bytes()).unwrap();
            let wish = Wish {
                lasts: Lasts::Policy,
                all: false,
                now: Timestamp::from_secs(9),
            };
            assert_eq!(record.len(), 2, "{written}");
            let daemon::api::BanImport::Full(bans) =
                read(text.as_bytes(), &header, wish).bans.remove(0)
            else {
                panic!("CSV has whole bans");
            };
            assert_eq!(bans[0].reason.as_deref(), Some(reason));
        }
        assert_eq!(
            quoted("a\u{1b}[2Jb"),
            "a\\u{1b}[2Jb",
            "no terminal acts on it"
        );
    }

    #[test]
    fn semicolons_and_tabs_are_taken_as_well() {
        let wish = Wish {
            lasts: Lasts::Policy,
            all: false,
            now: Timestamp::from_secs(9),
        };
        for text in [
            "IP Address;Reason\n192.0.2.1;a, b\n",
            "IP Address,Reason\n192.0.2.1,\"a, b\"\n",
            "ip_address\treason\n192.0.2.1\ta, b\n",
        ] {
            let header = Header::of(text.as_bytes()).unwrap();
            let found = read(text.as_bytes(), &header, wish);
            let [daemon::api::BanImport::Full(bans)] = found.bans.as_slice() else {
                panic!("{text:?}: {found:?}");
            };
            let ban = (bans[0].prefix.as_str(), bans[0].reason.as_deref());
            assert_eq!(ban, ("192.0.2.1", Some("a, b")), "{text:?}");
        }
    }

    #[test]
    fn a_list_with_commas_is_no_csv() {
        for text in [
            "192.0.2.1,10,100\n",
            "192.0.2.1;10;100\n",
            "# ip,x\n192.0.2.1\n",
            "",
            "\n\n",
        ] {
            assert!(Header::of(text.as_bytes()).is_none(), "{text:?}");
        }
        assert!(Header::of(b"# a comment\n\"IP\", Reason\n").is_some());
    }
}
