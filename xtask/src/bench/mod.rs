//! Benchmarks beside peers: every figure is a ratio of two things measured in turn in the same run (A B A B …, medians).

mod ban;
mod connections;
mod decide;
mod dns;
mod firewalls;
mod flood;
mod load;
mod names;
mod nfqueue;
mod packets;
mod peer;
mod plans;
mod replay;
mod report;
mod tcp;
mod threshold;
mod whole;
mod worker;

use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Subcommand;
use report::Figure;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Everything, and one table of figures and targets.
    All,
    /// From the call to ban a source to its first dropped packet.
    Ban,
    /// New TCP connections a second with 1,000 rules of ours, none, ufw's and linear nftables rules.
    Connections,
    /// Cost of a decision with 10 to 10,000 rules.
    Decide,
    /// Answers a second of dnsmasq behind `[dns]`, beside dnsmasq alone.
    Dns,
    /// Time to load 100,000 and 1,000,000 addresses of a feed, and that nothing passes meanwhile.
    Load,
    /// Memory and time of a list of 100,000 and 1,000,000 domain names, beside a hash set and an automaton.
    Names,
    /// Packets a second of our queue worker, beside a C loop and Python with Scapy.
    Nfqueue,
    /// TCP throughput with every packet through our queue worker, beside unqueued.
    NfqueueTcp,
    /// Packets a second of replay on one core, beside Scapy and tcpdump.
    Replay {
        /// Packets in the capture that is made for it.
        #[arg(long, default_value_t = 2_000_000)]
        packets: u64,
    },
    /// TCP throughput with every packet looked at by 1,000 content rules, beside one.
    Signatures,
    /// From the packet that makes a source an offender to its first dropped packet, through the whole daemon.
    Threshold,
    /// TCP throughput with 1,000 rules, beside none.
    Throughput,
}

/// Runs one benchmark and prints its table.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    report::watch_for_interrupt()?;
    let figures = figures(bench)?;
    println!();
    report::print(&figures);
    Ok(())
}

fn figures(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let offline = matches!(bench, Bench::Decide | Bench::Names | Bench::Replay { .. });
    if !offline && let Err(why) = lab::available() {
        bail!("{why}");
    }
    match bench {
        Bench::All => all(),
        Bench::Ban => ban::run(),
        Bench::Connections => connections::run(),
        Bench::Decide => Ok(decide::run()),
        Bench::Dns => dns::run(),
        Bench::Load => load::run(),
        Bench::Names => names::run(),
        Bench::Nfqueue => nfqueue::run(),
        Bench::NfqueueTcp => tcp::queued(),
        Bench::Replay { packets } => replay::run(*packets),
        Bench::Signatures => tcp::signatures(),
        Bench::Threshold => threshold::run(),
        Bench::Throughput => tcp::throughput(),
    }
}

/// Every benchmark. One that fails does not keep the others from running; its failure is told and is the outcome.
fn all() -> anyhow::Result<Vec<Figure>> {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for (name, bench) in [
        ("decide", Bench::Decide),
        ("names", Bench::Names),
        ("replay", Bench::Replay { packets: 2_000_000 }),
        ("nfqueue", Bench::Nfqueue),
        ("nfqueue-tcp", Bench::NfqueueTcp),
        ("signatures", Bench::Signatures),
        ("throughput", Bench::Throughput),
        ("connections", Bench::Connections),
        ("dns", Bench::Dns),
        ("load", Bench::Load),
        ("ban", Bench::Ban),
        ("threshold", Bench::Threshold),
    ] {
        println!("\n== {name}");
        match figures(&bench) {
            Ok(some) => found.extend(some),
            Err(why) => {
                report::go_on()?;
                eprintln!("{name} FAILED: {why:#}");
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        println!();
        report::print(&found);
        bail!("not everything was measured: {} failed", failed.join(", "));
    }
    Ok(found)
}

/// Times `work` and gives the seconds.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}
