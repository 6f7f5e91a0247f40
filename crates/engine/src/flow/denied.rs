//! Flows that were denied where nothing is blocked. Whoever only observes, or has a capture of a host that did not enforce, sees what
//! comes of them: the service answers, and a client that would never have been heard goes on. None of that would have been if the
//! policy were enforced, so it is neither counted as passed nor held against anybody: the flow was denied once, with its first packet.
//!
//! That it goes on is told by an answer, and by nothing else: where another firewall drops the same, what is sent again is denied
//! again, as it is by this one when it enforces. A refusal is no answer, nor is what its sender would have sent by itself.
//!
//! At most as many are remembered as flows. When there are more, those that nobody answers go first, then the oldest. What is forgotten
//! is judged packet by packet.

use std::time::Duration;

use policy::{Direction, Limits, Timestamp, protocol};

use super::{FlowKey, Located, opposite};
use crate::bounded::Bounded;
use crate::detect::contact::is_to_a_client;
use crate::facts::Facts;
use crate::verdict::{Reason, Verdict};

/// How long a flow is remembered of which nothing comes: a pause in a connection is no new begin.
const IDLE: Duration = Duration::from_secs(3_600);

/// The flows.
#[derive(Debug, Default)]
pub(crate) struct DeniedFlows {
    /// `None` where they are not to be remembered.
    by_key: Option<Bounded<Denied, FlowKey>>,
}

#[derive(Clone, Copy, Debug)]
struct Denied {
    from_low: bool,
    /// Of its first packet, as what follows.
    direction: Direction,
    part: Part,
    /// Of a TCP segment.
    sequence: Option<u32>,
    verdict: Verdict,
    reason: Reason,
    answered: bool,
    last: Timestamp,
}

/// What a packet is to the connection that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It asks for one: a SYN, or an INIT.
    Asks,
    /// It agrees to that: a SYN-ACK, or an INIT ACK.
    Agrees,
    /// It refuses or ends one: a RST, or an ABORT.
    Refuses,
    /// One was asked for before it.
    GoesOn,
    /// There are none in its protocol: each packet stands for itself.
    Alone,
}

impl Part {
    /// Types of chunks (RFC 9260 section 3.2).
    const INIT: u8 = 1;
    const INIT_ACK: u8 = 2;
    const ABORT: u8 = 6;

    fn of(facts: &Facts<'_>) -> Self {
        match facts.tcp_flags {
            Some(flags) if flags.rst() => Self::Refuses,
            Some(flags) if flags.syn() && flags.ack() => Self::Agrees,
            Some(flags) if flags.syn() => Self::Asks,
            Some(_) => Self::GoesOn,
            None if facts.protocol == protocol::SCTP => match facts.payload.first() {
                Some(&Self::INIT) => Self::Asks,
                Some(&Self::INIT_ACK) => Self::Agrees,
                Some(&Self::ABORT) => Self::Refuses,
                Some(_) | None => Self::GoesOn,
            },
            None => Self::Alone,
        }
    }
}

/// What a packet is to a denied flow under the same key.
enum Sequel {
    /// It would not have been sent.
    Follows,
    /// It would have been sent all the same.
    Stands,
    /// It would have been sent all the same, and what comes after it is of the flow that it begins.
    BeginsItsOwn,
}

impl Denied {
    /// What a packet of its own side is.
    fn went_on(&self, facts: &Facts<'_>) -> Sequel {
        let follows = match Part::of(facts) {
            // Sent again as the answer was lost, or another connection.
            Part::Asks => self.answered && facts.sequence == self.sequence,
            Part::Agrees | Part::GoesOn | Part::Refuses => self.answered,
            Part::Alone => false,
        };
        if follows {
            Sequel::Follows
        } else {
            Sequel::Stands
        }
    }

    /// What a packet against it is.
    fn came_back(&mut self, facts: &Facts<'_>, located: &Located) -> Sequel {
        let part = Part::of(facts);
        match self.part {
            _ if part == Part::Asks => return Sequel::BeginsItsOwn,
            _ if self.answered => {}
            // Only an answer to what was asked shows that it was heard.
            Part::Asks => match part {
                Part::Agrees if self.is_taken_by(located) => self.answered = true,
                Part::Refuses if self.is_taken_by(located) => {}
                Part::Asks | Part::Agrees | Part::Refuses | Part::GoesOn | Part::Alone => {
                    return Sequel::Stands;
                }
            },
            Part::Agrees | Part::Refuses | Part::GoesOn | Part::Alone => {
                if self.may_have_been_sent_anyway(part, facts, located) {
                    return Sequel::BeginsItsOwn;
                }
                self.answered = part != Part::Refuses;
            }
        }
        Sequel::Follows
    }

    /// Whether a packet against it is about what its first one asked for. SCTP is taken at its word.
    fn is_taken_by(&self, located: &Located) -> bool {
        (self.sequence.zip(located.segment)).is_none_or(|(syn, segment)| segment.answers(syn))
    }

    /// Whether a packet against it may answer nothing, where nobody asked: both sides of a flow that is older than what is seen send by
    /// themselves, and so do two peers who open the way to each other. A service does not that answers a client, nor who refuses.
    fn may_have_been_sent_anyway(&self, part: Part, facts: &Facts<'_>, located: &Located) -> bool {
        let sides_are_known = facts.direction == opposite(self.direction);
        let ports = facts.source_port.zip(facts.port);
        let is_answer = match part {
            Part::Refuses => true,
            Part::Alone => ports.is_some_and(|(source, port)| is_to_a_client(source, port)),
            Part::Asks | Part::Agrees | Part::GoesOn => false,
        };
        let can_begin = located.oriented.is_some_and(|oriented| !oriented.is_answer);
        sides_are_known && !is_answer && can_begin
    }
}

impl DeniedFlows {
    /// From now on half as many are remembered as there may be flows, or none. What was is forgotten.
    pub(crate) fn remember(&mut self, limits: Option<&Limits>, seed: u64) {
        self.by_key = limits.map(|limits| Bounded::new(limits.flows / 2, seed));
    }

    /// Forgets all, as other rules hold, and remembers as many as these limits let, if any.
    pub(crate) fn forget(&mut self, limits: &Limits, seed: u64) {
        self.remember(self.by_key.is_some().then_some(limits), seed);
    }

    /// The verdict on the flow that a packet comes of, where it would not have been sent had that verdict been done.
    #[inline]
    pub(crate) fn follows(
        &mut self,
        facts: &Facts<'_>,
        located: &Located,
        now: Timestamp,
    ) -> Option<(Verdict, Reason)> {
        let by_key = self.by_key.as_mut().filter(|flows| !flows.is_empty())?;
        // What no stack sends comes of nothing, and what was let in meanwhile is a flow as any.
        if located.found.is_some() || facts.tcp_flags.is_some_and(|flags| flags.is_impossible()) {
            return None;
        }
        let oriented = located.oriented?;
        let denied = by_key.get_mut(oriented.key)?;
        if now.since(denied.last) > IDLE {
            return None;
        }
        let is_reply = oriented.from_low != denied.from_low;
        let sequel = match is_reply {
            // An error about it goes back; one about its answer comes only where there was one.
            _ if located.quoted && (!is_reply || denied.answered) => Sequel::Follows,
            _ if located.quoted => Sequel::Stands,
            true => denied.came_back(facts, located),
            false => denied.went_on(facts),
        };
        match sequel {
            Sequel::Follows => {
                denied.last = now;
                Some((denied.verdict, denied.reason))
            }
            Sequel::Stands => None,
            Sequel::BeginsItsOwn => {
                by_key.remove(oriented.key);
                None
            }
        }
    }

    /// Takes down what became of a packet that [follows](Self::follows) none: a flow is denied by the packet that would begin it.
    #[inline]
    pub(crate) fn note(
        &mut self,
        facts: &Facts<'_>,
        located: &Located,
        (verdict, reason): (Verdict, Reason),
        now: Timestamp,
    ) {
        let Some((by_key, oriented)) = self.by_key.as_mut().zip(located.oriented) else {
            return;
        };
        if located.quoted || located.found.is_some() {
            return;
        }
        if verdict == Verdict::Allow {
            // Denied before, as over a rate, it is let in now.
            by_key.remove(oriented.key);
            return;
        }
        let begins = !matches!(
            reason,
            Reason::Impossible(_) | Reason::Malformed(_) | Reason::Invalid(_) | Reason::Fragment(_)
        );
        if !begins {
            return;
        }
        let denied = Denied {
            from_low: oriented.from_low,
            direction: facts.direction,
            part: Part::of(facts),
            sequence: facts.sequence,
            verdict,
            reason,
            answered: false,
            last: now,
        };
        // Of what nobody answers nothing comes that would have to be left out.
        let weight =
            |denied: &Denied| u64::from(denied.answered) << 63 | denied.last.as_nanos() >> 1;
        let known = by_key.entry(oriented.key, || denied, weight);
        let is_of_it = known.from_low == denied.from_low
            && known.part == Part::Asks
            && denied.part != Part::Asks
            && now.since(known.last) <= IDLE;
        // What overtook the answer: what was asked for stands.
        if is_of_it {
            known.last = now;
        } else {
            *known = denied;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_takes_the_room_that_the_documents_say() {
        let room = size_of::<(FlowKey, u64, Denied)>();
        assert!(room <= 112, "{room} bytes, and its place in the index");
    }
}
