//! What all streams under inspection hold together, who holds it, and who has to give it back when it is too much.
//!
//! Whoever holds most gives back first: so nobody makes room for a pattern by filling the memory, and nobody's stream is left
//! unseen for what others hold.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;
use policy::key_address;

use crate::flow::FlowSlot;

/// The share of the memory for streams that one source may hold, and what it may hold in any case.
const SHARE: usize = 8;
const SHARE_FLOOR: usize = 64 * 1024;

/// Names what a flow holds, for as long as the flow lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(u64);

/// What one flow holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    pub(crate) flow: FlowSlot,
    /// Who began it, as sources are counted.
    pub(crate) source: u128,
    /// A handshake showed that the source has its address.
    pub(crate) is_proven: bool,
    pub(crate) bytes: usize,
    /// Some of it waits for bytes before it.
    pub(crate) waits: bool,
}

impl Holding {
    /// Who answers for it: one network for an IPv4 address or an IPv6 `/48` (a site's, RFC 6177), and one for all that may be
    /// forged.
    fn network(&self) -> Option<u128> {
        const SITE: u128 = !(u128::MAX >> 48);
        self.is_proven.then(|| {
            if key_address(self.source).is_ipv4() {
                self.source
            } else {
                self.source & SITE
            }
        })
    }

    fn place(&self, ticket: Ticket) -> (bool, u32, Ticket) {
        (self.waits, class(self.bytes), ticket)
    }
}

/// Holdings of one size, up to twice as much: whose order changes seldom.
const fn class(bytes: usize) -> u32 {
    usize::BITS - bytes.leading_zeros()
}

/// Bytes held.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    total: usize,
    tickets: u64,
    holdings: hashbrown::HashMap<Ticket, Holding, FixedState>,
    /// Of each source that has any.
    by_source: HashMap<u128, usize>,
    by_network: HashMap<Option<u128>, Network>,
    /// The networks, by the class of what they hold.
    networks: BTreeSet<(u32, Option<u128>)>,
}

/// What the flows of one network hold.
#[derive(Debug, Default)]
struct Network {
    bytes: usize,
    /// Those with bytes that wait last, and of these the largest.
    flows: BTreeSet<(bool, u32, Ticket)>,
}

impl Memory {
    /// A ticket for a new flow.
    pub(crate) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// A flow holds so much now.
    pub(crate) fn hold(&mut self, ticket: Ticket, now: Holding) {
        let before = self.holdings.get(&ticket);
        let same = before.is_some_and(|before| {
            (before.bytes, before.waits, before.is_proven) == (now.bytes, now.waits, now.is_proven)
        });
        if same {
            return;
        }
        self.release(ticket);
        if now.bytes == 0 {
            return;
        }
        self.total += now.bytes;
        *self.by_source.entry(now.source).or_default() += now.bytes;
        let name = now.network();
        let network = self.by_network.entry(name).or_default();
        self.networks.remove(&(class(network.bytes), name));
        network.bytes += now.bytes;
        network.flows.insert(now.place(ticket));
        self.networks.insert((class(network.bytes), name));
        self.holdings.insert(ticket, now);
    }

    /// A flow holds nothing any more.
    pub(crate) fn release(&mut self, ticket: Ticket) {
        let Some(before) = self.holdings.remove(&ticket) else {
            return;
        };
        self.total -= before.bytes;
        if let Some(held) = self.by_source.get_mut(&before.source) {
            *held -= before.bytes;
            if *held == 0 {
                self.by_source.remove(&before.source);
            }
        }
        let name = before.network();
        if let Some(network) = self.by_network.get_mut(&name) {
            self.networks.remove(&(class(network.bytes), name));
            network.bytes -= before.bytes;
            network.flows.remove(&before.place(ticket));
            if network.bytes == 0 {
                self.by_network.remove(&name);
            } else {
                self.networks.insert((class(network.bytes), name));
            }
        }
    }

    /// Whether the source of a flow, or all that may be forged together, holds more than its share of this `limit`.
    pub(crate) fn is_over_share(&self, holding: &Holding, limit: usize) -> bool {
        let share = (limit / SHARE).max(SHARE_FLOOR);
        let of_source = self.by_source.get(&holding.source).copied();
        let of_forged = self.by_network.get(&None).filter(|_| !holding.is_proven);
        of_source.is_some_and(|held| held > share)
            || of_forged.is_some_and(|network| network.bytes > share)
    }

    /// Whether more is held than this.
    #[inline]
    pub(crate) fn is_over(&self, limit: usize) -> bool {
        self.total > limit
    }

    /// Who has to give something back under this `limit`: the largest flow of the network that holds most.
    pub(crate) fn heaviest(&self, limit: usize) -> Option<(Ticket, Holding)> {
        if !self.is_over(limit) {
            return None;
        }
        let (_, name) = self.networks.last()?;
        let (_, _, ticket) = self.by_network.get(name)?.flows.last()?;
        Some((*ticket, *self.holdings.get(ticket)?))
    }
}
