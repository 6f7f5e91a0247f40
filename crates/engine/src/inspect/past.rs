//! What lies before the bytes of a stream that are held, where some of it was left out unseen: bodies, which nobody waits for.
//!
//! What comes late of them passes, as its receiver may have missed it. All else has to be what it was: a receiver that has discarded
//! the first copy of a request would take the second.

use std::collections::VecDeque;

/// Bytes that are kept to be compared: more than clients have under way beside bodies.
const BYTES: usize = 16 * 1024;
/// Parts that are kept: bodies and what stands between them.
const PARTS: usize = 512;
/// What a part takes beside its bytes.
const PART: usize = 48;
/// The longest part: the sequence space is four times as large.
const LONGEST: u32 = 1 << 30;

/// Parts of a stream without gaps between them; the oldest are forgotten.
#[derive(Debug, Default)]
pub(super) struct Past {
    parts: VecDeque<Part>,
    bytes: usize,
}

#[derive(Debug)]
struct Part {
    /// Sequence number of its first byte.
    begin: u32,
    what: What,
}

#[derive(Debug)]
enum What {
    Bytes(Vec<u8>),
    Unseen(u32),
}

impl Part {
    fn len(&self) -> u32 {
        match &self.what {
            What::Bytes(bytes) => bytes.len() as u32,
            What::Unseen(count) => *count,
        }
    }
}

impl Past {
    /// Whether nothing was ever left out.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.bytes + self.parts.len() * PART
    }

    /// These bytes follow on what is there.
    pub(super) fn add_bytes(&mut self, begin: u32, mut bytes: Vec<u8>) {
        let old = bytes.len().saturating_sub(BYTES);
        bytes.drain(..old);
        bytes.shrink_to_fit();
        if bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        self.add(begin.wrapping_add(old as u32), What::Bytes(bytes));
    }

    /// So many bytes follow that nobody looks at, at most 2³⁰.
    pub(super) fn add_unseen(&mut self, begin: u32, count: u32) {
        if let Some(Part {
            begin,
            what: What::Unseen(known),
        }) = self.parts.back_mut()
        {
            let all = *known + count;
            let old = all.saturating_sub(LONGEST);
            (*begin, *known) = (begin.wrapping_add(old), all - old);
            return;
        }
        self.add(begin, What::Unseen(count));
    }

    fn add(&mut self, begin: u32, what: What) {
        self.parts.push_back(Part { begin, what });
        while self.parts.len() > 1 && (self.parts.len() > PARTS || self.bytes > BYTES) {
            if let Some(Part {
                what: What::Bytes(bytes),
                ..
            }) = self.parts.pop_front()
            {
                self.bytes -= bytes.len();
            }
        }
    }

    /// Whether these bytes, all of them before those that the stream holds, are what was there, or lie where nobody looked. What is
    /// older than what is known may be anything.
    pub(super) fn agrees(&self, begin: u32, bytes: &[u8]) -> bool {
        let mut known = 0;
        for part in self.parts.iter().rev() {
            // Either of them begins first, by less than half of the sequence space.
            let ahead = part.begin.wrapping_sub(begin).cast_signed();
            let skipped = ahead.min(0).unsigned_abs();
            let Some(left) = part.len().checked_sub(skipped).filter(|left| *left > 0) else {
                // It ends before these, and so do those before it.
                break;
            };
            let from = ahead.max(0).unsigned_abs() as usize;
            let Some(sent) = bytes.get(from..).filter(|sent| !sent.is_empty()) else {
                continue;
            };
            let sent = &sent[..sent.len().min(left as usize)];
            if let What::Bytes(held) = &part.what
                && !held[skipped as usize..].starts_with(sent)
            {
                return false;
            }
            known += sent.len();
        }
        known == bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_has_to_be_the_same_and_what_was_not_may_be_anything() {
        let mut past = Past::default();
        let base = u32::MAX - 3;
        past.add_bytes(base, b"head".to_vec());
        past.add_unseen(base.wrapping_add(4), 3);
        past.add_unseen(base.wrapping_add(7), 7);
        past.add_bytes(base.wrapping_add(14), b"tail".to_vec());
        for (at, bytes, expected) in [
            (0, &b"head"[..], true),
            (0, b"hexd", false),
            (2, b"ad..........tail", true),
            (2, b"aX..........tail", false),
            (2, b"ad..........tXil", false),
            (5, b"anything", true),
            (13, b"?ta", true),
            (13, b"?tX", false),
            (17, b"l", true),
            (17, b"X", false),
            (0, b"", true),
        ] {
            let begin = base.wrapping_add(at);
            assert_eq!(past.agrees(begin, bytes), expected, "{at} {bytes:?}");
        }
        let before = base.wrapping_sub(1);
        assert!(!past.agrees(before, b"xhead"), "older than all");
    }

    #[test]
    fn memory_is_bounded() {
        let mut past = Past::default();
        let mut at = 0_u32;
        for _ in 0..100_000 {
            past.add_bytes(at, vec![b'x'; 9]);
            past.add_unseen(at.wrapping_add(9), 70_000);
            at = at.wrapping_add(70_009);
        }
        past.add_bytes(at, vec![b'x'; 100_000]);
        assert!(past.memory() <= BYTES + PARTS * PART, "{}", past.memory());
        for _ in 0..100 {
            past.add_unseen(at.wrapping_add(100_000), LONGEST);
        }
        assert!(past.parts.len() <= PARTS);
    }
}
