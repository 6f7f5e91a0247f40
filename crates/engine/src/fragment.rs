//! Reassembly of IP fragments, as netfilter does it before any rule sees a packet (net/ipv4/ip_fragment.c,
//! net/ipv6/netfilter/nf_conntrack_reasm.c), bounded in memory and time.
//!
//! Overlapping fragments discard their datagram (RFC 5722; for IPv4 since CVE-2018-5391); what repeats bytes that are there is
//! ignored. What is put together is a whole IP packet again, parsed as such. An atomic fragment (RFC 6946) is one as any: whole at once,
//! unless others of its identification came before.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use policy::Timestamp;
use wire::{FiveTuple, Fragment, Packet};

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
    runs: Runs,
    /// Everything before the payload, from the first fragment.
    head: Option<Head>,
    /// Length of the whole payload, once the last fragment came; until then the furthest end seen.
    end: u32,
    last_seen: bool,
    received: u32,
    /// Which ECN codepoints were seen, a bit for each.
    ecn: u8,
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
    /// It was refused, alone or with those held of its datagram.
    Refused {
        /// Why.
        fault: FragmentFault,
        /// Fragments that fall, itself included.
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

/// What one held fragment costs beside its bytes, and what a datagram costs beside its fragments.
const OVERHEAD: usize = 128;
/// Where a fragment of IPv6 ends at most (`IPV6_MAXPLEN`). In IPv4 the length of the whole datagram decides, once it is whole.
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
        let position = Position::of(packet, fragment);
        if packet.is_ipv6() && position.end > LONGEST {
            return Outcome::Refused {
                fault: FragmentFault::Length,
                fragments: 1,
            };
        }
        // What the capture cut off is zeros: headers are whole nearly always, and those decide.
        let mut payload = packet.fragment_payload().to_vec();
        payload.resize((position.end - position.first) as usize, 0);
        let is_begun = self.partials.contains_key(&key);
        let cost = payload.len() + OVERHEAD;
        let room = cost + if is_begun { 0 } else { OVERHEAD };
        if !self.make_room(room, &key, given_up) {
            return self.refuse(&key, FragmentFault::Memory, 1);
        }
        if !is_begun {
            self.begin(key, packet, now);
        }
        let Some(partial) = self.partials.get_mut(&key) else {
            return self.refuse(&key, FragmentFault::Memory, 1);
        };
        match partial.place(&position) {
            Place::Free => partial.fragments += 1,
            Place::Repeated => {
                partial.fragments += 1;
                return Outcome::Held;
            }
            Place::Refused(fault) => {
                return Outcome::Refused {
                    fault,
                    fragments: 1,
                };
            }
            Place::Discarded(fault) => return self.refuse(&key, fault, 1),
        }
        if position.first == 0 {
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
        partial.ecn |= 1 << ecn(packet);
        partial.received += payload.len() as u32;
        partial.memory += cost;
        self.memory += cost;
        partial.pieces.insert(position.first, payload);
        if !partial.is_whole() {
            return Outcome::Held;
        }
        let Some(partial) = self.forget(&key) else {
            return Outcome::Held;
        };
        let fragments = partial.fragments;
        match partial.join(packet.is_ipv6()) {
            Ok(bytes) => Outcome::Whole { bytes, fragments },
            Err(fault) => Outcome::Refused { fault, fragments },
        }
    }

    /// Begins a datagram.
    fn begin(&mut self, key: Key, packet: &Packet<'_>, now: Timestamp) {
        // Datagrams that were completed leave their entries behind; so many at most.
        if self.order.len() > 2 * self.partials.len() + 1_024 {
            let partials = &self.partials;
            self.order.retain(|(key, serial, _)| {
                partials
                    .get(key)
                    .is_some_and(|partial| partial.serial == *serial)
            });
        }
        self.serial += 1;
        self.order.push_back((key, self.serial, now));
        self.memory += OVERHEAD;
        let partial = Partial {
            serial: self.serial,
            tuple: packet.five_tuple(),
            pieces: BTreeMap::new(),
            runs: Runs::default(),
            head: None,
            end: 0,
            last_seen: false,
            received: 0,
            ecn: 0,
            fragments: 0,
            memory: OVERHEAD,
        };
        self.partials.insert(key, partial);
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
        // Of one without fragments, all that came were refused and told already.
        if let Some(partial) = self.forget(key)
            && partial.fragments > 0
        {
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

/// Where a fragment belongs.
struct Position {
    first: u32,
    /// Behind its last byte.
    end: u32,
    more: bool,
    is_ipv6: bool,
}

impl Position {
    fn of(packet: &Packet<'_>, fragment: Fragment) -> Self {
        let first = u32::from(fragment.offset);
        let end = first + packet.fragment_payload_len() as u32;
        let is_ipv6 = packet.is_ipv6();
        // In IPv4 the last bytes of a fragment that is not the last and no multiple of 8 are cut off; in IPv6 it is refused.
        let end = if fragment.more && !is_ipv6 {
            end & !7
        } else {
            end
        };
        Self {
            first,
            end,
            more: fragment.more,
            is_ipv6,
        }
    }
}

/// What becomes of a fragment.
enum Place {
    Free,
    Repeated,
    /// It falls, and those held stay.
    Refused(FragmentFault),
    /// The datagram falls, and it too.
    Discarded(FragmentFault),
}

/// What was received, as the kernel remembers it (`inet_frag_queue_insert`): what came in order at the end is one run, what filled a
/// gap stays one of its own. A fragment within one run repeats; one that reaches over its border overlaps.
#[derive(Debug, Default)]
struct Runs {
    /// Ends by begins; disjoint.
    ends: BTreeMap<u32, u32>,
}

impl Runs {
    fn insert(&mut self, first: u32, end: u32) -> Place {
        if let Some(mut last) = self.ends.last_entry()
            && *last.get() == first
        {
            last.insert(end);
            return Place::Free;
        }
        // Of the runs that begin before `end`, the last reaches furthest.
        match self.ends.range(..end).next_back() {
            Some((&begin, &its_end)) if its_end > first => {
                if begin <= first && end <= its_end {
                    Place::Repeated
                } else {
                    Place::Discarded(FragmentFault::Overlap)
                }
            }
            _ => {
                self.ends.insert(first, end);
                Place::Free
            }
        }
    }
}

/// The ECN field (RFC 3168 section 5) of a packet.
fn ecn(packet: &Packet<'_>) -> u8 {
    let class = packet.ip_bytes().get(1).copied().unwrap_or_default();
    if packet.is_ipv6() {
        class >> 4 & 3
    } else {
        class & 3
    }
}

impl Partial {
    /// Finds its place, in the order of `ip_frag_queue` and `nf_ct_frag6_queue`: of IPv4, whatever is wrong discards the datagram; of
    /// IPv6, only an overlap and a length that is no multiple of 8.
    fn place(&mut self, position: &Position) -> Place {
        let &Position {
            first,
            end,
            more,
            is_ipv6,
        } = position;
        let refused = |fault| {
            if is_ipv6 {
                Place::Refused(fault)
            } else {
                Place::Discarded(fault)
            }
        };
        if !more {
            if end < self.end || self.last_seen && end != self.end {
                return refused(FragmentFault::Length);
            }
            self.last_seen = true;
            self.end = end;
        } else {
            if !end.is_multiple_of(8) {
                return Place::Discarded(FragmentFault::Length);
            }
            if end > self.end {
                if self.last_seen {
                    return refused(FragmentFault::Length);
                }
                self.end = end;
            }
        }
        if first == end {
            return refused(FragmentFault::Empty);
        }
        self.runs.insert(first, end)
    }

    fn is_whole(&self) -> bool {
        self.last_seen && self.head.is_some() && self.received == self.end
    }

    /// The whole packet: head, payload, and lengths, flags and checksum to fit.
    fn join(self, ipv6: bool) -> Result<Vec<u8>, FragmentFault> {
        // Not one that may be marked, or nothing else (`ip_frag_ecn_table`).
        if self.ecn & 1 != 0 && self.ecn != 1 {
            return Err(FragmentFault::Ecn);
        }
        self.bytes(ipv6).ok_or(FragmentFault::Length)
    }

    fn bytes(self, ipv6: bool) -> Option<Vec<u8>> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "constants")]
    use super::*;

    /// An atomic fragment of eight bytes of no protocol in particular.
    fn atomic(id: u32) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 16, 44, 64];
        bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        bytes.extend([253, 0, 0, 0]);
        bytes.extend(id.to_be_bytes());
        bytes.extend([0; 8]);
        bytes
    }

    #[test]
    fn what_was_completed_behind_an_old_one_is_not_remembered() {
        let mut reassembler = Reassembler::new(1 << 20, 1);
        let mut add = |bytes: &[u8]| {
            let Ok(wire::Frame::Ip(packet)) = wire::parse(wire::Link::RawIp, bytes, bytes.len())
            else {
                panic!("no packet");
            };
            let outcome = reassembler.add(&packet, Timestamp::from_secs(1), &mut Vec::new());
            assert!(
                reassembler.order.len() < 1_100,
                "{}",
                reassembler.order.len()
            );
            assert!(reassembler.memory <= 2 * OVERHEAD + 8);
            outcome
        };
        let mut begun = atomic(0);
        begun[43] = 1;
        assert_eq!(add(&begun), Outcome::Held);
        for id in 1..10_000 {
            assert!(matches!(
                add(&atomic(id)),
                Outcome::Whole { fragments: 1, .. }
            ));
        }
    }
}
