//! Rules that name the servers that clients ask for: `sni` and `http_host`.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod http;
mod rules;
mod served;
mod tls;

use Direction::{In, Out};
use Verdict::Allow;
use common::*;
use engine::{Alert, EventBody, Verdict};
use policy::{Action, Content, Direction, HostField, HostPattern, Plan, Rule};

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
