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
    /// How often this prefix has been banned within `[ban] memory`, this time included.
    pub times_banned: u32,
    /// How many of those bans no third party could bring about, this one included where it is one. Each of them doubles the
    /// next.
    pub offences: u32,
    /// Whose bans made this wide one, for a ban that was widened; at most [`GREW_FROM`] of them. Their own bans stay as they are.
    pub grew_from: Vec<IpNet>,
    /// What was counted, for bans that a detector made.
    pub evidence: Option<Evidence>,
    /// Whether a detector or a rule made it while nothing was blocked: it was never in force, and is none when enforcing begins.
    pub would_be: bool,
}

impl Ban {
    /// Time left at `now`; `None` when it holds until it is lifted.
    pub fn remaining(&self, now: Timestamp) -> Option<Duration> {
        (self.expires != Timestamp::MAX).then(|| self.expires.since(now))
    }
}

/// How a ban ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BanEnd {
    /// It ran out.
    Expired,
    /// Somebody lifted it, or its prefix became protected.
    Lifted,
    /// It only would have been, and enforcing began without it.
    NotEnforced,
}

impl BanEnd {
    /// `expired`, `lifted`, `not-enforced`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Lifted => "lifted",
            Self::NotEnforced => "not-enforced",
        }
    }
}

/// How many of the bans that a wide one grew from it names.
pub const GREW_FROM: usize = 64;

/// The reason of a ban that was found in the kernel, and of which nothing else is known.
pub const FOUND_IN_KERNEL: &str = "found in the kernel, which bans by itself too";

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
    /// Nobody who is known: it was found in the kernel. Of its own meters and `ban` rules, by a daemon that forgot it, or by hand.
    Kernel,
}

impl BanOrigin {
    /// `detector`, `rule`, `manual`, `import`, `kernel`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Detector(_) => "detector",
            Self::Rule(_) => "rule",
            Self::Manual => "manual",
            Self::Import => "import",
            Self::Kernel => "kernel",
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
    #[error("{}; `portcullis why {address}` says what protects it", protected(*prefix, *address))]
    Protected {
        /// What was to be banned.
        prefix: IpNet,
        /// A protected address in it.
        address: IpAddr,
    },
    /// No host sends from there.
    #[error("{} is no source that can be banned: {why}", short(*prefix))]
    NotASource {
        /// What was to be banned.
        prefix: IpNet,
        /// What it is instead.
        why: NoSource,
    },
    /// More than anybody but a person may ban.
    #[error(
        "{prefix} is wider than a detector or a rule may ban (/{collateral}); [ban.ipv4] and [ban.ipv6] collateral say how wide that is"
    )]
    Collateral {
        /// What was to be banned.
        prefix: IpNet,
        /// The shortest prefix length that could be.
        collateral: u8,
    },
    /// The table is full.
    #[error("{capacity} bans are held already; raise [ban] capacity or lift some")]
    Full {
        /// Its ceiling.
        capacity: u32,
    },
}

impl BanRefused {
    /// What was to be banned, where that is the reason.
    pub const fn prefix(&self) -> Option<IpNet> {
        match self {
            Self::Protected { prefix, .. }
            | Self::NotASource { prefix, .. }
            | Self::Collateral { prefix, .. } => Some(*prefix),
            Self::Full { .. } => None,
        }
    }
}

fn protected(prefix: IpNet, address: IpAddr) -> String {
    if is_host(prefix) {
        format!("{address} is protected")
    } else {
        format!("{prefix} holds the protected address {address}")
    }
}

/// A prefix without its length when it is one address.
fn short(prefix: IpNet) -> String {
    if is_host(prefix) {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}

fn is_host(prefix: IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

/// Why an address or a prefix is nobody's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSource {
    /// A good part of the Internet.
    #[error("it is too wide; name a host or a prefix of at least /8 (IPv4) or /16 (IPv6)")]
    TooWide,
    /// `0.0.0.0/8` (RFC 6890: this host on this network), `::`.
    #[error("it stands for no address")]
    Unspecified,
    /// `127.0.0.0/8`, `::1`.
    #[error("it is this host itself (loopback), which is always protected")]
    Loopback,
    /// `224.0.0.0/4`, `ff00::/8`.
    #[error("it is a group of hosts (multicast); ban the one that sends to it")]
    Multicast,
    /// `255.255.255.255`.
    #[error("it is everybody on the link (broadcast); ban the one that sends to it")]
    Broadcast,
    /// A link-local IPv6 prefix: the same one for every neighbour on every link, the router too.
    #[error(
        "every neighbour on every link has its address there (link-local); ban a single address"
    )]
    LinkLocal,
    /// `::ffff:0:0/96` and around: IPv4 in disguise.
    #[error("it holds all of IPv4 (::ffff:0:0/96); ban the IPv4 prefix that is meant")]
    Mapped,
}
