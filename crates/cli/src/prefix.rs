//! An address or a prefix as a person types it.

use ipnet::IpNet;

/// A prefix that is to be dropped or trusted, with what was typed: the bits past the prefix length may say that one address
/// was meant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Typed {
    /// What is meant by the rules of prefixes.
    pub(crate) prefix: IpNetOrAddress,
    typed: IpNet,
}

impl Typed {
    /// What to say about bits that were set past the prefix length; `None` when there are none. `done` is what happens to the
    /// whole prefix.
    pub(crate) fn surprise(&self, done: &str) -> Option<String> {
        (self.typed.addr() != self.prefix.0.addr()).then(|| {
            format!(
                "{} has bits set past its length, and all of {} {done}; write {} for that address alone",
                self.typed,
                self.prefix,
                self.typed.addr()
            )
        })
    }
}

impl std::str::FromStr for Typed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let prefix: IpNetOrAddress = text.parse()?;
        Ok(Self {
            prefix,
            // An address without a length has no bits past it.
            typed: text.parse().unwrap_or(prefix.0),
        })
    }
}

/// An address or a prefix as a person types it; bits past the prefix length are cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpNetOrAddress(pub(crate) IpNet);

impl std::str::FromStr for IpNetOrAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        policy::address::parse_prefix(text)
            .map(|prefix| Self(prefix.trunc()))
            .ok_or_else(|| match policy::address::leading_zero(text) {
                Some(why) => format!("it {why}"),
                None => "write an address like 203.0.113.7 or 2001:db8::7, or a prefix like 203.0.113.0/24".to_owned(),
            })
    }
}

impl std::fmt::Display for IpNetOrAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            self.0.addr().fmt(f)
        } else {
            self.0.fmt(f)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    #[test]
    fn an_address_is_a_prefix_of_its_own_length() {
        for (text, shown) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("203.0.113.7/24", Some("203.0.113.0/24")),
            ("2001:db8::7", Some("2001:db8::7")),
            ("2001:db8::7/64", Some("2001:db8::/64")),
            ("203.0.113", None),
            ("10.0.0.0/08", None),
            ("host.example", None),
        ] {
            let prefix = text.parse::<IpNetOrAddress>().ok();
            assert_eq!(prefix.map(|p| p.to_string()).as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn a_leading_zero_is_named() {
        for (text, told) in [
            (
                "10.0.0.0/08",
                "it has a prefix length with a leading zero; write 10.0.0.0/8",
            ),
            (
                "010.0.0.1",
                "it has a number with a leading zero; write 10.0.0.1",
            ),
            (
                "host.example",
                "write an address like 203.0.113.7 or 2001:db8::7, or a prefix like 203.0.113.0/24",
            ),
        ] {
            assert_eq!(text.parse::<IpNetOrAddress>(), Err(told.to_owned()));
        }
    }

    #[test]
    fn bits_past_the_length_are_noticed() {
        for (text, noticed) in [
            ("203.0.113.77", None),
            ("203.0.113.77/32", None),
            ("203.0.113.0/24", None),
            ("2001:db8::/32", None),
            ("203.0.113.77/24", Some("all of 203.0.113.0/24 is banned")),
            ("2001:db8::7/64", Some("write 2001:db8::7 for")),
        ] {
            let told = text.parse::<Typed>().unwrap().surprise("is banned");
            assert_eq!(told.is_some(), noticed.is_some(), "{text}: {told:?}");
            assert!(
                noticed.is_none_or(|part| told.clone().unwrap_or_default().contains(part)),
                "{text}: {told:?}"
            );
        }
    }
}
