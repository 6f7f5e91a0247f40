//! The request line (RFC 9112 section 3): method, target, version.

use super::field::is_token;
use super::{Ambiguity, authority};
use crate::Host;

/// A request line. Where it is ambiguous, its parts are the words that stand in their places.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) version: Version,
    pub(super) is_ambiguous: bool,
}

/// How the line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// No version: HTTP/0.9, where the line is the whole request.
    V0_9,
    /// HTTP/1.0, without transfer codings.
    V1_0,
    /// HTTP/1.1, or a minor version to come.
    V1_1,
}

impl<'a> RequestLine<'a> {
    /// Reads a line without its end; `None` where it is no HTTP request.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let text = after_blanks(line);
        let mut words = text
            .split(|byte| is_space(*byte))
            .filter(|word| !word.is_empty());
        let (method, target) = (words.next()?, words.next().unwrap_or_default());
        let last = words.next();
        let has_single_spaces = |len: usize| {
            let is_strange = |byte: &u8| *byte != b' ' && is_space(*byte);
            line.len() == len && !line.iter().any(is_strange)
        };
        if let Some(
            [
                b'H',
                b'T',
                b'T',
                b'P',
                b'/',
                b'1',
                b'.',
                minor @ b'0'..=b'9',
            ],
        ) = last
            && has_single_spaces(method.len() + target.len() + 10)
            && method.iter().copied().all(is_token)
        {
            let version = match minor {
                b'0' => Version::V1_0,
                _ => Version::V1_1,
            };
            return Some(Self {
                method,
                target,
                version,
                is_ambiguous: false,
            });
        }
        let claims_http = |word: &[u8]| {
            word.get(..5)
                .is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"))
        };
        if [target, last.unwrap_or_default()]
            .into_iter()
            .chain(words)
            .any(claims_http)
        {
            return Some(Self {
                method,
                target,
                version: Version::V1_1,
                is_ambiguous: true,
            });
        }
        let has_place = target.starts_with(b"/") || absolute(target).is_some();
        let is_request = match last {
            None => method == b"GET" && has_place,
            // HAProxy (`accept-invalid-http-request`) and the JDK's server take anything for a version.
            Some(_) => is_text(text) && (target.starts_with(b"/") || is_web(target)),
        };
        is_request.then_some(Self {
            method,
            target,
            version: Version::V0_9,
            is_ambiguous: last.is_some() || !has_single_spaces(method.len() + target.len() + 1),
        })
    }

    /// The host that the target names, which goes before the Host field (RFC 9112 section 3.2.2); `None` where the target is
    /// only a place on the host.
    pub(super) fn host(&self) -> Result<Option<Host<'a>>, Ambiguity> {
        let authority = if self.method == b"CONNECT" {
            // Only host and port (RFC 9112 section 3.2.3).
            if self.target.iter().any(|byte| b"/?#\\".contains(byte)) {
                return Err(Ambiguity::Target);
            }
            self.target
        } else if self.target.starts_with(b"/") || self.target == b"*" {
            return Ok(None);
        } else {
            absolute(self.target).ok_or(Ambiguity::Target)?
        };
        if authority.contains(&b'\\') {
            // Some readers of URLs take it for a slash.
            return Err(Ambiguity::Target);
        }
        authority::host(authority)?
            .map(Some)
            .ok_or(Ambiguity::Target)
    }
}

/// What servers may part the words of a request line at (RFC 9112 section 3): besides what the RFC names, what Python's `http.server`
/// does.
pub fn is_space(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t' | b'\r' | 0x0b | 0x0c | 0x1c..=0x1f | 0x85 | 0xa0
    )
}

/// Without what servers pass over before a request line: control characters, those of Latin-1 too, and space (Netty). A line of nothing
/// else is a blank one.
#[must_use]
pub fn after_blanks(line: &[u8]) -> &[u8] {
    let is_blank =
        |byte: u8| byte.is_ascii_control() || is_space(byte) || (0x80..0xa0).contains(&byte);
    let start = line.iter().position(|byte| !is_blank(*byte));
    start
        .and_then(|start| line.get(start..))
        .unwrap_or_default()
}

/// Whether a line holds no control characters but space.
fn is_text(line: &[u8]) -> bool {
    line.iter()
        .all(|byte| is_space(*byte) || !byte.is_ascii_control())
}

/// Whether a target begins as a URL of HTTP does: other protocols have request lines with URLs of their own.
fn is_web(target: &[u8]) -> bool {
    let scheme = target.split(|byte| *byte == b':').next();
    scheme.is_some_and(|scheme| {
        scheme.len() < target.len()
            && (scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https"))
    })
}

/// The authority of a target in absolute form (RFC 3986 section 3): scheme, `://`, authority, and the rest from `/`, `?` or
/// `#` on; with what may be a user name in the rest before a `/`.
fn absolute(target: &[u8]) -> Option<&[u8]> {
    let colon = target.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = target.split_at(colon);
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    if !is_scheme {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    let before_path = rest.split(|byte| *byte == b'/').next()?;
    // Apache, Privoxy and tinyproxy look for a user name first.
    if before_path.contains(&b'@') {
        return Some(before_path);
    }
    before_path.split(|byte| b"?#".contains(byte)).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(line: &str) -> String {
        let Some(line) = RequestLine::parse(line.as_bytes()) else {
            return "not http".to_owned();
        };
        if line.is_ambiguous {
            return "ambiguous".to_owned();
        }
        let host = match line.host() {
            Ok(Some(host)) => host.as_bytes().escape_ascii().to_string(),
            Ok(None) => "-".to_owned(),
            Err(ambiguity) => ambiguity.name().to_owned(),
        };
        format!("{:?} {host}", line.version)
    }

    #[test]
    fn lines() {
        for (line, expected) in [
            ("GET / HTTP/1.1", "V1_1 -"),
            ("GET //a.example/ HTTP/1.0", "V1_0 -"),
            ("OPTIONS * HTTP/1.1", "V1_1 -"),
            ("GET http://a.example/x HTTP/1.1", "V1_1 a.example"),
            ("GET HTTPS://a.example:8443?x HTTP/1.9", "V1_1 a.example"),
            ("GET http://[::1]:80#x HTTP/1.1", "V1_1 [::1]"),
            ("CONNECT a.example:443 HTTP/1.1", "V1_1 a.example"),
            ("CONNECT a.example/:443 HTTP/1.1", "V1_1 http-target"),
            ("CONNECT :443 HTTP/1.1", "V1_1 http-target"),
            ("GET http:///x HTTP/1.1", "V1_1 http-target"),
            ("GET http:a.example HTTP/1.1", "V1_1 http-target"),
            ("GET a.example/x HTTP/1.1", "V1_1 http-target"),
            ("GET 1a://a.example/x HTTP/1.1", "V1_1 http-target"),
            ("GET http://a.example\\b/ HTTP/1.1", "V1_1 http-target"),
            (
                "GET http://a.example@b.example/ HTTP/1.1",
                "V1_1 http-user-info",
            ),
            (
                "GET http://a.example?@b.example/ HTTP/1.1",
                "V1_1 http-user-info",
            ),
            (
                "GET http://a.example#@b.example/ HTTP/1.1",
                "V1_1 http-user-info",
            ),
            (
                "GET http://a.example/?@b.example/ HTTP/1.1",
                "V1_1 a.example",
            ),
            ("G(T /x HTTP/1.1", "ambiguous"),
            ("GET /x FOO", "ambiguous"),
            ("GET /x RTSP/1.0", "ambiguous"),
            ("POST http:/x FOO", "ambiguous"),
            ("\x01\x02 /x \x03", "not http"),
            ("GET /x", "V0_9 -"),
            ("GET http://a.example/", "V0_9 a.example"),
            ("GET  /x HTTP/1.1", "ambiguous"),
            ("GET /x\tHTTP/1.1", "ambiguous"),
            ("GET\x0b/x HTTP/1.1", "ambiguous"),
            ("\x1fGET\x1c/x\x1eHTTP/1.1", "ambiguous"),
            ("GET /x\rHTTP/1.1", "ambiguous"),
            (" GET /x HTTP/1.1", "ambiguous"),
            ("GET /x HTTP/1.1 ", "ambiguous"),
            ("GET /x y HTTP/1.1", "ambiguous"),
            ("GET /x HTTP/1.1 y", "ambiguous"),
            ("GET /x http/1.1", "ambiguous"),
            ("GET /x HTTP/1.10", "ambiguous"),
            ("GET /x HTTP/2.0", "ambiguous"),
            ("GET HTTP/1.1", "ambiguous"),
            ("GET  /x", "ambiguous"),
            ("", "not http"),
            ("GET", "not http"),
            ("GET key", "not http"),
            ("POST /x", "not http"),
            ("INVITE sip:a@b.example SIP/2.0", "not http"),
            ("DESCRIBE rtsp://a.example/x RTSP/1.0", "not http"),
            ("SSH-2.0-OpenSSH_9.9 Debian", "not http"),
        ] {
            assert_eq!(show(line), expected, "{line}");
        }
    }
}
