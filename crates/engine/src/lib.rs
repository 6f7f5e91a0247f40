//! The reference interpreter of a plan: packets in, verdicts with typed reasons out.
//!
//! Pure: no I/O, no clock, no randomness. The time of each packet and the seed of every hash are arguments, so that a capture
//! gives the same verdicts, events and bans each time. Everything that a stranger's packets can grow has a ceiling that
//! [`policy::Limits`] names.

#![forbid(unsafe_code)]

pub mod ban;
pub mod event;
pub mod verdict;

pub use ban::{Ban, BanOrigin, BanRefused, Detector, Evidence};
pub use event::{Alert, Event, EventBody, FlowEnd, FlowRecord, Totals};
pub use verdict::{Essential, FragmentFault, Impossible, Invalid, Reason, Stage, Verdict};
