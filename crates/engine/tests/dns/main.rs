//! Questions to name servers: which of them pass, over UDP and TCP, however they are cut.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

#[path = "../common/mod.rs"]
mod common;
mod datagrams;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use Verdict::{Allow, Drop, Reject};
use common::*;
use engine::{Arrival, Decision, DnsRefusal, EventBody, Known, Reason, Tracked, Verdict};
use policy::names::{NameFilterBuilder, Pattern, Source};
use policy::{Direction, DnsAnswer, DnsFilter, DnsLog, Plan, PortSet};
use wire::Link;
use wire::dns::Defect;

const BLOCK: &[&str] = &["ads.example", "*.below.example", ".both.example"];
const ALLOW: &[&str] = &["fine.both.example"];

fn filter(log: DnsLog) -> DnsFilter {
    let mut names = NameFilterBuilder::new(7);
    let source = names.source(Source::List("ads.txt".to_owned()));
    for name in BLOCK {
        names.block(&Pattern::parse(name).unwrap(), source).unwrap();
    }
    for name in ALLOW {
        names.allow(&Pattern::parse(name).unwrap(), source).unwrap();
    }
    DnsFilter {
        names: Arc::new(names.build()),
        answer: DnsAnswer::Zero,
        ports: PortSet::from_ranges([(53, 53)]),
        ttl: Duration::from_secs(60),
        log,
    }
}

fn dns_plan() -> Plan {
    let all = policy::Rule {
        log: false,
        ..rule(policy::Action::Allow)
    };
    Plan {
        dns: Some(filter(DnsLog::All)),
        ..plan(vec![all])
    }
}

fn bench() -> Bench {
    Bench::new(dns_plan())
}

/// A query for an A record.
fn query(name: &str) -> Vec<u8> {
    let mut bytes = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend(b"\0\0\x01\0\x01");
    bytes
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

fn ask(bench: &mut Bench, message: &[u8]) -> Decision {
    bench.packet(Direction::Out, &udp(HOST, 40_000, CLIENT, 53, message))
}

fn refusal(decision: &Decision) -> Option<DnsRefusal> {
    match decision.reason {
        Reason::Dns(refusal) => Some(refusal),
        _ => None,
    }
}
