//! The policy in force: rules, sets, applying, confirming, rolling back, and what is wrong with a policy.

use serde::{Deserialize, Serialize};

use super::{Pending, Time};

/// A rule of the policy in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its place in the order, from 0.
    pub id: u32,
    /// As the user named it, or its text in short form.
    pub name: String,
    /// `allow`, `deny`, `reject`, `limit`, `ban`.
    pub action: String,
    /// `in`, `out`, `forward`.
    pub directions: Vec<String>,
    /// `tcp,udp`, or `any`.
    pub protocol: String,
    /// Sources: prefixes and `@sets`; `any`.
    pub from: String,
    /// Destinations: prefixes and `@sets`; `any`.
    pub to: String,
    /// Source ports; `any`.
    pub source_port: String,
    /// Destination ports; `any`.
    pub port: String,
    /// Interface name, or its begin and `*`.
    pub interface: Option<String>,
    /// Whether each match is recorded.
    pub log: bool,
    /// Whether it looks into the payload.
    pub content: bool,
    /// The TLS server names that it matches; left out when it asks for none, as the next. At most eight are written out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sni: Vec<String>,
    /// The HTTP hosts that it matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http_host: Vec<String>,
    /// Until when it counts.
    pub expires: Option<Time>,
    /// The file it was written in.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// `file:line:column`.
    pub position: String,
    /// Packets it decided since the policy was applied, in the kernel or by whoever looks into packets for content rules; of a flow that
    /// passes the first alone.
    pub hits: u64,
}

/// A named set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// Its name without `@`.
    pub name: String,
    /// Prefixes in it, merged.
    pub prefixes: usize,
    /// Whether its addresses are dropped before the rules.
    pub feed: bool,
    /// Names of the rules that use it.
    pub used_by: Vec<String>,
}

/// What is in a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetAddresses {
    /// Its name without `@`.
    pub name: String,
    /// The first 10,000 prefixes, merged, IPv4 first.
    pub prefixes: Vec<String>,
    /// How many there are.
    pub count: usize,
}

/// How a policy is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// TOML.
    #[default]
    Toml,
    /// JSON.
    Json,
    /// One rule a line.
    Rules,
}

/// Puts a policy in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ApplyRequest {
    /// A file the daemon reads (absolute); absent with `text` absent: the file it runs with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The policy itself, instead of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How `text` is written.
    #[serde(default)]
    pub format: Format,
    /// Seconds within which [`Applied`] must be confirmed, else the previous state comes back: 1 to [`Self::MOST_CONFIRM_S`].
    /// Absent: for good at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_s: Option<u64>,
    /// Apply although it cuts live administrator sessions.
    #[serde(default)]
    pub force: bool,
}

impl ApplyRequest {
    /// The most seconds that a policy may wait for its confirmation: a day.
    pub const MOST_CONFIRM_S: u64 = 86_400;

    /// Why a policy cannot wait so long, as it was asked for, where it is out of that range.
    pub fn wrong_confirm(asked: impl std::fmt::Display) -> String {
        let most = Self::MOST_CONFIRM_S;
        format!("a policy waits for its confirmation from 1 s to {most} s (24 h), not {asked}")
    }
}

/// What was put in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// One sentence for people.
    pub message: String,
    /// `observe` or `enforce`.
    pub mode: String,
    /// Where the policy came from.
    pub source: String,
    /// Its digest: the first 16 hexadecimal digits of the SHA-1 of what was read.
    pub digest: String,
    /// Rules in it.
    pub rules: usize,
    /// Set while a confirmation is awaited.
    pub pending: Option<Pending>,
    /// Warnings: lint, what the kernel cannot enforce, sessions that it cuts.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// As [`Ban::not_kept`](super::Ban::not_kept).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
}

/// What was taken out of the kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flushed {
    /// One sentence for people.
    pub message: String,
}

/// The policy in force as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyText {
    /// Where it came from; the file as the user named it, `<text>` or `<built in>`.
    pub source: String,
    /// The text, without its includes and lists.
    pub text: String,
    /// How it is written.
    pub format: Format,
    /// Its digest.
    pub digest: String,
}

/// A policy that was in force once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyVersion {
    /// When it was put in force.
    pub at: Time,
    /// Where it came from.
    pub source: String,
    /// Its digest.
    pub digest: String,
    /// Rules in it.
    pub rules: usize,
    /// `start`, `apply`, `reload`, `rollback`.
    pub by: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// It can, but does not do what it seems to.
    Warning,
}

/// One thing that is wrong with a policy: the shape of `check --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Stable kebab-case name.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// The file, as the user named it.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// The nearest valid word, or what to write instead.
    pub suggestion: Option<String>,
    /// A packet that shows it, as `test` takes it.
    pub witness: Option<String>,
}
