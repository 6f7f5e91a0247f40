//! First contacts: which packets are evidence of a scan, and of what.
//!
//! Not every refused packet is. A late answer of a server that was asked, the echo of somebody else's flood (SYN-ACK, RST, ICMP
//! errors), a traceroute and what is shouted to everybody are honest traffic that nobody waits for.

use std::net::IpAddr;

use policy::{AddressSet, Direction, Timestamp, address, key_address, protocol};
use wire::{FiveTuple, TcpFlags};

use crate::evidence::Technique;
use crate::facts::Facts;
use crate::flow::Flow;
use crate::verdict::{Impossible, Invalid, Reason};

/// Where ephemeral ports begin (Linux, `ip_local_port_range`; others begin at 49152).
const EPHEMERAL: u16 = 32_768;
/// Where ports of well-known services end (RFC 6335 §6).
const WELL_KNOWN: u16 = 1_024;
/// Destinations of traceroute's UDP probes.
const TRACEROUTE: std::ops::RangeInclusive<u16> = 33_434..=33_534;

/// The chunk by which a client of SCTP goes on (RFC 9260 section 3.2).
const COOKIE_ECHO: u8 = 10;

/// A source asked for something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) source: IpAddr,
    pub(crate) direction: Direction,
    pub(crate) contact: Contact,
}

/// What was asked for – one port of one target, or one address – and how that went: all that is remembered of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contact {
    pub(crate) target: u128,
    /// When it was asked, which may be long before the answer.
    pub(crate) at: Timestamp,
    /// 0 for protocols without ports.
    pub(crate) port: u16,
    pub(crate) source_port: u16,
    pub(crate) protocol: u8,
    pub(crate) has_ports: bool,
    /// As long as that is not known, how it counts when it fails.
    pub(crate) outcome: Outcome,
    pub(crate) technique: Technique,
    /// Whether the target is known to be this host, whose addresses are one target together.
    pub(crate) is_own: bool,
    /// Whether it goes out into the world: from this host, or from a private address to a public one. Whoever scans so is on
    /// this side, and to meet many strangers is what clients do.
    pub(crate) goes_out: bool,
}

/// How a contact went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Denied, reset, refused or without an answer.
    Failed,
    /// The address was pinged; whether it answers says nothing on why it was asked.
    Pinged,
    /// Answered; for TCP by a whole handshake.
    Served,
}

impl Contact {
    /// The packet that asked.
    pub(crate) fn tuple(&self, source: IpAddr) -> FiveTuple {
        FiveTuple {
            source,
            destination: key_address(self.target),
            protocol: self.protocol,
            source_port: self.has_ports.then_some(self.source_port),
            destination_port: self.has_ports.then_some(self.port),
        }
    }
}

impl Attempt {
    /// What a refused packet asked for; `None` when it is no evidence.
    pub(crate) fn refused(
        facts: &Facts<'_>,
        reason: Reason,
        own: &AddressSet,
        now: Timestamp,
    ) -> Option<Self> {
        let is_asking = match reason {
            // Over its rate is who is let in.
            Reason::Rule(_) | Reason::Default(_) => facts
                .tcp_flags
                .is_none_or(|flags| flags.bits() & TcpFlags::RST.bits() == 0),
            Reason::Impossible(kind) => kind == Impossible::TcpFlags,
            // FIN and ACK out of the blue (Maimon). SYN-ACK and RST are what others get who are asked in this host's name.
            Reason::Invalid(Invalid::TcpNoConnection | Invalid::TcpState) => {
                facts.tcp_flags.is_some_and(is_maimon)
            }
            // A client's second step: nobody is made to send it by what others send in this host's name, as ABORT is.
            Reason::Invalid(Invalid::SctpNoAssociation) => {
                facts.payload.first() == Some(&COOKIE_ECHO)
            }
            _ => false,
        };
        if !is_asking {
            return None;
        }
        Self::of(
            &facts.tuple(),
            facts.tcp_flags,
            facts.icmp,
            facts.direction,
            own,
            now,
        )
    }

    /// What the first packet of a flow asked for; `None` when it is no evidence.
    pub(crate) fn of_flow(flow: &Flow, own: &AddressSet) -> Option<Self> {
        let flags = (flow.tuple.protocol == protocol::TCP).then_some(if flow.by_syn {
            TcpFlags::SYN
        } else {
            TcpFlags::ACK
        });
        let query = flow.icmp;
        let (direction, start) = (flow.direction, flow.start());
        Self::of(&flow.tuple, flags, query, direction, own, start)
    }

    /// What a packet asked for; `None` when it is no evidence.
    pub(crate) fn of(
        tuple: &FiveTuple,
        flags: Option<TcpFlags>,
        icmp: Option<(u8, u8)>,
        direction: Direction,
        own: &AddressSet,
        at: Timestamp,
    ) -> Option<Self> {
        let ports = tuple.source_port.zip(tuple.destination_port);
        let (technique, outcome) = match tuple.protocol {
            protocol::TCP => (of_flags(flags?)?, Outcome::Failed),
            protocol::UDP => (Technique::Udp, Outcome::Failed),
            protocol::ICMP | protocol::ICMPV6 => {
                let is_v6 = tuple.protocol == protocol::ICMPV6;
                is_query(icmp?.0, is_v6).then_some((Technique::Icmp, Outcome::Pinged))?
            }
            _ if ports.is_some() => (Technique::OtherPorts, Outcome::Failed),
            number if protocol::has_ports(number) => return None,
            _ => (Technique::Protocol, Outcome::Failed),
        };
        let (source, target) = (tuple.source, tuple.destination);
        let shouted = target.is_multicast() || address::address_key(target) == address::IPV4_LAST;
        if shouted || source.is_loopback() || source == target {
            return None;
        }
        let (source_port, port) = ports.unwrap_or_default();
        if is_late_answer(technique, source_port, port) {
            return None;
        }
        let is_own = own.contains(target);
        let contact = Contact {
            target: address::address_key(target),
            at,
            port,
            source_port,
            protocol: tuple.protocol,
            has_ports: ports.is_some(),
            outcome,
            technique,
            is_own,
            goes_out: direction == Direction::Out
                || (!is_own && is_private(source) && !is_private(target)),
        };
        Some(Self {
            source,
            direction,
            contact,
        })
    }

    /// Whether it fails when it is refused or not answered; else there is nothing more to learn of it.
    pub(crate) fn may_fail(&self) -> bool {
        self.contact.outcome == Outcome::Failed
    }

    /// The same, now that it is known how it went.
    pub(crate) fn went(mut self, outcome: Outcome) -> Self {
        self.contact.outcome = outcome;
        self
    }

    /// The packet that asked.
    pub(crate) fn tuple(&self) -> FiveTuple {
        self.contact.tuple(self.source)
    }
}

const fn is_maimon(flags: TcpFlags) -> bool {
    flags.fin() && flags.ack() && !flags.syn() && !flags.rst()
}

/// What a segment out of the blue is called; `None` for those that answer.
fn of_flags(flags: TcpFlags) -> Option<Technique> {
    let core = flags.bits() & 0x3f;
    let (fin, psh, urg) = (
        TcpFlags::FIN.bits(),
        TcpFlags::PSH.bits(),
        TcpFlags::URG.bits(),
    );
    Some(if flags.is_impossible() {
        match core {
            0 => Technique::Null,
            core if core == fin => Technique::Fin,
            core if core == fin | psh | urg => Technique::Xmas,
            _ => Technique::Flags,
        }
    } else if is_maimon(flags) {
        Technique::Maimon
    } else if flags.rst() || (flags.syn() && flags.ack()) {
        return None;
    } else if flags.syn() {
        Technique::Syn
    } else {
        Technique::Ack
    })
}

/// Whether a packet that nobody waits for may be the answer of a server that was asked long ago, or for what was forgotten: from
/// a service's port to a client's. A SYN never is, nor is what no stack sends.
fn is_late_answer(technique: Technique, source_port: u16, port: u16) -> bool {
    match technique {
        Technique::Udp => {
            (source_port < EPHEMERAL && port >= EPHEMERAL) || TRACEROUTE.contains(&port)
        }
        Technique::Ack | Technique::Maimon => is_to_a_client(source_port, port),
        Technique::OtherPorts => source_port < EPHEMERAL && port >= EPHEMERAL,
        _ => false,
    }
}

/// Whether a denied packet may be what a service sends to its client in a flow that connection tracking does not know: forgotten, or
/// under way when rules came into force. As [`is_late_answer`], and of well-known ports alone: what a source sends without
/// end to one port is no first contact.
pub(super) fn may_answer(facts: &Facts<'_>) -> bool {
    let is_sequel = match facts.tcp_flags {
        Some(flags) => of_flags(flags) == Some(Technique::Ack),
        None => facts.protocol == protocol::UDP,
    };
    let ports = facts.source_port.zip(facts.port);
    is_sequel && ports.is_some_and(|(from, to)| from < WELL_KNOWN && to >= EPHEMERAL)
}

/// Whether the ports are those of what a service sends to its client.
pub(crate) const fn is_to_a_client(source_port: u16, port: u16) -> bool {
    (source_port < EPHEMERAL && port >= EPHEMERAL)
        || (source_port < WELL_KNOWN && port >= WELL_KNOWN)
}

/// Echo, timestamp, information and address mask requests (RFC 792, RFC 950), echo and node information requests (RFC 4443, RFC
/// 4620).
const fn is_query(kind: u8, is_v6: bool) -> bool {
    if is_v6 {
        matches!(kind, 128 | 139)
    } else {
        matches!(kind, 8 | 13 | 15 | 17)
    }
}

/// Not an address of the public Internet (RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_private() || address.is_link_local() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(address) => {
            let first = address.segments()[0];
            first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "constants")]
    use super::*;

    fn ask(
        source: (&str, u16),
        target: (&str, u16),
        protocol: u8,
        flags: u8,
    ) -> Option<(Technique, bool)> {
        let tuple = FiveTuple {
            source: source.0.parse().unwrap(),
            destination: target.0.parse().unwrap(),
            protocol,
            source_port: Some(source.1),
            destination_port: Some(target.1),
        };
        let flags = (protocol == 6).then_some(TcpFlags::from_bits(flags));
        Attempt::of(
            &tuple,
            flags,
            None,
            Direction::In,
            &AddressSet::default(),
            Timestamp::default(),
        )
        .map(|attempt| (attempt.contact.technique, attempt.contact.goes_out))
    }

    #[test]
    fn what_counts_as_asking() {
        const STRANGER: &str = "203.0.113.7";
        const HOST: &str = "192.0.2.1";
        for (source, target, protocol, flags, expected) in [
            (
                (STRANGER, 40_000),
                (HOST, 22),
                6,
                0x02,
                Some(Technique::Syn),
            ),
            (
                (STRANGER, 443),
                (HOST, 40_000),
                6,
                0x02,
                Some(Technique::Syn),
            ),
            ((STRANGER, 40_000), (HOST, 22), 6, 0x12, None),
            ((STRANGER, 40_000), (HOST, 22), 6, 0x04, None),
            ((STRANGER, 40_000), (HOST, 22), 6, 0x14, None),
            (
                (STRANGER, 40_000),
                (HOST, 22),
                6,
                0x00,
                Some(Technique::Null),
            ),
            (
                (STRANGER, 40_000),
                (HOST, 22),
                6,
                0x01,
                Some(Technique::Fin),
            ),
            (
                (STRANGER, 40_000),
                (HOST, 22),
                6,
                0x29,
                Some(Technique::Xmas),
            ),
            (
                (STRANGER, 40_000),
                (HOST, 22),
                6,
                0x03,
                Some(Technique::Flags),
            ),
            (
                (STRANGER, 40_000),
                (HOST, 22),
                6,
                0x11,
                Some(Technique::Maimon),
            ),
            ((STRANGER, 443), (HOST, 40_000), 6, 0x11, None),
            (
                (STRANGER, 40_000),
                (HOST, 22),
                6,
                0x10,
                Some(Technique::Ack),
            ),
            ((STRANGER, 443), (HOST, 40_000), 6, 0x10, None),
            ((STRANGER, 80), (HOST, 1_040), 6, 0x10, None),
            ((STRANGER, 80), (HOST, 22), 6, 0x10, Some(Technique::Ack)),
            ((STRANGER, 40_000), (HOST, 161), 17, 0, Some(Technique::Udp)),
            ((STRANGER, 53), (HOST, 40_000), 17, 0, None),
            ((STRANGER, 53), (HOST, 161), 17, 0, Some(Technique::Udp)),
            ((STRANGER, 40_000), (HOST, 33_440), 17, 0, None),
            ((STRANGER, 40_000), ("224.0.0.251", 5_353), 17, 0, None),
            ((STRANGER, 40_000), ("255.255.255.255", 67), 17, 0, None),
            (("127.0.0.1", 40_000), (HOST, 22), 6, 0x02, None),
            (
                ("2001:db8::7", 40_000),
                ("2001:db8::1", 22),
                6,
                0x02,
                Some(Technique::Syn),
            ),
        ] {
            let found = ask(source, target, protocol, flags);
            assert_eq!(
                found.map(|(technique, _)| technique),
                expected,
                "{source:?} {target:?} {protocol} {flags:#x}"
            );
        }
    }

    #[test]
    fn from_a_private_address_to_a_public_one_goes_out() {
        for (source, target, goes_out) in [
            ("10.0.2.15", "8.8.8.8", true),
            ("100.64.0.1", "8.8.8.8", true),
            ("fd00::1", "2001:db8::1", true),
            ("10.66.0.2", "10.66.1.10", false),
            ("203.0.113.7", "192.0.2.1", false),
            ("203.0.113.7", "10.0.0.1", false),
        ] {
            let found = ask((source, 40_000), (target, 22), 6, 0x02);
            assert_eq!(
                found.map(|(_, out)| out),
                Some(goes_out),
                "{source} {target}"
            );
        }
    }
}
