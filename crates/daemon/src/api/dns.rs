//! Hypothetical questions to name servers.

use serde::{Deserialize, Serialize};

/// Names to judge by the policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsTestRequest {
    /// The names, as people write them.
    pub names: Vec<String>,
}

/// What becomes of questions for a name: the shape of `dns test --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsTestResult {
    /// The name in canonical form: lower case, A-labels, no dot at the end.
    pub name: String,
    /// `allow` or `drop`.
    pub verdict: String,
    /// `dns-blocked`, `dns-allowed`, `dns-not-listed`, or `dns-off` where the policy has no `[dns]`.
    pub reason: String,
    /// The entry that decided, as lists write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The list file or the place in the policy that it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What a blocked question is answered with: `zero`, `nxdomain`, `refuse`, `drop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// `observe` or `enforce`: whether a running daemon carries it out; absent where none was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// One sentence for people, without full stop. May hold what the user wrote: escape it before it reaches a terminal.
    pub text: String,
}
