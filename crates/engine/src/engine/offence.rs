//! What follows from offences: alerts, and bans through one gate.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use policy::{Action, Direction, Response, Rule, RuleId, Timestamp, key_address};
use wire::Packet;

use super::decided::Decided;
use super::gate::Charge;
use super::{Arrival, Engine};
use crate::ban::{Ban, BanOrigin, BanRefused, Detector, FOUND_IN_KERNEL};
use crate::detect::flood::measure;
use crate::detect::{Offence, Over};
use crate::event::{Alert, Event, EventBody};
use crate::evidence::{Pattern, over_rate_in_kernel};
use crate::facts::Facts;
use crate::source::{source_prefix, subnet_of};
use crate::verdict::{Reason, Verdict};

/// What is known of who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A TCP segment that says it belongs to a connection, and no handshake was seen: nobody is banned for it.
    Doubtful,
    /// The source address says who, and a third party could have written it: a ban for it does not grow.
    Claimed,
    /// A handshake showed that the source has its address.
    Proven,
}

/// The reason of a ban by a rule.
fn matched(rule: &Rule) -> String {
    format!("matched rule \"{}\" ({})", rule.name, rule.position)
}

impl Engine {
    /// Counts the match, and bans where the rule says so and the source may be taken for the sender.
    pub(super) fn act_on_match(
        &mut self,
        id: RuleId,
        facts: &Facts<'_>,
        sender: Sender,
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
        if sender != Sender::Doubtful
            && facts.direction != Direction::Out
            && !self.is_banned(facts, now)
        {
            let prefix = self.detectors.culprit(facts.source);
            let reason = matched(rule);
            let origin = BanOrigin::Rule(rule.name.clone());
            let charge = Charge {
                origin,
                reason,
                evidence: None,
                proven: sender == Sender::Proven,
            };
            // A refusal is in the record as an event.
            self.impose(prefix, Some(duration), charge, now).ok();
        }
    }

    /// Whether its source is banned already: this packet was on its way before the ban, and is no reason for another.
    fn is_banned(&self, facts: &Facts<'_>, now: Timestamp) -> bool {
        self.bans.covering(facts.source, now).is_some()
    }

    /// A packet is over a rate. `None` when the policy only wants to hear of it, or may not drop it.
    pub(super) fn act_on_flood(
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
            self.act_on_offence(facts, offence, now);
        }
        drops.then(|| Decided::drop(Reason::Flood(offence.detector)))
    }

    /// Alert, and ban where the policy says so and nothing forbids it. Nothing when it was told already.
    pub(super) fn act_on_offence(&mut self, facts: &Facts<'_>, offence: Offence, now: Timestamp) {
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
            let prefix = match detector {
                // Measured by subnet, also in the kernel.
                Detector::Rate | Detector::SynFlood | Detector::IcmpFlood | Detector::UdpFlood => {
                    source_prefix(key_address(facts.source))
                }
                Detector::Scan | Detector::Brute | Detector::Blocked | Detector::Payload => {
                    self.detectors.culprit(facts.source)
                }
            };
            let charge = Charge {
                origin: BanOrigin::Detector(detector),
                reason: evidence.describe(detector),
                evidence: Some(evidence),
                proven: evidence.proven,
            };
            banned = self.impose(prefix, Some(ban), charge, now).is_ok();
        }
        self.totals.alerts += 1;
        let shape = self.drop_shape;
        if !self.alert_budget.take(&shape, 0, now) {
            self.unrecorded_packets += 1;
            return;
        }
        self.push(Event {
            at: now,
            // Of all sources together, the one that came last did no more than the others.
            tuple: (evidence.pattern != Pattern::WholeHost).then(|| facts.tuple()),
            direction: Some(facts.direction),
            interface: facts.interface.map(Into::into),
            flow_id: None,
            body: EventBody::Alert(Alert::Detector {
                detector,
                evidence,
                banned,
            }),
        });
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
            self.act_on_match(rule, &facts, Sender::Claimed, arrival.now);
        }
        if verdict == Verdict::Allow {
            self.totals.flows += 1;
            self.watch_begin(&facts, arrival.now);
        }
        if matches!(reason, Reason::Invalid(_)) && facts.tcp_flags.is_some() {
            self.doubts.note(subnet_of(facts.source), arrival.now);
        }
        let decided = Decided::untracked(verdict, reason);
        self.settle(&facts, &decided, 1, arrival.now);
        self.record_ended(Some(arrival.now));
    }

    /// Tells the detectors that the kernel's own meter found a packet over a rate, whatever became of the packet; its source is
    /// banned already where the policy says so. The packet itself is [`Engine::observe`]'s affair.
    pub fn observe_over(&mut self, arrival: &Arrival<'_>, packet: &Packet<'_>, over: Over) {
        let now = arrival.now;
        let direction = arrival.direction.unwrap_or(Direction::In);
        let facts = Facts::of(packet, direction, arrival.interface);
        let source = source_prefix(key_address(facts.source));
        if matches!(over, Over::Source(_)) && self.bans.get(source).is_some() {
            return;
        }
        let plan = Arc::clone(&self.plan);
        let floods = self.detectors.floods();
        if let Some(offence) = floods.over_in_kernel(&plan, over, &facts, now) {
            self.act_on_offence(&facts, offence, now);
        }
    }

    /// Takes over a ban that the kernel made by itself for `reason`, without a packet that would tell more, for as long as it has left
    /// there (`None`: until it is lifted). One that is known stays as it is.
    ///
    /// # Errors
    /// As [`Engine::ban`]; then the kernel should lift it.
    pub fn adopt_kernel_ban(
        &mut self,
        prefix: IpNet,
        reason: Reason,
        remaining: Option<Duration>,
        now: Timestamp,
    ) -> Result<(), BanRefused> {
        let is_known = |ban: &Ban| ban.expires > now && !ban.would_be;
        if self.bans.get(prefix).is_some_and(is_known) {
            return Ok(());
        }
        let by_rule = |id: RuleId| {
            let rule = self.plan.rules.get(id.0 as usize)?;
            Some((BanOrigin::Rule(rule.name.clone()), matched(rule)))
        };
        let by_detector = |detector| {
            let set = measure(&self.plan, detector)?;
            let text = over_rate_in_kernel(detector, u64::from(set.packets), set.window);
            Some((BanOrigin::Detector(detector), text))
        };
        let known = match reason {
            Reason::Rule(id) => by_rule(id),
            Reason::Flood(detector) => by_detector(detector),
            _ => None,
        };
        let unknown = || (BanOrigin::Kernel, FOUND_IN_KERNEL.to_owned());
        let (origin, reason) = known.unwrap_or_else(unknown);
        let charge = Charge {
            origin,
            reason,
            evidence: None,
            // The kernel counts packets that anybody can send.
            proven: false,
        };
        let duration = remaining.unwrap_or(Duration::MAX);
        self.impose(prefix, Some(duration), charge, now).map(drop)
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
