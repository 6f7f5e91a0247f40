//! IPv4 headers (RFC 791), checked as `ip_rcv_core` in the kernel's net/ipv4/ip_input.c checks them.

use std::net::Ipv4Addr;

use crate::checksum::Sum;
use crate::fragment::{Fragment, Piece};
use crate::ipv4_options;
use crate::malformed::MalformedKind;
use crate::network::Headers;

/// The first 20 bytes of an IPv4 header.
pub(crate) type Header = [u8; 20];

#[inline]
pub(crate) fn source(header: &Header) -> Ipv4Addr {
    Ipv4Addr::new(header[12], header[13], header[14], header[15])
}

#[inline]
pub(crate) fn destination(header: &Header) -> Ipv4Addr {
    Ipv4Addr::new(header[16], header[17], header[18], header[19])
}

/// A header that was checked.
pub(crate) struct Checked<'a> {
    pub(crate) header: &'a Header,
    /// With options, 20 to 60 bytes.
    pub(crate) header_len: usize,
    pub(crate) total_len: usize,
}

/// Checks the header. `wire` is the length on the wire of what begins with `bytes`, at least `bytes.len()`.
#[inline(always)]
pub(crate) fn check(
    bytes: &[u8],
    wire: usize,
    verify_checksum: bool,
) -> Result<Checked<'_>, MalformedKind> {
    let Some(header) = bytes.first_chunk::<20>() else {
        return Err(if wire >= 20 {
            MalformedKind::CutByCapture
        } else {
            MalformedKind::Ipv4Truncated
        });
    };
    if header[0] >> 4 != 4 {
        return Err(MalformedKind::Ipv4Version);
    }
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header_len < 20 {
        return Err(MalformedKind::Ipv4HeaderLength);
    }
    if header_len > 20 {
        check_with_options(bytes, wire, header_len, verify_checksum)?;
    } else if verify_checksum && !Sum::default().add(header).is_right() {
        return Err(MalformedKind::Ipv4Checksum);
    }
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if total_len > wire {
        return Err(MalformedKind::Ipv4TotalLengthBeyondWire);
    }
    if total_len < header_len {
        return Err(MalformedKind::Ipv4TotalLength);
    }
    Ok(Checked {
        header,
        header_len,
        total_len,
    })
}

/// Options are rare enough to be kept out of the way of headers without.
#[cold]
fn check_with_options(
    bytes: &[u8],
    wire: usize,
    header_len: usize,
    verify_checksum: bool,
) -> Result<(), MalformedKind> {
    let Some(header) = bytes.get(..header_len) else {
        return Err(if header_len <= wire {
            MalformedKind::CutByCapture
        } else {
            MalformedKind::Ipv4HeaderTruncated
        });
    };
    if verify_checksum && !Sum::default().add(header).is_right() {
        return Err(MalformedKind::Ipv4Checksum);
    }
    if !ipv4_options::are_right(&header[20..]) {
        return Err(MalformedKind::Ipv4Options);
    }
    Ok(())
}

impl<'a> Checked<'a> {
    /// Whether this is a fragment, first or later.
    #[inline]
    pub(crate) fn is_fragment(&self) -> bool {
        self.place() & 0x3fff != 0
    }

    /// Flags and fragment offset.
    #[inline]
    fn place(&self) -> u16 {
        u16::from_be_bytes([self.header[6], self.header[7]])
    }

    /// The headers of a fragment.
    #[cold]
    pub(crate) fn fragment(&self) -> Headers {
        let [_, _, _, _, id_high, id_low, ..] = *self.header;
        let fragment = Fragment {
            id: u32::from(u16::from_be_bytes([id_high, id_low])),
            offset: (self.place() & 0x1fff) << 3,
            more: self.place() & 0x2000 != 0,
        };
        let mut headers = Headers::plain(self.header_len, self.header[9]);
        headers.piece = Some(Piece {
            fragment,
            unfragmentable: self.header_len as u32,
            pointer: 9,
            next_header: self.header[9],
        });
        headers
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use crate::MalformedKind::*;
    use crate::sample::{self, cut, defect, whole};
    use crate::transport::protocol::UDP;
    use crate::{Frame, Link, parse_trusting_checksums};

    fn datagram() -> Vec<u8> {
        sample::ipv4_with_options(UDP, &[1, 1, 1, 0], &sample::udp(53, b"payload"))
    }

    #[test]
    fn reads_the_header() {
        let bytes = datagram();
        let packet = whole(&bytes).unwrap();
        assert_eq!(packet.source().to_string(), "192.0.2.1");
        assert_eq!(packet.destination().to_string(), "198.51.100.2");
        assert_eq!(
            (packet.is_ipv6(), packet.protocol(), packet.hop_limit()),
            (false, UDP, 64)
        );
        assert_eq!((packet.header_len(), packet.ip_len()), (24, 39));
        assert_eq!(
            (
                packet.ipv4_id(),
                packet.dont_fragment(),
                packet.traffic_class()
            ),
            (Some(0x1234), false, 0)
        );
        assert_eq!(packet.payload(), b"payload");
        assert!(packet.fragment().is_none());
    }

    #[test]
    fn each_defect() {
        type Damage = fn(&mut Vec<u8>);
        let breaks: [(&str, Damage, _); 9] = [
            ("short", |b| b.truncate(19), Ipv4Truncated),
            ("length field 4", |b| b[0] = 0x44, Ipv4HeaderLength),
            (
                "header beyond bytes",
                |b| b.truncate(23),
                Ipv4HeaderTruncated,
            ),
            ("a flipped bit", |b| b[8] ^= 1, Ipv4Checksum),
            (
                "checksum 0 is not special",
                |b| b[10..12].fill(0),
                Ipv4Checksum,
            ),
            (
                "total length beyond",
                |b| b.truncate(38),
                Ipv4TotalLengthBeyondWire,
            ),
            (
                "total length below header",
                |b| {
                    b[3] = 23;
                    sample::mend_ipv4(b);
                },
                Ipv4TotalLength,
            ),
            (
                "total length 0",
                |b| {
                    b[3] = 0;
                    sample::mend_ipv4(b);
                },
                Ipv4TotalLength,
            ),
            (
                "option of length 1",
                |b| {
                    b[20..22].copy_from_slice(&[130, 1]);
                    sample::mend_ipv4(b);
                },
                Ipv4Options,
            ),
        ];
        for (name, damage, kind) in breaks {
            let mut bytes = datagram();
            damage(&mut bytes);
            assert_eq!(defect(&bytes), Some(kind), "{name}");
        }
    }

    #[test]
    fn checksums_can_be_trusted() {
        for options in [&[][..], &[1, 1, 1, 0]] {
            let mut bytes = sample::ipv4_with_options(UDP, options, &sample::udp(53, b"payload"));
            bytes[10] ^= 1;
            let parsed = parse_trusting_checksums(Link::RawIp, &bytes, bytes.len());
            assert!(matches!(parsed, Ok(Frame::Ip(packet)) if packet.payload() == b"payload"));
            assert_eq!(defect(&bytes), Some(Ipv4Checksum));
        }
    }

    #[test]
    fn a_defect_keeps_the_addresses() {
        let mut bytes = datagram();
        bytes[8] ^= 1;
        let malformed = whole(&bytes).unwrap_err();
        assert_eq!(malformed.source.unwrap().to_string(), "192.0.2.1");
        assert_eq!(malformed.destination.unwrap().to_string(), "198.51.100.2");
        assert_eq!(malformed.protocol, Some(UDP));
    }

    #[test]
    fn a_cut_capture_is_no_defect_but_in_the_headers() {
        let bytes = datagram();
        for len in 0..32 {
            let malformed = cut(&bytes[..len], bytes.len()).unwrap_err();
            assert_eq!(malformed.kind, CutByCapture, "{len}");
            assert_eq!(malformed.source.is_some(), len >= 20, "{len}");
        }
        for len in 32..bytes.len() {
            let packet = cut(&bytes[..len], bytes.len()).unwrap();
            assert_eq!(
                (packet.payload().len(), packet.payload_len()),
                (len - 32, 7)
            );
            assert_eq!((packet.ip_bytes().len(), packet.ip_len()), (len, 39));
            assert!(packet.is_cut());
        }
    }

    #[test]
    fn fragments_have_no_ports() {
        let mut bytes = datagram();
        bytes[4..8].copy_from_slice(&[0xab, 0xcd, 0x20, 0x03]);
        sample::mend_ipv4(&mut bytes);
        let packet = whole(&bytes).unwrap();
        let fragment = packet.fragment().unwrap();
        assert_eq!(
            (fragment.id, fragment.offset, fragment.more),
            (0xabcd, 24, true)
        );
        assert!(matches!(packet.transport(), crate::Transport::Fragment));
        assert_eq!(
            (
                packet.ports(),
                packet.protocol(),
                packet.fragment_next_header()
            ),
            (None, UDP, UDP)
        );
        assert_eq!(
            (packet.unfragmentable_len(), packet.fragment_pointer()),
            (24, Some(9))
        );
        assert_eq!(
            (packet.fragment_payload(), packet.fragment_payload_len()),
            (&bytes[24..], 15)
        );

        // A first fragment of 8 bytes of TCP is no truncated TCP segment: it is not read at all.
        let mut bytes = sample::ipv4(6, &[0; 8]);
        bytes[6] = 0x20;
        sample::mend_ipv4(&mut bytes);
        assert!(matches!(
            whole(&bytes).unwrap().transport(),
            crate::Transport::Fragment
        ));
    }

    #[test]
    fn a_source_route_is_seen() {
        let routed =
            sample::ipv4_with_options(UDP, &[131, 7, 4, 192, 0, 2, 9, 0], &sample::udp(53, b""));
        assert!(whole(&routed).unwrap().has_source_route());
        assert!(!whole(&datagram()).unwrap().has_source_route());
    }
}
