//! Tunnels: packets that carry packets. They are recognised, not descended into.

use std::fmt;

use crate::packet::Packet;
use crate::transport::{Transport, protocol};

/// The kind of tunnel a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tunnel {
    /// GRE (RFC 2784), protocol 47.
    Gre,
    /// IPv4 in IP (RFC 2003), protocol 4.
    Ipip,
    /// IPv6 in IP (RFC 4213, RFC 2473), protocol 41.
    Sixin4,
    /// Ethernet in IP (RFC 3378), protocol 97.
    EtherIp,
    /// L2TPv3 over IP (RFC 3931), protocol 115.
    L2tp,
    /// VXLAN (RFC 7348), UDP port 4789.
    Vxlan,
    /// Geneve (RFC 8926), UDP port 6081.
    Geneve,
    /// GTP-U (3GPP TS 29.281), UDP port 2152.
    GtpU,
}

impl Tunnel {
    /// Stable lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gre => "gre",
            Self::Ipip => "ipip",
            Self::Sixin4 => "sixin4",
            Self::EtherIp => "etherip",
            Self::L2tp => "l2tp",
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::GtpU => "gtp-u",
        }
    }

    pub(crate) fn of(packet: &Packet<'_>) -> Option<Self> {
        match packet.transport() {
            Transport::Gre(_) => Some(Self::Gre),
            Transport::Udp(udp) if !udp.is_lite() => {
                Self::over_udp(udp.destination_port(), udp.payload())
            }
            Transport::Other => match packet.protocol() {
                protocol::IPIP => Some(Self::Ipip),
                protocol::IPV6 => Some(Self::Sixin4),
                protocol::ETHERIP => Some(Self::EtherIp),
                protocol::L2TP => Some(Self::L2tp),
                _ => None,
            },
            _ => None,
        }
    }

    /// A well-known port alone proves nothing, so the header must look right too.
    fn over_udp(destination_port: u16, payload: &[u8]) -> Option<Self> {
        match (destination_port, payload) {
            // RFC 7348 section 5: only the I flag set, reserved fields zero, an Ethernet header inside.
            (4789, [0x08, 0, 0, 0, _, _, _, 0, inner @ ..]) if inner.len() >= 14 => {
                Some(Self::Vxlan)
            }
            // RFC 8926 section 3.4: version 0, options that fit, reserved bits zero, Ethernet or IP inside.
            (6081, [first, second, protocol @ .., _, _, _, 0]) if payload.len() == 8 => {
                Self::geneve(*first, *second, protocol, 0)
            }
            (6081, [first, second, high, low, _, _, _, 0, inner @ ..]) => {
                Self::geneve(*first, *second, &[*high, *low], inner.len())
            }
            // TS 29.281 section 5.1: version 1, protocol type GTP, G-PDU (255) with its length.
            (2152, [first, 0xff, high, low, _, _, _, _, inner @ ..])
                if first & 0xf0 == 0x30
                    && usize::from(u16::from_be_bytes([*high, *low])) <= inner.len() =>
            {
                Some(Self::GtpU)
            }
            _ => None,
        }
    }

    fn geneve(first: u8, second: u8, protocol: &[u8], inner: usize) -> Option<Self> {
        let options = usize::from(first & 0x3f) * 4;
        let plausible = first & 0xc0 == 0
            && second & 0x3f == 0
            && options <= inner
            && matches!(protocol, [0x65, 0x58] | [0x08, 0x00] | [0x86, 0xdd]);
        plausible.then_some(Self::Geneve)
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;
    use crate::sample::{ipv4, ipv6, udp, whole};

    #[test]
    fn by_protocol() {
        let table = [
            (4, Some(Tunnel::Ipip)),
            (41, Some(Tunnel::Sixin4)),
            (47, Some(Tunnel::Gre)),
            (97, Some(Tunnel::EtherIp)),
            (115, Some(Tunnel::L2tp)),
            (50, None),
            (89, None),
        ];
        for (protocol, tunnel) in table {
            assert_eq!(whole(&ipv4(protocol, &[0; 20])).unwrap().tunnel(), tunnel);
            assert_eq!(whole(&ipv6(protocol, &[0; 20])).unwrap().tunnel(), tunnel);
        }
    }

    #[test]
    fn by_port_and_header() {
        let inner = [0; 14];
        let over_udp = |port, header: [u8; 8]| {
            let bytes = ipv4(17, &udp(port, &[&header[..], &inner].concat()));
            whole(&bytes).unwrap().tunnel()
        };
        let table = [
            (4789, [8, 0, 0, 0, 1, 2, 3, 0], Some(Tunnel::Vxlan)),
            (4789, [0, 0, 0, 0, 1, 2, 3, 0], None),
            (4789, [8, 0, 0, 0, 1, 2, 3, 4], None),
            (4790, [8, 0, 0, 0, 1, 2, 3, 0], None),
            (6081, [0, 0, 0x65, 0x58, 1, 2, 3, 0], Some(Tunnel::Geneve)),
            (6081, [3, 0, 0x65, 0x58, 1, 2, 3, 0], Some(Tunnel::Geneve)),
            (6081, [4, 0, 0x65, 0x58, 1, 2, 3, 0], None),
            (6081, [0x40, 0, 0x65, 0x58, 1, 2, 3, 0], None),
            (6081, [0, 0, 0x08, 0x06, 1, 2, 3, 0], None),
            (2152, [0x30, 0xff, 0, 14, 1, 2, 3, 4], Some(Tunnel::GtpU)),
            (2152, [0x30, 0xff, 0, 15, 1, 2, 3, 4], None),
            (2152, [0x30, 1, 0, 14, 1, 2, 3, 4], None),
        ];
        for (port, header, tunnel) in table {
            assert_eq!(over_udp(port, header), tunnel, "{port} {header:?}");
        }
    }
}
