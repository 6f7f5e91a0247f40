//! The nftables backend: scripts, and what they do in namespaces.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod live;
mod plans;
mod script;
