//! The flow table: both directions of each 5-tuple, with TCP state and counters, in bounded memory.
//!
//! It follows conntrack: a flow is entered when its first packet is allowed, packets of the side that began it are "new" until
//! the other side has answered, and a packet that has no place in its flow's state is invalid.

mod connection;
mod denied;
mod key;
mod tcp;

use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use policy::{Direction, RuleId, Timestamp};
use std::hash::BuildHasher;
use wire::{FiveTuple, Packet, TcpFlags, Transport};

use crate::clock;
use crate::engine::{Known, Tracked};
use crate::event::{FlowEnd, FlowRecord};
use crate::facts::Facts;
use crate::refusal::is_refusal;
use crate::verdict::{Invalid, Reason};
use connection::Connection;
pub(crate) use denied::DeniedFlows;
pub(crate) use key::{FlowKey, Oriented};
use tcp::{Step, TcpState};

/// One flow.
#[derive(Debug)]
pub(crate) struct Flow {
    key: FlowKey,
    hash: u64,
    /// Endpoints as its first packet had them.
    pub(crate) tuple: FiveTuple,
    /// Which way its first packet went.
    pub(crate) direction: Direction,
    pub(crate) id: u64,
    from_low: bool,
    answered: bool,
    /// TCP only: both sides completed the handshake.
    pub(crate) handshake: bool,
    tcp: Option<Connection>,
    /// TCP only: it was reset before it was answered, and the kernel has forgotten it. It is kept for the record.
    is_gone: bool,
    start: Timestamp,
    last: Timestamp,
    packets: [u64; 2],
    bytes: [u64; 2],
    /// Why its first packet was allowed.
    pub(crate) reason: Reason,
    /// What is still to be inspected; see [`crate::inspect`].
    pub(crate) inspection: Option<Box<crate::inspect::Inspection>>,
    /// What was asked of a name server over it: see [`crate::inspect::dns`].
    pub(crate) questions: Option<Box<crate::inspect::dns::Questions>>,
    /// Whether it was asked what is to be inspected.
    pub(crate) inspection_begun: bool,
    /// The kernel keeps that a packet of it was handed up.
    is_kept: bool,
    /// The kernel tracks it, and shows only the packets that a content rule has to see.
    by_kernel: bool,
    /// TCP only: its first packet here was a SYN. Else it was picked up under way.
    pub(crate) by_syn: bool,
    /// TCP only: the number of the SYN that was its first packet here.
    pub(crate) syn: Option<u32>,
    /// TCP only: where the last SYN of the side that began it has its stream begin, and where what that carries ends.
    opening: Option<(u32, u32)>,
    /// TCP only: another connection has begun within this flow, with this as the first byte of the side that began it, and it was not
    /// asked yet what is to be inspected of it.
    pub(crate) begins_at: Option<u32>,
    /// TCP only: what acknowledges the SYN-ACK, which only its receiver knows.
    secret: Option<u32>,
    /// TCP only: the side that began it has acknowledged exactly the SYN-ACK, and so has its address.
    pub(crate) is_proven: bool,
    /// ICMP only: type and code of its first packet.
    pub(crate) icmp: Option<(u8, u8)>,
    /// Whether it was told that it was refused, or that nobody answers.
    failure_told: bool,
}

/// What has just become known of a flow, for the detectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) flow: FlowSlot,
    pub(crate) what: Turn,
}

/// A turn in the life of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It was answered: by whatever for UDP and the like, by the handshake's end for TCP.
    Served,
    /// It was answered by a reset, or by an ICMP error that says why nobody will.
    Refused,
    /// A connection with a completed handshake ended.
    Ended {
        /// By a RST.
        was_reset: bool,
    },
}

impl Flow {
    /// The rule that allowed its first packet.
    pub(crate) fn rule(&self) -> Option<RuleId> {
        self.reason.rule()
    }

    pub(crate) fn start(&self) -> Timestamp {
        self.start
    }

    /// Whether nobody answers: asked at least so long ago, and not told before.
    fn is_silent(&self, now: Timestamp) -> bool {
        !self.answered && !self.failure_told && now.since(self.start) >= PATIENCE
    }

    /// Whether a segment is another begin of what nobody has answered yet. Which of two SYNs a receiver has taken is not to be
    /// seen from here, and with it where the stream begins; a retransmission is the same SYN.
    fn is_contradicted_by(&self, facts: &Facts<'_>, now: Timestamp) -> bool {
        self.may_begin_anew(facts) && now.since(self.last) < ANSWER_UNDER_WAY
    }

    /// Whether the bytes of the side that began it are put together.
    fn is_followed(&self) -> bool {
        let inspection = self.inspection.as_ref();
        inspection.is_some_and(|inspection| inspection.follows(false))
    }

    /// Whether a segment is a SYN with another number than the one that began this flow, unanswered and followed.
    fn may_begin_anew(&self, facts: &Facts<'_>) -> bool {
        let is_followed = self.is_followed() || self.questions.is_some();
        let is_begin = |flags: TcpFlags| flags.syn() && !flags.ack();
        is_followed
            && self.syn.is_some()
            && !self.answered
            && facts.tcp_flags.is_some_and(is_begin)
            && facts.sequence != self.syn
    }

    /// Whether a packet that the kernel hands up is of another flow under the same ports. Packets that wait together may each be called
    /// the first; once one was not, none of the same flow is any more.
    fn is_another(&self, facts: &Facts<'_>, known: Known, is_turned: bool, now: Timestamp) -> bool {
        let is_kept = self.is_kept || now.since(self.last) > TOGETHER;
        if self.is_gone || is_turned || known.is_first && is_kept {
            return true;
        }
        let next = facts.sequence.map(|sequence| sequence.wrapping_add(1));
        let opens = facts.tcp_flags.is_some_and(|flags| flags.syn());
        match known.flow {
            // A SYN under a known 5-tuple is another connection, with other bytes. What else is new and does not follow on a SYN was
            // picked up under way, and not answered yet: more of the same bytes.
            Tracked::New if opens => self.answered || self.syn != facts.sequence,
            Tracked::New => known.is_first && self.by_syn,
            Tracked::Established => false,
            Tracked::Reply { .. } => known.is_first && opens && self.secret != next,
        }
    }

    /// Whether a SYN+ACK answers another SYN than the one that began the stream that is put together here: its sender may go on with
    /// that one.
    fn answers_another(&self, segment: connection::Segment) -> bool {
        let Some(begin) = (self.syn).filter(|_| self.is_followed() && self.secret.is_none()) else {
            return false;
        };
        // What the SYN carried may be acknowledged with it (RFC 7413).
        let within = segment
            .acknowledgement()
            .wrapping_sub(begin)
            .wrapping_sub(1);
        segment.is_syn_ack() && within > MOST_IN_SYN
    }

    /// Takes note of what proves that the side which began the connection has its address.
    fn note_proof(&mut self, segment: connection::Segment, reply: bool) {
        if !reply && let Some(opening) = segment.opening() {
            self.opening = Some(opening);
        }
        if reply && segment.is_syn_ack() {
            self.secret = Some(segment.sequence().wrapping_add(1));
        } else if !reply && segment.acknowledges() {
            self.is_proven |= self.secret == Some(segment.acknowledgement());
        }
    }

    /// Another connection begins, as the last SYN was answered that nobody had believed. `Err` where that SYN carried something,
    /// which was not put in its place.
    fn begin_anew(&mut self) -> Result<(), Invalid> {
        let Some((first_byte, end)) = self.opening else {
            return Ok(());
        };
        self.by_syn = true;
        let begin = first_byte.wrapping_sub(1);
        if self.syn.replace(begin) == Some(begin) {
            // The same SYN again.
            return Ok(());
        }
        self.is_proven = false;
        self.begins_at = Some(first_byte);
        if first_byte != end && self.is_followed() {
            return Err(Invalid::StreamAmbiguous);
        }
        Ok(())
    }

    /// What was seen of it goes against the way in which it began.
    fn turn_round(&mut self) {
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
        self.syn = None;
        self.opening = None;
    }

    fn timeout(&self) -> Duration {
        match (self.tcp_state(), self.tuple.protocol) {
            // Its end is never seen, and nothing is left to be known of it.
            (Some(_), _) if self.by_kernel && self.inspection.is_none() => SETTLED_TIMEOUT,
            (Some(state), _) => state.timeout(),
            (None, policy::protocol::ICMP | policy::protocol::ICMPV6) => Duration::from_secs(30),
            (None, policy::protocol::UDP | policy::protocol::UDPLITE) if !self.answered => {
                Duration::from_secs(30)
            }
            (None, policy::protocol::UDP | policy::protocol::UDPLITE) => Duration::from_secs(120),
            (None, wire::protocol::GRE) => Duration::from_secs(180),
            (None, _) => Duration::from_secs(600),
        }
    }

    fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.last) > self.timeout()
    }

    /// Whether it may make room when the table is full: nobody answered, or it is closed (the kernel's "not assured").
    fn may_be_evicted(&self) -> bool {
        !self.answered || self.is_closed()
    }

    fn tcp_state(&self) -> Option<TcpState> {
        self.tcp.map(|connection| connection.state())
    }

    fn is_closed(&self) -> bool {
        self.tcp_state().is_some_and(TcpState::is_over)
    }

    pub(crate) fn record(&self, ended: Option<FlowEnd>) -> FlowRecord {
        FlowRecord {
            start: self.start,
            end: self.last,
            packets_to_server: self.packets[0],
            packets_to_client: self.packets[1],
            bytes_to_server: self.bytes[0],
            bytes_to_client: self.bytes[1],
            tcp_state: self.tcp_state().map(TcpState::name),
            reason: self.reason,
            ended,
            name: None,
        }
    }
}

/// Where a flow lies in the table; valid until the next call that adds or removes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowSlot(u32);

/// A packet's place in the table; valid until the table changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    oriented: Option<Oriented>,
    hash: u64,
    /// Its flow, and whether the packet goes against the flow's first one.
    found: Option<(FlowSlot, bool)>,
    /// Whether the packet is an ICMP error, and the flow the one that it quotes.
    quoted: bool,
    segment: Option<connection::Segment>,
}

impl Located {
    /// Whether it answers the packet that began its flow; an ICMP error answers what it quotes.
    pub(crate) fn answers(&self) -> bool {
        self.found.is_some_and(|(_, reply)| reply != self.quoted)
    }
}

/// What the table says of a packet before the rules are asked: conntrack's `ct state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It would begin a flow, or its flow has not been answered yet.
    New { flow: Option<FlowSlot> },
    /// It belongs to a flow that was answered, or answers one.
    Established { flow: FlowSlot, reply: bool },
    /// An ICMP error about a flow.
    Related { flow: FlowSlot },
    /// Neither.
    Invalid(Invalid),
    /// Never tracked: neighbour discovery and multicast listener messages.
    Untracked,
}

/// All flows.
#[derive(Debug)]
pub(crate) struct FlowTable {
    places: HashTable<u32>,
    slab: Vec<Option<Flow>>,
    free: Vec<u32>,
    hasher: FixedState,
    ceiling: usize,
    /// Where the next look for expired flows begins.
    hand: usize,
    /// Where the next [`FlowTable::walk`] begins, and when the last was.
    walk: (usize, Option<Timestamp>),
    /// What the last packet told.
    news: Option<News>,
}

/// How long an answer is waited for before a flow counts as one that nobody answers: longer than the first two
/// retransmissions of a SYN (RFC 6298 §2: 1 s, doubled).
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a server that took a SYN tries to answer it, at least: with the SYN-ACK sent five times (RFC 6298: after 1, 3, 7 and
/// 15 s again). Whoever begins anew with another number waits so long, unless the first SYN was answered.
const ANSWER_UNDER_WAY: Duration = Duration::from_secs(20);
/// How long packets of one flow wait for user space together, at most: thousands wait no longer than milliseconds.
const TOGETHER: Duration = Duration::from_secs(2);
/// What a SYN can carry at most, in bytes: an IP packet.
const MOST_IN_SYN: u32 = 65_535;
/// How long a flow is kept that the kernel tracks and that needs no more inspection.
const SETTLED_TIMEOUT: Duration = Duration::from_secs(120);
/// In which every flow is looked at once when time passes: a full table at once would hold up packets for as long as that takes.
const ROUND: Duration = Duration::from_secs(1);
/// Slots looked at for expired flows at each packet.
const SWEEP: usize = 2;
/// Slots looked at for one that may go when the table is full (the kernel looks at 8 hash buckets).
const EVICTION_SWEEP: usize = 64;

impl FlowTable {
    pub(crate) fn new(ceiling: u32, seed: u64) -> Self {
        Self {
            places: HashTable::new(),
            slab: Vec::new(),
            free: Vec::new(),
            hasher: FixedState::with_seed(seed),
            ceiling: ceiling.max(1) as usize,
            hand: 0,
            walk: (0, None),
            news: None,
        }
    }

    /// What the last packet told of its flow; once.
    pub(crate) fn take_news(&mut self) -> Option<News> {
        self.news.take()
    }

    fn tell(&mut self, flow: FlowSlot, what: Turn) {
        if what == Turn::Refused
            && let Some(refused) = self.get_mut(flow)
        {
            // One failure, however often and in however many ways it is said.
            if std::mem::replace(&mut refused.failure_told, true) {
                return;
            }
        }
        self.news = Some(News { flow, what });
    }

    fn slot(&self, key: &FlowKey, hash: u64) -> Option<FlowSlot> {
        let found = self.places.find(hash, |&place| {
            self.slab[place as usize]
                .as_ref()
                .is_some_and(|flow| flow.hash == hash && flow.key == *key)
        });
        found.map(|&place| FlowSlot(place))
    }

    pub(crate) fn get(&self, slot: FlowSlot) -> Option<&Flow> {
        self.slab.get(slot.0 as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: FlowSlot) -> Option<&mut Flow> {
        self.slab.get_mut(slot.0 as usize)?.as_mut()
    }

    /// The live flow under a key, and whether the packet goes against the direction of its first one.
    fn find(
        &mut self,
        oriented: &Oriented,
        hash: u64,
        now: Timestamp,
        ended: &mut Ended,
    ) -> Option<(FlowSlot, bool)> {
        let slot = self.slot(&oriented.key, hash)?;
        let flow = self.get(slot)?;
        if flow.is_over(now) {
            self.remove(slot, FlowEnd::TimedOut, ended);
            return None;
        }
        Some((slot, oriented.from_low != flow.from_low))
    }

    /// Looks a packet's flow up, once for all that is asked of it; for ICMP errors the flow that they quote.
    pub(crate) fn locate(
        &mut self,
        packet: &Packet<'_>,
        now: Timestamp,
        ended: &mut Ended,
    ) -> Located {
        self.sweep(now, ended);
        let (oriented, quoted) = match packet.transport() {
            Transport::Icmp(icmp) if icmp.is_error() => {
                let quoted = icmp.embedded();
                let oriented = quoted.as_ref().and_then(Oriented::quoted);
                // The error must go to the sender of what it quotes (nf_conntrack_inet_error).
                let aimed = quoted.is_some_and(|quoted| quoted.source == packet.destination());
                (oriented.filter(|_| aimed), true)
            }
            _ => (Oriented::of(packet), false),
        };
        let segment = match packet.transport() {
            Transport::Tcp(segment) => {
                Some(connection::Segment::of(&segment, packet.payload_len()))
            }
            _ => None,
        };
        let hash = oriented.map_or(0, |oriented| self.hasher.hash_one(oriented.key));
        let found = oriented.and_then(|oriented| self.find(&oriented, hash, now, ended));
        Located {
            oriented,
            hash,
            found,
            quoted,
            segment,
        }
    }

    /// Which way a packet goes, told by its flow. An error goes against the packet that it quotes.
    pub(crate) fn direction_of(&self, located: &Located) -> Option<Direction> {
        let (slot, reply) = located.found?;
        let direction = self.get(slot)?.direction;
        Some(if reply != located.quoted {
            opposite(direction)
        } else {
            direction
        })
    }

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
        let mut is_ambiguous = false;
        if let Some(segment) = located.segment
            && let Some(flow) = self.get_mut(slot)
        {
            if !reply && flow.is_contradicted_by(facts, now) {
                return State::Invalid(Invalid::StreamAmbiguous);
            }
            if !reply && flow.may_begin_anew(facts) {
                self.remove(slot, FlowEnd::TimedOut, ended);
                return State::New { flow: None };
            }
            is_ambiguous = reply && flow.answers_another(segment);
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
                    if is_answer && let Err(invalid) = flow.begin_anew() {
                        return State::Invalid(invalid);
                    }
                    if !flow.answered && !reply && flow.syn.is_none() {
                        // It was picked up under way, and begins now.
                        flow.syn = segment.opening().map(|(begin, _)| begin.wrapping_sub(1));
                        flow.begins_at = segment.opening().map(|(begin, _)| begin);
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
        let Some(flow) = self.get_mut(slot) else {
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
        let Some(flow) = self.get_mut(slot) else {
            return State::New { flow: None };
        };
        if established {
            count(flow, facts, reply, now);
            State::Established { flow: slot, reply }
        } else {
            State::New { flow: Some(slot) }
        }
    }

    /// Enters the flow of a packet that was allowed, or counts the packet on the flow that it has.
    /// `Err` when the table is full of flows that may not go.
    pub(crate) fn enter(
        &mut self,
        facts: &Facts<'_>,
        located: &Located,
        flow: Option<FlowSlot>,
        reason: Reason,
        now: Timestamp,
        ended: &mut Ended,
    ) -> Result<Option<FlowSlot>, Invalid> {
        if let Some(slot) = flow {
            if let Some(flow) = self.get_mut(slot) {
                count(flow, facts, false, now);
            }
            return Ok(Some(slot));
        }
        let Some(oriented) = located.oriented else {
            return Ok(None);
        };
        if self.places.len() >= self.ceiling && !self.make_room(now, ended) {
            return Err(Invalid::FlowTableFull);
        }
        let hash = located.hash;
        // An odd multiplier spreads what the hash leaves alike; 53 bits stay exact in JSON readers.
        let id = (hash ^ now.as_nanos().wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 11;
        let mut flow = Flow {
            key: oriented.key,
            hash,
            tuple: facts.tuple(),
            direction: facts.direction,
            id,
            from_low: oriented.from_low,
            answered: false,
            handshake: false,
            tcp: located.segment.map(Connection::new),
            is_gone: false,
            start: now,
            last: now,
            packets: [0; 2],
            bytes: [0; 2],
            reason,
            inspection: None,
            questions: None,
            inspection_begun: false,
            is_kept: false,
            by_kernel: false,
            syn: (facts.sequence)
                .filter(|_| (facts.tcp_flags).is_some_and(|flags| flags.syn() && !flags.ack())),
            opening: (located.segment).and_then(|segment| segment.opening()),
            begins_at: None,
            secret: None,
            is_proven: false,
            by_syn: facts.tcp_flags.is_some_and(|flags| flags.syn()),
            icmp: facts.icmp,
            failure_told: false,
        };
        count(&mut flow, facts, false, now);
        let place = match self.free.pop() {
            Some(place) => {
                self.slab[place as usize] = Some(flow);
                place
            }
            None => {
                self.slab.push(Some(flow));
                (self.slab.len() - 1) as u32
            }
        };
        let slab = &self.slab;
        self.places.insert_unique(hash, place, |&place| {
            slab[place as usize].as_ref().map_or(0, |flow| flow.hash)
        });
        Ok(Some(FlowSlot(place)))
    }

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
            if flow.is_another(facts, known, reply != told.unwrap_or(reply), now) {
                self.remove(slot, FlowEnd::Closed, ended);
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
                        if reply && let Some(flow) = self.get_mut(slot) {
                            flow.turn_round();
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

    /// The kernel says that the connection is established.
    fn follow_kernel(
        &mut self,
        slot: FlowSlot,
        located: &Located,
        known: Known,
        reply: bool,
    ) -> Result<(), Invalid> {
        let is_opening = known.flow == Tracked::Reply { is_open: false };
        let Some(flow) = self.get_mut(slot) else {
            return Ok(());
        };
        flow.by_kernel = true;
        flow.answered = true;
        let (Some(segment), Some(connection)) = (located.segment, &mut flow.tcp) else {
            return Ok(());
        };
        let mut begins_anew = connection.follow_kernel(segment, reply);
        // Until the handshake is over, whichever SYN is answered is the one that counts.
        let is_answer = is_opening && segment.is_syn_ack();
        let asked = flow.opening.map(|(_, end)| end);
        begins_anew |= is_answer && asked == Some(segment.acknowledgement());
        flow.note_proof(segment, reply);
        if begins_anew && reply {
            return flow.begin_anew();
        }
        Ok(())
    }

    /// The SYN that would have begun this flow anew was refused: nothing has begun.
    pub(crate) fn stay(&mut self, slot: FlowSlot) {
        if let Some(flow) = self.get_mut(slot)
            && flow.begins_at.take().is_some()
        {
            flow.syn = None;
        }
    }

    fn is_gone(&self, slot: FlowSlot) -> bool {
        self.get(slot).is_some_and(|flow| flow.is_gone)
    }

    /// A packet was rejected: the reset that its sender gets ends the connection here too (`nf_ct_set_closing`). Nobody resets
    /// a reset.
    pub(crate) fn reset(&mut self, located: &Located) {
        let Some((segment, oriented)) = located.segment.zip(located.oriented) else {
            return;
        };
        if let Some(slot) = self.slot(&oriented.key, located.hash)
            && let Some(connection) = self.get_mut(slot).and_then(|flow| flow.tcp.as_mut())
            && !segment.is_reset()
        {
            connection.close();
        }
    }

    /// Takes a packet's flow out as if it had never been.
    pub(crate) fn take_back(&mut self, located: &Located) -> Option<Flow> {
        let slot = self.slot(&located.oriented?.key, located.hash)?;
        self.take(slot)
    }

    fn remove(&mut self, slot: FlowSlot, end: FlowEnd, ended: &mut Ended) {
        if let Some(flow) = self.take(slot) {
            ended.push((flow, end));
        }
    }

    fn take(&mut self, slot: FlowSlot) -> Option<Flow> {
        let flow = self.slab[slot.0 as usize].take()?;
        if let Ok(entry) = self.places.find_entry(flow.hash, |&place| place == slot.0) {
            entry.remove();
        }
        self.free.push(slot.0);
        Some(flow)
    }

    fn sweep(&mut self, now: Timestamp, ended: &mut Ended) {
        for _ in 0..SWEEP.min(self.slab.len()) {
            self.hand = (self.hand + 1) % self.slab.len();
            self.expire_at_hand(now, ended);
        }
    }

    fn expire_at_hand(&mut self, now: Timestamp, ended: &mut Ended) -> bool {
        let over = self.slab[self.hand].as_mut().is_some_and(|flow| {
            if clock::age(flow.last, now).is_none() {
                flow.last = now;
            }
            flow.is_over(now)
        });
        if over {
            let closed = self.slab[self.hand].as_ref().is_some_and(Flow::is_closed);
            let end = if closed {
                FlowEnd::Closed
            } else {
                FlowEnd::TimedOut
            };
            self.remove(FlowSlot(self.hand as u32), end, ended);
        }
        over
    }

    fn make_room(&mut self, now: Timestamp, ended: &mut Ended) -> bool {
        for _ in 0..EVICTION_SWEEP.min(self.slab.len()) {
            self.hand = (self.hand + 1) % self.slab.len();
            if self.expire_at_hand(now, ended) {
                return true;
            }
            if self.slab[self.hand]
                .as_ref()
                .is_some_and(Flow::may_be_evicted)
            {
                self.remove(FlowSlot(self.hand as u32), FlowEnd::Evicted, ended);
                return true;
            }
        }
        false
    }

    /// Looks at every flow once in [`ROUND`], however often it is called: those that are over end, and those that nobody answers
    /// are put into `silent`, each once, and end by [`FlowTable::expire`] when they have been told.
    pub(crate) fn walk(&mut self, now: Timestamp, silent: &mut Vec<FlowSlot>, ended: &mut Ended) {
        let (begin, last) = self.walk;
        let passed = last.and_then(|last| clock::age(last, now)).unwrap_or(ROUND);
        let slots = self.slab.len() as u128 * passed.min(ROUND).as_nanos() / ROUND.as_nanos();
        if slots == 0 {
            return;
        }
        for step in 0..slots as usize {
            self.hand = (begin + step) % self.slab.len();
            let flow = self.slab[self.hand].as_mut();
            if let Some(flow) = flow.filter(|flow| flow.is_silent(now)) {
                flow.failure_told = true;
                silent.push(FlowSlot(self.hand as u32));
            } else {
                self.expire_at_hand(now, ended);
            }
        }
        self.walk = ((begin + slots as usize) % self.slab.len(), Some(now));
    }

    /// Every flow that nobody answers and that was not told, put into `silent`.
    pub(crate) fn silent(&mut self, now: Timestamp, silent: &mut Vec<FlowSlot>) {
        for (place, flow) in self.slab.iter_mut().enumerate() {
            if let Some(flow) = flow.as_mut().filter(|flow| flow.is_silent(now)) {
                flow.failure_told = true;
                silent.push(FlowSlot(place as u32));
            }
        }
    }

    /// Ends this flow if it is over at `now`.
    pub(crate) fn expire(&mut self, flow: FlowSlot, now: Timestamp, ended: &mut Ended) {
        self.hand = flow.0 as usize;
        self.expire_at_hand(now, ended);
    }

    /// Ends every flow, in the order of their slots.
    pub(crate) fn finish(&mut self, ended: &mut Ended) {
        for place in 0..self.slab.len() {
            let closed = self.slab[place].as_ref().is_some_and(Flow::is_closed);
            let end = if closed {
                FlowEnd::Closed
            } else {
                FlowEnd::Shutdown
            };
            self.remove(FlowSlot(place as u32), end, ended);
        }
    }

    /// Moves the begin and the last packet of every flow.
    pub(crate) fn shift(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        for (_, flow) in self.iter_mut() {
            (flow.start, flow.last) = (moved(flow.start), moved(flow.last));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.slab.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (FlowSlot, &mut Flow)> {
        (0..)
            .map(FlowSlot)
            .zip(&mut self.slab)
            .filter_map(|(slot, flow)| Some((slot, flow.as_mut()?)))
    }
}

/// Flows that ended, for the record.
pub(crate) type Ended = Vec<(Flow, FlowEnd)>;

/// The way of the answers to what goes this way.
pub(crate) const fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::In => Direction::Out,
        Direction::Out => Direction::In,
        Direction::Forward => Direction::Forward,
    }
}

fn count(flow: &mut Flow, facts: &Facts<'_>, reply: bool, now: Timestamp) {
    flow.last = clock::latest(flow.last, now);
    flow.packets[usize::from(reply)] += 1;
    flow.bytes[usize::from(reply)] += u64::from(facts.len);
}

/// Whether a packet without a flow can begin one.
fn begins(packet: &Packet<'_>, located: &Located) -> Result<(), Invalid> {
    match packet.transport() {
        Transport::Tcp(segment) => match tcp::step(TcpState::None, segment.flags(), false) {
            Step::To(_) => Ok(()),
            Step::Ignore | Step::Invalid => Err(Invalid::TcpNoConnection),
        },
        Transport::Icmp(_) | Transport::Other
            if located.oriented.is_some_and(|oriented| oriented.is_answer) =>
        {
            Err(Invalid::IcmpNoFlow)
        }
        Transport::Sctp(sctp) => {
            // DATA, SACK and what carries no state begin nothing (nf_conntrack_proto_sctp.c `sctp_new`).
            let begins = sctp
                .chunks()
                .any(|chunk| matches!(chunk.kind, 1 | 2 | 4..=11 | 14));
            if begins {
                Ok(())
            } else {
                Err(Invalid::SctpNoAssociation)
            }
        }
        Transport::Gre(gre) if gre.version() > 1 => Err(Invalid::Gre),
        Transport::Gre(gre) if gre.version() == 1 && gre.protocol_type() != 0x880b => {
            Err(Invalid::Gre)
        }
        Transport::Icmp(_)
        | Transport::Udp(_)
        | Transport::Gre(_)
        | Transport::Fragment
        | Transport::Other => Ok(()),
    }
}
