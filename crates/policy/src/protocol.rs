//! IP protocol numbers and sets of them.

use std::fmt;

/// ICMP for IPv4 (RFC 792).
pub const ICMP: u8 = 1;
/// TCP (RFC 9293).
pub const TCP: u8 = 6;
/// UDP (RFC 768).
pub const UDP: u8 = 17;
/// ICMP for IPv6 (RFC 4443).
pub const ICMPV6: u8 = 58;
/// SCTP (RFC 9260).
pub const SCTP: u8 = 132;
/// UDP-Lite (RFC 3828).
pub const UDPLITE: u8 = 136;
/// DCCP (RFC 4340).
pub const DCCP: u8 = 33;

/// The protocols that a policy can call by name, with their numbers (IANA "Protocol Numbers").
pub const NAMES: &[(&str, u8)] = &[
    ("icmp", ICMP),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", TCP),
    ("udp", UDP),
    ("dccp", DCCP),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", ICMPV6),
    ("ospf", 89),
    ("vrrp", 112),
    ("sctp", SCTP),
    ("udplite", UDPLITE),
];

/// Whether the protocol's header begins with source and destination port.
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP | UDPLITE | DCCP)
}

/// The name of a protocol, where it has one that a policy can use.
pub fn name(protocol: u8) -> Option<&'static str> {
    NAMES
        .iter()
        .find(|(_, number)| *number == protocol)
        .map(|(name, _)| *name)
}

/// A set of IP protocol numbers: one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Protocols([u64; 4]);

impl Protocols {
    /// Every protocol.
    pub const ANY: Self = Self([u64::MAX; 4]);
    /// No protocol.
    pub const NONE: Self = Self([0; 4]);

    /// The set of one protocol.
    pub const fn one(protocol: u8) -> Self {
        let mut words = [0; 4];
        words[protocol as usize / 64] = 1 << (protocol % 64);
        Self(words)
    }

    /// Whether the protocol is in the set.
    #[inline]
    pub const fn contains(&self, protocol: u8) -> bool {
        self.0[protocol as usize / 64] >> (protocol % 64) & 1 == 1
    }

    /// What is in either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// Whether every protocol of `other` is in this set.
    pub fn contains_set(self, other: Self) -> bool {
        self.intersection(other) == other
    }

    /// Whether this is every protocol.
    pub fn is_any(self) -> bool {
        self == Self::ANY
    }

    /// Whether the set holds nothing.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// The protocol numbers in the set, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(move |&protocol| self.contains(protocol))
    }
}

impl Default for Protocols {
    fn default() -> Self {
        Self::ANY
    }
}

impl FromIterator<u8> for Protocols {
    fn from_iter<T: IntoIterator<Item = u8>>(protocols: T) -> Self {
        protocols
            .into_iter()
            .fold(Self::NONE, |set, protocol| set.union(Self::one(protocol)))
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any() {
            return f.write_str("any");
        }
        for (index, protocol) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match name(protocol) {
                Some(name) => f.write_str(name)?,
                None => write!(f, "{protocol}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocols({self})")
    }
}
