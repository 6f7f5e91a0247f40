//! Ways around a content rule: what its receiver would put together must not differ from what was looked at.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod begins;
#[path = "../common/mod.rs"]
mod common;
mod ends;
mod hits;
mod lost;
mod memory;
mod proof;
mod segments;

use Verdict::Allow;
use common::*;
use engine::{Decision, Invalid, Known, Reason, Tracked, Verdict};
use policy::{Action, Content, Pattern, Plan, Rule, Scope};

const PORT: u16 = 80;
const DEPTH: u32 = 16_384;
const AMBIGUOUS: Reason = Reason::Invalid(Invalid::StreamAmbiguous);

fn no_evil() -> Plan {
    plan(vec![
        Rule {
            content: Some(Content {
                pattern: Some(Pattern::Contains {
                    bytes: b"EVIL".to_vec(),
                    ignore_case: false,
                }),
                min_len: 1,
                max_len: None,
                scope: Scope::Stream { depth: DEPTH },
                every_packet: false,
            }),
            ..tcp_port(Action::Deny, PORT)
        },
        tcp_port(Action::Allow, PORT),
    ])
}

/// A client's connection, of which the kernel shows the inbound packets.
struct Connection {
    bench: Bench,
    port: u16,
}

impl Connection {
    fn open() -> Self {
        let mut connection = Self {
            bench: Bench::new(no_evil()),
            port: 40_000,
        };
        connection.syn(99, b"");
        connection
    }

    fn syn(&mut self, sequence: u32, payload: &[u8]) {
        let packet = tcp(CLIENT, self.port, HOST, PORT, SYN, sequence, payload);
        assert_eq!(
            self.bench
                .asked(Known::again(Tracked::New), &packet)
                .verdict,
            Allow
        );
    }

    /// Another SYN, of a connection that the kernel calls new.
    fn again(&mut self, sequence: u32) -> Reason {
        let packet = tcp(CLIENT, self.port, HOST, PORT, SYN, sequence, b"");
        self.bench.asked(Known::again(Tracked::New), &packet).reason
    }

    fn flags(&mut self, flags: u8, offset: u32, payload: &[u8]) -> Decision {
        let packet = tcp(
            CLIENT,
            self.port,
            HOST,
            PORT,
            flags,
            100_u32.wrapping_add(offset),
            payload,
        );
        self.bench
            .asked(Known::again(Tracked::Established), &packet)
    }

    fn send(&mut self, offset: u32, payload: &[u8]) -> Decision {
        self.flags(ACK, offset, payload)
    }

    /// The server's SYN+ACK.
    fn answer(&mut self, sequence: u32, acknowledged: u32) {
        let packet = tcp(HOST, PORT, CLIENT, self.port, SYN_ACK, sequence, b"");
        let known = Known::again(Tracked::Reply { is_open: false });
        self.bench
            .asked(known, &acknowledging(acknowledged, packet));
    }

    /// A segment that connection tracking picks up, as it has forgotten the connection.
    fn pick_up(&mut self, flags: u8, sequence: u32, payload: &[u8]) -> Reason {
        let packet = tcp(CLIENT, self.port, HOST, PORT, flags, sequence, payload);
        let known = Known {
            is_first: true,
            ..Known::again(Tracked::New)
        };
        self.bench.asked(known, &packet).reason
    }
}
