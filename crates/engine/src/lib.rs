//! The reference interpreter of a plan: packets in, verdicts with typed reasons out.
//!
//! Pure: no I/O, no clock, no randomness. The time of each packet and the seed of every hash are arguments, so that a capture
//! gives the same verdicts, events and bans each time. Everything that a stranger's packets can grow has a ceiling that
//! [`policy::Limits`] names.

#![forbid(unsafe_code)]

pub mod ban;
mod ban_table;
mod bounded;
mod bucket;
mod clock;
mod detect;
mod engine;
mod essential;
pub mod event;
pub mod evidence;
mod facts;
mod flow;
mod flow_budget;
mod fragment;
mod impossible;
mod index;
mod inspect;
mod offender;
pub mod refusal;
mod resolved;
mod rules;
pub mod source;
pub mod verdict;

pub use ban::{Ban, BanEnd, BanOrigin, BanRefused, Detector, Evidence, NoSource};
pub use detect::Over;
pub use engine::{Arrival, Decision, Engine, Inspect, Known, Setup, Tracked, TrackedEnd};
pub use event::{
    Alert, AskedHost, DnsListed, DnsQuestion, Event, EventBody, FlowEnd, FlowRecord, PacketFacts,
    Totals,
};
pub use evidence::{Pattern, Shape, Technique};
pub use facts::Probe;
pub use offender::Offender;
pub use verdict::{
    DnsEntry, DnsRefusal, Essential, FragmentFault, Impossible, Invalid, Reason, Stage, Verdict,
};
