//! Community ID version 1: one name for a flow in the records of every tool that sees it
//! (<https://github.com/corelight/community-id-spec>).

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use policy::protocol;
use sha1::{Digest, Sha1};
use wire::FiveTuple;

/// The id, with the default seed 0: `1:` and 28 base64 characters. `None` where the tuple lacks what its protocol needs: ports
/// (in fragments), or `icmp`, the message's type and code.
pub fn community_id(tuple: &FiveTuple, icmp: Option<(u8, u8)>) -> Option<String> {
    let (ports, one_way) = match tuple.protocol {
        protocol::ICMP => icmp_ports(icmp?, icmp4_counterpart),
        protocol::ICMPV6 => icmp_ports(icmp?, icmp6_counterpart),
        number if protocol::has_ports(number) => {
            (Some((tuple.source_port?, tuple.destination_port?)), false)
        }
        _ => (None, false),
    };
    let from = (tuple.source, ports.map(|ports| ports.0));
    let to = (tuple.destination, ports.map(|ports| ports.1));
    let (first, second) = if one_way || from <= to {
        (from, to)
    } else {
        (to, from)
    };

    let mut hash = Sha1::new();
    hash.update(0_u16.to_be_bytes());
    for address in [first.0, second.0] {
        match address {
            IpAddr::V4(v4) => hash.update(v4.octets()),
            IpAddr::V6(v6) => hash.update(v6.octets()),
        }
    }
    hash.update([tuple.protocol, 0]);
    for port in [first.1, second.1].into_iter().flatten() {
        hash.update(port.to_be_bytes());
    }
    Some(format!("1:{}", STANDARD.encode(hash.finalize())))
}

/// What stands in for the ports of an ICMP message, and whether the flow has but one direction: a query and its reply share an
/// id, every other message is its own flow.
fn icmp_ports(
    (kind, code): (u8, u8),
    counterpart: fn(u8) -> Option<u8>,
) -> (Option<(u16, u16)>, bool) {
    match counterpart(kind) {
        Some(other) => (Some((u16::from(kind), u16::from(other))), false),
        None => (Some((u16::from(kind), u16::from(code))), true),
    }
}

/// Echo, router discovery, timestamp, information, address mask (RFC 792, RFC 1256, RFC 950).
fn icmp4_counterpart(kind: u8) -> Option<u8> {
    Some(match kind {
        0 => 8,
        8 => 0,
        9 => 10,
        10 => 9,
        13 => 14,
        14 => 13,
        15 => 16,
        16 => 15,
        17 => 18,
        18 => 17,
        _ => return None,
    })
}

/// Echo, MLD, router and neighbour discovery, node information, home agent discovery.
fn icmp6_counterpart(kind: u8) -> Option<u8> {
    Some(match kind {
        128 => 129,
        129 => 128,
        130 => 131,
        131 => 130,
        133 => 134,
        134 => 133,
        135 => 136,
        136 => 135,
        139 => 140,
        140 => 139,
        144 => 145,
        145 => 144,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// The reference implementation's own test vectors (pycommunityid), seed 0.
    #[test]
    fn published_vectors() {
        for (number, source, destination, ports, expected) in [
            (
                6,
                "128.232.110.120",
                "66.35.250.204",
                Some((34855, 80)),
                "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
            ),
            (
                6,
                "66.35.250.204",
                "128.232.110.120",
                Some((80, 34855)),
                "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
            ),
            (
                6,
                "10.0.0.1",
                "10.0.0.2",
                Some((10, 11569)),
                "1:SXBGMX1lBOwhhoDrZynfROxnhnM=",
            ),
            (
                6,
                "192.168.1.42",
                "192.168.1.42",
                Some((41, 42)),
                "1:eRcf7I/xocOxnYo5pbJBV5NhVm0=",
            ),
            (
                6,
                "192.168.1.42",
                "192.168.1.42",
                Some((42, 41)),
                "1:eRcf7I/xocOxnYo5pbJBV5NhVm0=",
            ),
            (
                17,
                "192.168.1.52",
                "8.8.8.8",
                Some((54585, 53)),
                "1:d/FP5EW3wiY1vCndhwleRRKHowQ=",
            ),
            (
                17,
                "8.8.8.8",
                "192.168.1.52",
                Some((53, 54585)),
                "1:d/FP5EW3wiY1vCndhwleRRKHowQ=",
            ),
            (
                1,
                "192.168.0.89",
                "192.168.0.1",
                Some((8, 0)),
                "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=",
            ),
            (
                1,
                "192.168.0.1",
                "192.168.0.89",
                Some((0, 0)),
                "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=",
            ),
            (
                1,
                "192.168.0.89",
                "192.168.0.1",
                Some((20, 0)),
                "1:3o2RFccXzUgjl7zDpqmY7yJi8rI=",
            ),
            (
                1,
                "192.168.0.89",
                "192.168.0.1",
                Some((20, 1)),
                "1:tz/fHIDUHs19NkixVVoOZywde+I=",
            ),
            (
                58,
                "fe80::200:86ff:fe05:80da",
                "fe80::260:97ff:fe07:69ea",
                Some((135, 0)),
                "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=",
            ),
            (
                58,
                "3ffe:507:0:1:200:86ff:fe05:80da",
                "3ffe:507:0:1:260:97ff:fe07:69ea",
                Some((3, 0)),
                "1:/OGBt9BN1ofenrmSPWYicpij2Vc=",
            ),
            (
                132,
                "192.168.170.56",
                "192.168.170.8",
                Some((80, 7)),
                "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ=",
            ),
            (
                46,
                "1.2.3.4",
                "5.6.7.8",
                None,
                "1:ikv3kmf89luf73WPz1jOs49S768=",
            ),
        ] {
            let icmp = matches!(number, 1 | 58);
            let tuple = FiveTuple {
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
                protocol: number,
                source_port: ports.filter(|_| !icmp).map(|ports| ports.0),
                destination_port: ports.filter(|_| !icmp).map(|ports| ports.1),
            };
            let message = ports
                .filter(|_| icmp)
                .map(|(kind, code)| (kind as u8, code as u8));
            assert_eq!(
                community_id(&tuple, message).unwrap(),
                expected,
                "{tuple:?}"
            );
        }
    }

    #[test]
    fn nothing_is_made_up() {
        let fragment = FiveTuple {
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.2".parse().unwrap(),
            protocol: protocol::TCP,
            source_port: None,
            destination_port: None,
        };
        assert_eq!(community_id(&fragment, None), None);
        let echo = FiveTuple {
            protocol: protocol::ICMP,
            ..fragment
        };
        assert_eq!(community_id(&echo, None), None);
    }
}
