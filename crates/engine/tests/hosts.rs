//! Rules that name the servers that clients ask for: `sni` and `http_host`.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod common;

use Direction::{In, Out};
use Verdict::{Allow, Drop};
use common::*;
use engine::{Alert, EventBody, Inspect, Known, Probe, Reason, Tracked, Verdict};
use policy::{
    Action, Content, Direction, HostField, HostPattern, Plan, Rate, RateUnit, Rule, RuleId,
};
use proptest::prelude::*;

const SNI: HostField = HostField::Sni;
const HTTP: HostField = HostField::HttpHost;

fn hosts(action: Action, field: HostField, names: &[&str]) -> Rule {
    let hosts = names.iter().map(|name| HostPattern::parse(name, field));
    Rule {
        content: Some(Content::of_hosts(
            field,
            hosts.map(Result::unwrap).collect(),
        )),
        ..tcp_port(action, 443)
    }
}

/// What stands first and then lets every flow in.
fn policy(rules: Vec<Rule>) -> Plan {
    plan(
        rules
            .into_iter()
            .chain([tcp_port(Action::Allow, 443)])
            .collect(),
    )
}

/// A connection, and what its client sends.
struct Client {
    bench: Bench,
    address: &'static str,
    host: &'static str,
    next: u32,
}

impl Client {
    fn new(plan: Plan) -> Self {
        Self::from(CLIENT, HOST, plan)
    }

    fn from(address: &'static str, host: &'static str, plan: Plan) -> Self {
        let mut client = Self {
            bench: Bench::new(plan),
            address,
            host,
            next: 100,
        };
        client.open();
        client
    }

    fn open(&mut self) {
        let (address, host) = (self.address, self.host);
        self.next = 100;
        for (direction, packet) in [
            (In, tcp(address, 5_000, host, 443, SYN, 99, b"")),
            (
                Out,
                acknowledging(100, tcp(host, 443, address, 5_000, SYN_ACK, 499, b"")),
            ),
            (In, tcp(address, 5_000, host, 443, ACK, 100, b"")),
        ] {
            assert_eq!(self.bench.verdict(direction, &packet), Allow);
        }
    }

    fn at(&mut self, sequence: u32, payload: &[u8]) -> engine::Decision {
        let packet = tcp(self.address, 5_000, self.host, 443, ACK, sequence, payload);
        self.bench.packet(In, &packet)
    }

    fn send(&mut self, payload: &[u8]) -> Verdict {
        let verdict = self.at(self.next, payload).verdict;
        if verdict == Allow {
            self.next += payload.len() as u32;
        }
        verdict
    }
}

/// The hosts of the alerts so far.
fn told(bench: &mut Bench) -> Vec<String> {
    let events = bench.events().into_iter();
    let hosts = events.filter_map(|event| match event.body {
        EventBody::Alert(Alert::Content { host, .. }) => host,
        _ => None,
    });
    hosts
        .map(|host| format!("{} {}", host.field.key(), host.host))
        .collect()
}

fn get(host: &str) -> Vec<u8> {
    HTTP.first_bytes(host)
}

#[test]
fn a_named_server_is_denied_and_another_on_the_same_address_is_not() {
    for (address, host) in [(CLIENT, HOST), (CLIENT6, HOST6)] {
        for (field, asked, verdict) in [
            (SNI, "ads.example", Drop),
            (SNI, "ADS.Example.", Drop),
            (SNI, "a.ads.example", Drop),
            (SNI, "bads.example", Allow),
            (SNI, "good.example", Allow),
            (HTTP, "ads.example:8080", Drop),
            (HTTP, "192.0.2.9", Drop),
            (HTTP, "192.0.2.9:80", Drop),
            (HTTP, "[2001:db8::9]:80", Drop),
            (HTTP, "192.0.2.8", Allow),
            (HTTP, "good.example", Allow),
        ] {
            let plan = policy(vec![
                hosts(Action::Deny, SNI, &[".ads.example"]),
                hosts(
                    Action::Deny,
                    HTTP,
                    &["ads.example", "192.0.2.9", "2001:db8::9"],
                ),
            ]);
            let mut client = Client::from(address, host, plan);
            assert_eq!(client.send(&field.first_bytes(asked)), verdict, "{asked}");
            let named = told(&mut client.bench);
            assert_eq!(named.len(), usize::from(verdict == Drop), "{named:?}");
        }
    }
}

#[test]
fn the_same_segment_again_is_dropped_and_told_once() {
    let mut client = Client::new(policy(vec![hosts(Action::Deny, SNI, &["ads.example"])]));
    let hello = SNI.first_bytes("ads.example");
    for _ in 0..3 {
        assert_eq!(client.at(100, &hello).reason, Reason::Rule(RuleId(0)));
    }
    // And what is cut otherwise, or follows.
    assert_eq!(client.at(100, &hello[..10]).verdict, Drop);
    assert_eq!(client.at(100 + hello.len() as u32, b"more").verdict, Drop);
    assert_eq!(told(&mut client.bench), ["sni ads.example"]);
}

#[test]
fn a_flow_is_settled_when_its_hello_was_read_and_the_next_record_is_none() {
    let plan = || policy(vec![hosts(Action::Deny, SNI, &["ads.example"])]);
    let mut client = Client::new(plan());
    let hello = SNI.first_bytes("good.example");
    assert_eq!(client.at(100, &hello).inspect, Inspect::More);
    let next = 100 + hello.len() as u32;
    let finished = client.at(next, b"\x14\x03\x03\0\x01\x01\x17\x03\x03\0\x01\x01");
    assert_eq!(finished.inspect, Inspect::Settled);
    for other in [
        &b"SSH-2.0-x\r\n"[..],
        b"\0\x01\x02",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut client = Client::new(plan());
        assert_eq!(client.at(100, other).inspect, Inspect::Settled, "{other:?}");
    }
    // HTTP is read as long as it is HTTP.
    let mut client = Client::new(policy(vec![hosts(Action::Deny, HTTP, &["ads.example"])]));
    assert_eq!(client.at(100, &get("a.example")).inspect, Inspect::More);
    let next = 100 + get("a.example").len() as u32;
    assert_eq!(client.at(next, b"\x16\x03\x01").inspect, Inspect::Settled);
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

/// What HTTP lets a client do to name one host and mean another.
#[test]
fn no_request_hides_its_host() {
    let deny = |names: &[&str]| policy(vec![hosts(Action::Deny, HTTP, names)]);
    for (head, verdict) in [
        ("GET / HTTP/1.1\r\nhOST:\t ADS.example.:80 \r\n\r\n", Drop),
        ("GET / HTTP/1.1\nHost: ads.example\n\n", Drop),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n", Drop),
        // The target goes before the field.
        (
            "GET http://ads.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n",
            Drop,
        ),
        (
            "GET http://good.example/ HTTP/1.1\r\nHost: ads.example\r\n\r\n",
            Allow,
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
        ("GET / HTTP/1.1\r\nHost: ads.example..\r\n\r\n", Allow),
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

/// Below a name is whatever ends in it, as servers that answer for all below it see it.
#[test]
fn no_label_is_too_strange_to_be_below_a_name() {
    let long = format!("{}.ads.example", "x".repeat(80));
    for (field, asked) in [
        (SNI, &*long),
        (SNI, "a b.ads.example"),
        (SNI, "\u{fc}.ads.example"),
        (HTTP, &*long),
        (HTTP, "a!b.ADS.example:80"),
        (HTTP, "a..ads.example"),
    ] {
        let mut client = Client::new(policy(vec![hosts(Action::Deny, field, &["*.ads.example"])]));
        assert_eq!(client.send(&field.first_bytes(asked)), Drop, "{asked}");
    }
}

#[test]
fn the_name_of_tls_behind_a_proxy_is_seen() {
    let connect = b"CONNECT good.example:443 HTTP/1.1\r\nHost: good.example:443\r\n\r\n";
    for with_http in [false, true] {
        let mut rules = vec![hosts(Action::Deny, SNI, &["ads.example"])];
        rules.extend(with_http.then(|| hosts(Action::Deny, HTTP, &["ads.example"])));
        let mut client = Client::new(policy(rules));
        assert_eq!(client.send(connect), Allow);
        assert_eq!(client.send(&SNI.first_bytes("ads.example")), Drop);
    }
}

/// An allow list: the named ones pass, whoever names another does not, and what names nobody is not looked at.
#[test]
fn an_allow_list_of_names() {
    let list = |field| {
        policy(vec![
            hosts(Action::Allow, field, &[".good.example"]),
            hosts(Action::Deny, field, &["*"]),
        ])
    };
    for (field, asked, verdict) in [
        (SNI, "www.good.example", Allow),
        (SNI, "bad.example", Drop),
        (SNI, "192.0.2.1", Drop),
        (HTTP, "good.example", Allow),
        (HTTP, "bad.example", Drop),
        (HTTP, "127.1", Drop),
        (SNI, "bad.example\0.good.example", Drop),
        (HTTP, "bad.example/.good.example", Drop),
        (HTTP, "bad.example .good.example", Drop),
    ] {
        let mut client = Client::new(list(field));
        assert_eq!(client.send(&field.first_bytes(asked)), verdict, "{asked}");
    }
    let mut client = Client::new(list(HTTP));
    assert_eq!(client.send(&get("good.example")), Allow);
    let both = [get("good.example"), get("bad.example")].concat();
    assert_eq!(client.send(&both), Drop, "no host passes beside another");
    let mut client = Client::new(list(HTTP));
    let head = b"GET / HTTP/1.1\r\nHost: good.example\r\nHost: www.good.example\r\n\r\n";
    assert_eq!(
        client.send(head),
        Drop,
        "what has two readings is not let pass"
    );
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

#[test]
fn who_sends_gaps_gains_nothing() {
    let plan = policy(vec![hosts(Action::Deny, HTTP, &["ads.example"])]);
    let mut bench = Bench::new(plan);
    let asked = |bench: &mut Bench, sequence: u32, payload: &[u8]| {
        let packet = tcp(CLIENT, 5_000, HOST, 443, ACK, sequence, payload);
        bench
            .asked(Known::again(Tracked::Established), &packet)
            .verdict
    };
    let _ = asked(&mut bench, 99, b"");
    let _ = asked(&mut bench, 100, b"GET ");
    let mut refused = 0;
    for at in 0..60_u32 {
        let begin = 200 + at * 50_000;
        refused += u32::from(asked(&mut bench, begin, &[b'x'; 50_000]) == Drop);
    }
    assert!(refused > 20, "{refused}");
    assert_eq!(
        asked(&mut bench, 104, b"/ HTTP/1.1\r\nHost: ads.example\r\n\r\n"),
        Drop
    );
}

#[test]
fn what_is_over_the_rate_does_not_pass_when_it_comes_again() {
    let rate = Rate {
        amount: 1.try_into().unwrap(),
        unit: RateUnit::Connections,
        per: std::time::Duration::from_secs(60),
        burst: 1.try_into().unwrap(),
    };
    let rule = Rule {
        rate: Some(rate),
        ..hosts(Action::Limit, SNI, &["a.example"])
    };
    let hello = SNI.first_bytes("a.example");
    let mut client = Client::new(policy(vec![rule]));
    assert_eq!(client.send(&hello), Allow);
    let second = |client: &mut Client, flags, sequence, payload: &[u8]| {
        let packet = tcp(CLIENT, 5_001, HOST, 443, flags, sequence, payload);
        client.bench.verdict(In, &packet)
    };
    assert_eq!(second(&mut client, SYN, 99, b""), Allow);
    let answer = acknowledging(100, tcp(HOST, 443, CLIENT, 5_001, SYN_ACK, 499, b""));
    assert_eq!(client.bench.verdict(Out, &answer), Allow);
    for _ in 0..3 {
        assert_eq!(second(&mut client, ACK, 100, &hello), Drop);
    }
    client.bench.pass(60_000);
    assert_eq!(second(&mut client, ACK, 100, &hello), Allow);
    let next = 100 + hello.len() as u32;
    assert_eq!(
        second(&mut client, ACK, next, b"\x17\x03\x03\0\x01\0"),
        Allow
    );
}

#[test]
fn a_probe_asks_for_a_host() {
    let bench = Bench::new(policy(vec![hosts(Action::Deny, SNI, &["*.ads.example"])]));
    for (host, verdict) in [("www.ads.example", Drop), ("ads.example", Allow)] {
        let probe = Probe {
            direction: In,
            protocol: policy::protocol::TCP,
            source: CLIENT.parse().unwrap(),
            destination: HOST.parse().unwrap(),
            source_port: Some(5_000),
            destination_port: Some(443),
            icmp: None,
            interface: None,
            payload: SNI.first_bytes(host),
        };
        assert_eq!(bench.engine.test(bench.now, &probe).verdict, verdict);
    }
}

/// The message in records of at most so many bytes.
fn records(hello: &[u8], size: usize) -> Vec<u8> {
    let parts = hello[5..].chunks(size).flat_map(|part| {
        let [high, low] = (part.len() as u16).to_be_bytes();
        [&[22, 3, 1, high, low][..], part].concat()
    });
    parts.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the bytes are cut into records and segments, and in whatever order they come, the name is found; the segment that
    /// completes it does not pass, and another name does.
    #[test]
    fn no_cut_hides_a_name(
        field in prop::sample::select(vec![SNI, HTTP]),
        is_ads in any::<bool>(),
        size in 1_usize..80,
        mut cuts in prop::collection::vec(0_usize..400, 0..12),
        order in any::<u64>(),
    ) {
        let host = if is_ads { "www.ads.example" } else { "www.good.example" };
        let bytes = match field {
            SNI => records(&field.first_bytes(host), size),
            HTTP => [get("first.example"), get(host)].concat(),
        };
        cuts.extend([0, bytes.len()]);
        cuts.retain(|cut| *cut <= bytes.len());
        cuts.sort_unstable();
        cuts.dedup();
        let mut pieces: Vec<(usize, usize)> = cuts.windows(2).map(|cut| (cut[0], cut[1])).collect();
        pieces.sort_by_key(|(from, _)| (*from as u64 + 1).wrapping_mul(order | 1));
        let rules = [SNI, HTTP].map(|field| hosts(Action::Deny, field, &["*.ads.example"]));
        let mut client = Client::new(policy(rules.into()));
        let verdicts: Vec<Verdict> = pieces
            .into_iter()
            .map(|(from, to)| client.at(100 + from as u32, &bytes[from..to]).verdict)
            .collect();
        let (last, before) = verdicts.split_last().unwrap();
        let dropped = before.iter().filter(|verdict| **verdict == Drop).count() + usize::from(*last == Drop);
        prop_assert_eq!(dropped > 0, is_ads, "{:?}", verdicts);
        prop_assert_eq!(told(&mut client.bench).len(), usize::from(is_ads));
    }
}

#[test]
fn each_cut_of_a_hello_and_of_a_request_shows_the_name() {
    for field in HostField::ALL {
        let bytes = field.first_bytes("ads.example");
        for at in 1..bytes.len() {
            let mut client =
                Client::new(policy(vec![hosts(Action::Deny, field, &["ads.example"])]));
            let (first, second) = bytes.split_at(at);
            assert_eq!(client.send(first), Allow, "{field:?} {at}");
            assert_eq!(client.send(second), Drop, "{field:?} {at}");
        }
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
    }
}

/// Lists change and policies are reloaded while segments that were dropped are sent again.
#[test]
fn a_reload_is_no_way_out() {
    let plan = || {
        policy(vec![
            hosts(Action::Deny, SNI, &["ads.example"]),
            hosts(Action::Deny, HTTP, &["ads.example"]),
        ])
    };
    for field in HostField::ALL {
        let bytes = field.first_bytes("ads.example");
        let (first, second) = bytes.split_at(bytes.len() - 4);
        let mut client = Client::new(plan());
        assert_eq!(client.send(first), Allow);
        client.bench.engine.reload(plan().into());
        assert_eq!(client.send(second), Drop);
        let mut others = plan();
        others.rules.insert(0, tcp_port(Action::Deny, 9));
        for (id, rule) in (0..).zip(&mut others.rules) {
            rule.id = RuleId(id);
        }
        client.bench.engine.reload(others.into());
        assert_eq!(client.send(second), Drop);
        // What the policy does not name any more passes.
        client.bench.engine.reload(policy(Vec::new()).into());
        assert_eq!(client.send(second), Allow);
    }
    // In the middle of a body.
    let mut client = Client::new(plan());
    assert_eq!(
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n\0\0\0"),
        Allow
    );
    client.bench.engine.reload(plan().into());
    let rest = [&b"\0\0\0\0\0"[..], &get("ads.example")].concat();
    assert_eq!(client.send(&rest), Drop);
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
