//! What a decision costs with 10, 100, 1,000 and 10,000 rules: first packets of flows, which ask the rules, and packets of
//! established flows, which do not.

use std::sync::Arc;

use engine::{Arrival, Engine, Setup};
use policy::{
    Action, AddressMatch, AddressSet, Defaults, Direction, Directions, Plan, PortSet, Position,
    Protocols, Rule, RuleId, Timestamp,
};

use super::packets::Frame;
use super::report::{Figure, Target, median};
use super::timed;

const SIZES: [u32; 4] = [10, 100, 1_000, 10_000];
const PACKETS: u32 = 200_000;
const ROUNDS: usize = 7;

/// Rules as people write them: sources of all sizes, services, some both. All deny, so that every size does the same work
/// but for finding the rule: what is allowed enters the flow table, which costs more than the rules do.
fn rules(count: u32) -> Vec<Rule> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u32| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % below
    };
    (0..count)
        .map(|id| {
            let length = [16, 24, 24, 32, 32][random(5) as usize];
            let network = ipnet::Ipv4Net::new(
                std::net::Ipv4Addr::from_bits(0x0b00_0000 | random(1 << 24)),
                length,
            );
            let from = match (random(4), network) {
                (0, _) | (_, Err(_)) => AddressMatch::Any,
                (_, Ok(network)) => AddressMatch::Of {
                    inline: std::iter::once(ipnet::IpNet::V4(network)).collect(),
                    sets: vec![],
                },
            };
            let first = 1 + random(9_000) as u16;
            let port = match (random(3), &from) {
                (0, AddressMatch::Of { .. }) => PortSet::Any,
                (1, _) => PortSet::from_ranges([(first, first + random(20) as u16)]),
                _ => PortSet::from_ranges([(first, first)]),
            };
            Rule {
                id: RuleId(id),
                name: format!("rule {id}"),
                action: Action::Deny,
                directions: Directions::one(Direction::In),
                protocols: Protocols::one([6, 17][random(2) as usize]),
                from,
                to: AddressMatch::Any,
                source_port: PortSet::Any,
                port,
                interface: None,
                log: false,
                content: None,
                rate: None,
                expires: None,
                position: Position::default(),
            }
        })
        .collect()
}

fn engine(count: u32) -> Engine {
    let plan = Plan {
        essentials: true,
        default: Defaults::default(),
        rules: rules(count),
        ..Plan::default()
    };
    Engine::new(Setup {
        plan: Arc::new(plan),
        own: AddressSet::default(),
        protected: AddressSet::default(),
        seed: 7,
    })
}

/// Nanoseconds a packet, whole `handle` with parsing.
fn measure(engine: &mut Engine, frames: &[Vec<u8>], now: &mut u64) -> f64 {
    let ((), elapsed) = timed(|| {
        for frame in frames {
            *now += 1_000;
            let arrival = Arrival {
                now: Timestamp::from_nanos(*now),
                direction: Some(Direction::In),
                interface: None,
                wire_len: frame.len() as u32,
                known: None,
            };
            let parsed = wire::parse(wire::Link::Ethernet, frame, frame.len());
            std::hint::black_box(engine.handle(&arrival, parsed));
            while engine.poll_event().is_some() {}
        }
    });
    elapsed.as_nanos() as f64 / frames.len() as f64
}

/// First packets of flows: SYNs to random ports from random sources, most of them denied, as on the Internet.
fn first_packets() -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    (0..PACKETS)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let mut bytes = Vec::new();
            Frame {
                source: 0x0b00_0000 | (state >> 40) as u32,
                destination: 0x0a00_0001,
                protocol: if state >> 39 & 1 == 0 { 6 } else { 17 },
                source_port: (state >> 20) as u16,
                port: 1 + ((state >> 24) as u32 % 9_000) as u16,
                flags: 2,
                payload: 0,
            }
            .write(&mut bytes);
            bytes
        })
        .collect()
}

pub(super) fn run() -> Vec<Figure> {
    let frames = first_packets();
    let mut engines: Vec<Engine> = SIZES.iter().map(|&size| engine(size)).collect();
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); SIZES.len()];
    let mut now = 1_000_000_000_000_000_000;
    for _ in 0..ROUNDS {
        for (engine, costs) in engines.iter_mut().zip(&mut costs) {
            costs.push(measure(engine, &frames, &mut now));
        }
    }
    println!(
        "decide, first packets of flows (parse, bans, flow table, rules, default), interleaved, medians of {ROUNDS}"
    );
    println!(
        "{:>8}  {:>10}  {:>12}",
        "rules", "ns/packet", "× of 10 rules"
    );
    let base = median(costs[0].clone());
    let mut growth = f64::NAN;
    for (size, costs) in SIZES.iter().zip(costs) {
        let cost = median(costs);
        growth = cost / base;
        println!("{size:>8}  {cost:>10.1}  {growth:>12.2}");
    }
    vec![Figure::new(
        "decide: cost of 10,000 rules beside 10",
        growth,
        "×",
        Target::Below(2.0),
    )]
}
