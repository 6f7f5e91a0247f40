//! SSH sessions that a policy would cut: whoever applies it may sit in one.

use std::sync::Arc;

use policy::{Mode, Plan, Timestamp};

use super::Guard;
use super::apply::{Asked, By};
use super::apply_error::ApplyError;
use crate::sessions;

impl Guard {
    /// Warns of sessions that the plan would not let begin anew; refuses where it would enforce that unforced and for good.
    pub(super) fn sessions_cut(
        &self,
        plan: &Arc<Plan>,
        mode: Mode,
        asked: Asked,
        now: Timestamp,
    ) -> Result<Vec<String>, ApplyError> {
        let kept = sessions::worth_keeping(&self.discovered.sessions);
        if kept.is_empty() {
            return Ok(Vec::new());
        }
        let probe = engine::Engine::new(engine::Setup {
            plan: Arc::clone(plan),
            own: self.discovered.own.clone(),
            protected: self.discovered.protected_set(),
            seed: 0,
        });
        let mut cut = sessions::cut(&probe, &kept, now);
        // What is cut already is not this policy's doing.
        if self.enforcing {
            let before = sessions::cut(&self.engine, &kept, now);
            cut.retain(|(session, _)| before.iter().all(|(known, _)| known != session));
        }
        let texts = cut.iter().map(|(session, decision)| {
            let why = crate::record::decided(plan, decision.verdict, decision.reason).text;
            (session, why)
        });
        let refuse = mode == Mode::Enforce && !asked.force && asked.confirm.is_none();
        let refuse = refuse && matches!(asked.by, By::Apply | By::Reload);
        let mut warnings = Vec::new();
        for (session, why) in texts {
            let (peer, port) = (session.peer, session.local.port());
            if refuse {
                return Err(ApplyError::CutsSession { peer, why });
            }
            warnings.push(format!(
                "the SSH session of {peer} could not be begun anew: {why}; before it ends, add a rule that lets it in: `allow in tcp from {} to any port {port}`",
                peer.ip()
            ));
        }
        Ok(warnings)
    }
}
