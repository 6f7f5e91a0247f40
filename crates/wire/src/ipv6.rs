//! IPv6 headers (RFC 8200), checked as `ip6_rcv_core` in the kernel's net/ipv6/ip6_input.c checks them.

use std::net::Ipv6Addr;

use crate::chain;
use crate::malformed::MalformedKind;

/// The fixed IPv6 header.
pub(crate) type Header = [u8; 40];

#[inline]
pub(crate) fn source(header: &Header) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[8..24]);
    octets.into()
}

#[inline]
pub(crate) fn destination(header: &Header) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[24..40]);
    octets.into()
}

/// A header that was checked.
pub(crate) struct Checked<'a> {
    pub(crate) header: &'a Header,
    /// Header and payload as claimed, at most 65,575 bytes.
    pub(crate) len: usize,
}

/// Checks the header. `wire` is the length on the wire of what begins with `bytes`, at least `bytes.len()`.
#[inline(always)]
pub(crate) fn check(bytes: &[u8], wire: usize) -> Result<Checked<'_>, MalformedKind> {
    let Some(header) = bytes.first_chunk::<40>() else {
        return Err(if wire >= 40 {
            MalformedKind::CutByCapture
        } else {
            MalformedKind::Ipv6Truncated
        });
    };
    if header[0] >> 4 != 6 {
        return Err(MalformedKind::Ipv6Version);
    }
    if header[24] == 0xff && header[25] & 0x0f == 0 {
        return Err(MalformedKind::Ipv6DestinationScope);
    }
    if header[8] == 0xff {
        return Err(MalformedKind::Ipv6SourceMulticast);
    }
    if header[8..20] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] {
        return Err(MalformedKind::Ipv6SourceMapped);
    }
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if payload_len == 0 && header[6] == chain::HOP_BY_HOP {
        return Err(MalformedKind::Ipv6Jumbogram);
    }
    let len = 40 + payload_len;
    if len > wire {
        return Err(MalformedKind::Ipv6PayloadLength);
    }
    Ok(Checked { header, len })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use crate::MalformedKind::*;
    use crate::sample::{defect, ipv6, udp, whole};
    use crate::transport::protocol::UDP;

    #[test]
    fn reads_the_header() {
        let mut bytes = ipv6(UDP, &udp(53, b"payload"));
        bytes[0..2].copy_from_slice(&[0x6a, 0xb0]);
        let packet = whole(&bytes).unwrap();
        assert_eq!(
            (
                packet.source().to_string(),
                packet.destination().to_string()
            ),
            ("2001:db8::1".into(), "2001:db8::2".into())
        );
        assert_eq!(
            (packet.is_ipv6(), packet.protocol(), packet.hop_limit()),
            (true, UDP, 64)
        );
        assert_eq!(
            (packet.header_len(), packet.ip_len(), packet.traffic_class()),
            (40, 55, 0xab)
        );
        assert_eq!(packet.payload(), b"payload");
    }

    #[test]
    fn each_defect() {
        type Damage = fn(&mut Vec<u8>);
        let breaks: [(&str, Damage, _); 7] = [
            ("short", |b| b.truncate(39), Ipv6Truncated),
            ("payload beyond", |b| b.truncate(54), Ipv6PayloadLength),
            ("multicast source", |b| b[8] = 0xff, Ipv6SourceMulticast),
            (
                "reserved scope",
                |b| b[24..26].copy_from_slice(&[0xff, 0x10]),
                Ipv6DestinationScope,
            ),
            (
                "mapped source",
                |b| {
                    b[8..18].fill(0);
                    b[18..20].fill(0xff);
                },
                Ipv6SourceMapped,
            ),
            ("no next header", |b| b[6] = 59, Ipv6NoNextHeader),
            (
                "jumbogram",
                |b| {
                    b[4..6].fill(0);
                    b[6] = 0;
                },
                Ipv6Jumbogram,
            ),
        ];
        for (name, damage, kind) in breaks {
            let mut bytes = ipv6(UDP, &udp(53, b"payload"));
            damage(&mut bytes);
            assert_eq!(defect(&bytes), Some(kind), "{name}");
        }
        // Payload length 0 without a hop-by-hop header is a packet without payload, so without its UDP header.
        let mut bytes = ipv6(UDP, &udp(53, b"payload"));
        bytes[4..6].fill(0);
        assert_eq!(defect(&bytes), Some(UdpTruncated));
        // Other multicast scopes are the engine's.
        let mut bytes = ipv6(UDP, &udp(53, b"payload"));
        bytes[24..26].copy_from_slice(&[0xff, 0x02]);
        assert_eq!(defect(&bytes), None);
    }
}
