//! Host and port, as a Host field or a target holds them (RFC 3986 section 3.2, RFC 9110 section 7.2).

use std::net::Ipv6Addr;

use super::Ambiguity;
use crate::Host;

/// The host of an authority, without its port; `None` where it is empty.
pub(super) fn host(authority: &[u8]) -> Result<Option<Host<'_>>, Ambiguity> {
    // What a user name is, readers of URLs disagree on; a host cannot hold an "@".
    if authority.contains(&b'@') {
        return Err(Ambiguity::UserInfo);
    }
    let host = without_port(authority);
    if is_torn(host) {
        return Err(Ambiguity::Port);
    }
    Ok((!host.is_empty()).then(|| Host::new(host)))
}

/// Whether a colon or a bracket is left that no host has: nginx and Go end the host there, others do not.
fn is_torn(host: &[u8]) -> bool {
    let inner = (host.strip_prefix(b"[")).and_then(|host| host.strip_suffix(b"]"));
    let address = std::str::from_utf8(inner.unwrap_or(host)).unwrap_or_default();
    let is_address = address.split('%').next().unwrap_or_default();
    host.iter().any(|byte| b":[]".contains(byte)) && is_address.parse::<Ipv6Addr>().is_err()
}

/// Cuts off a colon and digits at the end, or the colon alone. What looks otherwise stays whole.
fn without_port(authority: &[u8]) -> &[u8] {
    let digits = authority
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (before, _) = authority.split_at(authority.len() - digits);
    match before.strip_suffix(b":") {
        // The colons inside an IPv6 address without brackets are not a port's.
        Some(host) if host.ends_with(b"]") || !host.contains(&b':') => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_cut_off() {
        for (authority, expected) in [
            ("example.com", "example.com"),
            ("example.com:80", "example.com"),
            ("example.com:", "example.com"),
            ("192.0.2.1:8080", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1"),
            ("12345", "12345"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("[2001:db8::1]:443", "[2001:db8::1]"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            let host = host(authority.as_bytes());
            let host = host.map(|host| host.map(|host| host.as_bytes()));
            assert_eq!(host, Ok(Some(expected.as_bytes())), "{authority}");
        }
        assert_eq!(host(b""), Ok(None));
        assert_eq!(host(b":80"), Ok(None));
        assert_eq!(host(b"a@b"), Err(Ambiguity::UserInfo));
        for torn in [
            "a:http", "a:80:81", "[::1]a", "[::1", "[a]", "a]", "[::1]:x",
        ] {
            assert_eq!(host(torn.as_bytes()), Err(Ambiguity::Port), "{torn}");
        }
    }
}
