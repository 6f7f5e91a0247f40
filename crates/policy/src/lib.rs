//! What the user wrote, validated, and what it compiles to.
//!
//! Text (TOML, JSON or `rules.txt`) becomes one [`Policy`], and a [`Policy`] becomes one [`Plan`], which the engine and every
//! kernel backend execute. Nothing here decides a packet; nothing here reads a clock. The only I/O is [`load`], which reads
//! the policy, its includes and its lists.
//!
//! The line to follow: [`load`] → a front end (`toml`, `json`, `rules`) → one tree with places (`tree`) → its meaning (`read`) →
//! [`Plan`]. [`lint()`] then looks for rules that do not do what their author meant, and [`evaluate`] says by a plain scan
//! which rule decides.

#![forbid(unsafe_code)]

pub mod address;
pub mod byte_bucket;
pub mod content;
pub mod diagnostic;
pub mod dns;
pub mod evaluate;
pub mod host;
pub mod lint;
pub mod list;
pub mod load;
pub mod names;
pub mod plan;
pub mod policy;
pub mod port;
pub mod protocol;
pub mod settings;
pub mod time;
pub mod time_unit;
pub mod witness;

mod fields;
mod json;
mod literal;
mod quantity;
mod read;
mod report;
mod rules;
mod service;
mod toml;
mod tree;

pub use address::{AddressSet, address_key, key_address};
pub use byte_bucket::ByteBucket;
pub use content::{Content, Pattern, Scope, compile_regex};
pub use diagnostic::{Diagnostic, Severity, nearest};
pub use dns::{DnsAnswer, DnsFilter, DnsLog};
pub use evaluate::first_match;
pub use host::{AskedHost, Asks, HostField, HostPattern};
pub use lint::lint;
pub use load::{
    Entries, Format, Keeper, Kept, ListKind, Loaded, LoadedList, NothingKept, Stale, Stamp,
    load_path, load_path_with, load_text, load_text_with,
};
pub use plan::{
    Action, AddressMatch, DefaultAction, Defaults, Direction, Directions, Interface, Mode,
    NamedSet, OnFailure, Plan, Position, Rate, RateUnit, Rule, RuleId, SetId,
};
pub use policy::Policy;
pub use port::PortSet;
pub use protocol::Protocols;
pub use settings::{
    BanSettings, Blocked, Brute, Detect, Limits, LogSettings, Measure, PacketFlood, PayloadHits,
    Protect, RateLimit, Reach, Response, Scan, SynFlood,
};
pub use time::{BadTime, Timestamp};
pub use time_unit::TimeUnit;
pub use witness::Witness;
