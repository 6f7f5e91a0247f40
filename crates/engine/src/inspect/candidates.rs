//! The content rules of one direction: which of them concern a packet, and the first of those that matches.

use std::collections::HashMap;
use std::sync::Arc;

use policy::{Content, Direction, Plan, Rule, RuleId, Scope, Timestamp};

use super::asked::Wanted;
use super::lengths_match;
use super::matcher::Matchers;
use super::signature::{Bytes, InOrder, Places, Signatures};
use super::stream::Stream;
use crate::facts::Facts;
use crate::index::{Index, header_matches, header_matches_anywhere};

/// So few rules are asked one after the other.
const FEW: usize = 4;
/// Rules that the automata of one plan may hold: each takes about half a kilobyte. Leaves beyond are asked rule by rule.
const SIGNATURES: usize = 65_536;

/// The content rules of one direction, by the packets that they concern.
#[derive(Debug)]
pub(super) struct Candidates {
    index: Index,
    leaves: HashMap<usize, Leaf>,
}

/// Rules whose headers may match the same packets.
#[derive(Debug)]
struct Leaf {
    signatures: Option<Arc<Signatures>>,
    need: Need,
}

/// What of one side of a flow has to be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// Payload bytes until it is settled; `u32::MAX` for "every packet", 0 for none.
    pub(super) bytes: u32,
    /// Bytes of its stream to hold.
    pub(super) depth: u32,
    /// The hosts that it asks for.
    pub(super) hosts: Wanted,
}

impl Need {
    fn of(content: &Content) -> Self {
        if let Some((field, _)) = content.hosts() {
            return Self {
                hosts: Wanted::one(field),
                ..Self::default()
            };
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
        Self {
            bytes,
            depth,
            hosts: Wanted::default(),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.max(other.bytes),
            depth: self.depth.max(other.depth),
            hosts: self.hosts.union(other.hosts),
        }
    }
}

/// What is asked about.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) facts: &'a Facts<'a>,
    /// Where the stream is followed, with how many bytes of it were asked about before.
    pub(super) stream: Option<(&'a Stream, usize)>,
    /// Rules from this one on are not asked.
    pub(super) before: Option<RuleId>,
    pub(super) now: Timestamp,
}

impl Question<'_> {
    fn concerns(&self, rule: &Rule, content: &Content, plan: &Plan) -> bool {
        lengths_match(content, self.facts) && self.reaches(rule, plan)
    }

    /// Whether the rule is asked at all, whatever the packet holds.
    pub(super) fn reaches(&self, rule: &Rule, plan: &Plan) -> bool {
        self.before.is_none_or(|before| rule.id < before)
            && rule.expires.is_none_or(|expires| self.now < expires)
            && header_matches(rule, self.facts, plan)
    }

    fn is_matched_by(&self, rule: RuleId, plan: &Plan, matchers: &Matchers) -> bool {
        let rule = &plan.rules[rule.0 as usize];
        let Some(content) = &rule.content else {
            return false;
        };
        if !self.concerns(rule, content, plan) {
            return false;
        }
        match (content.scope, self.stream) {
            (Scope::Stream { depth }, Some((stream, known))) => {
                let forgotten = stream.forgotten();
                let bytes = stream.contiguous(depth.saturating_sub(forgotten));
                // A rule that asks for lengths was not asked about the segments of others.
                let asked = if content.has_lengths() { 0 } else { known };
                known < bytes.len() && matchers.matches(rule.id, bytes, asked, forgotten as usize)
            }
            (Scope::Stream { .. }, None) | (Scope::Packet, _) => {
                matchers.matches(rule.id, self.facts.payload, 0, 0)
            }
        }
    }

    fn bytes(&self) -> Bytes<'_> {
        Bytes {
            payload: self.facts.payload,
            stream: (self.stream).map(|(stream, known)| InOrder {
                bytes: stream.contiguous(u32::MAX),
                known,
                forgotten: stream.forgotten() as usize,
            }),
        }
    }
}

impl Candidates {
    /// Those of all directions. Equal lists of rules share what is looked for.
    pub(super) fn of(plan: &Plan) -> [Self; 3] {
        let mut known: HashMap<Vec<RuleId>, Arc<Signatures>> = HashMap::new();
        let mut room = SIGNATURES;
        Direction::ALL.map(|direction| {
            let index = Index::build(plan, direction, |rule| rule.content.is_some());
            let mut leaves = HashMap::new();
            for (place, rules) in index.leaves() {
                let contents: Vec<&Content> = rules
                    .iter()
                    .filter_map(|id| plan.rules[id.0 as usize].content.as_ref())
                    .collect();
                let needs = contents.iter().map(|content| Need::of(content));
                let need = needs.fold(Need::default(), Need::max);
                let shared = known.get(&rules).cloned();
                let signatures = shared.or_else(|| {
                    room = (rules.len() > FEW).then(|| room.checked_sub(rules.len()))??;
                    let made = Arc::new(Signatures::new(&contents));
                    known.insert(rules, Arc::clone(&made));
                    Some(made)
                });
                leaves.insert(place, Leaf { signatures, need });
            }
            Self { index, leaves }
        })
    }

    /// The first rule that matches.
    pub(super) fn first(
        &self,
        question: &Question<'_>,
        plan: &Plan,
        matchers: &Matchers,
        found: &mut Places,
    ) -> Option<RuleId> {
        if question.facts.payload_len == 0 {
            return None;
        }
        let mut best = question.before;
        for place in self.index.leaf_places(question.facts) {
            let mut matches = |id: &RuleId| {
                best.is_none_or(|best| *id < best) && question.is_matched_by(*id, plan, matchers)
            };
            let leaf = self.leaves.get(&place);
            let first = match leaf.and_then(|leaf| leaf.signatures.as_ref()) {
                Some(signatures) => {
                    signatures.find(question.bytes(), found);
                    let mut rules = found.iter().filter_map(|at| self.index.rule_at(place + at));
                    rules.find(&mut matches)
                }
                None => self.index.rules_at(place).find(&mut matches),
            };
            best = first.or(best);
        }
        best.filter(|_| best != question.before)
    }

    /// What of a side has to be seen that sends such packets, by the rules before `before`.
    pub(super) fn need(&self, facts: &Facts<'_>, plan: &Plan, before: Option<RuleId>) -> Need {
        let mut need = Need::default();
        for place in self.index.leaf_places(facts) {
            let most = self.leaves.get(&place).map(|leaf| leaf.need);
            for id in self.index.rules_at(place) {
                if most.is_some_and(|most| need.max(most) == need) {
                    break;
                }
                let rule = &plan.rules[id.0 as usize];
                // Which interface the other side's packets will come by is not known yet.
                let may_match = match facts.interface {
                    Some(_) => header_matches(rule, facts, plan),
                    None => header_matches_anywhere(rule, facts, plan),
                };
                if before.is_none_or(|before| id < before)
                    && let Some(content) = &rule.content
                    && may_match
                {
                    need = need.max(Need::of(content));
                }
            }
        }
        need
    }
}
