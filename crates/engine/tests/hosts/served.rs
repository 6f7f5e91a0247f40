//! Requests that real servers, proxies and libraries answered for the host that they name, however strange: each is stopped.
//!
//! Seen with nginx 1.22, Apache 2.4, lighttpd 1.4.69, HAProxy 2.6, Squid 5.7, tinyproxy 1.11, Privoxy 3.0, nghttpx 1.52, Caddy 2.6, Node 20,
//! the server of JDK 17, and of Python 3.11 http.server, gunicorn, waitress 3, h11, httptools, cheroot 11, aiohttp 3, tornado 6 and
//! Werkzeug 3. A star stands for one that was told to be lenient; a URL parser that finds the host in the target counts, too.

mod cases;

use crate::{Client, HTTP, hosts, policy};
use cases::{FIRST, LINES, STREAMS, TARGETS, VALUES};
use engine::{Inspect, Verdict};
use policy::Action;

const FIELD: &[u8] = b"\r\nHost: ads.example\r\n\r\n";
const OTHER: &[u8] = b"\r\nHost: good.example\r\n\r\n";

/// Sends it whole and in parts; whether it was stopped is the same.
fn is_stopped(names: &[&str], stream: &[u8]) -> bool {
    let stopped = |size: usize| {
        let mut client = Client::new(policy(vec![hosts(Action::Deny, HTTP, names)]));
        let mut parts = stream.chunks(size);
        parts.any(|part| client.send(part) != Verdict::Allow)
    };
    let whole = stopped(60_000);
    for size in [1, 7] {
        assert_eq!(stopped(size), whole, "{size}: {}", stream.escape_ascii());
    }
    whole
}

fn assert_stopped(stream: &[u8]) {
    for (name, is_named) in [("ads.example", true), ("other.example", false)] {
        assert_eq!(
            is_stopped(&[name], stream),
            is_named,
            "{}",
            stream.escape_ascii()
        );
    }
}

#[test]
fn no_target_hides_its_host() {
    for target in TARGETS {
        assert_stopped(&[b"GET ", *target, b" HTTP/1.1", OTHER].concat());
        assert_stopped(&[b"GET ", *target, b" HTTP/1.0\r\n\r\n"].concat());
    }
}

#[test]
fn no_field_hides_its_host() {
    for value in VALUES {
        assert_stopped(&[b"GET / HTTP/1.1\r\nHost: ", *value, b"\r\n\r\n"].concat());
    }
}

#[test]
fn no_first_line_hides_the_host_behind_it() {
    for line in LINES {
        assert_stopped(&[*line, FIELD].concat());
    }
    for line in FIRST {
        assert_stopped(&[*line, OTHER, b"GET / HTTP/1.1", FIELD].concat());
    }
    for stream in STREAMS {
        assert_stopped(stream);
    }
    for len in [1_100, 8_300, 33_000] {
        for (front, behind) in [
            ("\x01".repeat(len), "GET / HTTP/1.1"),
            ("A".repeat(len), " / HTTP/1.1"),
            ("GET /".to_owned() + &"A".repeat(len), " HTTP/1.1"),
            ("G(T /".to_owned() + &"A".repeat(len), " HTTP/1.1"),
        ] {
            let stream = [front.as_bytes(), behind.as_bytes(), FIELD].concat();
            assert!(is_stopped(&["ads.example"], &stream), "{len} {behind}");
        }
    }
}

/// Netty passes over control characters and space, in lines of their own and before a method, before each request.
#[test]
fn no_control_characters_hide_a_request() {
    let get = [b"GET / HTTP/1.1", FIELD].concat();
    let first = [b"GET / HTTP/1.1", OTHER].concat();
    let post = b"POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 3\r\n\r\nabc";
    for blank in [
        &b"\0\r\n"[..],
        b"\x01\n",
        b"\0 \0\r\n",
        b"\x7f\r\n",
        b"\x85\x9f\r\n",
        b"\0\r\n\0\r\n",
        b"\x16\x03\x01\n\x14\x03",
        b"\0",
    ] {
        for before in [&b""[..], &first, post] {
            assert_stopped(&[before, blank, &get].concat());
        }
    }
}

/// The records of a hello are a method to servers that take any.
#[test]
fn no_begin_of_a_hello_hides_a_request() {
    // As long as the length says or longer, with its random bytes as the rest of the first line.
    let hello = b"\x16\x03\x01GE\x01\0\x01\0\x03\x03";
    let short = b"\x16\x03\x01\0\x30\x01\0\0\x2c\x03\x03";
    let whole = [&short[..], &[b'x'; 32], b"\0\0\x02\x13\x01\x01\0\0\0"].concat();
    let long = |start: &str| format!("{start}\r\nX: {}", "a".repeat(33_000)).into_bytes();
    let many = "X: aaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(1_200);
    for begin in [
        [&hello[..], b" / HTTP/1.1"].concat(),
        [&hello[..], b" / FOO"].concat(),
        [&hello[..], b"\xb7 / FOO\r\nX: y"].concat(),
        [&hello[..], &long(" / HTTP/1.1")].concat(),
        [&short[..], b" / FOO"].concat(),
        [&whole[..], b" / HTTP/1.1"].concat(),
        [&whole[..], b" / FOO"].concat(),
        b"\x16\x03\x01 / FOO".to_vec(),
        b"\x16\x03\x01GET / FOO".to_vec(),
        b"\x16\x03\x01\xb7 / FOO".to_vec(),
        b"\x15\x03\xb7 / FOO".to_vec(),
        long("\x16\x03\x01GET / HTTP/1.1"),
        long("\x16\x03\x01\x7f\x7fGET / HTTP/1.1"),
        long("\x16\x03\x01GET / FOO"),
        format!("\x16\x03\x01GET / HTTP/1.1\r\n{many}X: y").into_bytes(),
    ] {
        let stream = [&begin[..], FIELD].concat();
        for size in [1, 7, 1_400, 60_000] {
            let rules = [crate::SNI, HTTP];
            let rules = rules.map(|field| hosts(Action::Deny, field, &["ads.example"]));
            let mut client = Client::new(policy(rules.into()));
            let mut parts = stream.chunks(size);
            let start = begin[..begin.len().min(64)].escape_ascii();
            assert!(
                parts.any(|part| client.send(part) != Verdict::Allow),
                "{size} {start}"
            );
        }
    }
}

/// Where only some hosts may be asked for, what ordinary clients send to them passes.
#[test]
fn a_request_of_an_ordinary_client_names_one_host() {
    for stream in [
        &b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n"[..],
        b"GET /?to=http://u@ads.example/ HTTP/1.1\r\nHost: good.example:8080\r\nReferer: http://ads.example/\r\n\r\n",
        b"GET //assets/x.js?a=b&c=d HTTP/1.1\r\nHost: good.example\r\n\r\n",
        b"GET http://good.example:80/a@b HTTP/1.1\r\nHost: good.example\r\n\r\n",
        b"GET http://good.example?a=b HTTP/1.1\r\nHost: good.example:80\r\n\r\n",
        b"CONNECT good.example:443 HTTP/1.1\r\nHost: good.example:443\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost:good.example\r\n\r\n",
        b"GET /x HTTP/1.0\r\n\r\n",
    ] {
        let mut client = Client::new(policy(vec![
            hosts(Action::Allow, HTTP, &["good.example"]),
            hosts(Action::Deny, HTTP, &["*"]),
        ]));
        let verdict = client.send(stream);
        assert_eq!(verdict, Verdict::Allow, "{}", stream.escape_ascii());
    }
}

/// Where no host may be asked for, they ask for none; most are let be with their first line.
#[test]
fn other_protocols_are_let_be() {
    for (stream, inspect) in [
        (
            &b"SSH-2.0-OpenSSH_9.9 Debian\r\n\0\0\x05\xdc"[..],
            Inspect::Settled,
        ),
        (b"SSH-2.0-x\r\n", Inspect::Settled),
        (
            b"EHLO mail.example\r\nMAIL FROM:<a@b.example>\r\n\r\n",
            Inspect::Settled,
        ),
        (b"NICK a\r\nUSER a 0 * :b c\r\n\r\n", Inspect::Settled),
        (b"a1 LOGIN user pass\r\n\r\n", Inspect::Settled),
        (b"get key\r\n\r\n", Inspect::Settled),
        (b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", Inspect::Settled),
        (
            b"OPTIONS rtsp://a.example/x RTSP/1.0\r\nCSeq: 1\r\n\r\n",
            Inspect::Settled,
        ),
        (
            b"INVITE sip:a@b.example SIP/2.0\r\nVia: x\r\n\r\n",
            Inspect::Settled,
        ),
        (
            b"CONNECT {\"verbose\":false}\r\nPING\r\nPING\r\n",
            Inspect::More,
        ),
        (
            b"0033git-upload-pack /x.git\0host=a.example\x00",
            Inspect::More,
        ),
        (
            b"\x16\x03\x01\0\x08\x01\0\0\x04\x03\x03\xb7\n\x20\0",
            Inspect::Settled,
        ),
        // Servers may pass over the first line.
        (
            b"\x16\x03\x01\0\x08\x01\0\0\x04\x03\x03\n\x20\0",
            Inspect::More,
        ),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Inspect::More),
        (b"\0\0\0\x08\x04\xd2\x16\x2f\n", Inspect::Settled),
    ] {
        let mut client = Client::new(policy(vec![hosts(Action::Deny, HTTP, &["*"])]));
        let decision = client.at(100, stream);
        let found = (decision.verdict, decision.inspect);
        let text = stream.escape_ascii();
        assert_eq!(found, (Verdict::Allow, inspect), "{text}");
        assert!(!is_stopped(&["*"], stream), "{text}");
    }
}
