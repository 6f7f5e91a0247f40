//! Every host that some server might read from an HTTP head that has more than one reading.
//!
//! It errs towards too many: what is given here stops a request and never lets one pass.

mod host;

use std::ops::ControlFlow;

use wire::http::{after_blanks, is_space, is_token};

pub(super) use host::{hosts_of_place, hosts_of_value};
use host::{hosts_of_url, without_controls};

/// Takes a host; on a break, nothing more is looked for.
pub(super) type Found<'a> = dyn FnMut(&[u8]) -> ControlFlow<()> + 'a;

/// Whether the line before is a Host field, which the next one may continue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Continues(bool);

/// Of a head whose first line that is not blank is the request line.
pub(super) fn hosts_of_head(head: &[u8], found: &mut Found<'_>) -> ControlFlow<()> {
    let (mut line, mut rest) = (&head[..0], head);
    while after_blanks(line).is_empty() && !rest.is_empty() {
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        (line, rest) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        line = line.strip_suffix(b"\n").unwrap_or(line);
        line = line.strip_suffix(b"\r").unwrap_or(line);
    }
    hosts_of_words(line.split(|&byte| is_space(byte)), &|_| true, found)?;
    if let Some(line) = without_controls(line) {
        hosts_of_words(line.split(|&byte| byte == b' '), &|_| true, found)?;
    }
    hosts_of_lines(rest, &mut Continues::default(), found)
}

/// Of a first line that is none of HTTP/1, as lenient servers take it: only what is a URL of HTTP there.
pub(super) fn hosts_of_stray_line(line: &[u8], found: &mut Found<'_>) -> ControlFlow<()> {
    hosts_of_words(line.split(|&byte| is_space(byte)), &is_web_url, found)
}

/// Of the words of a request line, which may be targets. The method is the first, and what begins with a slash is only a place on
/// the host ([`hosts_of_place`]).
fn hosts_of_words<'a>(
    words: impl Iterator<Item = &'a [u8]>,
    is_target: &dyn Fn(&[u8]) -> bool,
    found: &mut Found<'_>,
) -> ControlFlow<()> {
    let words = words.filter(|word| !word.is_empty());
    for (place, word) in words.enumerate().skip(1) {
        let is_version = names_version(word, b"HTTP") || place > 1 && is_version(word);
        if !is_version && !word.starts_with(b"/") && is_target(word) {
            hosts_of_url(word, true, found)?;
        }
    }
    ControlFlow::Continue(())
}

fn names_version(word: &[u8], protocol: &[u8]) -> bool {
    let (name, rest) = word.split_at_checked(protocol.len()).unwrap_or_default();
    name.eq_ignore_ascii_case(protocol) && rest.starts_with(b"/")
}

/// Whether a word is the version of some protocol: RTSP/1.0.
fn is_version(word: &[u8]) -> bool {
    let mut parts = word.splitn(2, |&byte| byte == b'/');
    let name = parts.next().unwrap_or_default();
    let number = parts.next().unwrap_or_default();
    name.iter().all(u8::is_ascii_alphabetic)
        && number.first().is_some_and(u8::is_ascii_digit)
        && number
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

/// Of lines that may be fields, each whole, behind those before them.
pub(super) fn hosts_of_lines(
    lines: &[u8],
    Continues(continues): &mut Continues,
    found: &mut Found<'_>,
) -> ControlFlow<()> {
    for line in lines.split(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
        // Between CR and LF.
        if line.is_empty() {
            continue;
        }
        let is_folded = is_space(line[0]);
        let text = trim(line);
        if let Some(value) = host_value(text) {
            hosts_of_value(value, found)?;
            *continues = true;
        } else if is_folded && *continues {
            hosts_of_value(text, found)?;
        } else {
            *continues = false;
            // A request line, where nobody knows whether one is here.
            let words = || text.split(|&byte| is_space(byte));
            let claims_http = words().skip(2).any(|word| names_version(word, b"HTTP"));
            let is_target = |word: &[u8]| {
                claims_http || word.windows(3).any(|part| part == b"://") || is_web_url(word)
            };
            hosts_of_words(
                words().take(if claims_http { usize::MAX } else { 2 }),
                &is_target,
                found,
            )?;
        }
    }
    ControlFlow::Continue(())
}

/// Whether one of these lines names a host, as no bytes do by chance.
pub(super) fn names_host(lines: &[u8]) -> bool {
    let mut lines = lines.split(|byte| matches!(byte, b'\n' | b'\r' | 0));
    lines.any(|line| {
        let mut words = line.split(|&byte| is_space(byte)).skip(1);
        host_value(trim(line)).is_some() || words.any(is_web_url)
    })
}

/// The method by which a proxy is asked for a connection.
pub(super) const CONNECT: &[u8] = b"CONNECT";

/// Whether one of these lines may ask a proxy for a connection.
pub(super) fn connects(lines: &[u8]) -> bool {
    let mut lines = lines.split(|byte| matches!(byte, b'\n' | b'\r' | 0));
    lines.any(|line| {
        let method = after_blanks(line).split(|&byte| is_space(byte)).next();
        method.is_some_and(|method| method.eq_ignore_ascii_case(CONNECT))
    })
}

/// Whether a line, perhaps without its end, begins as a field does: with a name and its colon, or with space where it goes on with one.
pub(super) fn begins_field(line: &[u8]) -> bool {
    let line = &line[..line.len().min(64)];
    let name = line.iter().take_while(|byte| is_token(**byte)).count();
    let behind = line[name..].iter().find(|byte| !is_space(**byte));
    line.first().is_some_and(|first| is_space(*first))
        || name > 0 && behind.is_none_or(|byte| *byte == b':')
}

/// The value of a Host field, also with space before its colon.
fn host_value(line: &[u8]) -> Option<&[u8]> {
    let (name, rest) = line.split_at_checked(4)?;
    let rest = trim(rest).strip_prefix(b":")?;
    name.eq_ignore_ascii_case(b"host").then(|| trim(rest))
}

/// Whether servers that know no version of HTTP but their own (RFC 1945) may take the word for a target.
fn is_web_url(word: &[u8]) -> bool {
    let mut parts = word.splitn(2, |&byte| byte == b':');
    let scheme = parts.next().unwrap_or_default();
    let is_web = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    is_web && parts.next().is_some_and(|rest| !rest.is_empty())
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_space(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each host that `read` finds, once.
    pub(super) fn all(read: impl FnOnce(&mut Found<'_>) -> ControlFlow<()>) -> String {
        let mut all = Vec::new();
        let _ = read(&mut |host| {
            let host = host.escape_ascii().to_string();
            if !all.contains(&host) {
                all.push(host);
            }
            ControlFlow::Continue(())
        });
        all.join(" ")
    }

    fn hosts(head: &str) -> String {
        all(|found| hosts_of_head(head.as_bytes(), found))
    }

    /// Whoever has enough is told no more, wherever the reading stands.
    #[test]
    fn nothing_is_looked_for_behind_a_break() {
        let many = b"a]%61,a:b,".repeat(3_000);
        let field = [b"GET / HTTP/1.1\r\nHost: ", &many[..], b"\r\n\r\n"].concat();
        let target = [b"GET http://", &many[..], b" HTTP/1.1\r\n\r\n"].concat();
        let lines = b"Host: a,b,c,d\r\n".repeat(2_000);
        let place = [b"//", &many[..]].concat();
        for most in [1, 2, 3, 10, 64] {
            let told = |read: &dyn Fn(&mut Found<'_>) -> ControlFlow<()>| {
                let mut told = 0;
                let end = read(&mut |_| {
                    told += 1;
                    if told < most {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                });
                assert!(end.is_break());
                told
            };
            for told in [
                told(&|found| hosts_of_head(&field, found)),
                told(&|found| hosts_of_head(&target, found)),
                told(&|found| hosts_of_lines(&lines, &mut Continues::default(), found)),
                told(&|found| hosts_of_value(&many, found)),
                told(&|found| hosts_of_place(&place, found)),
            ] {
                assert_eq!(told, most);
            }
        }
    }

    #[test]
    fn every_reading_is_found() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b:80\r\n\r\n", "a b"),
            ("GET  / HTTP/1.1\r\nhOST : a\r\n\r\n", "a"),
            (
                "GET / HTTP/1.1\r\nHost:\r\n a\r\n\tb\r\nX: y\r\n c\r\n\r\n",
                "a b",
            ),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "a"),
            ("GET / HTTP/1.1\r\nX: y\rHost: a\r\n\r\n", "a"),
            ("GET / HTTP/1.1\r\nHost: u@a@b:1\r\n\r\n", "u a b"),
            ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "[::1]"),
            ("GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", "x a:x a"),
            ("GET / HTTP/1.1\r\nHost: a:80:81\r\n\r\n", "a:80:81 a"),
            ("GET / HTTP/1.1\r\nHost: [::1]a:1\r\n\r\n", "[::1]a:1 [::1]"),
            ("GET http://a\\b/c HTTP/1.1\r\nHost: d\r\n\r\n", "a b d"),
            (
                "GET http://a:80/?http://z/ HTTP/1.1\r\nHost : d\r\n\r\n",
                "a d",
            ),
            ("GET b.example/x HTTP/1.1\r\n\r\n", "b.example"),
            ("CONNECT a:443/ HTTP/1.1\r\n\r\n", "a"),
            ("\r\n GET / HTTP/1.1\r\nHost: a\r\n\r\n", "a"),
            ("GET / HTTP/1.1\r\nHost: a\0Host: b\r\n\r\n", "a b"),
            ("GET / HTTP/1.1\r\nHostess: a\r\nX-Host: b\r\n\r\n", ""),
            ("GET / HTTP/1.1\r\nHost: u@b%61d\r\n\r\n", "u b%61d bad"),
        ] {
            assert_eq!(hosts(head), expected, "{head:?}");
        }
    }
}
