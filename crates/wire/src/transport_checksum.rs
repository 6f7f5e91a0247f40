//! Whether a transport checksum is right, pseudo header included. Not part of parsing: network cards fill it in late.

use crate::checksum::{Sum, crc32c};
use crate::network::{IpHeader, Network};
use crate::transport::Transport;

/// See [`crate::Packet::transport_checksum_ok`].
pub(crate) fn is_right(network: &Network<'_>, transport: Transport<'_>) -> Option<bool> {
    let routed = network
        .headers
        .routing
        .is_some_and(|routing| routing.underway);
    if network.datagram.len() < network.len() || routed {
        return None;
    }
    let upper = network.upper();
    match transport {
        Transport::Tcp(_) => Some(pseudo_header(network, upper.len()).add(upper).is_right()),
        Transport::Udp(udp) if udp.checksum() == 0 && network.header.is_ipv6() => None,
        Transport::Udp(udp) if udp.checksum() == 0 => Some(true),
        Transport::Udp(udp) => {
            let covered = upper.get(..udp.checksum_coverage())?;
            Some(pseudo_header(network, udp.length()).add(covered).is_right())
        }
        Transport::Icmp(icmp) if icmp.is_v6() => {
            Some(pseudo_header(network, upper.len()).add(upper).is_right())
        }
        Transport::Icmp(_) => Some(Sum::default().add(upper).is_right()),
        Transport::Sctp(sctp) => {
            let (before, after) = (upper.get(..8)?, upper.get(12..)?);
            Some(crc32c([before, &[0; 4], after]) == sctp.checksum())
        }
        Transport::Gre(_) | Transport::Fragment | Transport::Other => None,
    }
}

/// RFC 9293 section 3.1 and RFC 8200 section 8.1: addresses, upper-layer length, protocol.
fn pseudo_header(network: &Network<'_>, length: usize) -> Sum {
    let addresses = match network.header {
        IpHeader::V4(header) => Sum::default().add(&header[12..20]),
        IpHeader::V6(header) => Sum::default().add(&header[8..40]),
    };
    addresses
        .add_u32(length as u32)
        .add_u32(u32::from(network.headers.protocol))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use crate::sample::{cut, ipv4, ipv6, mend_ipv4, tcp, udp, whole};

    /// The right checksum, found by trying: the field is 0 in what comes in.
    fn mend(bytes: &mut [u8], field: usize) {
        let right: Vec<u16> = (1..=u16::MAX)
            .filter(|checksum| {
                bytes[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
                whole(bytes).unwrap().transport_checksum_ok() == Some(true)
            })
            .collect();
        assert_eq!(right.len(), 1, "one checksum is right");
        bytes[field..field + 2].copy_from_slice(&right[0].to_be_bytes());
    }

    #[test]
    fn every_changed_byte_breaks_the_checksum() {
        let table = [
            (ipv4(6, &tcp(2, &[], b"odd")), 36),
            (ipv6(6, &tcp(2, &[], b"odd")), 56),
            (ipv4(17, &udp(53, b"odd")), 26),
            (ipv6(17, &udp(53, b"even")), 46),
            (ipv4(1, &[8, 0, 0, 0, 0, 1, 0, 1, 5]), 22),
            (ipv6(58, &[128, 0, 0, 0, 0, 1, 0, 1, 5]), 42),
        ];
        for (mut bytes, field) in table {
            mend(&mut bytes, field);
            let upper = whole(&bytes).unwrap().header_len();
            for at in upper + 8..bytes.len() {
                // Not the TCP data offset, which is no plain byte of the sum to a parser.
                if at == upper + 12 && bytes[upper + 12] == 0x50 {
                    continue;
                }
                bytes[at] ^= 0x10;
                assert_eq!(
                    whole(&bytes).unwrap().transport_checksum_ok(),
                    Some(false),
                    "{at}"
                );
                bytes[at] ^= 0x10;
            }
            let len = bytes.len();
            assert_eq!(
                cut(&bytes[..len - 1], len).unwrap().transport_checksum_ok(),
                None
            );
        }
    }

    #[test]
    fn absent_checksums() {
        assert_eq!(
            whole(&ipv4(17, &udp(53, b"x")))
                .unwrap()
                .transport_checksum_ok(),
            Some(true)
        );
        assert_eq!(
            whole(&ipv6(17, &udp(53, b"x")))
                .unwrap()
                .transport_checksum_ok(),
            None
        );
        assert_eq!(
            whole(&ipv4(50, &[0; 8])).unwrap().transport_checksum_ok(),
            None
        );
        let mut fragment = ipv4(17, &udp(53, b"x"));
        fragment[6] = 0x20;
        mend_ipv4(&mut fragment);
        assert_eq!(whole(&fragment).unwrap().transport_checksum_ok(), None);
        // A routing header with segments left: the checksum is over another destination.
        let routed = ipv6(
            43,
            &[&[6, 0, 4, 1, 0, 0, 0, 0][..], &tcp(2, &[], b"")].concat(),
        );
        assert_eq!(whole(&routed).unwrap().transport_checksum_ok(), None);
    }

    #[test]
    fn udp_lite_covers_what_it_says() {
        let mut bytes = ipv4(136, &udp(53, b"payload"));
        bytes[24..26].copy_from_slice(&[0, 12]);
        bytes[27] = 1;
        mend(&mut bytes, 26);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(whole(&bytes).unwrap().transport_checksum_ok(), Some(true));
        bytes[28] ^= 1;
        assert_eq!(whole(&bytes).unwrap().transport_checksum_ok(), Some(false));
    }

    #[test]
    fn sctp_crc() {
        // The CRC32c of this packet with a zero checksum field, computed bit by bit.
        let mut upper = vec![0x9c, 0x40, 0x0b, 0x59, 0, 0, 0, 0, 0, 0, 0, 0, 14, 0, 0, 4];
        let mut crc = !0u32;
        for bit in upper
            .iter()
            .flat_map(|byte| (0..8).map(move |bit| u32::from(byte >> bit & 1)))
        {
            crc = if (crc ^ bit) & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
        upper[8..12].copy_from_slice(&(!crc).to_le_bytes());
        assert_eq!(
            whole(&ipv4(132, &upper)).unwrap().transport_checksum_ok(),
            Some(true)
        );
        upper[13] ^= 1;
        assert_eq!(
            whole(&ipv4(132, &upper)).unwrap().transport_checksum_ok(),
            Some(false)
        );
    }
}
