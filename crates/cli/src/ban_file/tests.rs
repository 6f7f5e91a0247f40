//! Every form read, and what we write read back.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::Write as _;

use daemon::api::Ban;
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
/// As fail2ban 1.0.2 writes it, `fail2ban/server/database.py`, `Fail2BanDb._CREATE_SCRIPTS`.
const FAIL2BAN: &str = "CREATE TABLE fail2banDb(version INTEGER); INSERT INTO fail2banDb VALUES(4);
    CREATE TABLE jails(name TEXT NOT NULL UNIQUE, enabled INTEGER NOT NULL DEFAULT 1);
    CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL,
        bancount INTEGER NOT NULL default 1, data JSON, FOREIGN KEY(jail) REFERENCES jails(name));
    INSERT INTO jails(name) VALUES('sshd'), ('recidive');";

fn wish(lasts: Lasts) -> Wish {
    Wish {
        lasts,
        all: false,
        now: NOW,
    }
}

fn read_text(text: impl AsRef<[u8]>, wish: Wish) -> Result<Found, Failure> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_ref()).unwrap();
    read(file.path(), wish)
}

/// Prefix, end in seconds from now (`-` for none named, `ever` for good), and reason of each ban.
fn shown(found: &Found) -> Vec<String> {
    let mut lines = Vec::new();
    for piece in &found.bans {
        match piece {
            BanImport::Full(bans) => lines.extend(bans.iter().map(|ban| {
                let end = match (ban.since, ban.expires) {
                    (_, Some(end)) => {
                        let (end, now) = (end.0.as_secs() as i64, NOW.as_secs() as i64);
                        format!("{:+}", end - now)
                    }
                    (Some(_), None) => "ever".to_owned(),
                    (None, None) => "-".to_owned(),
                };
                let reason = ban.reason.as_deref().unwrap_or_default();
                format!("{} {end} {reason}", ban.prefix)
                    .trim_end()
                    .to_owned()
            })),
            BanImport::Plain(bans) => lines.extend(
                bans.iter()
                    .map(|(address, begin)| format!("{address} since {begin}")),
            ),
        }
    }
    lines
}

fn ban(prefix: &str, left: Option<u64>, reason: &str) -> Ban {
    let time = |seconds: u64| policy::Timestamp::from_secs(NOW.as_secs() + seconds);
    Ban {
        prefix: prefix.parse().unwrap(),
        family: if prefix.contains(':') { "ipv6" } else { "ipv4" }.to_owned(),
        detector: None,
        origin: "manual".to_owned(),
        reason: reason.to_owned(),
        since: Timestamp::from_secs(NOW.as_secs() - 60).into(),
        expires: left.map(|left| time(left).into()),
        remaining_s: left,
        times_banned: 3,
        offences: 0,
        grew_from: Vec::new(),
        would_be: false,
        evidence: Default::default(),
        mode: None,
        kept: false,
        not_kept: None,
    }
}

#[test]
fn each_form_is_told_by_its_content() {
    let now = NOW.as_secs();
    for (text, form, bans, bad) in [
        (
            json!([{"prefix": "192.0.2.1", "since": "2023-11-14T22:00:00Z", "expires": "2023-11-14T22:23:20Z", "reason": "x"},
                   {"prefix": "192.0.2.2", "since": "2023-11-14T22:00:00Z", "expires": null}, {"prefix": "192.0.2.3"}, "192.0.2.4", 5])
            .to_string(),
            "JSON",
            vec!["192.0.2.1 +600 x", "192.0.2.2 ever", "192.0.2.3 -", "192.0.2.4 -"],
            1,
        ),
        (
            json!({"192.0.2.1": now - 60, "192.0.2.2": format!("{}.5", now), "192.0.2.3": null}).to_string(),
            "an object of addresses and the second in which each was banned",
            vec!["192.0.2.1 since 1699999940", "192.0.2.2 since 1700000000.5"],
            1,
        ),
        (
            "# a netset\n192.0.2.1\n192.0.2.0/31 ; two\n192.0.2.1\n10.0.0.1-10.0.0.2\nno address\n".to_owned(),
            "a list of addresses",
            vec!["192.0.2.1 -", "192.0.2.0/31 -", "10.0.0.1 -", "10.0.0.2 -"],
            1,
        ),
        (
            format!("\u{feff}IP,Comment,Expires\r\n192.0.2.1,\"a, b\",{}\r\n192.0.2.2,,soon\r\n192.0.2.3,,\r\n", now + 60),
            "CSV",
            vec!["192.0.2.1 +60 a, b", "192.0.2.3 -"],
            1,
        ),
        ("{}".to_owned(), "an object of addresses and the second in which each was banned", vec![], 0),
        (String::new(), "a list of addresses", vec![], 0),
    ] {
        let found = read_text(&text, wish(Lasts::Policy)).unwrap();
        assert_eq!((found.form, found.bad.count), (form, bad), "{text}");
        assert_eq!(shown(&found), bans, "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_told_in_words() {
    for (text, told) in [
        (
            r#"[5, ["192.0.2.1"], {}, {"prefix": 7}, null]"#,
            vec![
                r#"entry 1: 5 is neither an address nor an object with a "prefix""#,
                r#"entry 2: an array is neither an address nor an object with a "prefix""#,
                r#"entry 3: it names no address in "prefix""#,
                r#"entry 4: it names no address in "prefix""#,
                r#"entry 5: null is neither an address nor an object with a "prefix""#,
            ],
        ),
        (
            r#"[{"prefix": "192.0.2.1", "expires": "9999-12-31T23:59:59Z"}, {"prefix": "192.0.2.1", "since": "soon"}]"#,
            vec![
                r#"entry 1: "9999-12-31T23:59:59Z" is no moment from 1970-01-01 to 2554-07-21, which is as far as times go here"#,
                r#"entry 2: "soon" is no time; write it like 2027-01-01T00:00:00Z"#,
            ],
        ),
        (
            "ip,expires\n192.0.2.1,9999-12-31T23:59:59Z\n192.0.2.2,soon\n",
            vec![
                r#"line 2: "9999-12-31T23:59:59Z" is no moment from 1970-01-01 to 2554-07-21, which is as far as times go here"#,
                r#"line 3: "soon" is no time; write it like 2027-01-01T00:00:00Z"#,
            ],
        ),
        (
            "ip,since\n192.0.2.1,1795300000000\n192.0.2.2,1e30\n192.0.2.3,-5\n192.0.2.4,inf\n",
            vec![
                r#"line 2: "1795300000000" is no moment from 1970-01-01 to 2554-07-21, which is as far as times go here"#,
                r#"line 3: "1e30" is no moment from 1970-01-01 to 2554-07-21, which is as far as times go here"#,
                r#"line 4: "-5" is no moment from 1970-01-01 to 2554-07-21, which is as far as times go here"#,
                r#"line 5: "inf" is no moment from 1970-01-01 to 2554-07-21, which is as far as times go here"#,
            ],
        ),
        (
            r#"{"192.0.2.1": -5, "192.0.2.2": 99999999999999, "192.0.2.3": "1e400", "192.0.2.4": null}"#,
            vec![
                r#""192.0.2.1": -5 is no moment from 1970-01-01 to 2554-07-21, which is as far as times go here"#,
                r#""192.0.2.2": 99999999999999 is no moment from 1970-01-01 to 2554-07-21, which is as far as times go here"#,
                r#""192.0.2.3": "1e400" is no moment from 1970-01-01 to 2554-07-21, which is as far as times go here"#,
                r#""192.0.2.4": null is no number of seconds"#,
            ],
        ),
        (
            "10.0.0.0/08\n",
            vec!["line 1: \"10.0.0.0/08\" has a prefix length with a leading zero"],
        ),
    ] {
        let found = read_text(text, wish(Lasts::Policy)).unwrap();
        assert_eq!(found.bad.first, told, "{text}");
        assert!(shown(&found).is_empty(), "{text}");
    }
}

#[test]
fn what_is_too_wide_to_be_banned_is_not_banned_in_pieces() {
    let text = "::/0\n2000::1-3fff::\n0.0.0.0/0\n198.51.100.7\n";
    let found = read_text(text, wish(Lasts::ForGood)).unwrap();
    assert_eq!(shown(&found).len(), 1, "{:?}", shown(&found));
    assert_eq!(found.bad.count, 3, "{:?}", found.bad.first);
}

#[test]
fn the_end_can_be_chosen_for_those_that_name_none() {
    let hour = Lasts::For(Duration::from_secs(3_600));
    let begun = json!({"192.0.2.1": NOW.as_secs() - 60}).to_string();
    for (text, lasts, expected) in [
        (begun.as_str(), hour, "192.0.2.1 +3540"),
        (begun.as_str(), Lasts::ForGood, "192.0.2.1 ever"),
        ("192.0.2.1\n", hour, "192.0.2.1 +3600"),
        ("192.0.2.1\n", Lasts::ForGood, "192.0.2.1 ever"),
        ("ip,since\n192.0.2.1,1699999940\n", hour, "192.0.2.1 +3540"),
        (
            r#"[{"prefix":"192.0.2.1","reason":"x"}]"#,
            hour,
            "192.0.2.1 +3600 x",
        ),
        (
            r#"[{"prefix":"192.0.2.1","expires":"2023-11-14T22:23:20Z"}]"#,
            hour,
            "192.0.2.1 +600",
        ),
    ] {
        let found = read_text(text, wish(lasts)).unwrap();
        assert_eq!(shown(&found), [expected], "{text} {lasts:?}");
    }
}

#[test]
fn what_holds_no_bans_is_said_in_one_sentence() {
    for (bytes, says) in [
        (&b"{\"a\": [1]}"[..], "an object of addresses and seconds"),
        (b"[1, 2", "it is no JSON"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "binary"),
        (b"SQLite format 3\0 and then nothing of the kind, for long enough to be no header either ........................", "damaged"),
        (b"SQLite format 3\0", "damaged"),
    ] {
        let told = read_text(bytes, wish(Lasts::Policy)).unwrap_err().to_string();
        assert!(told.contains(says) && !told.contains('\n'), "{told}");
    }
    let told = read(Path::new("/nonexistent"), wish(Lasts::Policy)).unwrap_err();
    assert!(told.to_string().contains("no such file"), "{told}");
}

/// What was read of a pipe to see what it is cannot be read again: without it the first address would be another one.
#[test]
fn a_pipe_is_read_once_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: mkfifo does not work here");
        return;
    }
    let write = |bytes: &'static [u8]| {
        let pipe = pipe.clone();
        std::thread::spawn(move || std::fs::write(pipe, bytes).unwrap())
    };
    let writer = write(b"203.0.113.100\n203.0.113.101\n203.0.113.102\n");
    let found = read(&pipe, wish(Lasts::Policy)).unwrap();
    writer.join().unwrap();
    assert_eq!(
        shown(&found),
        ["203.0.113.100 -", "203.0.113.101 -", "203.0.113.102 -"]
    );
    let writer = write(b"SQLite format 3\0 and more");
    let told = read(&pipe, wish(Lasts::Policy)).unwrap_err().to_string();
    writer.join().unwrap();
    assert!(told.contains("name its file"), "{told}");
}

#[test]
fn what_is_written_is_read_back() {
    let bans = [
        ban("192.0.2.1/32", Some(600), "50 denied packets, \"many\"\\n"),
        ban("198.51.100.0/24", None, "=1+1"),
        ban("2001:db8:7::/48", Some(86_400), "'-x"),
    ];
    let whole: Vec<String> = vec![
        "192.0.2.1 +600 50 denied packets, \"many\"\\n".to_owned(),
        "198.51.100.0/24 ever =1+1".to_owned(),
        "2001:db8:7::/48 +86400 '-x".to_owned(),
    ];
    for form in [Form::Json, Form::Csv] {
        let found = read_text(write(&bans, form).unwrap(), wish(Lasts::Policy)).unwrap();
        let tidy: Vec<String> = shown(&found)
            .iter()
            .map(|line| line.replace("/32 ", " "))
            .collect();
        assert_eq!(tidy, whole, "{form:?}");
        let BanImport::Full(read) = &found.bans[0] else {
            panic!("{form:?} has whole bans");
        };
        for (read, ban) in read.iter().zip(&bans) {
            assert_eq!((read.since, read.times_banned), (Some(ban.since), Some(3)));
        }
    }
    let plain = read_text(write(&bans, Form::Plain).unwrap(), wish(Lasts::Policy)).unwrap();
    assert_eq!(
        shown(&plain),
        ["192.0.2.1 -", "198.51.100.0/24 -", "2001:db8:7::/48 -"]
    );
    let begun = read_text(write(&bans, Form::BannedIps).unwrap(), wish(Lasts::Policy)).unwrap();
    assert_eq!(shown(&begun)[0], "192.0.2.1 since 1699999940");
    assert_eq!(shown(&begun).len(), 3);
}

#[test]
fn in_nft_no_address_stands_twice_and_the_longest_counts() {
    let bans = [
        ban("10.0.0.0/24", Some(60), ""),
        ban("10.0.0.4/30", Some(600), ""),
        ban("10.0.0.5/32", Some(30), ""),
        ban("10.0.0.6/32", None, ""),
        ban("192.0.2.1/32", None, ""),
        ban("2001:db8::/32", Some(5), ""),
    ];
    let script = String::from_utf8(write(&bans, Form::Nft).unwrap()).unwrap();
    let elements: Vec<&str> = script
        .lines()
        .filter(|line| line.contains("add element"))
        .collect();
    assert_eq!(
        elements,
        [
            "add element inet portcullis_bans banned4 { 10.0.0.0/30 timeout 60s, 10.0.0.4/31 timeout 600s, 10.0.0.6, \
             10.0.0.7 timeout 600s, 10.0.0.8/29 timeout 60s, 10.0.0.16/28 timeout 60s, 10.0.0.32/27 timeout 60s, \
             10.0.0.64/26 timeout 60s, 10.0.0.128/25 timeout 60s, 192.0.2.1 }",
            "add element inet portcullis_bans banned6 { 2001:db8::/32 timeout 5s }",
        ]
    );
}

fn fail2ban(rows: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fail2ban.sqlite3");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.execute_batch(FAIL2BAN).unwrap();
    database.execute_batch(rows).unwrap();
    (folder, path)
}

#[test]
fn fail2ban_bans_that_hold_are_read_and_others_on_request() {
    let (_folder, path) = fail2ban(
        r#"INSERT INTO bans VALUES
            ('sshd', '192.0.2.1', 1699999940, 600, 1, '{"matches": ["a"], "failures": 5}'),
            ('recidive', '192.0.2.1', 1699999950, 86400, 4, NULL),
            ('sshd', '192.0.2.2', 1600000000, -1, 1, '{}'),
            ('sshd', '192.0.2.3', 1600000000, 600, 2, '{"failures": 1}'),
            ('sshd', '2001:db8::1', 1699999999, 600, 1, 'no json'),
            ('sshd', '198.51.100.0/24', 1699999999, 600, 1, x'00ff'),
            ('sshd', NULL, 1699999999, 600, 1, NULL),
            ('sshd', '192.0.2.4', 'soon', 600, 1, NULL),
            ('sshd', '192.0.2.5', 1795300000000, 600, 1, NULL);"#,
    );
    let before = std::fs::read(&path).unwrap();
    let found = read(&path, wish(Lasts::Policy)).unwrap();
    let held = [
        "192.0.2.1 +86350 fail2ban: recidive, sshd",
        "192.0.2.2 ever fail2ban: sshd",
        "198.51.100.0/24 +599 fail2ban: sshd",
        "2001:db8::1 +599 fail2ban: sshd",
    ];
    assert_eq!(shown(&found), held);
    assert_eq!((found.expired, found.bad.count), (1, 3), "{:?}", found.bad);
    let BanImport::Full(bans) = &found.bans[0] else {
        panic!("they are whole bans");
    };
    assert_eq!(bans[0].times_banned, Some(4));
    let all = Wish {
        all: true,
        ..wish(Lasts::Policy)
    };
    let found = read(&path, all).unwrap();
    let anew = "192.0.2.3 +600 fail2ban: sshd (1 failure)".to_owned();
    assert!(shown(&found).contains(&anew), "{:?}", shown(&found));
    assert_eq!(found.expired, 0);
    assert_eq!(std::fs::read(&path).unwrap(), before, "nothing is written");
}

#[test]
fn a_database_that_cannot_be_read_is_said_in_one_sentence() {
    let (_folder, path) =
        fail2ban("INSERT INTO bans VALUES ('sshd', '192.0.2.1', 1, -1, 1, NULL);");
    let writer = rusqlite::Connection::open(&path).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let told = |path: &Path| read(path, wish(Lasts::Policy)).unwrap_err().to_string();
    assert!(
        told(&path).contains("is locked by another program"),
        "{}",
        told(&path)
    );
    drop(writer);
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch("DROP TABLE bans; CREATE TABLE bans(ip TEXT)")
        .unwrap();
    assert!(told(&path).contains("none of fail2ban"), "{}", told(&path));
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[100..length].fill(0xa5);
    std::fs::write(&path, &bytes).unwrap();
    let told = told(&path);
    assert!(
        told.contains("is damaged") && !told.contains('\n'),
        "{told}"
    );
}

#[test]
fn a_database_from_before_bans_had_a_duration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.sqlite3");
    let database = rusqlite::Connection::open(&path).unwrap();
    let old =
        "CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, data JSON);
        INSERT INTO bans VALUES('sshd', '192.0.2.1', 1699999940, NULL);";
    database.execute_batch(old).unwrap();
    let hour = wish(Lasts::For(Duration::from_secs(3_600)));
    let found = read(&path, hour).unwrap();
    assert_eq!(shown(&found), ["192.0.2.1 +3540 fail2ban: sshd"]);
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bans.json");
    for text in ["first", "second"] {
        replace(&path, text.as_bytes()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    let entries = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(entries, 1, "nothing is left beside it");
    for no_file in ["/dev/null", "/tmp", "/"] {
        assert!(replace(Path::new(no_file), b"x").is_err(), "{no_file}");
    }
    assert!(replace(&folder.path().join("none/bans"), b"x").is_err());
}
