//! Fingerprints of names that nobody can foretell without the key.
//!
//! Block lists are public, and anybody may propose names for them. Without a key, somebody could register a name whose fingerprint is
//! that of a victim's. With one, two different names have the same sums with a probability of some 2⁻¹²⁶ whoever chose them: they are
//! those of NH (Black, Halevi, Krawczyk, Krovetz and Rogaway, "UMAC", 1999, theorem 4.2, with two Toeplitz lanes). Unlike the sums of
//! other hash functions they do not wait for each other, so that all suffixes of a name cost little more than the name.

/// Blocks that are told apart: a name has at most 255 bytes, a block 16.
pub(super) const BLOCKS: usize = 16;

/// What a seed becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Two words for each block, and two more as the second lane is shifted by one block.
    blocks: [[u64; 2]; BLOCKS + 1],
    last: [[u64; 2]; 2],
}

/// Which half of a fingerprint is made. The two have sums of their own, so that the second is only made where the first
/// leaves a doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Place = 0,
    Identity = 1,
}

impl Key {
    /// `seed` must be something that nobody outside can know.
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        let mut word = || mixed(&mut state);
        Self {
            blocks: std::array::from_fn(|_| [word(), word()]),
            last: std::array::from_fn(|_| [word(), word()]),
        }
    }

    /// What a block adds to the sum: the `place`th from the end of the name.
    #[inline]
    pub(super) fn product(&self, half: Half, place: usize, block: u128) -> u128 {
        let key = self.blocks[place + half as usize];
        let a = ((block >> 64) as u64).wrapping_add(key[0]);
        let b = (block as u64).wrapping_add(key[1]);
        u128::from(a) * u128::from(b)
    }

    /// Half a fingerprint from the sum of all blocks. Names of different lengths can have the same blocks (zeros stand before the
    /// first), so that the length counts too, and how many labels there are.
    #[inline]
    pub(super) fn finish(&self, half: Half, sum: u128, len: usize, labels: u32) -> u64 {
        let shape = (u64::from(labels) << 8 | len as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let [a, b] = self.last[half as usize];
        folded(sum as u64 ^ a.wrapping_add(shape), (sum >> 64) as u64 ^ b)
    }
}

/// Both halves of the product, so that every bit depends on all.
#[inline]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// SplitMix64 (Steele, Lea and Flood 2014): fills the key from the seed.
fn mixed(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of SplitMix64's own vectors for the seed 1234567.
    #[test]
    fn the_key_is_filled_as_published() {
        let mut state = 1_234_567;
        assert_eq!(mixed(&mut state), 6_457_827_717_110_365_317);
        assert_eq!(mixed(&mut state), 3_203_168_211_198_807_973);
    }

    /// Names that differ in one bit, as good as in all: places and identities are spread over their whole range.
    #[test]
    fn fingerprints_are_spread() {
        let key = Key::new(11);
        let count = 1 << 16;
        let mut buckets = [[0_u32; 256]; 4];
        for number in 0..count {
            let block = u128::from_be_bytes(*b"\0\0\0\0\0ads.example") ^ number << 90;
            let half = |half| key.finish(half, key.product(half, 0, block), 11, 2);
            let (place, identity) = (half(Half::Place), half(Half::Identity));
            for (bucket, bits) in [
                place >> 56,
                place & 255,
                identity >> 56,
                identity >> 18 & 255,
            ]
            .into_iter()
            .enumerate()
            {
                buckets[bucket][bits as usize] += 1;
            }
        }
        // 256 on average; 16 is the standard deviation.
        for bucket in buckets.as_flattened() {
            assert!((160..=352).contains(bucket), "{bucket}");
        }
    }
}
