//! The parts of a policy beside its rules: bans, protection, detectors, records, ceilings.

use std::time::Duration;

use ipnet::IpNet;

use crate::address::AddressSet;
use crate::plan::SetId;

pub use detect::{
    Blocked, Brute, Detect, Measure, PacketFlood, PayloadHits, RateLimit, Response, Scan, SynFlood,
};

mod detect;

/// `[ban]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanSettings {
    /// How long a ban lasts when neither the detector nor the user says so.
    pub duration: Duration,
    /// Most bans held at once (1 to 1,000,000).
    pub capacity: u32,
    /// Whether each further ban of a source lasts twice as long as the one before.
    pub escalation: bool,
    /// How long it is remembered that a source was banned.
    pub memory: Duration,
    /// What doubling ends at. A ban that is asked for longer than this from the begin is not made shorter.
    pub longest: Duration,
    /// How far bans of IPv4 sources may reach.
    pub ipv4: Reach,
    /// How far bans of IPv6 sources may reach.
    pub ipv6: Reach,
}

/// How far a ban that no person asked for may reach beyond its source, in one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Whether the prefix around many offenders is banned.
    pub widen: bool,
    /// How many offenders are many: subnets of a `/56` (its square for a `/48`), addresses of a `/24`. 2 to 64.
    pub neighbours: u32,
    /// Length of the shortest prefix that is banned so.
    pub collateral: u8,
}

impl BanSettings {
    /// How long a ban lasts whose first one lasts `first`, after `earlier` others that count.
    pub fn escalated(&self, first: Duration, earlier: u32) -> Duration {
        if !self.escalation {
            return first;
        }
        // 2^31 times a second are 68 years: longer than any bound.
        let doubled = first.saturating_mul(1 << earlier.min(31));
        doubled.min(self.longest.max(first))
    }

    /// The reach in the family of a prefix.
    pub const fn reach(&self, prefix: IpNet) -> &Reach {
        match prefix {
            IpNet::V4(_) => &self.ipv4,
            IpNet::V6(_) => &self.ipv6,
        }
    }
}

impl Default for BanSettings {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(600),
            capacity: 100_000,
            escalation: true,
            memory: Duration::from_secs(30 * 86_400),
            longest: Duration::from_secs(7 * 86_400),
            // Behind each address of a /24 may be another customer: whoever widens there has to want it.
            ipv4: Reach {
                widen: false,
                neighbours: 16,
                collateral: 24,
            },
            // One customer has a /56 or a /48 (RFC 6177) and changes the /64 at will.
            ipv6: Reach {
                widen: true,
                neighbours: 4,
                collateral: 48,
            },
        }
    }
}

/// `[protect]`: what no ban, feed or detector may ever drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protect {
    /// Addresses that the user listed.
    pub addresses: AddressSet,
    /// Named sets that the user listed.
    pub sets: Vec<SetId>,
    /// Whether own addresses, gateways and resolvers are found by the backend and protected too.
    pub discover: bool,
}

impl Default for Protect {
    fn default() -> Self {
        Self {
            addresses: AddressSet::default(),
            sets: Vec::new(),
            discover: true,
        }
    }
}

/// `[log]`: what is recorded and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Largest `eve.json` and `firewall.log` before they are rotated, in bytes.
    pub rotate_bytes: u64,
    /// Rotated files of each kind that are kept.
    pub rotate_keep: u32,
    /// Oldest event kept in the store.
    pub store_age: Duration,
    /// Largest store on disk, in bytes.
    pub store_bytes: u64,
    /// Drop events recorded a second; more are counted, not written.
    pub drops_per_second: u32,
    /// Ends of flows recorded a second; more are counted, not written. Flows that came to nothing get a tenth of it.
    pub flows_per_second: u32,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            rotate_bytes: 64 << 20,
            rotate_keep: 5,
            store_age: Duration::from_secs(30 * 86_400),
            store_bytes: 512 << 20,
            drops_per_second: 1_000,
            flows_per_second: 1_000,
        }
    }
}

/// `[limits]`: ceilings of what strangers' packets can grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows tracked at once by the engine.
    pub flows: u32,
    /// Sources counted at once by each detector and each `limit` rule.
    pub sources: u32,
    /// Bytes held for streams under inspection.
    pub stream_bytes: u32,
    /// Bytes held for incomplete fragments (the kernel's default `ipfrag_high_thresh` is 4 MiB).
    pub fragment_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 100_000,
            sources: 65_536,
            stream_bytes: 16 << 20,
            fragment_bytes: 4 << 20,
        }
    }
}
