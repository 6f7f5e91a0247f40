//! The plan: a policy with its names resolved and its sets merged, as the engine and every kernel backend execute it.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::address::{AddressSet, address_key};
use crate::content::Content;
use crate::dns::DnsFilter;
use crate::port::PortSet;
use crate::protocol::Protocols;
use crate::settings::{BanSettings, Detect, Limits, LogSettings, Protect};
use crate::time::Timestamp;

/// What is executed. Immutable once made.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plan {
    /// Whether verdicts are enforced or only reported.
    pub mode: Mode,
    /// What the kernel does with packets it would hand up while the daemon is gone.
    pub on_failure: OnFailure,
    /// What happens to packets that no rule decides.
    pub default: Defaults,
    /// Whether what a network needs (loopback, neighbour discovery, …) is allowed after the rules and before the default.
    pub essentials: bool,
    /// The rules in order; the first that matches decides. `rules[i].id` is `i`.
    pub rules: Vec<Rule>,
    /// The named sets; `sets[i]` has [`SetId`] `i`.
    pub sets: Vec<NamedSet>,
    /// Sets whose addresses are dropped before the rules.
    pub feeds: Vec<SetId>,
    /// What can never be banned or dropped by a feed.
    pub protect: Protect,
    /// Bans.
    pub ban: BanSettings,
    /// Detectors.
    pub detect: Detect,
    /// Ceilings.
    pub limits: Limits,
    /// Records.
    pub log: LogSettings,
    /// Names that are not resolved.
    pub dns: Option<DnsFilter>,
}

impl Plan {
    /// Whether packets have to be looked into: for content rules, or for names that are not resolved.
    pub fn looks_inside(&self) -> bool {
        self.dns.is_some() || self.rules.iter().any(|rule| rule.content.is_some())
    }

    /// The addresses that must not be dropped: the policy's own, and those that the backend has discovered, where it may.
    pub fn protected(&self, discovered: &AddressSet) -> AddressSet {
        let listed = self
            .protect
            .sets
            .iter()
            .fold(self.protect.addresses.clone(), |all, set| {
                all.union(&self.sets[set.0 as usize].addresses)
            });
        if self.protect.discover {
            listed.union(discovered)
        } else {
            listed
        }
    }
}

/// Whether verdicts are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Evaluate, log and show; block nothing.
    #[default]
    Observe,
    /// Do it.
    Enforce,
}

impl Mode {
    /// `observe`, `enforce`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// What the kernel does with packets of content rules while the daemon is gone. Everything else stays as last applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// They pass.
    Open,
    /// They are dropped.
    Closed,
    /// They pass when the rules without content conditions let them pass; the same as `Open` for queued packets.
    #[default]
    LastKnown,
}

/// Where a packet is going, seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// To this host.
    In,
    /// From this host.
    Out,
    /// Through this host.
    Forward,
}

impl Direction {
    /// All three.
    pub const ALL: [Self; 3] = [Self::In, Self::Out, Self::Forward];

    /// As the policy writes it: `in`, `out`, `forward`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Forward => "forward",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of directions. A rule that names none covers all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Directions(u8);

impl Directions {
    /// All three.
    pub const ALL: Self = Self(0b111);

    /// One direction.
    pub const fn one(direction: Direction) -> Self {
        Self(1 << direction as u8)
    }

    /// Whether the direction is in the set.
    #[inline]
    pub const fn contains(self, direction: Direction) -> bool {
        self.0 >> direction as u8 & 1 == 1
    }

    /// What is in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every direction of `other` is in this set.
    pub const fn contains_set(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set holds nothing.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The directions in the set.
    pub fn iter(self) -> impl Iterator<Item = Direction> {
        Direction::ALL
            .into_iter()
            .filter(move |&direction| self.contains(direction))
    }
}

/// What a default may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// Let it pass.
    Allow,
    /// Drop it in silence.
    Deny,
    /// Drop it and tell the sender: TCP RST, else ICMP "administratively prohibited".
    Reject,
}

/// `[default]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// For packets to this host.
    pub inbound: DefaultAction,
    /// For packets from this host.
    pub outbound: DefaultAction,
    /// For packets through this host.
    pub forward: DefaultAction,
}

impl Defaults {
    /// The default of a direction.
    pub const fn of(&self, direction: Direction) -> DefaultAction {
        match direction {
            Direction::In => self.inbound,
            Direction::Out => self.outbound,
            Direction::Forward => self.forward,
        }
    }
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            inbound: DefaultAction::Deny,
            outbound: DefaultAction::Allow,
            forward: DefaultAction::Deny,
        }
    }
}

/// A rule's place in the order, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// A named set's place in [`Plan::sets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetId(pub u32);

/// A named set of addresses, merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSet {
    /// The name that rules use after `@`: letters, digits, `_`, `-`; at most 48 bytes.
    pub name: String,
    /// Its addresses.
    pub addresses: AddressSet,
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Position {
    /// The file, as the user named it.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Let it pass.
    Allow,
    /// Drop it in silence.
    Deny,
    /// Drop it and tell the sender.
    Reject,
    /// Let it pass within [`Rule::rate`], drop what is over it.
    Limit,
    /// Drop it and ban its source for this long ([`BanSettings::duration`] when the rule does not say).
    Ban(Duration),
}

/// A rule with its names resolved. A packet matches when every part matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its place in the order.
    pub id: RuleId,
    /// As the user named it, or its text in short form.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// Which way.
    pub directions: Directions,
    /// Upper-layer protocols.
    pub protocols: Protocols,
    /// Source addresses.
    pub from: AddressMatch,
    /// Destination addresses.
    pub to: AddressMatch,
    /// Source ports.
    pub source_port: PortSet,
    /// Destination ports.
    pub port: PortSet,
    /// The interface the packet came in by; for [`Direction::Out`] the one it leaves by.
    pub interface: Option<Interface>,
    /// Whether each match is recorded.
    pub log: bool,
    /// What the payload must hold.
    pub content: Option<Content>,
    /// For [`Action::Limit`], and for nothing else.
    pub rate: Option<Rate>,
    /// From this moment on the rule matches nothing.
    pub expires: Option<Timestamp>,
    /// Where it was written.
    pub position: Position,
}

/// A condition on an address.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum AddressMatch {
    /// Every address of both families.
    #[default]
    Any,
    /// The addresses listed in the rule, and those of the named sets.
    Of {
        /// Listed in the rule itself.
        inline: AddressSet,
        /// Named with `@`.
        sets: Vec<SetId>,
    },
}

impl AddressMatch {
    /// Whether the address matches; `sets` are [`Plan::sets`].
    #[inline]
    pub fn matches(&self, address: IpAddr, sets: &[NamedSet]) -> bool {
        match self {
            Self::Any => true,
            Self::Of {
                inline,
                sets: named,
            } => {
                let key = address_key(address);
                inline.contains_key(key)
                    || named
                        .iter()
                        .any(|set| sets[set.0 as usize].addresses.contains_key(key))
            }
        }
    }

    /// All addresses that match, in one set.
    pub fn resolve(&self, sets: &[NamedSet]) -> AddressSet {
        match self {
            Self::Any => AddressSet::all(),
            Self::Of {
                inline,
                sets: named,
            } => named.iter().fold(inline.clone(), |all, set| {
                all.union(&sets[set.0 as usize].addresses)
            }),
        }
    }
}

/// An interface by name, or by the begin of its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Interface {
    /// Exactly this name (at most 15 bytes, `IFNAMSIZ` − 1).
    Named(String),
    /// Every name that begins so; written with a trailing `*`.
    Prefix(String),
}

impl Interface {
    /// Whether an interface of this name matches. A packet whose interface is not known matches no interface condition.
    pub fn matches(&self, name: Option<&str>) -> bool {
        match (self, name) {
            (_, None) => false,
            (Self::Named(wanted), Some(name)) => wanted == name,
            (Self::Prefix(begin), Some(name)) => name.starts_with(begin.as_str()),
        }
    }
}

/// A token bucket for each source address: `burst` tokens at most, `amount` of them refilled each `per`.
/// The same arithmetic as the kernel's `limit` expression (net/netfilter/nft_limit.c); of bytes, what it can count is
/// [`ByteBucket`](crate::ByteBucket).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Units in each `per`.
    pub amount: NonZeroU32,
    /// What is counted.
    pub unit: RateUnit,
    /// One second, minute, hour or day.
    pub per: Duration,
    /// Units that may come at once; at least 1.
    pub burst: NonZeroU32,
}

/// What a [`Rate`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RateUnit {
    /// First packets of flows.
    Connections,
    /// Packets, those of established flows too.
    Packets,
    /// Bytes of the IP packet, those of established flows too.
    Bytes,
}

impl OnFailure {
    /// Whether packets pass that cannot be looked at.
    #[must_use]
    pub fn passes(self) -> bool {
        self != Self::Closed
    }
}

impl Rule {
    /// Whether a flow may pass because of its headers, by this rule alone.
    #[must_use]
    pub fn lets_pass(&self) -> bool {
        matches!(self.action, Action::Allow | Action::Limit) && self.content.is_none()
    }

    /// Whether it measures every packet of the flows that it lets pass, not their first packets alone.
    #[must_use]
    pub fn measures_every_packet(&self) -> bool {
        self.action == Action::Limit
            && self.content.is_none()
            && self
                .rate
                .is_some_and(|rate| rate.unit != RateUnit::Connections)
    }

    /// Whether a packet could match both; errs towards "yes".
    #[must_use]
    pub fn may_meet(&self, other: &Self) -> bool {
        let (a, b) = (self, other);
        let inline = |condition: &AddressMatch| match condition {
            AddressMatch::Of { inline, sets } if sets.is_empty() => Some(inline.clone()),
            _ => None,
        };
        let addresses_meet = |a: &AddressMatch, b: &AddressMatch| match (inline(a), inline(b)) {
            (Some(a), Some(b)) => !a.intersection(&b).is_empty(),
            _ => true,
        };
        let interfaces_meet = match (&a.interface, &b.interface) {
            (Some(Interface::Named(a)), Some(Interface::Named(b))) => a == b,
            (Some(Interface::Named(name)), Some(Interface::Prefix(begin)))
            | (Some(Interface::Prefix(begin)), Some(Interface::Named(name))) => {
                name.starts_with(begin)
            }
            (Some(Interface::Prefix(a)), Some(Interface::Prefix(b))) => {
                a.starts_with(b.as_str()) || b.starts_with(a.as_str())
            }
            (None, _) | (_, None) => true,
        };
        !a.directions.intersection(b.directions).is_empty()
            && !a.protocols.intersection(b.protocols).is_empty()
            && interfaces_meet
            && !a.port.intersection(&b.port).is_empty()
            && !a.source_port.intersection(&b.source_port).is_empty()
            && addresses_meet(&a.from, &b.from)
            && addresses_meet(&a.to, &b.to)
    }
}
