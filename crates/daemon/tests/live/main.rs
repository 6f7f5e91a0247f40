//! The daemon as a process of its own in a network namespace, with the real kernel: what is blocked is blocked, the record says
//! why, and a kill at any moment leaves what it should.
//!
//! No test harness: the same program is also the daemon (`__daemon`) and what reverts (`__revert`), as the product is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod daemon;
mod scene;
mod tests;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|first| first.to_str()) {
        Some("__revert") => {
            portcullis_daemon::revert::main(&arguments[1..], &portcullis_daemon::revert::command())
        }
        Some("__daemon") => daemon::main(&arguments[1..]),
        _ => run_tests(&arguments),
    }
}

fn run_tests(arguments: &[OsString]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let filters: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    if words.contains(&"--list") {
        for (name, _) in tests::ALL {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if let Err(why) = lab::available() {
        eprintln!("SKIPPED all live tests: {why}");
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    for (name, test) in tests::ALL.iter().filter(|(name, _)| wanted(name)) {
        let begun = std::time::Instant::now();
        let passed = std::panic::catch_unwind(test).is_ok();
        let verdict = if passed { "ok" } else { "FAILED" };
        println!(
            "test {name} ... {verdict} ({:.1} s)",
            begun.elapsed().as_secs_f64()
        );
        if !passed {
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        println!("test result: ok");
        ExitCode::SUCCESS
    } else {
        println!("test result: FAILED: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}
