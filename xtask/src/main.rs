//! Chores of the checkout: the check of the crates' arrows and the demonstration in namespaces.

mod arrows;
mod bench;
mod demonstration;

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
    /// Show an allowed and a blocked connection through the firewall, in network namespaces.
    Lab,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Arrows => arrows::check(),
        Chore::Bench { bench } => bench::run(&bench),
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
