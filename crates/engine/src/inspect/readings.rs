//! Every host that some server might read from an HTTP head that has more than one reading.
//!
//! It errs towards too many: what is given here stops a request and never lets one pass.

use std::net::{Ipv4Addr, Ipv6Addr};

use policy::names::Pattern;
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
/// (nginx and Go cut at the colon whatever follows); in a list each item. Each of them as servers may read it otherwise, too.
fn authority(text: &[u8], found: &mut dyn FnMut(&[u8])) {
    parts_of_authority(text, &mut |host| {
        found(host);
        hosts_of_host(host, found);
    });
}

/// What a host that DNS could not hold may be taken for, besides what is written: percent-decoded (RFC 3986 section 3.2.2), and then as if
/// it had been written so; a name in the letters of DNS (RFC 5891); an address as `inet_aton` reads it; an IPv6 address without its zone
/// (RFC 6874); what stands in brackets.
pub(super) fn hosts_of_host(host: &[u8], found: &mut dyn FnMut(&[u8])) {
    bare_host(host, found);
    if let Some(decoded) = percent_decoded(host) {
        found(&decoded);
        bare_host(&decoded, found);
        parts_of_authority(&decoded, &mut |host| {
            found(host);
            bare_host(host, found);
        });
    }
}

fn bare_host(host: &[u8], found: &mut dyn FnMut(&[u8])) {
    if !host.is_ascii()
        && let Ok(text) = std::str::from_utf8(host)
        && let Ok(name) = Pattern::parse(text)
    {
        found(name.name().as_bytes());
    }
    let bracketed = (host.strip_prefix(b"[")).and_then(|host| host.strip_suffix(b"]"));
    if let Some(inner) = bracketed
        && !is_ipv6(inner)
    {
        found(inner);
    }
    let bare = bracketed.unwrap_or(host);
    let zone = bare.iter().position(|&byte| byte == b'%');
    if let Some(address) = zone.and_then(|at| bare.get(..at))
        && is_ipv6(address)
    {
        found(address);
    }
    if let Some(address) = inet_aton(bare) {
        found(address.to_string().as_bytes());
    }
}

fn is_ipv6(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// Decoded once (RFC 3986 section 2.4); `None` where nothing is encoded. What is no hexadecimal number stays as it is.
fn percent_decoded(host: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (mut decoded, mut rest) = (Vec::with_capacity(host.len()), host);
    while let [byte, behind @ ..] = rest {
        let encoded = match behind {
            [high, low, after @ ..] if *byte == b'%' => digit(*high)
                .zip(digit(*low))
                // Two digits of 4 bits.
                .map(|(high, low)| ((high << 4 | low) as u8, after)),
            _ => None,
        };
        let (byte, after) = encoded.unwrap_or((*byte, behind));
        decoded.push(byte);
        rest = after;
    }
    (decoded.len() < host.len()).then_some(decoded)
}

/// An IPv4 address of one to four numbers, decimal, octal or hexadecimal, of which the last fills what is left: inet_addr(3), and URLs of
/// browsers.
fn inet_aton(host: &[u8]) -> Option<Ipv4Addr> {
    let text = std::str::from_utf8(host).ok()?;
    let numbers: Option<Vec<u32>> = (text.strip_suffix('.').unwrap_or(text).split('.').take(5))
        .map(|part| match part.as_bytes() {
            [b'0', b'x' | b'X', ..] if part.len() == 2 => Some(0),
            [b'0', b'x' | b'X', ..] => u32::from_str_radix(&part[2..], 16).ok(),
            [b'0', _, ..] => u32::from_str_radix(part, 8).ok(),
            [b'0'..=b'9', ..] => part.parse().ok(),
            _ => None,
        })
        .collect();
    let numbers = numbers?;
    let (last, leading) = numbers.split_last()?;
    let left = 4_u32
        .checked_sub(leading.len() as u32)
        .filter(|left| *left > 0)?;
    let fits = left == 4 || *last >> (8 * left) == 0;
    let mut address = fits.then_some(*last)?;
    for (place, number) in leading.iter().enumerate() {
        let byte = u8::try_from(*number).ok()?;
        address |= u32::from(byte) << (24 - 8 * place);
    }
    Some(address.into())
}

fn parts_of_authority(text: &[u8], found: &mut dyn FnMut(&[u8])) {
    let end = text
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let text = &text[..end.unwrap_or(text.len())];
    for part in text.split(|byte| matches!(byte, b'@' | b'\\' | b',' | b' ' | b'\t' | 0)) {
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
            ("GET / HTTP/1.1\r\nHost: u@b%61d\r\n\r\n", "u b%61d bad bad"),
        ] {
            assert_eq!(hosts(head), expected, "{head:?}");
        }
    }

    #[test]
    fn what_else_a_host_is() {
        for (host, expected) in [
            ("bad.example", ""),
            ("b%61d.example", "bad.example bad.example"),
            ("b%6", ""),
            ("b%6g%", ""),
            // Once, not twice.
            ("b%2561d", "b%61d b%61d"),
            ("good%40bad", "good@bad good bad"),
            ("bad%2Fgood", "bad/good bad"),
            ("bad%00.good", "bad\\x00.good bad .good"),
            ("bad%3a80", "bad:80 bad"),
            ("%5b::1%5d", "[::1] [::1]"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("\u{ff42}ad.example", "bad.example"),
            ("[::1]", ""),
            (
                "[fe80::1%25eth0]",
                "fe80::1%25eth0 fe80::1 [fe80::1%eth0] fe80::1%eth0 fe80::1 [fe80::1%eth0] fe80::1%eth0 fe80::1",
            ),
            ("127.1", "127.0.0.1"),
            ("0x7f000001", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("017700000001.", "127.0.0.1"),
            ("192.0.513", "192.0.2.1"),
            ("192.0.2.0x1", "192.0.2.1"),
            ("0300.0.2.1", "192.0.2.1"),
            ("256.1", ""),
            ("1.16777216", ""),
            ("1.2.3.4.5", ""),
            ("4294967296", ""),
            ("1..2", ""),
            ("1.+2", ""),
            ("08.1", ""),
        ] {
            let mut all = Vec::new();
            hosts_of_host(host.as_bytes(), &mut |host| {
                all.push(host.escape_ascii().to_string());
            });
            assert_eq!(all.join(" "), expected, "{host:?}");
        }
    }
}
