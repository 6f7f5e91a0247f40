//! Bans: what is banned, why, on what evidence, and until when. The table that holds them is private to the engine.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use policy::Timestamp;
use wire::FiveTuple;

use crate::evidence::Pattern;

/// A source prefix whose packets are dropped until an expiry.
#[derive(Clone, Debug, PartialEq)]
pub struct Ban {
    /// Whose packets.
    pub prefix: IpNet,
    /// Who asked for it.
    pub origin: BanOrigin,
    /// One line for people. Never raw bytes off the wire.
    pub reason: String,
    /// From when.
    pub since: Timestamp,
    /// Until when; [`Timestamp::MAX`] stands for "until it is lifted".
    pub expires: Timestamp,
    /// How often this prefix has been banned, this time included.
    pub times_banned: u32,
    /// What was counted, for bans that a detector made.
    pub evidence: Option<Evidence>,
}

impl Ban {
    /// Time left at `now`; `None` when it holds until it is lifted.
    pub fn remaining(&self, now: Timestamp) -> Option<Duration> {
        (self.expires != Timestamp::MAX).then(|| self.expires.since(now))
    }
}

/// Who asked for a ban.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BanOrigin {
    /// A detector, on evidence.
    Detector(Detector),
    /// A rule with the action `ban`; its name.
    Rule(String),
    /// A person.
    Manual,
    /// An imported list.
    Import,
}

impl BanOrigin {
    /// `detector`, `rule`, `manual`, `import`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Detector(_) => "detector",
            Self::Rule(_) => "rule",
            Self::Manual => "manual",
            Self::Import => "import",
        }
    }
}

/// A detector by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Detector {
    /// Denied packets of one source.
    Blocked,
    /// Packets a second of one source.
    Rate,
    /// Content-rule hits of one source.
    Payload,
    /// Ports and addresses that one source finds closed.
    Scan,
    /// Half-open TCP connections.
    SynFlood,
    /// ICMP packets a second of one source.
    IcmpFlood,
    /// UDP packets a second of one source that nobody answers.
    UdpFlood,
    /// Short connections of one source to one service.
    Brute,
}

impl Detector {
    /// Every one of them.
    pub const ALL: [Self; 8] = [
        Self::Blocked,
        Self::Rate,
        Self::Payload,
        Self::Scan,
        Self::SynFlood,
        Self::IcmpFlood,
        Self::UdpFlood,
        Self::Brute,
    ];

    /// As the policy writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Rate => "rate",
            Self::Payload => "payload",
            Self::Scan => "scan",
            Self::SynFlood => "syn_flood",
            Self::IcmpFlood => "icmp_flood",
            Self::UdpFlood => "udp_flood",
            Self::Brute => "brute",
        }
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a detector counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// What was seen.
    pub count: u64,
    /// What is still no offence.
    pub threshold: u64,
    /// Within which time.
    pub window: Duration,
    /// When the first packet that counted came.
    pub first: Timestamp,
    /// When the last one came.
    pub last: Timestamp,
    /// The first packet that counted.
    pub first_packet: FiveTuple,
    /// The last packet that counted.
    pub last_packet: FiveTuple,
    /// Whether the source is who sent it: it has completed a handshake. What a third party could have sent in its name is not.
    pub proven: bool,
    /// What it looks like as a whole.
    pub pattern: Pattern,
}

/// Why a ban was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BanRefused {
    /// The prefix holds an address that may never be dropped.
    #[error(
        "{prefix} holds the protected address {address}; `portcullis why {address}` says what protects it"
    )]
    Protected {
        /// What was to be banned.
        prefix: IpNet,
        /// A protected address in it.
        address: IpAddr,
    },
    /// Multicast, unspecified, or a prefix so short that it is most of the Internet.
    #[error(
        "{prefix} is no source that can be banned: name a host or a prefix of at least /8 (IPv4) or /16 (IPv6)"
    )]
    NotASource {
        /// What was to be banned.
        prefix: IpNet,
    },
    /// The table is full.
    #[error("{capacity} bans are held already; raise [ban] capacity or lift some")]
    Full {
        /// Its ceiling.
        capacity: u32,
    },
}
