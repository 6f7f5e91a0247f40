//! The flow table: both directions of each 5-tuple, with TCP state and counters, in bounded memory.
//!
//! It follows conntrack: a flow is entered when its first packet is allowed, packets of the side that began it are "new" until
//! the other side has answered, and a packet that has no place in its flow's state is invalid.

mod aging;
mod begin;
mod by_kernel;
mod connection;
mod denied;
mod departed;
mod due;
mod key;
mod observed;
mod opening;
mod tcp;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use policy::{Direction, RuleId, Timestamp};
use std::hash::BuildHasher;
use wire::{FiveTuple, Packet, Transport};

use crate::bounded::Place;
use crate::clock;
use crate::event::{FlowEnd, FlowRecord};
use crate::facts::Facts;
use crate::verdict::{Invalid, Reason};
use connection::Connection;
pub(crate) use denied::DeniedFlows;
use departed::DepartedFlows;
use due::Due;
pub(crate) use key::{FlowKey, Oriented};
use tcp::TcpState;

/// Flows that are found without a look into the table.
const RECENT: usize = 4_096;

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
    /// The same, until questions to a name server are read from there.
    pub(crate) asks_from: Option<u32>,
    /// The kernel was not told yet that another connection has begun: the first packet that passes tells it.
    pub(crate) is_anew_untold: bool,
    /// TCP only: what acknowledges the SYN-ACK, which only its receiver knows.
    secret: Option<u32>,
    /// TCP only: the side that began it has acknowledged exactly the SYN-ACK, and so has its address.
    pub(crate) is_proven: bool,
    /// ICMP only: type and code of its first packet.
    pub(crate) icmp: Option<(u8, u8)>,
    /// TCP only: each side has said that it has sent all, behind all that it has sent in order.
    left: [bool; 2],
    /// Whether it was told that it was refused, or that nobody answers.
    failure_told: bool,
    /// Where the packets of the side that began it are metered, and those of the other.
    pub(crate) metered_at: [Place; 2],
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

    fn tcp_state(&self) -> Option<TcpState> {
        self.tcp.as_ref().map(Connection::state)
    }

    /// Whether it came to something: for TCP a completed handshake, else an answer.
    pub(crate) fn was_served(&self) -> bool {
        self.answered && (self.tcp.is_none() || self.handshake)
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
    /// It begins anew, with another number, what nobody has answered yet and what is put together ([`Invalid::StreamAmbiguous`]): the
    /// kernel's rules count it and user space refuses it.
    BegunOtherwise,
    /// The kernel has lost its flow, and heard the side first that had not begun it: that begins what the kernel tracks now, and what is
    /// known of the flow here stays as it was.
    PickedUp { flow: FlowSlot },
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
    /// Where flows were found of late, by the last bits of their hash: most packets are of few flows, and what is found here need not be
    /// looked up in a table that is too large for a cache.
    recent: Box<[u32; RECENT]>,
    slab: Vec<Option<Flow>>,
    due: Due,
    free: Vec<u32>,
    hasher: FixedState,
    ceiling: usize,
    departed: DepartedFlows,
    /// Where the next look for expired flows begins.
    hand: usize,
    /// Where the next [`FlowTable::walk`] begins, and when the last was.
    walk: (usize, Option<Timestamp>),
    /// Before which slot [`FlowTable::finish`] has ended what was there.
    finished: usize,
    /// What the last packet told.
    news: Option<News>,
}

impl FlowTable {
    pub(crate) fn new(ceiling: u32, seed: u64) -> Self {
        Self {
            places: HashTable::new(),
            recent: Box::new([0; RECENT]),
            slab: Vec::new(),
            due: Due::default(),
            free: Vec::new(),
            hasher: FixedState::with_seed(seed),
            ceiling: ceiling.max(1) as usize,
            departed: DepartedFlows::new(ceiling, seed),
            hand: 0,
            walk: (0, None),
            finished: 0,
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
        let found = (self.places).find(hash, |&place| self.lies_at(place, key, hash));
        found.map(|&place| FlowSlot(place))
    }

    /// As [`FlowTable::slot`], for one that may be looked for again soon.
    #[inline]
    fn recent_slot(&mut self, key: &FlowKey, hash: u64) -> Option<FlowSlot> {
        let recent = hash as usize % RECENT;
        let place = self.recent[recent];
        if self.lies_at(place, key, hash) {
            return Some(FlowSlot(place));
        }
        let found = self.slot(key, hash)?;
        self.recent[recent] = found.0;
        Some(found)
    }

    #[inline]
    fn lies_at(&self, place: u32, key: &FlowKey, hash: u64) -> bool {
        self.get(FlowSlot(place))
            .is_some_and(|flow| flow.hash == hash && flow.key == *key)
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
        let slot = self.recent_slot(&oriented.key, hash)?;
        let flow = self.get(slot)?;
        if flow.is_over(now) {
            self.remove(slot, FlowEnd::TimedOut, ended);
            return None;
        }
        Some((slot, oriented.from_low != flow.from_low))
    }

    /// Looks a packet's flow up, once for all that is asked of it; for ICMP errors the flow that they quote.
    #[inline]
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
                if facts.tcp_flags.is_some_and(|flags| flags.syn()) {
                    // Where it was picked up under way, this may begin a connection that another rule lets in.
                    flow.reason = reason;
                }
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
        let named = self.hasher.hash_one(oriented.key.parts());
        let id = (named ^ now.as_nanos().wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 11;
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
            syn: facts.sequence.filter(|_| facts.begins()),
            opening: (located.segment).and_then(|segment| segment.opening()),
            begins_at: None,
            asks_from: None,
            is_anew_untold: false,
            secret: None,
            is_proven: false,
            by_syn: facts.tcp_flags.is_some_and(|flags| flags.syn()),
            icmp: facts.icmp,
            left: [false; 2],
            failure_told: false,
            metered_at: Default::default(),
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
        self.due.put(place as usize, now);
        let slab = &self.slab;
        self.places.insert_unique(hash, place, |&place| {
            slab[place as usize].as_ref().map_or(0, |flow| flow.hash)
        });
        Ok(Some(FlowSlot(place)))
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
            if end == FlowEnd::TimedOut {
                self.departed.note(&flow, flow.left());
            }
            ended.push((flow, end));
        }
    }

    fn take(&mut self, slot: FlowSlot) -> Option<Flow> {
        let flow = self.slab[slot.0 as usize].take()?;
        if let Ok(entry) = self.places.find_entry(flow.hash, |&place| place == slot.0) {
            entry.remove();
        }
        self.free.push(slot.0);
        self.due.clear(slot.0 as usize);
        Some(flow)
    }

    /// Moves the begin and the last packet of every flow.
    pub(crate) fn shift(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        for (_, flow) in self.iter_mut() {
            (flow.start, flow.last) = (moved(flow.start), moved(flow.last));
        }
        self.departed.shift(moved);
        self.due.forget();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Each packet comes by its flow, and a table of them is larger than a cache.
    #[test]
    fn a_flow_takes_few_lines_of_the_cache() {
        assert!(size_of::<Option<Flow>>() <= 288);
    }
}
