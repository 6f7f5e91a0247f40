//! Sends any bytes as one side of a TCP stream, whole and cut, and checks what must hold for any bytes. Shared by the tests and
//! the fuzz targets.
#![allow(dead_code, reason = "each test and fuzz target uses its part of these")]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use engine::{Alert, Arrival, Engine, EventBody, Known, Setup, Tracked, Verdict};
use policy::names::{NameFilterBuilder, Pattern, Source};
use policy::{
    Action, AddressMatch, AddressSet, Content, Direction, Directions, DnsAnswer, DnsFilter, DnsLog,
    HostField, HostPattern, Plan, PortSet, Position, Protocols, Rule, RuleId, Timestamp,
};
use wire::Link;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// More than any packet holds.
const WHOLE: usize = 60_000;
const CLIENT: [u8; 4] = [203, 0, 113, 7];
const SERVER: [u8; 4] = [192, 0, 2, 1];

/// What rules and `[dns]` forbid to ask for, beside all that is below it.
pub(crate) const FORBIDDEN: &str = "ads.example";

static HOST_PLAN: LazyLock<Arc<Plan>> = LazyLock::new(host_plan);
static DNS_PLAN: LazyLock<Arc<Plan>> = LazyLock::new(dns_plan);

/// What became of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Something of it did not pass; all behind that counts no more.
    pub(crate) is_stopped: bool,
    /// The forbidden hosts that were told, or the questions until then.
    pub(crate) told: Vec<String>,
}

/// Takes places to cut at off the input: a byte with their number, and two bytes for each.
pub(crate) fn cuts_and_stream(input: &[u8]) -> (Vec<usize>, &[u8]) {
    let Some((&count, rest)) = input.split_first() else {
        return (Vec::new(), input);
    };
    let places = usize::from(count % 16).min(rest.len() / 2);
    let (places, stream) = rest.split_at(places * 2);
    let mut cuts: Vec<usize> = places
        .chunks(2)
        .map(|place| usize::from(u16::from_le_bytes([place[0], place[1]])) % (stream.len() + 1))
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    (cuts, stream)
}

/// The bytes as requests, hellos or anything: the same hosts are found however they are cut. What became of the whole is given.
pub(crate) fn every_cut_of_requests(cuts: &[usize], stream: &[u8]) -> Outcome {
    every_cut(&HOST_PLAN, 80, false, cuts, stream)
}

/// The bytes as a stream to a name server: the same questions are found however they are cut.
pub(crate) fn every_cut_of_questions(cuts: &[usize], stream: &[u8]) -> Outcome {
    every_cut(&DNS_PLAN, 53, true, cuts, stream)
}

/// Whether the bytes as a datagram to a name server pass.
pub(crate) fn question_passes(message: &[u8]) -> bool {
    let mut engine = engine(&DNS_PLAN);
    let mut packet = ipv4(17, 8 + message.len());
    packet.extend(40_000_u16.to_be_bytes());
    packet.extend(53_u16.to_be_bytes());
    packet.extend((8 + message.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(message);
    ask(&mut engine, known(true, true), &packet) == Verdict::Allow
}

fn every_cut(
    plan: &Arc<Plan>,
    port: u16,
    is_accepted: bool,
    cuts: &[usize],
    stream: &[u8],
) -> Outcome {
    let whole: Vec<&[u8]> = stream.chunks(WHOLE).collect();
    let whole = send(plan, port, is_accepted, &whole);
    let mut pieces = Vec::new();
    let mut at = 0;
    for &cut in cuts.iter().chain([&stream.len()]) {
        pieces.extend(stream[at..cut].chunks(WHOLE));
        at = cut;
    }
    assert_eq!(
        send(plan, port, is_accepted, &pieces),
        whole,
        "cut at {cuts:?}"
    );
    if stream.len() < 512 {
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(
            send(plan, port, is_accepted, &single),
            whole,
            "single bytes"
        );
    }
    whole
}

/// Sends the pieces, until one does not pass.
fn send(plan: &Arc<Plan>, port: u16, is_accepted: bool, pieces: &[&[u8]]) -> Outcome {
    let mut engine = engine(plan);
    let mut outcome = Outcome::default();
    let syn = ask(
        &mut engine,
        known(is_accepted, true),
        &segment(port, SYN, 99, b""),
    );
    assert_eq!(syn, Verdict::Allow);
    let mut sequence = 100_u32;
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        let verdict = ask(
            &mut engine,
            known(is_accepted, false),
            &segment(port, ACK, sequence, piece),
        );
        if verdict != Verdict::Allow {
            outcome.is_stopped = true;
            break;
        }
        sequence = sequence.wrapping_add(piece.len() as u32);
    }
    while let Some(event) = engine.poll_event() {
        match event.body {
            EventBody::Alert(Alert::Content { host, .. }) => {
                outcome.told.extend(host.map(|host| host.host.to_string()));
            }
            EventBody::Dns(question) => outcome.told.push(question.name.to_string()),
            _ => {}
        }
    }
    outcome
}

/// What the kernel says of the first packet of a flow, or of another from the side that began it.
fn known(is_accepted: bool, is_first: bool) -> Known {
    let flow = if is_first {
        Tracked::New
    } else {
        Tracked::Established
    };
    Known {
        flow,
        is_first,
        is_accepted,
    }
}

fn engine(plan: &Arc<Plan>) -> Engine {
    Engine::new(Setup {
        plan: Arc::clone(plan),
        own: AddressSet::default(),
        protected: AddressSet::default(),
        seed: 7,
    })
}

fn ask(engine: &mut Engine, known: Known, packet: &[u8]) -> Verdict {
    let arrival = Arrival {
        now: Timestamp::from_secs(1_000_000),
        direction: Some(Direction::In),
        interface: Some("eth0"),
        wire_len: packet.len() as u32,
        known: Some(known),
    };
    let frame = wire::parse(Link::RawIp, packet, packet.len());
    engine.handle(&arrival, frame).verdict
}

/// The header of a packet that carries so many bytes.
fn ipv4(protocol: u8, len: usize) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + len as u16).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(CLIENT);
    packet.extend(SERVER);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    let mut sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn segment(port: u16, flags: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = ipv4(6, 20 + payload.len());
    packet.extend(40_000_u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0, u8::from(flags == ACK)]);
    packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(payload);
    packet
}

fn rule(id: u32, content: Option<Content>) -> Rule {
    Rule {
        id: RuleId(id),
        name: String::new(),
        action: if content.is_some() {
            Action::Deny
        } else {
            Action::Allow
        },
        directions: Directions::one(Direction::In),
        protocols: Protocols::ANY,
        from: AddressMatch::Any,
        to: AddressMatch::Any,
        source_port: PortSet::Any,
        port: PortSet::Any,
        interface: None,
        log: false,
        content,
        rate: None,
        expires: None,
        position: Position::default(),
    }
}

fn forbidden() -> String {
    format!(".{FORBIDDEN}")
}

fn host_plan() -> Arc<Plan> {
    let mut rules = Vec::new();
    for (id, field) in (0..).zip(HostField::ALL) {
        let hosts = HostPattern::parse(&forbidden(), field)
            .into_iter()
            .collect();
        rules.push(Rule {
            protocols: Protocols::one(policy::protocol::TCP),
            ..rule(id, Some(Content::of_hosts(field, hosts)))
        });
    }
    rules.push(rule(2, None));
    Arc::new(Plan {
        rules,
        ..Plan::default()
    })
}

fn dns_plan() -> Arc<Plan> {
    let mut names = NameFilterBuilder::new(7);
    let source = names.source(Source::List("ads.txt".to_owned()));
    let forbidden = forbidden();
    let pattern = Pattern::parse(&forbidden).expect("a name");
    names.block(&pattern, source).expect("room for one");
    Arc::new(Plan {
        rules: vec![rule(0, None)],
        dns: Some(DnsFilter {
            names: Arc::new(names.build()),
            answer: DnsAnswer::Zero,
            ports: PortSet::from_ranges([(53, 53)]),
            ttl: Duration::from_secs(60),
            log: DnsLog::All,
        }),
        ..Plan::default()
    })
}
