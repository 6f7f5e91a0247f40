//! The firewall process: pump, apply, records, API.
//!
//! The packet line is `pump`, the policy line is `apply`; everything else serves one of the two. No unsafe code, and no
//! decision about a packet: those are the engine's.

#![forbid(unsafe_code)]

pub mod api;
pub mod candidate;
pub mod clock;
pub mod record;
pub mod replay;
pub mod state;
pub mod store;
