//! What a TLS server name or an HTTP authority names: told by its form, not looked up.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What a host is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostKind {
    /// A host name as DNS can hold it: labels of 1 to 63 letters, digits, hyphens and underscores, together at most 253
    /// bytes, perhaps with a dot at the end (RFC 1123 section 2.1; underscores are in use).
    Name,
    /// An IPv4 address of four decimal numbers.
    Ipv4(Ipv4Addr),
    /// An IPv6 address, in brackets (RFC 3986 section 3.2.2).
    Ipv6(Ipv6Addr),
    /// Neither: other bytes, an overlong label, an address in a rare form. A server may still take it for something.
    Raw,
}

/// A host as it was written. It may hold any bytes where its kind is [`HostKind::Raw`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Host<'a> {
    bytes: &'a [u8],
    kind: HostKind,
}

impl<'a> Host<'a> {
    /// Tells what the bytes are.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            kind: kind(bytes),
        }
    }

    /// The bytes as written, an IPv6 address in its brackets. [`Name::from_text`](crate::dns::Name::from_text) makes a name
    /// comparable.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What it is written as.
    pub fn kind(&self) -> HostKind {
        self.kind
    }

    /// Whether both say the same but for upper and lower case and a dot at the end.
    pub fn is_same(&self, other: &Host<'_>) -> bool {
        without_root(self.bytes).eq_ignore_ascii_case(without_root(other.bytes))
    }
}

impl fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({}, {:?})", self.bytes.escape_ascii(), self.kind)
    }
}

fn without_root(name: &[u8]) -> &[u8] {
    name.strip_suffix(b".").unwrap_or(name)
}

fn kind(bytes: &[u8]) -> HostKind {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    if let Ok(address) = text.parse() {
        return HostKind::Ipv4(address);
    }
    let bracketed = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    if let Some(Ok(address)) = bracketed.map(str::parse) {
        return HostKind::Ipv6(address);
    }
    let name = without_root(bytes);
    let is_label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // A last label of digits alone is what `inet_aton` and URLs take for an address: 127.1, 2130706433.
    let mut labels = name.rsplit(|byte| *byte == b'.');
    let top_is_number = labels
        .next()
        .is_some_and(|top| top.iter().all(u8::is_ascii_digit) || top.starts_with(b"0x"));
    if name.len() <= 253 && !top_is_number && name.split(|byte| *byte == b'.').all(is_label) {
        return HostKind::Name;
    }
    HostKind::Raw
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        for (text, kind) in [
            ("example.com", HostKind::Name),
            ("Example.COM.", HostKind::Name),
            ("localhost", HostKind::Name),
            ("x_y-z.4.example", HostKind::Name),
            ("xn--bcher-kva.example", HostKind::Name),
            (&longest, HostKind::Name),
            ("192.0.2.1", HostKind::Ipv4(Ipv4Addr::new(192, 0, 2, 1))),
            ("[::1]", HostKind::Ipv6(Ipv6Addr::LOCALHOST)),
            ("::1", HostKind::Raw),
            ("", HostKind::Raw),
            (".", HostKind::Raw),
            ("a..b", HostKind::Raw),
            (".a", HostKind::Raw),
            ("a b", HostKind::Raw),
            ("a\0.b", HostKind::Raw),
            ("b\u{fc}cher.example", HostKind::Raw),
            ("127.1", HostKind::Raw),
            ("192.0.2.1.", HostKind::Raw),
            ("2130706433", HostKind::Raw),
            ("0x7f000001", HostKind::Raw),
            ("[::1", HostKind::Raw),
            ("[fe80::1%1]", HostKind::Raw),
            (&format!("{label}a.b"), HostKind::Raw),
            (&format!("{longest}b"), HostKind::Raw),
        ] {
            assert_eq!(Host::new(text.as_bytes()).kind(), kind, "{text}");
        }
    }

    #[test]
    fn the_same_host() {
        let same = |a: &str, b: &str| Host::new(a.as_bytes()).is_same(&Host::new(b.as_bytes()));
        assert!(same("Example.com", "example.COM."));
        assert!(!same("example.com", "example.org"));
        assert!(!same("example.com", "example.com.."));
    }
}
