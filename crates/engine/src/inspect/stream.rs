//! The first bytes of one direction of a TCP connection, put in order.
//!
//! Where segments overlap, what came first stays, as in the receive queue of Linux (net/ipv4/tcp_input.c).

use std::collections::BTreeMap;
use std::ops::Range;

use wire::TcpFlags;

/// Bytes from the begin of the stream, and segments that wait for those before them.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Sequence number of the first byte.
    base: Option<u32>,
    bytes: Vec<u8>,
    /// By offset from the base; all beyond `bytes`.
    waiting: BTreeMap<u32, Vec<u8>>,
    waiting_bytes: usize,
}

impl Stream {
    /// Takes in a segment, up to `depth` bytes of stream; gives the range by which the bytes in order grew.
    pub(crate) fn take(
        &mut self,
        sequence: u32,
        flags: TcpFlags,
        payload: &[u8],
        depth: u32,
    ) -> Range<usize> {
        let before = self.bytes.len();
        if flags.syn() {
            self.base.get_or_insert(sequence.wrapping_add(1));
        }
        if payload.is_empty() {
            return before..before;
        }
        let first_byte = if flags.syn() {
            sequence.wrapping_add(1)
        } else {
            sequence
        };
        let base = *self.base.get_or_insert(first_byte);
        let offset = first_byte.wrapping_sub(base);
        // Half of the sequence space lies behind the base: keep-alives and segments from before the capture began.
        let (offset, payload) = if offset > u32::MAX / 2 {
            let behind = base.wrapping_sub(first_byte) as usize;
            (0, payload.get(behind..).unwrap_or_default())
        } else {
            (offset, payload)
        };
        let room = depth.saturating_sub(offset) as usize;
        self.put(offset, &payload[..payload.len().min(room)]);
        self.join();
        before..self.bytes.len()
    }

    /// The bytes in order, at most `depth` of them.
    pub(crate) fn contiguous(&self, depth: u32) -> &[u8] {
        &self.bytes[..self.bytes.len().min(depth as usize)]
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity() + self.waiting_bytes
    }

    fn put(&mut self, offset: u32, payload: &[u8]) {
        let known = self.bytes.len() as u32;
        let skip = known.saturating_sub(offset) as usize;
        let Some(fresh) = payload.get(skip..).filter(|fresh| !fresh.is_empty()) else {
            return;
        };
        let offset = offset.max(known);
        if offset == known {
            // In order, which is nearly always.
            let end = self.waiting.keys().next().map_or(fresh.len(), |&next| {
                fresh.len().min((next - offset) as usize)
            });
            self.bytes.extend_from_slice(&fresh[..end]);
            if end < fresh.len() {
                self.join();
                let (at, rest) = (offset + end as u32, &fresh[end..]);
                self.put(at, rest);
            }
            return;
        }
        // Fill the gaps that waiting segments leave.
        let mut at = offset;
        let end = offset + fresh.len() as u32;
        let mut gaps: Vec<(u32, u32)> = Vec::new();
        let before = self
            .waiting
            .range(..=offset)
            .next_back()
            .map(|(&start, piece)| start + piece.len() as u32);
        at = at.max(before.unwrap_or(at));
        for (&start, piece) in self.waiting.range(offset..end) {
            if start > at {
                gaps.push((at, start));
            }
            at = at.max(start + piece.len() as u32);
        }
        if at < end {
            gaps.push((at, end));
        }
        for (start, stop) in gaps {
            let piece = fresh[(start - offset) as usize..(stop - offset) as usize].to_vec();
            self.waiting_bytes += piece.len();
            self.waiting.insert(start, piece);
        }
    }

    /// Moves what waits and now fits to the bytes in order.
    fn join(&mut self) {
        while let Some(entry) = self.waiting.first_entry() {
            if *entry.key() > self.bytes.len() as u32 {
                return;
            }
            let (at, piece) = entry.remove_entry();
            self.waiting_bytes -= piece.len();
            let skip = self.bytes.len() - at as usize;
            self.bytes
                .extend_from_slice(piece.get(skip..).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_copy_of_a_byte_stays() {
        let mut stream = Stream::default();
        stream.take(99, TcpFlags::SYN, b"", 100);
        stream.take(104, TcpFlags::ACK, b"EFGH", 100);
        stream.take(102, TcpFlags::ACK, b"cdxxxxij", 100);
        assert_eq!(stream.take(100, TcpFlags::ACK, b"ab??", 100), 0..10);
        assert_eq!(stream.contiguous(100), b"abcdEFGHij");
        assert_eq!(stream.contiguous(3), b"abc");
    }

    #[test]
    fn what_lies_before_the_base_is_left_out() {
        let mut stream = Stream::default();
        stream.take(1_000, TcpFlags::ACK, b"abc", 100);
        stream.take(998, TcpFlags::ACK, b"..ab", 100);
        stream.take(u32::MAX, TcpFlags::ACK, b"far away", 100);
        assert_eq!(stream.contiguous(100), b"abc");
    }

    proptest! {
        /// Any cut, in any order, with any repetition, around the wrap of the sequence space, gives the stream.
        #[test]
        fn any_order_gives_the_stream(
            text in prop::collection::vec(any::<u8>(), 1..200),
            mut cuts in prop::collection::vec((0usize..200, 1usize..60), 0..60),
            base in any::<u32>(),
        ) {
            cuts.push((0, text.len()));
            let mut stream = Stream::default();
            stream.take(base.wrapping_sub(1), TcpFlags::SYN, b"", 1_000);
            for (from, len) in cuts {
                let from = from.min(text.len());
                let to = (from + len).min(text.len());
                stream.take(base.wrapping_add(from as u32), TcpFlags::ACK, &text[from..to], 1_000);
                prop_assert!(text.starts_with(stream.contiguous(1_000)));
            }
            prop_assert_eq!(stream.contiguous(1_000), &text[..]);
            prop_assert_eq!(stream.waiting_bytes, 0);
        }
    }
}
