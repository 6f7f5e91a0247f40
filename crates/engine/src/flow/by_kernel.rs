//! Flows that the kernel tracks: it tells the state of each packet that it hands up, and is believed.

use policy::Timestamp;

use super::{Ended, FlowSlot, FlowTable, Located, State, count};
use crate::event::FlowEnd;
use crate::facts::Facts;
use crate::verdict::{Invalid, Reason};

impl FlowTable {
    /// As [`FlowTable::track`], for packets whose state the kernel has told: one side of a flow may never be seen here, so
    /// the TCP state is the kernel's affair.
    pub(crate) fn track_known(
        &mut self,
        facts: &Facts<'_>,
        located: &Located,
        established: bool,
        now: Timestamp,
        ended: &mut Ended,
    ) -> State {
        if located.oriented.is_none() {
            return State::Untracked;
        }
        let Some((slot, reply)) = located.found else {
            if !established {
                return State::New { flow: None };
            }
            // Its begin was not seen here.
            return match self.enter(facts, located, None, Reason::Established, now, ended) {
                Ok(Some(slot)) => {
                    self.follow_kernel(slot, facts);
                    State::Established {
                        flow: slot,
                        reply: false,
                    }
                }
                Ok(None) => State::Untracked,
                Err(invalid) => State::Invalid(invalid),
            };
        };
        if located.quoted {
            return State::Related { flow: slot };
        }
        if !established {
            // A SYN under a known 5-tuple is another connection, with other bytes; so is what comes when the one before was
            // reset unanswered. What else is new was picked up under way, and not answered yet: more of the same bytes.
            let begins = facts.tcp_flags.is_some_and(|flags| flags.syn());
            let flow = self.get(slot);
            if flow.is_some_and(|flow| flow.is_contradicted_by(facts, now)) {
                return State::Invalid(Invalid::StreamAmbiguous);
            }
            let is_again = flow.is_some_and(|flow| !flow.answered && flow.syn == facts.sequence);
            if (begins && !is_again) || self.is_gone(slot) {
                self.remove(slot, FlowEnd::Closed, ended);
                return State::New { flow: None };
            }
            if let Some(flow) = self.get_mut(slot) {
                flow.is_gone = facts.tcp_flags.is_some_and(|flags| flags.rst());
            }
            return State::New { flow: Some(slot) };
        }
        self.follow_kernel(slot, facts);
        if let Some(flow) = self.get_mut(slot) {
            flow.answered = true;
            flow.by_syn_ack |= reply && facts.tcp_flags.is_some_and(|flags| flags.syn());
            count(flow, facts, reply, now);
        }
        State::Established { flow: slot, reply }
    }

    /// The kernel says that the connection is established.
    fn follow_kernel(&mut self, slot: FlowSlot, facts: &Facts<'_>) {
        if let Some(flow) = self.get_mut(slot) {
            flow.by_kernel = true;
            let ends = facts
                .tcp_flags
                .is_some_and(|flags| flags.fin() || flags.rst());
            if let Some(connection) = &mut flow.tcp {
                connection.follow_kernel(ends);
            }
        }
    }
}
