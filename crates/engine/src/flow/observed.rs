//! Flows of which every packet is seen here, in both directions: their state is followed as conntrack follows it.

use policy::Timestamp;
use wire::{Packet, Transport};

use super::begin::begins;
use super::tcp::TcpState;
use super::{Ended, FlowTable, Located, News, State, Turn, connection, count};
use crate::event::FlowEnd;
use crate::facts::Facts;
use crate::refusal::is_refusal;
use crate::verdict::Invalid;

impl FlowTable {
    /// What conntrack would call the packet, with the change of state that the packet makes.
    pub(crate) fn track(
        &mut self,
        packet: &Packet<'_>,
        facts: &Facts<'_>,
        located: &Located,
        now: Timestamp,
        ended: &mut Ended,
    ) -> State {
        if let Transport::Icmp(icmp) = packet.transport() {
            // nf_conntrack_proto_icmpv6.c `noct_valid_new`
            if icmp.is_v6() && matches!(icmp.kind(), 130..=136 | 143) {
                return State::Untracked;
            }
            if located.quoted {
                return match located.found {
                    Some((flow, _)) if self.is_gone(flow) => State::Invalid(Invalid::IcmpNoFlow),
                    Some((flow, reply)) => {
                        let is_unanswered = self.get(flow).is_some_and(|flow| !flow.answered);
                        if is_unanswered && !reply && is_refusal(facts.protocol, facts.icmp) {
                            self.tell(flow, Turn::Refused);
                        }
                        State::Related { flow }
                    }
                    None => State::Invalid(Invalid::IcmpNoFlow),
                };
            }
        }
        if located.oriented.is_none() {
            return State::Invalid(Invalid::IcmpNoFlow);
        }
        // Conntrack looks behind an IPv6 authentication header, where the check of flags before it does not.
        if let Transport::Tcp(segment) = packet.transport()
            && segment.flags().is_impossible()
        {
            return State::Invalid(Invalid::TcpState);
        }
        let Some((slot, reply)) = located.found else {
            return match begins(packet, located) {
                Ok(()) => State::New { flow: None },
                Err(invalid) => State::Invalid(invalid),
            };
        };
        if self.is_gone(slot) {
            return match begins(packet, located) {
                Ok(()) => {
                    self.remove(slot, FlowEnd::Closed, ended);
                    State::New { flow: None }
                }
                Err(invalid) => State::Invalid(invalid),
            };
        }
        // What is refused for this is refused behind connection tracking, which has followed it.
        let (mut is_ambiguous, mut is_begun) = (false, false);
        if let Some(segment) = located.segment
            && let Some(flow) = self.get_mut(slot)
        {
            if !reply && flow.is_contradicted_by(facts, now) {
                return State::BegunOtherwise;
            }
            if !reply && flow.may_begin_anew(facts) {
                self.remove(slot, FlowEnd::TimedOut, ended);
                return State::New { flow: None };
            }
            is_ambiguous = reply && flow.answers_another(segment);
            is_begun = flow.is_begun_by(segment, reply);
            if !is_ambiguous {
                flow.note_proof(segment, reply);
            }
        }
        if let Some(segment) = located.segment
            && let Some(flow) = self.get_mut(slot)
            && let Some(connection) = &mut flow.tcp
        {
            let was = connection.state();
            let is_reset = facts.tcp_flags.is_some_and(|flags| flags.rst());
            match connection.follow(segment, reply, flow.answered) {
                connection::Turn::Invalid => return State::Invalid(Invalid::TcpState),
                connection::Turn::Reopens => {
                    self.remove(slot, FlowEnd::Closed, ended);
                    return State::New { flow: None };
                }
                connection::Turn::BeginsAnew => {
                    flow.handshake = false;
                    if reply && let Err(invalid) = flow.begin_anew() {
                        return State::Invalid(invalid);
                    }
                }
                connection::Turn::To(_) if is_reset && !flow.answered => {
                    // There never was a connection.
                    flow.is_gone = true;
                    if reply {
                        count(flow, facts, reply, now);
                        self.tell(slot, Turn::Refused);
                        return State::Established { flow: slot, reply };
                    }
                }
                connection::Turn::To(next) => {
                    let is_answer = reply && segment.is_syn_ack() && next == TcpState::SynReceived;
                    if (is_answer || is_begun)
                        && let Err(invalid) = flow.begin_anew()
                    {
                        return State::Invalid(invalid);
                    }
                    if !flow.answered && !reply && flow.syn.is_none() {
                        // It was picked up under way, and begins now.
                        flow.syn = segment.opening().map(|(begin, _)| begin.wrapping_sub(1));
                        flow.begins_at = segment.opening().map(|(begin, _)| begin);
                        flow.asks_from = flow.begins_at;
                    }
                    let opens = next == TcpState::Established && flow.answered && !flow.handshake;
                    let ends = flow.handshake && next.is_ending() && !was.is_ending();
                    flow.handshake |= opens;
                    if opens {
                        self.tell(slot, Turn::Served);
                    } else if ends {
                        let was_reset = is_reset;
                        self.tell(slot, Turn::Ended { was_reset });
                    }
                }
            }
        }
        let Some(flow) = self.slab[slot.0 as usize].as_mut() else {
            return State::New { flow: None };
        };
        let established = reply || flow.answered;
        let is_first_answer = reply && !flow.answered && flow.tcp.is_none();
        flow.answered |= reply;
        if is_first_answer {
            self.news = Some(News {
                flow: slot,
                what: Turn::Served,
            });
        }
        if is_ambiguous {
            return State::Invalid(Invalid::StreamAmbiguous);
        }
        if established {
            count(flow, facts, reply, now);
            State::Established { flow: slot, reply }
        } else {
            State::New { flow: Some(slot) }
        }
    }
}
