//! The portcullis command: `run` and every client verb.
//!
//! A verb reads its arguments, asks the daemon or the libraries, and prints. No decision about a packet is taken here.

#![forbid(unsafe_code)]

mod args;
mod ban_file;
mod client;
mod eve;
mod failure;
mod finding;
mod prefix;
mod screen;
mod source;
mod tuple;
mod verb;

use std::process::ExitCode;

use clap::Parser;

use failure::{Exit, Failure};
use screen::{Screen, plain_times, visible};

fn main() -> ExitCode {
    // clap prints what is wrong and exits with 2; help and version exit with 0.
    let arguments = args::Arguments::try_parse().unwrap_or_else(|error| args::refuse(&error));
    if let Some(exit) = verb::revert(&arguments) {
        return exit;
    }
    let mut screen = Screen::new();
    let outcome = verb::perform(arguments, &mut screen);
    // What was written before a failure is still worth reading.
    let flushed = screen.flush().map_err(Failure::from);
    let exit = match outcome.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit,
        Err(failure) => {
            let exit = failure.exit();
            if exit != Exit::Done {
                say(&failure);
            }
            exit
        }
    };
    exit.into()
}

/// One sentence on standard error; an invalid policy has a line for each finding before it.
fn say(failure: &Failure) {
    let text = failure.to_string();
    let mut lines: Vec<&str> = text.lines().collect();
    if let Some(last) = lines.pop() {
        for line in lines {
            eprintln!("{line}");
        }
        eprintln!("portcullis: {}", plain_times(&visible(last)));
    }
}
