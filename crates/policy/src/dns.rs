//! `[dns]`: which names are not to be resolved, on which ports questions are looked for, and what becomes of one that is blocked.

use std::sync::Arc;
use std::time::Duration;

use crate::names::NameFilter;
use crate::port::PortSet;

/// The section, compiled. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsFilter {
    /// What is blocked and allowed.
    pub names: Arc<NameFilter>,
    /// What becomes of a blocked question.
    pub answer: DnsAnswer,
    /// Destination ports of questions, of UDP and of TCP.
    pub ports: PortSet,
    /// How long a client may remember an answer of [`DnsAnswer::Zero`] or [`DnsAnswer::NxDomain`]; whole seconds.
    pub ttl: Duration,
    /// What is recorded.
    pub log: DnsLog,
}

/// What becomes of a blocked question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DnsAnswer {
    /// `REFUSED` (RFC 1035 §4.1.1). Some clients ask another resolver then.
    Refuse,
    /// None; the client waits and asks again.
    Drop,
    /// `NXDOMAIN`: there is no such name (RFC 2308 §2.1).
    NxDomain,
    /// `0.0.0.0` to a question for A, `::` for AAAA, and no record of another type: connections fail at once, and nobody asks again.
    #[default]
    Zero,
}

impl DnsAnswer {
    /// As the policy writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Drop => "drop",
            Self::NxDomain => "nxdomain",
            Self::Zero => "zero",
        }
    }
}

/// Which questions are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DnsLog {
    /// None.
    None,
    /// Those that are blocked.
    #[default]
    Blocked,
    /// Every one.
    All,
}

impl DnsFilter {
    /// Where DNS is served (RFC 1035 §4.2).
    pub const PORT: u16 = 53;
    /// Short, so that a name that was allowed again is soon reached.
    pub const TTL: Duration = Duration::from_secs(60);
}
