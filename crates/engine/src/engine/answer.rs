//! What follows from offences: alerts, and bans through one gate.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use policy::{Action, Direction, Response, RuleId, Timestamp, key_address};
use wire::Packet;

use super::decide::Decided;
use super::{Arrival, Engine, Inspect};
use crate::ban::{Ban, BanOrigin, BanRefused, Detector};
use crate::ban_table::source_prefix;
use crate::detect::Offence;
use crate::event::{Alert, Event, EventBody};
use crate::facts::Facts;
use crate::verdict::{Reason, Verdict};

impl Engine {
    /// Counts the match, and bans where the rule says so and the source is `proven` to be the sender.
    pub(super) fn act_on_match(
        &mut self,
        id: RuleId,
        facts: &Facts<'_>,
        proven: bool,
        now: Timestamp,
    ) {
        if let Some(hits) = self.hits.get_mut(id.0 as usize) {
            *hits += 1;
        }
        let Action::Ban(duration) = self.rules.brief(id).action else {
            return;
        };
        let Some(rule) = self.plan.rules.get(id.0 as usize) else {
            return;
        };
        if proven && facts.direction != Direction::Out && !self.is_banned(facts, now) {
            let prefix = source_prefix(key_address(facts.source));
            let reason = format!("matched rule \"{}\" ({})", rule.name, rule.position);
            let origin = BanOrigin::Rule(rule.name.clone());
            // A refusal is in the record as an event.
            self.impose(prefix, Some(duration), origin, reason, None, now)
                .ok();
        }
    }

    /// Whether its source is banned already: this packet was on its way before the ban, and is no reason for another.
    fn is_banned(&self, facts: &Facts<'_>, now: Timestamp) -> bool {
        self.bans.covering(facts.source, now).is_some()
    }

    /// A packet is over a rate. `None` when the policy only wants to hear of it, or may not drop it.
    pub(super) fn answer_flood(
        &mut self,
        facts: &Facts<'_>,
        offence: Offence,
        now: Timestamp,
    ) -> Option<Decided> {
        let drops = match offence.response {
            Response::Alert => false,
            Response::Limit | Response::Ban => !self.protected.contains_key(facts.source),
        };
        if drops || offence.response == Response::Alert {
            self.answer_offence(facts, offence, now);
        }
        drops.then(|| Decided::drop(Reason::Flood(offence.detector)))
    }

    /// Alert, and ban where the policy says so and nothing forbids it. Nothing when it was told already.
    pub(super) fn answer_offence(&mut self, facts: &Facts<'_>, offence: Offence, now: Timestamp) {
        let Offence {
            detector,
            response,
            ban,
            evidence: Some(evidence),
        } = offence
        else {
            return;
        };
        let mut banned = response == Response::Ban;
        if banned && !self.is_banned(facts, now) {
            let prefix = source_prefix(key_address(facts.source));
            let reason = evidence.describe(detector);
            let origin = BanOrigin::Detector(detector);
            banned = self
                .impose(prefix, Some(ban), origin, reason, Some(evidence), now)
                .is_ok();
        }
        self.totals.alerts += 1;
        self.push_limited(
            facts,
            None,
            now,
            EventBody::Alert(Alert::Detector {
                detector,
                evidence,
                banned,
            }),
        );
    }

    /// The one gate into the ban list.
    pub(super) fn impose(
        &mut self,
        prefix: IpNet,
        duration: Option<Duration>,
        origin: BanOrigin,
        reason: String,
        evidence: Option<crate::ban::Evidence>,
        now: Timestamp,
    ) -> Result<Ban, BanRefused> {
        let prefix = prefix.trunc();
        if let Err(refused) = self.bans.admit(prefix, &self.protected) {
            self.push(Event {
                at: now,
                tuple: None,
                direction: None,
                interface: None,
                flow_id: None,
                body: EventBody::BanRefused { refused, origin },
            });
            return Err(refused);
        }
        let ban = Ban {
            prefix,
            origin,
            reason,
            since: now,
            expires: now.after(duration.unwrap_or(self.plan.ban.duration)),
            times_banned: self.bans.times_banned(prefix) + 1,
            evidence,
        };
        self.bans.insert(ban.clone());
        self.totals.bans += 1;
        self.push_ban_event(now, EventBody::Ban(ban.clone()));
        Ok(ban)
    }

    /// Counts and records a packet that the kernel has decided, and feeds the detectors with it.
    pub fn observe(
        &mut self,
        arrival: &Arrival<'_>,
        packet: &Packet<'_>,
        verdict: Verdict,
        reason: Reason,
    ) {
        self.totals.packets += 1;
        self.totals.bytes += u64::from(arrival.wire_len);
        self.expire_bans(arrival.now);
        let direction = arrival.direction.unwrap_or_else(|| {
            let located = self.flows.locate(packet, arrival.now, &mut self.ended);
            self.infer_direction(packet, &located)
        });
        let facts = Facts::of(packet, direction, arrival.interface);
        if let Some(rule) = reason.rule()
            && (rule.0 as usize) < self.plan.rules.len()
        {
            self.act_on_match(rule, &facts, true, arrival.now);
        }
        if let Reason::Flood(detector) = reason {
            self.observe_flood(&facts, detector, arrival.now);
        }
        if verdict == Verdict::Allow {
            self.totals.flows += 1;
            self.watch_begin(&facts, arrival.now);
        }
        let decided = Decided {
            verdict,
            reason,
            flow: None,
            inspect: Inspect::None,
        };
        self.settle(&facts, &decided, 1, arrival.now);
        self.record_ended();
    }

    /// The kernel's own meter found a source over its rate, and has banned it already where the policy says so.
    pub(super) fn observe_flood(&mut self, facts: &Facts<'_>, detector: Detector, now: Timestamp) {
        let source = source_prefix(key_address(facts.source));
        if self.bans.get(source).is_some() {
            return;
        }
        let plan = Arc::clone(&self.plan);
        let floods = self.detectors.floods();
        if let Some(offence) = floods.over_in_kernel(&plan, detector, facts, now) {
            self.answer_offence(facts, offence, now);
        }
    }

    pub(super) fn expire_bans(&mut self, now: Timestamp) {
        while let Some(ban) = self.bans.pop_expired(now) {
            let at = ban.expires;
            self.push_ban_event(at, EventBody::Unban { ban, expired: true });
        }
    }

    /// Bans a prefix for a time, or for the policy's default time.
    ///
    /// # Errors
    /// When the prefix holds a protected address, is no source, or the table is full.
    pub fn ban(
        &mut self,
        now: Timestamp,
        prefix: IpNet,
        duration: Option<Duration>,
        origin: BanOrigin,
        reason: String,
    ) -> Result<Ban, BanRefused> {
        self.impose(prefix, duration, origin, reason, None, now)
    }

    /// Puts back a ban from the record, without an event.
    ///
    /// # Errors
    /// As [`Engine::ban`]: an address may have become protected meanwhile.
    pub fn restore_ban(&mut self, ban: Ban, now: Timestamp) -> Result<(), BanRefused> {
        self.bans.admit(ban.prefix, &self.protected)?;
        if ban.expires > now {
            self.bans.insert(ban);
        }
        Ok(())
    }

    /// Lifts a ban.
    pub fn unban(&mut self, now: Timestamp, prefix: IpNet) -> Option<Ban> {
        let ban = self.bans.remove(prefix.trunc())?;
        self.push_ban_event(
            now,
            EventBody::Unban {
                ban: ban.clone(),
                expired: false,
            },
        );
        Some(ban)
    }

    /// What neighbours shout to everyone (broadcast, multicast) is denied by most policies and is no attack.
    pub(super) fn is_aimed_at_a_host(&self, facts: &Facts<'_>) -> bool {
        let destination = key_address(facts.destination);
        let shouted = destination.is_multicast() || facts.destination == policy::address::IPV4_LAST;
        let known_elsewhere = facts.direction == Direction::In
            && !self.own.is_empty()
            && !self.own.contains_key(facts.destination);
        !shouted && !known_elsewhere
    }
}
