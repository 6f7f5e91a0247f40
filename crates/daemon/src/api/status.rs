//! How the firewall is.

use serde::{Deserialize, Serialize};

use super::{Time, Totals};

/// How the firewall is: the shape of `status --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// `observe` or `enforce`.
    pub mode: String,
    /// What captures packets and what carries out verdicts.
    pub backends: Vec<Backend>,
    /// The policy in force.
    pub policy: PolicyStatus,
    /// Whether the kernel holds what was applied.
    pub drift: Drift,
    /// What was lost.
    pub losses: Losses,
    /// How full the queues are.
    pub queues: Vec<Queue>,
    /// Seconds since the daemon began.
    pub uptime_s: u64,
    /// When it began.
    pub since: Time,
    /// The interfaces that observing looks at; empty stands for all. Rules and bans hold on every one.
    pub interfaces: Vec<String>,
    /// The detectors that are on.
    #[serde(default)]
    pub detectors: Vec<DetectorStatus>,
    /// The feeds.
    #[serde(default)]
    pub feeds: Vec<FeedStatus>,
    /// What `[dns]` blocks; `null` where the policy has none.
    #[serde(default)]
    pub dns: Option<DnsStatus>,
    /// What a network needs and the policy allows under any default; empty when `essentials = false`.
    pub essentials: Vec<Essential>,
    /// What no ban, feed or detector may drop.
    pub protected: Vec<Protected>,
    /// Set while an apply waits for its confirmation.
    pub pending: Option<Pending>,
    /// Sums since the begin.
    pub totals: Totals,
    /// Bans in force.
    pub bans: usize,
    /// Flows tracked now.
    pub flows: usize,
    /// Where the record is and how it does.
    pub record: Record,
    /// What is not as it should be, one sentence each: what is not enforced, what is missing, what failed.
    pub warnings: Vec<String>,
}

/// A part that captures or enforces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// `nftables`, `nflog`, `nfqueue`, `af_packet`.
    pub name: String,
    /// `running`, `unavailable`, `failed`, `unused`.
    pub state: String,
    /// One sentence: what it does, or why it does not.
    pub detail: String,
}

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// The file as the user named it, `<text>` or `<built in>`.
    pub source: String,
    /// The first 16 hexadecimal digits of the SHA-1 of what was read.
    pub digest: String,
    /// Rules in it.
    pub rules: usize,
    /// Sets in it.
    pub sets: usize,
    /// When it was put in force.
    pub applied: Time,
    /// Why the file as it is now is not in force, if it is not.
    pub rejected: Option<String>,
    /// Its list files.
    #[serde(default)]
    pub lists: Vec<List>,
}

/// A list file of the policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// The set or feed that it fills; of names the key of `[dns]` that names it.
    pub set: String,
    /// `set`, `feed` or `names`.
    #[serde(default)]
    pub kind: String,
    /// Whether that is a feed.
    pub feed: bool,
    /// The file.
    pub path: String,
    /// Ranges of addresses in use from it, merged.
    pub ranges: usize,
    /// Names in use from it.
    #[serde(default)]
    pub names: usize,
    /// Rules of a list of names that are about pages, and are left out.
    #[serde(default)]
    pub skipped: usize,
    /// Lines that were skipped.
    pub bad_lines: usize,
    /// The first few of them: place, and what is wrong.
    pub first_bad: Vec<String>,
    /// Set while the file gives nothing, and what it held before is used.
    pub stale: Option<Stale>,
}

/// Why a list file is not used as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// Completes the sentence `the file …`.
    pub why: String,
    /// Since when.
    pub since: Time,
    /// When what is used was first read.
    pub read: Time,
}

/// A detector that is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetectorStatus {
    /// As the policy writes it: `scan`, `syn_flood`, …
    pub name: String,
    /// What it does with an offender: `alert`, `limit`, `ban`.
    pub response: String,
}

/// A feed: what it names is dropped before the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedStatus {
    /// Its name, without `@`.
    pub name: String,
    /// Ranges of addresses in it, merged.
    pub ranges: usize,
    /// The files it is read from.
    pub files: Vec<FeedFile>,
}

/// A file of a feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedFile {
    /// The file, or the folder of them.
    pub path: String,
    /// When what was read from it was written; `null` where it could not be read.
    pub modified: Option<Time>,
}

/// Names that are not resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsStatus {
    /// Entries that block, those aside that a wider one covers.
    pub blocked: usize,
    /// Entries that are exceptions.
    pub allowed: usize,
    /// The lists they come from.
    pub lists: Vec<String>,
    /// What a blocked question gets: `zero`, `nxdomain`, `refuse`, `drop`.
    pub answer: String,
}

/// Whether the kernel holds what was applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Whether it did at the last check; `true` when nothing is applied.
    pub in_sync: bool,
    /// When that was; `null` in observe mode.
    pub checked: Option<Time>,
    /// What differed the last time something did.
    pub last: Option<String>,
    /// When.
    pub last_at: Option<Time>,
    /// How often it was put back.
    pub repaired: u64,
}

/// What was lost since the begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Packets the capture ring had no room for.
    pub capture: u64,
    /// Copies of packets that NFLOG could not deliver.
    pub nflog: u64,
    /// Packets that a full NFQUEUE dropped.
    pub nfqueue: u64,
    /// Answers to questions for blocked names, and resets of rejected connections, that could not be sent: somebody waits.
    #[serde(default)]
    pub answers: u64,
    /// Drop events over `drops_per_second`: counted, not recorded.
    pub drop_events: u64,
    /// Flow events over `flows_per_second`, those first that came to nothing: counted, not recorded.
    #[serde(default)]
    pub flow_events: u64,
    /// Flows that the kernel let in without telling of their begin, as it tells 5,000 a second: the record does not say which rule let
    /// them in, nor, unless it is TCP from outside, when they began. With `log = true`, also packets that are not on record.
    #[serde(default)]
    pub flows_untold: u64,
    /// When the first of these was noticed, at most 5 s late; `null` where there are none.
    #[serde(default)]
    pub flows_untold_since: Option<Time>,
    /// Refusals of bans that were not recorded, since as many or the same were told within the minute.
    #[serde(default)]
    pub refusals: u64,
    /// Events that the store had no time for.
    pub store: u64,
    /// Events that the recording thread had no time for.
    #[serde(default)]
    pub record: u64,
    /// Lines that a full disk or another error kept out of the files.
    pub files: u64,
    /// Events that a slow reader of `events --follow` missed.
    pub followers: u64,
}

/// A queue between two parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// What waits in it.
    pub name: String,
    /// How many wait now.
    pub length: usize,
    /// How many can.
    pub capacity: usize,
    /// How many found it full.
    pub dropped: u64,
}

/// One thing a network needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Essential {
    /// Stable name: `loopback`, `neighbour-discovery`, …
    pub name: String,
    /// One sentence.
    pub what: String,
}

/// What may not be dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protected {
    /// The prefix.
    pub prefix: String,
    /// Why: `own`, `gateway`, `resolver`, `dhcp server`, `ntp server`, `policy`, `allowed`, `session`.
    pub why: String,
}

/// An apply that waits for its confirmation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// The policy that waits.
    pub source: String,
    /// Its digest.
    pub digest: String,
    /// When the previous state comes back.
    pub deadline: Time,
    /// Whole seconds left, rounded up.
    pub remaining_s: u64,
    /// The policy that comes back.
    pub previous: String,
}

/// Where the record is and how it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `eve.json`.
    pub eve: Sink,
    /// `firewall.log`.
    pub text: Sink,
    /// The store.
    pub store: Sink,
}

/// One place the record is written to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sink {
    /// The file.
    pub path: String,
    /// `writing`, `stopped`, `off`.
    pub state: String,
    /// Why it is stopped.
    pub error: Option<String>,
    /// Events written.
    pub written: u64,
    /// Events lost.
    pub lost: u64,
    /// Bytes on disk now.
    pub bytes: u64,
}
