//! What the user wrote, validated.

use std::path::PathBuf;

use crate::plan::Plan;

/// A policy without errors. Immutable; a changed file makes a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(crate) plan: Plan,
    pub(crate) files: Vec<PathBuf>,
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
}
