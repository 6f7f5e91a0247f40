//! Questions to name servers in the decision: asked of what would pass, whichever line let it.

use std::sync::Arc;

use policy::names::NameVerdict;
use policy::{Direction, DnsAnswer, DnsFilter, DnsLog, Plan, Timestamp, protocol};
use wire::Transport;
use wire::dns::Name;

use super::decide::Case;
use super::decided::Decided;
use super::{Engine, Known};

use crate::event::{DnsListed, DnsQuestion, EventBody};
use crate::facts::Facts;
use crate::flow::FlowSlot;
use crate::inspect::dns::{Asked, Messages, Next, Questions, judge};
use crate::source::subnet_of;
use crate::verdict::{DnsRefusal, Invalid, Reason, Verdict};

impl Engine {
    /// The plan, if its `[dns]` looks at packets like this: those to a port where names are asked for. What this host says to
    /// itself is looked at when it leaves.
    pub(super) fn asks_names(&self, facts: &Facts<'_>) -> Option<Arc<Plan>> {
        let filter = self.plan.dns.as_ref()?;
        let is_seen_before = facts.is_loopback() && facts.direction == Direction::In;
        let is_carried = matches!(facts.protocol, protocol::UDP | protocol::TCP);
        let asks = is_carried && !is_seen_before && filter.ports.matches(facts.port);
        asks.then(|| Arc::clone(&self.plan))
    }

    /// Judges a datagram that would pass; gives what becomes of it when it may not.
    #[inline(always)]
    pub(super) fn judge_datagram(
        &mut self,
        facts: &Facts<'_>,
        flow: Option<FlowSlot>,
        now: Timestamp,
    ) -> Option<Decided> {
        if self.plan.dns.is_none() || facts.protocol != protocol::UDP {
            return None;
        }
        self.judge_question(facts, flow, now)
    }

    fn judge_question(
        &mut self,
        facts: &Facts<'_>,
        flow: Option<FlowSlot>,
        now: Timestamp,
    ) -> Option<Decided> {
        let plan = self.asks_names(facts)?;
        let filter = plan.dns.as_ref()?;
        let is_cut = facts.payload.len() < facts.payload_len as usize;
        let refusal = match judge(filter, facts.payload, &mut self.asked) {
            Ok(None) => return None,
            Ok(Some(asked)) => {
                self.tell_of_question(filter, asked, facts, flow, now);
                DnsRefusal::Blocked(asked.blocked?)
            }
            // A capture may hold the begins of packets alone.
            Err(DnsRefusal::Defect(_)) if is_cut => return None,
            Err(refusal) => refusal,
        };
        Some(Decided {
            flow,
            ..Decided::drop(Reason::Dns(refusal))
        })
    }

    /// Judges a segment that would pass. `is_reply`: it goes to the side whose packet was seen first. That may not be the side that
    /// asks, where a connection was picked up under way, so both are judged.
    #[inline(always)]
    pub(super) fn judge_segment(
        &mut self,
        case: &Case<'_>,
        decided: Decided,
        is_new: bool,
        is_reply: bool,
    ) -> Decided {
        if self.plan.dns.is_none() {
            return decided;
        }
        self.judge_stream(case, decided, is_new, is_reply)
    }

    fn judge_stream(
        &mut self,
        case: &Case<'_>,
        decided: Decided,
        is_new: bool,
        is_reply: bool,
    ) -> Decided {
        let (Verdict::Allow, Some(slot), Transport::Tcp(segment)) =
            (decided.verdict, decided.flow, case.packet.transport())
        else {
            return decided;
        };
        let Some(plan) = self.asks_names(case.facts) else {
            return decided;
        };
        let (Some(filter), Some(flow)) = (plan.dns.as_ref(), self.flows.get_mut(slot)) else {
            return decided;
        };
        // A SYN under way is no begin: its receiver does not take it (RFC 5961 section 4).
        let is_asked = filter.ports.matches(flow.tuple.destination_port);
        let answers_syn = is_reply && flow.syn.is_some() && is_asked && segment.flags().ack();
        let begins = segment.flags().syn() && (is_new || answers_syn);
        if segment.payload().is_empty() && !begins && flow.questions.is_none() {
            return decided;
        }
        let source = subnet_of(policy::address_key(flow.tuple.source));
        let is_proven = !is_new;
        let memory = &mut self.inspector.memory;
        let mut questions = flow.questions.take().unwrap_or_else(|| {
            Box::new(Questions {
                source,
                ticket: memory.ticket(),
                sides: [None, None],
            })
        });
        // A SYN that carries something is refused, and begins nothing.
        let is_refused = segment.flags().syn() && !segment.payload().is_empty();
        if !is_refused && let Some(first_byte) = flow.asks_from.take() {
            questions.begin_at(first_byte);
        }
        let held = questions.holding(slot, is_proven).bytes;
        let side = &mut questions.sides[usize::from(is_reply)];
        if begins {
            side.get_or_insert_default();
        }
        let messages = side.get_or_insert_with(Messages::unseen);
        let is_cut = case.facts.payload.len() < case.facts.payload_len as usize;
        let outcome = messages
            .take(&segment, is_cut)
            .and_then(|()| self.judge_messages(filter, messages, case, slot));
        let outcome = match outcome {
            Err(refusal) => {
                // The honest copy of an ambiguous segment may follow.
                if refusal != DnsRefusal::Ambiguous {
                    messages.refuse(refusal);
                }
                Err(refusal)
            }
            Ok(()) => {
                let holding = questions.holding(slot, is_proven);
                let memory = &mut self.inspector.memory;
                memory.hold(questions.ticket, holding);
                let limit = plan.limits.stream_bytes as usize;
                let grew = holding.bytes > held;
                if grew && memory.is_over_share(&holding, limit) {
                    questions.refuse();
                    Err(DnsRefusal::Memory)
                } else {
                    Ok(())
                }
            }
        };
        let holding = questions.holding(slot, is_proven);
        self.inspector.memory.hold(questions.ticket, holding);
        let side = &mut questions.sides[usize::from(is_reply)];
        let is_told = match &outcome {
            Ok(()) | Err(DnsRefusal::Ambiguous) => false,
            Err(_) => side.as_mut().is_some_and(Messages::tells),
        };
        if let Some(flow) = self.flows.get_mut(slot) {
            flow.questions = Some(questions);
        }
        match outcome {
            Ok(()) => decided,
            Err(refusal) => Decided {
                verdict: if is_told {
                    Verdict::Reject
                } else {
                    Verdict::Drop
                },
                flow: Some(slot),
                ..Decided::drop(Reason::Dns(refusal))
            },
        }
    }

    /// Judges what a segment completed.
    fn judge_messages(
        &mut self,
        filter: &DnsFilter,
        messages: &mut Messages,
        case: &Case<'_>,
        flow: FlowSlot,
    ) -> Result<(), DnsRefusal> {
        loop {
            let message = match messages.next() {
                Next::Message(message) => message,
                Next::Nothing => return messages.settle(),
                Next::TooLong => return Err(DnsRefusal::TooLong),
            };
            if let Some(asked) = judge(filter, message, &mut self.asked)? {
                let now = case.arrival.now;
                self.tell_of_question(filter, asked, case.facts, Some(flow), now);
                if let Some(entry) = asked.blocked {
                    return Err(DnsRefusal::Blocked(entry));
                }
            }
        }
    }

    /// Counts the question that was just read, and records it as the policy says.
    fn tell_of_question(
        &mut self,
        filter: &DnsFilter,
        asked: Asked,
        facts: &Facts<'_>,
        flow: Option<FlowSlot>,
        now: Timestamp,
    ) {
        let is_blocked = asked.blocked.is_some();
        self.totals.dns_questions += 1;
        self.totals.dns_blocked += u64::from(is_blocked);
        let is_told = match filter.log {
            DnsLog::None => false,
            DnsLog::Blocked => is_blocked,
            DnsLog::All => true,
        };
        if !is_told {
            return;
        }
        let entry = match filter.names.judge(self.asked.as_bytes()) {
            NameVerdict::NotListed => None,
            NameVerdict::Allowed(entry) | NameVerdict::Blocked(entry) => Some(DnsListed {
                entry: entry.to_string().into(),
                source: entry.source.to_string().into(),
            }),
        };
        let question = DnsQuestion {
            id: asked.id,
            name: self.asked.as_str().into(),
            record_type: asked.record_type,
            blocked: is_blocked.then_some(filter.answer),
            entry,
        };
        self.push_limited(facts, flow, now, EventBody::Dns(question));
    }

    /// Judges a hypothetical datagram; one without payload is any.
    pub(super) fn test_question(&self, facts: &Facts<'_>) -> Option<DnsRefusal> {
        if facts.protocol != protocol::UDP || facts.payload.is_empty() {
            return None;
        }
        let plan = self.asks_names(facts)?;
        match judge(plan.dns.as_ref()?, facts.payload, &mut Name::new()) {
            Ok(asked) => asked?.blocked.map(DnsRefusal::Blocked),
            Err(refusal) => Some(refusal),
        }
    }

    /// Whether nothing is told of a packet that is refused for this reason: a blocked question is told as the question it is, with
    /// its name, or not at all if the policy wants no record.
    pub(super) const fn is_kept_quiet(reason: Reason) -> bool {
        matches!(reason, Reason::Dns(DnsRefusal::Blocked(_)))
    }

    /// What is to be answered in the name server's place. Of a stream nothing: it is reset.
    pub(super) fn reply_to(&self, facts: &Facts<'_>, reason: Reason) -> Option<DnsAnswer> {
        let answer = self.plan.dns.as_ref()?.answer;
        let is_blocked = matches!(reason, Reason::Dns(DnsRefusal::Blocked(_)));
        (is_blocked && facts.protocol == protocol::UDP && answer != DnsAnswer::Drop)
            .then_some(answer)
    }

    /// A packet that the kernel's rules have accepted: only `[dns]` is still to be asked.
    pub(super) fn decide_accepted(&mut self, case: &Case<'_>, known: Known) -> Decided {
        use crate::flow::State;
        let now = case.arrival.now;
        let pass = Decided {
            inspect: super::Inspect::More,
            ..Decided::allow(Reason::Established, None)
        };
        if case.facts.protocol != protocol::TCP {
            return self.judge_datagram(case.facts, None, now).unwrap_or(pass);
        }
        let (located, ended) = (case.located, &mut self.ended);
        let state = (self.flows).track_known(case.facts, located, known, now, ended);
        let (flow, is_new, is_reply) = match state {
            State::Invalid(invalid) => return Decided::drop(Reason::Invalid(invalid)),
            State::New { flow } => (flow, true, false),
            State::PickedUp { flow } => (Some(flow), false, true),
            State::Established { flow, reply } => (Some(flow), false, reply),
            State::Related { .. } | State::Untracked => return pass,
            // What the kernel tells of is never called so.
            State::BegunOtherwise => {
                return Decided::drop(Reason::Invalid(Invalid::StreamAmbiguous));
            }
        };
        let ended = &mut self.ended;
        let entered = match (is_new, flow) {
            (true, flow) => {
                self.flows
                    .enter(case.facts, located, flow, Reason::Established, now, ended)
            }
            (false, flow) => Ok(flow),
        };
        let decided = match entered {
            Ok(flow) => self.judge_segment(case, Decided { flow, ..pass }, is_new, is_reply),
            Err(invalid) => Decided::drop(Reason::Invalid(invalid)),
        };
        if flow.is_none() && decided.verdict != Verdict::Allow {
            self.take_back(located);
            return Decided {
                flow: None,
                ..decided
            };
        }
        decided
    }
}
