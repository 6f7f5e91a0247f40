//! The bans in force, found by address, and what may never be among them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ipnet::IpNet;
use policy::address::{IPV4_FIRST, prefix_range};
use policy::{AddressSet, Timestamp, key_address};

use crate::ban::{Ban, BanRefused};

/// Bans by prefix. A look-up costs one hash probe for each prefix length in use.
#[derive(Debug)]
pub(crate) struct BanTable {
    /// By prefix length in the common key space (IPv4 `/24` is 120), longest first.
    by_length: Vec<(u8, HashMap<u128, Ban, FixedState>)>,
    expiries: BinaryHeap<Reverse<(Timestamp, u8, u128)>>,
    /// How often a prefix was banned; bounded like the bans themselves.
    history: HashMap<(u8, u128), u32, FixedState>,
    capacity: u32,
    count: usize,
    seed: u64,
}

/// Shortest prefixes that can be banned; anything shorter is a good part of the Internet.
const SHORTEST_IPV4: u8 = 8;
const SHORTEST_IPV6: u8 = 16;

fn place(prefix: IpNet) -> (u8, u128) {
    let length = match prefix {
        IpNet::V4(v4) => v4.prefix_len() + 96,
        IpNet::V6(v6) => v6.prefix_len(),
    };
    (length, prefix_range(prefix).0)
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
            history: HashMap::with_hasher(FixedState::with_seed(seed)),
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
        self.by_length.iter().find_map(|(length, bans)| {
            // A short IPv6 prefix must not catch IPv4, which lives inside `::/80`.
            if *length < 96 && key >> 32 == IPV4_FIRST >> 32 {
                return None;
            }
            bans.get(&masked(key, *length))
                .filter(|ban| ban.expires > now)
        })
    }

    /// Whether the prefix could be banned at all.
    pub(crate) fn admit(&self, prefix: IpNet, protected: &AddressSet) -> Result<(), BanRefused> {
        let (shortest, network) = match prefix {
            IpNet::V4(_) => (SHORTEST_IPV4, prefix.network()),
            IpNet::V6(_) => (SHORTEST_IPV6, prefix.network()),
        };
        if prefix.prefix_len() < shortest || network.is_multicast() || network.is_unspecified() {
            return Err(BanRefused::NotASource { prefix });
        }
        let wanted: AddressSet = std::iter::once(prefix).collect();
        if let Some(&(first, _)) = wanted.intersection(protected).ranges().first() {
            return Err(BanRefused::Protected {
                prefix,
                address: key_address(first),
            });
        }
        let known = self.get(prefix).is_some();
        if !known && self.count >= self.capacity as usize {
            return Err(BanRefused::Full {
                capacity: self.capacity,
            });
        }
        Ok(())
    }

    pub(crate) fn get(&self, prefix: IpNet) -> Option<&Ban> {
        let (length, key) = place(prefix);
        self.by_length
            .iter()
            .find(|(known, _)| *known == length)?
            .1
            .get(&key)
    }

    /// How often the prefix was banned so far.
    pub(crate) fn times_banned(&self, prefix: IpNet) -> u32 {
        self.history
            .get(&place(prefix))
            .copied()
            .unwrap_or_default()
    }

    /// Puts a ban in force, in place of one for the same prefix.
    pub(crate) fn insert(&mut self, ban: Ban) {
        let (length, key) = place(ban.prefix);
        if self.history.len() >= 4 * self.capacity.max(1) as usize
            && !self.history.contains_key(&(length, key))
        {
            // Forget those who came once and are not banned now.
            let by_length = &self.by_length;
            self.history.retain(|(length, key), times| {
                *times > 1
                    || by_length
                        .iter()
                        .any(|(known, bans)| known == length && bans.contains_key(key))
            });
        }
        self.history.insert((length, key), ban.times_banned);
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

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.by_length.iter().flat_map(|(_, bans)| bans.values())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The prefix that a detector bans for one source: the host for IPv4, the `/64` for IPv6, which is what one customer has
/// at least (RFC 6177).
pub(crate) fn source_prefix(address: IpAddr) -> IpNet {
    match policy::address::host_prefix(address) {
        IpNet::V6(v6) => {
            ipnet::Ipv6Net::new(v6.addr(), 64).map_or(IpNet::V6(v6), |net| IpNet::V6(net.trunc()))
        }
        v4 @ IpNet::V4(_) => v4,
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

    #[test]
    fn the_gate_refuses() {
        let mut table = BanTable::new(1, 1);
        let protected: AddressSet = ["192.0.2.0/28".parse::<IpNet>().unwrap()]
            .into_iter()
            .collect();
        let refused = |table: &BanTable, prefix: &str| {
            table
                .admit(prefix.parse().unwrap(), &protected)
                .unwrap_err()
        };
        assert!(matches!(
            refused(&table, "192.0.2.0/24"),
            BanRefused::Protected { .. }
        ));
        assert!(matches!(
            refused(&table, "192.0.2.3/32"),
            BanRefused::Protected { .. }
        ));
        assert!(matches!(
            refused(&table, "0.0.0.0/0"),
            BanRefused::NotASource { .. }
        ));
        assert!(matches!(
            refused(&table, "ff02::1/128"),
            BanRefused::NotASource { .. }
        ));
        assert!(matches!(
            refused(&table, "224.0.0.1/32"),
            BanRefused::NotASource { .. }
        ));
        table.insert(ban("203.0.113.1/32", 10));
        assert!(matches!(
            refused(&table, "203.0.113.2/32"),
            BanRefused::Full { .. }
        ));
        assert!(
            table
                .admit("203.0.113.1/32".parse().unwrap(), &protected)
                .is_ok(),
            "the same again is no new one"
        );
    }
}
