//! Writing netlink messages.

use super::NetlinkError;

/// The 4-byte header that every nfnetlink message starts with, and what goes into the netlink header before it
/// (`linux/netfilter/nfnetlink.h`).
#[derive(Clone, Copy, Debug)]
pub struct Netfilter {
    /// `NFNL_SUBSYS_*`; `NFNL_SUBSYS_NFTABLES` is 10.
    pub subsystem: u8,
    /// The subsystem's message type.
    pub message: u8,
    /// `NLM_F_*`; `NLM_F_REQUEST` is always added.
    pub flags: u16,
    /// `NFPROTO_*` or `AF_*`.
    pub family: u8,
    /// The queue or group number, or the subsystem for a batch's begin and end; 0 otherwise.
    pub resource: u16,
}

/// Writes one or more messages, one after another, into one buffer.
///
/// Attributes go to the message begun last. Sequence numbers and the sender's port are filled in by the socket that sends.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    bytes: Vec<u8>,
    /// Where the open message starts; `None` before the first.
    message: Option<usize>,
    /// The length of the first attribute that did not fit its length field.
    too_long: Option<usize>,
}

const HEADER: usize = 16;

impl Builder {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Builder {
        Builder::default()
    }

    /// An empty buffer that reuses the memory of `bytes`.
    #[must_use]
    pub fn reuse(mut bytes: Vec<u8>) -> Builder {
        bytes.clear();
        Builder {
            bytes,
            message: None,
            too_long: None,
        }
    }

    /// Begins a message of type `kind`; `NLM_F_REQUEST` is added to `flags` (`NLM_F_*`).
    pub fn message(&mut self, kind: u16, flags: u16) -> &mut Builder {
        self.close();
        self.message = Some(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]); // the length, known when the message is closed
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]); // sequence and port
        self
    }

    /// Begins an nfnetlink message.
    pub fn netfilter(&mut self, head: Netfilter) -> &mut Builder {
        self.message(
            u16::from(head.subsystem) << 8 | u16::from(head.message),
            head.flags,
        );
        let [high, low] = head.resource.to_be_bytes();
        self.raw(&[head.family, libc::NFNETLINK_V0 as u8, high, low])
    }

    /// Appends bytes as they are, padded to 4: the fixed part of a message.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Builder {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// An attribute of arbitrary bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Builder {
        let length = self.attribute_length(value.len() + 4);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value)
    }

    /// An attribute of one byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Builder {
        self.bytes(kind, &[value])
    }

    /// A 16-bit attribute in network order, as nfnetlink has them.
    pub fn be16(&mut self, kind: u16, value: u16) -> &mut Builder {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A 32-bit attribute in network order, as nfnetlink has them.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Builder {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A 64-bit attribute in network order, as nfnetlink has them.
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Builder {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A 32-bit attribute in the machine's order, as rtnetlink has them.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Builder {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A string attribute with its terminating zero.
    pub fn string(&mut self, kind: u16, value: &str) -> &mut Builder {
        let length = self.attribute_length(value.len() + 5);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.raw(&[0])
    }

    /// An attribute that holds the attributes which `inside` writes.
    pub fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Builder)) -> &mut Builder {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes
            .extend_from_slice(&(kind | libc::NLA_F_NESTED as u16).to_ne_bytes());
        inside(self);
        let length = self.attribute_length(self.bytes.len() - start);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// The number of bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Has nothing been written yet?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The finished messages.
    ///
    /// # Errors
    /// [`NetlinkError::TooLong`] where an attribute, with all that is nested in it, is longer than 65,535 bytes.
    pub fn finish(mut self) -> Result<Vec<u8>, NetlinkError> {
        self.close();
        match self.too_long {
            Some(length) => Err(NetlinkError::TooLong { length }),
            None => Ok(self.bytes),
        }
    }

    fn close(&mut self) {
        if let Some(start) = self.message.take() {
            match u32::try_from(self.bytes.len() - start) {
                Ok(length) => self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes()),
                Err(_) => self.too_long = Some(self.bytes.len() - start),
            }
        }
    }

    fn attribute_length(&mut self, length: usize) -> u16 {
        u16::try_from(length).unwrap_or_else(|_| {
            self.too_long.get_or_insert(length);
            u16::MAX
        })
    }

    fn pad(&mut self) {
        // Every message and attribute starts aligned, so aligning the whole buffer aligns each of them.
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Gives each message in `bytes` its sequence number, counting up from `first`; returns how many there are.
pub(super) fn stamp(bytes: &mut [u8], first: u32) -> usize {
    let (mut at, mut count) = (0, 0);
    while let Some(head) = bytes.get(at..at + HEADER) {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length < HEADER {
            break;
        }
        let sequence = first.wrapping_add(count as u32);
        bytes[at + 8..at + 12].copy_from_slice(&sequence.to_ne_bytes());
        at = at.saturating_add(length.next_multiple_of(4));
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::netlink::Messages;

    #[test]
    fn what_is_written_is_read_back() {
        let mut builder = Builder::new();
        builder
            .netfilter(Netfilter {
                subsystem: 10,
                message: 6,
                flags: 4,
                family: 1,
                resource: 258,
            })
            .string(1, "table")
            .u8(2, 7)
            .nest(3, |list| {
                list.nest(1, |element| {
                    element.be64(5, u64::MAX - 1).bytes(6, &[1, 2, 3]);
                })
                .be16(9, 53);
            })
            .be32(4, 0xdead_beef);
        builder.message(3, 0).u32(1, 99);
        let mut bytes = builder.finish().unwrap();
        assert_eq!(stamp(&mut bytes, u32::MAX), 2);

        let messages: Vec<_> = Messages::new(&bytes).collect();
        assert_eq!(messages.len(), 2);
        let (first, second) = (&messages[0], &messages[1]);
        assert_eq!(
            (first.kind, first.flags, first.sequence),
            (10 << 8 | 6, 5, u32::MAX)
        );
        assert_eq!(
            (second.kind, second.flags, second.sequence),
            (3, 1, 0),
            "sequence numbers wrap"
        );
        let (head, attributes) = first.netfilter().unwrap();
        assert_eq!((head.family, head.resource), (1, 258));
        assert_eq!(attributes.get(1).unwrap().string(), "table");
        assert_eq!(attributes.get(2).unwrap().u8(), Some(7));
        assert_eq!(attributes.get(4).unwrap().be32(), Some(0xdead_beef));
        let list = attributes.get(3).unwrap().nested();
        let element = list.get(1).unwrap().nested();
        assert_eq!(element.get(5).unwrap().be64(), Some(u64::MAX - 1));
        assert_eq!(element.get(6).unwrap().value, [1, 2, 3]);
        assert_eq!(list.get(9).unwrap().be16(), Some(53));
        assert_eq!(second.attributes(0).get(1).unwrap().u32(), Some(99));
    }

    #[test]
    fn an_attribute_too_long_for_its_length_field_is_an_error() {
        for (inner, fits) in [(65_532 - 8, true), (65_532 - 7, false)] {
            let mut builder = Builder::new();
            builder.message(1, 0).nest(1, |list| {
                list.bytes(2, &vec![0; inner]);
            });
            assert_eq!(builder.finish().is_ok(), fits, "{inner}");
        }
    }
}
