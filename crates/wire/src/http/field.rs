//! The fields of a head (RFC 9112 section 5), as far as they tell the host and the length of the body.

use super::{Ambiguity, authority};
use crate::Host;

/// What is strange about a head, though there is one reading of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anomalies {
    /// Empty lines stand before the request line (RFC 9112 section 2.2 lets a server pass over them).
    pub leading_blank_line: bool,
    /// A line ends in LF alone (RFC 9112 section 2.2 lets a server take it).
    pub bare_lf: bool,
    /// A field goes on in a second line (RFC 9112 section 5.2).
    pub folding: bool,
    /// Several Host fields say the same (RFC 9112 section 3.2 forbids them).
    pub repeated_host: bool,
    /// The target names another host than the Host field.
    pub host_differs: bool,
}

impl Anomalies {
    /// True where anything is strange.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// How many bytes follow the head before the next request (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// A body of this many bytes, 0 where none is announced.
    Length(u64),
    /// A body in chunks, which say themselves where it ends (RFC 9112 section 7.1).
    Chunked,
    /// Servers would disagree: both a length and a transfer coding, lengths that differ, another last coding. What follows
    /// cannot be told to be a body or a request.
    Ambiguous,
}

/// What the fields said so far.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) host: Option<Host<'a>>,
    /// The first ambiguity.
    pub(super) ambiguity: Option<Ambiguity>,
    pub(super) anomalies: Anomalies,
    has_host: bool,
    length: Option<u64>,
    coding: Option<Coding>,
    /// A length or coding that cannot be read.
    has_strange_body: bool,
    last: Last,
}

/// The codings that were announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Chunked,
    Other,
}

/// What a line that begins with space would continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    RequestLine,
    Host,
    Body,
    Other,
}

impl<'a> Fields<'a> {
    pub(super) fn new(anomalies: Anomalies) -> Self {
        Self {
            host: None,
            ambiguity: None,
            anomalies,
            has_host: false,
            length: None,
            coding: None,
            has_strange_body: false,
            last: Last::RequestLine,
        }
    }

    pub(super) fn doubt(&mut self, ambiguity: Ambiguity) {
        self.ambiguity.get_or_insert(ambiguity);
    }

    /// What servers may take for a field, or not, may be one that says where the body ends.
    fn doubt_line(&mut self, ambiguity: Ambiguity, line: &[u8]) {
        self.doubt(ambiguity);
        self.has_strange_body |= names_body(line);
    }

    /// Takes a line, without its end, that is not empty.
    pub(super) fn handle_line(&mut self, line: &'a [u8]) {
        if line.iter().any(|byte| matches!(byte, 0 | b'\r')) {
            self.doubt_line(Ambiguity::ControlCharacter, line);
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return self.handle_folding(line);
        }
        self.last = Last::Other;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return self.doubt_line(Ambiguity::FieldLine, line);
        };
        let (name, value) = line.split_at(colon);
        let value = trim(value.get(1..).unwrap_or_default());
        if matches!(name.last(), Some(b' ' | b'\t')) {
            self.doubt_line(Ambiguity::SpaceBeforeColon, line);
        } else if name.is_empty() || !name.iter().copied().all(is_token) {
            self.doubt_line(Ambiguity::FieldName, line);
        } else if name.eq_ignore_ascii_case(b"host") {
            self.last = Last::Host;
            self.handle_host(value);
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.last = Last::Body;
            self.handle_length(value);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.last = Last::Body;
            self.handle_coding(value);
        }
    }

    /// The length of the body; `codings` says whether the version of the request knows transfer codings (RFC 9112 section
    /// 6.1).
    pub(super) fn body(&self, codings: bool) -> Body {
        match (self.coding, self.length) {
            _ if self.has_strange_body => Body::Ambiguous,
            (None, length) => Body::Length(length.unwrap_or(0)),
            (Some(Coding::Chunked), None) if codings => Body::Chunked,
            (Some(_), _) => Body::Ambiguous,
        }
    }

    fn handle_folding(&mut self, line: &[u8]) {
        self.anomalies.folding = true;
        let looks_like_host = trim(line)
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"host"));
        match self.last {
            Last::RequestLine | Last::Host => self.doubt(Ambiguity::Folding),
            Last::Body => self.has_strange_body = true,
            Last::Other => {}
        }
        self.has_strange_body |= names_body(line);
        if looks_like_host {
            self.doubt(Ambiguity::Folding);
        }
    }

    fn handle_host(&mut self, value: &'a [u8]) {
        let host = match authority::host(value) {
            Ok(host) => host,
            Err(ambiguity) => return self.doubt(ambiguity),
        };
        if std::mem::replace(&mut self.has_host, true) {
            self.anomalies.repeated_host = true;
            let is_same = match (&self.host, &host) {
                (Some(first), Some(other)) => first.is_same(other),
                (first, other) => first.is_none() && other.is_none(),
            };
            if !is_same {
                self.doubt(Ambiguity::HostFields);
            }
            return;
        }
        self.host = host;
    }

    fn handle_length(&mut self, value: &[u8]) {
        let text = std::str::from_utf8(value).unwrap_or_default();
        // `parse` would take a sign, too.
        let is_digits = value.iter().all(u8::is_ascii_digit);
        match text.parse() {
            Ok(length) if is_digits && self.length.is_none_or(|first| first == length) => {
                self.length = Some(length);
            }
            _ => self.has_strange_body = true,
        }
    }

    fn handle_coding(&mut self, value: &[u8]) {
        let last = trim(
            value
                .rsplit(|byte| *byte == b',')
                .next()
                .unwrap_or_default(),
        );
        // Two fields are one list; few send them, and few servers agree on what it means.
        self.coding = Some(
            if self.coding.is_none() && last.eq_ignore_ascii_case(b"chunked") {
                Coding::Chunked
            } else {
                Coding::Other
            },
        );
    }
}

/// Whether a field that tells the end of the body is named anywhere in the line.
fn names_body(line: &[u8]) -> bool {
    [&b"content-length"[..], b"transfer-encoding"]
        .iter()
        .any(|name| {
            let mut parts = line.windows(name.len());
            parts.any(|part| part.eq_ignore_ascii_case(name))
        })
}

/// Cuts off space and tabs on both sides (OWS, RFC 9110 section 5.6.3).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// What a method or the name of a field is made of (RFC 9110 section 5.6.2).
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(lines: &[&'a str]) -> Fields<'a> {
        let mut fields = Fields::new(Anomalies::default());
        for line in lines {
            fields.handle_line(line.as_bytes());
        }
        fields
    }

    #[test]
    fn hosts() {
        let host = |lines: &[&str]| {
            let fields = fields(lines);
            match fields.ambiguity {
                Some(ambiguity) => ambiguity.name().to_owned(),
                None => fields.host.map_or("-".to_owned(), |host| {
                    host.as_bytes().escape_ascii().to_string()
                }),
            }
        };
        for (lines, expected) in [
            (&["Host: a.example"][..], "a.example"),
            (&["hOST:a.example:80\t "], "a.example"),
            (&["X: y", "Host: [2001:db8::1]:8080"], "[2001:db8::1]"),
            (&["Host: a, b"], "a, b"),
            (&["Host:"], "-"),
            (&["X-Host: a"], "-"),
            (&[], "-"),
            (&["Host: a.example", "HOST: A.example."], "a.example"),
            (&["Host: a.example", "Host: a.example:80"], "a.example"),
            (&["Host: a", "Host: b"], "http-host-fields"),
            (&["Host:", "Host: b"], "http-host-fields"),
            (&["Host: b", "Host:"], "http-host-fields"),
            (&["Host: a@b"], "http-user-info"),
            (&["Host : a"], "http-space-before-colon"),
            (&["X : a", "Host: a"], "http-space-before-colon"),
            (&["Host"], "http-field-line"),
            (&[": a"], "http-field-name"),
            (&["Ho\u{e9}st: a"], "http-field-name"),
            (&["Host\0: a"], "http-control-character"),
            (&["X: y\rHost: b", "Host: a"], "http-control-character"),
            // Folding.
            (&["X: y", "  z", "Host: a"], "a"),
            (&["Host: a", " b"], "http-folding"),
            (&[" X: y", "Host: a"], "http-folding"),
            (&["X: y", "\tHost: b", "Host: a"], "http-folding"),
        ] {
            assert_eq!(host(lines), expected, "{lines:?}");
        }
        assert!(fields(&["X: y", " z"]).anomalies.folding);
        assert!(fields(&["Host: a", "Host: a"]).anomalies.repeated_host);
        assert!(!fields(&["Host: a"]).anomalies.any());
    }

    #[test]
    fn bodies() {
        let max = "Content-Length: 18446744073709551615";
        let over = "Content-Length: 18446744073709551616";
        let table: &[(&[&str], Body)] = &[
            (&[], Body::Length(0)),
            (&["Content-Length: 5"], Body::Length(5)),
            (&[max], Body::Length(u64::MAX)),
            (&["content-length: 5", "Content-Length: 5"], Body::Length(5)),
            (&["Transfer-Encoding: Chunked"], Body::Chunked),
            (&["Transfer-Encoding: gzip , chunked"], Body::Chunked),
            (&[over], Body::Ambiguous),
            (&["Content-Length: +5"], Body::Ambiguous),
            (&["Content-Length:"], Body::Ambiguous),
            (&["Content-Length: 5, 5"], Body::Ambiguous),
            (&["Content-Length: 5", " 6"], Body::Ambiguous),
            (
                &["Content-Length: 5", "Transfer-Encoding : chunked"],
                Body::Ambiguous,
            ),
            (
                &["Content-Length: 5", "Transfer-Encoding\x0b: chunked"],
                Body::Ambiguous,
            ),
            (
                &["Content-Length: 5", "X: y\rTransfer-Encoding: chunked"],
                Body::Ambiguous,
            ),
            (&["X: y", " Transfer-Encoding: chunked"], Body::Ambiguous),
            (&[" Content-Length: 5"], Body::Ambiguous),
            (&["Content-Length: 5", "Content-Length: 6"], Body::Ambiguous),
            (
                &["Content-Length: 5", "Transfer-Encoding: chunked"],
                Body::Ambiguous,
            ),
            (&["Transfer-Encoding: chunked, gzip"], Body::Ambiguous),
            (
                &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
                Body::Ambiguous,
            ),
        ];
        for (lines, expected) in table {
            assert_eq!(fields(lines).body(true), *expected, "{lines:?}");
        }
        assert_eq!(
            fields(&["Transfer-Encoding: chunked"]).body(false),
            Body::Ambiguous
        );
    }
}
