//! Every host that some server might read from an HTTP head that has more than one reading.
//!
//! It errs towards too many: what is given here stops a request and never lets one pass.

use wire::http::is_space;

/// Whether the line before is a Host field, which the next one may continue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Continues(bool);

/// Of a head whose first line that is not empty is the request line.
pub(super) fn hosts_of_head(head: &[u8], found: &mut dyn FnMut(&[u8])) {
    let (mut line, mut rest) = (&head[..0], head);
    while trim(line).is_empty() && !rest.is_empty() {
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        (line, rest) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        line = line.strip_suffix(b"\n").unwrap_or(line);
        line = line.strip_suffix(b"\r").unwrap_or(line);
    }
    let words = line.split(|&byte| is_space(byte));
    let words = words.filter(|word| !word.is_empty() && !word.starts_with(b"/"));
    // The method is the first.
    for target in words.skip(1) {
        let is_version = target.len() >= 5 && target[..5].eq_ignore_ascii_case(b"HTTP/");
        if !is_version {
            authority(after_scheme(target), found);
        }
    }
    hosts_of_lines(rest, &mut Continues::default(), found);
}

/// Of lines that may be fields, each whole, behind those before them.
pub(super) fn hosts_of_lines(
    lines: &[u8],
    Continues(continues): &mut Continues,
    found: &mut dyn FnMut(&[u8]),
) {
    for line in lines.split(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
        // Between CR and LF.
        if line.is_empty() {
            continue;
        }
        let is_folded = is_space(line[0]);
        let text = trim(line);
        if let Some(value) = host_value(text) {
            authority(value, found);
            *continues = true;
        } else if is_folded && *continues {
            authority(text, found);
        } else {
            *continues = false;
            // A request line, where nobody knows whether one is here.
            let mut words = text.split(|&byte| is_space(byte));
            if let Some(target) = words.nth(1)
                && target.windows(3).any(|part| part == b"://")
            {
                authority(after_scheme(target), found);
            }
        }
    }
}

/// The method by which a proxy is asked for a connection.
pub(super) const CONNECT: &[u8] = b"CONNECT";

/// Whether one of these lines may ask a proxy for a connection.
pub(super) fn connects(lines: &[u8]) -> bool {
    let mut lines = lines.split(|byte| matches!(byte, b'\n' | b'\r' | 0));
    lines.any(|line| {
        let method = trim(line).split(|&byte| is_space(byte)).next();
        method.is_some_and(|method| method.eq_ignore_ascii_case(CONNECT))
    })
}

/// The value of a Host field, also with space before its colon.
fn host_value(line: &[u8]) -> Option<&[u8]> {
    let (name, rest) = line.split_at_checked(4)?;
    let rest = trim(rest).strip_prefix(b":")?;
    name.eq_ignore_ascii_case(b"host").then(|| trim(rest))
}

fn after_scheme(target: &[u8]) -> &[u8] {
    let scheme = target.windows(3).position(|part| part == b"://");
    match scheme {
        Some(at) => &target[at + 3..],
        None => target,
    }
}

/// Both sides of each `@`, and of what some take for the end of the authority; without port, also where what stands in its place is none
/// (nginx and Go cut at the colon whatever follows); in a list each item.
fn authority(text: &[u8], found: &mut dyn FnMut(&[u8])) {
    let end = text
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let text = &text[..end.unwrap_or(text.len())];
    for part in text.split(|byte| matches!(byte, b'@' | b'\\' | b',' | b' ' | b'\t')) {
        let digits = part.iter().rev().take_while(|byte| byte.is_ascii_digit());
        let before = &part[..part.len() - digits.count()];
        let host = match before.strip_suffix(b":") {
            Some(host) if host.ends_with(b"]") || !host.contains(&b':') => host,
            _ => part,
        };
        let (close, more) = if part.starts_with(b"[") {
            (b']', 1)
        } else {
            (b':', 0)
        };
        let end = part.iter().position(|&byte| byte == close);
        let cut = end.and_then(|end| part.get(..end + more));
        for host in [Some(host), cut.filter(|cut| *cut != host)] {
            if let Some(host) = host.filter(|host| !host.is_empty()) {
                found(host);
            }
        }
    }
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

    fn hosts(head: &str) -> String {
        let mut all = Vec::new();
        hosts_of_head(head.as_bytes(), &mut |host| {
            all.push(host.escape_ascii().to_string());
        });
        all.join(" ")
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
            ("GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", "a:x a"),
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
        ] {
            assert_eq!(hosts(head), expected, "{head:?}");
        }
    }
}
