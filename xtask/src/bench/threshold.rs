//! From the packet that makes a source an offender to its first packet that is dropped: the whole daemon, from NFLOG through
//! the engine to the ban in the kernel.
//!
//! Each source is denied four packets, then a fifth; from then on it sends numbered packets to a service that is allowed, and
//! the last that is answered tells when the ban held.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::Topology;

use super::report::{Figure, Target, go_on, pause, percentile};
use super::whole::Whole;

const SOURCES: u32 = 150;
/// Denied packets that make an offender.
const THRESHOLD: u32 = 5;
const DENIED: &str = "10.77.2.1:9";
const ALLOWED: &str = "10.77.2.1:5353";
const POLICY: &str = "mode = \"enforce\"\n\
    [[rule]]\nname = \"echo\"\naction = \"allow\"\ndirection = \"in\"\nprotocol = \"udp\"\nport = 5353\n\
    [detect.blocked]\npackets = 5\nwindow = \"60s\"\nban = \"10m\"\n";
/// How long a source goes on sending.
const WATCHED: Duration = Duration::from_millis(20);

pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    let lab = Topology::new()?;
    let addresses: String = (0..SOURCES)
        .map(|number| format!("ip address add {}/24 dev s0\n", source(number)))
        .collect();
    lab.attacker.sh(&addresses)?;
    let daemon = Whole::start(&lab.server, POLICY, &[])?;
    let echo = lab.server.enter(|| UdpSocket::bind("0.0.0.0:5353"))??;
    echo.set_read_timeout(Some(Duration::from_millis(100)))?;
    let done = &AtomicBool::new(false);
    let echo = &echo;
    let times = std::thread::scope(|scope| -> anyhow::Result<Vec<f64>> {
        let answering = scope.spawn(move || {
            let mut buffer = [0; 16];
            while !done.load(Ordering::Relaxed) {
                if let Ok((length, from)) = echo.recv_from(&mut buffer) {
                    // Who is banned does not hear it.
                    let _ = echo.send_to(&buffer[..length], from);
                }
            }
        });
        let times = lab.attacker.enter(|| (0..SOURCES).map(offend).collect());
        done.store(true, Ordering::Relaxed);
        ensure!(answering.join().is_ok(), "the service ended");
        times?
    })?;
    let bans = daemon.ask(&["bans", "--json"])?;
    let banned = bans.matches("\"prefix\"").count();
    ensure!(
        banned == SOURCES as usize,
        "{banned} of {SOURCES} were banned"
    );
    daemon.stop()?;
    let [p50, p99, worst] = [50, 99, 100].map(|part| percentile(times.clone(), part));
    println!(
        "threshold: from the packet to the drop in the kernel, {SOURCES} sources: p50 {p50:.3} ms, p99 {p99:.3} ms, worst {worst:.3} ms"
    );
    Ok(vec![Figure::new(
        "threshold: offending packet to first dropped packet, p99",
        p99,
        "ms",
        Target::Below(2.0),
    )])
}

fn source(number: u32) -> String {
    format!("10.77.2.{}", 100 + number)
}

/// Makes one source an offender; milliseconds until nothing of it passes.
fn offend(number: u32) -> anyhow::Result<f64> {
    go_on()?;
    let any_port = format!("{}:0", source(number));
    let (bad, good) = (UdpSocket::bind(&any_port)?, UdpSocket::bind(&any_port)?);
    good.set_nonblocking(true)?;
    good.connect(ALLOWED)?;
    for _ in 1..THRESHOLD {
        bad.send_to(b"x", DENIED)?;
    }
    pause(WATCHED)?;
    let begun = Instant::now();
    bad.send_to(b"x", DENIED)?;
    let mut sent = Vec::new();
    while begun.elapsed() < WATCHED {
        // A refusal by an ICMP error ends nothing.
        let _ = good.send(&(sent.len() as u32).to_be_bytes());
        sent.push(begun.elapsed());
        std::thread::sleep(Duration::from_micros(30));
    }
    pause(WATCHED)?;
    let (mut buffer, mut last) = ([0; 4], None);
    while good.recv(&mut buffer).is_ok() {
        last = last.max(Some(u32::from_be_bytes(buffer)));
    }
    let Some(last) = last else { return Ok(0.0) };
    let at = sent.get(last as usize).context("an answer to nothing")?;
    Ok(at.as_secs_f64() * 1e3)
}
