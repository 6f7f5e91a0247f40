//! Whom nothing may ban: what was found, and the runtime allow list.

use ipnet::IpNet;
use policy::AddressSet;

use super::Guard;
use super::apply::effective;
use super::ban::{BanError, parse_prefix};
use crate::addresses::Discovered;
use crate::api;
use crate::record::NoticeKind;
use crate::record::explain::short;

/// The allow list, in the state directory.
pub(super) const ALLOWED: &str = "allow.json";

impl Guard {
    /// This host, its gateways and its name servers: what is denied of theirs is not what somebody tries.
    pub fn own_side(&self) -> AddressSet {
        let found = self.discovered.protected.iter();
        // A router that is both is kept as a gateway alone.
        let near = found.filter(|(_, why)| matches!(*why, "gateway" | "resolver"));
        let near: AddressSet = near.map(|(prefix, _)| *prefix).collect();
        self.discovered.own.union(&near)
    }

    /// Other addresses were found. Bans that they contradict are lifted; the kernel follows.
    pub fn set_discovered(&mut self, discovered: Discovered) {
        let known = &self.discovered;
        if discovered.own == known.own && discovered.protected == known.protected {
            // Anybody can open and close sessions: that alone changes nothing.
            self.discovered = discovered;
            return;
        }
        let now = self.clock.now();
        self.check(now);
        let set = discovered.protected_set();
        let changed = set != self.discovered.protected_set();
        self.engine.set_addresses(discovered.own.clone(), set, now);
        self.discovered = discovered;
        self.settle(now);
        self.pump.set_plan(&self.in_force.plan, &self.discovered);
        if changed
            && self.in_force.plan.protect.discover
            && let Err(error) = self.put_back(now, true)
        {
            self.notice(
                NoticeKind::Daemon,
                format!("the kernel does not know newly protected addresses: {error}"),
            );
        }
    }

    /// The runtime allow list.
    pub fn allowed(&self) -> Vec<api::Allowed> {
        self.allowed.values().cloned().collect()
    }

    /// Puts a prefix on the allow list and lifts its bans.
    ///
    /// # Errors
    ///
    /// When the text is no prefix.
    pub fn allow(&mut self, request: &api::AllowRequest) -> Result<api::Allowed, BanError> {
        let prefix = parse_prefix(&request.prefix)?;
        let entry = api::Allowed {
            prefix,
            since: self.clock.now().into(),
            persist: request.persist,
            lifted: Vec::new(),
            not_kept: None,
            warning: None,
        };
        self.allowed.insert(prefix, entry.clone());
        let lifted = self.follow_allowed();
        self.notice(
            NoticeKind::Policy,
            format!(
                "{} is on the allow list: no ban, feed or detector drops it",
                short(prefix)
            ),
        );
        let not_kept = self.not_kept(&[ALLOWED]).filter(|_| entry.persist);
        Ok(api::Allowed {
            lifted,
            not_kept,
            warning: self.allows_everybody(),
            ..entry
        })
    }

    /// That nothing bans anybody any more, where the list has come to that.
    pub(super) fn allows_everybody(&self) -> Option<String> {
        let list: AddressSet = self.allowed.keys().copied().collect();
        let whose = list.of_everybody()?;
        Some(format!(
            "the allow list holds {whose}: no ban, feed or detector drops any of them; `portcullis allow --remove PREFIX` takes one off"
        ))
    }

    /// Takes a prefix off the allow list.
    ///
    /// # Errors
    ///
    /// When the text is no prefix, or is not on the list.
    pub fn disallow(&mut self, query: &api::AllowQuery) -> Result<api::Disallowed, BanError> {
        let prefix = parse_prefix(&query.prefix)?;
        if self.allowed.remove(&prefix).is_none() {
            return Err(BanError::NotAllowed { prefix });
        }
        self.follow_allowed();
        self.notice(
            NoticeKind::Policy,
            format!("{} is off the allow list", short(prefix)),
        );
        Ok(api::Disallowed {
            left: self.allowed(),
            // Also of an entry until the restart: the file may still have the prefix from before.
            not_kept: self.not_kept(&[ALLOWED]),
        })
    }

    /// The plan, the engine, the kernel and the disk follow the list; returns the bans that it lifted.
    fn follow_allowed(&mut self) -> Vec<api::Ban> {
        let now = self.clock.now();
        // What somebody else did is told before it is covered.
        self.check(now);
        let kept = self.allowed.values().filter(|entry| entry.persist);
        let kept: Vec<api::Allowed> = kept.cloned().collect();
        self.save(ALLOWED, &kept);
        let list: AddressSet = self.allowed.keys().copied().collect();
        let contradicted: Vec<IpNet> = self
            .engine
            .bans()
            .map(|ban| ban.prefix)
            .filter(|prefix| super::ban::meets(&list, *prefix))
            .collect();
        // What the kernel refuses to lift is due; and from now on these are protected from it.
        let (lifted, outcome) = self.lift(&contradicted, now);
        if let Err(error) = outcome {
            tracing::warn!("the kernel's bans are behind: {error}");
        }
        let mode = self.in_force.plan.mode;
        let plan = effective(&self.in_force.candidate.plan, mode, &self.allowed);
        self.engine.protect(std::sync::Arc::clone(&plan));
        self.pump.set_plan(&plan, &self.discovered);
        self.in_force.plan = plan;
        if let Err(error) = self.put_back(now, true) {
            self.notice(
                NoticeKind::Daemon,
                format!("the kernel does not know the allow list as it is now: {error}"),
            );
        }
        lifted
    }
}
