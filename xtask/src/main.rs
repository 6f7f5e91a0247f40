//! Chores of the checkout: the check of the crates' arrows and the demonstration in namespaces.

mod arrows;
mod bench;
mod demonstration;
mod detection;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of the checkout.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check that the crates depend on each other only as docs/architecture.md allows.
    Arrows,
    /// Measure beside peers.
    Bench {
        /// What.
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// Judge every capture of the test data by the detectors' defaults, and write the table of docs/detection.md.
    Detection {
        /// Write nothing; fail when the table is not as the captures say.
        #[arg(long)]
        check: bool,
    },
    /// Show an allowed and a blocked connection through the firewall, in network namespaces.
    Lab,
}

/// Where test data lies, beside the checkout.
fn shared_data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data")
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Arrows => arrows::check(),
        Chore::Bench { bench } => bench::run(&bench),
        Chore::Detection { check } => detection::run(check),
        Chore::Lab => demonstration::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why:#}");
            ExitCode::FAILURE
        }
    }
}
