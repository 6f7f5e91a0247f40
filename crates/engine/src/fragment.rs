//! Reassembly of IP fragments, as netfilter does it before any rule sees a packet (net/ipv4/ip_fragment.c,
//! net/ipv6/netfilter/nf_conntrack_reasm.c), bounded in memory and time.
//!
//! Overlapping fragments discard their datagram (RFC 5722; for IPv4 since CVE-2018-5391); an exact repetition is ignored.
//! What is put together is a whole IP packet again, parsed as such.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use policy::Timestamp;
use wire::{FiveTuple, Packet};

use crate::clock;
use crate::verdict::FragmentFault;

/// What a datagram's fragments have in common (RFC 791 §3.2, RFC 8200 §4.5; for IPv6 the protocol is not part of it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: std::net::IpAddr,
    destination: std::net::IpAddr,
    id: u32,
    protocol: Option<u8>,
}

/// A datagram of which not all fragments have come.
#[derive(Debug)]
struct Partial {
    /// Distinguishes a later datagram under the same key.
    serial: u64,
    tuple: FiveTuple,
    /// Payload by offset; disjoint.
    pieces: BTreeMap<u32, Vec<u8>>,
    /// Everything before the payload, from the first fragment.
    head: Option<Head>,
    /// Length of the whole payload, once the last fragment came; until then the furthest end seen.
    end: u32,
    last_seen: bool,
    received: u32,
    /// Fragments that came, for the totals.
    fragments: u64,
    /// Bytes held.
    memory: usize,
}

#[derive(Debug)]
struct Head {
    bytes: Vec<u8>,
    /// Where the number of the next header is to be written.
    pointer: usize,
    next_header: u8,
}

/// What a fragment did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is held.
    Held,
    /// It was the last one missing: the whole packet, and of how many fragments it is made.
    Whole {
        /// The IP packet.
        bytes: Vec<u8>,
        /// Fragments, this one included.
        fragments: u64,
    },
    /// It was refused, and with it those held of its datagram.
    Refused {
        /// Why.
        fault: FragmentFault,
        /// Fragments that fall with it, itself included.
        fragments: u64,
    },
}

/// A datagram that was given up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GivenUp {
    pub(crate) tuple: FiveTuple,
    pub(crate) fault: FragmentFault,
    pub(crate) fragments: u64,
}

/// All incomplete datagrams.
#[derive(Debug)]
pub(crate) struct Reassembler {
    partials: HashMap<Key, Partial, FixedState>,
    /// Oldest first; entries whose serial is not that of the partial are stale.
    order: VecDeque<(Key, u64, Timestamp)>,
    serial: u64,
    memory: usize,
    ceiling: usize,
}

/// What one held fragment costs beside its bytes.
const OVERHEAD: usize = 128;
/// Longest payload of a datagram (the IPv4 total length and the IPv6 payload length have 16 bits).
const LONGEST: u32 = 65_535;

impl Reassembler {
    pub(crate) fn new(ceiling: u32, seed: u64) -> Self {
        Self {
            partials: HashMap::with_hasher(FixedState::with_seed(seed)),
            order: VecDeque::new(),
            serial: 0,
            memory: 0,
            ceiling: ceiling as usize,
        }
    }

    /// Takes a fragment in. What is given up to make room, or was too old, goes to `given_up`.
    pub(crate) fn add(
        &mut self,
        packet: &Packet<'_>,
        now: Timestamp,
        given_up: &mut Vec<GivenUp>,
    ) -> Outcome {
        self.expire(now, given_up);
        let Some(fragment) = packet.fragment() else {
            return Outcome::Refused {
                fault: FragmentFault::Length,
                fragments: 1,
            };
        };
        let key = Key {
            source: packet.source(),
            destination: packet.destination(),
            id: fragment.id,
            protocol: (!packet.is_ipv6()).then(|| packet.protocol()),
        };
        // What the capture cut off is zeros: headers are whole nearly always, and those decide.
        let mut payload = packet.fragment_payload().to_vec();
        payload.resize(packet.fragment_payload_len(), 0);
        let first = u32::from(fragment.offset);
        if fragment.more && !payload.len().is_multiple_of(8) {
            if packet.is_ipv6() {
                return self.refuse(&key, FragmentFault::Length, 1);
            }
            payload.truncate(payload.len() & !7);
        }
        let end = first + payload.len() as u32;
        let fixed = packet.unfragmentable_len() as u32;
        let too_long = if packet.is_ipv6() {
            end + fixed > LONGEST + 40
        } else {
            end + fixed > LONGEST
        };
        if too_long || payload.is_empty() {
            return self.refuse(&key, FragmentFault::Length, 1);
        }
        let cost = payload.len() + OVERHEAD;
        if !self.make_room(cost, &key, given_up) {
            return self.refuse(&key, FragmentFault::Memory, 1);
        }
        if !self.partials.contains_key(&key) {
            self.serial += 1;
            self.order.push_back((key, self.serial, now));
        }
        let serial = self.serial;
        let partial = self.partials.entry(key).or_insert_with(|| Partial {
            serial,
            tuple: packet.five_tuple(),
            pieces: BTreeMap::new(),
            head: None,
            end: 0,
            last_seen: false,
            received: 0,
            fragments: 0,
            memory: 0,
        });
        partial.fragments += 1;
        match partial.place(first, end) {
            Place::Repeated => return Outcome::Held,
            Place::Fault(fault) => return self.refuse(&key, fault, 0),
            Place::Free => {}
        }
        if fragment.more {
            partial.end = partial.end.max(end);
        } else {
            partial.end = end;
            partial.last_seen = true;
        }
        if first == 0 {
            let (Some(bytes), Some(pointer)) = (
                packet.ip_bytes().get(..packet.unfragmentable_len()),
                packet.fragment_pointer(),
            ) else {
                return self.refuse(&key, FragmentFault::Length, 0);
            };
            partial.head = Some(Head {
                bytes: bytes.to_vec(),
                pointer,
                next_header: packet.fragment_next_header(),
            });
        }
        partial.received += payload.len() as u32;
        partial.memory += cost;
        self.memory += cost;
        partial.pieces.insert(first, payload);
        if !partial.is_whole() {
            return Outcome::Held;
        }
        let Some(partial) = self.forget(&key) else {
            return Outcome::Held;
        };
        let fragments = partial.fragments;
        match partial.join(packet.is_ipv6()) {
            Some(bytes) => Outcome::Whole { bytes, fragments },
            None => Outcome::Refused {
                fault: FragmentFault::Length,
                fragments,
            },
        }
    }

    /// Gives up what was not completed in time.
    pub(crate) fn expire(&mut self, now: Timestamp, given_up: &mut Vec<GivenUp>) {
        while let Some(&(key, serial, began)) = self.order.front() {
            let patience = Duration::from_secs(if key.source.is_ipv6() { 60 } else { 30 });
            let live = self
                .partials
                .get(&key)
                .is_some_and(|partial| partial.serial == serial);
            if live && clock::age(began, now).is_some_and(|age| age <= patience) {
                break;
            }
            self.order.pop_front();
            if live {
                self.give_up(&key, FragmentFault::Incomplete, given_up);
            }
        }
    }

    /// Gives up everything.
    pub(crate) fn finish(&mut self, given_up: &mut Vec<GivenUp>) {
        while let Some((key, serial, _)) = self.order.pop_front() {
            if self
                .partials
                .get(&key)
                .is_some_and(|partial| partial.serial == serial)
            {
                self.give_up(&key, FragmentFault::Incomplete, given_up);
            }
        }
    }

    fn make_room(&mut self, cost: usize, spare: &Key, given_up: &mut Vec<GivenUp>) -> bool {
        while self.memory + cost > self.ceiling {
            let Some((key, serial, _)) = self.order.pop_front() else {
                return false;
            };
            if self
                .partials
                .get(&key)
                .is_none_or(|partial| partial.serial != serial)
            {
                continue;
            }
            if key == *spare {
                // The datagram itself is the oldest: it goes, and the fragment with it.
                self.order.push_front((key, serial, Timestamp::default()));
                return false;
            }
            self.give_up(&key, FragmentFault::Memory, given_up);
        }
        true
    }

    fn give_up(&mut self, key: &Key, fault: FragmentFault, given_up: &mut Vec<GivenUp>) {
        if let Some(partial) = self.forget(key) {
            given_up.push(GivenUp {
                tuple: partial.tuple,
                fault,
                fragments: partial.fragments,
            });
        }
    }

    /// Discards the datagram, and with it `more` fragments that were not counted on it yet.
    fn refuse(&mut self, key: &Key, fault: FragmentFault, more: u64) -> Outcome {
        let fragments = self.forget(key).map_or(0, |partial| partial.fragments) + more;
        Outcome::Refused { fault, fragments }
    }

    fn forget(&mut self, key: &Key) -> Option<Partial> {
        let partial = self.partials.remove(key)?;
        self.memory -= partial.memory;
        Some(partial)
    }
}

enum Place {
    Free,
    Repeated,
    Fault(FragmentFault),
}

impl Partial {
    /// Whether `first..end` may be filled.
    fn place(&self, first: u32, end: u32) -> Place {
        let before = self
            .pieces
            .range(..=first)
            .next_back()
            .map(|(&at, piece)| (at, at + piece.len() as u32));
        let after = self.pieces.range(first..).next().map(|(&at, _)| at);
        if let Some((_, before_end)) = before
            && before_end > first
        {
            return if before_end >= end {
                Place::Repeated
            } else {
                Place::Fault(FragmentFault::Overlap)
            };
        }
        if after.is_some_and(|after| after < end) {
            return Place::Fault(FragmentFault::Overlap);
        }
        if self.last_seen && end > self.end {
            return Place::Fault(FragmentFault::Length);
        }
        Place::Free
    }

    fn is_whole(&self) -> bool {
        self.last_seen && self.head.is_some() && self.received == self.end
    }

    /// The whole packet: head, payload, and lengths, flags and checksum to fit.
    fn join(self, ipv6: bool) -> Option<Vec<u8>> {
        let Head {
            mut bytes,
            pointer,
            next_header,
        } = self.head?;
        let fixed = bytes.len();
        bytes.reserve(self.end as usize);
        for piece in self.pieces.into_values() {
            bytes.extend_from_slice(&piece);
        }
        *bytes.get_mut(pointer)? = next_header;
        if ipv6 {
            let length = u16::try_from(bytes.len() - 40).ok()?;
            bytes.get_mut(4..6)?.copy_from_slice(&length.to_be_bytes());
        } else {
            let length = u16::try_from(bytes.len()).ok()?;
            bytes.get_mut(2..4)?.copy_from_slice(&length.to_be_bytes());
            bytes.get_mut(6..8)?.copy_from_slice(&[0, 0]);
            bytes.get_mut(10..12)?.copy_from_slice(&[0, 0]);
            let sum = header_checksum(bytes.get(..fixed)?);
            bytes.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
        }
        Some(bytes)
    }
}

/// RFC 791 §3.1, over a header whose checksum field is zero.
fn header_checksum(header: &[u8]) -> u16 {
    let mut sum = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
