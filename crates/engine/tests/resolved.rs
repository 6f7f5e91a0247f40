//! Flows by the name that their client had resolved.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod common;

use common::*;
use engine::{EventBody, Verdict};
use policy::Direction::{In, Out};
use policy::{DefaultAction, Defaults, Plan};

const SERVER: &str = "198.51.100.53";

/// A question for the A record of `www.example`, or its answer.
fn message(answer: Option<[u8; 4]>) -> Vec<u8> {
    let (flags, count) = if answer.is_some() { (0x81, 1) } else { (1, 0) };
    let mut bytes = vec![0, 7, flags, 0, 0, 1, 0, count, 0, 0, 0, 0];
    bytes.extend(b"\x03www\x07example\0\0\x01\0\x01");
    if let Some(address) = answer {
        bytes.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04");
        bytes.extend(address);
    }
    bytes
}

fn bench() -> Bench {
    Bench::new(Plan {
        default: Defaults {
            inbound: DefaultAction::Deny,
            outbound: DefaultAction::Allow,
            forward: DefaultAction::Deny,
        },
        ..plan(Vec::new())
    })
}

/// The names of the flows to this address, at their ends.
fn names(bench: &mut Bench, address: &str) -> Vec<Option<String>> {
    while bench.engine.finish(bench.now) {}
    let events = bench.events().into_iter();
    let flows = events.filter_map(|event| match (event.tuple, event.body) {
        (Some(tuple), EventBody::Flow(flow)) if tuple.destination.to_string() == address => {
            Some(flow.name.map(|name| name.to_string()))
        }
        _ => None,
    });
    flows.collect()
}

#[test]
fn a_flow_is_known_by_the_name_that_was_asked_for() {
    let mut bench = bench();
    let ask = udp(HOST, 5_353, SERVER, 53, &message(None));
    let answer = udp(SERVER, 53, HOST, 5_353, &message(Some([203, 0, 113, 9])));
    // Before it was asked, and in another's name, an answer is none.
    assert_eq!(bench.verdict(In, &answer), Verdict::Drop);
    let begin = |bench: &mut Bench, port| {
        let syn = tcp(HOST, port, "203.0.113.9", 443, SYN, 1, b"");
        assert_eq!(bench.verdict(Out, &syn), Verdict::Allow);
    };
    begin(&mut bench, 1_000);
    bench.pass(1_000);
    assert_eq!(bench.verdict(Out, &ask), Verdict::Allow);
    assert_eq!(bench.verdict(In, &answer), Verdict::Allow);
    begin(&mut bench, 1_001);
    let live = bench
        .engine
        .flows()
        .filter(|(_, _, flow)| flow.name.is_some());
    assert_eq!(live.count(), 1);
    let mut found = names(&mut bench, "203.0.113.9");
    found.sort();
    assert_eq!(found, [None, Some("www.example".to_owned())]);
}
