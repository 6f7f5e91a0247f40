//! What the kernel says about a packet that a rule logged (`linux/netfilter/nfnetlink_log.h`).

use policy::{Direction, Timestamp};

use super::{PACKET, SUBSYSTEM};
use crate::hook;
use crate::netlink::{Message, timestamp};

/// A logged packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogPacket<'a> {
    /// The rule's prefix; empty where it has none or is not UTF-8.
    pub prefix: &'a str,
    /// When the packet arrived, where the kernel stamped it.
    pub timestamp: Option<Timestamp>,
    /// `NF_INET_*`: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting.
    pub hook: u8,
    /// The ethertype.
    pub protocol: u16,
    /// The firewall mark.
    pub mark: u32,
    /// Index of the interface that it came in by; 0 for none.
    pub interface_in: u32,
    /// Index of the interface that it will go out by; 0 for none.
    pub interface_out: u32,
    /// The user whose socket sends it; only on the way out.
    pub user: Option<u32>,
    /// The IP packet's beginning.
    pub payload: &'a [u8],
    /// Its number in the group: a gap is a loss.
    pub number: Option<u32>,
}

impl LogPacket<'_> {
    /// The direction that the hook stands for; `None` before and after routing.
    #[must_use]
    pub const fn direction(&self) -> Option<Direction> {
        hook::direction(self.hook)
    }

    /// Length of the whole packet in bytes, as its IP header says; never below the payload's.
    #[must_use]
    pub fn full_len(&self) -> usize {
        let claimed = match self.payload {
            [first, _, high, low, ..] if first >> 4 == 4 => {
                usize::from(u16::from_be_bytes([*high, *low]))
            }
            [first, _, _, _, high, low, ..] if first >> 4 == 6 => {
                40 + usize::from(u16::from_be_bytes([*high, *low]))
            }
            _ => 0,
        };
        claimed.max(self.payload.len())
    }
}

/// Reads one message of the kernel; `None` when it is no packet.
#[inline]
#[must_use]
pub fn parse_log_message<'a>(message: &Message<'a>) -> Option<LogPacket<'a>> {
    if message.kind != u16::from(SUBSYSTEM) << 8 | u16::from(PACKET) {
        return None;
    }
    let (_, attributes) = message.netfilter()?;
    let mut packet = LogPacket::default();
    for attribute in attributes {
        match i32::from(attribute.kind) {
            libc::NFULA_PACKET_HDR => {
                // nfulnl_msg_packet_hdr: ethertype, hook.
                let [high, low, hook] = attribute.value.first_chunk()?;
                packet.protocol = u16::from_be_bytes([*high, *low]);
                packet.hook = *hook;
            }
            libc::NFULA_PREFIX => packet.prefix = attribute.string(),
            libc::NFULA_TIMESTAMP => packet.timestamp = timestamp(attribute.value),
            libc::NFULA_MARK => packet.mark = attribute.be32().unwrap_or(0),
            libc::NFULA_IFINDEX_INDEV => packet.interface_in = attribute.be32().unwrap_or(0),
            libc::NFULA_IFINDEX_OUTDEV => packet.interface_out = attribute.be32().unwrap_or(0),
            libc::NFULA_UID => packet.user = attribute.be32(),
            libc::NFULA_PAYLOAD => packet.payload = attribute.value,
            libc::NFULA_SEQ => packet.number = attribute.be32(),
            _ => {}
        }
    }
    Some(packet)
}
