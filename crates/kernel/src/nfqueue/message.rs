//! What the kernel says about a packet that it holds (`linux/netfilter/nfnetlink_queue.h`).

use policy::{Direction, Timestamp};

use super::{PACKET, SUBSYSTEM};
use crate::hook;
use crate::netlink::{Attributes, Message};

/// A packet that waits for its verdict.
#[derive(Clone, Copy, Debug)]
pub struct QueuedPacket<'a> {
    /// The queue that it waits in.
    pub queue: u16,
    /// Its number in the queue; numbers grow by one, and wrap.
    pub id: u32,
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
    /// When it arrived, where the kernel stamped it.
    pub timestamp: Option<Timestamp>,
    /// The IP packet, or its beginning where the queue copies less.
    pub payload: &'a [u8],
    /// Length of the whole packet in bytes.
    pub full_len: usize,
    /// Several segments in one, which will be cut up when it is sent on: longer than any wire carries.
    pub whole_segments: bool,
    /// The transport checksum is not filled in: it proves nothing.
    pub checksum_unfilled: bool,
    /// Attributes of its connection (`CTA_*`); empty unless asked for and given.
    pub conntrack: Attributes<'a>,
}

impl QueuedPacket<'_> {
    /// The direction that the hook stands for; `None` before and after routing.
    #[must_use]
    pub const fn direction(&self) -> Option<Direction> {
        hook::direction(self.hook)
    }
}

/// Reads one message of the kernel; `None` when it is not a packet, or none that could be answered.
#[inline]
#[must_use]
pub fn parse_queue_message<'a>(message: &Message<'a>) -> Option<QueuedPacket<'a>> {
    if message.kind != u16::from(SUBSYSTEM) << 8 | u16::from(PACKET) {
        return None;
    }
    let (header, attributes) = message.netfilter()?;
    let mut packet = QueuedPacket {
        queue: header.resource,
        id: 0,
        hook: 0,
        protocol: 0,
        mark: 0,
        interface_in: 0,
        interface_out: 0,
        timestamp: None,
        payload: &[],
        full_len: 0,
        whole_segments: false,
        checksum_unfilled: false,
        conntrack: Attributes::default(),
    };
    let mut identified = false;
    for attribute in attributes {
        match i32::from(attribute.kind) {
            libc::NFQA_PACKET_HDR => {
                // nfqnl_msg_packet_hdr: id, ethertype, hook.
                let [a, b, c, d, high, low, hook] = attribute.value.first_chunk()?;
                packet.id = u32::from_be_bytes([*a, *b, *c, *d]);
                packet.protocol = u16::from_be_bytes([*high, *low]);
                packet.hook = *hook;
                identified = true;
            }
            libc::NFQA_MARK => packet.mark = attribute.be32().unwrap_or(0),
            libc::NFQA_IFINDEX_INDEV => packet.interface_in = attribute.be32().unwrap_or(0),
            libc::NFQA_IFINDEX_OUTDEV => packet.interface_out = attribute.be32().unwrap_or(0),
            libc::NFQA_TIMESTAMP => packet.timestamp = crate::netlink::timestamp(attribute.value),
            libc::NFQA_PAYLOAD => packet.payload = attribute.value,
            libc::NFQA_CAP_LEN => packet.full_len = attribute.be32().unwrap_or(0) as usize,
            libc::NFQA_SKB_INFO => {
                let flags = attribute.be32().unwrap_or(0);
                packet.whole_segments = flags & libc::NFQA_SKB_GSO as u32 != 0;
                packet.checksum_unfilled = flags & libc::NFQA_SKB_CSUMNOTREADY as u32 != 0;
            }
            libc::NFQA_CT => packet.conntrack = attribute.nested(),
            _ => {}
        }
    }
    // The kernel names the full length only where it copied less.
    packet.full_len = packet.full_len.max(packet.payload.len());
    identified.then_some(packet)
}
