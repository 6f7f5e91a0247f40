//! Events, flows, counters, and the story of one address.

use serde::{Deserialize, Serialize};

use super::{Ban, Time, Totals};

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventQuery {
    /// At most this many; 100 when absent, 10,000 at most. With `follow`, how many old ones come first (0 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Kinds by `event_type`, separated by commas: `drop,alert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// An address or prefix that is source or destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The name of a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Stay and send each new event as one line.
    #[serde(default)]
    pub follow: bool,
}

/// Which flows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowQuery {
    /// At most this many, the ones seen last first; 1,000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// An address or prefix at either end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// Flows that an answer holds when the query does not say.
pub const FLOWS: usize = 1_000;

/// A live flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Who began it.
    pub src_ip: String,
    /// Its port, for protocols with ports.
    pub src_port: Option<u16>,
    /// The other end.
    pub dest_ip: String,
    /// Its port, for protocols with ports.
    pub dest_port: Option<u16>,
    /// `TCP`, `UDP`, `ICMP`, `IPv6-ICMP`, …
    pub proto: String,
    /// `in`, `out`, `forward`.
    pub direction: String,
    /// Packets from the side that began it.
    pub pkts_toserver: u64,
    /// Packets from the other side.
    pub pkts_toclient: u64,
    /// Bytes of IP from the side that began it.
    pub bytes_toserver: u64,
    /// Bytes of IP from the other side.
    pub bytes_toclient: u64,
    /// First packet; `null` when it came before anybody looked.
    pub start: Option<Time>,
    /// Last packet; for flows that the kernel tracks, now.
    pub end: Time,
    /// TCP state by the kernel's name, for TCP.
    pub state: Option<String>,
    /// The name that its client had resolved to the destination, where the answer was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why its first packet was allowed.
    pub decided: Decided,
    /// What drops its packets now, whatever `state` says: a ban or a feed that came after it began. While observing they would be
    /// dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Decided>,
    /// `observe` or `enforce`: whether `cut` is carried out.
    #[serde(default)]
    pub mode: String,
}

/// A verdict and where it came from, in every place that explains one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decided {
    /// `allow`, `drop`, `reject`.
    pub verdict: String,
    /// Stable name of the reason: `rule`, `banned`, `default-in`, `tcp-state`, …
    pub reason: String,
    /// The rule that decided, by name.
    pub rule: Option<String>,
    /// The file that rule was written in.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The part of the decision: `ban`, `feed`, `malformed`, `flow`, `detector`, `rule`, `essential`, `default`, `link`.
    pub stage: String,
    /// The same in one sentence for people.
    pub text: String,
}

/// Which counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatsQuery {
    /// Minutes back; 60 when absent, 43,200 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes: Option<u32>,
}

/// Counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Since the daemon began.
    pub totals: Totals,
    /// By minute, oldest first; minutes in which nothing was seen are left out.
    pub minutes: Vec<Minute>,
    /// Of what was denied in that time.
    #[serde(flatten)]
    pub denied: TopDenied,
    /// Of what would have been denied in that time, and went on as it was observed.
    #[serde(default)]
    pub would_deny: TopDenied,
    /// `observe` or `enforce`: whether anything is blocked now.
    #[serde(default)]
    pub mode: String,
}

/// Who was denied most, and what they asked for: of what is on record, which holds at most so many packets a second; `totals` counts all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopDenied {
    /// Sources with most denied packets, most first, at most 20: address and count. Not this host, its gateways and its name servers.
    pub top_sources: Vec<(String, u64)>,
    /// Services with most denied packets, most first, at most 20: `tcp/22`, or `icmp` where there is no port, and count. What bans and
    /// feeds drop is not counted here, but in `shut_out`.
    pub top_ports: Vec<(String, u64)>,
    /// How many services these were chosen from.
    #[serde(default)]
    pub denied_ports: u64,
    /// The packets of all of them.
    #[serde(default)]
    pub denied_port_packets: u64,
    /// Packets that bans and feeds dropped, whatever they asked for.
    #[serde(default)]
    pub shut_out: u64,
}

/// The counters of one minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minute {
    /// Its begin.
    pub at: Time,
    /// What was counted in it.
    #[serde(flatten)]
    pub counts: Totals,
}

/// What happened to an address, or what an event was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// What was asked for.
    pub subject: String,
    /// The story, one sentence a line, in order.
    pub story: Vec<String>,
    /// The ban in force, if there is one: the narrowest that covers it; if none does, the widest of a part of it.
    pub ban: Option<Ban>,
    /// Other bans that cover it: those of wider prefixes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub around: Vec<Ban>,
    /// How many other bans in force are of a part of it.
    #[serde(default)]
    pub parts: usize,
    /// How often it was banned within `[ban] memory`; absent when it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<BanHistory>,
    /// Bans before, newest first, at most 20.
    pub past_bans: Vec<Ban>,
    /// Whether no ban, feed or detector may drop it, and why: `own address`, `[protect]`, …
    pub protected: Option<String>,
    /// The feeds that hold it, or a part of it.
    #[serde(default)]
    pub feeds: Vec<WhyFeed>,
    /// Each reason its packets were dropped or rejected for, most first. Counted are those on record: of a flood most are not.
    pub denied: Vec<WhyCount>,
    /// First and last event on record.
    pub first_seen: Option<Time>,
    /// The last one.
    pub last_seen: Option<Time>,
    /// Its events as EVE objects, newest first, at most 50; for an event those up to it. Without packets that were dropped for a
    /// ban, which `denied` counts.
    pub events: Vec<serde_json::Value>,
    /// `observe` or `enforce`: whether anything is blocked now.
    #[serde(default)]
    pub mode: String,
}

/// What is remembered of a prefix that was banned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BanHistory {
    /// Who: the address, or the `/64` that an IPv6 address is banned by.
    pub prefix: ipnet::IpNet,
    /// How often.
    pub times_banned: u32,
    /// How many of those bans no third party could bring about: each doubles the next.
    pub offences: u32,
    /// When the last one began.
    pub last: Time,
    /// When a person last lifted one; what was before does not double.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted: Option<Time>,
}

/// A feed that holds an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyFeed {
    /// Its name, without `@`.
    pub name: String,
    /// The list files that it is made of.
    pub files: Vec<String>,
    /// Whether it holds all of what was asked for.
    pub whole: bool,
}

/// How often one reason struck.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyCount {
    /// The reason.
    pub decided: Decided,
    /// Packets on record, one event each. Of a flood most are left out (`[log] drops_per_second`).
    pub count: u64,
    /// The first of them.
    pub first: Time,
    /// The last of them.
    pub last: Time,
    /// Whether they were stopped; else they would have been, and passed.
    #[serde(default = "yes")]
    pub enforced: bool,
}

const fn yes() -> bool {
    true
}
