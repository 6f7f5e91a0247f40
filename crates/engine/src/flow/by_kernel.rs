//! Flows that the kernel tracks: it tells the state of each packet that it hands up, and is believed.

use std::time::Duration;

use policy::Timestamp;

use super::connection::Segment;
use super::tcp::TcpState;
use super::{Ended, Flow, FlowSlot, FlowTable, Located, State, count};
use crate::engine::{Known, Tracked};
use crate::event::FlowEnd;
use crate::facts::Facts;
use crate::inspect::Reach;
use crate::verdict::{Invalid, Reason};

/// How long packets of one flow wait for user space together, at most: thousands wait no longer than milliseconds.
const TOGETHER: Duration = Duration::from_secs(2);

impl Flow {
    /// Whether a packet that the kernel hands up is of another flow under the same ports. Packets that wait together may each be called
    /// the first; once one was not, none of the same flow is any more. But the kernel may have forgotten the flow in a pause, which its
    /// sender chooses, and so may the mark be lost: what follows on a stream that is put together here is more of it, also behind an end:
    /// that the receiver has taken that is not to be seen from here.
    fn is_another(&self, facts: &Facts<'_>, known: Known, is_turned: bool, now: Timestamp) -> bool {
        if self.is_gone || is_turned {
            return true;
        }
        let opens = facts.tcp_flags.is_some_and(|flags| flags.syn());
        let reply = matches!(known.flow, Tracked::Reply { .. });
        if !opens && facts.sequence.is_some_and(|at| self.goes_on(at, reply)) {
            return false;
        }
        let is_kept = self.is_kept || now.since(self.last) > TOGETHER;
        if known.is_first && is_kept {
            return true;
        }
        let next = facts.sequence.map(|sequence| sequence.wrapping_add(1));
        match known.flow {
            // A SYN under a known 5-tuple is another connection, with other bytes. What else is new and does not follow on a SYN was
            // picked up under way, and not answered yet: more of the same bytes.
            Tracked::New if opens => self.answered || self.syn != facts.sequence,
            Tracked::New => known.is_first && self.by_syn,
            Tracked::Established => false,
            Tracked::Reply { .. } => known.is_first && opens && self.secret != next,
        }
    }

    /// How far the streams of a side are put together.
    fn reaches(&self, reply: bool) -> impl Iterator<Item = Option<Reach>> {
        let inspection = self.inspection.iter();
        let questions = self.questions.iter();
        (inspection.flat_map(move |inspection| inspection.reaches(reply)))
            .chain(questions.flat_map(move |questions| questions.reaches(reply)))
    }

    /// Whether what a side sends with this number follows on what is put together of it.
    fn goes_on(&self, sequence: u32, reply: bool) -> bool {
        let mut reaches = self.reaches(reply).flatten();
        reaches.any(|reach| reach.is_near(sequence))
    }

    /// Whether what a side sends is put together.
    fn follows(&self, reply: bool) -> bool {
        let inspection = self.inspection.as_ref();
        let questions = self.questions.as_ref();
        inspection.is_some_and(|inspection| inspection.follows(reply))
            || questions.is_some_and(|questions| questions.follows(reply))
    }

    /// Who has said that it has sent all, of a flow that is looked at and soon forgotten.
    pub(super) fn left(&self) -> [bool; 2] {
        let is_looked_at = self.inspection.is_some() || self.questions.is_some();
        let is_over = self.tcp_state() == Some(TcpState::FinWait);
        self.left.map(|left| left && is_looked_at && is_over)
    }

    /// The kernel says that it was answered.
    fn note_answer(&mut self) {
        (self.by_kernel, self.answered) = (true, true);
    }

    /// Of whom something is put together.
    fn said(&self) -> [bool; 2] {
        [false, true].map(|reply| self.reaches(reply).flatten().any(Reach::is_begun))
    }

    /// Whether a FIN or RST ends what its sender says. Connection tracking believes some that the receiver does not, or not yet: those
    /// behind a gap, those from before what it has received, and resets that are not exact (RFC 5961 section 3.2).
    fn is_ended_by(&self, segment: Segment, reply: bool) -> bool {
        let is_believed =
            |reach: Option<Reach>| reach.is_some_and(|reach| reach.is_at(segment.sequence()));
        segment.is_end()
            && (self.follows(reply) || !self.follows(!reply))
            && self.reaches(reply).all(is_believed)
    }

    /// Takes note of who has ended, and tells whether the flow may be forgotten soon: by this segment nobody of whom it is put together
    /// what he sends has more to say. Bytes that come behind an end show that it was none.
    fn note_end(&mut self, segment: Segment, reply: bool) -> bool {
        let ends = self.is_ended_by(segment, reply);
        if segment.is_syn() {
            self.left = [false; 2];
        } else if ends || segment.has_bytes() {
            self.left[usize::from(reply)] = ends;
        }
        ends && [false, true]
            .into_iter()
            .all(|side| !self.follows(side) || self.left[usize::from(side)])
    }
}

impl FlowTable {
    /// As [`FlowTable::track`], for packets whose state the kernel has told: one side of a flow may never be seen here, so
    /// the TCP state is the kernel's affair, and so is where one flow ends and the next begins.
    pub(crate) fn track_known(
        &mut self,
        facts: &Facts<'_>,
        located: &Located,
        known: Known,
        now: Timestamp,
        ended: &mut Ended,
    ) -> State {
        if located.oriented.is_none() {
            return State::Untracked;
        }
        if let Some((slot, _)) = located.found
            && located.quoted
        {
            return State::Related { flow: slot };
        }
        if self.departed.contradict(located, now) {
            return State::Invalid(Invalid::StreamAmbiguous);
        }
        let opens = located.segment.is_some_and(|segment| segment.is_syn());
        let told = match known.flow {
            Tracked::New => None,
            Tracked::Established => Some(false),
            Tracked::Reply { .. } => Some(true),
        };
        let mut found = located.found;
        if let Some((slot, reply)) = found
            && let Some(flow) = self.get(slot)
        {
            if told.is_none() && !known.is_first && flow.is_contradicted_by(facts, now) {
                return State::Invalid(Invalid::StreamAmbiguous);
            }
            // What is new comes from the side that begins it.
            let is_turned = reply != told.unwrap_or(false);
            if flow.is_another(facts, known, is_turned, now) {
                // Where the kernel has lost it, the side that is heard first then need not be the one that began it.
                let may_go_on = is_turned && !opens;
                self.give_up(slot, may_go_on, ended);
                found = None;
            } else if let Some(flow) = self.get_mut(slot) {
                flow.is_kept |= !known.is_first;
            }
        }
        match (told, found) {
            (None, None) => State::New { flow: None },
            (None, Some((slot, _))) => {
                if let Some(flow) = self.get_mut(slot) {
                    flow.is_gone = facts.tcp_flags.is_some_and(|flags| flags.rst());
                }
                State::New { flow: Some(slot) }
            }
            (Some(reply), Some((slot, _))) => {
                if let Some(flow) = self.get(slot)
                    && let Some(segment) = located.segment
                    && reply
                    && flow.answers_another(segment)
                {
                    return State::Invalid(Invalid::StreamAmbiguous);
                }
                if let Err(invalid) = self.follow_kernel(slot, located, known, reply) {
                    return State::Invalid(invalid);
                }
                if let Some(flow) = self.get_mut(slot) {
                    // Where nothing is seen of the side that began it, this answers its SYN.
                    let is_opening = known.flow == Tracked::Reply { is_open: false };
                    let answers = located.segment.is_some_and(|segment| segment.is_syn_ack());
                    flow.by_syn |= is_opening && answers && flow.packets[0] == 0;
                    count(flow, facts, reply, now);
                }
                State::Established { flow: slot, reply }
            }
            // Its begin was not seen here.
            (Some(reply), None) => {
                match self.enter(facts, located, None, Reason::Established, now, ended) {
                    Ok(Some(slot)) => {
                        if let Some(flow) = self.get_mut(slot) {
                            // A SYN under way begins nothing until it is answered.
                            flow.syn = None;
                            if reply {
                                flow.turn_round();
                            }
                        }
                        match self.follow_kernel(slot, located, known, reply) {
                            Ok(()) => State::Established { flow: slot, reply },
                            Err(invalid) => State::Invalid(invalid),
                        }
                    }
                    Ok(None) => State::Untracked,
                    Err(invalid) => State::Invalid(invalid),
                }
            }
        }
    }

    /// What comes is of another flow. `may_go_on`: or of the same, all the same.
    fn give_up(&mut self, slot: FlowSlot, may_go_on: bool, ended: &mut Ended) {
        if may_go_on && let Some(flow) = self.slab.get(slot.0 as usize).and_then(Option::as_ref) {
            self.departed.note(flow, flow.said());
        }
        self.remove(slot, FlowEnd::Closed, ended);
    }

    /// The kernel says that the connection is established.
    fn follow_kernel(
        &mut self,
        slot: FlowSlot,
        located: &Located,
        known: Known,
        reply: bool,
    ) -> Result<(), Invalid> {
        let (Some(flow), Some(segment)) = (self.get(slot), located.segment) else {
            if let Some(flow) = self.get_mut(slot) {
                flow.note_answer();
            }
            return Ok(());
        };
        // Until the handshake is over, whichever SYN is answered is the one that counts.
        let is_opening = known.flow == Tracked::Reply { is_open: false };
        let begins_anew =
            flow.is_begun_by(segment, reply) || is_opening && flow.answers_opening(segment);
        // Where nothing is seen of the side that began it, the kernel alone has seen the SYN.
        let is_begin_told = reply && known.is_first && segment.is_syn_ack() && flow.packets[0] == 0;
        if begins_anew || is_begin_told {
            self.departed.forget(located);
        }
        let Some(flow) = self.get_mut(slot) else {
            return Ok(());
        };
        flow.note_answer();
        let ends = flow.note_end(segment, reply);
        if let Some(connection) = &mut flow.tcp {
            connection.follow_kernel(segment, reply, ends);
        }
        flow.note_proof(segment, reply);
        if begins_anew && reply {
            return flow.begin_anew();
        }
        Ok(())
    }
}
