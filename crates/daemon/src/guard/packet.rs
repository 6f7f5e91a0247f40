//! Packets in the guard: judged by the engine, or judged by the kernel and seen by the engine.

use std::sync::Arc;

use engine::{Arrival, Detector, Event, EventBody, Invalid, Over, Reason, Verdict};
use kernel::tag::{Cause, LogTag};
use policy::{Direction, Timestamp, protocol};
use wire::{Frame, Link, Packet, Transport, Vlan};

use super::Guard;
use super::seen::Begin;

/// Packets on their way to the guard, in one piece of memory.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    packets: Vec<Meta>,
}

#[derive(Debug)]
struct Meta {
    at: Timestamp,
    link: Option<Link>,
    start: usize,
    len: usize,
    wire_len: u32,
    direction: Option<Direction>,
    interface: Option<Arc<str>>,
    tag: Option<LogTag>,
}

/// How a packet came, beside its bytes.
#[derive(Clone, Debug)]
pub(crate) struct How {
    pub(crate) at: Timestamp,
    /// `None` for a link layer that is not read.
    pub(crate) link: Option<Link>,
    pub(crate) wire_len: usize,
    pub(crate) direction: Option<Direction>,
    pub(crate) interface: Option<Arc<str>>,
    /// What the kernel did with it, when it did.
    pub(crate) tag: Option<LogTag>,
}

impl Batch {
    /// Packets in one batch at most.
    pub(crate) const PACKETS: usize = 256;
    /// Bytes after which a batch is full.
    pub(crate) const BYTES: usize = 128 * 1024;

    pub(crate) fn push(&mut self, how: How, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.packets.push(Meta {
            at: how.at,
            link: how.link,
            start,
            len: bytes.len(),
            wire_len: u32::try_from(how.wire_len).unwrap_or(u32::MAX),
            direction: how.direction,
            interface: how.interface,
            tag: how.tag,
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.packets.len() >= Self::PACKETS || self.bytes.len() >= Self::BYTES
    }

    /// As if all had come at another time.
    #[cfg(test)]
    pub(crate) fn restamp(&mut self, at: Timestamp) {
        for meta in &mut self.packets {
            meta.at = at;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
    }
}

impl Guard {
    /// The packet line, from parse to record.
    pub(super) fn packets(&mut self, batch: &Batch) {
        for meta in &batch.packets {
            let at = self.clock.arrival(meta.at);
            let arrival = Arrival {
                now: at,
                direction: meta.direction,
                interface: meta.interface.as_deref(),
                wire_len: meta.wire_len,
                known: None,
            };
            // `push` has put the bytes there.
            let bytes = batch
                .bytes
                .get(meta.start..meta.start + meta.len)
                .unwrap_or_default();
            let frame = match meta.link {
                // The kernel has checked what it hands up, and has written into options that record the way.
                Some(link) if meta.tag.is_some() => {
                    wire::parse_trusting_checksums(link, bytes, meta.wire_len as usize)
                }
                Some(link) => wire::parse(link, bytes, meta.wire_len as usize),
                None => Ok(Frame::NotIp {
                    ethertype: 0,
                    vlan: Vlan::NONE,
                }),
            };
            match (meta.tag, frame) {
                (None, frame) => {
                    self.engine.handle(&arrival, frame);
                }
                (Some(tag), Ok(Frame::Ip(packet))) => self.logged(&arrival, &packet, tag),
                // The kernel logs IP packets alone, and has read more of them than it hands up: nothing can be said of these.
                (Some(_), Ok(Frame::NotIp { .. }) | Err(_)) => self.counts.unread_log += 1,
            }
            self.settle(at);
        }
    }

    fn logged(&mut self, arrival: &Arrival<'_>, packet: &Packet<'_>, tag: LogTag) {
        if let Some(over) = over(tag.cause) {
            self.engine.observe_over(arrival, packet, over);
        }
        // Who is only to be told of it hears of the packet again from what decides about it.
        let Some(verdict) = tag.outcome.verdict() else {
            match tag.cause {
                Cause::Refusal => self.refused(packet, arrival.now),
                Cause::Answer => self.engine.learn_answer(packet, arrival.now),
                _ => {}
            }
            return;
        };
        let reason = self.reason(tag.cause, packet, arrival.now);
        if verdict == Verdict::Allow {
            let at = arrival.now;
            let begin = Begin {
                at,
                reason,
                by_syn: matches!(packet.transport(), Transport::Tcp(segment) if segment.flags().syn()),
                is_closed: false,
                is_logged: true,
                completed: None,
            };
            self.seen.insert(packet.five_tuple(), begin);
        }
        self.engine.observe(arrival, packet, verdict, reason);
    }

    /// The engine's reason for what the kernel gave as the cause; the kernel cannot know which ban it was, or what exactly
    /// makes a packet invalid.
    fn reason(&self, cause: Cause, packet: &Packet<'_>, now: Timestamp) -> Reason {
        match cause {
            Cause::Banned => {
                let ban = self
                    .engine
                    .ban_of(packet.source(), now)
                    .or_else(|| self.engine.ban_of(packet.destination(), now));
                let host = || policy::address::host_prefix(packet.source());
                Reason::Banned(ban.map_or_else(host, |ban| ban.prefix))
            }
            Cause::Feed(set) => Reason::Feed(set),
            Cause::Impossible(kind) => Reason::Impossible(kind),
            Cause::Invalid => Reason::Invalid(match packet.protocol() {
                protocol::TCP => Invalid::TcpState,
                protocol::SCTP => Invalid::SctpNoAssociation,
                protocol::ICMP | protocol::ICMPV6 => Invalid::IcmpNoFlow,
                wire::protocol::GRE => Invalid::Gre,
                _ => Invalid::Damaged,
            }),
            Cause::Related | Cause::Refusal | Cause::Answer => Reason::Related,
            Cause::Rule(rule) => Reason::Rule(rule),
            Cause::Limited(rule) => Reason::Limited(rule),
            Cause::Rate => Reason::Flood(Detector::Rate),
            Cause::SynFlood | Cause::SynFloodOfAll => Reason::Flood(Detector::SynFlood),
            Cause::IcmpFlood => Reason::Flood(Detector::IcmpFlood),
            Cause::UdpFlood => Reason::Flood(Detector::UdpFlood),
            Cause::Essential(kind) => Reason::Essential(kind),
            Cause::Default(direction) => Reason::Default(direction),
        }
    }

    /// What inspecting workers found: their bans become everybody's, the rest is for the record.
    pub(super) fn inspected(&mut self, events: Vec<Event>) {
        let now = self.clock.now();
        let mut bans = Vec::new();
        for event in events {
            match &event.body {
                EventBody::Ban(ban) => {
                    // Made anew with what is known of its source, or refused: both are events of the engine's own.
                    self.engine.adopt_ban(ban.clone(), now).ok();
                    while let Some(event) = self.engine.poll_event() {
                        self.note_ban(&event, &mut bans);
                        self.recorder.event(event);
                    }
                    continue;
                }
                // A worker's own ban table is not the one that counts.
                EventBody::Unban { .. } => continue,
                // Each worker keeps to the share of a second by itself.
                EventBody::Flow(_) if !self.engine.may_record_flow(true, now) => continue,
                EventBody::Alert(_) => self.counts.worker_alerts += 1,
                _ => {}
            }
            self.recorder.event(event);
        }
        if !bans.is_empty() {
            self.carry_out(&bans, now);
        }
    }
}

/// Whose rate the kernel found a packet over.
fn over(cause: Cause) -> Option<Over> {
    Some(match cause {
        Cause::Rate => Over::Source(Detector::Rate),
        Cause::SynFlood => Over::Source(Detector::SynFlood),
        Cause::SynFloodOfAll => Over::Everybody,
        Cause::IcmpFlood => Over::Source(Detector::IcmpFlood),
        Cause::UdpFlood => Over::Source(Detector::UdpFlood),
        Cause::Banned
        | Cause::Feed(_)
        | Cause::Impossible(_)
        | Cause::Invalid
        | Cause::Related
        | Cause::Refusal
        | Cause::Answer
        | Cause::Rule(_)
        | Cause::Limited(_)
        | Cause::Essential(_)
        | Cause::Default(_) => return None,
    })
}
