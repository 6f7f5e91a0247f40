//! The firewall at work, in network namespaces, with real tools on the other side. Each test has namespaces, a state directory
//! and a socket of its own, and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../common/mod.rs"]
mod common;

mod bans;
mod clock;
mod content;
mod disk;
mod failure;
mod filtering;
#[allow(dead_code, reason = "each test binary uses its own part of this")]
mod firewall;
mod hosts;
mod knowing;
mod names;
mod network;
mod policies;
mod rejecting;
mod resolved;
mod showing;
mod slow;
mod teardown;
