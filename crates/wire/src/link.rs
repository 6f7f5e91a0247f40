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
    let reader = Reader {
        rest: bytes,
        cut: wire_len.saturating_sub(bytes.len()),
    };
    match link {
        Link::Ethernet => ethernet(reader),
        Link::RawIp => {
            packet::parse_either(reader.rest, reader.wire(), Arrival::default()).map(Frame::Ip)
        }
        Link::Ipv4 => {
            packet::parse_ipv4(reader.rest, reader.wire(), Arrival::default()).map(Frame::Ip)
        }
        Link::Ipv6 => {
            packet::parse_ipv6(reader.rest, reader.wire(), Arrival::default()).map(Frame::Ip)
        }
        Link::LinuxSll => linux_sll(reader),
        Link::LinuxSll2 => linux_sll2(reader),
        Link::Null | Link::Loop => loopback(reader, link),
    }
}

/// The bytes not yet read, and how many more the capture cut off their end.
#[derive(Clone, Copy)]
struct Reader<'a> {
    rest: &'a [u8],
    cut: usize,
}

impl<'a> Reader<'a> {
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

#[inline]
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
        2 => packet::parse_ipv4(reader.rest, reader.wire(), Arrival::default()).map(Frame::Ip),
        10 | 24 | 28 | 30 => {
            packet::parse_ipv6(reader.rest, reader.wire(), Arrival::default()).map(Frame::Ip)
        }
        _ => Ok(Frame::NotIp {
            ethertype: 0,
            vlan: Vlan::NONE,
        }),
    }
}

#[inline]
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
                return packet::parse_ipv4(reader.rest, reader.wire(), arrival).map(Frame::Ip);
            }
            ETHERTYPE_IPV6 => {
                return packet::parse_ipv6(reader.rest, reader.wire(), arrival).map(Frame::Ip);
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
