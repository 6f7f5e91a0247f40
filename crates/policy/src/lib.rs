//! What the user wrote, validated, and what it compiles to.
//!
//! Text (TOML, JSON or `rules.txt`) becomes one [`Policy`], and a [`Policy`] becomes one [`Plan`], which the engine and every
//! kernel backend execute. Nothing here decides a packet; nothing here reads a clock. The only I/O is [`load`], which reads
//! the policy, its includes and its lists.

#![forbid(unsafe_code)]

pub mod address;
pub mod content;
pub mod plan;
pub mod port;
pub mod protocol;
pub mod settings;
pub mod time;

pub use address::{AddressSet, address_key, key_address};
pub use content::{Content, Pattern, Scope};
pub use plan::{
    Action, AddressMatch, DefaultAction, Defaults, Direction, Directions, Interface, Mode,
    NamedSet, OnFailure, Plan, Position, Rate, RateUnit, Rule, RuleId, SetId,
};
pub use port::PortSet;
pub use protocol::Protocols;
pub use settings::{
    BanSettings, Blocked, Detect, Limits, LogSettings, PayloadHits, Protect, RateLimit, Response,
};
pub use time::Timestamp;
