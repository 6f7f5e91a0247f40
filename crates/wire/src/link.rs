//! Link layers: from the bytes of one captured frame to the IP packet inside, or to the name of what it is instead.

use crate::malformed::{Malformed, MalformedKind};
use crate::packet::{self, Arrival, Packet};
use crate::vlan::Vlan;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// What the first byte of a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// Ethernet II or 802.3.
    Ethernet,
    /// Linux cooked capture, version 1.
    LinuxSll,
    /// Linux cooked capture, version 2.
    LinuxSll2,
    /// IPv4 or IPv6 without link header, told apart by the version field.
    RawIp,
    /// IPv4 without link header.
    Ipv4,
    /// IPv6 without link header.
    Ipv6,
    /// BSD loopback: a 4-byte address family in the byte order of the machine that wrote the capture; both are taken.
    Null,
    /// OpenBSD loopback: a 4-byte address family, big-endian.
    Loop,
}

impl Link {
    /// Every link type.
    pub const ALL: [Self; 8] = [
        Self::Ethernet,
        Self::LinuxSll,
        Self::LinuxSll2,
        Self::RawIp,
        Self::Ipv4,
        Self::Ipv6,
        Self::Null,
        Self::Loop,
    ];

    /// The link of a pcap `LINKTYPE_` or `DLT_` number (<https://www.tcpdump.org/linktypes.html>); `None` for others.
    ///
    /// 12 and 14 are `DLT_RAW` on most systems and on OpenBSD.
    pub fn from_linktype(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Null,
            1 => Self::Ethernet,
            12 | 14 | 101 => Self::RawIp,
            108 => Self::Loop,
            113 => Self::LinuxSll,
            228 => Self::Ipv4,
            229 => Self::Ipv6,
            276 => Self::LinuxSll2,
            _ => return None,
        })
    }
}

/// Which way a frame went, as Linux cooked captures record it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkDirection {
    /// To this host: unicast, broadcast or multicast (packet types 0, 1, 2).
    Incoming,
    /// Sent by this host (packet type 4).
    Outgoing,
    /// Between other hosts, seen in promiscuous mode (packet type 3).
    OtherHost,
}

impl LinkDirection {
    fn from_packet_type(packet_type: u16) -> Option<Self> {
        match packet_type {
            0..=2 => Some(Self::Incoming),
            3 => Some(Self::OtherHost),
            4 => Some(Self::Outgoing),
            _ => None,
        }
    }
}

/// What arrived.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    /// An IP packet.
    Ip(Packet<'a>),
    /// Something else: ARP, LLDP, 802.3 LLC, MPLS, PPPoE, a third VLAN tag, ...
    NotIp {
        /// The ethertype; below 0x0600 it is an 802.3 length; 0 when the link names an address family instead.
        ethertype: u16,
        /// VLAN tags before it.
        vlan: Vlan,
    },
}

/// Parses one captured frame.
///
/// `wire_len` is the original length on the wire; when it is larger than `bytes.len()` the capture cut the frame, and
/// that alone is no malformation unless the headers are cut ([`MalformedKind::CutByCapture`]). A smaller one is ignored.
///
/// # Errors
///
/// [`Malformed`] when the frame claims to be IP and the Linux kernel would refuse it.
#[inline]
pub fn parse<'a>(link: Link, bytes: &'a [u8], wire_len: usize) -> Result<Frame<'a>, Malformed> {
    Reader::new(bytes, wire_len, true).parse(link)
}

/// As [`parse`], but takes any IPv4 header checksum.
///
/// For captures made before the network card filled the checksum in, or whose addresses were rewritten afterwards; and for what the
/// kernel hands up once it has checked it: it writes into options that record the way (`ip_rcv_options`) and leaves the checksum as
/// it was. Never for what comes from the wire: the kernel drops such packets.
///
/// # Errors
///
/// As [`parse`], but never [`MalformedKind::Ipv4Checksum`].
pub fn parse_trusting_checksums<'a>(
    link: Link,
    bytes: &'a [u8],
    wire_len: usize,
) -> Result<Frame<'a>, Malformed> {
    Reader::new(bytes, wire_len, false).parse(link)
}

/// The bytes not yet read, and how many more the capture cut off their end.
#[derive(Clone, Copy)]
struct Reader<'a> {
    rest: &'a [u8],
    cut: usize,
    verify_checksum: bool,
}

impl<'a> Reader<'a> {
    #[inline]
    fn new(bytes: &'a [u8], wire_len: usize, verify_checksum: bool) -> Self {
        Self {
            rest: bytes,
            cut: wire_len.saturating_sub(bytes.len()),
            verify_checksum,
        }
    }

    #[inline]
    fn parse(self, link: Link) -> Result<Frame<'a>, Malformed> {
        match link {
            Link::Ethernet => ethernet(self),
            Link::RawIp => self.either(),
            Link::Ipv4 => self.ipv4(Arrival::default()),
            Link::Ipv6 => self.ipv6(Arrival::default()),
            Link::LinuxSll => linux_sll(self),
            Link::LinuxSll2 => linux_sll2(self),
            Link::Null | Link::Loop => loopback(self, link),
        }
    }

    #[inline]
    fn ipv4(self, arrival: Arrival) -> Result<Frame<'a>, Malformed> {
        packet::parse_ipv4(self.rest, self.wire(), self.verify_checksum, arrival)
    }

    #[inline]
    fn ipv6(self, arrival: Arrival) -> Result<Frame<'a>, Malformed> {
        packet::parse_ipv6(self.rest, self.wire(), arrival)
    }

    /// Picks the family by the version field.
    fn either(self) -> Result<Frame<'a>, Malformed> {
        match self.rest.first().map(|byte| byte >> 4) {
            Some(4) => self.ipv4(Arrival::default()),
            Some(6) => self.ipv6(Arrival::default()),
            Some(_) => Err(MalformedKind::IpVersion.into()),
            None if self.cut > 0 => Err(MalformedKind::CutByCapture.into()),
            None => Err(MalformedKind::LinkTruncated.into()),
        }
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        match self.rest.split_first_chunk() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None if self.cut > 0 => Err(MalformedKind::CutByCapture.into()),
            None => Err(MalformedKind::LinkTruncated.into()),
        }
    }

    /// Length on the wire of what is not yet read.
    #[inline]
    fn wire(&self) -> usize {
        self.rest.len().saturating_add(self.cut)
    }
}

#[inline(always)]
fn ethernet(mut reader: Reader<'_>) -> Result<Frame<'_>, Malformed> {
    let header: &[u8; 14] = reader.take()?;
    by_ethertype(reader, u16::from_be_bytes([header[12], header[13]]), None)
}

/// <https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html>
fn linux_sll(mut reader: Reader<'_>) -> Result<Frame<'_>, Malformed> {
    let header: &[u8; 16] = reader.take()?;
    let direction = LinkDirection::from_packet_type(u16::from_be_bytes([header[0], header[1]]));
    by_ethertype(
        reader,
        u16::from_be_bytes([header[14], header[15]]),
        direction,
    )
}

/// <https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html>
fn linux_sll2(mut reader: Reader<'_>) -> Result<Frame<'_>, Malformed> {
    let header: &[u8; 20] = reader.take()?;
    let direction = LinkDirection::from_packet_type(u16::from(header[10]));
    by_ethertype(
        reader,
        u16::from_be_bytes([header[0], header[1]]),
        direction,
    )
}

/// <https://www.tcpdump.org/linktypes/LINKTYPE_NULL.html>: `AF_INET` is 2 everywhere, `AF_INET6` differs by system.
fn loopback(mut reader: Reader<'_>, link: Link) -> Result<Frame<'_>, Malformed> {
    let header: &[u8; 4] = reader.take()?;
    let mut family = u32::from_be_bytes(*header);
    // No family is as large as 65,536, and a swapped one below that is at least so.
    if link == Link::Null && family > 0xffff {
        family = family.swap_bytes();
    }
    match family {
        2 => reader.ipv4(Arrival::default()),
        10 | 24 | 28 | 30 => reader.ipv6(Arrival::default()),
        _ => Ok(Frame::NotIp {
            ethertype: 0,
            vlan: Vlan::NONE,
        }),
    }
}

fn by_ethertype(
    mut reader: Reader<'_>,
    mut ethertype: u16,
    direction: Option<LinkDirection>,
) -> Result<Frame<'_>, Malformed> {
    let mut vlan = Vlan::NONE;
    loop {
        let arrival = Arrival { vlan, direction };
        match ethertype {
            ETHERTYPE_IPV4 => {
                return reader.ipv4(arrival);
            }
            ETHERTYPE_IPV6 => {
                return reader.ipv6(arrival);
            }
            tag if Vlan::is_tag(tag) && vlan.inner().is_none() => {
                let [high, low, next @ ..]: &[u8; 4] = reader.take()?;
                vlan = vlan.then(u16::from_be_bytes([*high, *low]));
                ethertype = u16::from_be_bytes(*next);
            }
            _ => return Ok(Frame::NotIp { ethertype, vlan }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;
    use crate::sample;

    fn ethernet_frame(tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        for tag in tags {
            frame.extend([0x81, 0x00]);
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn ip<'a>(link: Link, bytes: &'a [u8]) -> Packet<'a> {
        match parse(link, bytes, bytes.len()) {
            Ok(Frame::Ip(packet)) => packet,
            other => panic!("{other:?}"),
        }
    }

    fn not_ip(link: Link, bytes: &[u8]) -> (u16, Vlan) {
        match parse(link, bytes, bytes.len()) {
            Ok(Frame::NotIp { ethertype, vlan }) => (ethertype, vlan),
            other => panic!("{other:?}"),
        }
    }

    fn defect(link: Link, bytes: &[u8], wire: usize) -> MalformedKind {
        parse(link, bytes, wire).unwrap_err().kind
    }

    #[test]
    fn linktype_numbers() {
        let known = [0, 1, 12, 14, 101, 108, 113, 228, 229, 276];
        for number in 0..400 {
            assert_eq!(
                Link::from_linktype(number).is_some(),
                known.contains(&number),
                "{number}"
            );
        }
    }

    #[test]
    fn ethernet_padding_is_no_payload() {
        let mut frame = ethernet_frame(
            &[],
            ETHERTYPE_IPV4,
            &sample::ipv4(17, &sample::udp(53, b"x")),
        );
        frame.resize(60, 0xee);
        let packet = ip(Link::Ethernet, &frame);
        assert_eq!((packet.ip_bytes().len(), packet.payload()), (29, &b"x"[..]));
    }

    #[test]
    fn up_to_two_tags_and_a_third_is_not_ip() {
        let datagram = sample::ipv6(17, &sample::udp(53, b"x"));
        let ids = |tags: &[u16]| {
            let frame = ethernet_frame(tags, ETHERTYPE_IPV6, &datagram);
            let vlan = ip(Link::Ethernet, &frame).vlan();
            (vlan.outer(), vlan.inner())
        };
        assert_eq!(ids(&[]), (None, None));
        assert_eq!(ids(&[0x2007]), (Some(7), None));
        assert_eq!(ids(&[7, 8]), (Some(7), Some(8)));
        let (ethertype, vlan) = not_ip(
            Link::Ethernet,
            &ethernet_frame(&[7, 8, 9], ETHERTYPE_IPV6, &datagram),
        );
        assert_eq!(
            (ethertype, vlan.outer(), vlan.inner()),
            (0x8100, Some(7), Some(8))
        );
    }

    #[test]
    fn what_is_not_ip() {
        for ethertype in [0x0806, 0x88cc, 0x8847, 0x8864, 100, 1500] {
            let frame = ethernet_frame(&[5], ethertype, &[0xaa; 46]);
            assert_eq!(not_ip(Link::Ethernet, &frame).0, ethertype);
        }
    }

    #[test]
    fn frames_that_end_in_the_link_header() {
        let frame = ethernet_frame(&[1, 2], ETHERTYPE_IPV4, &[]);
        for len in [0, 13, 15, 17, 21] {
            assert_eq!(
                defect(Link::Ethernet, &frame[..len], len),
                MalformedKind::LinkTruncated,
                "{len}"
            );
            assert_eq!(
                defect(Link::Ethernet, &frame[..len], 90),
                MalformedKind::CutByCapture,
                "{len}"
            );
        }
        assert_eq!(
            defect(Link::LinuxSll, &[0; 15], 15),
            MalformedKind::LinkTruncated
        );
        assert_eq!(
            defect(Link::LinuxSll2, &[0; 19], 19),
            MalformedKind::LinkTruncated
        );
        assert_eq!(defect(Link::Null, &[0; 3], 3), MalformedKind::LinkTruncated);
        assert_eq!(defect(Link::RawIp, &[], 0), MalformedKind::LinkTruncated);
        assert_eq!(defect(Link::RawIp, &[], 1), MalformedKind::CutByCapture);
    }

    #[test]
    fn the_ethertype_must_fit_the_version() {
        let v4 = sample::ipv4(17, &sample::udp(53, b"x"));
        let v6 = sample::ipv6(17, &sample::udp(53, b"x"));
        let frame = |ethertype, datagram: &[u8]| ethernet_frame(&[], ethertype, datagram);
        assert_eq!(
            defect(Link::Ethernet, &frame(0x0800, &v6), 63),
            MalformedKind::Ipv4Version
        );
        assert_eq!(
            defect(
                Link::Ethernet,
                &frame(0x86dd, &[v4, vec![0; 20]].concat()),
                63
            ),
            MalformedKind::Ipv6Version
        );
        assert_eq!(
            defect(Link::RawIp, &[0x50; 40], 40),
            MalformedKind::IpVersion
        );
        assert_eq!(defect(Link::Ipv4, &v6, 49), MalformedKind::Ipv4Version);
    }

    #[test]
    fn linux_cooked_both_versions() {
        let datagram = sample::ipv4(17, &sample::udp(53, b"x"));
        let table = [
            (0, Some(LinkDirection::Incoming)),
            (1, Some(LinkDirection::Incoming)),
            (2, Some(LinkDirection::Incoming)),
            (3, Some(LinkDirection::OtherHost)),
            (4, Some(LinkDirection::Outgoing)),
            (5, None),
        ];
        for (packet_type, direction) in table {
            let v1 = [
                &[0, packet_type, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0],
                &datagram[..],
            ]
            .concat();
            assert_eq!(ip(Link::LinuxSll, &v1).link_direction(), direction);
            let v2 = [
                &[
                    8,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    3,
                    0,
                    1,
                    packet_type,
                    6,
                    1,
                    2,
                    3,
                    4,
                    5,
                    6,
                    0,
                    0,
                ],
                &datagram[..],
            ]
            .concat();
            assert_eq!(ip(Link::LinuxSll2, &v2).link_direction(), direction);
        }
        assert_eq!(
            not_ip(
                Link::LinuxSll,
                &[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 6]
            )
            .0,
            0x0806
        );
    }

    #[test]
    fn loopback_families_in_either_order() {
        let v4 = sample::ipv4(17, &sample::udp(53, b"x"));
        let v6 = sample::ipv6(17, &sample::udp(53, b"x"));
        for family in [2u32, 10, 24, 28, 30] {
            let datagram = if family == 2 { &v4 } else { &v6 };
            let big = [&family.to_be_bytes(), &datagram[..]].concat();
            let little = [&family.to_le_bytes(), &datagram[..]].concat();
            assert_eq!(ip(Link::Null, &big).is_ipv6(), family != 2);
            assert_eq!(ip(Link::Null, &little).is_ipv6(), family != 2);
            assert_eq!(ip(Link::Loop, &big).is_ipv6(), family != 2);
            assert_eq!(not_ip(Link::Loop, &little).0, 0);
        }
        assert_eq!(not_ip(Link::Null, &[7, 0, 0, 0, 1]), (0, Vlan::NONE));
    }
}
