//! Somebody else changes what is ours in the kernel: seen within a second, put back, and told.

use ipnet::IpNet;
use kernel::datapath::{Apply, DatapathError, Drift};
use policy::Timestamp;

use super::Guard;
use crate::record::NoticeKind;
use crate::record::explain::short;

impl Guard {
    /// Compares the kernel with what was applied, and puts back what differs.
    pub(super) fn check(&mut self, now: Timestamp) {
        if !self.enforcing {
            return;
        }
        self.hear_own_bans();
        match self.compare(now) {
            Ok(None) => {
                // What could not be put back is right again without us: it is no repair to tell of.
                if !self.drift.in_sync {
                    (self.drift.last, self.drift.last_at) = (None, None);
                }
                self.drift.in_sync = true;
            }
            Ok(Some(what)) => {
                self.drift.in_sync = true;
                self.drift.repaired += 1;
                self.tell_drift(what, now);
            }
            Err(error) => {
                let text = format!(
                    "the kernel does not hold what was applied, and it cannot be put back: {error}"
                );
                // Told once, not each second.
                if self.drift.in_sync || self.drift.last.as_ref() != Some(&text) {
                    let since = self.drift.last_at.filter(|_| !self.drift.in_sync);
                    self.tell_drift(text, now);
                    // Another reason does not make it begin anew.
                    self.drift.last_at = since.or(self.drift.last_at);
                }
                self.drift.in_sync = false;
            }
        }
        self.drift.checked = Some(now.into());
    }

    /// What the check does, at once, for who just heard from the kernel that our table is gone. Whether it is worth to ask again.
    pub(super) fn is_put_back(&mut self, now: Timestamp) -> bool {
        self.check(now);
        self.enforcing && self.drift.in_sync
    }

    /// Asks the kernel, and once more where somebody had taken our table away and it is put back.
    pub(super) fn insist<T>(
        &mut self,
        now: Timestamp,
        mut ask: impl FnMut(&mut Self) -> Result<T, DatapathError>,
    ) -> Result<T, DatapathError> {
        match ask(self) {
            Err(DatapathError::NotApplied) if self.is_put_back(now) => ask(self),
            outcome => outcome,
        }
    }

    fn tell_drift(&mut self, text: String, now: Timestamp) {
        self.drift.last = Some(text.clone());
        self.drift.last_at = Some(now.into());
        self.notice(NoticeKind::Drift, text);
    }

    /// What differed and is as it should be again; `None` when nothing did.
    fn compare(&mut self, now: Timestamp) -> Result<Option<String>, DatapathError> {
        let Some(datapath) = &mut self.datapath else {
            return Ok(None);
        };
        match datapath.check()? {
            Drift::None if !self.bans_behind && !self.is_to_compare() => Ok(None),
            Drift::None => {
                self.restore_kernel_bans(now)?;
                Ok(None)
            }
            Drift::Nearby => {
                let missing = self.restore_kernel_bans(now)?;
                Ok((!missing.is_empty()).then(|| taken_out(&missing)))
            }
            Drift::Changed { what } => {
                self.put_back(now, false)?;
                Ok(Some(format!(
                    "somebody changed our rules in the kernel ({}); they were put back",
                    what.join(", ")
                )))
            }
            Drift::Gone => {
                self.put_back(now, false)?;
                Ok(Some(
                    "somebody took our rules out of the kernel; they were put back".to_owned(),
                ))
            }
        }
    }

    /// Applies the plan in force anew, with its bans. Also after protected addresses changed: then it goes on, and nobody gets a full
    /// bucket by it.
    pub(super) fn put_back(&mut self, now: Timestamp, goes_on: bool) -> Result<(), DatapathError> {
        let plan = std::sync::Arc::clone(&self.in_force.plan);
        let (queues, _) = self.pump.queues(&plan, &self.discovered);
        let protected = self.discovered.protected_set();
        // Applying forgets it.
        self.hear_own_bans();
        let Some(datapath) = self.datapath.as_mut().filter(|_| self.enforcing) else {
            return Ok(());
        };
        self.counts.keep(datapath.as_mut(), &plan, true, now);
        datapath.apply(&Apply {
            plan: &plan,
            protected: &protected,
            queues,
            goes_on,
        })?;
        self.restore_kernel_bans(now).map(drop)
    }
}

/// Bans that the record names when somebody took them out of the kernel.
const NAMED: usize = 3;

/// The first of them, and how many more there are.
pub(super) fn named(prefixes: &[IpNet]) -> String {
    let names: Vec<String> = prefixes.iter().take(NAMED).map(|net| short(*net)).collect();
    match prefixes.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// What was done to the bans, in words.
fn taken_out(missing: &[IpNet]) -> String {
    let (what, it, back) = match missing.len() {
        1 => ("a ban", "it", "it was"),
        _ => ("bans", "them", "they were"),
    };
    format!(
        "somebody took {what} out of the kernel or made {it} end earlier ({}); {back} put back",
        named(missing)
    )
}
