//! Names in TLS hellos.

use crate::{Client, HTTP, SNI, get, hosts, policy};
use Verdict::{Allow, Drop};
use engine::{Inspect, Verdict};
use policy::Action;

#[test]
fn a_flow_is_settled_when_its_hello_was_read_and_the_next_record_is_none() {
    let plan = || policy(vec![hosts(Action::Deny, SNI, &["ads.example"])]);
    let mut client = Client::new(plan());
    let hello = SNI.first_bytes("good.example");
    assert_eq!(client.at(100, &hello).inspect, Inspect::More);
    let next = 100 + hello.len() as u32;
    let finished = client.at(next, b"\x14\x03\x03\0\x01\x01\x17\x03\x03\0\x01\x01");
    assert_eq!(finished.inspect, Inspect::Settled);
    for other in [&b"SSH-2.0-x\r\n"[..], b"\0\x01\xd2"] {
        let mut client = Client::new(plan());
        assert_eq!(client.at(100, other).inspect, Inspect::Settled, "{other:?}");
    }
    // HTTP is read as long as it is HTTP, and of what else comes a line, as servers take anything for a method.
    for (field, next) in [
        (HTTP, &b"\x16\x03\x01\0\xb6\x01\n\0\0\x02"[..]),
        (SNI, b"SSH-2.0-x\r\n"),
    ] {
        let mut client = Client::new(policy(vec![hosts(Action::Deny, field, &["ads.example"])]));
        assert_eq!(client.at(100, &get("a.example")).inspect, Inspect::More);
        let at = 100 + get("a.example").len() as u32;
        assert_eq!(client.at(at, next).inspect, Inspect::Settled, "{field:?}");
    }
}

#[test]
fn a_second_hello_is_read_too() {
    let good = SNI.first_bytes("good.example");
    for (first, between) in [
        (&good, &b""[..]),
        (&good, b"\x14\x03\x03\0\x01\x01"),
        (&good, b"\x15\x03\x03\0\x02\x01\x5a"),
        (
            &with_early_data("good.example"),
            b"\x17\x03\x03\0\x05\x16\x03\x01\0\0",
        ),
    ] {
        let mut client = Client::new(policy(vec![hosts(Action::Deny, SNI, &["ads.example"])]));
        assert_eq!(client.send(first), Allow);
        let second = [between, &SNI.first_bytes("ads.example")].concat();
        assert_eq!(client.send(&second), Drop);
    }
}

/// A hello that announces early data (RFC 8446 section 4.2.10).
fn with_early_data(host: &str) -> Vec<u8> {
    let mut hello = SNI.first_bytes(host);
    hello.extend([0, 42, 0, 0]);
    // The lengths of the record, of the message and of the extensions.
    for at in [4, 8, 5 + 4 + 2 + 32 + 1 + 4 + 2 + 1] {
        hello[at] += 4;
    }
    hello
}

/// OpenSSL takes each of these hellos.
#[test]
fn no_hello_hides_its_name() {
    let hello = SNI.first_bytes("ads.example");
    let empty = b"\x16\x03\x01\0\0";
    let alert = b"\x15\x03\x01\0\x02\x01\x5a";
    for stream in [
        [&empty[..], &hello].concat(),
        [&alert[..], &hello].concat(),
        [&empty.repeat(32)[..], &hello].concat(),
        [&hello[..5], &hello[5..], empty].concat(),
    ] {
        for at in 1..stream.len() {
            let mut client = Client::new(policy(vec![hosts(Action::Deny, SNI, &["ads.example"])]));
            let verdicts = [client.send(&stream[..at]), client.send(&stream[at..])];
            assert!(verdicts.contains(&Drop), "{at} of {stream:?}");
        }
    }
}

/// A server that passes over what carries nothing may wait for a hello for longer than it is followed.
#[test]
fn a_hello_without_end_is_not_let_pass() {
    let mut client = Client::new(policy(vec![hosts(Action::Deny, SNI, &["ads.example"])]));
    let hello = SNI.first_bytes("ads.example");
    let mut stream = Vec::new();
    for byte in &hello[5..] {
        stream.extend(b"\x16\x03\x01\0\0".repeat(32));
        stream.extend([22, 3, 1, 0, 1, *byte]);
    }
    // So is a hello of any length, and this one is short.
    let [before @ .., last] = &stream[..] else {
        unreachable!()
    };
    for part in before.chunks(1_400) {
        assert_eq!(client.send(part), Allow);
    }
    assert_eq!(client.send(&[*last]), Drop);
    let mut client = Client::new(policy(vec![hosts(Action::Deny, SNI, &["ads.example"])]));
    let begin = [22, 3, 1, 0, 4, 1, 1, 0xff, 0];
    assert_eq!(client.send(&begin), Allow);
    let more = [&b"\x16\x03\x01\0\0".repeat(32)[..], &[22, 3, 1, 0, 1, 0xff]]
        .concat()
        .repeat(10);
    let passed = (0..2_000)
        .take_while(|_| client.send(&more) == Allow)
        .count();
    assert!(passed * more.len() < 900_000, "{passed}");
    assert_eq!(client.send(b"more"), Drop);
}

/// What stands behind a hello in its record is nobody's, however it is cut.
#[test]
fn a_record_that_holds_more_than_a_hello_does_not_pass() {
    for with_http in [false, true] {
        for (host, told) in [("good.example", 0), ("ads.example", 1)] {
            let mut hello = SNI.first_bytes(host);
            let end = hello.len();
            hello[4] += 9;
            let stream = [&hello[..], b" / HTTP/1"].concat();
            for at in 1..=stream.len() {
                let mut rules = vec![hosts(Action::Deny, SNI, &["ads.example"])];
                rules.extend(with_http.then(|| hosts(Action::Deny, HTTP, &["ads.example"])));
                let mut client = Client::new(policy(rules));
                let first = client.send(&stream[..at]);
                assert_eq!(first == Drop, at >= end, "{at}");
                if first == Allow {
                    assert_eq!(client.send(&stream[at..]), Drop, "{at}");
                }
                assert_eq!(crate::told(&mut client.bench).len(), told, "{at}");
            }
        }
    }
}

/// How soon a hello is given up that every server refuses hangs on its bytes alone, and so does how many of them are read for one.
#[test]
fn the_end_of_a_hello_hangs_on_no_cut() {
    let mut malformed = SNI.first_bytes("good.example");
    // A session id that runs past the hello.
    malformed[5 + 4 + 34] = 200;
    let give_up = 5 + 4 + 35;
    for at in 1..malformed.len() {
        let mut client = Client::new(policy(vec![hosts(Action::Deny, SNI, &["ads.example"])]));
        let first = client.at(100, &malformed[..at]).inspect;
        let is_settled = matches!(first, Inspect::Settled);
        assert_eq!(is_settled, at >= give_up, "{at}");
    }
}

/// One that ends where the longest could is read, and one that ends a byte later does not pass, in few segments or in many.
#[test]
fn the_longest_hello_is_as_long_however_it_is_cut() {
    let hello = &SNI.first_bytes("good.example")[5..];
    let longest = 6 * (4 + wire::tls::HELLO_MAX);
    for (len, passes) in [(longest, true), (longest + 1, false)] {
        let mut filler = len - 6 * hello.len();
        let mut stream = Vec::new();
        for byte in hello {
            // Warnings of any length.
            let alert = filler.min(5 + (1 << 14));
            filler -= alert;
            if alert > 0 {
                stream.extend([21, 3, 1]);
                stream.extend((alert as u16 - 5).to_be_bytes());
                stream.resize(stream.len() + alert - 5, 0);
            }
            stream.extend([22, 3, 1, 0, 1, *byte]);
        }
        assert_eq!(stream.len(), len);
        for size in [60_000, 1_400, 97] {
            let mut client = Client::new(policy(vec![hosts(Action::Deny, SNI, &["ads.example"])]));
            let all_pass = stream.chunks(size).all(|part| client.send(part) == Allow);
            assert_eq!(all_pass, passes, "{len} {size}");
        }
    }
}

#[test]
fn the_name_of_tls_behind_a_proxy_is_seen() {
    let connect = "CONNECT good.example:443 HTTP/1.1\r\nHost: good.example:443\r\n";
    let before = [
        "".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
            .to_owned(),
        // Where requests cannot be told apart.
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(40_000)),
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n0\r\n\r\n".to_owned(),
    ];
    for before in before {
        for connect in [
            format!("{connect}\r\n"),
            format!("{connect}Content-Length: 3\r\n\r\n"),
            format!("{connect}Transfer-Encoding: chunked\r\n\r\n"),
            format!("{connect}\r\n").replace("CONNECT", "connect"),
        ] {
            for with_http in [false, true] {
                let mut rules = vec![hosts(Action::Deny, SNI, &["ads.example"])];
                rules.extend(with_http.then(|| hosts(Action::Deny, HTTP, &["ads.example"])));
                for name in ["ads.example", "good.example"] {
                    let mut client = Client::new(policy(rules.clone()));
                    let said = format!("{before}{connect}");
                    let mut verdicts = said.as_bytes().chunks(1_000).map(|part| client.send(part));
                    let connected = verdicts.all(|verdict| verdict == Allow);
                    let verdict = client.send(&SNI.first_bytes(name));
                    // What nobody can read does not pass, whatever it asks for.
                    let is_plain = before.len() < 40_000
                        && !before.contains("chunked\r\n\r\nx")
                        && connect.matches("\r\n").count() == 3;
                    let passes = is_plain && name == "good.example";
                    assert_eq!(verdict == Allow, passes, "{before:.99} {connect} {name}");
                    assert_eq!(connected, is_plain, "{before:.99} {connect}");
                }
            }
        }
    }
}
