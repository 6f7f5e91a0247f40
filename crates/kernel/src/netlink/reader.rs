//! Reading netlink messages, zero-copy. Nothing here panics on any bytes, and nothing loops on them: what does not fit its
//! length field ends the iteration.

/// The messages of one datagram. Ends at the first whose length is impossible.
#[derive(Clone, Copy, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

/// One message: the netlink header's fields and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The type: for nfnetlink the subsystem in the high byte, its message in the low one.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// The sequence number of the request that this answers.
    pub sequence: u32,
    /// The netlink port it is meant for.
    pub port: u32,
    /// What follows the header, without padding.
    pub payload: &'a [u8],
}

/// The fixed header of an nfnetlink message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetfilterHeader {
    /// `NFPROTO_*` or `AF_*`.
    pub family: u8,
    /// The queue or group number, or the generation for nf_tables.
    pub resource: u16,
}

/// The attributes of a message or of a nested attribute. Ends at the first whose length is impossible.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The type, without the flags for nesting and byte order.
    pub kind: u16,
    /// The value, without padding.
    pub value: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Reads a datagram as the kernel sent it.
    #[must_use]
    pub const fn new(datagram: &'a [u8]) -> Messages<'a> {
        Messages { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    #[inline]
    fn next(&mut self) -> Option<Message<'a>> {
        let (head, _) = self.rest.split_first_chunk::<16>()?;
        let length = ne32([head[0], head[1], head[2], head[3]]) as usize;
        let payload = self.rest.get(16..length)?;
        self.rest = self
            .rest
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([head[4], head[5]]),
            flags: u16::from_ne_bytes([head[6], head[7]]),
            sequence: ne32([head[8], head[9], head[10], head[11]]),
            port: ne32([head[12], head[13], head[14], head[15]]),
            payload,
        })
    }
}

impl<'a> Message<'a> {
    /// The nfnetlink header and the attributes after it; `None` when the message is too short to hold it.
    #[inline]
    #[must_use]
    pub fn netfilter(&self) -> Option<(NetfilterHeader, Attributes<'a>)> {
        let (head, rest) = self.payload.split_first_chunk::<4>()?;
        let header = NetfilterHeader {
            family: head[0],
            resource: u16::from_be_bytes([head[2], head[3]]),
        };
        Some((header, Attributes::new(rest)))
    }

    /// The attributes after a fixed part of `skip` bytes; none when the message is shorter.
    #[must_use]
    pub fn attributes(&self, skip: usize) -> Attributes<'a> {
        let start = skip.checked_next_multiple_of(4).unwrap_or(usize::MAX);
        Attributes::new(self.payload.get(start..).unwrap_or_default())
    }

    /// The error code (0 for an acknowledgement, otherwise positive) of an `NLMSG_ERROR`, or of an `NLMSG_DONE` that
    /// carries one; `None` for every other message.
    #[must_use]
    pub fn error(&self) -> Option<i32> {
        let (code, _) = self.payload.split_first_chunk::<4>().unzip();
        match i32::from(self.kind) {
            libc::NLMSG_ERROR => Some(code.map_or(libc::EBADMSG, |code| {
                i32::from_ne_bytes(*code).saturating_neg()
            })),
            libc::NLMSG_DONE => {
                Some(code.map_or(0, |code| i32::from_ne_bytes(*code).saturating_neg()))
            }
            _ => None,
        }
    }

    /// The attributes of an extended acknowledgement (`NLMSGERR_ATTR_*`); none where the kernel sent none.
    #[must_use]
    pub fn explanation(&self) -> Attributes<'a> {
        const CAPPED: u16 = 0x100; // NLM_F_CAPPED: the request's payload is not repeated
        const ATTRIBUTES: u16 = 0x200; // NLM_F_ACK_TLVS
        if i32::from(self.kind) != libc::NLMSG_ERROR || self.flags & ATTRIBUTES == 0 {
            return Attributes::default();
        }
        let request = if self.flags & CAPPED != 0 {
            16
        } else {
            let length = self
                .payload
                .get(4..)
                .and_then(|rest| rest.first_chunk::<4>());
            length.map_or(usize::MAX / 2, |length| ne32(*length) as usize)
        };
        self.attributes(request.saturating_add(4))
    }
}

impl<'a> Attributes<'a> {
    /// Reads the attributes that `bytes` hold.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Attributes<'a> {
        Attributes { rest: bytes }
    }

    /// The first attribute of a type.
    #[must_use]
    pub fn get(self, kind: u16) -> Option<Attribute<'a>> {
        { self }.find(|attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<Attribute<'a>> {
        const FLAGS: u16 = 0xc000; // NLA_F_NESTED, NLA_F_NET_BYTEORDER
        let (head, _) = self.rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = self.rest.get(4..length)?;
        self.rest = self
            .rest
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some(Attribute {
            kind: u16::from_ne_bytes([head[2], head[3]]) & !FLAGS,
            value,
        })
    }
}

/// Every accessor is `None` when the value is too short; a longer value is read from its beginning, as the kernel does.
impl<'a> Attribute<'a> {
    /// The first byte.
    #[must_use]
    pub fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    /// 16 bits in network order.
    #[inline]
    #[must_use]
    pub fn be16(&self) -> Option<u16> {
        self.value
            .first_chunk()
            .map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// 32 bits in network order.
    #[inline]
    #[must_use]
    pub fn be32(&self) -> Option<u32> {
        self.value
            .first_chunk()
            .map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// 64 bits in network order.
    #[inline]
    #[must_use]
    pub fn be64(&self) -> Option<u64> {
        self.value
            .first_chunk()
            .map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// 32 bits in the machine's order.
    #[must_use]
    pub fn u32(&self) -> Option<u32> {
        self.value.first_chunk().map(|bytes| ne32(*bytes))
    }

    /// Text up to the first zero byte; empty where it is not UTF-8.
    #[must_use]
    pub fn string(&self) -> &'a str {
        let text = self
            .value
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// The attributes inside.
    #[must_use]
    pub const fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value)
    }
}

/// The seconds and microseconds that nfnetlink stamps packets with (`nfulnl_msg_packet_timestamp`); `None` for an impossible
/// value.
pub(crate) fn timestamp(value: &[u8]) -> Option<policy::Timestamp> {
    let (seconds, rest) = value.split_first_chunk::<8>()?;
    let seconds = u64::from_be_bytes(*seconds);
    let micros = u64::from_be_bytes(*rest.first_chunk()?);
    seconds
        .checked_mul(1_000_000)?
        .checked_add(micros)
        .map(policy::Timestamp::from_micros)
}

#[inline]
const fn ne32(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_end_and_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), length in 0u8..60) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = length; // makes plausible lengths common
            }
            if let Some(rest) = bytes.get_mut(1..4) {
                rest.fill(0);
            }
            let mut count = 0;
            for message in Messages::new(&bytes) {
                count += 1;
                let _ = (message.error(), message.explanation().count(), message.attributes(1).count());
                for attribute in message.netfilter().map(|(_, attributes)| attributes).into_iter().flatten() {
                    let _ = (attribute.string(), attribute.be64(), attribute.nested().count());
                }
            }
            prop_assert!(count <= bytes.len() / 16);
        }
    }

    #[test]
    fn lengths_that_cannot_be_end_the_iteration() {
        let message = |length: u32| [&length.to_ne_bytes()[..], &[0; 12]].concat();
        for (length, count) in [(16, 1), (15, 0), (0, 0), (17, 0), (u32::MAX, 0)] {
            assert_eq!(Messages::new(&message(length)).count(), count, "{length}");
        }
        let attribute = |length: u16| [&length.to_ne_bytes()[..], &[0; 2]].concat();
        for (length, count) in [(4, 1), (3, 0), (0, 0), (5, 0), (u16::MAX, 0)] {
            assert_eq!(
                Attributes::new(&attribute(length)).count(),
                count,
                "{length}"
            );
        }
    }
}
