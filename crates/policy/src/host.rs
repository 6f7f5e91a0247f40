//! The names of servers that clients ask for: what `sni` and `http_host` of a rule hold, and how they compare.
//!
//! Where such a name stands in the bytes is for others to read; here it is text.

use std::fmt;
use std::net::IpAddr;

use crate::names::{BadName, Pattern, Reach};

/// Where a client says which server it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostField {
    /// The server name of a TLS ClientHello (RFC 6066 §3).
    Sni,
    /// The host of an HTTP/1.x request: of its target, else of its Host field (RFC 9112 §3.2).
    HttpHost,
}

impl HostField {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sni, Self::HttpHost];

    /// The key of a rule: `sni`, `http_host`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Sni => "sni",
            Self::HttpHost => "http_host",
        }
    }

    /// The clause of `rules.txt`, and the word of `portcullis test`: `sni`, `http-host`.
    pub const fn clause(self) -> &'static str {
        match self {
            Self::Sni => "sni",
            Self::HttpHost => "http-host",
        }
    }

    /// The first bytes of a client that asks for this host: a whole ClientHello, or a whole request. The host is put in as it
    /// is; one longer than 255 bytes is cut.
    pub fn first_bytes(self, host: &str) -> Vec<u8> {
        let host = &host.as_bytes()[..host.len().min(255)];
        match self {
            Self::HttpHost => [b"GET / HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat(),
            Self::Sni => client_hello(host),
        }
    }
}

/// A ClientHello of one record with one cipher suite and one extension (RFC 8446 §4.1.2, RFC 6066 §3).
fn client_hello(host: &[u8]) -> Vec<u8> {
    // At most 255 bytes, and some fifty around them: every length fits.
    let with_length = |bytes: &[u8]| {
        let mut field = (bytes.len() as u16).to_be_bytes().to_vec();
        field.extend_from_slice(bytes);
        field
    };
    let entry = [&[0][..], &with_length(host)].concat();
    let extension = [&[0, 0][..], &with_length(&with_length(&entry))].concat();
    let body = [
        &[3, 3][..],
        &[0; 32],
        &[0, 0, 2, 0x13, 1, 1, 0],
        &with_length(&extension),
    ]
    .concat();
    let message = [&[1, 0][..], &with_length(&body)].concat();
    [&[22, 3, 1][..], &with_length(&message)].concat()
}

/// One of the hosts that a rule names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// A name, what is below it, or both; `*` for whatever is asked for.
    Name(Pattern<'static>),
    /// An address, which only HTTP knows.
    Address(IpAddr),
}

impl HostPattern {
    /// Reads `a.example`, `*.a.example`, `.a.example`, `*`; of an HTTP host also an address, IPv6 with or without brackets.
    ///
    /// # Errors
    ///
    /// Why it is none of these.
    pub fn parse(text: &str, field: HostField) -> Result<Self, BadName> {
        match address(text) {
            Some(address) if field == HostField::HttpHost => Ok(Self::Address(address)),
            Some(_) => Err(BadName::Address),
            None => Ok(Self::Name(Pattern::parse(text)?.into_owned())),
        }
    }

    /// Whether a host is one of those that it stands for.
    pub fn matches(&self, host: &AskedHost<'_>) -> bool {
        match (self, host) {
            (Self::Name(pattern), _) if pattern.name().is_empty() => true,
            (Self::Name(pattern), AskedHost::Name(name)) => stands_for(pattern, name),
            (Self::Address(wanted), AskedHost::Address(address)) => wanted == address,
            (Self::Name(_) | Self::Address(_), _) => false,
        }
    }

    /// Whether it stands for every host that another one stands for.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(pattern), _) if pattern.name().is_empty() => true,
            (Self::Name(wide), Self::Name(narrow)) => {
                let same = wide.name() == narrow.name();
                let reaches = |reach: Reach| wide.reach() == Reach::Both || wide.reach() == reach;
                match narrow.reach() {
                    Reach::Itself => stands_for(wide, narrow.name()),
                    reach if same => reaches(reach),
                    Reach::Below | Reach::Both => {
                        wide.reach() != Reach::Itself && is_below(narrow.name(), wide.name())
                    }
                }
            }
            _ => self == other,
        }
    }

    /// A host that it stands for.
    pub fn example(&self) -> String {
        match self {
            Self::Name(pattern) if pattern.name().is_empty() => "host.example".to_owned(),
            Self::Name(pattern) if pattern.reach() == Reach::Below => {
                format!("www.{}", pattern.name())
            }
            Self::Name(pattern) => pattern.name().to_owned(),
            Self::Address(address) => authority(*address),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(pattern) => pattern.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A host that a client asks for, made comparable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskedHost<'a> {
    /// A name in lower case, without the dot at the end. It may be one that DNS could not hold.
    Name(std::borrow::Cow<'a, str>),
    /// An address.
    Address(IpAddr),
}

impl<'a> AskedHost<'a> {
    /// Tells what the text of a server name or of an authority without port is. Letters beyond ASCII are not made A-labels:
    /// clients send these (RFC 5890 §2.3.2.1), and servers compare bytes.
    ///
    /// Whatever stands before a known name is below it, also what DNS could not hold: servers that answer for all names below
    /// one look at its end alone.
    pub fn new(text: &'a [u8]) -> Self {
        let text = text.strip_suffix(b".").unwrap_or(text);
        let text = String::from_utf8_lossy(text);
        if let Some(address) = address(&text) {
            return Self::Address(address);
        }
        let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        Self::Name(match is_lower {
            true => text,
            false => text.to_ascii_lowercase().into(),
        })
    }
}

/// What a client of a made-up packet asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asks {
    /// Where.
    pub field: HostField,
    /// The host, as sent.
    pub host: String,
}

impl fmt::Display for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field.clause(), self.host)
    }
}

/// One that stands for an IPv4 address is that one (RFC 4291 §2.5.5.2).
fn address(text: &str) -> Option<IpAddr> {
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = match inner {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    };
    address.map(|address: IpAddr| address.to_canonical())
}

fn authority(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Both are canonical.
fn stands_for(pattern: &Pattern<'_>, name: &str) -> bool {
    let itself = pattern.reach() != Reach::Below && name == pattern.name();
    itself || pattern.reach() != Reach::Itself && is_below(name, pattern.name())
}

fn is_below(name: &str, above: &str) -> bool {
    let begin = name.strip_suffix(above);
    begin.is_some_and(|begin| begin.len() > 1 && begin.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text, HostField::HttpHost).expect(text)
    }

    #[test]
    fn which_hosts_match() {
        for (written, host, expected) in [
            ("a.example", "a.example", true),
            ("a.example", "A.Example.", true),
            ("a.example", "b.a.example", false),
            ("*.a.example", "a.example", false),
            ("*.a.example", "b.a.example", true),
            ("*.a.example", "c.b.A.example.", true),
            ("*.a.example", "ba.example", false),
            (".a.example", "a.example", true),
            (".a.example", "b.a.example", true),
            (".a.example", "ba.example", false),
            ("b\u{fc}cher.example", "xn--bcher-kva.example", true),
            ("b\u{fc}cher.example", "b\u{fc}cher.example", false),
            ("*", "a.example", true),
            ("*", "192.0.2.1", true),
            ("*", "a b", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8::1", "[2001:DB8:0::1]", true),
            ("[2001:db8::1]", "[2001:db8::1]", true),
            ("192.0.2.1", "[::ffff:192.0.2.1]", true),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("a.example", "a.example:80", false),
            (".a.example", "b c.a.example", true),
            (".a.example", "..A.example", true),
            (".a.example", "\u{fc}.a.example", true),
            ("192.0.2.1", "192.0.2.1.", true),
            ("*", "", true),
        ] {
            let asked = AskedHost::new(host.as_bytes());
            assert_eq!(
                pattern(written).matches(&asked),
                expected,
                "{written} {host}"
            );
        }
    }

    #[test]
    fn what_covers_what() {
        for (wide, narrow, expected) in [
            ("a.example", "a.example", true),
            ("*.a.example", "*.a.example", true),
            (".a.example", "*.a.example", true),
            (".a.example", "a.example", true),
            ("*.a.example", "a.example", false),
            ("*.a.example", ".a.example", false),
            ("*.a.example", ".b.a.example", true),
            ("a.example", ".a.example", false),
            ("*", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "*", false),
        ] {
            assert_eq!(
                pattern(wide).covers(&pattern(narrow)),
                expected,
                "{wide} {narrow}"
            );
            // An example of what is covered matches what covers it.
            let example = pattern(narrow).example();
            let asked = AskedHost::new(example.as_bytes());
            assert!(pattern(narrow).matches(&asked), "{narrow} {example}");
            assert!(
                !expected || pattern(wide).matches(&asked),
                "{wide} {example}"
            );
        }
    }

    #[test]
    fn only_http_asks_for_addresses() {
        for text in ["192.0.2.1", "2001:db8::1", "[2001:db8::1]"] {
            let sni = HostPattern::parse(text, HostField::Sni);
            assert_eq!(sni, Err(BadName::Address));
        }
    }
}
