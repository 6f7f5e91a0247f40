//! The engine: one packet in, one decision out, and events to be polled.
//!
//! The order of [`Engine::handle`] is the order of the policy language: bans, feeds, impossible packets, flow state, detectors
//! that limit, rules, essentials, the default.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use policy::{
    Action, AddressSet, DefaultAction, Direction, Plan, Response, Rule, RuleId, Timestamp,
    key_address,
};
use wire::{FiveTuple, Frame, Malformed, Packet};

use crate::ban::{Ban, BanOrigin, BanRefused, Detector};
use crate::ban_table::{BanTable, source_prefix};
use crate::bucket::{Bucket, Shape};
use crate::detectors::{Detectors, Offence};
use crate::essential::essential;
use crate::event::{Alert, Event, EventBody, FlowEnd, FlowRecord, Totals};
use crate::facts::{Facts, Probe};
use crate::flow::{Ended, FlowSlot, FlowTable, State};
use crate::fragment::{GivenUp, Outcome, Reassembler};
use crate::impossible::impossible;
use crate::inspect::{Finding, Inspector};
use crate::rules::Rules;
use crate::verdict::{FragmentFault, Invalid, Reason, Verdict};

/// What an engine is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What to execute.
    pub plan: Arc<Plan>,
    /// Addresses of this host; empty when they are not known, as in most replays.
    pub own: AddressSet,
    /// Addresses found to need protection: own, gateways, resolvers. The policy's own list is added.
    pub protected: AddressSet,
    /// Seed of every hash: any number that senders cannot know in live use, a fixed one in replay.
    pub seed: u64,
}

/// How a packet came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// When.
    pub now: Timestamp,
    /// Which way it goes. `None`: told by its flow; else by own addresses where they are known; else [`Direction::In`].
    pub direction: Option<Direction>,
    /// Where it came in, or leaves for [`Direction::Out`].
    pub interface: Option<&'a str>,
    /// Length of the frame on the wire, in bytes.
    pub wire_len: u32,
    /// What the kernel's connection tracking has said of it already, for packets that the kernel hands up.
    pub known: Option<Known>,
}

/// What the kernel's connection tracking said of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It begins a flow, or its flow was not answered yet.
    New,
    /// Its flow was answered.
    Established,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Let it pass or not.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Which way it went, given or inferred.
    pub direction: Direction,
    /// Whether its flow still has to be seen.
    pub inspect: Inspect,
}

/// Whether content rules still want to see a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspect {
    /// There was never anything to see.
    None,
    /// There is more to see.
    More,
    /// What was to be seen was seen: the kernel may have the flow for good.
    Settled,
}

/// The reference interpreter of one plan.
#[derive(Debug)]
pub struct Engine {
    plan: Arc<Plan>,
    rules: Rules,
    inspector: Inspector,
    detectors: Detectors,
    flows: FlowTable,
    fragments: Reassembler,
    bans: BanTable,
    own: AddressSet,
    discovered: AddressSet,
    protected: AddressSet,
    totals: Totals,
    hits: Vec<u64>,
    events: VecDeque<Event>,
    drop_budget: Bucket,
    drop_shape: Shape,
    ended: Ended,
    given_up: Vec<GivenUp>,
    seed: u64,
}

/// The addresses that must not be dropped: found by the backend, and the policy's own.
fn protected_addresses(plan: &Plan, discovered: &AddressSet) -> AddressSet {
    let listed = plan
        .protect
        .sets
        .iter()
        .fold(plan.protect.addresses.clone(), |all, set| {
            all.union(&plan.sets[set.0 as usize].addresses)
        });
    if plan.protect.discover {
        listed.union(discovered)
    } else {
        listed
    }
}

fn drop_shape(plan: &Plan) -> Shape {
    let rate =
        std::num::NonZeroU32::new(plan.log.drops_per_second).unwrap_or(std::num::NonZeroU32::MIN);
    Shape::new(rate, Duration::from_secs(1), rate, false)
}

impl Engine {
    /// An engine without flows and bans.
    pub fn new(setup: Setup) -> Self {
        let Setup {
            plan,
            own,
            protected: discovered,
            seed,
        } = setup;
        let shape = drop_shape(&plan);
        Self {
            rules: Rules::new(&plan, seed),
            inspector: Inspector::new(&plan),
            detectors: Detectors::new(&plan, seed),
            flows: FlowTable::new(plan.limits.flows, seed),
            fragments: Reassembler::new(plan.limits.fragment_bytes, seed),
            bans: BanTable::new(plan.ban.capacity, seed),
            protected: protected_addresses(&plan, &discovered),
            own,
            discovered,
            totals: Totals::default(),
            hits: vec![0; plan.rules.len()],
            events: VecDeque::new(),
            drop_budget: Bucket::full(&shape, Timestamp::default()),
            drop_shape: shape,
            ended: Vec::new(),
            given_up: Vec::new(),
            seed,
            plan,
        }
    }

    /// Decides a frame, counts it and feeds the detectors with it.
    pub fn handle(
        &mut self,
        arrival: &Arrival<'_>,
        frame: Result<Frame<'_>, Malformed>,
    ) -> Decision {
        self.totals.packets += 1;
        self.totals.bytes += u64::from(arrival.wire_len);
        self.expire_bans(arrival.now);
        let decision = match frame {
            Ok(Frame::NotIp { .. }) => {
                let direction = arrival.direction.unwrap_or(Direction::In);
                self.totals.allowed += 1;
                Decision {
                    verdict: Verdict::Allow,
                    reason: Reason::NotIp,
                    direction,
                    inspect: Inspect::None,
                }
            }
            Ok(Frame::Ip(packet)) if packet.fragment().is_some() => {
                self.handle_fragment(arrival, &packet)
            }
            Ok(Frame::Ip(packet)) => self.handle_packet(arrival, &packet, 1),
            Err(malformed) => self.handle_malformed(arrival, malformed),
        };
        self.record_ended();
        decision
    }

    fn handle_packet(
        &mut self,
        arrival: &Arrival<'_>,
        packet: &Packet<'_>,
        frames: u64,
    ) -> Decision {
        let direction = arrival
            .direction
            .unwrap_or_else(|| self.infer_direction(packet, arrival.now));
        let facts = Facts::of(packet, direction, arrival.interface);
        let decided = self.decide(arrival, packet, &facts);
        self.settle(&facts, &decided, frames, arrival.now);
        Decision {
            verdict: decided.verdict,
            reason: decided.reason,
            direction,
            inspect: decided.inspect,
        }
    }

    /// The whole decision, in the order of the language.
    fn decide(&mut self, arrival: &Arrival<'_>, packet: &Packet<'_>, facts: &Facts<'_>) -> Decided {
        let now = arrival.now;
        if let Some(reason) = self.shield(facts, now) {
            return Decided::drop(reason);
        }
        if let Some(kind) = impossible(facts) {
            return Decided::drop(Reason::Impossible(kind));
        }
        match self.state(arrival, packet, facts) {
            State::Invalid(invalid) => Decided::drop(Reason::Invalid(invalid)),
            State::Related { flow } => Decided::allow(Reason::Related, Some(flow)),
            State::Established { flow, reply } => {
                self.decide_established(arrival, packet, facts, flow, reply)
            }
            State::New { flow } => self.decide_new(packet, facts, flow, now),
            State::Untracked => self.decide_untracked(facts, now),
        }
    }

    /// Bans, then feeds; neither holds for protected addresses or this host's traffic with itself.
    fn shield(&self, facts: &Facts<'_>, now: Timestamp) -> Option<Reason> {
        if facts.is_loopback() || (self.bans.is_empty() && self.plan.feeds.is_empty()) {
            return None;
        }
        let remotes = facts.remotes();
        let exposed = || {
            remotes
                .iter()
                .flatten()
                .filter(|&&key| !self.protected.contains_key(key))
        };
        if let Some(ban) = exposed().find_map(|&key| self.bans.covering(key, now)) {
            return Some(Reason::Banned(ban.prefix));
        }
        let feeds = &self.plan.feeds;
        let listed = |feed: &policy::SetId, key: u128| {
            self.plan.sets[feed.0 as usize].addresses.contains_key(key)
        };
        exposed()
            .find_map(|&key| feeds.iter().copied().find(|feed| listed(feed, key)))
            .map(Reason::Feed)
    }

    fn state(&mut self, arrival: &Arrival<'_>, packet: &Packet<'_>, facts: &Facts<'_>) -> State {
        match arrival.known {
            None => self
                .flows
                .track(packet, facts, arrival.now, &mut self.ended),
            Some(known) => self.flows.track_known(
                packet,
                facts,
                known == Known::Established,
                arrival.now,
                &mut self.ended,
            ),
        }
    }

    fn decide_established(
        &mut self,
        arrival: &Arrival<'_>,
        packet: &Packet<'_>,
        facts: &Facts<'_>,
        flow: FlowSlot,
        reply: bool,
    ) -> Decided {
        let (plan, now) = (Arc::clone(&self.plan), arrival.now);
        if let Some(offence) = self.detectors.packet(&plan, facts, true, now)
            && let Some(decided) = self.answer_flood(facts, offence, now)
        {
            return decided;
        }
        if let Some(rule) = self.rules.over_rate(&plan, facts, now) {
            return Decided {
                flow: Some(flow),
                ..Decided::drop(Reason::Limited(rule))
            };
        }
        let Some(state) = self.flows.get_mut(flow) else {
            return Decided::allow(Reason::Established, None);
        };
        let handshake = state.handshake
            || arrival.known == Some(Known::Established)
            || facts.tcp_flags.is_none();
        if !state.inspection_begun {
            state.inspection_begun = true;
            state.inspection = self.inspector.begin(facts, &plan, None);
        }
        if state.inspection.is_none() {
            return Decided::allow(Reason::Established, Some(flow));
        }
        let inspect = match self
            .inspector
            .inspect(state, packet, facts, reply, &plan, now)
        {
            Finding::Match(id) => {
                return self.apply_content(
                    &plan.rules[id.0 as usize],
                    facts,
                    Some(flow),
                    handshake,
                    now,
                );
            }
            Finding::NoMemory => return Decided::drop(Reason::Invalid(Invalid::StreamMemory)),
            Finding::Nothing => Inspect::More,
            Finding::Settled => Inspect::Settled,
        };
        Decided {
            inspect,
            ..Decided::allow(Reason::Established, Some(flow))
        }
    }

    fn decide_new(
        &mut self,
        packet: &Packet<'_>,
        facts: &Facts<'_>,
        flow: Option<FlowSlot>,
        now: Timestamp,
    ) -> Decided {
        let decided = self.decide_untracked(facts, now);
        if decided.verdict != Verdict::Allow {
            return Decided { flow, ..decided };
        }
        let known = flow.is_some();
        let slot = match self
            .flows
            .enter(packet, facts, flow, decided.reason, now, &mut self.ended)
        {
            Ok(slot) => slot,
            Err(invalid) => return Decided::drop(Reason::Invalid(invalid)),
        };
        self.totals.flows += u64::from(!known && slot.is_some());
        let plan = Arc::clone(&self.plan);
        let mut inspect = Inspect::None;
        if let Some(state) = slot.and_then(|slot| self.flows.get_mut(slot)) {
            if !known {
                state.inspection_begun = true;
                state.inspection = self.inspector.begin(facts, &plan, decided.reason.rule());
            }
            if state.inspection.is_some() {
                // Its own payload was asked already; this puts it at the begin of the stream.
                inspect = match self
                    .inspector
                    .inspect(state, packet, facts, false, &plan, now)
                {
                    Finding::Match(id) => {
                        let rule = &plan.rules[id.0 as usize];
                        return self.apply_content(rule, facts, slot, false, now);
                    }
                    Finding::NoMemory => {
                        return Decided::drop(Reason::Invalid(Invalid::StreamMemory));
                    }
                    Finding::Nothing => Inspect::More,
                    Finding::Settled => Inspect::Settled,
                };
            }
        }
        Decided {
            flow: slot,
            inspect,
            ..decided
        }
    }

    /// Detectors that limit, rules, essentials, the default.
    fn decide_untracked(&mut self, facts: &Facts<'_>, now: Timestamp) -> Decided {
        let plan = Arc::clone(&self.plan);
        if let Some(offence) = self.detectors.packet(&plan, facts, false, now)
            && let Some(decided) = self.answer_flood(facts, offence, now)
        {
            return decided;
        }
        let inspector = &self.inspector;
        let found = self.rules.first_match(&plan, facts, now, |rule, content| {
            inspector.matches_packet(rule, content, facts)
        });
        if let Some(rule) = found {
            if rule.content.is_some() {
                return self.apply_content(rule, facts, None, facts.tcp_flags.is_none(), now);
            }
            let (verdict, reason) = self.rules.act(rule, facts, now);
            self.act_on_match(rule, facts, now);
            return Decided {
                verdict,
                reason,
                flow: None,
                inspect: Inspect::None,
            };
        }
        if self.plan.essentials
            && let Some(kind) = essential(facts)
        {
            return Decided::allow(Reason::Essential(kind), None);
        }
        let verdict = match plan.default.of(facts.direction) {
            DefaultAction::Allow => Verdict::Allow,
            DefaultAction::Deny => Verdict::Drop,
            DefaultAction::Reject => Verdict::Reject,
        };
        Decided {
            verdict,
            reason: Reason::Default(facts.direction),
            flow: None,
            inspect: Inspect::None,
        }
    }

    /// A content rule matched: its action, an alert, and a hit for the detector when no third party can have sent it.
    fn apply_content(
        &mut self,
        rule: &Rule,
        facts: &Facts<'_>,
        flow: Option<FlowSlot>,
        handshake: bool,
        now: Timestamp,
    ) -> Decided {
        let (verdict, reason) = self.rules.act(rule, facts, now);
        self.act_on_match(rule, facts, now);
        if verdict != Verdict::Allow {
            self.totals.alerts += 1;
            self.push_limited(
                facts,
                flow,
                now,
                EventBody::Alert(Alert::Content {
                    rule: rule.id,
                    verdict,
                }),
            );
            let plan = Arc::clone(&self.plan);
            if handshake && let Some(offence) = self.detectors.content_hit(&plan, facts, now) {
                self.answer_offence(facts, offence, now);
            }
        }
        let inspect = if verdict == Verdict::Allow {
            Inspect::More
        } else {
            Inspect::None
        };
        Decided {
            verdict,
            reason,
            flow,
            inspect,
        }
    }

    fn act_on_match(&mut self, rule: &Rule, facts: &Facts<'_>, now: Timestamp) {
        if let Some(hits) = self.hits.get_mut(rule.id.0 as usize) {
            *hits += 1;
        }
        if let Action::Ban(duration) = rule.action
            && facts.direction != Direction::Out
        {
            let prefix = source_prefix(key_address(facts.source));
            let reason = format!("matched rule \"{}\" ({})", rule.name, rule.position);
            self.impose(
                prefix,
                Some(duration),
                BanOrigin::Rule(rule.name.clone()),
                reason,
                None,
                now,
            )
            .ok();
        }
    }

    /// A source is over its packet rate. `None` when the policy only wants to hear of it, or may not drop it.
    fn answer_flood(
        &mut self,
        facts: &Facts<'_>,
        offence: Offence,
        now: Timestamp,
    ) -> Option<Decided> {
        let protected = self.protected.contains_key(facts.source);
        match offence.response {
            Response::Alert => {
                self.answer_offence(facts, offence, now);
                None
            }
            Response::Limit | Response::Ban if protected => None,
            Response::Limit => Some(Decided::drop(Reason::Flood(offence.detector))),
            Response::Ban => {
                self.answer_offence(facts, offence, now);
                Some(Decided::drop(Reason::Flood(offence.detector)))
            }
        }
    }

    /// Alert, and ban where the policy says so and nothing forbids it.
    fn answer_offence(&mut self, facts: &Facts<'_>, offence: Offence, now: Timestamp) {
        let Offence {
            detector,
            response,
            ban,
            evidence,
        } = offence;
        let banned = response == Response::Ban && {
            let prefix = source_prefix(key_address(facts.source));
            let reason = describe(detector, &evidence);
            self.impose(
                prefix,
                Some(ban),
                BanOrigin::Detector(detector),
                reason,
                Some(evidence),
                now,
            )
            .is_ok()
        };
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
    fn impose(
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

    fn push_ban_event(&mut self, at: Timestamp, body: EventBody) {
        self.push(Event {
            at,
            tuple: None,
            direction: None,
            interface: None,
            flow_id: None,
            body,
        });
    }

    fn handle_malformed(&mut self, arrival: &Arrival<'_>, malformed: Malformed) -> Decision {
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
        }
    }

    fn handle_fragment(&mut self, arrival: &Arrival<'_>, packet: &Packet<'_>) -> Decision {
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
        };
        match outcome {
            Outcome::Held => held(FragmentFault::Held),
            Outcome::Refused { fault, fragments } => {
                self.settle_fragments(packet.five_tuple(), fault, fragments, arrival.now);
                held(fault)
            }
            Outcome::Whole { bytes, fragments } => {
                match wire::parse(wire::Link::RawIp, &bytes, bytes.len()) {
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

    fn settle_given_up(&mut self, given_up: &mut Vec<GivenUp>, now: Timestamp) {
        for GivenUp {
            tuple,
            fault,
            fragments,
        } in given_up.drain(..)
        {
            self.settle_fragments(tuple, fault, fragments, now);
        }
    }

    fn settle_fragments(
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

    /// Totals, detectors and the record for a packet that got its verdict.
    fn settle(&mut self, facts: &Facts<'_>, decided: &Decided, frames: u64, now: Timestamp) {
        let Decided {
            verdict,
            reason,
            flow,
            ..
        } = *decided;
        match verdict {
            Verdict::Allow => self.totals.allowed += frames,
            Verdict::Drop => self.totals.dropped += frames,
            Verdict::Reject => self.totals.rejected += frames,
        }
        if verdict != Verdict::Allow {
            self.settle_refused(facts, verdict, reason, flow, now);
        } else if let Reason::Rule(id) = reason
            && self
                .plan
                .rules
                .get(id.0 as usize)
                .is_some_and(|rule| rule.log)
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

    fn settle_refused(
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
        if facts.direction != Direction::Out && self.is_aimed_at_a_host(facts) {
            let plan = Arc::clone(&self.plan);
            if let Some(offence) = self.detectors.denied(&plan, facts, reason, now) {
                self.answer_offence(facts, offence, now);
            }
        }
    }

    /// What neighbours shout to everyone (broadcast, multicast) is denied by most policies and is no attack.
    fn is_aimed_at_a_host(&self, facts: &Facts<'_>) -> bool {
        let destination = key_address(facts.destination);
        let shouted = destination.is_multicast() || facts.destination == policy::address::IPV4_LAST;
        let known_elsewhere = facts.direction == Direction::In
            && !self.own.is_empty()
            && !self.own.contains_key(facts.destination);
        !shouted && !known_elsewhere
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
        let direction = arrival
            .direction
            .unwrap_or_else(|| self.infer_direction(packet, arrival.now));
        let facts = Facts::of(packet, direction, arrival.interface);
        if let Some(rule) = reason.rule() {
            let plan = Arc::clone(&self.plan);
            if let Some(rule) = plan.rules.get(rule.0 as usize) {
                self.act_on_match(rule, &facts, arrival.now);
            }
        }
        if let Reason::Flood(detector) = reason {
            self.observe_flood(&facts, detector, arrival.now);
        }
        if verdict == Verdict::Allow {
            self.totals.flows += 1;
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
    fn observe_flood(&mut self, facts: &Facts<'_>, detector: Detector, now: Timestamp) {
        let plan = Arc::clone(&self.plan);
        let Some(settings) = plan.detect.rate.as_ref() else {
            return;
        };
        let source = source_prefix(key_address(facts.source));
        if self.bans.get(source).is_some() {
            return;
        }
        let evidence = crate::ban::Evidence {
            count: u64::from(settings.packets) + 1,
            threshold: u64::from(settings.packets),
            window: settings.window,
            first: now,
            last: now,
            first_packet: facts.tuple(),
            last_packet: facts.tuple(),
        };
        let offence = Offence {
            detector,
            response: settings.response,
            ban: settings.ban,
            evidence,
        };
        self.answer_offence(facts, offence, now);
    }

    fn infer_direction(&mut self, packet: &Packet<'_>, now: Timestamp) -> Direction {
        if let Some(direction) = self.flows.direction_of(packet, now, &mut self.ended) {
            return direction;
        }
        let (source, destination) = (packet.source(), packet.destination());
        let shouted = destination.is_multicast()
            || policy::address_key(destination) == policy::address::IPV4_LAST;
        if self.own.is_empty() || self.own.contains(destination) {
            Direction::In
        } else if self.own.contains(source) {
            Direction::Out
        } else if shouted {
            Direction::In
        } else {
            Direction::Forward
        }
    }

    fn expire_bans(&mut self, now: Timestamp) {
        while let Some(ban) = self.bans.pop_expired(now) {
            let at = ban.expires;
            self.push_ban_event(at, EventBody::Unban { ban, expired: true });
        }
    }

    /// Turns flows that ended into events, and frees what was held for their inspection.
    fn record_ended(&mut self) {
        for (flow, end) in std::mem::take(&mut self.ended) {
            if let Some(inspection) = &flow.inspection {
                self.inspector.forget(inspection);
            }
            self.events.push_back(Event {
                at: flow.record(None).end,
                tuple: Some(flow.tuple),
                direction: Some(flow.direction),
                interface: None,
                flow_id: Some(flow.id),
                body: EventBody::Flow(flow.record(Some(end))),
            });
        }
    }

    fn may_record(&mut self, now: Timestamp) -> bool {
        let shape = self.drop_shape;
        self.drop_budget.take(&shape, 0, now)
    }

    /// An event about one packet, unless the second's share of them is used up.
    fn push_limited(
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

    fn push(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Lets time pass when no packet comes: bans end, flows end, fragments are given up.
    pub fn advance(&mut self, now: Timestamp) {
        self.expire_bans(now);
        self.flows.expire(now, &mut self.ended);
        let mut given_up = std::mem::take(&mut self.given_up);
        self.fragments.expire(now, &mut given_up);
        self.settle_given_up(&mut given_up, now);
        self.record_ended();
    }

    /// The packets are over: what is held is given up, and every flow ends.
    pub fn finish(&mut self, now: Timestamp) {
        let mut given_up = std::mem::take(&mut self.given_up);
        self.fragments.finish(&mut given_up);
        self.settle_given_up(&mut given_up, now);
        self.flows.finish(&mut self.ended);
        self.record_ended();
    }

    /// The next event, oldest first. To be drained after each call that may make some.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Sums since the begin.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Matches of each rule, by [`RuleId`], since the plan was loaded.
    pub fn rule_hits(&self) -> &[u64] {
        &self.hits
    }

    /// The plan in force.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Puts another plan in force. Flows and bans stay; counts of detectors and rates begin anew.
    pub fn reload(&mut self, plan: Arc<Plan>) {
        self.rules = Rules::new(&plan, self.seed);
        self.inspector = Inspector::new(&plan);
        self.detectors = Detectors::new(&plan, self.seed);
        self.bans.set_capacity(plan.ban.capacity);
        self.protected = protected_addresses(&plan, &self.discovered);
        self.hits = vec![0; plan.rules.len()];
        self.drop_shape = drop_shape(&plan);
        for flow in self.flows.iter_mut() {
            // Rule numbers mean other rules now. What was allowed stays allowed, and what new content rules ask is asked.
            if flow.rule().is_some() {
                flow.reason = Reason::Established;
            }
            flow.inspection =
                self.inspector
                    .begin(&facts_of(flow.tuple, flow.direction), &plan, None);
        }
        self.plan = plan;
    }

    /// Other addresses were found: this host's own, and those that need protection. Bans that they contradict are lifted.
    pub fn set_addresses(&mut self, own: AddressSet, protected: AddressSet, now: Timestamp) {
        self.own = own;
        self.protected = protected_addresses(&self.plan, &protected);
        self.discovered = protected;
        let contradicted: Vec<IpNet> = self
            .bans
            .iter()
            .map(|ban| ban.prefix)
            .filter(|&prefix| {
                !std::iter::once(prefix)
                    .collect::<AddressSet>()
                    .intersection(&self.protected)
                    .is_empty()
            })
            .collect();
        for prefix in contradicted {
            self.unban(now, prefix);
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

    /// The bans in force, in no particular order.
    pub fn bans(&self) -> impl Iterator<Item = &Ban> {
        self.bans.iter()
    }

    /// The ban that covers an address.
    pub fn ban_of(&self, address: std::net::IpAddr, now: Timestamp) -> Option<&Ban> {
        self.bans.covering(policy::address_key(address), now)
    }

    /// Every address that no ban or feed may drop.
    pub fn protected(&self) -> &AddressSet {
        &self.protected
    }

    /// The flows as they stand: endpoints of the first packet, its direction, its counters.
    pub fn flows(&self) -> impl Iterator<Item = (FiveTuple, Direction, FlowRecord)> {
        self.flows
            .iter()
            .map(|flow| (flow.tuple, flow.direction, flow.record(None::<FlowEnd>)))
    }

    /// Decides a hypothetical packet as the first of its flow. Changes nothing: rates are taken as not exceeded.
    pub fn test(&self, now: Timestamp, probe: &Probe) -> Decision {
        let facts = probe.facts();
        let (verdict, reason) = self.test_facts(now, &facts);
        Decision {
            verdict,
            reason,
            direction: probe.direction,
            inspect: Inspect::None,
        }
    }

    fn test_facts(&self, now: Timestamp, facts: &Facts<'_>) -> (Verdict, Reason) {
        if let Some(reason) = self.shield(facts, now) {
            return (Verdict::Drop, reason);
        }
        if let Some(kind) = impossible(facts) {
            return (Verdict::Drop, Reason::Impossible(kind));
        }
        let content = |rule: &Rule, content: &policy::Content| {
            self.inspector.matches_packet(rule, content, facts)
        };
        if let Some(rule) = self.rules.first_match(&self.plan, facts, now, content) {
            let verdict = match rule.action {
                Action::Allow | Action::Limit => Verdict::Allow,
                Action::Deny | Action::Ban(_) => Verdict::Drop,
                Action::Reject => Verdict::Reject,
            };
            return (verdict, Reason::Rule(rule.id));
        }
        if self.plan.essentials
            && let Some(kind) = essential(facts)
        {
            return (Verdict::Allow, Reason::Essential(kind));
        }
        let verdict = match self.plan.default.of(facts.direction) {
            DefaultAction::Allow => Verdict::Allow,
            DefaultAction::Deny => Verdict::Drop,
            DefaultAction::Reject => Verdict::Reject,
        };
        (verdict, Reason::Default(facts.direction))
    }

    /// The rule of a number, for those who render reasons.
    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.plan.rules.get(id.0 as usize)
    }
}

/// A verdict with what the record needs beside it.
#[derive(Clone, Copy, Debug)]
struct Decided {
    verdict: Verdict,
    reason: Reason,
    flow: Option<FlowSlot>,
    inspect: Inspect,
}

impl Decided {
    fn drop(reason: Reason) -> Self {
        Self {
            verdict: Verdict::Drop,
            reason,
            flow: None,
            inspect: Inspect::None,
        }
    }

    fn allow(reason: Reason, flow: Option<FlowSlot>) -> Self {
        Self {
            verdict: Verdict::Allow,
            reason,
            flow,
            inspect: Inspect::None,
        }
    }
}

/// The header fields of a flow's first packet.
fn facts_of(tuple: FiveTuple, direction: Direction) -> Facts<'static> {
    Facts {
        direction,
        interface: None,
        source: policy::address_key(tuple.source),
        destination: policy::address_key(tuple.destination),
        protocol: tuple.protocol,
        source_port: tuple.source_port,
        port: tuple.destination_port,
        tcp_flags: None,
        icmp: None,
        hop_limit: 0,
        len: 0,
        payload: &[],
        payload_len: 0,
    }
}

/// One line on a detector's evidence, for the ban's reason.
fn describe(detector: Detector, evidence: &crate::ban::Evidence) -> String {
    let what = match detector {
        Detector::Blocked => "denied packets",
        Detector::Rate => "packets",
        Detector::Payload => "content-rule hits",
    };
    let span = evidence.last.since(evidence.first).as_secs_f64();
    format!(
        "{} {what} in {span:.1} s (threshold {} in {} s)",
        evidence.count,
        evidence.threshold,
        evidence.window.as_secs_f64()
    )
}
