//! Sources: what counts as one and is banned for one, and who cannot be.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use policy::AddressSet;
use policy::address::{IPV4_FIRST, IPV4_LAST, host_prefix, prefix_range};
use policy::key_address;

use crate::ban::NoSource;

/// Shortest prefixes that can be banned; anything shorter is a good part of the Internet.
const SHORTEST_IPV4: u8 = 8;
const SHORTEST_IPV6: u8 = 16;

/// Who sends nothing, or cannot be told from others: the first and the last key.
const NOBODY: [(u128, u128, NoSource); 8] = [
    (IPV4_FIRST, IPV4_FIRST + 0x00ff_ffff, NoSource::Unspecified),
    (
        IPV4_FIRST + 0x7f00_0000,
        IPV4_FIRST + 0x7fff_ffff,
        NoSource::Loopback,
    ),
    (
        IPV4_FIRST + 0xe000_0000,
        IPV4_FIRST + 0xefff_ffff,
        NoSource::Multicast,
    ),
    (IPV4_LAST, IPV4_LAST, NoSource::Broadcast),
    (0, 0, NoSource::Unspecified),
    (1, 1, NoSource::Loopback),
    // All neighbours on every link share one /64: a single address of it is somebody.
    (0xfe80 << 112, (0xfec0 << 112) - 1, NoSource::LinkLocal),
    (0xff00 << 112, u128::MAX, NoSource::Multicast),
];

/// The prefix that a detector bans for one source: the host for IPv4, the `/64` for IPv6, which is what one customer has
/// at least (RFC 6177).
pub fn source_prefix(address: IpAddr) -> IpNet {
    match host_prefix(address) {
        IpNet::V6(v6) => {
            Ipv6Net::new(v6.addr(), 64).map_or(IpNet::V6(v6), |net| net.trunc().into())
        }
        v4 @ IpNet::V4(_) => v4,
    }
}

/// The first key of the [`source_prefix`].
pub(crate) fn subnet_of(key: u128) -> u128 {
    prefix_range(source_prefix(key_address(key))).0
}

/// Every `/64` that holds an IPv6 address of the set.
pub(crate) fn subnets_of(set: &AddressSet) -> impl Iterator<Item = (u128, u128)> + '_ {
    let host = u128::from(u64::MAX);
    set.ipv6_ranges()
        .map(move |(first, last)| (first.to_bits() & !host, last.to_bits() | host))
}

/// Why nobody sends from a prefix without host bits, if so.
pub(crate) fn no_source(prefix: IpNet) -> Option<NoSource> {
    let shortest = match prefix {
        IpNet::V4(_) => SHORTEST_IPV4,
        IpNet::V6(_) => SHORTEST_IPV6,
    };
    if prefix.prefix_len() < shortest {
        return Some(NoSource::TooWide);
    }
    let (begin, end) = prefix_range(prefix);
    let nobody = NOBODY.iter().find(|&&(first, last, why)| {
        let is_one_neighbour = why == NoSource::LinkLocal && begin == end;
        (first..=last).contains(&begin) && !is_one_neighbour
    });
    let holds_ipv4 = matches!(prefix, IpNet::V6(_)) && begin <= IPV4_LAST && end >= IPV4_FIRST;
    match nobody {
        Some(&(.., why)) => Some(why),
        None if holds_ipv4 => Some(NoSource::Mapped),
        None => None,
    }
}

/// The addresses for which no detector bans what it bans for one source, if these are protected: nobody's, all of IPv4's place
/// in IPv6, and for IPv6 the whole `/64` around each protected one.
pub fn unbannable(protected: &AddressSet) -> AddressSet {
    let nobody = AddressSet::from_ranges(NOBODY.map(|(first, last, _)| (first, last)));
    let all = protected.union(&nobody);
    let v4 = all.ipv4_ranges().map(|(first, last)| {
        (
            policy::address_key(first.into()),
            policy::address_key(last.into()),
        )
    });
    // The keys of IPv4 lie inside ::/64, which must be left out around them, or all of IPv4 would be in the list.
    let outside = |(first, last): (u128, u128)| {
        [
            (first, last.min(IPV4_FIRST - 1)),
            (first.max(IPV4_LAST + 1), last),
        ]
    };
    AddressSet::from_ranges(v4.chain(subnets_of(&all).flat_map(outside)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "constants")]
    use super::*;

    #[test]
    fn the_subnet_of_a_protected_address_cannot_be_banned_nor_can_nobody() {
        let protected: AddressSet = ["192.0.2.1/32", "2001:db8::1/128"]
            .iter()
            .map(|text| text.parse::<IpNet>().unwrap())
            .collect();
        let set = unbannable(&protected);
        for (address, held) in [
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("0.0.0.0", true),
            ("0.0.0.1", true),
            ("10.0.0.1", false),
            ("127.0.0.1", true),
            ("128.0.0.1", false),
            ("224.0.0.251", true),
            ("255.255.255.254", false),
            ("255.255.255.255", true),
            ("2001:db8::ffff", true),
            ("2001:db8:0:1::1", false),
            ("fe80::1", true),
            ("febf:ffff::1", true),
            ("fec0::1", false),
            ("ff02::1", true),
            ("::", true),
            ("::5", true),
            ("0:0:0:1::", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(set.contains(address), held, "{address}");
        }
    }
}
