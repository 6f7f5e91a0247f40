//! The nftables backend: scripts, and what they do in namespaces.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bans;
mod force;
mod inspect;
mod plans;
mod scale;
mod script;
mod stage;
mod verdicts;
