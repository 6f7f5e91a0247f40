//! What comes after an apply: confirming it, going back, giving way altogether.

use std::sync::Arc;

use policy::Mode;

use super::Guard;
use super::apply::{ApplyError, Asked, By, REJECTED};
use crate::api;
use crate::record::NoticeKind;

impl Guard {
    /// Keeps the policy that waits.
    ///
    /// # Errors
    ///
    /// When none waits.
    pub fn confirm(&mut self) -> Result<api::Applied, ApplyError> {
        let hold = self.hold.take().ok_or(ApplyError::NothingPending)?;
        hold.end(&self.state);
        self.notice(NoticeKind::Policy, "the policy is confirmed and stays");
        Ok(self.answer("the policy is confirmed and stays", Vec::new()))
    }

    /// Goes back to the policy before: the one that was in force when the waiting one came, else the one before the present one.
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
        let previous = self.previous.clone().ok_or(ApplyError::NoPrevious);
        let held = self.hold.take();
        let back = match (&held, previous) {
            (_, Ok(previous)) => previous,
            // The waiting policy was the same as the one before it: there is nothing to change.
            (Some(_), Err(_)) => self.in_force.candidate.clone(),
            (None, Err(error)) => return Err(error),
        };
        let refused = self.in_force.candidate.digest.clone();
        let asked = Asked {
            by: By::Rollback,
            confirm: None,
            force: true,
        };
        let outcome = self.put_in_force(back, asked);
        if let Some(hold) = held {
            if outcome.is_err()
                && let (Some(datapath), Some(snapshot)) = (&mut self.datapath, hold.snapshot())
            {
                // The plan could not be applied anew; what the kernel held before still can.
                datapath.restore(snapshot)?;
            }
            hold.end(&self.state);
            self.save(REJECTED, &refused);
            self.rejected = Some(refused);
        }
        outcome
    }

    /// Takes everything of ours out of the kernel, until the next apply.
    ///
    /// # Errors
    ///
    /// When something of ours is left.
    pub fn flush(&mut self) -> Result<api::Flushed, ApplyError> {
        if let Some(datapath) = &mut self.datapath {
            self.counts
                .keep(datapath.as_mut(), &self.in_force.plan, self.enforcing);
            datapath.remove()?;
        }
        if let Some(hold) = self.hold.take() {
            hold.end(&self.state);
        }
        if self.enforcing {
            self.change_judge(false);
        }
        self.flushed = true;
        self.recorder
            .set_policy(Arc::clone(&self.in_force.plan), false);
        for warning in self.pump.switch(Mode::Observe) {
            tracing::warn!("{warning}");
        }
        let message =
            "nothing of ours is in the kernel any more; `portcullis apply` enforces again";
        self.notice(NoticeKind::Policy, message);
        Ok(api::Flushed {
            message: message.to_owned(),
        })
    }

    /// Goes back when nobody confirmed in time.
    pub(super) fn watch_hold(&mut self) {
        let due = self.hold.as_ref().is_some_and(|hold| hold.is_over());
        if !due {
            return;
        }
        match self.roll_back(None) {
            Ok(_) => self.notice(NoticeKind::Policy, "nobody confirmed the policy in time: the one before is in force again"),
            Err(error) => self.notice(NoticeKind::Policy, format!("nobody confirmed the policy in time, and the one before could not be put back: {error}")),
        }
    }
}
