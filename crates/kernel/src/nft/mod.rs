//! The nftables backend.
//!
//! [`compile`] turns a plan into a script for `nft -f -`; [`Nft`] puts it in force, holds bans and watches over both.
//! Everything stands in one table, `inet portcullis`, which is ours alone; other tables are never touched, with one
//! exception that [`Nft`] explains (kernels without `nft_queue`).
//!
//! A packet's way: `shield` (bans and feeds, before connection tracking), `martian`, then `inbound`, `outbound` or
//! `forward`: flow state, the detectors that count packets, `rules_*`, `essentials_*`, `default_*`. Small lists of rules stand as they were
//! written; large ones as a decision tree of verdict maps. Each rule has one chain, `rule_N`, that counts, logs and decides.

mod backend;
mod branch;
mod clearance;
mod command;
mod counter;
mod cover;
mod crowd;
mod element;
mod flood;
mod flow;
mod forged;
mod header;
mod holder;
mod inspect;
mod list;
mod message;
mod meter;
mod own_ban;
mod question;
mod rate;
mod rule;
mod shield;
mod slot;
mod snapshot;
mod stand_in;
mod state;
mod table;
mod tree;
mod writer;
mod xtables;

use policy::{AddressSet, Plan};

use crate::datapath::{DatapathError, Queues};
pub use backend::{Features, Nft};
pub use slot::Slot;
pub use snapshot::script_with_bans;
pub use table::{Expected, Script};
use writer::Writer;

/// The name of our table.
pub const TABLE: &str = "portcullis";

/// The NFLOG group that verdicts are logged to, unless told otherwise.
pub const LOG_GROUP: u16 = 117;

/// What a script depends on beside the plan.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Addresses that were found to need protection; left out where the plan says `discover = false`.
    pub protected: &'a AddressSet,
    /// Where user space waits for packets of content rules, if it does.
    pub queues: Option<Queues>,
    /// How packets get there.
    pub hand_up: HandUp,
    /// The NFLOG group for verdicts.
    pub log_group: u16,
    /// Where the chains stand among those of others.
    pub slot: Slot,
}

/// How packets get to user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandUp {
    /// By nft's own `queue` statement.
    Queue,
    /// By a mark, and an NFQUEUE rule of iptables for packets that bear it: for kernels without `nft_queue`.
    Mark,
}

/// Compiles a plan to a script that makes our table, which must not exist.
///
/// # Errors
/// [`DatapathError::Inexpressible`] for what nftables cannot hold; a plan from a validated policy has none of it.
pub fn compile(plan: &Plan, context: &Context<'_>) -> Result<Script, DatapathError> {
    for rule in &plan.rules {
        if let Some(interface) = rule
            .interface
            .as_ref()
            .filter(|interface| !header::interface_is_writable(interface))
        {
            return Err(DatapathError::Inexpressible {
                rule: rule.id,
                what: format!(
                    "no interface can have the name in {interface:?}; use at most 15 letters, digits and dots"
                ),
            });
        }
    }
    let mut writer = Writer::new(plan, context);
    for (limit, rate) in [
        (writer::LOG_DROPS, "1000/second burst 1000 packets"),
        (writer::LOG_QUIET, "1000/second burst 1000 packets"),
        (writer::LOG_SUSPECTS, "1000/second burst 1000 packets"),
        ("log_known", "1000/second burst 1000 packets"),
        ("log_floods", "1000/second burst 1000 packets"),
        (writer::LOG_FLOWS, "5000/second burst 5000 packets"),
    ] {
        writer.table.limit(limit, rate);
    }
    crowd::write(&mut writer);
    shield::write(&mut writer);
    rule::write(&mut writer);
    flow::write(&mut writer);
    own_ban::write(&mut writer);
    let heading = [
        format!(
            "Portcullis {}: {} rules, {} sets.",
            env!("CARGO_PKG_VERSION"),
            plan.rules.len(),
            plan.sets.len()
        ),
        "Written by `portcullis compile`; a change by hand is put back.".to_owned(),
    ];
    Ok(writer.table.render(
        &heading,
        &format!("portcullis {}", env!("CARGO_PKG_VERSION")),
    ))
}
