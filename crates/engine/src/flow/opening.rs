//! How connections open: which SYN counts, what is proven by the handshake, and where another connection begins under the same
//! ports.

use std::time::Duration;

use policy::Timestamp;

use super::connection::Connection;
use super::{FiveTuple, Flow, FlowSlot, FlowTable, connection, opposite};
use crate::facts::Facts;
use crate::verdict::Invalid;

/// How long a server that took a SYN tries to answer it, at least: with the SYN-ACK sent five times (RFC 6298: after 1, 3, 7 and
/// 15 s again). Whoever begins anew with another number waits so long, unless the first SYN was answered.
const ANSWER_UNDER_WAY: Duration = Duration::from_secs(20);

impl Flow {
    /// Whether a segment is another begin of what nobody has answered yet. Which of two SYNs a receiver has taken is not to be
    /// seen from here, and with it where the stream begins; a retransmission is the same SYN.
    pub(super) fn is_contradicted_by(&self, facts: &Facts<'_>, now: Timestamp) -> bool {
        self.may_begin_anew(facts) && now.since(self.last) < ANSWER_UNDER_WAY
    }

    /// Whether the bytes of the side that began it are put together.
    pub(super) fn is_followed(&self) -> bool {
        let inspection = self.inspection.as_ref();
        inspection.is_some_and(|inspection| inspection.follows(false))
    }

    /// Whether a segment is a SYN with another number than the one that began this flow, unanswered and followed.
    pub(super) fn may_begin_anew(&self, facts: &Facts<'_>) -> bool {
        let is_followed = self.is_followed() || self.questions.is_some();
        is_followed
            && self.syn.is_some()
            && !self.answered
            && facts.begins()
            && facts.sequence != self.syn
    }

    /// Whether a SYN+ACK answers another SYN than the one that began the stream that is put together here: its sender may go on with
    /// that one.
    pub(super) fn answers_another(&self, segment: connection::Segment) -> bool {
        let Some(begin) = (self.syn).filter(|_| self.is_followed() && self.secret.is_none()) else {
            return false;
        };
        segment.is_syn_ack() && !segment.answers(begin)
    }

    /// Whether a SYN+ACK answers the SYN behind which it comes, which connection tracking took for more of a connection: with all, some or
    /// none of what that carried, as its sender takes it (RFC 7413). Connection tracking looks for all of it alone.
    pub(super) fn is_begun_by(&self, segment: connection::Segment, reply: bool) -> bool {
        let is_next = |connection: &Connection| connection.is_behind_syn(segment, reply);
        reply && self.tcp.as_ref().is_some_and(is_next) && self.answers_opening(segment)
    }

    /// Whether a SYN+ACK answers the last SYN of the side that began it, and not the one that has begun what is followed.
    pub(super) fn answers_opening(&self, segment: connection::Segment) -> bool {
        let Some((first_byte, end)) = self.opening else {
            return false;
        };
        let is_known = |begin: u32| {
            begin != first_byte.wrapping_sub(1)
                && segment.acknowledgement() == begin.wrapping_add(1)
        };
        if self.syn.is_some_and(is_known) {
            return false;
        }
        let taken = segment.acknowledgement().wrapping_sub(first_byte);
        segment.is_syn_ack() && taken <= end.wrapping_sub(first_byte)
    }

    /// Takes note of what proves that the side which began the connection has its address.
    pub(super) fn note_proof(&mut self, segment: connection::Segment, reply: bool) {
        // What carries something does not pass, and begins nothing, where the side that sent it is followed.
        if !reply
            && let Some((first_byte, end)) = segment.opening()
            && (first_byte == end || !(self.is_followed() || self.questions.is_some()))
        {
            self.opening = Some((first_byte, end));
        }
        if reply && segment.is_syn_ack() {
            self.secret = Some(segment.sequence().wrapping_add(1));
        } else if !reply && segment.acknowledges() {
            self.is_proven |= self.secret == Some(segment.acknowledgement());
        }
    }

    /// Another connection begins, as the last SYN was answered that nobody had believed. `Err` where that SYN carried something,
    /// which was not put in its place.
    pub(super) fn begin_anew(&mut self) -> Result<(), Invalid> {
        let Some((first_byte, end)) = self.opening else {
            return Ok(());
        };
        let begin = first_byte.wrapping_sub(1);
        // Else it is the same SYN again.
        if self.syn != Some(begin) {
            if first_byte != end && self.is_followed() {
                return Err(Invalid::StreamAmbiguous);
            }
            self.is_proven = false;
            (self.begins_at, self.asks_from) = (Some(first_byte), Some(first_byte));
        }
        (self.by_syn, self.syn) = (true, Some(begin));
        Ok(())
    }

    /// What was seen of it goes against the way in which it began.
    pub(super) fn turn_round(&mut self) {
        let tuple = self.tuple;
        self.tuple = FiveTuple {
            source: tuple.destination,
            destination: tuple.source,
            source_port: tuple.destination_port,
            destination_port: tuple.source_port,
            ..tuple
        };
        self.direction = opposite(self.direction);
        self.from_low = !self.from_low;
        self.packets.reverse();
        self.bytes.reverse();
        // A SYN was the other side's.
        self.opening = None;
    }
}

impl FlowTable {
    /// The SYN that would have begun this flow anew was refused: nothing has begun.
    pub(crate) fn stay(&mut self, slot: FlowSlot) {
        if let Some(flow) = self.get_mut(slot)
            && flow.begins_at.take().is_some()
        {
            (flow.syn, flow.asks_from) = (None, None);
        }
    }
}
