//! How long a feed takes to be in force, and that its addresses are blocked all the while it is loaded anew.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::{Context, ensure};
use ipnet::{IpNet, Ipv4Net};
use kernel::datapath::{Apply, Datapath as _};
use kernel::nft::{Features, Nft};
use lab::Topology;
use policy::{Action, AddressSet, NamedSet, Plan, SetId};

use super::flood::Flood;
use super::plans::{UDP, plan, rule};
use super::report::{Figure, Target, go_on, median};

const PORT: u16 = 9_000;
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 1, 1), PORT);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
const ATTACKER: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);
/// Of 100,000 and of 1,000,000 addresses.
const LOADS: [(u32, usize, f64); 2] = [(100_000, 10, 1.0), (1_000_000, 3, f64::NAN)];

/// Single addresses and a tenth `/24`s, none next to another, and the attacker.
fn feed(count: u32) -> AddressSet {
    let others = (0..count - 1).map(|number| {
        let length = if number % 10 == 0 { 24 } else { 32 };
        let address = Ipv4Addr::from_bits(0x0b00_0000 + number * 512);
        // A length of at most 32 is always one.
        Ipv4Net::new(address, length).unwrap_or_default()
    });
    let attacker = Ipv4Net::from(ATTACKER);
    others.chain([attacker]).map(IpNet::V4).collect()
}

/// Everybody may send to the port but who is on the feed.
fn with_feed(count: u32) -> Plan {
    let mut plan = plan([rule(Action::Allow, UDP, PORT)]);
    plan.sets.push(NamedSet {
        name: "feed".to_owned(),
        addresses: feed(count),
    });
    plan.feeds.push(SetId(0));
    plan
}

pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    let lab = Topology::new()?;
    let receiver = lab.server.enter(|| UdpSocket::bind(SERVER))??;
    receiver.set_nonblocking(true)?;
    let friend = lab.client.enter(|| UdpSocket::bind("0.0.0.0:0"))??;
    friend.connect(SERVER)?;
    let features = lab.server.enter(Features::probe)??;
    let mut nft = Nft::new(features);
    let mut figures = Vec::new();
    for (count, rounds, target) in LOADS {
        let plan = with_feed(count);
        let request = Apply {
            plan: &plan,
            protected: &AddressSet::default(),
            queues: None,
        };
        let mut times = Vec::new();
        let apply = |nft: &mut Nft| -> anyhow::Result<f64> {
            go_on()?;
            let applied = lab.server.enter(|| nft.apply(&request))??;
            ensure!(
                applied.elements == count as usize,
                "{} of {count} addresses are loaded",
                applied.elements
            );
            Ok(applied.took.as_secs_f64())
        };
        // Before the feed is there, the attacker is heard: the check below can fail.
        lab.server.enter(|| nft.remove())??;
        let foe = lab.attacker.enter(|| UdpSocket::bind("0.0.0.0:0"))??;
        foe.connect(SERVER)?;
        let (from_attacker, from_client) = speak(&receiver, &[&foe, &friend])?;
        ensure!(
            from_attacker > 0 && from_client > 0,
            "without a ruleset both should be heard"
        );
        let first = apply(&mut nft)?;
        arrived(&receiver);
        let flood = Flood::start(&lab.attacker, SERVER, 1)?;
        let (mut passed, mut friendly) = (0, 0);
        for _ in 0..rounds {
            times.push(apply(&mut nft)?);
            let (from_attacker, from_client) = speak(&receiver, &[&friend])?;
            passed += from_attacker;
            friendly += usize::from(from_client > 0);
        }
        let sent = flood.sent();
        drop(flood);
        passed += arrived(&receiver).0;
        ensure!(sent > 0, "the attacker sent nothing");
        ensure!(
            passed == 0,
            "{passed} of {sent} packets of a listed address came through while its feed was loaded anew"
        );
        ensure!(
            friendly == rounds,
            "a friend was heard after {friendly} of {rounds} loads"
        );
        let took = median(times.clone());
        println!(
            "load: {count} addresses: {first:.2} s into an empty kernel, {took:.2} s anew (median of {rounds}, worst {:.2} s), \
             under a flood; 0 of {sent} packets of a listed address came through meanwhile",
            times.iter().copied().fold(0.0, f64::max)
        );
        figures.push(Figure::new(
            format!("load: {count} addresses anew, under a flood, no accept window"),
            took,
            "s",
            if target.is_nan() {
                Target::Open
            } else {
                Target::Below(target)
            },
        ));
        figures.push(Figure::new(
            format!("load: {count} addresses into an empty kernel"),
            first,
            "s",
            if target.is_nan() {
                Target::Open
            } else {
                Target::Below(target)
            },
        ));
    }
    lab.server.enter(|| nft.remove())??;
    Ok(figures)
}

/// Sends a few packets from each, and counts what arrives from attacker and client meanwhile.
fn speak(receiver: &UdpSocket, senders: &[&UdpSocket]) -> anyhow::Result<(usize, usize)> {
    for _ in 0..5 {
        for sender in senders {
            sender.send(b"hello").context("cannot send")?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(arrived(receiver))
}

/// Reads all that is there, and counts what came from attacker and client.
fn arrived(receiver: &UdpSocket) -> (usize, usize) {
    let mut buffer = [0; 64];
    let (mut attacker, mut client) = (0, 0);
    while let Ok((_, sender)) = receiver.recv_from(&mut buffer) {
        attacker += usize::from(sender.ip() == ATTACKER);
        client += usize::from(sender.ip() == CLIENT);
    }
    (attacker, client)
}
