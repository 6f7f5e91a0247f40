//! What the user wrote, validated.

use std::path::PathBuf;

use crate::plan::Plan;

/// A policy without errors. Immutable; a changed file makes a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(crate) plan: Plan,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) dns: Dns,
}

impl Policy {
    /// What the engine and the kernel backends execute.
    pub fn plan(&self) -> Plan {
        self.plan.clone()
    }

    /// [`Policy::plan`] for whoever needs nothing else of the policy.
    pub fn into_plan(self) -> Plan {
        self.plan
    }

    /// Every file that was read for it: the policy, its includes, its lists.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// `[dns]`, which no part of this version enforces.
    pub fn dns(&self) -> &Dns {
        &self.dns
    }
}

/// `[dns]`: names that are not to be resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Blocked names in lower case; `*.` begins those that stand for everything below them.
    pub block: Vec<String>,
    /// Names that are resolved although a list or a pattern blocks them.
    pub allow: Vec<String>,
}
