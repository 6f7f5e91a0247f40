//! What all streams under inspection hold together, and those of each source.

use std::collections::HashMap;

/// The share of the memory for streams that one source may hold, and what it may hold in any case. Its own flows suffer from
/// more: nobody makes room for a pattern by filling the memory alone.
const SHARE: usize = 8;
const SHARE_FLOOR: usize = 64 * 1024;

/// Bytes held.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    total: usize,
    /// Of each source that has any.
    by_source: HashMap<u128, usize>,
}

/// Who holds too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// The source, which has just taken more.
    Share,
    /// All together.
    Total,
}

impl Memory {
    /// One flow of this source holds `now` bytes where it held `before`.
    pub(crate) fn account(&mut self, source: u128, before: usize, now: usize) {
        self.total = (self.total + now).saturating_sub(before);
        if before == now {
            return;
        }
        let held = self.by_source.entry(source).or_default();
        *held = (*held + now).saturating_sub(before);
        if *held == 0 {
            self.by_source.remove(&source);
        }
    }

    /// Whether a stream of this source, which `grew` or not, may not keep what it holds under this `limit`.
    pub(crate) fn shortage(&self, source: u128, grew: bool, limit: usize) -> Option<Shortage> {
        let share = (limit / SHARE).max(SHARE_FLOOR);
        let is_over = |held: &usize| *held > share;
        if grew && self.by_source.get(&source).is_some_and(is_over) {
            Some(Shortage::Share)
        } else {
            (self.total > limit).then_some(Shortage::Total)
        }
    }
}
