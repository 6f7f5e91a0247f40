//! What the kernel writes in front of each packet it logs, so that user space learns verdict and reason of a packet that it
//! did not decide itself.
//!
//! A [`LogTag`] becomes the NFLOG prefix of a rule (`pc:drop:rule:12`), and the prefix of a received packet becomes a
//! [`LogTag`] again. Names are those of [`engine::Reason::name`]. Not a log format for people.

use std::fmt;

use engine::{Essential, Impossible, Verdict};
use policy::{Direction, RuleId, SetId};

/// The longest text of a tag, in bytes. The kernel takes 127 (`NF_LOG_PREFIXLEN`).
pub const LONGEST: usize = 64;

/// Verdict and reason of a logged packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogTag {
    /// What the kernel did.
    pub outcome: Outcome,
    /// Why.
    pub cause: Cause,
}

/// What the kernel did with a logged packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It passed.
    Allow,
    /// It was dropped.
    Drop,
    /// It was dropped and its sender told.
    Reject,
    /// It was dropped and its source put into the ban set by the kernel.
    Ban,
    /// It is worth telling; the verdict comes from what stands after.
    Alert,
}

impl Outcome {
    const ALL: [Self; 5] = [
        Self::Allow,
        Self::Drop,
        Self::Reject,
        Self::Ban,
        Self::Alert,
    ];

    /// As it stands in the tag.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Ban => "ban",
            Self::Alert => "alert",
        }
    }

    /// The verdict on the packet; `None` for an alert, which decides nothing.
    #[must_use]
    pub const fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Allow => Some(Verdict::Allow),
            Self::Drop | Self::Ban => Some(Verdict::Drop),
            Self::Reject => Some(Verdict::Reject),
            Self::Alert => None,
        }
    }
}

/// Why the kernel decided so: an [`engine::Reason`] without what the kernel cannot know or a prefix cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The remote address is banned; by which prefix is for the ban table to say.
    Banned,
    /// The remote address is in a feed.
    Feed(SetId),
    /// Headers that no honest host sends.
    Impossible(Impossible),
    /// Conntrack says that the packet belongs to no flow and cannot begin one.
    Invalid,
    /// An ICMP error about an allowed flow, or a connection that such a flow announced.
    Related,
    /// A rule decided.
    Rule(RuleId),
    /// A `limit` rule matched and its source is over the rate.
    Limited(RuleId),
    /// The source is over the threshold of the `rate` detector.
    Rate,
    /// The source is over the threshold of the `syn_flood` detector.
    SynFlood,
    /// All sources together are.
    SynFloodOfAll,
    /// The source is over the threshold of the `icmp_flood` detector.
    IcmpFlood,
    /// The source is over the threshold of the `udp_flood` detector.
    UdpFlood,
    /// An ICMP error on its way out: what it quotes asked for something that is not there.
    Refusal,
    /// What a name server answers, for the names of addresses.
    Answer,
    /// No rule decided, and a network needs it.
    Essential(Essential),
    /// No rule decided.
    Default(Direction),
}

impl Cause {
    /// Every cause that carries no number.
    fn plain() -> impl Iterator<Item = Self> {
        let single = [
            Self::Banned,
            Self::Invalid,
            Self::Related,
            Self::Rate,
            Self::SynFlood,
            Self::SynFloodOfAll,
            Self::IcmpFlood,
            Self::UdpFlood,
            Self::Refusal,
            Self::Answer,
        ];
        single
            .into_iter()
            .chain(Impossible::ALL.iter().copied().map(Self::Impossible))
            .chain(Essential::ALL.iter().copied().map(Self::Essential))
            .chain(Direction::ALL.into_iter().map(Self::Default))
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::Feed(_) => "feed",
            Self::Impossible(kind) => kind.name(),
            Self::Invalid => "invalid",
            Self::Related => "related",
            Self::Rule(_) => "rule",
            Self::Limited(_) => "limited",
            Self::Rate => "flood-rate",
            Self::SynFlood => "flood-syn",
            Self::SynFloodOfAll => "flood-syn-of-all",
            Self::IcmpFlood => "flood-icmp",
            Self::UdpFlood => "flood-udp",
            Self::Refusal => "refusal",
            Self::Answer => "answer",
            Self::Essential(kind) => kind.name(),
            Self::Default(Direction::In) => "default-in",
            Self::Default(Direction::Out) => "default-out",
            Self::Default(Direction::Forward) => "default-forward",
        }
    }

    const fn number(self) -> Option<u32> {
        match self {
            Self::Feed(set) => Some(set.0),
            Self::Rule(rule) | Self::Limited(rule) => Some(rule.0),
            _ => None,
        }
    }

    fn from_parts(word: &str, number: Option<u32>) -> Option<Self> {
        match (word, number) {
            ("feed", Some(set)) => Some(Self::Feed(SetId(set))),
            ("rule", Some(rule)) => Some(Self::Rule(RuleId(rule))),
            ("limited", Some(rule)) => Some(Self::Limited(RuleId(rule))),
            (_, None) => Self::plain().find(|cause| cause.word() == word),
            _ => None,
        }
    }

    /// The name of the kernel's counter for it: `rule_12`, `default_in`.
    #[must_use]
    pub fn counter(self) -> String {
        let word = self.word().replace('-', "_");
        match self.number() {
            Some(number) => format!("{word}_{number}"),
            None => word,
        }
    }

    /// The cause that a counter of this name counts; `None` for a name that [`Cause::counter`] never gives.
    #[must_use]
    pub fn from_counter(name: &str) -> Option<Self> {
        let (word, number) = match name.rsplit_once('_') {
            Some((word, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                (word, Some(parse_number(digits)?))
            }
            _ => (name, None),
        };
        Self::from_parts(&word.replace('_', "-"), number)
    }
}

/// Digits as [`Cause`] prints them: no sign, no leading zero.
fn parse_number(digits: &str) -> Option<u32> {
    let number = digits.parse().ok()?;
    (digits == format!("{number}")).then_some(number)
}

impl LogTag {
    /// A tag.
    #[must_use]
    pub const fn new(outcome: Outcome, cause: Cause) -> Self {
        Self { outcome, cause }
    }

    /// Reads the prefix of a logged packet; `None` when it is not one of ours.
    #[must_use]
    pub fn parse(prefix: &str) -> Option<Self> {
        let (outcome, cause) = prefix.strip_prefix("pc:")?.split_once(':')?;
        let outcome = Outcome::ALL
            .into_iter()
            .find(|known| known.name() == outcome)?;
        let cause = match cause.split_once(':') {
            Some((word, digits)) => Cause::from_parts(word, Some(parse_number(digits)?))?,
            None => Cause::from_parts(cause, None)?,
        };
        Some(Self { outcome, cause })
    }
}

/// As it stands in the prefix: `pc:drop:rule:12`; at most [`LONGEST`] bytes, none of which nft would need to have escaped.
impl fmt::Display for LogTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pc:{}:{}", self.outcome.name(), self.cause.word())?;
        match self.cause.number() {
            Some(number) => write!(f, ":{number}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn causes() -> impl Iterator<Item = Cause> {
        Cause::plain().chain([0, 7, u32::MAX].into_iter().flat_map(|number| {
            [
                Cause::Feed(SetId(number)),
                Cause::Rule(RuleId(number)),
                Cause::Limited(RuleId(number)),
            ]
        }))
    }

    #[test]
    fn every_tag_and_counter_reads_back_and_fits() {
        let mut counters = std::collections::HashSet::new();
        for cause in causes() {
            assert!(counters.insert(cause.counter()), "{}", cause.counter());
            assert_eq!(Cause::from_counter(&cause.counter()), Some(cause));
            for outcome in Outcome::ALL {
                let tag = LogTag::new(outcome, cause);
                let text = tag.to_string();
                assert!(text.len() <= LONGEST, "{text}");
                assert_eq!(LogTag::parse(&text), Some(tag), "{text}");
            }
        }
    }

    #[test]
    fn what_is_not_ours_is_none() {
        for text in [
            "",
            "pc:",
            "pc:drop",
            "pc:drop:",
            "pc:drop:rule",
            "pc:drop:rule:",
            "pc:drop:rule:+1",
            "pc:drop:rule:01",
            "pc:drop:rule:4294967296",
            "pc:drop:banned:1",
            "pc:drop:rule:1:2",
            "PC:drop:banned",
            "pc:lost:banned",
            "[UFW BLOCK] ",
        ] {
            assert_eq!(LogTag::parse(text), None, "{text:?}");
        }
        for name in [
            "",
            "rule",
            "rule_",
            "rule_01",
            "banned_1",
            "_",
            "default-in",
        ] {
            assert_ne!(
                Cause::from_counter(name).map(Cause::counter).as_deref(),
                Some(""),
                "{name:?}"
            );
        }
        assert_eq!(Cause::from_counter("rule_"), None);
        assert_eq!(Cause::from_counter("rule_01"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_what_parses_prints_itself(text in "(pc:)?[a-z:0-9\\-]{0,40}|\\PC{0,60}") {
            if let Some(tag) = LogTag::parse(&text) {
                proptest::prop_assert_eq!(tag.to_string(), text.clone());
            }
            let _ = Cause::from_counter(&text);
        }
    }
}
