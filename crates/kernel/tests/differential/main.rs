//! The defining test: the engine and nftables decide the same packets alike, proven by the packets that arrive.
//!
//! `PORTCULLIS_DIFFERENTIAL=POLICIES,PACKETS` sets its size (200,5000 unless it is set), `PORTCULLIS_SEED` its begin.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

extern crate portcullis_kernel as kernel;

mod packets;
mod policies;
mod random;
mod stage;
mod vlan;

use std::collections::HashSet;
use std::sync::Arc;

use engine::{Arrival, BanOrigin, Decision, Engine, Reason, Setup, Verdict};
use packets::Generated;
use policy::{AddressSet, Direction, Plan, Timestamp};
use random::Random;
use stage::{Seen, Stage};

/// The time in both worlds when no rule has a rate that time could change.
fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp::from_secs(since.as_secs())
}

fn size() -> (u32, u32) {
    let wanted = std::env::var("PORTCULLIS_DIFFERENTIAL").unwrap_or_else(|_| "200,5000".to_owned());
    let (policies, packets) = wanted.split_once(',').unwrap();
    (policies.parse().unwrap(), packets.parse().unwrap())
}

fn engine(plan: &Plan, bans: &[ipnet::IpNet]) -> Engine {
    let own: AddressSet = packets::OWN
        .iter()
        .map(|text| text.parse::<std::net::IpAddr>().unwrap())
        .collect();
    let mut engine = Engine::new(Setup {
        plan: Arc::new(plan.clone()),
        own,
        protected: AddressSet::default(),
        seed: 1,
    });
    for prefix in bans {
        // What holds a protected address is refused, and the daemon puts into the kernel what the engine took.
        let ban = engine::Ban {
            prefix: *prefix,
            origin: BanOrigin::Manual,
            reason: String::new(),
            since: now(),
            expires: Timestamp::MAX,
            times_banned: 1,
            offences: 0,
            grew_from: Vec::new(),
            would_be: false,
            evidence: None,
        };
        engine.restore_ban(ban, now()).ok();
    }
    engine
}

/// What the engine says of a generated datagram, by the packet that decided.
fn decide(engine: &mut Engine, generated: &Generated) -> Decision {
    let decisions: Vec<Decision> = generated
        .packets
        .iter()
        .map(|bytes| {
            let frame = generated.frame(bytes, [2, 0, 0, 0, 0, 2]);
            let arrival = Arrival {
                now: now(),
                direction: Some(generated.direction),
                interface: Some(generated.interface()),
                wire_len: frame.len() as u32,
                known: None,
            };
            let decision = engine.handle(
                &arrival,
                wire::parse(wire::Link::Ethernet, &frame, frame.len()),
            );
            while engine.poll_event().is_some() {}
            decision
        })
        .collect();
    // The one that let something pass, or that told the sender; or else the last that was more than "held".
    let passed = decisions
        .iter()
        .find(|decision| decision.verdict == Verdict::Allow);
    let told = decisions
        .iter()
        .find(|decision| decision.verdict == Verdict::Reject);
    let decided = decisions
        .iter()
        .rev()
        .find(|decision| !matches!(decision.reason, Reason::Fragment(_)));
    *passed.or(told).or(decided).or(decisions.last()).unwrap()
}

/// Whether a reject of this packet must be answered, and an answer can be told from one of the host itself.
fn must_be_told(generated: &Generated) -> bool {
    // Who sends from the firewall itself has no address there.
    if generated.direction == Direction::Out {
        return false;
    }
    let [bytes] = &generated.packets[..] else {
        return false;
    };
    let Ok(wire::Frame::Ip(packet)) = wire::parse(wire::Link::RawIp, bytes, bytes.len()) else {
        return false;
    };
    // The kernel does not answer what carries some options and extension headers.
    if packet.header_len() != if packet.is_ipv6() { 40 } else { 20 } {
        return false;
    }
    match packet.transport() {
        wire::Transport::Tcp(tcp) => !tcp.flags().rst() && !tcp.flags().is_impossible(),
        wire::Transport::Udp(_) => true,
        _ => false,
    }
}

/// What must come out, as the engine decided.
fn expected(generated: &[Generated], decisions: &[Decision], deliverable: &HashSet<u32>) -> Seen {
    let mut expected = Seen::default();
    for (generated, decision) in generated.iter().zip(decisions) {
        let passes = decision.verdict == Verdict::Allow;
        if passes && deliverable.contains(&generated.number) {
            expected.numbers.insert(generated.number);
        }
        if decision.verdict == Verdict::Reject && must_be_told(generated) {
            expected.told.insert(generated.number);
        }
    }
    expected
}

fn compare(
    plan: &Plan,
    generated: &[Generated],
    decisions: &[Decision],
    seen: &Seen,
    deliverable: &HashSet<u32>,
) -> Vec<String> {
    generated
        .iter()
        .zip(decisions)
        .filter_map(|(generated, decision)| {
            let arrived = seen.numbers.contains(&generated.number) && packets::number_of(generated.source).is_some();
            let passes = decision.verdict == Verdict::Allow;
            let told = seen.told.contains(&generated.number);
            let silent = decision.verdict == Verdict::Reject && must_be_told(generated) && !told;
            let loud = decision.verdict == Verdict::Drop && told;
            let undeliverable = generated.may_be_refused && passes && !deliverable.contains(&generated.number);
            let martian = packets::number_of(generated.source).is_none();
            if passes == arrived && !silent && !loud || martian && !passes || undeliverable {
                return None;
            }
            let rule = decision.reason.rule().and_then(|id| plan.rules.get(id.0 as usize));
            Some(format!(
                "packet {}: {}\n  bytes {:02x?}\n  engine: {} because {:?} {rule:#?}\n  kernel: {}, {}",
                generated.number,
                generated.what,
                generated.packets,
                decision.verdict,
                decision.reason,
                if arrived { "it arrived" } else { "it did not arrive" },
                if told { "its sender was told" } else { "its sender was not told" },
            ))
        })
        .collect()
}

#[test]
fn engine_and_nftables_agree_on_every_verdict() {
    if let Err(why) = lab::available() {
        eprintln!("SKIPPED: engine_and_nftables_agree_on_every_verdict: {why}");
        return;
    }
    let (policies, packets) = size();
    let seed: u64 = std::env::var("PORTCULLIS_SEED").map_or(1, |text| text.parse().unwrap());
    let stage = Stage::new().unwrap();
    // The way works: what is allowed does arrive, by every direction and family.
    let generate = |round| -> Vec<Generated> {
        let mut random = Random::new(seed);
        (1..=packets)
            .map(|number| packets::generate(number, round, &mut random))
            .collect()
    };
    let generated = generate(0);
    stage.open().unwrap();
    let deliverable = stage.send(&generated, &Seen::default()).unwrap().numbers;
    stage.close().unwrap();
    println!(
        "{} of {packets} packets are delivered when everything is allowed",
        deliverable.len()
    );
    for direction in Direction::ALL {
        let (mut sent, mut came) = (0, 0);
        for one in generated.iter().filter(|one| one.direction == direction) {
            sent += 1;
            came += u32::from(deliverable.contains(&one.number));
        }
        assert!(
            came * 2 > sent,
            "of {sent} packets {direction} only {came} can be seen"
        );
    }
    let mut allowed = 0;
    let mut refused = 0;
    for round in 0..policies {
        let generated = generate(round + 1);
        let mut random = Random::new(seed.wrapping_mul(1_000_003) + u64::from(round));
        let plan = policies::generate(&mut random);
        let bans = policies::bans(&mut random);
        let mut engine = engine(&plan, &bans);
        let bans: Vec<ipnet::IpNet> = engine.bans().map(|ban| ban.prefix).collect();
        stage.apply(&plan, &bans).unwrap();
        let decisions: Vec<Decision> = (generated.iter())
            .map(|one| decide(&mut engine, one))
            .collect();
        let expected = expected(&generated, &decisions, &deliverable);
        let seen = stage.send(&generated, &expected).unwrap();
        let differences = compare(&plan, &generated, &decisions, &seen, &deliverable);
        if !differences.is_empty() {
            let shown = differences
                .iter()
                .take(3)
                .cloned()
                .collect::<Vec<_>>()
                .join("\n");
            let table = stage.describe();
            if let Ok(path) = std::env::var("PORTCULLIS_DUMP") {
                std::fs::write(path, format!("{plan:#?}\n{bans:?}\n{table}")).unwrap();
            }
            panic!(
                "policy {round} of seed {seed}: {} of {} packets differ\n{shown}\nbans {bans:?} default {:?} essentials {} feeds {:?}",
                differences.len(),
                generated.len(),
                plan.default,
                plan.essentials,
                plan.feeds,
            );
        }
        let totals = engine.totals();
        allowed += totals.allowed;
        refused += totals.dropped + totals.rejected;
    }
    println!("{policies} policies × {packets} packets agree: {allowed} allowed, {refused} refused");
    assert!(
        allowed > u64::from(policies * packets) / 10,
        "hardly anything was allowed: the test shows nothing"
    );
    assert!(
        refused > u64::from(policies * packets) / 10,
        "hardly anything was refused: the test shows nothing"
    );
}
