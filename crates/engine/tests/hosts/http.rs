//! Hosts in HTTP requests.

use crate::common::*;
use crate::{Client, HTTP, get, hosts, policy};
use Verdict::{Allow, Drop};
use engine::{Known, Tracked, Verdict};
use policy::Action;

/// What HTTP lets a client do to name one host and mean another.
#[test]
fn no_request_hides_its_host() {
    let deny = |names: &[&str]| policy(vec![hosts(Action::Deny, HTTP, names)]);
    for (head, verdict) in [
        ("GET / HTTP/1.1\r\nhOST:\t ADS.example.:80 \r\n\r\n", Drop),
        ("GET / HTTP/1.1\nHost: ads.example\n\n", Drop),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n", Drop),
        // The target goes before the field, for half of the servers.
        (
            "GET http://ads.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n",
            Drop,
        ),
        (
            "GET http://good.example/ HTTP/1.1\r\nHost: ads.example\r\n\r\n",
            Drop,
        ),
        (
            "CONNECT ads.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n",
            Drop,
        ),
        // More than one reading: any of them.
        (
            "GET / HTTP/1.1\r\nHost: good.example\r\nHost: ads.example\r\n\r\n",
            Drop,
        ),
        (
            "GET / HTTP/1.1\r\nHost: ads.example\r\nHost: good.example\r\n\r\n",
            Drop,
        ),
        ("GET / HTTP/1.1\r\nHost:\r\n ads.example\r\n\r\n", Drop),
        ("GET / HTTP/1.1\r\nHost : ads.example\r\n\r\n", Drop),
        (
            "GET / HTTP/1.1\r\nHost: good.example@ads.example\r\n\r\n",
            Drop,
        ),
        ("GET http://u:p@ads.example/ HTTP/1.1\r\n\r\n", Drop),
        ("GET  / HTTP/1.1\r\nHost: ads.example\r\n\r\n", Drop),
        (
            "GET / HTTP/1.1\r\nX: \rHost: ads.example\r\nHost: good.example\r\n\r\n",
            Drop,
        ),
        (
            "GET / HTTP/1.1\r\nHost: good.example\r\nHost: other.example\r\n\r\n",
            Allow,
        ),
        // Elsewhere it is no host.
        (
            "GET /?Host:ads.example HTTP/1.1\r\nHost: good.example\r\nReferer: http://ads.example/\r\n\r\n",
            Allow,
        ),
        (
            "POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 40\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
            Allow,
        ),
        // A later request.
        (
            "GET / HTTP/1.1\r\nHost: good.example\r\n\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
            Drop,
        ),
        (
            "POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
            Drop,
        ),
        (
            "POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\nHost: ads.\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
            Drop,
        ),
        (
            "POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n16\r\n\r\nHost: ads.example\r\n\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: good.example\r\n\r\n",
            Allow,
        ),
        // Nobody knows where the body ends.
        (
            "POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
            Drop,
        ),
        (
            "POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
            Drop,
        ),
    ] {
        let mut client = Client::new(deny(&["ads.example"]));
        assert_eq!(client.send(head.as_bytes()), verdict, "{head:?}");
    }
    for (head, verdict) in [
        // nginx and Node pass over line ends, Python's server over more.
        ("\rGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n", Drop),
        ("\r\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n", Drop),
        ("\x0bGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n", Drop),
        ("GET\x1f/\x1fHTTP/1.1\r\nHost: ads.example\r\n\r\n", Drop),
        ("GET /\r\nHost: ads.example\r\n\r\n", Drop),
        // nginx and Go end the host at the colon.
        ("GET / HTTP/1.1\r\nHost: ads.example:x\r\n\r\n", Drop),
        ("GET / HTTP/1.1\r\nHost: ads.example:80:81\r\n\r\n", Drop),
        ("GET / HTTP/1.1\r\nHost: ads.example..\r\n\r\n", Drop),
        // Who does not connect may read a body.
        (
            "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\x16GET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
            Drop,
        ),
        // What some servers take for the end of a body.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
            Drop,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n40;\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
            Drop,
        ),
    ] {
        let mut client = Client::new(deny(&["ads.example"]));
        assert_eq!(client.send(head.as_bytes()), verdict, "{head:?}");
        // Nor does any cut of it.
        for at in 1..head.len() {
            let mut client = Client::new(deny(&["ads.example"]));
            let (first, second) = head.as_bytes().split_at(at);
            let verdicts = [client.send(first), client.send(second)];
            assert_eq!(verdicts.contains(&Drop), verdict == Drop, "{head:?} {at}");
        }
    }
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n", "y".repeat(40_000));
    let mut client = Client::new(deny(&["ads.example"]));
    assert_eq!(client.send(long.as_bytes()), Allow);
    assert_eq!(client.send(b"Host: ads.example\r\n\r\n"), Drop);
    let mut client = Client::new(deny(&["ads.example"]));
    for (part, verdict) in [
        (long.as_bytes(), Allow),
        (b"Host:\r\n", Allow),
        (b" ads.example\r\n\r\n", Drop),
    ] {
        assert_eq!(client.send(part), verdict, "a continued line by itself");
    }
}

/// A host with more than one reading is stopped by any of them, and let pass by none.
#[test]
fn no_spelling_of_a_host_hides_it() {
    let bad = [
        "ads.example",
        "192.0.2.1",
        "2001:db8::1",
        "b\u{fc}cher.example",
    ];
    for (host, is_stopped) in [
        ("ads.example", true),
        ("ADS.eXample", true),
        ("ads.example.", true),
        ("ads.example:80", true),
        ("ads.example.:", true),
        // RFC 3986 section 3.2.2.
        ("%61ds.example", true),
        ("ads%2Eexample", true),
        ("%41ds.example:8080", true),
        ("ads.example%2e", true),
        ("%61%64%73%2e%65%78%61%6d%70%6c%65", true),
        ("ads.example%3a80", true),
        ("ads.example%00.good.example", true),
        ("ads.example%2f.good.example", true),
        ("good.example%40ads.example", true),
        // Section 3.2.1.
        ("good.example@ads.example", true),
        ("good.example:80@ads.example:80", true),
        ("ads.example@good.example", true),
        ("good%40other.example@%61ds.example", true),
        ("192.0.2.1", true),
        ("192.0.2.1:80", true),
        ("192.0.2.1.", true),
        ("192.0.513", true),
        ("0xc0000201", true),
        ("3221225985:80", true),
        ("0300.0.02.01", true),
        ("19%32.0.2.1", true),
        ("[::ffff:192.0.2.1]", true),
        ("[::ffff:c000:201]:80", true),
        ("[192.0.2.1]", true),
        ("[2001:db8::1]", true),
        ("[2001:DB8:0:0::1]:80", true),
        ("[2001:db8::1%25eth0]", true),
        ("[2001:db8::1%eth0]:80", true),
        ("2001:db8::1", true),
        ("%5B2001:db8::1%5D", true),
        ("xn--bcher-kva.example", true),
        ("b\u{fc}cher.example", true),
        ("B%C3%9Ccher.example", true),
        ("\u{ff41}ds.example", true),
        ("good.example", false),
        ("g%6fod.example", false),
        ("%zzads.example", false),
        // Decoded twice, it would be another name than was said.
        ("%2561ds.example", false),
        ("good.example@other.example", false),
        ("192.0.2.2", false),
        ("192.0.514", false),
        ("[2001:db8::2]", false),
        ("bucher.example", false),
    ] {
        let field = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let target = format!("GET http://{host}/x HTTP/1.1\r\nHost: good.example\r\n\r\n");
        for head in [field, target] {
            let mut client = Client::new(policy(vec![hosts(Action::Deny, HTTP, &bad)]));
            let verdict = if is_stopped { Drop } else { Allow };
            assert_eq!(client.send(head.as_bytes()), verdict, "{head:?}");
            // Nobody gets in by a reading.
            let plan = policy(vec![
                hosts(Action::Allow, HTTP, &["g.example", "192.0.2.9", "[::9]"]),
                hosts(Action::Deny, HTTP, &["*"]),
            ]);
            let mut client = Client::new(plan);
            assert_eq!(client.send(head.as_bytes()), Drop, "{head:?}");
        }
    }
    for host in [
        "%67.example",
        "192.0.521",
        "[::9%25a]",
        "x@g.example",
        "\u{ff47}.example",
    ] {
        let plan = policy(vec![
            hosts(Action::Allow, HTTP, &["g.example", "192.0.2.9", "::9"]),
            hosts(Action::Deny, HTTP, &["*"]),
        ]);
        let mut client = Client::new(plan);
        let head = format!("GET http://{host}/ HTTP/1.1\r\n\r\n");
        assert_eq!(
            client.send(head.as_bytes()),
            Drop,
            "{host} is let pass by none"
        );
    }
}

#[test]
fn a_large_body_is_neither_held_nor_the_end_of_looking() {
    let mut client = Client::new(policy(vec![hosts(Action::Deny, HTTP, &["ads.example"])]));
    let length = 50_000_000;
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    assert_eq!(client.send(head.as_bytes()), Allow);
    let begin = client.next;
    // A segment in the middle was lost; what is under way behind it is let pass and not held.
    for at in (0..length).step_by(50_000).filter(|at| at % 1_000_000 != 0) {
        assert_eq!(client.at(begin + at, &[b'x'; 50_000]).verdict, Allow);
    }
    let end = begin + length;
    assert_eq!(client.at(end, &get("good.example")).verdict, Allow);
    let end = end + get("good.example").len() as u32;
    assert_eq!(client.at(end, &get("ads.example")).verdict, Drop);
}

/// A receiver may have discarded what was looked at, and take what is sent in its place.
#[test]
fn a_head_is_not_exchanged_behind_its_body() {
    let plan = policy(vec![hosts(Action::Deny, HTTP, &["ads.example"])]);
    let head = |host: &str| {
        let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n\r\n");
        [head.as_bytes(), b"body"].concat()
    };
    let (good, bad) = (head("abc.example"), head("ads.example"));
    let mut client = Client::new(plan);
    assert_eq!(client.send(&good), Allow);
    let body = client.next;
    for _ in 0..2 {
        assert_eq!(client.at(100, &good).verdict, Allow, "the same again");
        assert_eq!(client.at(body, &[b'x'; 1_000]).verdict, Allow);
        assert_eq!(client.at(body + 1_000, &[b'y'; 1_000]).verdict, Allow);
        assert_eq!(client.at(100, &bad).verdict, Drop);
        assert_eq!(client.at(100, &bad[..60]).verdict, Drop);
    }
    // Nor behind the next requests.
    let end = body + 100_000 - 4;
    assert_eq!(client.at(end, &get("abc.example")).verdict, Allow);
    let next = end + get("abc.example").len() as u32;
    for at in 0..40 {
        let request = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(977));
        let decision = client.at(next + at * 1_000, request.as_bytes());
        assert_eq!((request.len(), decision.verdict), (1_000, Allow));
        if at < 4 {
            assert_eq!(client.at(end, &get("abc.example")).verdict, Allow);
            assert_eq!(client.at(body, &[b'x'; 1_000]).verdict, Allow, "late");
        }
    }
    assert_eq!(client.at(end, &get("ads.example")).verdict, Drop);
    assert_eq!(client.at(100, &bad).verdict, Drop);
}

/// Acknowledgements are lost, and routers behind this host lose segments: what was under way is sent again, and is more than is kept of
/// streams as they were.
#[test]
fn an_upload_in_chunks_goes_on_where_much_of_it_is_sent_again() {
    for (size, back) in [
        (4_096, 400_000),
        (1_000, 200_000),
        (70, 20_000),
        (9, 20_000),
    ] {
        let mut client = Client::new(policy(vec![hosts(Action::Deny, HTTP, &["ads.example"])]));
        let mut stream =
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
        let mut sizes = Vec::new();
        while stream.len() < 600_000 {
            sizes.push(stream.len());
            stream.extend(chunk.as_bytes());
        }
        let segment = |at: usize| 100 + at as u32;
        for (number, bytes) in stream.chunks(1_460).enumerate() {
            let at = segment(number * 1_460);
            assert_eq!(client.at(at, bytes).verdict, Allow, "{size}");
        }
        let begin = stream.len() - back;
        for (number, bytes) in stream[begin..].chunks(1_000).enumerate() {
            let at = segment(begin + number * 1_000);
            assert_eq!(client.at(at, bytes).verdict, Allow, "{size} {number}");
        }
        // Another size than before is another place for the next request.
        for at in sizes.into_iter().filter(|at| *at > begin) {
            assert_eq!(
                client.at(segment(at), b"0\r\n\r\nGET").verdict,
                Drop,
                "{size} {at}"
            );
        }
        client.next = segment(stream.len());
        assert_eq!(client.send(b"0\r\n\r\n"), Allow);
        assert_eq!(client.send(&get("ads.example")), Drop, "{size}");
    }
}

/// Each reading is asked about: so many that it would take long are none that an honest client sends.
#[test]
fn a_host_with_too_many_readings_does_not_pass() {
    for (readings, verdict) in [(20, Allow), (8_000, Drop)] {
        let mut client = Client::new(policy(vec![hosts(Action::Deny, HTTP, &["ads.example"])]));
        let head = format!(
            "GET / HTTP/1.1\r\nHost : {}b\r\n\r\n",
            (0..readings)
                .map(|number| format!("a{number},"))
                .collect::<String>()
        );
        for again in [head.as_bytes(), &head.as_bytes()[..10]] {
            assert_eq!(client.at(100, again).verdict, verdict, "{readings}");
        }
        let parts: String = (0..readings / 2)
            .map(|number| format!("a{number}]"))
            .collect();
        let head = format!("GET //{parts} HTTP/1.1\r\nHost: b\r\n\r\n");
        let mut client = Client::new(policy(vec![hosts(Action::Deny, HTTP, &["ads.example"])]));
        let sent = head.as_bytes().chunks(16_000).map(|part| client.send(part));
        assert_eq!(sent.last(), Some(verdict), "{readings}");
    }
}

#[test]
fn a_connection_that_is_picked_up_in_a_body_is_read_from_there() {
    let mut bench = Bench::new(policy(vec![hosts(Action::Deny, HTTP, &["ads.example"])]));
    let mut asked = |sequence: u32, payload: &[u8]| {
        let packet = tcp(CLIENT, 5_000, HOST, 443, ACK, sequence, payload);
        bench
            .asked(Known::again(Tracked::Established), &packet)
            .verdict
    };
    assert_eq!(asked(100, b"\0\x01\x02 end of a body"), Allow);
    assert_eq!(asked(117, &get("good.example")), Allow);
    let next = 117 + get("good.example").len() as u32;
    assert_eq!(asked(next, &get("ads.example")), Drop);
}

/// What is a record by its first bytes may be the middle of a body.
#[test]
fn a_connection_that_is_picked_up_in_a_record_is_let_be() {
    let record = |len: usize| {
        let [high, low] = (len as u16).to_be_bytes();
        [&[0x17, 3, 3, high, low][..], &vec![b'\n'; len]].concat()
    };
    let (one, two) = (record(100), [record(100), record(16_400)].concat());
    for (parts, expected) in [
        (vec![&two[..]], Allow),
        (vec![&one[..], &record(1)[..]], Allow),
        (vec![&two[..1], &two[1..103], &two[103..]], Allow),
        (vec![&b"\x17\x03\n"[..]], Drop),
        (vec![&b"\x17\x03\x09\0\x01\n"[..], &two[..]], Drop),
        (vec![&record(18_500)[..], &one[..]], Drop),
        (vec![&one[..], b"\r\n"], Drop),
        (vec![&one[..]], Drop),
    ] {
        let mut bench = Bench::new(policy(vec![hosts(Action::Deny, HTTP, &["ads.example"])]));
        let mut next = 100;
        let mut asked = |payload: &[u8]| {
            let packet = tcp(CLIENT, 5_000, HOST, 443, ACK, next, payload);
            next += payload.len() as u32;
            let known = Known::again(Tracked::Established);
            bench.asked(known, &packet).verdict
        };
        for part in &parts {
            assert_eq!(asked(part), Allow);
        }
        let lens: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        assert_eq!(asked(&get("ads.example")), expected, "{lens:?}");
    }
}
