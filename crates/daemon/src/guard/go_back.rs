//! What comes after an apply: confirming it, going back, giving way altogether.

use std::sync::Arc;

use policy::Mode;

use super::Guard;
use super::apply::{Asked, By, effective};
use super::apply_error::ApplyError;
use super::hold::{Hold, PENDING};
use crate::api;
use crate::record::NoticeKind;

impl Guard {
    /// Keeps the policy that waits.
    ///
    /// # Errors
    ///
    /// When none waits, or what would bring the one before back cannot be stopped; then it still waits.
    pub fn confirm(&mut self) -> Result<api::Applied, ApplyError> {
        let hold = self.hold.as_ref().ok_or(ApplyError::NothingPending)?;
        hold.keep(&self.state)?;
        self.keep_previous();
        self.hold = None;
        self.notice(NoticeKind::Policy, "the policy is confirmed and stays");
        let warnings = self.next_start().into_iter().collect();
        Ok(self.outcome("the policy is confirmed and stays", warnings))
    }

    /// Goes back to the policy before: the one that was in force when the waiting one came, else the one before the present one.
    /// Never forward: what was gone back from stays away until somebody applies it.
    /// With `only`, goes back only if the policy that waits is the one of this id.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be put in force.
    pub fn roll_back(&mut self, only: Option<&str>) -> Result<api::Applied, ApplyError> {
        if let Some(id) = only
            && self.hold.as_ref().is_none_or(|hold| hold.id() != id)
        {
            return Err(ApplyError::NothingPending);
        }
        let asked = Asked {
            by: By::Rollback,
            confirm: None,
            force: true,
        };
        let gone = self.in_force.candidate.clone();
        let applied = match &self.hold {
            Some(hold) => {
                let before = hold.before().candidate.clone();
                let outcome = self.put_in_force(before, asked);
                self.went_back(outcome)?
            }
            None => {
                let previous = self.previous.clone().ok_or(ApplyError::NoPrevious)?;
                self.put_in_force(previous, asked)?
            }
        };
        self.turn_away(&gone);
        Ok(applied)
    }

    /// Ends the hold after what was before it came into force anew, or brings it back where it did not.
    fn went_back(
        &mut self,
        outcome: Result<api::Applied, ApplyError>,
    ) -> Result<api::Applied, ApplyError> {
        let mut applied = match outcome {
            Ok(applied) => applied,
            Err(error) => self.bring_back(error)?,
        };
        self.end_hold();
        applied.pending = None;
        Ok(applied)
    }

    /// The plan from before the hold could not be applied anew (`error`); what the kernel held then still can.
    fn bring_back(&mut self, error: ApplyError) -> Result<api::Applied, ApplyError> {
        self.keep_own_bans(self.clock.now());
        let (Some(hold), Some(datapath)) = (&self.hold, &mut self.datapath) else {
            return Err(error);
        };
        let Some(snapshot) = hold.snapshot() else {
            return Err(error);
        };
        let before = hold.before().clone();
        datapath.restore(snapshot)?;
        let mode = if before.enforcing {
            Mode::Enforce
        } else {
            Mode::Observe
        };
        if self.enforcing != before.enforcing {
            self.change_judge(before.enforcing);
        }
        let now = self.clock.now();
        let plan = effective(&before.candidate.plan, mode, &self.allowed);
        let mut warnings = vec![format!(
            "the policy before could not be applied anew ({error}); the kernel's rules are as they were"
        )];
        warnings.extend(self.pump.switch(mode));
        warnings.extend(self.adopt(before.candidate, plan, By::Rollback, now));
        Ok(self.outcome("the policy before is in force again", warnings))
    }

    /// The policy that waited stays: from now on a rollback goes to the one before it.
    fn keep_previous(&mut self) {
        let Some(hold) = &self.hold else {
            return;
        };
        let before = &hold.before().candidate;
        if before.digest != self.in_force.candidate.digest {
            let before = before.clone();
            self.set_previous(before);
        }
    }

    /// Nothing waits any more.
    pub(super) fn end_hold(&mut self) {
        if let Some(hold) = self.hold.take()
            && let Err(error) = hold.end(&self.state)
        {
            self.notice(
                NoticeKind::Daemon,
                format!("{PENDING} cannot be removed ({error}): at the deadline the kernel goes back to what it held before the apply"),
            );
        }
    }

    /// Takes everything of ours out of the kernel, until the next apply.
    ///
    /// # Errors
    ///
    /// When something of ours is left.
    pub fn flush(&mut self) -> Result<api::Flushed, ApplyError> {
        // Who flees from a policy that nobody has confirmed must not meet it again at the next apply.
        if self.hold.is_some()
            && let Err(error) = self.roll_back(None)
        {
            tracing::warn!("the policy before cannot be put back ahead of the flush: {error}");
        }
        let now = self.clock.now();
        self.keep_own_bans(now);
        if let Some(datapath) = &mut self.datapath {
            self.counts
                .keep(datapath.as_mut(), &self.in_force.plan, self.enforcing, now);
            datapath.remove()?;
        }
        self.end_hold();
        if self.enforcing {
            self.change_judge(false);
        }
        self.flushed = true;
        self.recorder
            .set_policy(Arc::clone(&self.in_force.plan), false);
        for warning in self.pump.switch(Mode::Observe) {
            tracing::warn!("{warning}");
        }
        let message = if self.in_force.plan.mode == Mode::Enforce {
            "nothing of ours is in the kernel any more; `portcullis apply` enforces again"
        } else {
            "nothing of ours is in the kernel; the mode is observe, so that nothing was enforced before either"
        };
        self.notice(NoticeKind::Policy, message);
        Ok(api::Flushed {
            message: message.to_owned(),
        })
    }

    /// Goes back when nobody confirmed in time.
    pub(super) fn watch_hold(&mut self) {
        if !self.hold.as_ref().is_some_and(Hold::is_due) {
            return;
        }
        match self.roll_back(None) {
            Ok(_) => self.notice(
                NoticeKind::Policy,
                "nobody confirmed the policy in time: the one before is in force again",
            ),
            // Told once, and tried again until it succeeds.
            Err(error) if self.hold.as_mut().is_some_and(Hold::has_failed) => self.notice(
                NoticeKind::Daemon,
                format!("nobody confirmed the policy in time, and the one before cannot be put back yet: {error}"),
            ),
            Err(_) => {}
        }
    }
}
