//! What flows tell the detectors: who was served, who was refused, who came and went.

use policy::{Direction, Timestamp, address_key, protocol};
use wire::{FiveTuple, TcpFlags};

use super::decided::Decided;
use super::{Engine, facts_of};
use crate::detect::brute::Connection;
use crate::detect::contact::{Attempt, Outcome};
use crate::detect::{Offence, Over};
use crate::evidence::Technique;
use crate::facts::Facts;
use crate::flow::{FlowSlot, News, Turn};
use crate::verdict::Reason;

/// A flow that the kernel tracked, at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackedEnd {
    /// As its first packet had it.
    pub tuple: FiveTuple,
    /// Which way its first packet went.
    pub direction: Direction,
    /// When its first packet was seen; `None` when it was not.
    pub began: Option<Timestamp>,
    /// When it ended: for TCP when both sides had closed it or one had reset it, else when it was forgotten.
    pub ended: Timestamp,
    /// TCP only: whether its first packet was a SYN; `None` when it was not seen. Else the kernel picked it up under way.
    pub by_syn: Option<bool>,
    /// Type and code of its first packet, for ICMP.
    pub icmp: Option<(u8, u8)>,
    /// Whether packets went both ways.
    pub answered: bool,
    /// TCP only: whether the handshake was completed.
    pub completed: bool,
    /// TCP only: whether a RST ended it.
    pub was_reset: bool,
}

impl Engine {
    /// Feeds the detectors with the end of a flow that the kernel tracked and decided. Each flow is to be handed in once, and only
    /// flows whose packets do not go through [`Engine::handle`], which knows their ends itself.
    pub fn observe_flow_end(&mut self, end: &TrackedEnd) {
        let TrackedEnd {
            tuple,
            direction,
            began,
            ended: now,
            ..
        } = *end;
        let is_tcp = tuple.protocol == protocol::TCP;
        // What may have been an ACK may answer something, and no more than a SYN is held against it.
        let flags = is_tcp.then_some(if end.by_syn == Some(true) {
            TcpFlags::SYN
        } else {
            TcpFlags::ACK
        });
        let at = began.unwrap_or(now);
        let mut attempt = Attempt::of(&tuple, flags, end.icmp, direction, &self.own, at);
        if let Some(attempt) = attempt.as_mut()
            && is_tcp
            && end.by_syn.is_none()
        {
            attempt.contact.technique = Technique::Syn;
        }
        let served = if is_tcp { end.completed } else { end.answered };
        if let Some(attempt) = attempt.filter(Attempt::may_fail) {
            if served {
                self.note_attempt(&attempt.went(Outcome::Served), now);
            } else if !end.answered {
                self.note_attempt(&attempt, now);
            }
            // A SYN that was answered and never completed is neither: an open port, and somebody who did not want it.
        }
        if let Some(began) = began.filter(|_| end.completed && end.by_syn == Some(true)) {
            let connection = Connection {
                tuple,
                direction,
                began,
                was_reset: end.was_reset,
            };
            self.note_connection(&connection, now);
        }
    }

    /// An ICMP packet that is over one of its source's rates is dropped, whatever flow it belongs to.
    #[inline]
    pub(super) fn limit_icmp(&mut self, facts: &Facts<'_>, now: Timestamp) -> Option<Decided> {
        facts.icmp?;
        Over::ICMP.into_iter().find_map(|meter| {
            let floods = self.detectors.floods();
            let offence = floods.icmp(meter, &self.plan, facts, now)?;
            self.act_on_flood(facts, offence, now)
        })
    }

    /// What the packet that was just tracked tells of its flow.
    #[inline]
    pub(super) fn take_news(&mut self, now: Timestamp) {
        if let Some(news) = self.flows.take_news() {
            self.heed(news, now);
        }
    }

    fn heed(&mut self, News { flow, what }: News, now: Timestamp) {
        let Some(flow) = self.flows.get(flow) else {
            return;
        };
        let (tuple, direction, began) = (flow.tuple, flow.direction, flow.start());
        let is_by_syn = flow.by_syn;
        let is_proven = flow.is_proven;
        match what {
            Turn::Served | Turn::Refused => {
                // That an address answers a ping says nothing of why it was asked.
                let attempt = Attempt::of_flow(flow, &self.own).filter(Attempt::may_fail);
                if what == Turn::Served && is_by_syn && direction != Direction::Out {
                    let source = address_key(tuple.source);
                    self.detectors.floods().completed(source, now);
                }
                if let Some(attempt) = attempt {
                    let attempt = match what {
                        Turn::Served => attempt.went(Outcome::Served),
                        Turn::Refused | Turn::Ended { .. } => attempt,
                    };
                    self.note_attempt(&attempt, now);
                }
            }
            Turn::Ended { was_reset } if is_by_syn && is_proven => {
                let connection = Connection {
                    tuple,
                    direction,
                    began,
                    was_reset,
                };
                self.note_connection(&connection, now);
            }
            // Picked up under way: when it began is not known. Or somebody guessed at the number of a SYN-ACK that another got.
            Turn::Ended { .. } => {}
        }
    }

    /// A flow began: a ping asks whether somebody is there, whatever comes back.
    pub(super) fn watch_begin(&mut self, facts: &Facts<'_>, now: Timestamp) {
        if facts.icmp.is_none() || facts.is_loopback() {
            return;
        }
        let (tuple, icmp) = (facts.tuple(), facts.icmp);
        let attempt = Attempt::of(&tuple, None, icmp, facts.direction, &self.own, now);
        if let Some(attempt) = attempt {
            self.note_attempt(&attempt, now);
        }
    }

    /// A packet was dropped or rejected.
    pub(super) fn watch_refused(
        &mut self,
        facts: &Facts<'_>,
        reason: Reason,
        flow: Option<FlowSlot>,
        now: Timestamp,
    ) {
        let is_first = flow.is_none();
        let is_aimed = facts.direction == Direction::Out || self.is_aimed_at_a_host(facts);
        if !is_first || !is_aimed || facts.is_loopback() || !self.detectors.watches_contacts() {
            return;
        }
        if let Some(attempt) = Attempt::refused(facts, reason, &self.own, now) {
            self.note_attempt(&attempt, now);
        }
    }

    /// Takes down the flows that nobody has answered for too long.
    pub(super) fn watch_silence(&mut self, silent: &mut Vec<FlowSlot>, now: Timestamp) {
        for slot in silent.drain(..) {
            let is_watched = self.detectors.watches_contacts();
            let flow = self.flows.get(slot).filter(|_| is_watched);
            let attempt = flow.and_then(|flow| Attempt::of_flow(flow, &self.own));
            if let Some(attempt) = attempt.filter(Attempt::may_fail) {
                self.note_attempt(&attempt, now);
            }
            self.flows.expire(slot, now, &mut self.ended);
        }
        // The room is used again.
        self.silent = std::mem::take(silent);
    }

    fn note_attempt(&mut self, attempt: &Attempt, now: Timestamp) {
        if let Some(offence) = self.detectors.contact(&self.plan, attempt, now) {
            self.act_on_flow_offence(attempt.tuple(), attempt.direction, offence, now);
        }
    }

    fn note_connection(&mut self, connection: &Connection, now: Timestamp) {
        if let Some(offence) = (self.detectors).connection_ended(&self.plan, connection, now) {
            self.act_on_flow_offence(connection.tuple, connection.direction, offence, now);
        }
    }

    fn act_on_flow_offence(
        &mut self,
        tuple: FiveTuple,
        direction: Direction,
        offence: Offence,
        now: Timestamp,
    ) {
        self.act_on_offence(&facts_of(tuple, direction), offence, now);
    }
}
