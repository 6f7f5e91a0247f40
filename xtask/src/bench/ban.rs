//! From the call to ban a source to its first packet that is dropped, in streams of 1,000 to 100,000 packets a second.
//!
//! Packets carry a number; the sender notes when it sent each. The first that does not arrive after a ban was the first
//! dropped: the time from the call to its sending is the latency. At 1,000 a second up to a millisecond of it is the pause
//! between two packets.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ipnet::IpNet;
use kernel::datapath::{Apply, Datapath as _};
use kernel::nft::{Features, Nft};
use lab::Topology;
use policy::{Action, AddressSet};

use super::plans::{UDP, plan, rule};
use super::report::{Figure, Target, go_on, percentile};

const RATES: [u64; 3] = [1_000, 10_000, 100_000];
const BANS: usize = 200;
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 1, 1), 9_000);
const ATTACKER: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);
/// How long the stream is watched after a ban was made.
const SETTLING: Duration = Duration::from_millis(8);
/// Times of so many packets are kept, by number.
const KEPT: u64 = 1 << 16;

/// A paced stream and its receiver.
struct Stream {
    begun: Instant,
    stop: Arc<AtomicBool>,
    /// By number modulo [`KEPT`]: nanoseconds from `begun` to its sending.
    times: Arc<Vec<AtomicU64>>,
    sent: Arc<AtomicU64>,
    /// The highest number that arrived.
    arrived: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    fn start(lab: &Topology, rate: u64) -> anyhow::Result<Self> {
        let receiver = lab.server.enter(|| UdpSocket::bind(SERVER))??;
        receiver.set_read_timeout(Some(Duration::from_millis(50)))?;
        let sender = lab.attacker.enter(|| UdpSocket::bind((ATTACKER, 0)))??;
        sender.connect(SERVER)?;
        let mut stream = Self {
            begun: Instant::now(),
            stop: Arc::default(),
            times: Arc::new((0..KEPT).map(|_| AtomicU64::new(0)).collect()),
            sent: Arc::default(),
            arrived: Arc::default(),
            threads: Vec::new(),
        };
        let (stop, arrived) = (Arc::clone(&stream.stop), Arc::clone(&stream.arrived));
        stream.threads.push(std::thread::spawn(move || {
            let mut number = [0; 8];
            while !stop.load(Ordering::Relaxed) {
                if receiver.recv(&mut number).is_ok() {
                    arrived.fetch_max(u64::from_be_bytes(number), Ordering::Relaxed);
                }
            }
        }));
        let (stop, sent, times) = (
            Arc::clone(&stream.stop),
            Arc::clone(&stream.sent),
            Arc::clone(&stream.times),
        );
        let begun = stream.begun;
        stream.threads.push(std::thread::spawn(move || {
            let (mut number, mut due) = (0_u64, Instant::now());
            let step = Duration::from_nanos(1_000_000_000 / rate);
            while !stop.load(Ordering::Relaxed) {
                while due <= Instant::now() {
                    number += 1;
                    let now = begun.elapsed().as_nanos() as u64;
                    times[(number % KEPT) as usize].store(now, Ordering::Relaxed);
                    sent.store(number, Ordering::Release);
                    // Lost before the server is lost all the same: counted as dropped.
                    let _ = sender.send(&number.to_be_bytes());
                    due += step;
                }
                // After a stall the stream goes on at its pace instead of making up for it.
                due = due.max(Instant::now() - Duration::from_millis(1));
                std::thread::sleep(Duration::from_micros(20).min(step));
            }
        }));
        Ok(stream)
    }

    /// Waits until a packet that was sent after this call arrives.
    fn wait_until_it_flows(&self) -> anyhow::Result<()> {
        let wanted = self.sent.load(Ordering::Acquire) + 2;
        let deadline = Instant::now() + Duration::from_secs(2);
        while self.arrived.load(Ordering::Relaxed) < wanted {
            ensure!(
                Instant::now() < deadline,
                "the stream does not flow again after its ban was lifted"
            );
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// When the packet after the last that arrived was sent; waits for it while the sender gets no processor.
    fn first_dropped(&self) -> anyhow::Result<Duration> {
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let lost = self.arrived.load(Ordering::Relaxed) + 1;
            if lost <= self.sent.load(Ordering::Acquire) {
                let sent = self.times[(lost % KEPT) as usize].load(Ordering::Relaxed);
                return Ok(Duration::from_nanos(sent));
            }
            ensure!(Instant::now() < deadline, "the sender stands still");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a thread of the stream panicked");
            }
        }
    }
}

pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    let lab = Topology::new()?;
    let plan = plan([rule(Action::Allow, UDP, SERVER.port())]);
    let request = Apply {
        plan: &plan,
        protected: &AddressSet::default(),
        queues: None,
        goes_on: false,
    };
    let features = lab.server.enter(Features::probe)??;
    let mut nft = Nft::new(features);
    lab.server.enter(|| nft.apply(&request))??;
    println!("ban: from the call to the first packet dropped, {BANS} bans each");
    println!(
        "{:>12}  {:>10}  {:>10}  {:>10}  {:>14}",
        "packets/s", "p50 ms", "p99 ms", "worst ms", "call p50 ms"
    );
    let mut figures = Vec::new();
    for rate in RATES {
        let stream = Stream::start(&lab, rate)?;
        // The backend belongs to the namespace of the thread that used it first: its socket stays there.
        let (latencies, calls) = lab.server.enter(|| measure(&mut nft, &stream))??;
        let [p50, p99, worst] = [50, 99, 100].map(|part| percentile(latencies.clone(), part));
        println!(
            "{rate:>12}  {p50:>10.3}  {p99:>10.3}  {worst:>10.3}  {:>14.3}",
            percentile(calls, 50)
        );
        figures.push(Figure::new(
            format!("ban: call to first dropped packet at {rate} packets/s, p99"),
            p99,
            "ms",
            Target::Below(2.0),
        ));
    }
    lab.server.enter(|| nft.remove())??;
    Ok(figures)
}

/// Latencies and durations of the calls, in milliseconds.
fn measure(nft: &mut Nft, stream: &Stream) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let prefix = IpNet::from(IpAddr::V4(ATTACKER));
    let (mut latencies, mut calls) = (Vec::new(), Vec::new());
    for _ in 0..BANS {
        go_on()?;
        stream.wait_until_it_flows()?;
        let called = stream.begun.elapsed();
        nft.ban(prefix, Some(Duration::from_secs(600)))
            .context("cannot ban")?;
        calls.push((stream.begun.elapsed() - called).as_secs_f64() * 1e3);
        std::thread::sleep(SETTLING);
        let dropped = stream.first_dropped()?;
        let stopped_at = stream.arrived.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(2));
        ensure!(
            stream.arrived.load(Ordering::Relaxed) == stopped_at,
            "packets still arrive {SETTLING:?} after a ban"
        );
        latencies.push(dropped.saturating_sub(called).as_secs_f64() * 1e3);
        ensure!(nft.unban(prefix)?, "the ban was not there to be lifted");
    }
    Ok((latencies, calls))
}
