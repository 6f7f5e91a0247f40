//! What is in force, for whoever asks: rules, sets, and what would become of a packet or a name.

use engine::Probe;
use ipnet::IpNet;
use policy::{AddressMatch, Direction, HostField, Mode, NamedSet, Timestamp, protocol};

use super::Guard;
use crate::api;
use crate::record::explain::action_name;
use crate::record::{ban, decided};

/// Prefixes of a set that an answer holds.
const PREFIXES: usize = 10_000;
/// Addresses of a rule that are written out.
const WRITTEN_OUT: usize = 8;

/// Why nothing can be said of what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LookUpError {
    /// No such set.
    #[error("there is no set {name:?}; `portcullis sets` lists them")]
    NoSet {
        /// What was asked for.
        name: String,
    },
    /// A packet makes no sense.
    #[error("{what}; write a packet like: in tcp 203.0.113.7:40000 to 192.0.2.1:22")]
    NoPacket {
        /// What makes no sense.
        what: String,
    },
    /// A name is none.
    #[error(transparent)]
    NoName(#[from] crate::names::BadName),
}

impl Guard {
    /// The rules in order.
    pub fn rules(&mut self) -> Vec<api::Rule> {
        let hits = self.rule_hits();
        let plan = &self.in_force.plan;
        let name = |address: &AddressMatch| address_text(address, &plan.sets);
        plan.rules
            .iter()
            .zip(hits)
            .map(|(rule, hits)| api::Rule {
                id: rule.id.0,
                name: rule.name.clone(),
                action: action_name(rule.action).to_owned(),
                directions: rule
                    .directions
                    .iter()
                    .map(|direction| direction.name().to_owned())
                    .collect(),
                protocol: rule.protocols.to_string(),
                from: name(&rule.from),
                to: name(&rule.to),
                source_port: rule.source_port.to_string(),
                port: rule.port.to_string(),
                interface: rule.interface.as_ref().map(|interface| match interface {
                    policy::Interface::Named(name) => name.clone(),
                    policy::Interface::Prefix(begin) => format!("{begin}*"),
                }),
                log: rule.log,
                content: rule.content.is_some(),
                sni: hosts_text(rule, HostField::Sni),
                http_host: hosts_text(rule, HostField::HttpHost),
                expires: rule.expires.map(Into::into),
                file: rule.position.file.clone(),
                line: rule.position.line,
                position: rule.position.to_string(),
                hits,
            })
            .collect()
    }

    /// The named sets.
    pub fn sets(&self) -> Vec<api::Set> {
        let plan = &self.in_force.plan;
        plan.sets
            .iter()
            .enumerate()
            .map(|(at, set)| {
                let uses = |address: &AddressMatch| {
                    matches!(address, AddressMatch::Of { sets, .. } if sets.iter().any(|id| id.0 as usize == at))
                };
                api::Set {
                    name: set.name.clone(),
                    prefixes: set.addresses.prefixes().count(),
                    feed: plan.feeds.iter().any(|id| id.0 as usize == at),
                    used_by: plan
                        .rules
                        .iter()
                        .filter(|rule| uses(&rule.from) || uses(&rule.to))
                        .map(|rule| rule.name.clone())
                        .collect(),
                }
            })
            .collect()
    }

    /// What is in a set.
    ///
    /// # Errors
    ///
    /// When there is no such set.
    pub fn set(&self, name: &str) -> Result<api::SetAddresses, LookUpError> {
        let wanted = name.strip_prefix('@').unwrap_or(name);
        let set = self
            .in_force
            .plan
            .sets
            .iter()
            .find(|set| set.name == wanted)
            .ok_or_else(|| LookUpError::NoSet {
                name: wanted.to_owned(),
            })?;
        Ok(api::SetAddresses {
            name: set.name.clone(),
            prefixes: set
                .addresses
                .prefixes()
                .take(PREFIXES)
                .map(|prefix| prefix.to_string())
                .collect(),
            count: set.addresses.prefixes().count(),
        })
    }

    /// What would become of packets.
    ///
    /// # Errors
    ///
    /// When one of them makes no sense.
    pub fn test(&self, request: &api::TestRequest) -> Result<Vec<api::TestResult>, LookUpError> {
        let now = self.clock.now();
        request
            .packets
            .iter()
            .map(|packet| {
                let probe = probe(packet)?;
                let decision = self.engine.test(now, &probe);
                Ok(api::TestResult {
                    mode: Some(self.mode().name().to_owned()),
                    ..result(&self.in_force.plan, &probe, decision)
                })
            })
            .collect()
    }

    /// What would become of questions for names.
    ///
    /// # Errors
    ///
    /// When one of them is none.
    pub fn dns_test(
        &self,
        request: &api::DnsTestRequest,
    ) -> Result<Vec<api::DnsTestResult>, LookUpError> {
        let judge = |name: &String| {
            Ok(api::DnsTestResult {
                mode: Some(self.mode().name().to_owned()),
                ..crate::names::judge(&self.in_force.plan, name)?
            })
        };
        request.names.iter().map(judge).collect()
    }

    /// The text in force.
    pub fn policy_text(&self) -> api::PolicyText {
        let candidate = &self.in_force.candidate;
        api::PolicyText {
            source: candidate.source.name(),
            text: candidate.text.clone(),
            format: candidate.format,
            digest: candidate.digest.clone(),
        }
    }

    /// How a prefix stands with bans and protection.
    pub fn standing(&self, prefix: IpNet) -> Standing {
        let now = self.clock.now();
        let in_force = self.engine.bans().filter(|held| held.expires > now);
        let (mut whole, parts): (Vec<&engine::Ban>, Vec<&engine::Ban>) = in_force
            .filter(|held| held.prefix.contains(&prefix) || prefix.contains(&held.prefix))
            .partition(|held| held.prefix.contains(&prefix));
        whole.sort_by_key(|held| std::cmp::Reverse(held.prefix.prefix_len()));
        let of_part = parts
            .iter()
            .copied()
            .min_by_key(|held| (held.prefix.prefix_len(), held.prefix))
            .filter(|_| whole.is_empty());
        let mut whole = whole.into_iter();
        let ban = whole.next().or(of_part);
        Standing {
            ban: ban.map(|held| self.shown(held, now)),
            around: whole.map(|held| self.shown(held, now)).collect(),
            parts: parts.len() - usize::from(of_part.is_some()),
            protected: self.protection(prefix),
            history: self.ban_history(prefix, now),
            feeds: self.feeds_with(prefix),
            rules: self.rules_naming(prefix),
            mode: self.mode(),
        }
    }

    /// Of the prefix itself, or of what an IPv6 address is banned by.
    fn ban_history(&self, prefix: IpNet, now: Timestamp) -> Option<api::BanHistory> {
        let subnet = match prefix {
            IpNet::V6(v6) if v6.prefix_len() > 64 => IpNet::new(prefix.addr(), 64).ok(),
            IpNet::V4(_) | IpNet::V6(_) => None,
        };
        let known = [Some(prefix), subnet]
            .into_iter()
            .flatten()
            .map(|prefix| self.engine.offender(prefix.trunc(), now))
            .find(|offender| offender.times > 0)?;
        Some(api::BanHistory {
            prefix: known.prefix,
            times_banned: known.times,
            offences: known.offences,
            last: known.last.into(),
            lifted: known.lifted.map(Into::into),
        })
    }

    /// Why no ban, feed or detector may drop it, if so.
    pub(super) fn protection(&self, prefix: IpNet) -> Option<String> {
        let key = policy::address_key(prefix.addr());
        self.engine.protected().contains_key(key).then(|| {
            let holds = |net: &IpNet| net.contains(&prefix);
            if self.allowed.keys().any(holds) {
                return "on the runtime allow list (`portcullis allow --remove` takes it off)"
                    .to_owned();
            }
            // The narrowest says most: an own address lies in the network of its containers.
            let found = self
                .discovered
                .protected
                .iter()
                .filter(|(net, _)| holds(net));
            let found = found.max_by_key(|(net, _)| net.prefix_len());
            match found {
                Some((_, "own")) => "an address of this host".to_owned(),
                Some((_, "broadcast")) => {
                    "the broadcast address of a network of this host".to_owned()
                }
                Some((_, "guests")) => {
                    "in the network of this host's containers or virtual machines".to_owned()
                }
                Some((_, "session")) => "the peer of a live SSH session".to_owned(),
                Some((_, why)) => format!("a {why} of this host"),
                None => "listed under [protect]".to_owned(),
            }
        })
    }
}

/// How a prefix stands with bans and protection.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The narrowest ban in force that covers it; if none does, the widest of a part of it.
    pub ban: Option<api::Ban>,
    /// Other bans that cover it.
    pub around: Vec<api::Ban>,
    /// How many other bans are of a part of it.
    pub parts: usize,
    /// Why it may not be banned, if so.
    pub protected: Option<String>,
    /// How often it was banned.
    pub history: Option<api::BanHistory>,
    /// The feeds that hold it.
    pub feeds: Vec<api::WhyFeed>,
    /// The first rules whose source or destination it is by name.
    pub rules: Vec<String>,
    /// Whether anything is blocked.
    pub mode: Mode,
}

/// A hypothetical packet as the engine takes it.
///
/// # Errors
///
/// When it makes no sense.
pub fn probe(packet: &api::TestPacket) -> Result<Probe, LookUpError> {
    let wrong = |what: String| LookUpError::NoPacket { what };
    let direction = Direction::ALL
        .into_iter()
        .find(|direction| direction.name() == packet.direction)
        .ok_or_else(|| wrong(format!("{:?} is no direction", packet.direction)))?;
    let named = protocol::NAMES
        .iter()
        .find(|(name, _)| *name == packet.protocol);
    let number = named
        .map(|(_, number)| *number)
        .or_else(|| packet.protocol.parse().ok())
        .ok_or_else(|| wrong(format!("{:?} is no protocol", packet.protocol)))?;
    let address = |text: &str| {
        text.parse()
            .map_err(|_| wrong(format!("{text:?} is no address")))
    };
    Ok(Probe {
        direction,
        protocol: number,
        source: address(&packet.source)?,
        destination: address(&packet.destination)?,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
        icmp: None,
        interface: packet.interface.clone(),
        payload: match (&packet.payload_hex, &packet.sni, &packet.http_host) {
            (None, None, None) => Vec::new(),
            (Some(text), None, None) => {
                bytes(text).ok_or_else(|| wrong(format!("{text:?} is no hexadecimal payload")))?
            }
            (None, Some(host), None) => HostField::Sni.first_bytes(host),
            (None, None, Some(host)) => HostField::HttpHost.first_bytes(host),
            _ => return Err(wrong("payload, sni and http_host at once".to_owned())),
        },
    })
}

/// What became of it, as the API has it.
pub fn result(plan: &policy::Plan, probe: &Probe, decision: engine::Decision) -> api::TestResult {
    let tuple = wire::FiveTuple {
        source: probe.source,
        destination: probe.destination,
        protocol: probe.protocol,
        source_port: probe.source_port,
        destination_port: probe.destination_port,
    };
    api::TestResult {
        decided: decided(plan, decision.verdict, decision.reason),
        packet: format!("{} {}", probe.direction, ban::tuple(&tuple)),
        mode: None,
    }
}

/// Hexadecimal digits, with or without space between bytes.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs
        .remainder()
        .is_empty()
        .then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The hosts that a rule names there, and how many more there are.
fn hosts_text(rule: &policy::Rule, field: HostField) -> Vec<String> {
    let hosts = rule.content.as_ref().and_then(policy::Content::hosts);
    let hosts = hosts.filter(|(of, _)| *of == field).map(|(_, hosts)| hosts);
    let hosts = hosts.unwrap_or_default();
    let more = hosts.len().saturating_sub(WRITTEN_OUT);
    let more = (more > 0).then(|| format!("and {more} more"));
    let written = hosts.iter().take(WRITTEN_OUT).map(ToString::to_string);
    written.chain(more).collect()
}

fn address_text(address: &AddressMatch, sets: &[NamedSet]) -> String {
    let AddressMatch::Of {
        inline,
        sets: named,
    } = address
    else {
        return "any".to_owned();
    };
    let names = named
        .iter()
        .filter_map(|id| sets.get(id.0 as usize))
        .map(|set| format!("@{}", set.name));
    let count = inline.prefixes().count();
    let more = (count > WRITTEN_OUT).then(|| format!("and {} more", count - WRITTEN_OUT));
    inline
        .prefixes()
        .take(WRITTEN_OUT)
        .map(crate::record::explain::short)
        .chain(more)
        .chain(names)
        .collect::<Vec<_>>()
        .join(", ")
}
