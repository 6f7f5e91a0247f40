//! The head as a whole, from the bytes of a stream.

use super::field::{Fields, is_token};
use super::request_line::{RequestLine, Version, is_space};
use super::{Ambiguity, Anomalies, Body};
use crate::Host;

/// The longest head that is read, the empty line included: what nginx takes as it is delivered, and more than most servers.
pub const HEAD_MAX: usize = 32 * 1024;

/// What an HTTP/2 client that knows its server begins with (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What looks like a request in it.
const HTTP2_HEAD: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

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
    if stream.starts_with(HTTP2_PREFACE) {
        return Http::Http2;
    }
    if HTTP2_PREFACE.starts_with(stream) {
        return Http::Incomplete;
    }
    if stream.starts_with(HTTP2_HEAD) {
        // The preface's head without its body is nobody's (RFC 9113 section 11.6 reserves the method).
        return Http::NotHttp;
    }
    let bounded = stream.get(..HEAD_MAX).unwrap_or(stream);
    match read(bounded) {
        Http::Incomplete if stream.len() >= HEAD_MAX => Http::TooLong,
        read => read,
    }
}

fn read(stream: &[u8]) -> Http<'_> {
    let mut lines = Lines {
        rest: stream,
        has_bare_lf: false,
    };
    let mut anomalies = Anomalies::default();
    let line = loop {
        if !may_be_request(lines.rest) {
            return Http::NotHttp;
        }
        match lines.next() {
            None => return Http::Incomplete,
            // nginx and Node pass over line ends of any kind.
            Some(line) if line.iter().all(|byte| *byte == b'\r') => {
                anomalies.leading_blank_line = true;
            }
            Some(line) => break line,
        }
    };
    let Some(line) = RequestLine::parse(line) else {
        return Http::NotHttp;
    };
    let mut fields = Fields::new(anomalies);
    if line.is_ambiguous {
        fields.doubt(Ambiguity::RequestLine);
    } else if line.target.contains(&0) {
        fields.doubt(Ambiguity::ControlCharacter);
    }
    let mut in_fields = line.version != Version::V0_9;
    while in_fields {
        match lines.next() {
            None => return Http::Incomplete,
            Some([]) => in_fields = false,
            Some(field) => fields.handle_line(field),
        }
    }
    let host = host(&line, &mut fields);
    let mut anomalies = fields.anomalies;
    anomalies.bare_lf = lines.has_bare_lf;
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
        head_len: stream.len() - lines.rest.len(),
    })
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

/// Whether a request line or an empty line can begin so, told before the line is whole: a method and a space. Space before
/// the method is ambiguous, not impossible: some servers pass over it.
fn may_be_request(start: &[u8]) -> bool {
    let blank = start.iter().take_while(|byte| is_space(**byte));
    let (blank, text) = start.split_at(blank.count());
    let method = text.iter().take_while(|byte| is_token(**byte)).count();
    match text.get(method..).unwrap_or_default() {
        [] => true,
        // An empty line.
        [b'\n', ..] => method == 0 && blank.iter().all(|byte| *byte == b'\r'),
        [byte, ..] => method > 0 && is_space(*byte),
    }
}

/// The lines of a head, without their ends.
struct Lines<'a> {
    rest: &'a [u8],
    has_bare_lf: bool,
}

impl<'a> Lines<'a> {
    /// The next line; `None` where it does not end.
    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        let whole = line.strip_suffix(b"\r");
        self.has_bare_lf |= whole.is_none();
        Some(whole.unwrap_or(line))
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
            ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "not http"),
            ("PRI * HTTP/2.0\r\nX: y\r\n\r\n", "http-request-line 24"),
            ("\x16\x03\x01", "not http"),
            ("GET\r\n", "not http"),
            ("GE\0T / HTTP/1.1\r\n", "not http"),
            (
                "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
                "http-request-line 28",
            ),
            ("\r\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "a 30"),
            ("\x1fGET\x1c/ HTTP/1.1\r\n\r\n", "http-request-line 19"),
            ("  \r\n", "not http"),
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
    }
}
