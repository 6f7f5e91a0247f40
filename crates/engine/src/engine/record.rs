//! What is counted and recorded of each packet, and what becomes of those that never get to the decision: malformed ones and
//! fragments.

use policy::{Direction, Timestamp};
use wire::{FiveTuple, Frame, Malformed, Packet};

use super::decided::Decided;
use super::{Arrival, Decision, Engine, Inspect};
use crate::event::{Event, EventBody};
use crate::facts::Facts;
use crate::flow::{Flow, FlowSlot, Located};
use crate::fragment::{GivenUp, Outcome};
use crate::verdict::{FragmentFault, Reason, Verdict};

impl Engine {
    /// Totals, detectors and the record for a packet that got its verdict.
    pub(super) fn settle(
        &mut self,
        facts: &Facts<'_>,
        decided: &Decided,
        frames: u64,
        now: Timestamp,
    ) {
        let Decided {
            verdict,
            reason,
            flow,
            is_again,
            ..
        } = *decided;
        self.totals.add(verdict, frames);
        if verdict != Verdict::Allow {
            self.tell_refused(facts, verdict, reason, flow, now);
            if !is_again {
                self.hold_against(facts, reason, now);
            }
            self.watch_refused(facts, reason, flow, now);
        } else if let Reason::Rule(id) = reason
            && (id.0 as usize) < self.plan.rules.len()
            && self.rules.brief(id).log
        {
            self.push_limited(
                facts,
                flow,
                now,
                EventBody::Logged {
                    rule: id,
                    packet: facts.packet_facts(),
                },
            );
        }
    }

    fn tell_refused(
        &mut self,
        facts: &Facts<'_>,
        verdict: Verdict,
        reason: Reason,
        flow: Option<FlowSlot>,
        now: Timestamp,
    ) {
        if let Reason::Impossible(kind) = reason {
            self.totals.anomalies += 1;
            self.push_limited(
                facts,
                flow,
                now,
                EventBody::Anomaly {
                    name: kind.name(),
                    malformed: None,
                },
            );
        }
        if !Self::is_kept_quiet(reason) {
            self.push_limited(
                facts,
                flow,
                now,
                EventBody::Drop {
                    verdict,
                    reason,
                    packet: facts.packet_facts(),
                },
            );
        }
    }

    /// Counts a refused packet among those of its source.
    fn hold_against(&mut self, facts: &Facts<'_>, reason: Reason, now: Timestamp) {
        if facts.direction != Direction::Out
            && self.is_aimed_at_a_host(facts)
            && let Some(offence) = self.detectors.denied(&self.plan, facts, reason, now)
        {
            self.act_on_offence(facts, offence, now);
        }
    }

    /// Turns flows that ended into events, as far as those of this second may be recorded, and frees what was held for their
    /// inspection. Without a time all are recorded.
    #[inline]
    pub(super) fn record_ended(&mut self, now: Option<Timestamp>) {
        if !self.ended.is_empty() {
            self.record_each_ended(now);
        }
    }

    fn record_each_ended(&mut self, now: Option<Timestamp>) {
        for (flow, end) in std::mem::take(&mut self.ended) {
            self.forget(&flow);
            if now.is_some_and(|now| !self.flow_budget.take(flow.was_served(), now)) {
                continue;
            }
            let mut record = flow.record(Some(end));
            record.name = self.name_of(&flow.tuple, record.start);
            self.events.push_back(Event {
                at: record.end,
                tuple: Some(flow.tuple),
                direction: Some(flow.direction),
                interface: None,
                flow_id: Some(flow.id),
                body: EventBody::Flow(record),
            });
        }
    }

    /// Has the flows that hold most give back memory until there is enough. After [`Engine::record_ended`]: what is held then is held
    /// by flows that live.
    #[inline]
    pub(super) fn relieve(&mut self) {
        let limit = self.plan.limits.stream_bytes as usize;
        if self.inspector.memory.is_over(limit) {
            self.relieve_down_to(limit);
        }
    }

    fn relieve_down_to(&mut self, limit: usize) {
        while let Some((ticket, holding)) = self.inspector.memory.heaviest(limit) {
            let Some(flow) = self.flows.get_mut(holding.flow) else {
                self.inspector.memory.release(ticket);
                continue;
            };
            if let Some(inspection) = &mut flow.inspection
                && inspection.ticket == ticket
            {
                self.inspector.shed(inspection, &holding);
            } else if let Some(questions) = &mut flow.questions
                && questions.ticket == ticket
            {
                questions.shed();
                let left = questions.holding(holding.flow, holding.is_proven);
                self.inspector.memory.hold(ticket, left);
            } else {
                self.inspector.memory.release(ticket);
            }
        }
    }

    /// The flow that a packet has begun was none: the packet is refused.
    pub(super) fn take_back(&mut self, located: &Located) {
        if let Some(flow) = self.flows.take_back(located) {
            self.forget(&flow);
            self.totals.flows = self.totals.flows.saturating_sub(1);
        }
    }

    /// What was held for a flow is not held any more.
    fn forget(&mut self, flow: &Flow) {
        if let Some(inspection) = &flow.inspection {
            self.inspector.forget(inspection);
        }
        if let Some(questions) = &flow.questions {
            self.inspector.memory.release(questions.ticket);
        }
    }

    pub(super) fn may_record(&mut self, now: Timestamp) -> bool {
        let shape = self.drop_shape;
        let within = self.drop_budget.take(&shape, 0, now);
        self.unrecorded_packets += u64::from(!within);
        within
    }

    /// An event about one packet, unless the second's share of them is used up.
    pub(super) fn push_limited(
        &mut self,
        facts: &Facts<'_>,
        flow: Option<FlowSlot>,
        at: Timestamp,
        body: EventBody,
    ) {
        if !self.may_record(at) {
            return;
        }
        let flow_id = flow
            .and_then(|slot| self.flows.get(slot))
            .map(|flow| flow.id);
        self.push(Event {
            at,
            tuple: Some(facts.tuple()),
            direction: Some(facts.direction),
            interface: facts.interface.map(Into::into),
            flow_id,
            body,
        });
    }

    pub(super) fn push(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(super) fn push_ban_event(&mut self, at: Timestamp, body: EventBody) {
        self.push(Event::without_packet(at, body));
    }

    pub(super) fn handle_malformed(
        &mut self,
        arrival: &Arrival<'_>,
        malformed: Malformed,
    ) -> Decision {
        let direction = arrival.direction.unwrap_or(Direction::In);
        let remote = if direction == Direction::Out {
            malformed.destination
        } else {
            malformed.source
        };
        let tuple = match (malformed.source, malformed.destination) {
            (Some(source), Some(destination)) => Some(FiveTuple {
                source,
                destination,
                protocol: malformed.protocol.unwrap_or_default(),
                source_port: None,
                destination_port: None,
            }),
            _ => None,
        };
        let banned = remote
            .map(policy::address_key)
            .filter(|&key| !self.protected.contains_key(key))
            .and_then(|key| self.bans.covering(key, arrival.now))
            .map(|ban| Reason::Banned(ban.prefix));
        let reason = banned.unwrap_or(Reason::Malformed(malformed.kind));
        self.totals.dropped += 1;
        self.totals.anomalies += 1;
        if self.may_record(arrival.now) {
            self.push(Event {
                at: arrival.now,
                tuple,
                direction: Some(direction),
                interface: arrival.interface.map(Into::into),
                flow_id: None,
                body: EventBody::Anomaly {
                    name: malformed.kind.name(),
                    malformed: Some(malformed.kind),
                },
            });
        }
        Decision {
            verdict: Verdict::Drop,
            reason,
            direction,
            inspect: Inspect::None,
            reply: None,
        }
    }

    pub(super) fn handle_fragment(
        &mut self,
        arrival: &Arrival<'_>,
        packet: &Packet<'_>,
    ) -> Decision {
        let direction = arrival.direction.unwrap_or(Direction::In);
        let mut given_up = std::mem::take(&mut self.given_up);
        let outcome = self.fragments.add(packet, arrival.now, &mut given_up);
        self.settle_given_up(&mut given_up, arrival.now);
        self.given_up = given_up;
        let held = |fault| Decision {
            verdict: Verdict::Drop,
            reason: Reason::Fragment(fault),
            direction,
            inspect: Inspect::None,
            reply: None,
        };
        match outcome {
            Outcome::Held => held(FragmentFault::Held),
            Outcome::Refused { fault, fragments } => {
                self.settle_fragments(packet.five_tuple(), fault, fragments, arrival.now);
                held(fault)
            }
            Outcome::Whole { bytes, fragments } => {
                match wire::parse(wire::Link::RawIp, &bytes, bytes.len()) {
                    Ok(Frame::Ip(whole)) if whole.fragment().is_some() => {
                        let fault = FragmentFault::Nested;
                        self.settle_fragments(packet.five_tuple(), fault, fragments, arrival.now);
                        held(fault)
                    }
                    Ok(Frame::Ip(whole)) => self.handle_packet(arrival, &whole, fragments),
                    Ok(Frame::NotIp { .. }) => held(FragmentFault::Length),
                    Err(malformed) => {
                        self.totals.dropped += fragments - 1;
                        self.handle_malformed(arrival, malformed)
                    }
                }
            }
        }
    }

    pub(super) fn settle_given_up(&mut self, given_up: &mut Vec<GivenUp>, now: Timestamp) {
        for GivenUp {
            tuple,
            fault,
            fragments,
        } in given_up.drain(..)
        {
            self.settle_fragments(tuple, fault, fragments, now);
        }
    }

    pub(super) fn settle_fragments(
        &mut self,
        tuple: FiveTuple,
        fault: FragmentFault,
        fragments: u64,
        now: Timestamp,
    ) {
        self.totals.dropped += fragments;
        self.totals.anomalies += 1;
        if self.may_record(now) {
            self.push(Event {
                at: now,
                tuple: Some(tuple),
                direction: None,
                interface: None,
                flow_id: None,
                body: EventBody::Anomaly {
                    name: fault.name(),
                    malformed: None,
                },
            });
        }
    }
}
