//! Packets a second of replay on one core, beside Scapy and `tcpdump -r` with a filter, on the same capture.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, ensure};
use engine::{Arrival, Engine, Setup, Totals};
use kernel::replay::Replay;
use kernel::source::Source;
use policy::{
    Action, AddressMatch, AddressSet, Direction, Directions, Plan, PortSet, Position, Protocols,
    Rule, RuleId,
};

use super::packets::conversation;
use super::report::{Figure, Target, median};
use super::timed;

const ROUNDS: usize = 5;
/// Scapy is given a part: it takes minutes for the whole.
const SCAPY_PACKETS: u64 = 20_000;

fn write_capture(path: &Path, packets: u64) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1];
    for word in header {
        out.write_all(&word.to_le_bytes())?;
    }
    let (mut written, mut open, mut next) = (0, Vec::new(), 0);
    let mut bytes = Vec::new();
    // A thousand conversations at a time, a packet of each in turn.
    while written < packets {
        while open.len() < 1_000 {
            open.push(conversation(next).into_iter());
            next += 1;
        }
        open.retain_mut(|frames| {
            let Some(frame) = frames.next().filter(|_| written < packets) else {
                return false;
            };
            frame.write(&mut bytes);
            let length = bytes.len() as u32;
            let record = [
                1_700_000_000 + (written / 1_000_000) as u32,
                (written % 1_000_000) as u32,
                length,
                length,
            ];
            let head = record
                .into_iter()
                .flat_map(u32::to_le_bytes)
                .collect::<Vec<u8>>();
            let done = out.write_all(&head).and_then(|()| out.write_all(&bytes));
            written += 1;
            done.is_ok()
        });
    }
    out.flush()?;
    Ok(())
}

fn plan() -> Plan {
    let allow = |id, protocol, port| Rule {
        id: RuleId(id),
        name: String::new(),
        action: Action::Allow,
        directions: Directions::one(Direction::In),
        protocols: Protocols::one(protocol),
        from: AddressMatch::Any,
        to: AddressMatch::Any,
        source_port: PortSet::Any,
        port: PortSet::from_ranges([(port, port)]),
        interface: None,
        log: false,
        content: None,
        rate: None,
        expires: None,
        position: Position::default(),
    };
    let mut plan = Plan {
        essentials: true,
        rules: vec![allow(0, 6, 443), allow(1, 17, 53)],
        ..Plan::default()
    };
    plan.detect = policy::Detect::standard();
    plan.detect.rate = Some(policy::RateLimit {
        established: true,
        ..policy::RateLimit::default()
    });
    plan
}

fn replay(path: &Path) -> anyhow::Result<Totals> {
    let setup = Setup {
        plan: Arc::new(plan()),
        own: AddressSet::default(),
        protected: AddressSet::default(),
        seed: 7,
    };
    let mut engine = Engine::new(setup);
    let mut source = Replay::open(path)?;
    while let Some(captured) = source.next()? {
        let arrival = Arrival {
            now: captured.timestamp,
            direction: captured.direction,
            interface: captured.interface,
            wire_len: captured.wire_len as u32,
            known: None,
        };
        let Some(link) = captured.link else { continue };
        engine.handle(
            &arrival,
            wire::parse(link, captured.bytes, captured.wire_len),
        );
        while let Some(event) = engine.poll_event() {
            std::hint::black_box(event);
        }
    }
    Ok(*engine.totals())
}

const SCAPY: &str = "
import sys
from scapy.utils import RawPcapReader
from scapy.layers.l2 import Ether
from scapy.layers.inet import IP, TCP, UDP
seen, dropped, ports = 0, 0, {}
for data, _ in RawPcapReader(sys.argv[1]):
    packet = Ether(data)
    seen += 1
    if IP in packet:
        layer = packet[TCP] if TCP in packet else packet[UDP] if UDP in packet else None
        if layer is not None:
            ports.setdefault(packet[IP].src, {})[layer.dport] = seen
            if layer.dport not in (443, 53) and layer.sport not in (443, 53):
                dropped += 1
print(seen, dropped)
";

fn peer(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("the peer does not start")?;
    ensure!(status.success(), "the peer failed: {status}");
    Ok(())
}

pub(super) fn run(packets: u64) -> anyhow::Result<Vec<Figure>> {
    let folder = std::env::temp_dir().join(format!("portcullis-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = compare(&folder, packets);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn compare(folder: &Path, packets: u64) -> anyhow::Result<Vec<Figure>> {
    let (capture, small) = (folder.join("all.pcap"), folder.join("part.pcap"));
    write_capture(&capture, packets)?;
    write_capture(&small, SCAPY_PACKETS)?;
    let mut rates: [Vec<f64>; 3] = Default::default();
    let mut totals = Totals::default();
    for _ in 0..ROUNDS {
        let (outcome, ours) = timed(|| replay(&capture));
        totals = outcome?;
        rates[0].push(packets as f64 / ours.as_secs_f64());
        let (outcome, theirs) = timed(|| {
            let filter = "tcp dst port 443 or udp dst port 53";
            peer(
                Command::new("tcpdump")
                    .args(["-n", "-w", "/dev/null", "-r"])
                    .arg(&capture)
                    .arg(filter),
            )
        });
        outcome?;
        rates[1].push(packets as f64 / theirs.as_secs_f64());
        let (outcome, theirs) = timed(|| {
            peer(
                Command::new("/usr/bin/python3")
                    .args(["-c", SCAPY])
                    .arg(&small),
            )
        });
        outcome?;
        rates[2].push(SCAPY_PACKETS as f64 / theirs.as_secs_f64());
    }
    let [ours, tcpdump, scapy] = rates.map(median);
    println!(
        "replay on one core: parse, flow table, rules, detectors; {packets} packets, medians of {ROUNDS}, interleaved"
    );
    println!("{totals:?}");
    println!("{:>24}  {:>12}  {:>8}", "", "packets/s", "ratio");
    println!("{:>24}  {ours:>12.0}  {:>8}", "portcullis", "");
    println!(
        "{:>24}  {tcpdump:>12.0}  {:>7.2}×",
        "tcpdump -r with a filter",
        ours / tcpdump
    );
    println!("{:>24}  {scapy:>12.0}  {:>7.0}×", "Scapy", ours / scapy);
    Ok(vec![
        Figure::new(
            "replay: packets/s on one core",
            ours / 1e6,
            "M/s",
            Target::AtLeast(3.0),
        ),
        Figure::new(
            "replay: packets/s beside Scapy",
            ours / scapy,
            "×",
            Target::AtLeast(300.0),
        ),
        Figure::new(
            "replay: packets/s beside tcpdump -r with a filter",
            ours / tcpdump,
            "×",
            Target::Open,
        ),
    ])
}
