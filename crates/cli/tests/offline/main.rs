//! What needs neither root nor a daemon: help, exit codes, refusals, policies, captures.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../common/mod.rs"]
mod common;

mod bans;
mod calling;
mod hosts;
mod policies;
mod refusals;
mod replays;
