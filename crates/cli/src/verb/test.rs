//! `test`: what would become of a packet, asked of the daemon or judged here by a policy file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::api::{TestRequest, TestResult};
use engine::{Engine, Setup};
use policy::{AddressSet, Witness};

use crate::args::{self, DEFAULT_POLICY};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::screen::{Screen, Tone, visible};
use crate::{source, tuple};

/// Judges each packet.
pub(super) fn test(
    socket: &Path,
    asked: &args::Test,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let packets = packets(asked)?;
    let results = match &asked.config {
        Some(file) => judge(&packets, file)?,
        None => {
            let request = TestRequest {
                packets: packets.iter().map(tuple::request).collect(),
            };
            match Client::new(socket)?.post("test", &request) {
                Err(Failure::NotRunning(_)) => judge(&packets, Path::new(DEFAULT_POLICY))?,
                answer => answer?,
            }
        }
    };
    let mut exit = Exit::Done;
    for result in &results {
        let decided = &result.decided;
        if decided.verdict != "allow" {
            exit = Exit::Found;
        }
        if asked.json {
            screen.json(result)?;
        } else {
            let verdict = screen.paint(Tone::of_verdict(&decided.verdict), &decided.verdict);
            screen.line(format!(
                "{verdict}: {}: {}",
                visible(&result.packet),
                visible(&decided.text)
            ))?;
        }
    }
    Ok(exit)
}

/// The packets of the command line or of the file; flags hold for all of them.
fn packets(asked: &args::Test) -> Result<Vec<Witness>, Failure> {
    let mut packets = Vec::new();
    if !asked.packet.is_empty() {
        packets.push(tuple::parse(&asked.packet.join(" ")).map_err(Failure::Usage)?);
    }
    if let Some(file) = &asked.file {
        let text = read(file).map_err(|why| Failure::file("read", file, &why))?;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let packet = tuple::parse(line).map_err(|why| {
                Failure::Usage(format!("{}:{}: {why}", file.display(), index + 1))
            })?;
            packets.push(packet);
        }
    }
    let payload = asked
        .payload
        .as_deref()
        .map(tuple::payload)
        .transpose()
        .map_err(Failure::Usage)?;
    for packet in &mut packets {
        if let Some(payload) = &payload {
            packet.payload.clone_from(payload);
        }
        if asked.interface.is_some() {
            packet.interface.clone_from(&asked.interface);
        }
    }
    Ok(packets)
}

fn read(file: &PathBuf) -> io::Result<String> {
    if file == Path::new("-") {
        io::read_to_string(io::stdin())
    } else {
        std::fs::read_to_string(file)
    }
}

/// By the policy alone: no bans, no flows, no addresses found.
fn judge(packets: &[Witness], file: &Path) -> Result<Vec<TestResult>, Failure> {
    let plan = Arc::new(source::load(file)?.into_plan());
    let engine = Engine::new(Setup {
        plan: Arc::clone(&plan),
        own: AddressSet::default(),
        protected: AddressSet::default(),
        seed: 0,
    });
    let now = source::now()?;
    Ok(packets
        .iter()
        .map(|packet| {
            let probe = tuple::probe(packet);
            daemon::guard::result(&plan, &probe, engine.test(now, &probe))
        })
        .collect())
}
