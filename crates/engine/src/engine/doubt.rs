//! Sources in whose name somebody may be guessing.
//!
//! Connection tracking takes an acknowledgement for the end of a handshake that is within a window of the right number
//! (nf_conntrack_proto_tcp.c `tcp_in_window`): who forges a source gets there with some ten thousand guesses. All but the last are
//! segments without a place in their flow. So who has sent many of these is no further proven by a handshake.

use std::time::Duration;

use policy::Timestamp;

use crate::bounded::Bounded;

/// Segments out of place after which a source is doubted, and for how long.
const GUESSES: u32 = 16;
const WINDOW: Duration = Duration::from_secs(60);
/// Sources that are counted.
const CEILING: u32 = 16_384;

/// Segments out of place, by source.
#[derive(Debug)]
pub(super) struct Doubts {
    by_source: Bounded<Guesses>,
}

#[derive(Debug)]
struct Guesses {
    count: u32,
    last: Timestamp,
}

impl Doubts {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            by_source: Bounded::new(CEILING, seed),
        }
    }

    /// A segment of this source had no place in its flow.
    pub(super) fn note(&mut self, source: u128, now: Timestamp) {
        let fresh = || Guesses {
            count: 0,
            last: now,
        };
        let weight = |guesses: &Guesses| u64::from(guesses.count);
        let guesses = self.by_source.entry(source, fresh, weight);
        if now.since(guesses.last) > WINDOW {
            guesses.count = 0;
        }
        guesses.count = guesses.count.saturating_add(1);
        guesses.last = now;
    }

    /// Whether a handshake of this source says little.
    pub(super) fn doubts(&mut self, source: u128, now: Timestamp) -> bool {
        let guesses = self.by_source.get_mut(source);
        guesses.is_some_and(|guesses| guesses.count >= GUESSES && now.since(guesses.last) <= WINDOW)
    }
}
