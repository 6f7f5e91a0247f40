//! The bans in force, found by address. What may be among them, the gate says.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ipnet::IpNet;
use policy::Timestamp;
use policy::address::{IPV4_FIRST, prefix_range};

use crate::ban::{Ban, BanRefused};

/// Bans by prefix. A look-up costs one hash probe for each prefix length in use.
#[derive(Debug)]
pub(crate) struct BanTable {
    /// By prefix length in the common key space (IPv4 `/24` is 120), longest first.
    by_length: Vec<(u8, HashMap<u128, Ban, FixedState>)>,
    expiries: BinaryHeap<Reverse<(Timestamp, u8, u128)>>,
    capacity: u32,
    count: usize,
    seed: u64,
}

/// Length in the common key space (IPv4 `/24` is 120) and first key of a prefix.
pub(crate) type Place = (u8, u128);

pub(crate) fn place(prefix: IpNet) -> Place {
    let length = match prefix {
        IpNet::V4(v4) => v4.prefix_len() + 96,
        IpNet::V6(v6) => v6.prefix_len(),
    };
    (length, prefix_range(prefix).0)
}

/// The prefix of a length in the common key space around a key, in the family of `like`.
pub(crate) fn prefix_at(length: u8, key: u128, like: IpNet) -> IpNet {
    let bits = match like {
        IpNet::V4(_) => length.saturating_sub(96),
        IpNet::V6(_) => length,
    };
    // Both lengths are within their family's, and the key is one of it.
    IpNet::new(like.addr(), bits).map_or(like, |net| {
        debug_assert_eq!(place(net.trunc()), (length, masked(key, length)));
        net.trunc()
    })
}

fn masked(key: u128, length: u8) -> u128 {
    match length {
        0 => 0,
        length => key & (u128::MAX << (128 - u32::from(length))),
    }
}

impl BanTable {
    pub(crate) fn new(capacity: u32, seed: u64) -> Self {
        Self {
            by_length: Vec::new(),
            expiries: BinaryHeap::new(),
            capacity,
            count: 0,
            seed,
        }
    }

    pub(crate) fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    /// The ban that covers an address: the longest prefix.
    #[inline]
    pub(crate) fn covering(&self, key: u128, now: Timestamp) -> Option<&Ban> {
        self.all_covering(key, now).next()
    }

    /// The bans that cover an address, longest prefix first.
    #[inline]
    pub(crate) fn all_covering(&self, key: u128, now: Timestamp) -> impl Iterator<Item = &Ban> {
        self.by_length.iter().filter_map(move |(length, bans)| {
            // A short IPv6 prefix must not catch IPv4, which lives inside `::/80`.
            if *length < 96 && key >> 32 == IPV4_FIRST >> 32 {
                return None;
            }
            bans.get(&masked(key, *length))
                .filter(|ban| ban.expires > now)
        })
    }

    /// Whether there is room for a ban of the prefix.
    pub(crate) fn has_room(&self, prefix: IpNet) -> Result<(), BanRefused> {
        if self.count < self.capacity as usize || self.get(prefix).is_some() {
            return Ok(());
        }
        Err(BanRefused::Full {
            capacity: self.capacity,
        })
    }

    pub(crate) fn get(&self, prefix: IpNet) -> Option<&Ban> {
        let (length, key) = place(prefix);
        self.by_length
            .iter()
            .find(|(known, _)| *known == length)?
            .1
            .get(&key)
    }

    /// Puts a ban in force, in place of one for the same prefix.
    pub(crate) fn insert(&mut self, ban: Ban) {
        let (length, key) = place(ban.prefix);
        let at = self
            .by_length
            .binary_search_by(|(known, _)| length.cmp(known))
            .unwrap_or_else(|at| {
                self.by_length.insert(
                    at,
                    (
                        length,
                        HashMap::with_hasher(FixedState::with_seed(self.seed)),
                    ),
                );
                at
            });
        if ban.expires != Timestamp::MAX {
            self.expiries.push(Reverse((ban.expires, length, key)));
        }
        if self.by_length[at].1.insert(key, ban).is_none() {
            self.count += 1;
        }
    }

    pub(crate) fn remove(&mut self, prefix: IpNet) -> Option<Ban> {
        let (length, key) = place(prefix);
        self.remove_at(length, key)
    }

    fn remove_at(&mut self, length: u8, key: u128) -> Option<Ban> {
        let at = self
            .by_length
            .iter()
            .position(|(known, _)| *known == length)?;
        let ban = self.by_length[at].1.remove(&key)?;
        self.count -= 1;
        if self.by_length[at].1.is_empty() {
            self.by_length.remove(at);
        }
        Some(ban)
    }

    /// Whether [`BanTable::pop_expired`] has something to look at.
    #[inline]
    pub(crate) fn may_have_expired(&self, now: Timestamp) -> bool {
        (self.expiries.peek()).is_some_and(|&Reverse((expires, ..))| expires <= now)
    }

    /// Takes out one ban that is over at `now`.
    pub(crate) fn pop_expired(&mut self, now: Timestamp) -> Option<Ban> {
        while let Some(&Reverse((expires, length, key))) = self.expiries.peek() {
            if expires > now {
                return None;
            }
            self.expiries.pop();
            // A ban that was lifted or prolonged meanwhile leaves a stale entry.
            let current = self
                .by_length
                .iter()
                .find(|(known, _)| *known == length)
                .and_then(|(_, bans)| bans.get(&key));
            if current.is_some_and(|ban| ban.expires == expires) {
                return self.remove_at(length, key);
            }
        }
        None
    }

    /// Moves the begin and the end of every ban.
    pub(crate) fn shift(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        self.expiries.clear();
        for (length, bans) in &mut self.by_length {
            for (key, ban) in bans {
                (ban.since, ban.expires) = (moved(ban.since), moved(ban.expires));
                if ban.expires != Timestamp::MAX {
                    self.expiries.push(Reverse((ban.expires, *length, *key)));
                }
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.by_length.iter().flat_map(|(_, bans)| bans.values())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "constants")]
    use super::*;
    use crate::ban::BanOrigin;
    use policy::address_key;

    fn ban(prefix: &str, expires: u64) -> Ban {
        Ban {
            prefix: prefix.parse().unwrap(),
            origin: BanOrigin::Manual,
            reason: String::new(),
            since: Timestamp::default(),
            expires: Timestamp::from_secs(expires),
            times_banned: 1,
            offences: 1,
            grew_from: Vec::new(),
            would_be: false,
            evidence: None,
        }
    }

    fn key(address: &str) -> u128 {
        address_key(address.parse().unwrap())
    }

    #[test]
    fn prefixes_cover_and_expire() {
        let mut table = BanTable::new(10, 1);
        for (prefix, expires) in [
            ("192.0.2.7/32", 10),
            ("198.51.100.0/24", 20),
            ("2001:db8::/64", 30),
            ("2001::/16", 40),
        ] {
            table.insert(ban(prefix, expires));
        }
        let now = Timestamp::from_secs(5);
        for (address, covered) in [
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("198.51.100.255", true),
            ("2001:db8::1", true),
            ("2001:db9::1", true),
            ("::ffff:192.0.2.7", true),
            ("2002::1", false),
        ] {
            assert_eq!(
                table.covering(key(address), now).is_some(),
                covered,
                "{address}"
            );
        }
        assert!(
            table
                .covering(key("192.0.2.7"), Timestamp::from_secs(10))
                .is_none(),
            "over at its expiry"
        );
        assert_eq!(
            table.pop_expired(Timestamp::from_secs(20)).unwrap().prefix,
            "192.0.2.7/32".parse().unwrap()
        );
        table.insert(ban("198.51.100.0/24", 50));
        assert!(
            table.pop_expired(Timestamp::from_secs(20)).is_none(),
            "prolonged meanwhile"
        );
    }
}
