//! Content rules: what of a flow still has to be looked at, and the looking.
//!
//! A flow is inspected only while a content rule could match it, and at most to that rule's depth in each direction; then it
//! is settled and costs nothing more.

mod asked;
mod candidates;
pub(crate) mod dns;
mod hits;
mod hosts;
mod matcher;
mod memory;
mod past;
mod readings;
mod sampler;
mod signature;
mod stream;

use policy::{Content, Plan, RuleId, Scope, Timestamp};
use wire::{Packet, Transport};

use crate::engine::facts_of;
use crate::event::AskedHost;
use crate::facts::Facts;
use crate::flow::{Flow, FlowSlot, opposite};
use crate::source::subnet_of;
use asked::{Asked, Requests, Unread, asked_in};
use candidates::{Candidates, Need, Question};
use hits::Hits;
use hosts::{HostRules, stops};
use matcher::Matchers;
pub(crate) use memory::{Holding, Memory, Ticket};
pub(crate) use signature::Places;
pub(crate) use stream::Reach;
use stream::Stream;

/// What is still to be inspected of one flow. Index 0 is the side that began it, 1 the other.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    /// Who began the flow, as sources are counted.
    source: u128,
    pub(crate) ticket: Ticket,
    /// Payload bytes that must be seen in each direction until it is settled; `u32::MAX` for "every packet", 0 for none.
    need: [u32; 2],
    /// Bytes of stream that a rule wants in order; 0 when none looks at the stream, and then nothing is held.
    depth: [u32; 2],
    seen: [u32; 2],
    streams: [Option<Stream>; 2],
    /// What each side asks for, where a rule names hosts.
    requests: [Option<Requests>; 2],
    /// The rule that dropped a segment of the stream: what the same side sends from then on is dropped too, as it is the
    /// same segment again.
    condemned: [Option<RuleId>; 2],
    /// Where rules' contents matched.
    hits: [Hits; 2],
    /// There was no memory for its streams: nothing that carries data passes any more, as it was not seen whole.
    starved: bool,
}

impl Inspection {
    fn is_settled(&self) -> bool {
        !self.starved && (0..2).all(|side| self.is_side_settled(side))
    }

    /// Bytes that were seen twice, or behind a gap, do not count for a stream.
    fn is_side_settled(&self, side: usize) -> bool {
        let depth = self.depth[side];
        self.seen[side] >= self.need[side]
            && self.requests[side].as_ref().is_none_or(Requests::is_done)
            && self.condemned[side].is_none()
            && self.streams[side]
                .as_ref()
                .is_none_or(|stream| stream.contiguous(depth).len() >= rest(depth, stream) as usize)
    }

    /// The first byte of the side that began the flow has this number.
    pub(crate) fn begin_at(&mut self, first_byte: u32) {
        if self.depth[0] > 0 {
            self.streams[0] = Some(Stream::beginning_at(first_byte));
        }
        if let Some(requests) = &mut self.requests[0] {
            requests.begin_at(first_byte);
        }
    }

    /// Whether the stream of a side is put together, or would be if there had been memory for it.
    pub(crate) fn follows(&self, reply: bool) -> bool {
        let side = usize::from(reply);
        self.starved || self.depth[side] > 0 || self.requests[side].is_some()
    }

    /// Whether there was no memory for its streams.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved
    }

    /// How far the streams of a side are put together, as far as they are still looked at.
    pub(crate) fn reaches(&self, reply: bool) -> impl Iterator<Item = Option<Reach>> {
        let side = usize::from(reply);
        let is_looked_at = !self.is_side_settled(side);
        let requests = self.requests[side].iter();
        let requests = requests.filter(|requests| !requests.is_done());
        let streams = self.streams[side].iter().map(Stream::reach);
        (streams.chain(requests.map(Requests::reach))).filter(move |_| is_looked_at)
    }

    /// Gives back some of what it holds: of bytes in order the old half, but not the last `keep`. If there is nothing of the kind, or
    /// some wait for others, all of it, and no data passes any more.
    pub(crate) fn shed(&mut self, keep: usize) {
        let mut shed = false;
        if !self.waits() {
            for stream in self.streams.iter_mut().flatten() {
                shed |= stream.shed(keep);
            }
        }
        if !shed {
            self.starve();
        }
    }

    /// Goes on with what was seen of the flow under another policy, in which rules have other numbers: a pattern does not come through
    /// because the policy was reloaded in its middle, nor what was stopped because it is sent again.
    pub(crate) fn carry_on(&mut self, before: Self, renumbered: impl Fn(RuleId) -> Option<RuleId>) {
        self.seen = before.seen;
        self.hits = before.hits.map(|hits| hits.renumbered(&renumbered));
        self.starved = before.starved;
        self.condemned = before.condemned.map(|rule| rule.and_then(&renumbered));
        if self.starved {
            return self.starve();
        }
        let sides = before.streams.into_iter().zip(before.requests);
        for (side, (stream, requests)) in sides.enumerate() {
            let depth = self.depth[side];
            // Where more is asked for than was, bytes are missing.
            if (1..=before.depth[side]).contains(&depth) {
                self.streams[side] = stream;
            }
            if let (Some(now), Some(before)) = (&mut self.requests[side], requests) {
                now.carry_on(before);
            }
        }
    }

    /// Whether something waits for bytes before it.
    fn waits(&self) -> bool {
        self.streams.iter().flatten().any(Stream::waits)
            || self.requests.iter().flatten().any(Requests::waits)
    }

    fn starve(&mut self) {
        self.let_go();
        self.starved = true;
    }

    /// What it holds, as a flow in this place.
    pub(crate) fn holding(&self, flow: FlowSlot, is_proven: bool) -> Holding {
        Holding {
            flow,
            source: self.source,
            is_proven,
            bytes: self.memory(),
            waits: self.waits(),
        }
    }

    /// Bytes held for this flow.
    fn memory(&self) -> usize {
        let streams = self.streams.iter().flatten().map(Stream::memory);
        let requests = self.requests.iter().flatten().map(Requests::memory);
        streams.chain(requests).sum()
    }

    /// What this side asks for in this packet.
    fn asked(
        &mut self,
        side: usize,
        packet: &Packet<'_>,
        facts: &Facts<'_>,
        is_asked: bool,
        begins: bool,
    ) -> Result<Vec<Asked>, Unread> {
        let (Some(requests), Transport::Tcp(segment)) =
            (&mut self.requests[side], packet.transport())
        else {
            return Ok(Vec::new());
        };
        // Nothing can be said of a stream of which a capture holds parts alone.
        if facts.payload.len() < facts.payload_len as usize {
            requests.give_up();
        }
        requests.take(&segment, is_asked, begins)
    }

    /// The rule did not let pass what this side sent.
    pub(crate) fn condemn(&mut self, reply: bool, rule: RuleId) {
        self.condemned[usize::from(reply)] = Some(rule);
    }

    /// It does now: what was over its rate came again. Whether there was a rule that did not.
    pub(crate) fn absolve(&mut self, reply: bool) -> bool {
        self.condemned[usize::from(reply)].take().is_some()
    }

    /// Keeps nothing more of its streams.
    fn let_go(&mut self) {
        self.streams = [None, None];
        self.depth = [0; 2];
        self.requests = [None, None];
    }
}

/// Bytes in order of each stream that are held in any case.
const KEEP: usize = 256;

/// A packet's place in its flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// It goes to the side that began the flow.
    pub(crate) reply: bool,
    /// The rule that let the flow in: those behind it are not asked. Of answers every rule is asked.
    pub(crate) let_in: Option<RuleId>,
    /// A handshake showed that the side which began it has its address.
    pub(crate) is_proven: bool,
    /// The kernel holds it and asks.
    pub(crate) is_asked: bool,
}

/// What inspection of one packet found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// This rule's content matched, for this host where it names hosts.
    Match(RuleId, Option<AskedHost>),
    /// It matched before: these bytes are sent again, or are behind those of a stream that it stopped.
    Again(RuleId),
    /// Nothing, and there is more to see.
    Nothing,
    /// Nothing, and there is nothing more to see: the flow is settled.
    Settled,
    /// There was no memory for its streams.
    NoMemory,
    /// Its receiver may take the segment for other bytes than it seems to hold.
    Ambiguous,
}

/// The content rules of a plan, ready to be matched.
#[derive(Debug)]
pub(crate) struct Inspector {
    matchers: Matchers,
    hosts: HostRules,
    /// By direction.
    candidates: [Candidates; 3],
    /// Scratch, lent to [`Inspector::first_in_packet`].
    pub(crate) found: Places,
    /// Bytes in order of each stream that are held in any case.
    keep: usize,
    /// What all streams hold.
    pub(crate) memory: Memory,
}

impl Inspector {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            matchers: Matchers::new(plan),
            hosts: HostRules::new(plan),
            candidates: Candidates::of(plan),
            found: Places::default(),
            keep: matcher::longest(plan).max(KEEP),
            memory: Memory::default(),
        }
    }

    /// The first rule before `before` that matches this packet by its own payload, and the host for which it does; streams are not
    /// asked.
    #[inline]
    pub(crate) fn first_in_packet(
        &self,
        facts: &Facts<'_>,
        plan: &Plan,
        before: Option<RuleId>,
        now: Timestamp,
        room: &mut Places,
    ) -> Option<(RuleId, Option<AskedHost>)> {
        let question = Question {
            facts,
            stream: None,
            before,
            now,
        };
        let candidates = &self.candidates[facts.direction as usize];
        let found = candidates.first(&question, plan, &self.matchers, room);
        if self.hosts.is_empty() || facts.payload.is_empty() {
            return found.map(|rule| (rule, None));
        }
        let asked = asked_in(facts.payload);
        let (found, host) =
            (self.hosts).first(&asked, found, plan, |rule| question.reaches(rule, plan));
        Some((found?, host.map(Asked::told)))
    }

    /// What of a flow that begins with this packet has to be inspected.
    pub(crate) fn begin(
        &mut self,
        facts: &Facts<'_>,
        plan: &Plan,
        decided_by: Option<RuleId>,
    ) -> Option<Box<Inspection>> {
        let back = Facts {
            direction: opposite(facts.direction),
            interface: None,
            source: facts.destination,
            destination: facts.source,
            source_port: facts.port,
            port: facts.source_port,
            ..*facts
        };
        // A rule after the one that let the flow in is never reached by the side that began it.
        let sides = [(facts, decided_by), (&back, None)].map(|(facts, before)| {
            self.candidates[facts.direction as usize].need(facts, plan, before)
        });
        (sides != [Need::default(); 2]).then(|| {
            Box::new(Inspection {
                source: subnet_of(facts.source),
                ticket: self.memory.ticket(),
                need: sides.map(|need| need.bytes),
                depth: sides.map(|need| need.depth),
                requests: sides.map(|need| need.hosts.any().then(|| Requests::new(need.hosts))),
                ..Inspection::default()
            })
        })
    }

    /// Asks what of a flow has to be inspected, where that was not asked yet, or another connection has begun in it.
    /// `let_in_by`: the rule that lets in a flow which begins so, for one whose begin was not seen under this plan.
    #[inline]
    pub(crate) fn begin_due(
        &mut self,
        flow: &mut Flow,
        plan: &Plan,
        let_in_by: impl FnOnce(&Facts<'_>) -> Option<RuleId>,
    ) {
        if !flow.inspection_begun || flow.begins_at.is_some() {
            self.begin_anew(flow, plan, let_in_by);
        }
    }

    fn begin_anew(
        &mut self,
        flow: &mut Flow,
        plan: &Plan,
        let_in_by: impl FnOnce(&Facts<'_>) -> Option<RuleId>,
    ) {
        let begins_at = flow.begins_at.take();
        flow.is_anew_untold |= begins_at.is_some();
        flow.inspection_begun = true;
        if let Some(before) = flow.inspection.take() {
            self.forget(&before);
        }
        // As the flow's first packet had it: this one may be an answer.
        let first = facts_of(flow.tuple, flow.direction);
        let let_in = flow.rule().or_else(|| let_in_by(&first));
        flow.inspection = self.begin(&first, plan, let_in);
        if let (Some(inspection), Some(first_byte)) = (&mut flow.inspection, begins_at) {
            inspection.begin_at(first_byte);
        }
    }

    /// Looks at a packet of a flow that is not settled.
    pub(crate) fn inspect(
        &mut self,
        (slot, flow): (FlowSlot, &mut Flow),
        packet: &Packet<'_>,
        facts: &Facts<'_>,
        Standing {
            reply,
            let_in,
            is_proven,
            is_asked,
        }: Standing,
        plan: &Plan,
        now: Timestamp,
    ) -> Finding {
        // A SYN under way is no begin: its receiver does not take it (RFC 5961 section 4). Where that answers it, another connection begins.
        let begins = reply || flow.syn.is_some() && flow.syn == facts.sequence;
        let Some(inspection) = flow.inspection.as_mut() else {
            return Finding::Settled;
        };
        let side = usize::from(reply);
        if facts.payload_len > 0 {
            if inspection.starved {
                return Finding::NoMemory;
            }
            if let Some(rule) = inspection.condemned[side] {
                return Finding::Again(rule);
            }
            inspection.seen[side] = inspection.seen[side].saturating_add(facts.payload_len);
        }
        let held = inspection.memory();
        let grown = match packet.transport() {
            Transport::Tcp(segment) if inspection.depth[side] > 0 => {
                let stream = inspection.streams[side].get_or_insert_default();
                let grown = stream.take(&segment, rest(inspection.depth[side], stream));
                if begins && grown.is_some() {
                    stream.begin_by(&segment);
                }
                grown
            }
            _ => Some(0..0),
        };
        let Some(grown) = grown else {
            return Finding::Ambiguous;
        };
        let asked = match inspection.asked(side, packet, facts, is_asked, begins) {
            Ok(asked) => asked,
            Err(Unread::Ambiguous) => return Finding::Ambiguous,
            Err(Unread::Waiting) => return Finding::NoMemory,
        };
        let holding = inspection.holding(slot, is_proven);
        self.memory.hold(inspection.ticket, holding);
        let limit = plan.limits.stream_bytes as usize;
        if holding.bytes > held && self.memory.is_over_share(&holding, limit) {
            self.memory.release(inspection.ticket);
            inspection.starve();
            return Finding::NoMemory;
        }
        let stream = inspection.streams[side].as_ref();
        let question = Question {
            facts,
            stream: stream.map(|stream| (stream, grown.start)),
            before: let_in,
            now,
        };
        let candidates = &self.candidates[facts.direction as usize];
        let found = candidates.first(&question, plan, &self.matchers, &mut self.found);
        let (found, host) =
            (self.hosts).first(&asked, found, plan, |rule| question.reaches(rule, plan));
        let refuses = inspection.requests[side]
            .as_ref()
            .is_some_and(Requests::refuses);
        if refuses && !found.is_some_and(|rule| stops(&plan.rules[rule.0 as usize])) {
            return Finding::NoMemory;
        }
        if let Some(rule) = found {
            let in_stream = host.is_some()
                || stream.is_some()
                    && plan.rules[rule.0 as usize]
                        .content
                        .as_ref()
                        .is_some_and(|content| matches!(content.scope, Scope::Stream { .. }));
            if in_stream && stops(&plan.rules[rule.0 as usize]) {
                inspection.condemned[side] = Some(rule);
            }
            if let Transport::Tcp(segment) = packet.transport()
                && !inspection.hits[side].note(rule, segment.sequence(), facts.payload_len.max(1))
            {
                return Finding::Again(rule);
            }
            return Finding::Match(rule, host.map(Asked::told));
        }
        if inspection.is_settled() {
            self.memory.release(inspection.ticket);
            flow.inspection = None;
            return Finding::Settled;
        }
        Finding::Nothing
    }

    /// A flow with an inspection ended.
    pub(crate) fn forget(&mut self, inspection: &Inspection) {
        self.memory.release(inspection.ticket);
    }

    /// Has the flow in this place give back some of what its streams hold.
    pub(crate) fn shed(&mut self, inspection: &mut Inspection, holding: &Holding) {
        inspection.shed(self.keep);
        let left = inspection.holding(holding.flow, holding.is_proven);
        self.memory.hold(inspection.ticket, left);
    }
}

/// What of this depth is still to come, or held.
fn rest(depth: u32, stream: &Stream) -> u32 {
    depth.saturating_sub(stream.forgotten())
}

fn lengths_match(content: &Content, facts: &Facts<'_>) -> bool {
    let len = facts.payload_len;
    len >= content.min_len.max(1) && content.max_len.is_none_or(|most| len <= most)
}
