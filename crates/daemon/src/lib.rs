//! The firewall process: pump, apply, records, API.
//!
//! The packet line is `pump`, the policy line is `apply`; everything else serves one of the two. No unsafe code, and no
//! decision about a packet: those are the engine's.

#![forbid(unsafe_code)]

pub mod addresses;
pub mod api;
pub mod candidate;
pub mod clock;
mod discovery;
mod durable;
pub mod guard;
pub mod last_good;
pub mod leases;
pub mod names;
pub mod pump;
pub mod record;
pub mod replay;
pub mod revert;
pub mod run;
pub mod server;
mod service_manager;
pub mod sessions;
pub mod state;
pub mod store;
pub mod watch;

pub use run::{Banner, RunError, RunOptions, run};
