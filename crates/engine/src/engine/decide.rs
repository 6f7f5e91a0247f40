//! The decision itself, in the order of the policy language: bans, feeds, impossible packets, flow state, detectors that limit,
//! rules, essentials, the default.

use std::sync::Arc;

use policy::{DefaultAction, Direction, Plan, RuleId, Timestamp};
use wire::Packet;

use super::decided::Decided;
use super::offence::Sender;
use super::{Arrival, Decision, Engine, Inspect, Known, Tracked};
use crate::detect::Over;
use crate::essential::essential;
use crate::event::{Alert, AskedHost, EventBody};
use crate::facts::Facts;
use crate::flow::{Flow, FlowSlot, Located, State};
use crate::impossible::impossible;
use crate::inspect::{Finding, Places, Standing};
use crate::verdict::{Invalid, Reason, Verdict};

impl Engine {
    pub(super) fn handle_packet(
        &mut self,
        arrival: &Arrival<'_>,
        packet: &Packet<'_>,
        frames: u64,
    ) -> Decision {
        let located = self.flows.locate(packet, arrival.now, &mut self.ended);
        let direction = arrival
            .direction
            .unwrap_or_else(|| self.infer_direction(packet, &located));
        let case = Case {
            arrival,
            packet,
            located: &located,
            facts: &Facts::of(packet, direction, arrival.interface),
        };
        if let Some((verdict, reason)) =
            self.denied_flows
                .follows(case.facts, case.located, arrival.now)
        {
            self.totals.add(verdict, frames);
            self.totals.sequels += frames;
            return Decision {
                verdict,
                reason,
                direction,
                inspect: Inspect::None,
                reply: None,
            };
        }
        let mut decided = self.decide(&case);
        if decided.inspect == Inspect::More
            && let Some(flow) = decided.flow
            && let Some(flow) = self.flows.get_mut(flow)
            && std::mem::take(&mut flow.is_anew_untold)
        {
            decided.inspect = Inspect::Anew;
        }
        self.denied_flows.note(
            case.facts,
            case.located,
            (decided.verdict, decided.reason),
            arrival.now,
        );
        if decided.verdict == Verdict::Reject && arrival.known.is_none() {
            self.flows.reset(case.located);
        }
        if decided.verdict == Verdict::Allow && case.located.answers() {
            self.learn_answer(packet, arrival.now);
        }
        self.settle(case.facts, &decided, frames, arrival.now);
        Decision {
            verdict: decided.verdict,
            reason: decided.reason,
            direction,
            inspect: decided.inspect,
            reply: self.reply_to(case.facts, decided.reason),
        }
    }

    /// The whole decision, in the order of the language.
    pub(super) fn decide(&mut self, case: &Case<'_>) -> Decided {
        if let Some((reason, end)) = self.shield(case.facts, case.arrival.now) {
            if end == case.facts.destination && case.arrival.known.is_none() {
                // The kernel looks at destinations behind connection tracking, which has followed the packet by then. What it
                // tells of its flow is no news: nobody hears of the packet.
                self.state(case);
                self.flows.take_news();
            }
            return Decided::drop(reason);
        }
        if let Some(kind) = impossible(case.facts) {
            return Decided::drop(Reason::Impossible(kind));
        }
        // A capture may hold the begins of packets alone; what the kernel asks about has to be seen whole.
        if case.arrival.known.is_some()
            && case.facts.payload.len() < case.facts.payload_len as usize
        {
            return Decided::drop(Reason::Invalid(Invalid::CopyCut));
        }
        if !case.located.answers()
            && let Some(decided) = self.limit_icmp(case.facts, case.arrival.now)
        {
            return decided;
        }
        // A SYN on a connection that is followed is followed with it, whatever has accepted it.
        let accepted = case.arrival.known.filter(|known| known.is_accepted);
        if let Some(known) = accepted
            && !(known.flow == Tracked::Established && case.facts.begins())
        {
            return self.decide_accepted(case, known);
        }
        let state = self.state(case);
        self.take_news(case.arrival.now);
        match state {
            State::Invalid(invalid) => Decided::drop(Reason::Invalid(invalid)),
            State::BegunOtherwise => {
                let decided = self.decide_untracked(case.facts, case.arrival.now);
                match decided.verdict {
                    Verdict::Allow => Decided::drop(Reason::Invalid(Invalid::StreamAmbiguous)),
                    Verdict::Drop | Verdict::Reject => decided,
                }
            }
            State::Related { flow } => Decided::allow(Reason::Related, Some(flow)),
            State::PickedUp { flow } => {
                let decided = self.decide_begun_under_way(case, flow, true);
                self.judge_segment(case, decided, false, true)
            }
            State::Established { flow, reply } => {
                let decided = if reply || !case.facts.begins() {
                    self.decide_established(case, flow, reply)
                } else if accepted.is_some() {
                    self.look_into(case, flow, reply)
                } else {
                    self.decide_begun_under_way(case, flow, reply)
                };
                if decided.verdict == Verdict::Allow
                    && let Some(refused) =
                        self.judge_datagram(case.facts, Some(flow), case.arrival.now)
                {
                    return refused;
                }
                let decided = self.judge_segment(case, decided, false, reply);
                if decided.verdict == Verdict::Reject && case.facts.begins() {
                    // A reset would end, to connection tracking, the connection that there is, and anybody can send a SYN in its name.
                    return Decided {
                        verdict: Verdict::Drop,
                        ..decided
                    };
                }
                decided
            }
            State::New { flow } => {
                let decided = self.decide_new(case, flow);
                let decided = self.judge_segment(case, decided, true, false);
                if let Some(flow) = flow
                    && decided.verdict != Verdict::Allow
                {
                    self.flows.stay(flow);
                }
                if flow.is_none() && decided.verdict != Verdict::Allow {
                    // A packet that does not arrive begins nothing (`nf_confirm`), here as in the kernel that hands it up.
                    self.take_back(case.located);
                    return Decided {
                        flow: None,
                        ..decided
                    };
                }
                decided
            }
            State::Untracked => self.decide_untracked(case.facts, case.arrival.now),
        }
    }

    /// Bans, then feeds, of each remote end, with the end that is meant; neither holds for protected addresses or this host's
    /// traffic with itself.
    pub(super) fn shield(&self, facts: &Facts<'_>, now: Timestamp) -> Option<(Reason, u128)> {
        if facts.is_loopback() || (self.bans.is_empty() && self.plan.feeds.is_empty()) {
            return None;
        }
        let ends = facts.remotes().into_iter().flatten();
        ends.filter(|&end| !self.protected.contains_key(end))
            .find_map(|end| Some((self.shielded(end, now)?, end)))
    }

    fn shielded(&self, end: u128, now: Timestamp) -> Option<Reason> {
        if let Some(ban) = self.bans.covering(end, now) {
            return Some(Reason::Banned(ban.prefix));
        }
        let sets = &self.plan.sets;
        let mut feeds = self.plan.feeds.iter().copied();
        feeds
            .find(|feed| sets[feed.0 as usize].addresses.contains_key(end))
            .map(Reason::Feed)
    }

    pub(super) fn state(&mut self, case: &Case<'_>) -> State {
        let Case {
            arrival,
            packet,
            facts,
            located,
        } = case;
        let (now, ended) = (arrival.now, &mut self.ended);
        match arrival.known {
            None => self.flows.track(packet, facts, located, now, ended),
            Some(known) => (self.flows).track_known(facts, located, known, now, ended),
        }
    }

    pub(super) fn decide_established(
        &mut self,
        case: &Case<'_>,
        flow: FlowSlot,
        reply: bool,
    ) -> Decided {
        let Case { arrival, facts, .. } = case;
        let now = arrival.now;
        let Some(state) = self.flows.get_mut(flow) else {
            return Decided::allow(Reason::Established, None);
        };
        let near = &mut state.metered_at[usize::from(reply)];
        let floods = self.detectors.floods();
        if let Some(offence) = floods.established(&self.plan, facts, reply, near, now)
            && let Some(decided) = self.act_on_flood(facts, offence, now)
        {
            return decided;
        }
        if let Some(rule) = self.rules.over_rate(&self.plan, facts, now) {
            return Decided {
                flow: Some(flow),
                ..Decided::drop(Reason::Limited(rule))
            };
        }
        self.look_into(case, flow, reply)
    }

    /// As the policy decides new flows, by who is heard first; what is looked for in it stays what it was. So it is where connection
    /// tracking picks up a flow under way, and where a SYN comes for a connection that it takes for established, as behind a reset by
    /// the server: whoever answers it begins another.
    fn decide_begun_under_way(&mut self, case: &Case<'_>, flow: FlowSlot, reply: bool) -> Decided {
        let decided = self.decide_untracked(case.facts, case.arrival.now);
        if decided.verdict != Verdict::Allow {
            return Decided {
                flow: Some(flow),
                ..decided
            };
        }
        let looked = self.look_into(case, flow, reply);
        match looked.verdict {
            Verdict::Allow => Decided {
                reason: decided.reason,
                ..looked
            },
            Verdict::Drop | Verdict::Reject => looked,
        }
    }

    /// Looks into a packet of a flow that the policy lets pass, as far as content rules want.
    fn look_into(&mut self, case: &Case<'_>, flow: FlowSlot, reply: bool) -> Decided {
        let Case { arrival, facts, .. } = case;
        let now = arrival.now;
        let Some(state) = self.flows.get_mut(flow) else {
            return Decided::allow(Reason::Established, None);
        };
        // Of what the kernel tracks one side may not be seen. The side that began it says something behind an answer.
        let has_opened = match arrival.known {
            None => state.handshake || !reply,
            Some(known) => known.has_opened(),
        };
        // A connection that was picked up under way proves nothing.
        let handshake = has_opened && state.by_syn || facts.tcp_flags.is_none();
        // Nor does a handshake: connection tracking takes any ACK for its end, and any number in a wide window.
        let is_proven = state.is_proven || reply;
        let sender = match (handshake, facts.tcp_flags) {
            (false, _) => Sender::Doubtful,
            (true, Some(_)) if is_proven => Sender::Proven,
            (true, _) => Sender::Claimed,
        };
        let is_asked = arrival.known.is_some();
        (self.inspector).begin_due(state, &self.plan, |first| {
            self.rules.let_in_by(&self.plan, first, now)
        });
        if state.inspection.is_none() {
            return Decided::allow(Reason::Established, Some(flow));
        }
        // Where the flow's begin was not seen under this plan, the rule that lets such flows in, as the kernel finds it.
        let let_in = match reply {
            true => None,
            false => (state.rule()).or_else(|| self.rules.let_in_by(&self.plan, facts, now)),
        };
        let standing = Standing {
            reply,
            let_in,
            is_proven: handshake,
            is_asked,
        };
        match self.inspect(case, flow, standing, sender) {
            Ok(inspect) => Decided {
                inspect,
                ..Decided::allow(Reason::Established, Some(flow))
            },
            Err(decided) => decided,
        }
    }

    /// Has a packet looked at that stands so in its flow: how that is looked at from now on, or the decision.
    fn inspect(
        &mut self,
        case: &Case<'_>,
        flow: FlowSlot,
        standing: Standing,
        sender: Sender,
    ) -> Result<Inspect, Decided> {
        let (facts, now) = (case.facts, case.arrival.now);
        let at = (flow, standing.reply);
        let finding = self.find(case, flow, standing);
        let is_again = matches!(finding, Finding::Again(_));
        let found = self.act_on_finding(finding, at, facts, sender, now);
        let Err(decided) = found else {
            return found;
        };
        let absolves = |state: &mut Flow| {
            let inspection = state.inspection.as_mut();
            inspection.is_some_and(|inspection| inspection.absolve(standing.reply))
        };
        let is_within_rate = is_again && decided.verdict == Verdict::Allow;
        if !is_within_rate || !self.flows.get_mut(flow).is_some_and(absolves) {
            return Err(decided);
        }
        // It may carry more than what came before, and that was not looked at while nothing passed.
        let inspect = match self.find(case, flow, standing) {
            Finding::Again(_) => decided.inspect,
            finding => self.act_on_finding(finding, at, facts, sender, now)?,
        };
        Err(Decided { inspect, ..decided })
    }

    fn find(&mut self, case: &Case<'_>, flow: FlowSlot, standing: Standing) -> Finding {
        let Some(state) = self.flows.get_mut(flow) else {
            return Finding::Nothing;
        };
        let (packet, facts, now) = (case.packet, case.facts, case.arrival.now);
        (self.inspector).inspect((flow, state), packet, facts, standing, &self.plan, now)
    }

    pub(super) fn decide_new(&mut self, case: &Case<'_>, flow: Option<FlowSlot>) -> Decided {
        let Case {
            arrival,
            facts,
            located,
            ..
        } = case;
        let now = arrival.now;
        let decided = self.decide_untracked(facts, now);
        if decided.verdict != Verdict::Allow {
            return Decided { flow, ..decided };
        }
        if let Some(refused) = self.judge_datagram(facts, flow, now) {
            return refused;
        }
        let known = flow.is_some();
        let slot =
            match self
                .flows
                .enter(facts, located, flow, decided.reason, now, &mut self.ended)
            {
                Ok(slot) => slot,
                Err(invalid) => return Decided::drop(Reason::Invalid(invalid)),
            };
        self.totals.flows += u64::from(!known && slot.is_some());
        if !known {
            self.watch_begin(facts, now);
        }
        let mut inspect = Inspect::None;
        if let Some(slot) = slot
            && let Some(state) = self.flows.get_mut(slot)
        {
            if known {
                (self.inspector).begin_due(state, &self.plan, |first| {
                    self.rules.let_in_by(&self.plan, first, now)
                });
            } else {
                state.inspection_begun = true;
                state.inspection = self
                    .inspector
                    .begin(facts, &self.plan, decided.reason.rule());
            }
            if state.inspection.is_some() {
                // Its own payload was asked already, and its rule has counted it; this puts it at the begin of the stream.
                let passed_by = [state.rule(), decided.reason.rule()];
                let standing = Standing {
                    reply: false,
                    let_in: passed_by.into_iter().flatten().min(),
                    is_proven: facts.tcp_flags.is_none(),
                    is_asked: arrival.known.is_some(),
                };
                match self.inspect(case, slot, standing, Sender::Doubtful) {
                    Ok(found) => inspect = found,
                    Err(decided) => return decided,
                }
            }
        }
        Decided {
            flow: slot,
            inspect,
            ..decided
        }
    }

    /// What comes of what was found in a flow, on the side of `reply`: how it is looked at from now on, or the decision.
    fn act_on_finding(
        &mut self,
        finding: Finding,
        (flow, reply): (FlowSlot, bool),
        facts: &Facts<'_>,
        sender: Sender,
        now: Timestamp,
    ) -> Result<Inspect, Decided> {
        let decided = match finding {
            Finding::Nothing => return Ok(Inspect::More),
            Finding::Settled => return Ok(Inspect::Settled),
            Finding::NoMemory => Decided::drop(Reason::Invalid(Invalid::StreamMemory)),
            Finding::Ambiguous => Decided::drop(Reason::Invalid(Invalid::StreamAmbiguous)),
            Finding::Match(id, host) => {
                self.apply_content((id, host), facts, Some(flow), sender, now)
            }
            Finding::Again(id) => {
                let (verdict, reason) = self.rules.act(id, facts, now);
                Decided::again(verdict, reason, flow)
            }
        };
        self.condemn(flow, reply, decided);
        Err(decided)
    }

    /// Detectors that limit, rules, essentials, the default.
    pub(super) fn decide_untracked(&mut self, facts: &Facts<'_>, now: Timestamp) -> Decided {
        for meter in Over::UNANSWERED {
            let floods = self.detectors.floods();
            if let Some(offence) = floods.unanswered(meter, &self.plan, facts, now)
                && let Some(decided) = self.act_on_flood(facts, offence, now)
            {
                return decided;
            }
        }
        let mut room = std::mem::take(&mut self.inspector.found);
        let found = self.first_match(&self.plan, facts, now, &mut room);
        self.inspector.found = room;
        if let Some((id, host)) = found {
            if self.rules.brief(id).has_content {
                let sender = match facts.tcp_flags {
                    Some(_) => Sender::Doubtful,
                    None => Sender::Claimed,
                };
                return self.apply_content((id, host), facts, None, sender, now);
            }
            let (verdict, reason) = self.rules.act(id, facts, now);
            self.act_on_match(id, facts, Sender::Claimed, now);
            return Decided::untracked(verdict, reason);
        }
        let (verdict, reason) = self.after_rules(facts);
        Decided::untracked(verdict, reason)
    }

    /// What becomes of a packet that no rule matches: essentials pass, and the default stands behind them.
    pub(super) fn after_rules(&self, facts: &Facts<'_>) -> (Verdict, Reason) {
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

    /// The first rule that matches a packet by itself, with the host for which it does, if it names hosts. `room` is scratch.
    pub(super) fn first_match(
        &self,
        plan: &Plan,
        facts: &Facts<'_>,
        now: Timestamp,
        room: &mut Places,
    ) -> Option<(RuleId, Option<AskedHost>)> {
        let by_header = self.rules.first_match(plan, facts, now);
        let by_content = (self.inspector).first_in_packet(facts, plan, by_header, now, room);
        by_content.or(by_header.map(|rule| (rule, None)))
    }

    /// A content rule matched: its action, an alert, and a hit for the detector when no third party can have sent it.
    pub(super) fn apply_content(
        &mut self,
        (rule, host): (RuleId, Option<AskedHost>),
        facts: &Facts<'_>,
        flow: Option<FlowSlot>,
        sender: Sender,
        now: Timestamp,
    ) -> Decided {
        let (verdict, reason) = self.rules.act(rule, facts, now);
        // Who has not completed a handshake may be somebody else: the packet is dropped, and its source left alone.
        self.act_on_match(rule, facts, sender, now);
        if verdict != Verdict::Allow {
            self.totals.alerts += 1;
            self.push_limited(
                facts,
                flow,
                now,
                EventBody::Alert(Alert::Content {
                    rule,
                    verdict,
                    host,
                }),
            );
            let plan = Arc::clone(&self.plan);
            if sender != Sender::Doubtful
                && let Some(mut offence) = self.detectors.content_hit(&plan, facts, now)
            {
                if let Some(evidence) = &mut offence.evidence {
                    evidence.proven &= sender == Sender::Proven;
                }
                self.act_on_offence(facts, offence, now);
            }
        }
        Decided::by_content(verdict, reason, flow)
    }

    /// What a `limit` rule found over its rate does not pass when it comes again, unless it is within the rate then.
    fn condemn(&mut self, flow: FlowSlot, reply: bool, decided: Decided) {
        if let Reason::Limited(rule) = decided.reason
            && let Some(state) = self.flows.get_mut(flow)
            && let Some(inspection) = &mut state.inspection
        {
            inspection.condemn(reply, rule);
        }
    }

    pub(super) fn infer_direction(&self, packet: &Packet<'_>, located: &Located) -> Direction {
        if let Some(direction) = self.flows.direction_of(located) {
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
}

impl Known {
    /// TCP only: whether the side that began the connection has acknowledged an answer.
    const fn has_opened(self) -> bool {
        matches!(
            self.flow,
            Tracked::Established | Tracked::Reply { is_open: true }
        )
    }
}

/// A packet on its way through the decision.
pub(super) struct Case<'a> {
    pub(super) arrival: &'a Arrival<'a>,
    pub(super) packet: &'a Packet<'a>,
    pub(super) facts: &'a Facts<'a>,
    pub(super) located: &'a Located,
}
