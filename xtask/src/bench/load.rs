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
use super::peer::Folder;
use super::plans::{UDP, plan, rule};
use super::report::{Figure, Target, go_on, median, ratio};
use super::timed;

const PORT: u16 = 9_000;
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 1, 1), PORT);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
const ATTACKER: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);
/// Threads that flood.
const FLOODS: usize = 1;
/// nft with a million elements may take its time on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A feed of one size.
struct Case {
    count: u32,
    /// Loads of each kind on a quiet network.
    rounds: usize,
    /// Loads while the attacker sends.
    flooded: usize,
    target: Target,
}

const CASES: [Case; 2] = [
    Case {
        count: 100_000,
        rounds: 5,
        flooded: 5,
        target: Target::Below(1.0),
    },
    Case {
        count: 1_000_000,
        rounds: 1,
        flooded: 1,
        target: Target::Open,
    },
];

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
    let mut nft = Nft::new(lab.server.enter(Features::probe)??);
    let mut figures = Vec::new();
    for case in &CASES {
        figures.extend(times(&lab, &mut nft, case)?);
        no_window(&lab, &mut nft, case)?;
    }
    lab.server.enter(|| nft.remove())??;
    Ok(figures)
}

/// Puts the plan in force and gives the seconds that it took.
fn apply(lab: &Topology, nft: &mut Nft, plan: &Plan, count: u32) -> anyhow::Result<f64> {
    go_on()?;
    let request = Apply {
        plan,
        protected: &AddressSet::default(),
        queues: None,
        goes_on: false,
    };
    let applied = lab.server.enter(|| nft.apply(&request))??;
    ensure!(
        applied.elements == count as usize,
        "{} of {count} addresses are loaded",
        applied.elements
    );
    Ok(applied.took.as_secs_f64())
}

/// Into an empty kernel, over the same feed, and the same addresses in two bare sets by `nft -f` alone, in turn.
fn times(lab: &Topology, nft: &mut Nft, case: &Case) -> anyhow::Result<Vec<Figure>> {
    let count = case.count;
    let (plan, folder) = (with_feed(count), Folder::new("feed")?);
    let bare = folder.path().join("bare.nft");
    std::fs::write(&bare, bare_sets(&plan))?;
    let (mut empty, mut anew, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..case.rounds {
        lab.server.enter(|| nft.remove())??;
        empty.push(apply(lab, nft, &plan, count)?);
        anew.push(apply(lab, nft, &plan, count)?);
        go_on()?;
        let arguments = ["-f", &bare.display().to_string()];
        let (loaded, took) = timed(|| lab.client.output_within(PATIENCE, "nft", &arguments));
        ensure!(loaded?.status.success(), "nft does not load the bare sets");
        peer.push(took.as_secs_f64());
        lab.client
            .output_within(PATIENCE, "nft", &["delete", "table", "inet", "bare"])?;
    }
    let beside = ratio(&empty, &peer);
    let [empty, anew, peer] = [empty, anew, peer].map(median);
    println!(
        "load: {count} addresses, medians of {}: {empty:.2} s into an empty kernel, {anew:.2} s anew, {peer:.2} s as bare sets by nft -f",
        case.rounds
    );
    Ok(vec![
        Figure::new(
            format!("load: {count} addresses into an empty kernel"),
            empty,
            "s",
            case.target,
        ),
        Figure::new(
            format!("load: {count} addresses over the same, one transaction"),
            anew,
            "s",
            case.target,
        ),
        Figure::new(
            format!("load: time for {count} addresses beside nft -f of bare sets"),
            beside,
            "×",
            Target::Open,
        ),
    ])
}

/// The feed as a script without anything else: single addresses and prefixes apart.
fn bare_sets(plan: &Plan) -> String {
    let addresses = plan.sets.iter().flat_map(|set| set.addresses.prefixes());
    let (single, prefixes): (Vec<IpNet>, Vec<IpNet>) =
        addresses.partition(|prefix| prefix.prefix_len() == 32);
    let list = |of: &[IpNet]| {
        let texts: Vec<String> = of.iter().map(IpNet::to_string).collect();
        texts.join(",\n")
    };
    let single = list(&single).replace("/32", "");
    format!(
        "table inet bare {{\n\tset single {{ type ipv4_addr; elements = {{ {single} }} }}\n\
         \tset prefixes {{ type ipv4_addr; flags interval; elements = {{ {} }} }}\n}}\n",
        list(&prefixes)
    )
}

/// Loads the feed anew while the attacker, who is on it, floods the port: nothing of it may arrive, and the client must.
fn no_window(lab: &Topology, nft: &mut Nft, case: &Case) -> anyhow::Result<()> {
    let (count, plan) = (case.count, with_feed(case.count));
    let receiver = lab.server.enter(|| UdpSocket::bind(SERVER))??;
    receiver.set_nonblocking(true)?;
    let friend = lab.client.enter(|| UdpSocket::bind("0.0.0.0:0"))??;
    friend.connect(SERVER)?;
    // Before the feed is there, the attacker is heard: the check below can fail.
    lab.server.enter(|| nft.remove())??;
    let foe = lab.attacker.enter(|| UdpSocket::bind("0.0.0.0:0"))??;
    foe.connect(SERVER)?;
    let (from_attacker, from_client) = speak(&receiver, &[&foe, &friend])?;
    ensure!(
        from_attacker > 0 && from_client > 0,
        "without a ruleset both should be heard"
    );
    apply(lab, nft, &plan, count)?;
    arrived(&receiver);
    let flood = Flood::start(&lab.attacker, SERVER, FLOODS)?;
    let (mut passed, mut friendly, mut took) = (0, 0, Vec::new());
    for _ in 0..case.flooded {
        took.push(apply(lab, nft, &plan, count)?);
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
        friendly == case.flooded,
        "a friend was heard after {friendly} of {} loads",
        case.flooded
    );
    println!(
        "load: {count} addresses anew under a flood: {:.2} s (median of {}); none of {sent} packets of a listed address came through",
        median(took),
        case.flooded
    );
    Ok(())
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
