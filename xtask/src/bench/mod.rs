//! Benchmarks beside peers: every figure is a ratio of two things measured in turn in the same run (A B A B …, medians).

mod decide;
mod packets;
mod replay;

use std::time::{Duration, Instant};

use clap::Subcommand;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Cost of a decision with 10 to 10,000 rules.
    Decide,
    /// Packets a second of replay on one core, beside Scapy and tcpdump.
    Replay {
        /// Packets in the capture that is made for it.
        #[arg(long, default_value_t = 2_000_000)]
        packets: u64,
    },
}

/// Runs one benchmark and prints its table.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Decide => {
            decide::run();
            Ok(())
        }
        Bench::Replay { packets } => replay::run(*packets),
    }
}

/// Times `work` and gives the seconds.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
