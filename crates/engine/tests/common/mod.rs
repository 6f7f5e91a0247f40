//! Packets and plans for tests.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several tests; inputs are constants"
)]

use std::net::IpAddr;
use std::sync::Arc;

use engine::{Arrival, Decision, Engine, Event, Known, Setup, Verdict};
use etherparse::PacketBuilder;
use ipnet::IpNet;
use policy::{
    Action, AddressMatch, AddressSet, Direction, Directions, Plan, PortSet, Position, Protocols,
    Rule, RuleId, Timestamp,
};
use wire::Link;

pub const URG: u8 = 0x20;
pub const SYN: u8 = 0x02;
pub const SYN_ACK: u8 = 0x12;
pub const ACK: u8 = 0x10;
pub const FIN_ACK: u8 = 0x11;
pub const RST: u8 = 0x04;

pub const CLIENT: &str = "203.0.113.7";
pub const HOST: &str = "192.0.2.1";
pub const CLIENT6: &str = "2001:db8:1::7";
pub const HOST6: &str = "2001:db8:2::1";

pub fn ip(source: &str, destination: &str) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => PacketBuilder::ipv4(a.octets(), b.octets(), 64),
        (IpAddr::V6(a), IpAddr::V6(b)) => PacketBuilder::ipv6(a.octets(), b.octets(), 64),
        _ => panic!("families differ"),
    }
}

pub fn tcp(
    source: &str,
    sport: u16,
    destination: &str,
    dport: u16,
    flags: u8,
    seq: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut step = ip(source, destination).tcp(sport, dport, seq, 1_000);
    for (bit, name) in [
        (0x01, 'f'),
        (0x02, 's'),
        (0x04, 'r'),
        (0x08, 'p'),
        (0x10, 'a'),
        (0x20, 'u'),
    ] {
        if flags & bit != 0 {
            step = match name {
                'f' => step.fin(),
                's' => step.syn(),
                'r' => step.rst(),
                'p' => step.psh(),
                'a' => step.ack(1),
                _ => step.urg(0),
            };
        }
    }
    let mut bytes = Vec::new();
    step.write(&mut bytes, payload).unwrap();
    bytes
}

/// The segment with another acknowledgement, and without a valid checksum, which nobody looks at.
pub fn acknowledging(number: u32, mut segment: Vec<u8>) -> Vec<u8> {
    let header = match segment[0] >> 4 {
        4 => usize::from(segment[0] & 15) * 4,
        _ => 40,
    };
    segment[header + 8..header + 12].copy_from_slice(&number.to_be_bytes());
    segment
}

/// A connection of the client's, from `port` and begun with a number, that is completed and that the server resets.
pub fn reset_connection(port: u16, begin: u32, service: u16) -> [(Direction, Vec<u8>); 4] {
    let (client, server) = (begin.wrapping_add(1), begin.wrapping_add(70_000));
    let segment = |flags, seq| tcp(CLIENT, port, HOST, service, flags, seq, b"");
    let answer = |flags, seq| tcp(HOST, service, CLIENT, port, flags, seq, b"");
    [
        (Direction::In, segment(SYN, begin)),
        (
            Direction::Out,
            acknowledging(client, answer(SYN_ACK, server)),
        ),
        (
            Direction::In,
            acknowledging(server + 1, segment(ACK, client)),
        ),
        (Direction::Out, answer(RST, server + 1)),
    ]
}

pub fn udp(source: &str, sport: u16, destination: &str, dport: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    ip(source, destination)
        .udp(sport, dport)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

pub fn ping(source: &str, destination: &str, id: u16, reply: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let step = ip(source, destination);
    match (source.contains(':'), reply) {
        (false, false) => step
            .icmpv4_echo_request(id, 1)
            .write(&mut bytes, b"ping")
            .unwrap(),
        (false, true) => step
            .icmpv4_echo_reply(id, 1)
            .write(&mut bytes, b"ping")
            .unwrap(),
        (true, false) => step
            .icmpv6_echo_request(id, 1)
            .write(&mut bytes, b"ping")
            .unwrap(),
        (true, true) => step
            .icmpv6_echo_reply(id, 1)
            .write(&mut bytes, b"ping")
            .unwrap(),
    }
    bytes
}

/// An ICMP "port unreachable" that quotes `packet`.
pub fn unreachable(source: &str, destination: &str, packet: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let quoted = &packet[..packet.len().min(128)];
    if source.contains(':') {
        ip(source, destination)
            .icmpv6(etherparse::Icmpv6Type::DestinationUnreachable(
                etherparse::icmpv6::DestUnreachableCode::Port,
            ))
            .write(&mut bytes, quoted)
            .unwrap();
    } else {
        ip(source, destination)
            .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(
                etherparse::icmpv4::DestUnreachableHeader::Port,
            ))
            .write(&mut bytes, quoted)
            .unwrap();
    }
    bytes
}

pub fn rule(action: Action) -> Rule {
    Rule {
        id: RuleId(0),
        name: String::new(),
        action,
        directions: Directions::ALL,
        protocols: Protocols::ANY,
        from: AddressMatch::Any,
        to: AddressMatch::Any,
        source_port: PortSet::Any,
        port: PortSet::Any,
        interface: None,
        log: false,
        content: None,
        rate: None,
        expires: None,
        position: Position::default(),
    }
}

pub fn tcp_port(action: Action, port: u16) -> Rule {
    Rule {
        directions: Directions::one(Direction::In),
        protocols: Protocols::one(policy::protocol::TCP),
        port: PortSet::from_ranges([(port, port)]),
        ..rule(action)
    }
}

pub fn from(prefixes: &[&str]) -> AddressMatch {
    AddressMatch::Of {
        inline: set(prefixes),
        sets: Vec::new(),
    }
}

pub fn set(prefixes: &[&str]) -> AddressSet {
    prefixes
        .iter()
        .map(|prefix| prefix.parse::<IpNet>().unwrap())
        .collect()
}

/// Default deny in, allow out; essentials on; detectors off.
pub fn plan(rules: Vec<Rule>) -> Plan {
    let rules = rules
        .into_iter()
        .enumerate()
        .map(|(place, rule)| Rule {
            id: RuleId(place as u32),
            ..rule
        })
        .collect();
    Plan {
        essentials: true,
        rules,
        ..Plan::default()
    }
}

pub struct Bench {
    pub engine: Engine,
    pub now: Timestamp,
}

impl Bench {
    pub fn new(plan: Plan) -> Self {
        let setup = Setup {
            plan: Arc::new(plan),
            own: AddressSet::default(),
            protected: AddressSet::default(),
            seed: 7,
        };
        Self {
            engine: Engine::new(setup),
            now: Timestamp::from_secs(1_000_000),
        }
    }

    pub fn pass(&mut self, millis: u64) {
        self.now = Timestamp::from_nanos(self.now.as_nanos() + millis * 1_000_000);
    }

    /// Hands in an IP packet going this way.
    pub fn packet(&mut self, direction: Direction, bytes: &[u8]) -> Decision {
        let arrival = Arrival {
            now: self.now,
            direction: Some(direction),
            interface: Some("eth0"),
            wire_len: bytes.len() as u32,
            known: None,
        };
        self.engine
            .handle(&arrival, wire::parse(Link::RawIp, bytes, bytes.len()))
    }

    /// Hands in an inbound packet that the kernel asks about.
    pub fn asked(&mut self, known: Known, bytes: &[u8]) -> Decision {
        self.asked_on_its_way(Direction::In, known, bytes)
    }

    /// Hands in a packet going this way that the kernel asks about.
    pub fn asked_on_its_way(
        &mut self,
        direction: Direction,
        known: Known,
        bytes: &[u8],
    ) -> Decision {
        let arrival = Arrival {
            now: self.now,
            direction: Some(direction),
            interface: Some("eth0"),
            wire_len: bytes.len() as u32,
            known: Some(known),
        };
        self.engine
            .handle(&arrival, wire::parse(Link::RawIp, bytes, bytes.len()))
    }

    pub fn verdict(&mut self, direction: Direction, bytes: &[u8]) -> Verdict {
        self.packet(direction, bytes).verdict
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.engine.poll_event()).collect()
    }
}
