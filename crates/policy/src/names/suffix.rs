//! All suffixes of a name in one pass, from its end: what a list may hold of it.

use super::fingerprint::{BLOCKS, Half, Key};

/// Bytes of a block.
const BLOCK: usize = 16;
/// Bytes that are looked at: what a name may have (RFC 1035 §2.3.4), so that none is cut.
const MOST: usize = BLOCK * BLOCKS - 1;

/// The part of a question that is looked at: without the dot at its end; of a text that is too long for a name its end, as it can only be
/// below something that is listed.
#[inline]
pub(super) fn asked(name: &[u8]) -> &[u8] {
    let name = match name {
        [name @ .., b'.'] => name,
        name => name,
    };
    &name[name.len().saturating_sub(MOST)..]
}

/// A suffix of a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suffix<'a> {
    name: &'a [u8],
    /// Where it begins.
    pub(super) start: usize,
    /// Its labels, 0 for the root above all.
    pub(super) depth: u32,
    /// Whether it is the name itself.
    pub(super) is_whole: bool,
    /// The first half of its fingerprint, as a sum.
    sum: u128,
    /// Its first block and that block's place, unless it begins where a block does: what the sum lacks.
    first: Option<(usize, u128)>,
}

/// Goes through the suffixes of a name that [`asked`] gave, from the root to the whole name, each a label longer than the one before,
/// until `visit` gives something. The name is cut into blocks from its end, so that its suffixes have them in common: each costs one
/// block more than those that are shared.
#[inline]
pub(super) fn find_suffix<'a, T>(
    name: &'a [u8],
    key: &Key,
    mut visit: impl FnMut(&Suffix<'a>) -> Option<T>,
) -> Option<T> {
    let mut suffix = Suffix {
        name,
        start: name.len(),
        depth: 0,
        is_whole: name.is_empty(),
        sum: 0,
        first: None,
    };
    let found = visit(&suffix);
    if found.is_some() || suffix.is_whole {
        return found;
    }
    for (place, block) in (0..).zip(blocks(name)) {
        let mut dots = dots_in((block >> 64) as u64) << 8 | dots_in(block as u64);
        while dots != 0 {
            let behind = dots.trailing_zeros() as usize;
            dots &= dots - 1;
            suffix.depth += 1;
            suffix.start = name.len() - (place * BLOCK + behind);
            let first = block & ((1 << (8 * behind)) - 1);
            suffix.first = (behind > 0).then_some((place, first));
            let found = visit(&suffix);
            if found.is_some() {
                return found;
            }
        }
        let product = key.product(Half::Place, place, block);
        suffix.sum = suffix.sum.wrapping_add(product);
    }
    visit(&Suffix {
        start: 0,
        depth: suffix.depth + 1,
        is_whole: true,
        first: None,
        ..suffix
    })
}

impl<'a> Suffix<'a> {
    /// The name as a suffix of itself.
    pub(super) fn whole(name: &'a [u8], key: &Key) -> Self {
        let whole = find_suffix(name, key, |suffix| suffix.is_whole.then_some(*suffix));
        whole.expect("the last suffix is the whole name")
    }

    /// The first half of its fingerprint.
    #[inline]
    pub(super) fn place(&self, key: &Key) -> u64 {
        let product = |(place, block)| key.product(Half::Place, place, block);
        let sum = self.sum.wrapping_add(self.first.map_or(0, product));
        key.finish(Half::Place, sum, self.name.len() - self.start, self.depth)
    }

    /// The second half.
    pub(super) fn identity(&self, key: &Key) -> u64 {
        let suffix = &self.name[self.start..];
        let blocks = (0..).zip(blocks(suffix));
        let products = blocks.map(|(place, block)| key.product(Half::Identity, place, block));
        let sum = products.fold(0, u128::wrapping_add);
        key.finish(Half::Identity, sum, suffix.len(), self.depth)
    }
}

/// A name in blocks in lower case, from its end; before the first byte are zeros.
#[inline]
fn blocks(name: &[u8]) -> impl Iterator<Item = u128> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let block = match rest.split_last_chunk() {
            Some((before, block)) => {
                rest = before;
                u128::from_be_bytes(*block)
            }
            None if rest.is_empty() => return None,
            None => first_block(name, std::mem::take(&mut rest).len()),
        };
        let [high, low] = [(block >> 64) as u64, block as u64].map(lower);
        Some(u128::from(high) << 64 | u128::from(low))
    })
}

/// The first `len` bytes of a name, 1 to 15, as the lowest of a block. Whole words are read where the name has them: a copy of unknown
/// length takes longer than all the rest.
#[inline]
fn first_block(name: &[u8], len: usize) -> u128 {
    if let Some((block, _)) = name.split_first_chunk() {
        return u128::from_be_bytes(*block) >> (8 * (BLOCK - len));
    }
    // The name is shorter than a block, so that `len` is its length: its first and last bytes, which overlap.
    if let (Some((first, _)), Some((_, last))) = (name.split_first_chunk(), name.split_last_chunk())
    {
        let [first, last] = [first, last].map(|word| u128::from(u64::from_be_bytes(*word)));
        return first << (8 * (len - 8)) | last;
    }
    if let (Some((first, _)), Some((_, last))) = (name.split_first_chunk(), name.split_last_chunk())
    {
        let [first, last] = [first, last].map(|word| u128::from(u32::from_be_bytes(*word)));
        return first << (8 * (len - 4)) | last;
    }
    name.iter()
        .fold(0, |block, byte| block << 8 | u128::from(*byte))
}

const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const HIGH: u64 = !LOW;

const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Eight bytes with ASCII letters in lower case.
#[inline]
const fn lower(word: u64) -> u64 {
    let low = word & LOW;
    let from_a = low + each(0x80 - b'A');
    let beyond_z = low + each(0x7f - b'Z');
    let upper = (from_a ^ beyond_z) & HIGH & !word;
    // Upper and lower case differ by 0x20, and the mark is 0x80.
    word | upper >> 2
}

/// Which of eight bytes are dots; the lowest is bit 0.
#[inline]
const fn dots_in(word: u64) -> u64 {
    let other = word ^ each(b'.');
    let marks = !(((other & LOW) + LOW) | other | LOW) >> 7;
    // Gathers the lowest bits of the bytes into the highest byte.
    marks.wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn suffixes(name: &[u8]) -> Vec<(String, u32, bool)> {
        let name = asked(name);
        let text = |start| String::from_utf8_lossy(&name[start..]).into_owned();
        let mut all = Vec::new();
        find_suffix(name, &Key::new(1), |suffix| -> Option<()> {
            all.push((text(suffix.start), suffix.depth, suffix.is_whole));
            None
        });
        all
    }

    #[test]
    fn suffixes_from_the_right() {
        for (name, wanted) in [
            ("", vec![("", true)]),
            (".", vec![("", true)]),
            ("COM", vec![("", false), ("COM", true)]),
            (
                "a.bc.example.",
                vec![
                    ("", false),
                    ("example", false),
                    ("bc.example", false),
                    ("a.bc.example", true),
                ],
            ),
            (
                "a..b",
                vec![("", false), ("b", false), (".b", false), ("a..b", true)],
            ),
        ] {
            let wanted: Vec<_> = (0..)
                .zip(wanted)
                .map(|(depth, (text, is_whole))| (text.to_owned(), depth, is_whole))
                .collect();
            assert_eq!(suffixes(name.as_bytes()), wanted, "{name}");
        }
    }

    #[test]
    fn the_longest_and_longer() {
        let deepest = ["a"; 127].join(".");
        assert_eq!(suffixes(deepest.as_bytes()).len(), 128);
        let long = "x".repeat(400) + ".ads.example";
        assert_eq!(asked(long.as_bytes()).len(), MOST);
        assert_eq!(suffixes(long.as_bytes())[2].0, "ads.example");
        assert!(suffixes(&[b'.'; 300]).len() > 127);
    }

    fn fingerprints(name: &[u8]) -> Vec<(u64, u64)> {
        let (key, mut all) = (Key::new(7), Vec::new());
        find_suffix(asked(name), &key, |suffix| -> Option<()> {
            all.push((suffix.place(&key), suffix.identity(&key)));
            None
        });
        all
    }

    proptest! {
        #[test]
        fn words_of_eight_are_right(bytes: [u8; 8]) {
            let word = u64::from_le_bytes(bytes);
            prop_assert_eq!(lower(word).to_le_bytes(), bytes.map(|byte| byte.to_ascii_lowercase()));
            let dots = (0..8).filter(|&at| bytes[at] == b'.').fold(0, |dots, at| dots | 1 << at);
            prop_assert_eq!(dots_in(word), dots);
        }

        /// Of every length and so of every way to read the first block.
        #[test]
        fn a_suffix_is_the_name_that_it_is(labels in prop::collection::vec("[a-zA-Z0-9_-]{1,20}", 1..12)) {
            let name = labels.join(".");
            let all = fingerprints(name.as_bytes());
            prop_assert_eq!(all.len(), labels.len() + 1);
            prop_assert_eq!(&fingerprints(name.to_lowercase().as_bytes()), &all);
            for (count, found) in all.iter().enumerate() {
                let alone = labels[labels.len() - count..].join(".");
                prop_assert_eq!(fingerprints(alone.as_bytes()).pop(), Some(*found));
            }
        }

        #[test]
        fn what_differs_has_another_fingerprint(a: Vec<u8>, b: Vec<u8>) {
            let lower = |name: &[u8]| asked(name).to_ascii_lowercase();
            prop_assume!(lower(&a) != lower(&b));
            prop_assert_ne!(fingerprints(&a).pop(), fingerprints(&b).pop());
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let name = asked(&bytes);
            prop_assert_eq!(Suffix::whole(name, &Key::new(0)).start, 0);
            let dots = name.iter().filter(|byte| **byte == b'.').count();
            prop_assert_eq!(suffixes(&bytes).len(), dots + 1 + usize::from(!name.is_empty()));
        }
    }

    /// Zeros stand before the first block too.
    #[test]
    fn zeros_count() {
        let names: [&[u8]; 4] = [
            b"ads.example",
            b"\0ads.example",
            b"\0\0\0\0\0ads.example",
            b"",
        ];
        let all: Vec<_> = names.iter().map(|name| fingerprints(name).pop()).collect();
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one), "{place}");
        }
    }
}
