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

/// Whose a packet is that comes under the ports of a known flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The flow's.
    Its,
    /// Another flow's.
    Anothers,
    /// Nobody's that can be told: a SYN or SYN+ACK of an established connection from the side that was asked or, to connection tracking,
    /// answers.
    Unclear,
}

impl Flow {
    /// Whose a packet is that the kernel hands up. `is_turned`: what goes to the side that began this flow goes, to the kernel, the other
    /// way.
    ///
    /// The kernel may have forgotten the flow in a pause, which its sender chooses, or at a reset that its receiver does not believe, and
    /// picks it up with whoever is heard first then. So what is put together of a connection is of one connection until a SYN begins the
    /// next, whatever the kernel says, also behind an end: that the receiver has taken that is not to be seen from here. The bytes of each
    /// side go on where they were, and nothing is turned round with the kernel: each side keeps its stream and its rules, and whoever
    /// turns the kernel, by a forged segment as well, has gained nothing.
    fn whose(
        &self,
        facts: &Facts<'_>,
        segment: Option<Segment>,
        known: Known,
        is_turned: bool,
        now: Timestamp,
    ) -> Whose {
        let is_followed = self.follows(false) || self.follows(true);
        let is_begun = self.answered || self.said().contains(&true);
        let is_another = match segment.filter(|_| is_followed && is_begun) {
            Some(segment) if !segment.is_syn() => false,
            Some(_)
                if is_turned && (self.by_syn || !known.is_first) && known.flow != Tracked::New =>
            {
                return Whose::Unclear;
            }
            _ => self.is_gone || is_turned || self.is_another(facts, known, now),
        };
        if is_another {
            Whose::Anothers
        } else {
            Whose::Its
        }
    }

    /// Whether a packet is of another flow than this one, of which nothing is put together, or which it begins anew. Packets that wait
    /// together may each be called the first; once one was not, none of the same flow is any more.
    fn is_another(&self, facts: &Facts<'_>, known: Known, now: Timestamp) -> bool {
        let opens = facts.tcp_flags.is_some_and(|flags| flags.syn());
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

    /// Of whom something is put together, or was until there was no memory for it.
    fn said(&self) -> [bool; 2] {
        let inspection = self.inspection.as_ref();
        let is_starved = inspection.is_some_and(|inspection| inspection.is_starved());
        [false, true].map(|reply| is_starved || self.reaches(reply).flatten().any(Reach::is_begun))
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
            match flow.whose(facts, located.segment, known, is_turned, now) {
                Whose::Its => {
                    if let Some(flow) = self.get_mut(slot) {
                        flow.is_kept |= !known.is_first;
                    }
                }
                Whose::Anothers => {
                    self.give_up(slot, (!is_turned).then_some(reply), ended);
                    found = None;
                }
                Whose::Unclear => return State::Invalid(Invalid::StreamAmbiguous),
            }
        }
        match (told, found) {
            (None, None) => State::New { flow: None },
            (None, Some((slot, true))) => {
                if let Some(flow) = self.get_mut(slot) {
                    count(flow, facts, true, now);
                }
                State::PickedUp { flow: slot }
            }
            (None, Some((slot, false))) => {
                if let Some(flow) = self.get_mut(slot) {
                    flow.is_gone = facts.tcp_flags.is_some_and(|flags| flags.rst());
                }
                State::New { flow: Some(slot) }
            }
            // Who began it is known here, whatever the kernel says.
            (Some(_), Some((slot, reply))) => {
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

    /// What comes begins another flow, if it is answered: until then the `sender` may go on with this one, or, where it is not sure who
    /// that is, either side.
    fn give_up(&mut self, slot: FlowSlot, sender: Option<bool>, ended: &mut Ended) {
        if let Some(flow) = self.slab.get(slot.0 as usize).and_then(Option::as_ref) {
            let [first, other] = flow.said();
            let may_be = |reply| sender.is_none_or(|sender| sender == reply);
            let silent = [first && may_be(false), other && may_be(true)];
            self.departed.note(flow, silent);
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
        // Where nothing is seen of the side that began it, the kernel alone has seen the SYN, and calls no answer the first without one.
        let is_begin_told = reply && known.is_first && segment.is_syn() && flow.packets[0] == 0;
        // What it acknowledges beyond the SYN may be more than its receiver takes, and whoever sends it knows nothing of what was before.
        let is_answered = reply
            && is_opening
            && segment.is_syn_ack()
            && flow.syn.is_some_and(|syn| segment.answers(syn));
        if begins_anew || is_answered {
            self.departed.forget(located);
        } else if is_begin_told {
            self.departed.forget_answered(located);
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
