//! One entry of a block or allow list: a name, and whether it stands for itself, for what is below it, or for both.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

/// Longest name in bytes, without the dot at its end (RFC 1035 §2.3.4: 255 on the wire, lengths included).
pub(super) const LONGEST_NAME: usize = 253;
/// Longest label in bytes (RFC 1035 §2.3.4).
const LONGEST_LABEL: usize = 63;

/// Which names an entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reach {
    /// The name alone: `ads.example`.
    Itself,
    /// Everything below it: `*.ads.example`.
    Below,
    /// Both: `.ads.example`.
    Both,
}

impl Reach {
    pub(super) const ITSELF: u8 = 0b01;
    pub(super) const BELOW: u8 = 0b10;

    pub(super) const fn bits(self) -> u8 {
        match self {
            Self::Itself => Self::ITSELF,
            Self::Below => Self::BELOW,
            Self::Both => Self::ITSELF | Self::BELOW,
        }
    }

    /// Of at least one bit.
    pub(super) const fn from_bits(bits: u8) -> Self {
        match (bits & Self::ITSELF != 0, bits & Self::BELOW != 0) {
            (true, true) => Self::Both,
            (false, true) => Self::Below,
            (_, false) => Self::Itself,
        }
    }

    /// What stands before the name in writing.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Itself => "",
            Self::Below => "*.",
            Self::Both => ".",
        }
    }
}

/// An entry. Its name is canonical: lower case, A-labels, no dot at the end; empty for `*`, the entry that stands for every name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern<'a> {
    name: Cow<'a, str>,
    reach: Reach,
}

/// Why a text is no domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadName {
    /// Nothing is left of it.
    #[error("is empty")]
    Empty,
    /// More than 253 bytes.
    #[error("has {0} bytes; a name has at most {LONGEST_NAME}")]
    TooLong(usize),
    /// Two dots in a row, or one at the begin.
    #[error("has an empty part between two dots")]
    EmptyLabel,
    /// A part of more than 63 bytes.
    #[error("has a part of {0} bytes; a part has at most {LONGEST_LABEL}")]
    LabelTooLong(usize),
    /// Something that no name holds.
    #[error("holds {0:?}; a name has letters, digits, - and _")]
    Character(char),
    /// An IP address, or its last part is a number, which no name has.
    #[error("is an address, not a name")]
    Address,
    /// Letters beyond ASCII that make no internationalised name (UTS 46).
    #[error("is no valid internationalised name")]
    NotInternational,
}

impl<'a> Pattern<'a> {
    /// Reads `ads.example` (itself), `*.ads.example` (all below it), `.ads.example` (both) or `*` (every name). Upper case, a dot at
    /// the end and letters beyond ASCII are taken and made canonical.
    ///
    /// # Errors
    ///
    /// Why it is no name.
    pub fn parse(text: &'a str) -> Result<Self, BadName> {
        let (name, reach) = match text.strip_prefix("*.") {
            Some(name) => (name, Reach::Below),
            None => match text.strip_prefix('.') {
                Some(name) => (name, Reach::Both),
                None if text == "*" => return Ok(Self::every_name()),
                None => (text, Reach::Itself),
            },
        };
        Self::new(name, reach)
    }

    /// The entry of a name.
    ///
    /// # Errors
    ///
    /// Why it is no name.
    pub fn new(name: &'a str, reach: Reach) -> Result<Self, BadName> {
        Ok(Self {
            name: canonical(name)?,
            reach,
        })
    }

    fn every_name() -> Self {
        Self {
            name: Cow::Borrowed(""),
            reach: Reach::Below,
        }
    }

    /// The canonical name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The canonical name, given away.
    pub fn into_name(self) -> Cow<'a, str> {
        self.name
    }

    /// What it stands for.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Whether the name has one part only, as `com`, or none: such an entry may stand for half of the network.
    pub fn is_top_level(&self) -> bool {
        !self.name.contains('.')
    }

    /// Without the text that it was read from.
    pub fn into_owned(self) -> Pattern<'static> {
        Pattern {
            name: Cow::Owned(self.name.into_owned()),
            reach: self.reach,
        }
    }
}

impl fmt::Display for Pattern<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            return f.write_str("*");
        }
        write!(f, "{}{}", self.reach.prefix(), self.name)
    }
}

/// A host name (RFC 1123 §2.1, with `_` as in the wild) in lower case, without the dot at the end.
fn canonical(text: &str) -> Result<Cow<'_, str>, BadName> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let name = if text.is_ascii() {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(text)
        }
    } else {
        // What is longer cannot become a name, and is not worth the tables.
        if text.len() > 4 * LONGEST_NAME {
            return Err(BadName::TooLong(text.len()));
        }
        let ascii = idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::EMPTY);
        let ascii = ascii.map_err(|_| BadName::NotInternational)?;
        // A full stop of another script becomes a dot.
        Cow::Owned(ascii.strip_suffix('.').unwrap_or(&ascii).to_owned())
    };
    check(&name)?;
    Ok(name)
}

fn check(name: &str) -> Result<(), BadName> {
    if name.is_empty() {
        return Err(BadName::Empty);
    }
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let (mut label, mut is_number) = (0, true);
    for (at, byte) in name.bytes().enumerate() {
        if byte == b'.' {
            if label == 0 {
                return Err(BadName::EmptyLabel);
            }
            (label, is_number) = (0, true);
        } else if is_good(byte) {
            label += 1;
            is_number &= byte.is_ascii_digit();
            if label > LONGEST_LABEL {
                let rest = name.as_bytes()[at..].iter();
                let more = rest.take_while(|byte| **byte != b'.').count() - 1;
                return Err(BadName::LabelTooLong(label + more));
            }
        } else if name.parse::<IpAddr>().is_ok() {
            return Err(BadName::Address);
        } else {
            let character = name[at..].chars().next().unwrap_or_default();
            return Err(BadName::Character(character));
        }
    }
    if label == 0 {
        return Err(BadName::EmptyLabel);
    }
    // No top-level domain is a number (RFC 3696 §2), so that addresses and names cannot be taken for each other.
    if is_number {
        return Err(BadName::Address);
    }
    if name.len() > LONGEST_NAME {
        return Err(BadName::TooLong(name.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_name() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", &label[..61]);
        for (text, shown) in [
            ("ads.example", "ads.example"),
            ("ADS.Example.", "ads.example"),
            ("*.ads.example", "*.ads.example"),
            (".ads.example", ".ads.example"),
            ("_dmarc.a-b.example", "_dmarc.a-b.example"),
            ("com", "com"),
            ("*", "*"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("*.BÜCHER.example", "*.xn--bcher-kva.example"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("1.2.3.4.in-addr.arpa", "1.2.3.4.in-addr.arpa"),
            ("0x.bet", "0x.bet"),
            (&longest, &longest),
        ] {
            let pattern = Pattern::parse(text).expect(text);
            assert_eq!(pattern.to_string(), shown, "{text}");
            // What is shown is read as the same again.
            assert_eq!(Pattern::parse(shown).expect(shown), pattern);
        }
    }

    #[test]
    fn what_is_none() {
        use BadName::{
            Address, Character, Empty, EmptyLabel, LabelTooLong, NotInternational, TooLong,
        };
        let label = "a".repeat(63);
        let too_long = format!("{label}.{label}.{label}.{}", &label[..62]);
        for (text, why) in [
            ("", Empty),
            (".", Empty),
            ("*.", Empty),
            ("a..example", EmptyLabel),
            ("..example", EmptyLabel),
            ("ad s.example", Character(' ')),
            ("a*.example", Character('*')),
            ("**.example", Character('*')),
            ("a/b.example", Character('/')),
            ("http://a.example", Character(':')),
            ("192.0.2.1", Address),
            ("2001:db8::1", Address),
            ("::", Address),
            ("a.7", Address),
            ("\u{ad}", Empty),
            ("ads.exa\u{fffd}mple", NotInternational),
            (too_long.as_str(), TooLong(254)),
            (&format!("{label}{label}.example"), LabelTooLong(126)),
        ] {
            assert_eq!(Pattern::parse(text), Err(why), "{text:?}");
        }
    }
}
