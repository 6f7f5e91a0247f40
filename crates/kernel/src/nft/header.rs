//! The header conditions of a rule, as the tree cuts them and nft tests them.

#[cfg(test)]
use policy::address::{IPV4_FIRST, IPV4_LAST};
use policy::protocol::{DCCP, SCTP, TCP, UDP, UDPLITE};
use policy::{Direction, Interface, PortSet, Protocols, Rule, RuleId, Timestamp};

use super::list::{Address, Family, Lists, Side, Test};
use super::table::Table;

/// Where a packet goes that meets an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Target {
    /// To the chain of a rule.
    Rule(RuleId),
    /// To the chain of a rule that bans its source, for packets whose source is this host: nothing is banned then.
    RuleOut(RuleId),
    /// To the chain that measures packets of established flows for a `limit` rule.
    Meter(RuleId),
    /// Back, unmeasured: the rule that let the flow pass measures no packets.
    Unmeasured,
    /// Out, not looked at: the rule that let the flow pass stands before those that look.
    Passed,
}

/// One line of a list in first-match order.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) header: Header,
    pub(super) target: Target,
    /// For people; written where the list is short.
    pub(super) remark: String,
}

/// What a packet's headers must be.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) protocols: Protocols,
    pub(super) source_port: PortSet,
    pub(super) port: PortSet,
    pub(super) from: Address,
    pub(super) to: Address,
    pub(super) interface: Option<Interface>,
    pub(super) expires: Option<Timestamp>,
}

/// A set of conditions of a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Conditions(u8);

impl Conditions {
    pub(super) const PROTOCOL: Self = Self(1);
    pub(super) const SOURCE_PORT: Self = Self(2);
    pub(super) const PORT: Self = Self(4);
    pub(super) const FROM: Self = Self(8);
    pub(super) const TO: Self = Self(16);
    pub(super) const INTERFACE: Self = Self(32);
    pub(super) const EXPIRES: Self = Self(64);

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The protocols whose ports a rule can name.
pub(super) fn with_ports() -> Protocols {
    [TCP, UDP, SCTP, UDPLITE, DCCP].into_iter().collect()
}

impl Header {
    /// The conditions of a rule; `None` when no packet can meet them.
    pub(super) fn of(rule: &Rule, lists: &mut Lists<'_>) -> Option<Self> {
        let names_ports = !rule.port.is_any() || !rule.source_port.is_any();
        let protocols = if names_ports {
            rule.protocols.intersection(with_ports())
        } else {
            rule.protocols
        };
        let header = Self {
            protocols,
            source_port: rule.source_port.clone(),
            port: rule.port.clone(),
            from: lists.condition(&rule.from),
            to: lists.condition(&rule.to),
            interface: rule.interface.clone(),
            expires: rule.expires,
        };
        let empty = header.protocols.is_empty()
            || header.port.is_empty()
            || header.source_port.is_empty()
            || !Family::BOTH
                .into_iter()
                .any(|family| header.reaches(family));
        (!empty).then_some(header)
    }

    /// Whether a packet of the family can match.
    pub(super) fn reaches(&self, family: Family) -> bool {
        [&self.from, &self.to]
            .into_iter()
            .all(|side| side.set().is_none_or(|set| family.any(set)))
    }

    /// What has to be tested.
    pub(super) fn conditions(&self) -> Conditions {
        [
            (!self.protocols.is_any(), Conditions::PROTOCOL),
            (!self.source_port.is_any(), Conditions::SOURCE_PORT),
            (!self.port.is_any(), Conditions::PORT),
            (self.from.set().is_some(), Conditions::FROM),
            (self.to.set().is_some(), Conditions::TO),
            (self.interface.is_some(), Conditions::INTERFACE),
            (self.expires.is_some(), Conditions::EXPIRES),
        ]
        .into_iter()
        .filter(|(asked, _)| *asked)
        .fold(Conditions::default(), |all, (_, condition)| {
            all.with(condition)
        })
    }

    /// The nft expressions, one for each kernel rule that is needed, that test the conditions in `open`. One empty string
    /// when nothing has to be tested. `family`: when it is known already.
    pub(super) fn expressions(
        &self,
        open: Conditions,
        family: Option<Family>,
        direction: Direction,
        lists: &mut Lists<'_>,
        table: &mut Table,
    ) -> Vec<String> {
        let mut before = Vec::new();
        if let Some(interface) = self
            .interface
            .as_ref()
            .filter(|_| open.has(Conditions::INTERFACE))
        {
            let field = if direction == Direction::Out {
                "oifname"
            } else {
                "iifname"
            };
            before.push(format!("{field} {}", interface_text(interface)));
        }
        let mut after = self.transport(open);
        if let Some(expires) = self.expires.filter(|_| open.has(Conditions::EXPIRES)) {
            // Seconds since the epoch: a date would be read in the time zone of whoever runs nft.
            after.push(format!(
                "meta time < {}",
                expires.as_nanos().div_ceil(1_000_000_000)
            ));
        }
        self.address_tests(open, family, lists, table)
            .into_iter()
            .map(|addresses| {
                let parts = before.iter().chain(&addresses).chain(&after);
                parts.map(String::as_str).collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    /// Every way in which the addresses can match.
    fn address_tests(
        &self,
        open: Conditions,
        known: Option<Family>,
        lists: &mut Lists<'_>,
        table: &mut Table,
    ) -> Vec<Vec<String>> {
        if !open.has(Conditions::FROM) && !open.has(Conditions::TO) {
            return vec![Vec::new()];
        }
        let mut ways = Vec::new();
        for family in Family::BOTH {
            if known.is_some_and(|known| known != family) {
                continue;
            }
            let mut test = |wanted: &Address, side, condition| {
                if open.has(condition) {
                    lists.test(wanted, side, family, table)
                } else {
                    Test::Always
                }
            };
            let from = test(&self.from, Side::Source, Conditions::FROM);
            let to = test(&self.to, Side::Destination, Conditions::TO);
            match (from, to) {
                (Test::Never, _) | (_, Test::Never) => {}
                (Test::Always, Test::Always) if known.is_some() => ways.push(Vec::new()),
                (Test::Always, Test::Always) => {
                    ways.push(vec![format!("meta nfproto {}", family.nfproto())])
                }
                (Test::Either(ones), Test::Always) | (Test::Always, Test::Either(ones)) => {
                    ways.extend(ones.into_iter().map(|one| vec![one]));
                }
                (Test::Either(froms), Test::Either(tos)) => {
                    for from in &froms {
                        ways.extend(tos.iter().map(|to| vec![from.clone(), to.clone()]));
                    }
                }
            }
        }
        ways
    }

    fn transport(&self, open: Conditions) -> Vec<String> {
        let mut tests = Vec::new();
        let ports: Vec<(&str, &PortSet)> = [
            ("sport", &self.source_port, Conditions::SOURCE_PORT),
            ("dport", &self.port, Conditions::PORT),
        ]
        .into_iter()
        .filter(|(_, _, condition)| open.has(*condition))
        .map(|(field, ports, _)| (field, ports))
        .collect();
        let mut protocols = self.protocols.iter();
        let header = match (protocols.next(), protocols.next()) {
            (Some(TCP), None) => "tcp",
            (Some(UDP), None) => "udp",
            _ => "th",
        };
        // `tcp dport` tests the protocol by itself.
        let implied = header != "th" && !ports.is_empty();
        if open.has(Conditions::PROTOCOL) && !implied {
            tests.push(format!("meta l4proto {}", protocol_text(self.protocols)));
        }
        let header = if open.has(Conditions::PROTOCOL) {
            header
        } else {
            "th"
        };
        tests.extend(
            ports
                .into_iter()
                .map(|(field, ports)| format!("{header} {field} {}", port_text(ports))),
        );
        tests
    }
}

fn braced(mut elements: Vec<String>) -> String {
    match elements.len() {
        1 => elements.remove(0),
        _ => format!("{{ {} }}", elements.join(", ")),
    }
}

/// One protocol as nft writes it.
pub(super) fn protocol_name(protocol: u8) -> String {
    match policy::protocol::name(protocol) {
        Some(
            name @ ("tcp" | "udp" | "icmp" | "icmpv6" | "sctp" | "dccp" | "udplite" | "esp" | "ah"),
        ) => name.to_owned(),
        _ => protocol.to_string(),
    }
}

fn protocol_text(protocols: Protocols) -> String {
    braced(protocols.iter().map(protocol_name).collect())
}

/// A range as nft writes it.
pub(super) fn range_text(first: impl ToString, last: impl ToString) -> String {
    let (first, last) = (first.to_string(), last.to_string());
    if first == last {
        first
    } else {
        format!("{first}-{last}")
    }
}

fn port_text(ports: &PortSet) -> String {
    braced(
        ports
            .ranges()
            .iter()
            .map(|&(first, last)| range_text(first, last))
            .collect(),
    )
}

/// A name as nft reads it: a `*` at the end would make it a prefix.
fn interface_text(interface: &Interface) -> String {
    match interface {
        Interface::Named(name) => match name.strip_suffix('*') {
            Some(begin) => format!("\"{begin}\\*\""),
            None => format!("\"{name}\""),
        },
        Interface::Prefix(begin) => format!("\"{begin}*\""),
    }
}

/// Whether nft can be told this interface, and the kernel can have one of that name (`dev_valid_name`).
pub(super) fn interface_is_writable(interface: &Interface) -> bool {
    let (Interface::Named(name) | Interface::Prefix(name)) = interface;
    // nft counts the backslash before a `*` at the end.
    let escaped = matches!(interface, Interface::Named(name) if name.ends_with('*'));
    let forbidden =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\' | '/' | ':');
    !name.is_empty() && name.len() + usize::from(escaped) <= 15 && !name.contains(forbidden)
}

/// A packet as the self-check of the tree sees it.
#[cfg(test)]
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) protocol: u8,
    pub(super) source: u128,
    pub(super) destination: u128,
    pub(super) ports: (u16, u16),
    pub(super) interface: &'static str,
    pub(super) now: Timestamp,
}

#[cfg(test)]
impl Sample {
    pub(super) fn family(&self) -> Family {
        Family::of(self.source)
    }
}

#[cfg(test)]
impl Header {
    /// Whether a packet meets the conditions in `open`; the others are taken as met.
    pub(super) fn matches(&self, open: Conditions, packet: &Sample) -> bool {
        let ported = policy::protocol::has_ports(packet.protocol);
        let (source_port, port) = (
            ported.then_some(packet.ports.0),
            ported.then_some(packet.ports.1),
        );
        let address = |wanted: &Address, key| wanted.set().is_none_or(|set| set.contains_key(key));
        (!open.has(Conditions::PROTOCOL) || self.protocols.contains(packet.protocol))
            && (!open.has(Conditions::SOURCE_PORT) || self.source_port.matches(source_port))
            && (!open.has(Conditions::PORT) || self.port.matches(port))
            && (!open.has(Conditions::FROM) || address(&self.from, packet.source))
            && (!open.has(Conditions::TO) || address(&self.to, packet.destination))
            && (!open.has(Conditions::INTERFACE)
                || self
                    .interface
                    .as_ref()
                    .is_none_or(|wanted| wanted.matches(Some(packet.interface))))
            && (!open.has(Conditions::EXPIRES)
                || self.expires.is_none_or(|expires| packet.now < expires))
    }
}

#[cfg(test)]
/// Whether a key is an IPv4 address.
pub(super) const fn is_ipv4(key: u128) -> bool {
    key >= IPV4_FIRST && key <= IPV4_LAST
}
