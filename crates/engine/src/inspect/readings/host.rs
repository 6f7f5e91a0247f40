//! What a target, the value of a Host field or a part of them may name, as servers and the URL parsers of browsers and of languages read it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

use policy::names::Pattern;

use super::Found;

/// Of the value of a Host field, however much more than a host it holds.
pub(in super::super) fn hosts_of_value(value: &[u8], found: &mut Found<'_>) -> ControlFlow<()> {
    hosts_of_url(value, false, found)
}

/// What URL libraries take for a host in a target that begins with two slashes (or backslashes, as browsers read them), which is a path on
/// the host (RFC 9112 section 3.2.1), and which ordinary clients send by mistake.
pub(in super::super) fn hosts_of_place(target: &[u8], found: &mut Found<'_>) -> ControlFlow<()> {
    let is_slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let slashes = target.iter().take_while(|byte| is_slash(byte)).count();
    if slashes < 2 {
        return ControlFlow::Continue(());
    }
    let authority = target[slashes..].split(|byte| is_slash(byte) || matches!(byte, b'?' | b'#'));
    for part in authority
        .take(1)
        .flat_map(|text| text.rsplit(|&byte| byte == b'@'))
        .take(2)
    {
        hosts_of_part(part, found)?;
    }
    ControlFlow::Continue(())
}

/// Every run of bytes that may be a host, in a URL before its path or in all of what should have been a host: whatever stands between
/// them, some server ends or begins the host there. Schemes and slashes in front may be missing, wrong or too many. Control characters
/// are ends, and once more nothing, as browsers leave them out.
pub(super) fn hosts_of_url(text: &[u8], has_path: bool, found: &mut Found<'_>) -> ControlFlow<()> {
    let cleaned = without_controls(text);
    for text in [Some(text), cleaned.as_deref()].into_iter().flatten() {
        let begin = scheme_end(text);
        let path = text[begin..]
            .iter()
            .position(|&byte| has_path && byte == b'/');
        let text = path.map_or(text, |path| &text[..begin + path]);
        for part in text[begin..].split(|byte| !is_of_host(*byte)) {
            hosts_of_part(part, found)?;
        }
        // What was taken for a scheme may be the host.
        let parts = text.split(|byte| begin > 0 && !is_of_host(*byte));
        for part in parts.filter(|part| begin > 0 && !matches!(*part, b"http:" | b"https:")) {
            hosts_of_part(part, found)?;
        }
    }
    ControlFlow::Continue(())
}

/// Where schemes and the slashes and backslashes behind them end, in whatever number.
fn scheme_end(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let slashes = (rest.iter()).take_while(|byte| matches!(byte, b'/' | b'\\' | 0..=b' '));
        let slashes = slashes.count();
        let rest = &rest[slashes..];
        let is_scheme = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let scheme = rest.iter().take_while(is_scheme).count();
        let behind = rest[scheme..].strip_prefix(b":");
        at += slashes;
        match behind {
            Some(behind) if scheme > 0 && !begins_with_port(behind) => at += scheme + 1,
            _ => return at,
        }
    }
}

fn begins_with_port(text: &[u8]) -> bool {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits <= 5
        && (text.get(digits)).is_none_or(|byte| *byte == b':' || !is_of_host(*byte))
        && text.first() != Some(&b'/')
        && text.first() != Some(&b'\\')
}

/// Whether a name, an address or its port may hold the byte.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.%:[]".contains(&byte) || !byte.is_ascii()
}

/// Without what URL parsers of browsers and of Python leave out, where it holds any of it.
pub(super) fn without_controls(text: &[u8]) -> Option<Vec<u8>> {
    let is_control = |byte: &u8| byte.is_ascii_control();
    let has_any = text.iter().any(is_control);
    has_any.then(|| {
        text.iter()
            .copied()
            .filter(|byte| !is_control(byte))
            .collect()
    })
}

/// What a host that DNS could not hold may be taken for, besides what is written: percent-decoded (RFC 3986 section 3.2.2), and then as if
/// it had been written so; a name in the letters of DNS (RFC 5891); an address as `inet_aton` reads it; an IPv6 address without its zone
/// (RFC 6874); what stands in brackets.
fn hosts_of_host(host: &[u8], found: &mut Found<'_>) -> ControlFlow<()> {
    bare_host(host, found)?;
    if let Some(decoded) = percent_decoded(host) {
        found(&decoded)?;
        bare_host(&decoded, found)?;
        for part in decoded.split(|byte| !is_of_host(*byte)) {
            parts_of_authority(part, &mut |host| {
                found(host)?;
                bare_host(host, found)
            })?;
        }
    }
    ControlFlow::Continue(())
}

fn bare_host(host: &[u8], found: &mut Found<'_>) -> ControlFlow<()> {
    if !host.is_ascii() {
        // Node and WSGI read fields as Latin-1.
        let latin: String = host.iter().map(|&byte| char::from(byte)).collect();
        for text in [std::str::from_utf8(host).ok(), Some(&*latin)] {
            if let Some(name) = text.and_then(|text| Pattern::parse(text).ok()) {
                found(name.name().as_bytes())?;
            }
        }
    }
    // Squid leaves out all of them.
    let dots = host.iter().rev().take_while(|&&byte| byte == b'.').count();
    if dots > 1 {
        found(&host[..host.len() - dots])?;
    }
    let bracketed = (host.strip_prefix(b"[")).and_then(|host| host.strip_suffix(b"]"));
    if let Some(inner) = bracketed
        && !is_ipv6(inner)
    {
        found(inner)?;
    }
    let bare = bracketed.unwrap_or(host);
    let zone = bare.iter().position(|&byte| byte == b'%');
    if let Some(address) = zone.and_then(|at| bare.get(..at))
        && is_ipv6(address)
    {
        found(address)?;
    }
    if let Some(address) = inet_aton(bare) {
        found(address.to_string().as_bytes())?;
    }
    ControlFlow::Continue(())
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

/// What a run of bytes of hosts may name, also as servers may read each of them otherwise.
fn hosts_of_part(part: &[u8], found: &mut Found<'_>) -> ControlFlow<()> {
    parts_of_authority(part, &mut |host| {
        found(host)?;
        hosts_of_host(host, found)
    })
}

/// Without port, also where what stands in its place is none (nginx and Go cut at the colon whatever follows); and what stands
/// between colons and brackets that no address has.
fn parts_of_authority(part: &[u8], found: &mut Found<'_>) -> ControlFlow<()> {
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
            found(host)?;
        }
    }
    if is_address_with_zone(host) || cut.is_some_and(is_address_with_zone) {
        return ControlFlow::Continue(());
    }
    let is_torn = |byte: &u8| b":[]".contains(byte);
    if host.iter().any(is_torn) {
        let is_port = |text: &[u8]| text.len() <= 5 && text.iter().all(u8::is_ascii_digit);
        let names = host.split(is_torn);
        (names.filter(|name| !is_port(name) && Some(*name) != cut)).try_for_each(found)?;
    }
    ControlFlow::Continue(())
}

fn is_address_with_zone(host: &[u8]) -> bool {
    let bracketed = (host.strip_prefix(b"[")).and_then(|host| host.strip_suffix(b"]"));
    let mut parts = bracketed.unwrap_or(host).split(|&byte| byte == b'%');
    parts.next().is_some_and(is_ipv6)
}

#[cfg(test)]
mod tests {
    use super::super::tests::all;
    use super::*;

    #[test]
    fn what_else_a_host_is() {
        for (host, expected) in [
            ("bad.example", ""),
            ("b%61d.example", "bad.example"),
            ("b%6", ""),
            ("b%6g%", ""),
            // Once, not twice.
            ("b%2561d", "b%61d"),
            ("good%40bad", "good@bad good bad"),
            ("bad%2Fgood", "bad/good bad good"),
            ("bad%00.good", "bad\\x00.good bad .good"),
            ("bad%3a80", "bad:80 bad"),
            ("%5b::1%5d", "[::1]"),
            (
                "b\u{fc}cher.example",
                "xn--bcher-kva.example xn--b14cher-xwa2143e.example",
            ),
            ("\u{ff42}ad.example", "bad.example"),
            ("[::1]", ""),
            (
                "[fe80::1%25eth0]",
                "fe80::1%25eth0 fe80::1 [fe80::1%eth0] fe80::1%eth0",
            ),
            ("bad.example..", "bad.example"),
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
            let all = all(|found| hosts_of_host(host.as_bytes(), found));
            assert_eq!(all, expected, "{host:?}");
        }
    }
}
