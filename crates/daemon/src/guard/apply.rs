//! The policy line: text → policy → plan → one kernel transaction → read back → confirm or roll back. The text became a
//! [`Candidate`] elsewhere, off this thread; reading back is the datapath's part of its transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use kernel::datapath::{Apply, Datapath, DatapathError};
use policy::{AddressSet, Mode, Plan, Timestamp};

use super::apply_error::ApplyError;
use super::hold::{Before, Hold};
use super::rolled_back::REJECTED;
use super::saved::{APPLIED, PREVIOUS, Saved};
use super::{Guard, InForce};
use crate::api;
use crate::candidate::{Candidate, Source};
use crate::record::NoticeKind;
use crate::record::explain::several;
use crate::store::PolicyEntry;

/// How a policy came into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The daemon began with it.
    Start,
    /// Somebody asked for it.
    Apply,
    /// Its files changed, or somebody asked to read them again.
    Reload,
    /// The one before did not stay.
    Rollback,
}

impl By {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Apply => "apply",
            Self::Reload => "reload",
            Self::Rollback => "rollback",
        }
    }
}

/// The plan as it is here: with the mode that holds, and with the runtime allow list among the protected.
pub(super) fn effective(
    plan: &Plan,
    mode: Mode,
    allowed: &BTreeMap<IpNet, api::Allowed>,
) -> Arc<Plan> {
    let mut plan = plan.clone();
    plan.mode = mode;
    let allowed: AddressSet = allowed.keys().copied().collect();
    plan.protect.addresses = plan.protect.addresses.union(&allowed);
    Arc::new(plan)
}

/// What an apply needs beside the policy.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// How it came about.
    pub by: By,
    /// Within which time it has to be confirmed.
    pub confirm: Option<Duration>,
    /// Although it cuts sessions.
    pub force: bool,
}

impl Guard {
    /// Puts the first policy in force. Where it cannot be enforced, the guard observes and says so.
    ///
    /// # Errors
    ///
    /// When enforcing was asked for and is not possible.
    pub fn start(&mut self) -> Result<api::Applied, ApplyError> {
        let candidate = self.in_force.candidate.clone();
        let asked = Asked {
            by: By::Start,
            confirm: None,
            force: true,
        };
        self.put_in_force(candidate, asked)
    }

    /// Puts a policy in force.
    ///
    /// # Errors
    ///
    /// When it may not or cannot be; then the one before stays.
    pub fn apply(
        &mut self,
        candidate: Candidate,
        asked: Asked,
    ) -> Result<api::Applied, ApplyError> {
        if self.hold.is_some() {
            return Err(ApplyError::Pending);
        }
        self.put_in_force(candidate, asked)
    }

    pub(super) fn put_in_force(
        &mut self,
        candidate: Candidate,
        asked: Asked,
    ) -> Result<api::Applied, ApplyError> {
        let now = self.clock.now();
        // Who flushed wants nothing in the kernel; a file that changes, perhaps by itself, does not overrule that, and neither does
        // going back to how it was.
        let stays_flushed = match asked.by {
            By::Reload => self.flushed,
            By::Rollback => (self.hold.as_ref()).is_some_and(|hold| hold.before().flushed),
            By::Start | By::Apply => false,
        };
        let wanted = self.mode_override.unwrap_or(candidate.plan.mode);
        let mode = if stays_flushed { Mode::Observe } else { wanted };
        self.is_welcome(&candidate, mode, asked)?;
        // What somebody else did is told before it is covered, and going back leads to our rules and not to what he left of them.
        self.check(now);
        let plan = effective(&candidate.plan, mode, &self.allowed);
        let mut warnings = candidate.warnings.clone();
        if stays_flushed && wanted == Mode::Enforce {
            warnings.push(
                "nothing is put in the kernel after `flush`: `portcullis apply` enforces again"
                    .to_owned(),
            );
        } else if wanted != candidate.plan.mode {
            warnings.push(format!(
                "the policy says {}, the daemon was started to {}",
                candidate.plan.mode.name(),
                mode.name()
            ));
        }
        warnings.extend(self.sessions_cut(&plan, mode, asked, now)?);
        if let Some(limit) = asked.confirm {
            let snapshot = match &mut self.datapath {
                Some(datapath) => Some(datapath.snapshot()?),
                None => None,
            };
            let before = Before {
                candidate: self.in_force.candidate.clone(),
                enforcing: self.enforcing,
                flushed: self.flushed,
            };
            self.hold = Some(Hold::begin(
                &self.state,
                &self.revert,
                limit,
                &candidate,
                before,
                snapshot,
            )?);
        }
        match self.change_kernel(&plan, mode, asked.by, now) {
            Ok(more) => warnings.extend(more),
            Err(error) => {
                if asked.confirm.is_some() {
                    self.end_hold();
                }
                // Sources that were begun for it end.
                self.pump.switch(self.mode());
                return Err(error);
            }
        }
        self.flushed = stays_flushed;
        warnings.extend(self.adopt(candidate, plan, asked.by, now));
        // One that waits for its confirmation is told with that.
        if asked.by == By::Apply && asked.confirm.is_none() {
            warnings.extend(self.next_start());
        } else if asked.by == By::Reload {
            warnings.extend(self.begins_otherwise());
        }
        Ok(self.applied(warnings, asked))
    }

    /// Refuses what nobody asked for and could lock somebody out, and a wait that would bring nothing back.
    fn is_welcome(
        &self,
        candidate: &Candidate,
        mode: Mode,
        asked: Asked,
    ) -> Result<(), ApplyError> {
        let name = || candidate.source.name();
        if asked.by == By::Reload && self.was_rolled_back(candidate) {
            return Err(ApplyError::RolledBack { name: name() });
        }
        if asked.by == By::Reload && mode == Mode::Enforce && !self.enforcing {
            return Err(ApplyError::WouldEnforce { name: name() });
        }
        let is_same = candidate.digest == self.in_force.candidate.digest && mode == self.mode();
        if asked.confirm.is_some() && is_same {
            return Err(ApplyError::InForceAlready {
                name: name(),
                since: self.in_force.since.into(),
                by: self.in_force.by.name(),
                mend: match &self.previous {
                    Some(previous) => format!(
                        "`portcullis rollback` goes back to {} ({})",
                        previous.source.name(),
                        previous.digest
                    ),
                    None => "there is no older policy to go back to".to_owned(),
                },
            });
        }
        Ok(())
    }

    /// The kernel has changed over to this policy: everything else follows.
    pub(super) fn adopt(
        &mut self,
        candidate: Candidate,
        plan: Arc<Plan>,
        by: By,
        now: Timestamp,
    ) -> Vec<String> {
        self.engine.reload(Arc::clone(&plan));
        self.recorder
            .set_policy(Arc::clone(&plan), plan.mode == Mode::Enforce);
        self.pump.set_plan(&plan, &self.discovered);
        let untold = std::mem::take(&mut self.untold);
        let gone = self.tell_of_begin(untold.found_at_start, untold.not_enforced, now);
        let mut told: Vec<String> = gone.into_iter().collect();
        match self.restore_kernel_bans(now) {
            Ok(cut) if untold.in_force_from_now => told.extend(self.tell_of_cut(&cut, by, now)),
            Ok(_) => {}
            Err(error) => {
                self.bans_behind = true;
                told.push(format!("the kernel's bans are behind: {error}"));
            }
        }
        self.settle(now);
        self.remember(candidate, plan, by, now);
        told
    }

    /// The one transaction. Sources follow: what enforces needs other packets than what observes.
    fn change_kernel(
        &mut self,
        plan: &Arc<Plan>,
        mode: Mode,
        by: By,
        now: Timestamp,
    ) -> Result<Vec<String>, ApplyError> {
        let mut warnings = Vec::new();
        self.keep_own_bans(now);
        if mode == Mode::Enforce {
            let missing = || self.no_datapath.clone().unwrap_or_default();
            let datapath = self
                .datapath
                .as_mut()
                .ok_or_else(|| ApplyError::NoDatapath(missing()))?;
            // Whoever has the log has the firewall: two of them would undo each other's rules for ever.
            self.pump.claim_log().map_err(ApplyError::Taken)?;
            let (queues, without) = self.pump.queues(plan, &self.discovered);
            warnings.extend(without);
            self.counts
                .keep(datapath.as_mut(), &self.in_force.plan, self.enforcing, now);
            // Rules that an earlier daemon left are better than none when this one cannot begin.
            let left = by == By::Start && holds_rules(datapath.as_mut());
            let protected = self.discovered.protected_set();
            let request = Apply {
                plan,
                protected: &protected,
                queues,
                goes_on: false,
            };
            if let Err(error) = datapath.apply(&request) {
                // It may have failed after the kernel took the rules. While enforcing the next check puts the plan in force back;
                // who observes promises that nothing is blocked.
                if !self.enforcing
                    && !left
                    && let Err(error) = datapath.remove()
                {
                    tracing::error!(
                        "rules of the refused policy may be left in the kernel: {error}; `portcullis flush` takes them out"
                    );
                }
                return Err(error.into());
            }
            if !self.enforcing {
                self.change_judge(true);
            }
        } else if self.enforcing {
            let datapath = self.datapath.as_mut();
            if let Some(datapath) = datapath {
                self.counts
                    .keep(datapath.as_mut(), &self.in_force.plan, true, now);
                datapath.remove()?;
            }
            self.change_judge(false);
        }
        self.flushed = false;
        self.drift.in_sync = true;
        self.drift.checked = self.enforcing.then(|| now.into());
        warnings.extend(self.pump.switch(mode));
        // A daemon that sees nothing does not begin: then the kernel stays as it was.
        if by == By::Start && mode == Mode::Observe && !self.pump.is_blind() {
            warnings.extend(self.remove_left());
        }
        Ok(warnings)
    }

    /// Takes out what an earlier daemon left: who observes promises that nothing is blocked. Gives why not.
    fn remove_left(&mut self) -> Option<String> {
        let datapath = self.datapath.as_mut()?;
        if !holds_rules(datapath.as_mut()) {
            return None;
        }
        if let Err(taken) = self.pump.claim_log() {
            // They are not left, but those of a firewall that runs.
            return Some(format!(
                "another portcullis enforces here, and blocks although this one observes: {taken}"
            ));
        }
        let removed = datapath.remove();
        // Who observes has no use for the log, and leaves it to others.
        self.pump.release_log();
        match removed {
            Ok(()) => {
                let text = "rules that an earlier run left in the kernel were taken out: nothing is blocked while observing";
                self.notice(NoticeKind::Daemon, text);
                None
            }
            Err(error) => Some(format!(
                "rules in the kernel block although this daemon observes ({error}); `portcullis flush` takes them out"
            )),
        }
    }

    /// The new policy is the one in force: in memory, on disk, in the history, in the record.
    fn remember(&mut self, candidate: Candidate, plan: Arc<Plan>, by: By, now: Timestamp) {
        self.store.policy(PolicyEntry {
            version: api::PolicyVersion {
                at: now.into(),
                source: candidate.source.name(),
                digest: candidate.digest.clone(),
                rules: candidate.plan.rules.len(),
                by: by.name().to_owned(),
            },
            text: candidate.text.clone(),
        });
        let rules = several(candidate.plan.rules.len(), "rule");
        let text = format!(
            "policy {} ({}) is in force, {rules}, mode {} ({})",
            candidate.source.name(),
            candidate.digest,
            plan.mode.name(),
            by.name()
        );
        let fresh = InForce {
            candidate,
            plan,
            since: now,
            by,
        };
        let old: Candidate = std::mem::replace(&mut self.in_force, fresh).candidate;
        // A daemon begins with the lists of its first policy, of which nobody was told yet.
        let lists_before = match by {
            By::Start => Vec::new(),
            _ => old.lists.clone(),
        };
        if old.digest != self.in_force.candidate.digest {
            self.forget_hits();
            self.seen.forget_rules();
            // One that waits is not yet worth going back from, and one that goes back before it was confirmed never was.
            match (&self.hold, by) {
                (Some(_), _) => {}
                // Going back once more must not lead forward again.
                (None, By::Rollback) => {
                    self.previous = None;
                    self.forget(PREVIOUS);
                }
                (None, By::Start | By::Apply | By::Reload) => self.set_previous(old),
            }
        } else if by == By::Start
            && let Some(previous) = self.previous.take()
        {
            self.set_previous(previous);
        }
        self.save(APPLIED, &Saved::from(&self.in_force.candidate));
        self.take_up(by);
        self.watch.set(&self.in_force.candidate, by, self.aside());
        self.notice(NoticeKind::Policy, text);
        self.tell_of_lists(&lists_before);
    }

    /// What an unasked-for rollback goes back to from now on.
    pub(super) fn set_previous(&mut self, previous: Candidate) {
        self.save(PREVIOUS, &Saved::from(&previous));
        self.previous = Some(previous);
    }

    fn applied(&self, warnings: Vec<String>, asked: Asked) -> api::Applied {
        let name = self.in_force.candidate.source.name();
        let mode = self.mode().name();
        let message = match asked.confirm {
            Some(limit) => format!(
                "{name} is in force ({mode}) for {} s; `portcullis confirm` keeps it",
                limit.as_secs()
            ),
            None => format!("{name} is in force ({mode})"),
        };
        self.outcome(&message, warnings)
    }

    pub(super) fn outcome(&self, message: &str, warnings: Vec<String>) -> api::Applied {
        api::Applied {
            message: message.to_owned(),
            mode: self.mode().name().to_owned(),
            source: self.in_force.candidate.source.name(),
            digest: self.in_force.candidate.digest.clone(),
            rules: self.in_force.candidate.plan.rules.len(),
            pending: self.pending(),
            warnings,
            not_kept: self.not_kept(&[APPLIED, PREVIOUS, REJECTED]),
        }
    }

    pub(super) fn pending(&self) -> Option<api::Pending> {
        self.hold.as_ref().map(Hold::shown)
    }

    /// Whether a policy waits for its confirmation.
    pub(crate) fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    pub(super) fn mode(&self) -> Mode {
        if self.enforcing {
            Mode::Enforce
        } else {
            Mode::Observe
        }
    }

    /// `observe` or `enforce`: whether anything is blocked now.
    pub fn mode_now(&self) -> &'static str {
        self.mode().name()
    }

    /// Where the policy in force is read from.
    pub fn source(&self) -> Source {
        self.in_force.candidate.source.clone().again()
    }

    /// Why nothing is seen and nothing enforced, when that is so.
    pub fn blind(&self) -> Option<String> {
        if self.enforcing || !self.pump.is_blind() {
            return None;
        }
        Some(self.pump.warnings().join("; "))
    }

    /// What happens to what no rule decides: inbound, outbound, forward.
    pub fn defaults(&self) -> [policy::DefaultAction; 3] {
        let default = self.in_force.plan.default;
        [default.inbound, default.outbound, default.forward]
    }
}

/// Whether anything of ours is in the kernel. What cannot be asked may be there.
fn holds_rules(datapath: &mut dyn Datapath) -> bool {
    !matches!(datapath.bans(), Err(DatapathError::NotApplied))
}
