//! Addresses as they are written: one, a prefix, or a range. The same reading serves policies and list files.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::address::{IPV4_FIRST, IPV4_LAST, address_key, key_address, prefix_range};

/// What a literal names: inclusive ranges of keys, and the tidy spelling if the prefix had host bits set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Literal {
    pub(crate) first: u128,
    pub(crate) last: u128,
    /// `192.0.2.0/24` for `192.0.2.7/24`.
    pub(crate) masked: Option<IpNet>,
}

impl Literal {
    /// The keys that it names: an IPv6 range around the keys of IPv4 leaves them out, as it names IPv6 alone.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u128, u128)> {
        let around = self.first < IPV4_FIRST && self.last > IPV4_LAST;
        let parts = if around {
            [(self.first, IPV4_FIRST - 1), (IPV4_LAST + 1, self.last)]
        } else {
            [(self.first, self.last), (1, 0)]
        };
        parts.into_iter().filter(|(first, last)| first <= last)
    }
}

/// Why a text names no addresses, and what was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadAddress {
    /// Completes the sentence `"…" …`.
    pub(crate) why: Why,
    pub(crate) meant: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Empty,
    Octet,
    LeadingZero,
    TooFewOctets,
    Wildcard,
    PrefixLeadingZero,
    PrefixLength { most: u8 },
    Netmask,
    Zone,
    Reversed,
    MixedFamilies,
    Port,
    Name,
    Nonsense,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "names no address",
            Self::Octet => "has a number above 255",
            Self::LeadingZero => "has a number with a leading zero",
            Self::TooFewOctets => "is only a part of an address",
            Self::Wildcard => "has a * in it",
            Self::PrefixLeadingZero => "has a prefix length with a leading zero",
            Self::PrefixLength { most } => {
                return write!(f, "has a prefix length that is no number from 0 to {most}");
            }
            Self::Netmask => "has a netmask where a prefix length belongs",
            Self::Zone => "names an interface with %; use the key interface for it",
            Self::Reversed => "ends before it begins",
            Self::MixedFamilies => "mixes IPv4 and IPv6",
            Self::Port => "has a port; ports have keys of their own",
            Self::Name => "is a name, and rules match addresses",
            Self::Nonsense => "is no address",
        })
    }
}

/// What can stand for addresses, for messages.
pub(crate) const EXPECTED: &str = "an address such as 192.0.2.7, a prefix such as 2001:db8::/32 or a range such as 192.0.2.1-192.0.2.9";

/// Reads one address, prefix or range.
pub(crate) fn read(text: &str) -> Result<Literal, BadAddress> {
    if let Some((address, length)) = text.split_once('/') {
        return prefix(text, address, length);
    }
    if let Some((first, last)) = text.split_once('-')
        && let (Ok(first), Ok(last)) = (
            first.trim_end().parse::<IpAddr>(),
            last.trim_start().parse::<IpAddr>(),
        )
    {
        return range(first, last);
    }
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(Literal {
            first: address_key(address),
            last: address_key(address),
            masked: None,
        }),
        Err(_) => Err(diagnose(text)),
    }
}

fn range(first: IpAddr, last: IpAddr) -> Result<Literal, BadAddress> {
    let keys = (address_key(first), address_key(last));
    if key_address(keys.0).is_ipv4() != key_address(keys.1).is_ipv4() {
        return Err(BadAddress {
            why: Why::MixedFamilies,
            meant: None,
        });
    }
    if keys.0 > keys.1 {
        return Err(BadAddress {
            why: Why::Reversed,
            meant: Some(format!("{last}-{first}")),
        });
    }
    Ok(Literal {
        first: keys.0,
        last: keys.1,
        masked: None,
    })
}

/// Whether a number has one, which some take for octal.
pub(crate) fn has_leading_zero(number: &str) -> bool {
    number.len() > 1 && number.starts_with('0')
}

fn prefix(text: &str, address: &str, length: &str) -> Result<Literal, BadAddress> {
    let Ok(parsed) = address.parse::<IpAddr>() else {
        return Err(diagnose(text));
    };
    let most = if parsed.is_ipv4() { 32 } else { 128 };
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let net = length
        .parse::<u8>()
        .ok()
        .filter(|_| is_number)
        .and_then(|length| IpNet::new(parsed, length).ok());
    if let Some(net) = net {
        if has_leading_zero(length) {
            return Err(BadAddress {
                why: Why::PrefixLeadingZero,
                meant: Some(net.to_string()),
            });
        }
        let (first, last) = prefix_range(net);
        let masked = (net.trunc() != net).then(|| net.trunc());
        return Ok(Literal {
            first,
            last,
            masked,
        });
    }
    let mask = length.parse::<Ipv4Addr>().ok().map(u32::from);
    match (parsed, mask) {
        (IpAddr::V4(v4), Some(mask)) if mask.leading_ones() + mask.trailing_zeros() >= 32 => {
            let masked = Ipv4Addr::from_bits(v4.to_bits() & mask);
            Err(BadAddress {
                why: Why::Netmask,
                meant: Some(format!("{masked}/{}", mask.leading_ones())),
            })
        }
        _ => Err(BadAddress {
            why: Why::PrefixLength { most },
            meant: None,
        }),
    }
}

/// Why a text is no address; runs only on mistakes.
fn diagnose(text: &str) -> BadAddress {
    let just = |why| BadAddress { why, meant: None };
    let (address, tail) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    if address.trim().is_empty() {
        return just(Why::Empty);
    }
    if let Some((before, _)) = address.split_once('%')
        && before.parse::<IpAddr>().is_ok()
    {
        return BadAddress {
            why: Why::Zone,
            meant: Some(before.to_owned()),
        };
    }
    if address.parse::<std::net::SocketAddr>().is_ok() {
        return just(Why::Port);
    }
    let parts: Vec<&str> = address.split('.').collect();
    let dotted = parts.len() > 1
        && parts
            .iter()
            .all(|part| *part == "*" || part.bytes().all(|byte| byte.is_ascii_digit()));
    if dotted {
        return dotted_mistake(&parts, tail);
    }
    let is_name = address.contains('.')
        && address
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && address.bytes().any(|byte| byte.is_ascii_alphabetic());
    just(if is_name { Why::Name } else { Why::Nonsense })
}

fn dotted_mistake(parts: &[&str], tail: Option<&str>) -> BadAddress {
    let just = |why| BadAddress { why, meant: None };
    let fixed: Vec<&str> = parts
        .iter()
        .copied()
        .take_while(|part| !matches!(*part, "*" | ""))
        .collect();
    let rest_is_open = parts[fixed.len()..]
        .iter()
        .all(|part| matches!(*part, "*" | ""));
    if fixed.iter().any(|part| part.parse::<u8>().is_err()) {
        return just(Why::Octet);
    }
    if fixed.iter().any(|part| has_leading_zero(part)) {
        let plain: Vec<String> = fixed
            .iter()
            .map(|part| part.parse::<u8>().unwrap_or_default().to_string())
            .collect();
        let complete = plain.len() == 4 && parts.len() == 4 && tail.is_none();
        return BadAddress {
            why: Why::LeadingZero,
            meant: complete.then(|| plain.join(".")),
        };
    }
    if parts.len() > 4 || !rest_is_open || fixed.is_empty() {
        return just(Why::Nonsense);
    }
    if fixed.len() == 4 {
        return just(Why::Nonsense);
    }
    let zeros = std::iter::repeat_n("0", 4 - fixed.len());
    let begin: Vec<&str> = fixed.iter().copied().chain(zeros).collect();
    let length = match tail {
        Some(length) => length.to_owned(),
        None => (fixed.len() * 8).to_string(),
    };
    BadAddress {
        why: if parts.contains(&"*") {
            Why::Wildcard
        } else {
            Why::TooFewOctets
        },
        meant: Some(format!("{}/{length}", begin.join("."))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that cannot parse its own table has failed"
    )]
    use super::*;
    use crate::address::AddressSet;

    #[test]
    fn good_literals() {
        for (text, prefixes) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.0-192.0.2.255", "192.0.2.0/24"),
            ("192.0.2.0 - 192.0.2.1", "192.0.2.0/31"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:db8::1-2001:db8::1", "2001:db8::1/128"),
        ] {
            let set = AddressSet::from_ranges(read(text).unwrap().ranges());
            let shown: Vec<_> = set.prefixes().map(|prefix| prefix.to_string()).collect();
            assert_eq!(shown, [prefixes], "{text}");
        }
    }

    #[test]
    fn all_of_ipv6_is_not_ipv4() {
        for text in ["::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            let set = AddressSet::from_ranges(read(text).unwrap().ranges());
            assert!(set.has_ipv6() && !set.has_ipv4(), "{text}");
        }
    }

    #[test]
    fn mistakes_and_what_was_meant() {
        for (text, why, meant) in [
            ("", Why::Empty, None),
            ("256.1.1.1", Why::Octet, None),
            ("10.0.0.300/8", Why::Octet, None),
            ("010.0.0.1", Why::LeadingZero, Some("10.0.0.1")),
            ("10.0", Why::TooFewOctets, Some("10.0.0.0/16")),
            ("10.0/16", Why::TooFewOctets, Some("10.0.0.0/16")),
            ("192.168.*", Why::Wildcard, Some("192.168.0.0/16")),
            ("192.168.1.*", Why::Wildcard, Some("192.168.1.0/24")),
            ("10.0.0.0/33", Why::PrefixLength { most: 32 }, None),
            ("10.0.0.0/08", Why::PrefixLeadingZero, Some("10.0.0.0/8")),
            ("10.0.0.0/+8", Why::PrefixLength { most: 32 }, None),
            ("10.0.0.0/", Why::PrefixLength { most: 32 }, None),
            ("2001:db8::/129", Why::PrefixLength { most: 128 }, None),
            ("10.1.0.0/255.0.0.0", Why::Netmask, Some("10.0.0.0/8")),
            ("fe80::1%eth0", Why::Zone, Some("fe80::1")),
            (
                "10.0.0.9-10.0.0.1",
                Why::Reversed,
                Some("10.0.0.1-10.0.0.9"),
            ),
            ("10.0.0.9-::1", Why::MixedFamilies, None),
            ("10.0.0.1:80", Why::Port, None),
            ("example.com", Why::Name, None),
            ("1.2.3.4.5", Why::Nonsense, None),
            ("office", Why::Nonsense, None),
            ("1.2.*.4", Why::Nonsense, None),
        ] {
            let meant = meant.map(str::to_owned);
            assert_eq!(read(text), Err(BadAddress { why, meant }), "{text}");
        }
    }
}
