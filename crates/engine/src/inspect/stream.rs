//! The first bytes of one direction of a TCP connection, put in order.
//!
//! Receivers disagree about what overlaps, and discard segments for reasons that an observer may not see (Ptacek and Newsham
//! 1998). So a segment that contradicts one before it is not taken at all: an honest sender's second copy is the first one.

use std::collections::BTreeMap;
use std::ops::Range;

use wire::{Tcp, TcpOption};

use super::past::Past;

/// What a segment that waits takes beside its bytes: an entry of the map, a vector and its allocation.
const PIECE: usize = 96;

/// Bytes from the begin of the stream, and segments that wait for those before them.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Sequence number of the first byte.
    base: Option<u32>,
    /// A SYN said so: no honest byte lies before it.
    is_whole: bool,
    /// What lies before the base since bytes were left out unseen, which may still come.
    past: Past,
    /// Bytes before the base that were in order and are forgotten.
    forgotten: u32,
    bytes: Vec<u8>,
    /// Bytes before the base, those that were jumped too.
    passed: u64,
    /// By the bytes before them, so that none moves when the base does; all beyond `bytes`.
    waiting: BTreeMap<u64, Vec<u8>>,
    waiting_bytes: usize,
    /// The sender's clock at the last byte in order (RFC 7323).
    clock: Option<u32>,
}

/// How far a stream is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Sequence number behind the last byte in order.
    end: u32,
    /// No byte was sent yet.
    is_empty: bool,
    /// More was sent, behind a gap.
    waits: bool,
}

impl Reach {
    /// Whether this is the number that the receiver of the stream expects, if it has received all of it.
    pub(crate) fn is_at(self, sequence: u32) -> bool {
        !self.waits && self.end == sequence
    }

    /// Whether anything was sent.
    pub(crate) fn is_begun(self) -> bool {
        !self.is_empty
    }
}

impl Stream {
    /// A stream whose first byte has this number, as a SYN said.
    pub(crate) fn beginning_at(first_byte: u32) -> Self {
        Self {
            base: Some(first_byte),
            is_whole: true,
            ..Self::default()
        }
    }

    /// Takes in a segment, up to `depth` bytes of stream; gives the range by which the bytes in order grew, and nothing when
    /// its receiver may take it for other bytes than these.
    pub(crate) fn take(&mut self, segment: &Tcp<'_>, depth: u32) -> Option<Range<usize>> {
        let mut clock = None;
        for option in segment.options() {
            match option {
                TcpOption::Timestamps { value, .. } => clock = Some(value),
                // Segments signed by a key that was not agreed upon are dropped (RFC 2385, RFC 5925): a SYN or a RST among them
                // begins or ends nothing but the connection that connection tracking sees.
                TcpOption::Other { kind: 19 | 29, .. } | TcpOption::Malformed => return None,
                _ => {}
            }
        }
        // Receivers discard what a RST carries, and most of them what a SYN does: in a connection that is under way (RFC 5961), or where
        // they take none (RFC 7413). Whoever sent it with the SYN sends it again.
        if segment.flags().rst() {
            return Some(self.bytes.len()..self.bytes.len());
        }
        if segment.flags().syn() && !segment.payload().is_empty() {
            return None;
        }
        if segment.payload().is_empty() && !segment.flags().fin() {
            return Some(self.bytes.len()..self.bytes.len());
        }
        // Older than what was seen in order is not accepted (PAWS, RFC 7323 section 5.3; `TCP_PAWS_WINDOW` of Linux is 1).
        let passed = self.clock.zip(clock);
        let passed = passed.map(|(last, clock)| last.wrapping_sub(clock).cast_signed());
        if passed.is_some_and(|passed| passed > 1) {
            return None;
        }
        if segment.payload().is_empty() {
            return Some(self.bytes.len()..self.bytes.len());
        }
        // Urgent data may be left out of the stream (RFC 6093 section 3).
        if segment.flags().urg() {
            return None;
        }
        let grown = self.take_bytes(segment.sequence(), segment.payload(), depth)?;
        if clock.is_some() && !grown.is_empty() {
            self.clock = clock;
        }
        Some(grown)
    }

    /// Takes the number of the first byte from a SYN that was taken in, where it is not known yet.
    pub(crate) fn begin_by(&mut self, syn: &Tcp<'_>) {
        if syn.flags().syn() && self.base.is_none() {
            self.base = Some(syn.sequence().wrapping_add(1));
            self.is_whole = true;
        }
    }

    /// How far behind the first byte held a segment begins, modulo 2³²: from 2³¹ on it begins before it. Nothing where the first
    /// byte is not known yet.
    pub(crate) fn offset(&self, segment: &Tcp<'_>) -> Option<u32> {
        let first_byte = segment
            .sequence()
            .wrapping_add(u32::from(segment.flags().syn()));
        Some(first_byte.wrapping_sub(self.base?))
    }

    /// Forgets the first bytes in order: what is sent again of them cannot be compared any more.
    pub(crate) fn forget(&mut self, count: usize) {
        let count = count.min(self.bytes.len());
        self.bytes.drain(..count);
        self.bytes.shrink_to(self.bytes.len());
        self.advance(count);
    }

    /// Puts the first bytes in order into the past: what is sent again of them has to be the same, but for the parts of them that nobody
    /// looks at, in order.
    pub(crate) fn pass(&mut self, count: usize, unseen: &[Range<usize>]) {
        let count = count.min(self.bytes.len());
        let gone: Vec<u8> = self.bytes.drain(..count).collect();
        self.bytes.shrink_to(self.bytes.len());
        if let Some(base) = self.base {
            let place = |at: usize| base.wrapping_add(at as u32);
            let mut seen = 0;
            for part in unseen {
                let (start, end) = (part.start.min(count), part.end.min(count));
                if start < end {
                    self.past.add_bytes(place(seen), gone[seen..start].to_vec());
                    self.past.add_unseen(place(start), (end - start) as u32);
                    seen = end;
                }
            }
            self.past.add_bytes(place(seen), gone[seen..].to_vec());
        }
        self.advance(count);
    }

    /// So many bytes in order were taken away.
    fn advance(&mut self, count: usize) {
        let moved = count as u32;
        self.forgotten = self.forgotten.saturating_add(moved);
        // What is sent again of them may be anything.
        self.is_whole |= moved > 0;
        self.base = self.base.map(|base| base.wrapping_add(moved));
        self.passed += u64::from(moved);
    }

    /// Leaves out the bytes in order, and so many behind them that need not be seen: at most 2³⁰. What waits behind those may be in
    /// order then.
    pub(crate) fn jump(&mut self, count: u32) {
        self.pass(self.bytes.len(), &[]);
        if let Some(base) = &mut self.base {
            self.past.add_unseen(*base, count);
            *base = base.wrapping_add(count);
        }
        self.passed += u64::from(count);
        while let Some(entry) =
            (self.waiting.first_entry()).filter(|entry| *entry.key() < self.passed)
        {
            let (at, mut piece) = entry.remove_entry();
            let skip = ((self.passed - at) as usize).min(piece.len());
            self.waiting_bytes -= skip;
            piece.drain(..skip);
            if !piece.is_empty() {
                self.waiting.insert(self.passed, piece);
            }
        }
        self.join();
    }

    fn take_bytes(&mut self, first_byte: u32, payload: &[u8], depth: u32) -> Option<Range<usize>> {
        let before = self.bytes.len();
        let base = *self.base.get_or_insert(first_byte);
        let offset = first_byte.wrapping_sub(base);
        // Half of the sequence space lies behind the base: segments from before the capture began.
        let (offset, payload) = if offset > u32::MAX / 2 {
            let behind = base.wrapping_sub(first_byte) as usize;
            let (before, rest) = payload.split_at(behind.min(payload.len()));
            let agrees = if self.past.is_empty() {
                !self.is_whole
            } else {
                self.past.agrees(first_byte, before)
            };
            if !agrees {
                return None;
            }
            (0, rest)
        } else {
            (offset, payload)
        };
        let room = depth.saturating_sub(offset) as usize;
        let payload = &payload[..payload.len().min(room)];
        if self.differs(offset, payload) {
            return None;
        }
        self.put(offset, payload);
        self.join();
        Some(before..self.bytes.len())
    }

    /// Whether a byte of the payload is not the one that was sent before in its place. Which of the two the receiver takes
    /// depends on its system, its memory and on segments that it discards unseen.
    fn differs(&self, offset: u32, payload: &[u8]) -> bool {
        let differ = |start: usize, held: &[u8]| {
            let at = offset as usize;
            let (first, last) = (at.max(start), (at + payload.len()).min(start + held.len()));
            first < last && payload[first - at..last - at] != held[first - start..last - start]
        };
        // Pieces do not overlap each other: one may reach into the payload from before it, the others begin in it.
        let end = offset.saturating_add(payload.len() as u32);
        let place = |offset: u32| self.passed + u64::from(offset);
        let before = self.waiting.range(..place(offset)).next_back();
        let within = self.waiting.range(place(offset)..place(end));
        differ(0, &self.bytes)
            || (before.into_iter().chain(within))
                .any(|(&start, piece)| differ((start - self.passed) as usize, piece))
    }

    /// The bytes in order, at most `depth` of them.
    pub(crate) fn contiguous(&self, depth: u32) -> &[u8] {
        &self.bytes[..self.bytes.len().min(depth as usize)]
    }

    /// How many bytes in order are forgotten.
    pub(crate) const fn forgotten(&self) -> u32 {
        self.forgotten
    }

    /// Whether something waits for bytes before it.
    pub(crate) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Where the bytes in order end, where that is known.
    pub(crate) fn reach(&self) -> Option<Reach> {
        Some(Reach {
            end: self.base?.wrapping_add(self.bytes.len() as u32),
            is_empty: self.bytes.is_empty() && self.forgotten == 0 && !self.waits(),
            waits: self.waits(),
        })
    }

    /// Forgets half of what is in order, but not the last `keep` bytes. Whether that was anything.
    pub(crate) fn shed(&mut self, keep: usize) -> bool {
        let len = self.bytes.len();
        let old = (len - len / 2).min(len.saturating_sub(keep));
        self.forget(old);
        old > 0
    }

    /// Bytes held, with what keeping segments apart costs: one-byte segments are no way around the bound.
    pub(crate) fn memory(&self) -> usize {
        self.held() + self.bytes.capacity() - self.bytes.len()
    }

    /// The same without the room for more, up to as much again, which hangs on how the bytes in order were cut.
    pub(crate) fn held(&self) -> usize {
        self.bytes.len() + self.waiting_bytes + self.waiting.len() * PIECE + self.past.memory()
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
            let here = self.passed + u64::from(offset);
            let end = self
                .waiting
                .keys()
                .next()
                .map_or(fresh.len(), |&next| fresh.len().min((next - here) as usize));
            self.bytes.extend_from_slice(&fresh[..end]);
            if end < fresh.len() {
                self.join();
                let (at, rest) = (offset + end as u32, &fresh[end..]);
                self.put(at, rest);
            }
            return;
        }
        // Fill the gaps that waiting segments leave.
        let begin = self.passed + u64::from(offset);
        let end = begin + fresh.len() as u64;
        let mut gaps: Vec<(u64, u64)> = Vec::new();
        let before = self.waiting.range(..=begin).next_back();
        let before = before.map(|(&start, piece)| start + piece.len() as u64);
        let mut at = before.unwrap_or(begin).max(begin);
        for (&start, piece) in self.waiting.range(begin..end) {
            if start > at {
                gaps.push((at, start));
            }
            at = at.max(start + piece.len() as u64);
        }
        if at < end {
            gaps.push((at, end));
        }
        for (start, stop) in gaps {
            let piece = fresh[(start - begin) as usize..(stop - begin) as usize].to_vec();
            self.waiting_bytes += piece.len();
            self.waiting.insert(start, piece);
        }
    }

    /// Moves what waits and now fits to the bytes in order.
    fn join(&mut self) {
        while let Some(entry) = self.waiting.first_entry() {
            let in_order = self.passed + self.bytes.len() as u64;
            if *entry.key() > in_order {
                return;
            }
            let (at, piece) = entry.remove_entry();
            self.waiting_bytes -= piece.len();
            let skip = (in_order - at) as usize;
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
    fn what_contradicts_an_earlier_byte_is_not_taken() {
        let mut stream = Stream::default();
        let mut take = |sequence, text: &[u8]| stream.take_bytes(sequence, text, 100);
        assert_eq!(take(100, b"ab"), Some(0..2));
        assert_eq!(take(104, b"EFGH"), Some(2..2));
        assert_eq!(take(102, b"cdxx"), None, "behind a gap");
        assert_eq!(take(100, b"xb"), None, "in order");
        assert_eq!(
            take(101, b"bcdE"),
            Some(2..8),
            "the same again, and what is between"
        );
        assert_eq!(take(107, b"H"), Some(8..8), "a keep-alive");
        assert_eq!(take(107, &[0]), None, "one with another byte");
        assert_eq!(stream.contiguous(100), b"abcdEFGH");
        assert_eq!(stream.contiguous(3), b"abc");
    }

    #[test]
    fn what_lies_before_the_base_is_left_out() {
        let mut stream = Stream::default();
        let mut take = |sequence, text: &[u8]| stream.take_bytes(sequence, text, 100);
        take(1_000, b"abc");
        take(998, b"..ab");
        take(u32::MAX, b"far away");
        assert_eq!(stream.contiguous(100), b"abc");
    }

    #[test]
    fn what_is_jumped_is_not_waited_for() {
        let mut stream = Stream::default();
        let take = |stream: &mut Stream, sequence, text: &[u8]| {
            stream.take_bytes(sequence, text, u32::MAX / 2)
        };
        take(&mut stream, u32::MAX, b"ab");
        take(&mut stream, 5, b"ghi");
        take(&mut stream, 10, b"lm");
        stream.jump(6);
        assert_eq!(
            stream.contiguous(9),
            b"i",
            "of what waited, what lies behind"
        );
        assert_eq!(stream.waiting_bytes, 2);
        take(&mut stream, 1, b"cdefgh");
        assert_eq!(stream.contiguous(9), b"i");
        take(&mut stream, 6, b"hijk");
        assert_eq!(stream.contiguous(9), b"ijklm");
        assert_eq!(stream.waiting_bytes, 0);
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
            let mut stream = Stream { base: Some(base), ..Stream::default() };
            for (from, len) in cuts {
                let from = from.min(text.len());
                let to = (from + len).min(text.len());
                let taken = stream.take_bytes(base.wrapping_add(from as u32), &text[from..to], 1_000);
                prop_assert!(taken.is_some());
                prop_assert!(text.starts_with(stream.contiguous(1_000)));
            }
            prop_assert_eq!(stream.contiguous(1_000), &text[..]);
            prop_assert_eq!(stream.waiting_bytes, 0);
        }
    }
}
