//! Addresses as one ordered space, and sets of them.
//!
//! IPv4 lives at `::ffff:0:0/96` (RFC 4291 §2.5.5.2), so that one set, one comparison and one tree serve both families.
//! The mapped range is never legal on the wire in IPv6 (the kernel drops it), so the two cannot meet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::literal::{self, Why};

/// The first key of the range that holds IPv4.
pub const IPV4_FIRST: u128 = 0xffff_0000_0000;
/// The last key of the range that holds IPv4.
pub const IPV4_LAST: u128 = 0xffff_ffff_ffff;

/// The place of an address in the one ordered space. `::ffff:a.b.c.d` is `a.b.c.d`.
#[inline]
pub fn address_key(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => IPV4_FIRST | u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address at a place; inverse of [`address_key`].
#[inline]
pub fn key_address(key: u128) -> IpAddr {
    if (IPV4_FIRST..=IPV4_LAST).contains(&key) {
        IpAddr::V4(Ipv4Addr::from_bits(key as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(key))
    }
}

/// The prefix that a text like `203.0.113.0/24` names, host bits and all, or an address. A length with a leading zero is refused, as an
/// octet with one is: readers differ on whether it is octal.
pub fn parse_prefix(text: &str) -> Option<IpNet> {
    match text.split_once('/') {
        None => text.parse().ok().map(host_prefix),
        Some((_, length)) if literal::has_leading_zero(length) => None,
        Some(_) => text.parse().ok(),
    }
}

/// Where a text names no address or prefix only for a leading zero: why not, to stand behind it, and what is to be written.
pub fn leading_zero(text: &str) -> Option<String> {
    let bad = literal::read(text).err()?;
    let is_zero = matches!(bad.why, Why::LeadingZero | Why::PrefixLeadingZero);
    let meant = bad
        .meant
        .map_or(String::new(), |meant| format!("; write {meant}"));
    is_zero.then(|| format!("{}{meant}", bad.why))
}

/// First and last key of a prefix.
pub fn prefix_range(prefix: IpNet) -> (u128, u128) {
    (
        address_key(prefix.network()),
        address_key(prefix.broadcast()),
    )
}

/// A set of addresses of both families: sorted, disjoint, non-adjacent inclusive ranges of keys.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct AddressSet {
    ranges: Vec<(u128, u128)>,
}

impl AddressSet {
    /// The set of every address of both families.
    pub fn all() -> Self {
        Self {
            ranges: vec![(0, u128::MAX)],
        }
    }

    /// From inclusive ranges of keys in any order, overlapping or not; a range whose end is before its start is ignored.
    /// An IPv6 range that reaches into the IPv4 keys keeps its meaning for IPv6 only where it is a range of addresses that
    /// a user can write: `::/0` as a prefix means every IPv6 address, see [`AddressSet::from_prefixes`].
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u128, u128)>) -> Self {
        let mut ranges: Vec<_> = ranges
            .into_iter()
            .filter(|(first, last)| first <= last)
            .collect();
        ranges.sort_unstable();
        // In place: a list of millions is not copied.
        ranges.dedup_by(|(first, last), (_, end)| {
            let joins = *first <= end.saturating_add(1);
            if joins {
                *end = (*end).max(*last);
            }
            joins
        });
        ranges.shrink_to_fit();
        Self { ranges }
    }

    /// From prefixes. An IPv6 prefix that contains the IPv4 keys (such as `::/0`) leaves them out: it names IPv6 alone.
    pub fn from_prefixes(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        Self::from_ranges(prefixes.into_iter().flat_map(|prefix| {
            let (first, last) = prefix_range(prefix);
            let spans_ipv4 = matches!(prefix, IpNet::V6(v6) if v6.prefix_len() < 96)
                && first <= IPV4_FIRST
                && last >= IPV4_LAST;
            if spans_ipv4 {
                [(first, IPV4_FIRST - 1), (IPV4_LAST + 1, last)]
            } else {
                [(first, last), (1, 0)]
            }
        }))
    }

    /// Whether the set holds nothing.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether the address is in the set. Cost: a binary search.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.contains_key(address_key(address))
    }

    /// [`AddressSet::contains`] for a key.
    #[inline]
    pub fn contains_key(&self, key: u128) -> bool {
        let after = self.ranges.partition_point(|&(first, _)| first <= key);
        after > 0 && self.ranges[after - 1].1 >= key
    }

    /// The sorted, disjoint, inclusive ranges of keys.
    pub fn ranges(&self) -> &[(u128, u128)] {
        &self.ranges
    }

    /// The ranges of IPv4 addresses, inclusive.
    pub fn ipv4_ranges(&self) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> + '_ {
        self.ranges.iter().filter_map(|&(first, last)| {
            let (first, last) = (first.max(IPV4_FIRST), last.min(IPV4_LAST));
            (first <= last).then(|| {
                (
                    Ipv4Addr::from_bits(first as u32),
                    Ipv4Addr::from_bits(last as u32),
                )
            })
        })
    }

    /// The ranges of IPv6 addresses, inclusive, without the IPv4 keys.
    pub fn ipv6_ranges(&self) -> impl Iterator<Item = (Ipv6Addr, Ipv6Addr)> + '_ {
        self.ranges
            .iter()
            .flat_map(|&(first, last)| {
                [
                    (first, last.min(IPV4_FIRST - 1)),
                    (first.max(IPV4_LAST + 1), last),
                ]
            })
            .filter(|(first, last)| first <= last)
            .map(|(first, last)| (Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last)))
    }

    /// The first address of a prefix that is in the set. Without host bits; IPv6 prefixes that hold all of IPv4's keys are asked
    /// for those too.
    pub fn first_in(&self, prefix: IpNet) -> Option<IpAddr> {
        let (first, last) = prefix_range(prefix);
        let near = self.ranges.partition_point(|&(_, end)| end < first);
        let &(begin, _) = self.ranges.get(near)?;
        (begin <= last).then(|| key_address(begin.max(first)))
    }

    /// The smallest list of prefixes that makes up the set, IPv4 and IPv6 apart, in ascending order of each.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        let v4 = self
            .ipv4_ranges()
            .flat_map(|(first, last)| ipnet::Ipv4Subnets::new(first, last, 0).map(IpNet::V4));
        let v6 = self
            .ipv6_ranges()
            .flat_map(|(first, last)| ipnet::Ipv6Subnets::new(first, last, 0).map(IpNet::V6));
        v4.chain(v6)
    }

    /// The addresses of both sets.
    pub fn union(&self, other: &Self) -> Self {
        Self::from_ranges(self.ranges.iter().chain(&other.ranges).copied())
    }

    /// The addresses that are in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut left, mut right) = (
            self.ranges.iter().peekable(),
            other.ranges.iter().peekable(),
        );
        let mut common = Vec::new();
        while let (Some(&&(a, b)), Some(&&(c, d))) = (left.peek(), right.peek()) {
            if a.max(c) <= b.min(d) {
                common.push((a.max(c), b.min(d)));
            }
            if b < d {
                left.next()
            } else {
                right.next()
            };
        }
        Self { ranges: common }
    }

    /// Whether every address of `other` is in this set.
    pub fn contains_set(&self, other: &Self) -> bool {
        other.ranges.iter().all(|&(first, last)| {
            let after = self.ranges.partition_point(|&(start, _)| start <= first);
            after > 0 && self.ranges[after - 1].1 >= last
        })
    }

    /// Whose addresses it holds all of, if of anybody: those that can be public ones of a family.
    pub fn of_everybody(&self) -> Option<&'static str> {
        let holds = |first: IpAddr, last: IpAddr| {
            let range = [(address_key(first), address_key(last))];
            self.contains_set(&Self::from_ranges(range))
        };
        let v4 = |first, last| {
            let whole = |first, rest| IpAddr::from([first, rest, rest, rest]);
            holds(whole(first, 0), whole(last, 255))
        };
        // Classes A, B and C without 0/8 and 127/8 (RFC 791, 3.2; RFC 1122, 3.2.1.3); IPv6 global unicast (RFC 4291, 2.4).
        let ipv4 = v4(1, 126) && v4(128, 223);
        let v6 = |first, rest| IpAddr::from([first, rest, rest, rest, rest, rest, rest, rest]);
        let ipv6 = holds(v6(0x2000, 0), v6(0x3fff, 0xffff));
        match (ipv4, ipv6) {
            (true, true) => Some("every address"),
            (true, false) => Some("every IPv4 address"),
            (false, true) => Some("every IPv6 address"),
            (false, false) => None,
        }
    }

    /// Whether the set holds an IPv4 address.
    pub fn has_ipv4(&self) -> bool {
        self.ipv4_ranges().next().is_some()
    }

    /// Whether the set holds an IPv6 address.
    pub fn has_ipv6(&self) -> bool {
        self.ipv6_ranges().next().is_some()
    }
}

impl FromIterator<IpNet> for AddressSet {
    fn from_iter<T: IntoIterator<Item = IpNet>>(prefixes: T) -> Self {
        Self::from_prefixes(prefixes)
    }
}

impl FromIterator<IpAddr> for AddressSet {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addresses: T) -> Self {
        Self::from_ranges(
            addresses
                .into_iter()
                .map(|address| (address_key(address), address_key(address))),
        )
    }
}

impl fmt::Debug for AddressSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.prefixes().map(|prefix| prefix.to_string()))
            .finish()
    }
}

/// The prefix of one address: `/32` or `/128`.
pub fn host_prefix(address: IpAddr) -> IpNet {
    match key_address(address_key(address)) {
        IpAddr::V4(v4) => IpNet::V4(Ipv4Net::from(v4)),
        IpAddr::V6(v6) => IpNet::V6(Ipv6Net::from(v6)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(prefixes: &[&str]) -> AddressSet {
        prefixes
            .iter()
            .map(|prefix| prefix.parse::<IpNet>().unwrap())
            .collect()
    }

    #[test]
    fn families_do_not_meet() {
        let v6 = set(&["::/0"]);
        assert!(!v6.contains("192.0.2.1".parse().unwrap()));
        assert!(v6.contains("2001:db8::1".parse().unwrap()));
        assert!(!v6.has_ipv4());
        let v4 = set(&["0.0.0.0/0"]);
        assert!(v4.contains("192.0.2.1".parse().unwrap()) && !v4.has_ipv6());
        assert!(
            v4.contains("::ffff:192.0.2.1".parse().unwrap()),
            "a mapped address is the IPv4 address"
        );
        assert_eq!(AddressSet::all(), v4.union(&v6));
    }

    #[test]
    fn overlaps_merge_and_prefixes_come_back() {
        let merged = set(&[
            "10.0.0.0/25",
            "10.0.0.128/25",
            "10.0.0.7/32",
            "2001:db8::/33",
            "2001:db8:8000::/33",
        ]);
        assert_eq!(
            merged.prefixes().map(|p| p.to_string()).collect::<Vec<_>>(),
            ["10.0.0.0/24", "2001:db8::/32"]
        );
    }

    #[test]
    fn intersection_and_containment() {
        let (big, small) = (
            set(&["10.0.0.0/8", "2001:db8::/32"]),
            set(&["10.1.0.0/16", "11.0.0.0/8"]),
        );
        assert_eq!(big.intersection(&small), set(&["10.1.0.0/16"]));
        assert!(
            big.contains_set(&set(&["10.1.0.0/16", "2001:db8::1/128"]))
                && !big.contains_set(&small)
        );
    }
}
