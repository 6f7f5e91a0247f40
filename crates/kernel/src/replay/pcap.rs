//! pcap: a file header, then records (draft-ietf-opsawg-pcap), with the variants that libpcap also reads.

use policy::{Direction, Timestamp};
use wire::Link;

use super::order::ByteOrder;
use super::window::Window;
use super::{Stop, Warning, longest_packet};
use crate::source::Captured;

/// Length of the file's header in bytes.
pub(super) const FILE_HEADER: usize = 24;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// Alexey Kuznetsov's libpcap of the 1990s, shipped by Red Hat and SuSE: each record's header is 8 bytes longer.
const KUZNETSOV: u32 = 0xa1b2_cd34;

/// How to read the records of one file.
pub(super) struct Pcap {
    order: ByteOrder,
    nanoseconds: bool,
    /// Length of a record's header in bytes.
    header: usize,
    lengths: Lengths,
    linktype: u32,
    link: Option<Link>,
    longest: u32,
}

/// Which of a record's two lengths comes first: old writers had them the other way round, as libpcap's
/// `sf-pcap.c` tells.
enum Lengths {
    CapturedFirst,
    CapturedLast,
    /// The captured length is the smaller one.
    Unsure,
}

impl Pcap {
    /// Reads a file's header; `None` when it is none.
    pub(super) fn open(head: &[u8]) -> Option<Pcap> {
        let head: &[u8; FILE_HEADER] = head.first_chunk()?;
        let magic = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (magic, order) = match magic {
            MICROSECONDS | NANOSECONDS | KUZNETSOV => (magic, ByteOrder::Big),
            _ => (magic.swap_bytes(), ByteOrder::Little),
        };
        if !matches!(magic, MICROSECONDS | NANOSECONDS | KUZNETSOV) {
            return None;
        }
        let major = order.u16(head, 4);
        let minor = order.u16(head, 6);
        let lengths = match (major, minor) {
            (543, _) | (2, 0..=2) => Lengths::CapturedLast,
            (2, 3) => Lengths::Unsure,
            _ => Lengths::CapturedFirst,
        };
        // The upper bits say whether frames end in a checksum (FCS); packets carry their own length, so it does no harm.
        let linktype = order.u32(head, 20) & 0xffff;
        Some(Pcap {
            order,
            nanoseconds: magic == NANOSECONDS,
            header: if magic == KUZNETSOV { 24 } else { 16 },
            lengths,
            linktype,
            link: Link::from_linktype(linktype),
            longest: longest_packet(linktype),
        })
    }

    #[inline]
    pub(super) fn next<'w>(&mut self, window: &'w mut Window) -> Result<Captured<'w>, Stop> {
        let at = window.position();
        match window.fill(self.header)? {
            0 => return Err(Stop::End),
            got if got < self.header => return Err(Stop::Damage(Warning::Truncated { at })),
            _ => {}
        }
        let head = window.peek(self.header);
        let Some([seconds, fraction, first, second]) = self.order.words(head) else {
            return Err(Stop::Damage(Warning::Truncated { at }));
        };
        let (captured, original) = match self.lengths {
            Lengths::CapturedLast => (second, first),
            Lengths::Unsure if first > second => (second, first),
            _ => (first, second),
        };
        let scale = if self.nanoseconds { 1 } else { 1_000 };
        let nanos = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * scale;
        let direction = if self.header == 24 {
            kuznetsov_direction(head[22])
        } else {
            None
        };
        if captured > self.longest {
            return Err(Stop::Damage(Warning::Corrupt {
                at,
                what: "a packet longer than any can be",
            }));
        }
        let length = self.header + captured as usize;
        if window.fill(length)? < length {
            return Err(Stop::Damage(Warning::Truncated { at }));
        }
        Ok(Captured {
            timestamp: Timestamp::from_nanos(nanos),
            link: self.link,
            linktype: self.linktype,
            bytes: &window.take(length)[self.header..],
            wire_len: original.max(captured) as usize,
            direction,
            interface: None,
            checksum_unfilled: false,
        })
    }
}

/// The packet type that Kuznetsov's header adds, as in `linux/if_packet.h`.
fn kuznetsov_direction(packet_type: u8) -> Option<Direction> {
    match packet_type {
        0..=2 => Some(Direction::In),
        4 => Some(Direction::Out),
        _ => None,
    }
}
