//! Where one of many texts may be in some bytes, by looking at few of them.
//!
//! Of each text a window is chosen, of as many bytes as the shortest text has. A window holds a whole gram that begins at a
//! multiple of the stride, wherever it lies, when the stride is the window less the gram, plus one. So one gram in each stride is looked
//! up in a bitmap, and nearly all of them are not in it (q-gram sampling, Sutinen and Tarhio 1995). Bytes are compared with
//! the bit of each left out that tells upper from lower case.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// The longest text.
pub(super) const LONGEST: usize = 16;
/// Bits of the bitmap: 32 KiB, as a first-level cache.
const BITS: u32 = 18;
const WORDS: usize = 1 << (BITS - 6);
/// Grams looked up for one branch.
const AT_ONCE: usize = 4;
/// Left out of each byte.
const CASE: u128 = 0x2020_2020_2020_2020_2020_2020_2020_2020;

/// Finds texts by grams of `GRAM` bytes, at most 4.
#[derive(Debug)]
pub(super) struct Sampler<const GRAM: usize> {
    window: usize,
    bitmap: Box<[u64; WORDS]>,
    /// By gram, at which offsets from the begin of a window it stands: a bit each.
    grams: HashMap<u32, u16, FixedState>,
    /// By window, the texts that it was chosen for, with where it is in them.
    windows: HashMap<u128, Vec<(u32, usize)>, FixedState>,
    texts: Vec<Vec<u8>>,
}

impl<const GRAM: usize> Sampler<GRAM> {
    /// Nothing for no texts. All have from `GRAM` to [`LONGEST`] bytes.
    pub(super) fn new(texts: Vec<Vec<u8>>) -> Option<Self> {
        let window = texts.iter().map(Vec::len).min()?;
        let mut common: HashMap<u128, u32> = HashMap::new();
        for text in &texts {
            for window in text.windows(window) {
                *common.entry(folded(window)).or_default() += 1;
            }
        }
        let mut new = Self {
            window,
            bitmap: Box::new([0; WORDS]),
            grams: HashMap::with_hasher(FixedState::default()),
            windows: HashMap::with_hasher(FixedState::default()),
            texts: Vec::new(),
        };
        for (number, text) in (0..).zip(&texts) {
            let windows = text.windows(window).map(folded).enumerate();
            // The one that the fewest others have.
            if let Some((at, window)) = windows.min_by_key(|(_, window)| common[window]) {
                new.add(window, number, at);
            }
        }
        Some(Self { texts, ..new })
    }

    fn add(&mut self, window: u128, text: u32, at: usize) {
        self.windows.entry(window).or_default().push((text, at));
        for offset in 0..self.stride() {
            let gram = Self::gram((window >> (offset * 8)) as u32);
            let (word, bit) = Self::place(gram);
            self.bitmap[word] |= 1 << bit;
            *self.grams.entry(gram).or_default() |= 1 << offset;
        }
    }

    fn stride(&self) -> usize {
        self.window - GRAM + 1
    }

    /// The gram that begins these four bytes.
    fn gram(bytes: u32) -> u32 {
        bytes & !(CASE as u32) & u32::MAX >> (32 - GRAM * 8)
    }

    /// Where a gram is in the bitmap (multiplicative hashing, Knuth vol. 3 section 6.4).
    fn place(gram: u32) -> (usize, u32) {
        let hash = gram.wrapping_mul(0x9e37_79b1) >> (32 - BITS);
        ((hash >> 6) as usize, hash & 63)
    }

    fn may_hold(&self, gram: u32) -> bool {
        let (word, bit) = Self::place(gram);
        self.bitmap[word] >> bit & 1 == 1
    }

    /// Calls `found` with each text, by its number, that ends behind the first `known` bytes; a text may be told more than once.
    pub(super) fn find(&self, bytes: &[u8], known: usize, mut found: impl FnMut(u32)) {
        // A text may begin before what is new.
        let first = known.saturating_sub(LONGEST);
        let stride = self.stride();
        let gram_at = |at: usize| {
            let four = bytes.get(at..)?.first_chunk()?;
            Some(Self::gram(u32::from_le_bytes(*four)))
        };
        let mut at = first;
        while let Some(last) = gram_at(at + (AT_ONCE - 1) * stride) {
            let mut any = self.may_hold(last);
            for number in 0..AT_ONCE - 1 {
                any |= gram_at(at + number * stride).is_some_and(|gram| self.may_hold(gram));
            }
            if any {
                for number in 0..AT_ONCE {
                    self.ask(bytes, at + number * stride, &mut found);
                }
            }
            at += AT_ONCE * stride;
        }
        while at + GRAM <= bytes.len() {
            self.ask(bytes, at, &mut found);
            at += stride;
        }
    }

    /// Looks for windows that the gram at `at` belongs to.
    fn ask(&self, bytes: &[u8], at: usize, found: &mut impl FnMut(u32)) {
        let gram = bytes.get(at..at + GRAM).map(|gram| folded(gram) as u32);
        let Some(gram) = gram.filter(|&gram| self.may_hold(gram)) else {
            return;
        };
        let offsets = self.grams.get(&gram).copied().unwrap_or_default();
        for offset in (0..self.stride()).filter(|offset| offsets >> offset & 1 == 1) {
            let Some(begin) = at.checked_sub(offset) else {
                continue;
            };
            let window = bytes.get(begin..begin + self.window);
            let texts = window.and_then(|window| self.windows.get(&folded(window)));
            for &(number, window_at) in texts.into_iter().flatten() {
                let text = &self.texts[number as usize];
                let there = begin
                    .checked_sub(window_at)
                    .and_then(|begin| bytes.get(begin..begin + text.len()));
                if there.is_some_and(|there| there.eq_ignore_ascii_case(text)) {
                    found(number);
                }
            }
        }
    }
}

/// At most 16 bytes without case, the first in the lowest place.
fn folded(bytes: &[u8]) -> u128 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |value, &byte| value << 8 | u128::from(byte)) & !CASE
}
