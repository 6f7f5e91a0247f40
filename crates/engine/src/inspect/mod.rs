//! Content rules: what of a flow still has to be looked at, and the looking.
//!
//! A flow is inspected only while a content rule could match it, and at most to that rule's depth in each direction; then it
//! is settled and costs nothing more.

mod asked;
pub(crate) mod dns;
mod hosts;
mod matcher;
mod memory;
mod readings;
mod stream;

use policy::{Content, Direction, Plan, Rule, RuleId, Scope, Timestamp};
use wire::{Packet, Transport};

use crate::detect::counted;
use crate::event;
use crate::facts::Facts;
use crate::flow::{Flow, opposite};
use crate::index::{Index, header_matches, header_matches_anywhere};
use asked::{Asked, Requests, Unread, Wanted};
pub(crate) use hosts::PacketHosts;
use hosts::{HostRules, stops};
pub(crate) use matcher::Matchers;
pub(crate) use memory::{Memory, Shortage};
use stream::Stream;

/// What is still to be inspected of one flow. Index 0 is the side that began it, 1 the other.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    /// Who began the flow, as sources are counted.
    source: u128,
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
    /// Sequence number of the last segment in which a rule's content matched.
    matched: [Option<u32>; 2],
    /// There was no memory for its streams and the policy closes then: nothing that carries data passes any more, as it was
    /// not seen whole.
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
                .is_none_or(|stream| stream.contiguous(depth).len() >= depth as usize)
    }

    /// Bytes held for this flow.
    pub(crate) fn memory(&self) -> usize {
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
        requests.take(&segment, is_asked)
    }

    /// The rule did not let pass what this side sent.
    pub(crate) fn condemn(&mut self, reply: bool, rule: RuleId) {
        self.condemned[usize::from(reply)] = Some(rule);
    }

    /// It does now: what was over its rate came again.
    pub(crate) fn absolve(&mut self, reply: bool) {
        self.condemned[usize::from(reply)] = None;
    }

    /// Keeps nothing more of its streams.
    fn let_go(&mut self) {
        self.streams = [None, None];
        self.depth = [0; 2];
        self.requests = [None, None];
    }
}

/// What one side of a flow needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Need {
    /// Payload bytes to see until it is settled.
    bytes: u32,
    /// Bytes of its stream to hold.
    depth: u32,
    /// What it asks for.
    hosts: Wanted,
}

/// What inspection of one packet found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// This rule's content matched, for this host where it names hosts.
    Match(RuleId, Option<event::AskedHost>),
    /// It matched before: this is the same segment, or one behind it.
    Again(RuleId),
    /// Nothing, and there is more to see.
    Nothing,
    /// Nothing, and there is nothing more to see: the flow is settled.
    Settled,
    /// The memory for streams is used up and the policy closes then.
    NoMemory,
    /// Its receiver may take the segment for other bytes than it seems to hold.
    Ambiguous,
}

/// The content rules of a plan, ready to be matched.
#[derive(Debug)]
pub(crate) struct Inspector {
    matchers: Matchers,
    hosts: HostRules,
    /// Content rules alone, by direction.
    indexes: [Index; 3],
    /// What all streams hold.
    pub(crate) memory: Memory,
}

impl Inspector {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            matchers: Matchers::new(plan),
            hosts: HostRules::new(plan),
            indexes: Direction::ALL
                .map(|direction| Index::build(plan, direction, |rule| rule.content.is_some())),
            memory: Memory::default(),
        }
    }

    fn index(&self, direction: Direction) -> &Index {
        &self.indexes[direction as usize]
    }

    /// Whether a content rule matches this packet's own payload; streams are not asked.
    pub(crate) fn matches_packet(
        &self,
        rule: &Rule,
        content: &Content,
        facts: &Facts<'_>,
        hosts: &PacketHosts<'_>,
    ) -> bool {
        lengths_match(content, facts)
            && match content.hosts() {
                Some(_) => hosts.match_rule(rule),
                None => self.matchers.matches(rule.id, facts.payload, 0),
            }
    }

    /// The hosts that a packet by itself asks for.
    pub(crate) fn packet_hosts<'a>(&'a self, facts: &Facts<'a>) -> PacketHosts<'a> {
        PacketHosts::new(&self.hosts, facts.payload)
    }

    /// What of a flow that begins with this packet has to be inspected.
    pub(crate) fn begin(
        &self,
        facts: &Facts<'_>,
        plan: &Plan,
        decided_by: Option<RuleId>,
    ) -> Option<Box<Inspection>> {
        let back = Facts {
            direction: opposite(facts.direction),
            source: facts.destination,
            destination: facts.source,
            source_port: facts.port,
            port: facts.source_port,
            ..*facts
        };
        // A rule after the one that let the flow in is never reached by the side that began it.
        let sides = [
            self.need(facts, plan, decided_by),
            self.need(&back, plan, None),
        ];
        (sides != [Need::default(); 2]).then(|| {
            Box::new(Inspection {
                source: counted(facts.source),
                need: sides.map(|side| side.bytes),
                depth: sides.map(|side| side.depth),
                requests: sides.map(|side| side.hosts.any().then(|| Requests::new(side.hosts))),
                ..Inspection::default()
            })
        })
    }

    fn need(&self, facts: &Facts<'_>, plan: &Plan, before: Option<RuleId>) -> Need {
        let mut need = Need::default();
        let contents = self
            .index(facts.direction)
            .candidates(facts)
            .filter(|&id| before.is_none_or(|before| id < before))
            .map(|id| &plan.rules[id.0 as usize])
            // Which interface the other side's packets will come by is not known yet.
            .filter(|rule| header_matches_anywhere(rule, facts, plan))
            .filter_map(|rule| rule.content.as_ref());
        for content in contents {
            if let Some((field, _)) = content.hosts() {
                need.hosts.add(field);
                continue;
            }
            let (bytes, depth) = match content.scope {
                Scope::Packet => (Content::SETTLE_BYTES, 0),
                Scope::Stream { depth } => (depth, depth),
            };
            let bytes = if content.every_packet {
                u32::MAX
            } else {
                bytes
            };
            need.bytes = need.bytes.max(bytes);
            need.depth = need.depth.max(depth);
        }
        need
    }

    /// Looks at a packet of a flow that is not settled.
    pub(crate) fn inspect(
        &mut self,
        flow: &mut Flow,
        packet: &Packet<'_>,
        facts: &Facts<'_>,
        reply: bool,
        plan: &Plan,
        (now, is_asked): (Timestamp, bool),
    ) -> Finding {
        let decided_by = if reply { None } else { flow.rule() };
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
                stream.take(&segment, inspection.depth[side])
            }
            _ => Some(0..0),
        };
        let Some(grown) = grown else {
            return Finding::Ambiguous;
        };
        let asked = match inspection.asked(side, packet, facts, is_asked) {
            Ok(asked) => asked,
            Err(Unread::Ambiguous) => return Finding::Ambiguous,
            Err(Unread::Waiting) => return Finding::NoMemory,
        };
        let (source, now_held) = (inspection.source, inspection.memory());
        self.memory.account(source, held, now_held);
        let limit = plan.limits.stream_bytes as usize;
        if let Some(shortage) = self.memory.shortage(source, now_held > held, limit) {
            self.memory.account(source, now_held, 0);
            if shortage == Shortage::Share || !plan.on_failure.passes() {
                inspection.let_go();
                inspection.starved = true;
                return Finding::NoMemory;
            }
            flow.inspection = None;
            return Finding::Settled;
        }
        let stream = inspection.streams[side].as_ref();
        let matchers = &self.matchers;
        let applies = |rule: &Rule| {
            decided_by.is_none_or(|before| rule.id < before)
                && rule.expires.is_none_or(|expires| now < expires)
                && header_matches(rule, facts, plan)
        };
        let found = self.indexes[facts.direction as usize].first(facts, |id| {
            let rule = &plan.rules[id.0 as usize];
            let Some(content) = rule.content.as_ref() else {
                return false;
            };
            if content.hosts().is_some() || !applies(rule) || !lengths_match(content, facts) {
                return false;
            }
            match (content.scope, stream) {
                (Scope::Stream { depth }, Some(stream)) => {
                    let bytes = stream.contiguous(depth);
                    grown.start < bytes.len() && matchers.matches(id, bytes, grown.start)
                }
                (Scope::Stream { .. }, None) | (Scope::Packet, _) => {
                    matchers.matches(id, facts.payload, 0)
                }
            }
        });
        let (found, host) = self.hosts.first(&asked, found, plan, applies);
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
            // What is dropped comes again: the sender waits for it to be acknowledged.
            if let Transport::Tcp(segment) = packet.transport()
                && inspection.matched[side].replace(segment.sequence()) == Some(segment.sequence())
            {
                return Finding::Again(rule);
            }
            return Finding::Match(rule, host.map(Asked::told));
        }
        if inspection.is_settled() {
            let held = inspection.memory();
            flow.inspection = None;
            self.memory.account(source, held, 0);
            return Finding::Settled;
        }
        Finding::Nothing
    }

    /// A flow with an inspection ended.
    pub(crate) fn forget(&mut self, inspection: &Inspection) {
        self.memory
            .account(inspection.source, inspection.memory(), 0);
    }
}

fn lengths_match(content: &Content, facts: &Facts<'_>) -> bool {
    let len = facts.payload_len;
    len >= content.min_len.max(1) && content.max_len.is_none_or(|most| len <= most)
}
