//! The head as a whole, from the bytes of a stream.

use super::field::{Fields, is_token};
use super::request_line::{RequestLine, Version, after_blanks, is_space};
use super::{Ambiguity, Anomalies, Body};
use crate::Host;

/// The longest head that is read, the empty line included: what nginx takes as it is delivered, and more than most servers.
pub const HEAD_MAX: usize = 32 * 1024;

/// What an HTTP/2 client that knows its server begins with (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the beginning of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http<'a> {
    /// The head is not whole; at least one further byte is needed. Never for [`HEAD_MAX`] bytes and more.
    Incomplete,
    /// A whole head.
    Request(Request<'a>),
    /// The preface of HTTP/2, whose requests are not read.
    Http2,
    /// No HTTP request.
    NotHttp,
    /// May be one, but it does not end within [`HEAD_MAX`] bytes.
    TooLong,
}

/// The head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method as sent.
    pub method: &'a [u8],
    /// The target as sent.
    pub target: &'a [u8],
    /// Which host the request is for.
    pub host: RequestHost<'a>,
    /// What is strange about the head.
    pub anomalies: Anomalies,
    /// What follows the head, unless the method is CONNECT or the server agrees to another protocol.
    pub body: Body,
    /// Bytes of the head in the stream, from its first byte on, at most [`HEAD_MAX`].
    pub head_len: usize,
}

/// Which host a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestHost<'a> {
    /// The host of the target where it names one, else that of the Host field (RFC 9112 section 3.2.2), without port.
    Host(Host<'a>),
    /// None is named, as HTTP/1.0 allows.
    Absent,
    /// Servers may disagree about it.
    Ambiguous(Ambiguity),
}

/// Reads the first bytes of what a client sent. An answer other than [`Http::Incomplete`] does not change when more bytes come.
///
/// For the next request of the stream, begin anew after head and body.
pub fn request_head(stream: &[u8]) -> Http<'_> {
    HeadReader::default().read(stream)
}

/// The longest first line that begins unlike a request and is waited for, its end not included. Lenient servers take any bytes for
/// a method; longer ones than this are no request for us.
const ODD_LINE_MAX: usize = 8 * 1024;

/// Reads a head that comes in parts: each byte is looked at once for the end of its line, and once more when the head is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadReader {
    /// Where the line begins whose end did not come yet.
    line: usize,
    /// So many bytes were searched for it.
    searched: usize,
    /// The request line is whole: fields follow.
    in_fields: bool,
    /// The first line is longer than [`ODD_LINE_MAX`] and begins like a request.
    is_long: bool,
}

impl HeadReader {
    /// The same as [`request_head`] of the same bytes. `stream` begins with what the calls before were given.
    pub fn read<'a>(&mut self, stream: &'a [u8]) -> Http<'a> {
        if stream.starts_with(HTTP2_PREFACE) {
            return Http::Http2;
        }
        if HTTP2_PREFACE.starts_with(stream) {
            return Http::Incomplete;
        }
        let bounded = stream.get(..HEAD_MAX).unwrap_or(stream);
        loop {
            let fresh = bounded.get(self.searched..).unwrap_or_default();
            let Some(end) = fresh.iter().position(|byte| *byte == b'\n') else {
                self.searched = bounded.len();
                break;
            };
            let end = self.searched + end;
            let line = without_end(bounded.get(self.line..end).unwrap_or_default());
            (self.line, self.searched) = (end + 1, end + 1);
            let is_over = if self.in_fields {
                line.is_empty()
            } else if is_blank(line) {
                false
            } else {
                let Some(line) = RequestLine::parse(line) else {
                    return Http::NotHttp;
                };
                self.in_fields = line.version != Version::V0_9;
                !self.in_fields
            };
            if is_over {
                return whole(bounded.get(..self.line).unwrap_or(bounded));
            }
        }
        if !self.in_fields && !self.is_long {
            let first = bounded.get(self.line..).unwrap_or_default();
            if let Some(start) = first.get(..ODD_LINE_MAX) {
                if !may_be_request(start) {
                    return Http::NotHttp;
                }
                self.is_long = true;
            }
        }
        if stream.len() >= HEAD_MAX {
            return Http::TooLong;
        }
        Http::Incomplete
    }
}

/// A head whose end is the end of these bytes.
fn whole(head: &[u8]) -> Http<'_> {
    let mut anomalies = Anomalies::default();
    let mut lines = head
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
        .inspect(|line| anomalies.bare_lf |= !line.ends_with(b"\r"))
        .map(without_end);
    let mut has_blank_line = false;
    let first = lines.by_ref().find(|line| {
        let is_blank = is_blank(line);
        has_blank_line |= is_blank;
        !is_blank
    });
    let Some(line) = first.and_then(RequestLine::parse) else {
        return Http::NotHttp;
    };
    let mut fields = Fields::new(Anomalies {
        leading_blank_line: has_blank_line,
        ..Anomalies::default()
    });
    if line.is_ambiguous {
        fields.doubt(Ambiguity::RequestLine);
    } else if line.target.contains(&0) {
        fields.doubt(Ambiguity::ControlCharacter);
    }
    for field in lines.filter(|line| !line.is_empty()) {
        fields.handle_line(field);
    }
    let host = host(&line, &mut fields);
    let bare_lf = anomalies.bare_lf;
    let anomalies = Anomalies {
        bare_lf,
        ..fields.anomalies
    };
    Http::Request(Request {
        method: line.method,
        target: line.target,
        host,
        anomalies,
        body: match line.version {
            // Python's `http.server` reads fields behind it all the same.
            Version::V0_9 => Body::Ambiguous,
            version => fields.body(version == Version::V1_1),
        },
        head_len: head.len(),
    })
}

fn without_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Whether servers pass over the line before a request: nginx and Node over line ends of any kind, waitress over any space, Netty
/// over control characters, too.
fn is_blank(line: &[u8]) -> bool {
    after_blanks(line).is_empty()
}

fn host<'a>(line: &RequestLine<'a>, fields: &mut Fields<'a>) -> RequestHost<'a> {
    if let Some(ambiguity) = fields.ambiguity {
        return RequestHost::Ambiguous(ambiguity);
    }
    let target = match line.host() {
        Ok(host) => host,
        Err(ambiguity) => return RequestHost::Ambiguous(ambiguity),
    };
    if let (Some(target), Some(field)) = (&target, &fields.host) {
        fields.anomalies.host_differs = !target.is_same(field);
    }
    target
        .or(fields.host)
        .map_or(RequestHost::Absent, RequestHost::Host)
}

/// Whether a long request line can begin so: a method and a space, or a method that goes on. Space before the method is ambiguous, not
/// impossible: some servers pass over it.
fn may_be_request(start: &[u8]) -> bool {
    let text = after_blanks(start);
    let method = text.iter().take_while(|byte| is_token(**byte)).count();
    match text.get(method) {
        None => true,
        Some(byte) => method > 0 && is_space(*byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(stream: &str) -> String {
        match request_head(stream.as_bytes()) {
            Http::Request(request) => {
                let host = match request.host {
                    RequestHost::Host(host) => host.as_bytes().escape_ascii().to_string(),
                    RequestHost::Absent => "-".to_owned(),
                    RequestHost::Ambiguous(ambiguity) => ambiguity.name().to_owned(),
                };
                format!("{host} {}", request.head_len)
            }
            Http::Incomplete => "incomplete".to_owned(),
            Http::Http2 => "http2".to_owned(),
            Http::NotHttp => "not http".to_owned(),
            Http::TooLong => "too long".to_owned(),
        }
    }

    #[test]
    fn heads() {
        for (stream, expected) in [
            ("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", "a.example 35"),
            (
                "GET / HTTP/1.1\r\nHost: a.example\r\n\r\nGET",
                "a.example 35",
            ),
            ("GET / HTTP/1.1\nHost: a.example\n\n", "a.example 32"),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "a 29"),
            ("GET / HTTP/1.0\r\n\r\n", "- 18"),
            ("GET /\r\nHost: a\r\n", "- 7"),
            ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "b 35"),
            (
                "GET http://b/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                "http-host-fields 44",
            ),
            ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", "http-target 27"),
            (
                "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
                "http-control-character 28",
            ),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "http-request-line 28"),
            (
                "  GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                "http-request-line 29",
            ),
            // A line of one carriage return is not the empty one.
            (
                "GET / HTTP/1.1\r\n\r\r\nHost: a\r\n\r\n",
                "http-control-character 30",
            ),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12", "http2"),
            // uvicorn answers it and goes on.
            ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "http-request-line 18"),
            ("PRI * HTTP/2.0\r\nX: y\r\n\r\n", "http-request-line 24"),
            ("\x16\x03\x01", "incomplete"),
            ("\x16\x03\x01\n", "incomplete"),
            ("\x16\x03\x01(\n", "not http"),
            // Netty passes over control characters.
            ("\0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "a 30"),
            (
                "\x01\n\x7f \0\n\x0eGET / HTTP/1.1\r\nHost: a\r\n\r\n",
                "http-request-line 34",
            ),
            ("\0GET / FOO\r\nHost: a\r\n\r\n", "http-request-line 12"),
            ("\0GET /\r\n", "http-request-line 8"),
            ("GET\r\n", "not http"),
            // tinyproxy, cheroot, Werkzeug and the JDK's server take any method.
            (
                "GE\0T / HTTP/1.1\r\nHost: a\r\n\r\n",
                "http-request-line 28",
            ),
            (
                "\x16\x03\x01GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                "http-request-line 30",
            ),
            (
                "\u{feff}GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                "http-request-line 30",
            ),
            (
                "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
                "http-request-line 28",
            ),
            ("\r\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "a 30"),
            ("\x1fGET\x1c/ HTTP/1.1\r\n\r\n", "http-request-line 19"),
            ("  \r\n", "incomplete"),
            ("\x0b \r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "a 31"),
            ("EHLO mail.example\r\n", "not http"),
            ("", "incomplete"),
            ("\r", "incomplete"),
            ("GET", "incomplete"),
            ("GET / HTTP/1.1\r\nHost: a\r\n", "incomplete"),
            ("PRI * HTTP/2.0\r\n\r\n", "incomplete"),
        ] {
            assert_eq!(show(stream), expected, "{stream:?}");
        }
    }

    #[test]
    fn anomalies_are_noted() {
        let anomalies = |stream: &'static str| match request_head(stream.as_bytes()) {
            Http::Request(request) => request.anomalies,
            other => panic!("{other:?}"),
        };
        assert!(!anomalies("GET / HTTP/1.1\r\nHost: a\r\n\r\n").any());
        assert!(anomalies("GET / HTTP/1.1\r\nHost: a\n\r\n").bare_lf);
        assert!(anomalies("\nGET / HTTP/1.1\r\n\r\n").leading_blank_line);
        assert!(anomalies("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n").host_differs);
        assert!(!anomalies("GET http://A:80/ HTTP/1.1\r\nHost: a\r\n\r\n").host_differs);
    }

    #[test]
    fn requests_in_one_stream_come_one_after_the_other() {
        let mut rest = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: b\r\n\r\n";
        let mut hosts = Vec::new();
        while let Http::Request(request) = request_head(rest.as_bytes()) {
            hosts.push(show(rest));
            let Body::Length(body) = request.body else {
                panic!("{request:?}");
            };
            rest = &rest[request.head_len + body as usize..];
        }
        assert_eq!(hosts, ["a 47", "b 27"]);
    }

    #[test]
    fn a_head_is_bounded() {
        let padding = |len: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(len));
        let frame = padding(0).len();
        assert_eq!(show(&padding(HEAD_MAX - frame)), format!("- {HEAD_MAX}"));
        assert_eq!(show(&padding(HEAD_MAX - frame + 1)), "too long");
        assert_eq!(show(&"A".repeat(HEAD_MAX - 1)), "incomplete");
        assert_eq!(show(&"A".repeat(HEAD_MAX)), "too long");
        assert_eq!(show(&"(".repeat(ODD_LINE_MAX - 1)), "incomplete");
        assert_eq!(show(&"(".repeat(ODD_LINE_MAX)), "not http");
    }
}
