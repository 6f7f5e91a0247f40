//! Bans and the runtime allow list.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Time;

/// One ban: the shape of `bans --json`, of `ban` and `unban` events and of an export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ban {
    /// Whose packets are dropped.
    pub prefix: IpNet,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// The detector that asked for it, if one did.
    pub detector: Option<String>,
    /// `detector`, `rule`, `manual`, `import` or `kernel`, for one that was found in the kernel and that nobody remembers.
    pub origin: String,
    /// One line for people.
    pub reason: String,
    /// From when.
    pub since: Time,
    /// Until when; `null`: until it is lifted.
    pub expires: Option<Time>,
    /// Whole seconds left, rounded up; `null`: until it is lifted.
    pub remaining_s: Option<u64>,
    /// How often this prefix has been banned within `[ban] memory`, this time included.
    pub times_banned: u32,
    /// How many of these bans no third party could bring about: each of them doubles the next.
    #[serde(default)]
    pub offences: u32,
    /// Whose bans made this wide one; absent for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grew_from: Vec<IpNet>,
    /// What was counted; empty for bans nobody counted for.
    #[serde(default)]
    pub evidence: Evidence,
    /// `observe` while nothing is blocked because of it, `enforce` while the kernel carries it out; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Whether a detector or a rule made it while nothing was blocked: it was never in force, and is none when enforcing begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub would_be: bool,
    /// Only in the answer to a [`BanRequest`] without a time: a ban in force ends later than the policy's time would, and its end stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    /// Why a restart may forget it, in one sentence for people: it is in force and was not written down. Absent when it was; only in the
    /// answer to a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
}

/// What a ban rests on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The rule with the action `ban` that matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What is still no offence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u64>,
    /// Within how many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_s: Option<f64>,
    /// When the first packet that counted came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Time>,
    /// When the last one came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Time>,
    /// The first packet that counted, in short: `tcp 203.0.113.7:40000 to 192.0.2.1:22`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_packet: Option<String>,
    /// The last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_packet: Option<String>,
    /// What the packets that counted look like together, such as `vertical SYN scan`; absent where the detector's name says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Whether the source had completed a handshake; if not, somebody else could have sent it all in its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<bool>,
}

/// Bans a prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BanRequest {
    /// An address or a prefix, as text.
    pub prefix: String,
    /// Seconds; absent: what the policy says, or what is left of a longer ban in force. 0: until it is lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Which bans to lift: one of both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnbanQuery {
    /// An address or a prefix: the ban of exactly this prefix, or the `/64` that an IPv6 address is banned by. One that a wider ban
    /// covers is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// All of them.
    #[serde(default)]
    pub all: bool,
}

/// What was lifted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unbanned {
    /// The bans as they stood.
    pub lifted: Vec<Ban>,
    /// Bans of wider prefixes that still drop what was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub still: Vec<Ban>,
    /// As [`Ban::not_kept`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
}

/// The plain form of a ban list, as older tools keep it (`banned_ips.json`): address → when the ban began, in seconds since
/// the Unix epoch.
pub type PlainBans = BTreeMap<String, f64>;

/// Bans to take in: either form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BanImport {
    /// As `GET bans` gives them. Only `prefix` is needed in each.
    Full(Vec<ImportedBan>),
    /// Address → begin; each lasts as long as the policy's default from its begin on.
    Plain(PlainBans),
}

/// One ban of an import.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImportedBan {
    /// An address or a prefix.
    pub prefix: String,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From when; absent: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Until when; absent with `since` given as in an export: until it is lifted; absent without: the policy's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// How often it was banned before, this one included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times_banned: Option<u32>,
}

/// What became of an import.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Imported {
    /// Bans made or made longer.
    pub added: usize,
    /// Prefixes that are banned already, for at least as long.
    #[serde(default)]
    pub unchanged: usize,
    /// Bans that had run out already.
    pub expired: usize,
    /// Bans not made, at most 100 of them.
    pub refused: Vec<NotImported>,
    /// How many were not made.
    pub refused_count: usize,
    /// As [`Ban::not_kept`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
}

impl Imported {
    /// How many refusals are told one by one.
    pub const MOST_REFUSED: usize = 100;

    /// Adds what became of another piece of the same import.
    pub fn join(&mut self, other: Self) {
        self.added += other.added;
        self.unchanged += other.unchanged;
        self.expired += other.expired;
        self.refused_count += other.refused_count;
        self.not_kept = other.not_kept.or(self.not_kept.take());
        let room = Self::MOST_REFUSED.saturating_sub(self.refused.len());
        self.refused.extend(other.refused.into_iter().take(room));
    }
}

/// A ban that was not made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotImported {
    /// As the import had it.
    pub prefix: String,
    /// Why.
    pub error: String,
}

/// Puts a prefix on the runtime allow list: it is protected from bans, feeds and detectors, and its bans are lifted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AllowRequest {
    /// An address or a prefix.
    pub prefix: String,
    /// Whether it survives a restart; default yes.
    #[serde(default = "yes")]
    pub persist: bool,
}

/// Which entry to take off the allow list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AllowQuery {
    /// An address or a prefix, exactly as it was put on.
    pub prefix: String,
}

/// An entry of the runtime allow list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allowed {
    /// Whose packets.
    pub prefix: IpNet,
    /// From when.
    pub since: Time,
    /// Whether it survives a restart.
    pub persist: bool,
    /// The bans that were lifted by it; only in the answer to the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lifted: Vec<Ban>,
    /// As [`Ban::not_kept`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
    /// What the list as it is now does that may not be meant; only in the answer to the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// What taking an entry off the allow list leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disallowed {
    /// What is still on the list.
    pub left: Vec<Allowed>,
    /// As [`Ban::not_kept`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
}

fn yes() -> bool {
    true
}
