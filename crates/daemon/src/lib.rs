//! The firewall process: pump, apply, records, API.
//!
//! The packet line is `pump`, the policy line is `apply`; everything else serves one of the two. No unsafe code, and no
//! decision about a packet: those are the engine's.

#![forbid(unsafe_code)]

mod addresses;
pub mod api;
pub mod candidate;
pub mod clock;
mod discovery;
mod durable;
pub mod guard;
mod last_good;
mod leases;
pub mod names;
pub mod pump;
pub mod record;
pub mod replay;
pub mod revert;
pub mod run;
mod server;
mod service_manager;
mod sessions;
mod state;
mod store;
mod watch;

pub use run::{Banner, RunError, RunOptions, run};
