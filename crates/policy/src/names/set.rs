//! A set of names as fingerprints: 8.4 bytes a name, and most names that are not in it cost one look at a small part of them.
//!
//! A Bloom filter of a byte a name comes first. The first half of a fingerprint says which three bits of it have to be set, and
//! in which bucket a name lies; 46 bits of the second half say which name it is. Beside them are two bits for the reach of the
//! entry and eight for its source.
//!
//! A name that is in the set is always found. One that is not is taken for one that is with a probability below 2⁻⁴⁰ for a question with all
//! its suffixes: the filter lets one of 26 pass, 12 entries lie in a bucket, and no name has more than 127 labels;
//! 127 × 12 / 26 / 2⁴⁶ is 2⁻⁴⁰·¹, and a name of three labels comes to 2⁻⁴⁵.

use std::fmt;

use super::fingerprint::Key;
use super::pattern::{Pattern, Reach};
use super::suffix::{Suffix, asked, find_suffix};

/// Names in a bucket on average: with 4 bytes a bucket, a third of a byte a name.
const PER_BUCKET: usize = 12;
/// Names for which a word of the Bloom filter stands on average: a byte a name.
const PER_WORD: usize = 8;
/// Bytes of an entry.
const ENTRY: usize = 7;
const SOURCE_BITS: u32 = 8;
const SOURCE_MASK: u64 = (1 << SOURCE_BITS) - 1;
const IDENTITY_SHIFT: u32 = SOURCE_BITS + 2;
const IDENTITY_BITS: u32 = 8 * ENTRY as u32 - IDENTITY_SHIFT;

/// Which of the sources of a set an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(u8);

impl SourceId {
    /// Most sources of a set.
    pub const COUNT: usize = 1 << SOURCE_BITS;

    /// The first of them.
    pub const FIRST: Self = Self(0);

    pub(super) const LAST: Self = Self(SOURCE_MASK as u8);

    /// The `index`th source, if there can be so many.
    pub fn new(index: usize) -> Option<Self> {
        (index < Self::COUNT).then_some(Self(index as u8))
    }

    /// Counted from 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// An immutable set of names. Comparing, like looking up, is by fingerprints.
#[derive(Clone, PartialEq, Eq)]
pub struct NameSet {
    key: Key,
    depths: Depths,
    len: usize,
    bloom: Box<[u64]>,
    /// Bucket `i` has the entries from `starts[i]` to `starts[i + 1]`.
    starts: Box<[u32]>,
    /// Of [`ENTRY`] bytes each, in the order of their places.
    entries: Box<[u8]>,
}

/// How many labels the entries have: bit `n` for `n` labels. A name of 253 bytes has at most 127.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Depths {
    /// Of entries that stand for themselves.
    itself: u128,
    /// Of entries that stand for what is below them.
    below: u128,
}

impl Depths {
    fn add(&mut self, depth: u32, reach: u8) {
        let bit = 1_u128.checked_shl(depth).unwrap_or_default();
        if reach & Reach::ITSELF != 0 {
            self.itself |= bit;
        }
        if reach & Reach::BELOW != 0 {
            self.below |= bit;
        }
    }
}

/// What of a name is in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    /// Where in the name the entry begins.
    pub(super) start: usize,
    /// What the entry stands for.
    pub(super) reach: Reach,
    pub(super) source: SourceId,
}

impl Default for NameSet {
    fn default() -> Self {
        compile(&Key::new(0), &[], Depths::default())
    }
}

impl NameSet {
    /// Entries, those aside that a wider one covers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory that it takes, in bytes.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&*self.bloom)
            + size_of_val(&*self.starts)
            + self.entries.len()
    }

    /// Whether an entry stands for the name. Its labels are joined by dots, in any case, with or without the dot at the end; bytes are
    /// taken as they are.
    #[inline]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.find(asked(name), Some).is_some()
    }

    /// The first entry, from the widest on, that stands for the name that [`asked`] gave and that `accept` takes.
    #[inline]
    pub(super) fn find<T>(
        &self,
        name: &[u8],
        mut accept: impl FnMut(Hit) -> Option<T>,
    ) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        find_suffix(name, &self.key, |suffix| {
            let entry = self.entry(suffix)?;
            let hit = Hit {
                start: suffix.start,
                reach: Reach::from_bits((entry >> SOURCE_BITS) as u8),
                source: SourceId((entry & SOURCE_MASK) as u8),
            };
            accept(hit)
        })
    }

    /// The entry of a suffix, if it stands for the whole name.
    #[inline]
    fn entry(&self, suffix: &Suffix<'_>) -> Option<u64> {
        let (depths, wanted) = if suffix.is_whole {
            (self.depths.itself, Reach::ITSELF)
        } else {
            (self.depths.below, Reach::BELOW)
        };
        // Most lists hold no top-level domain, and nothing deep: these are not looked for.
        if suffix.depth >= u128::BITS || depths >> suffix.depth & 1 == 0 {
            return None;
        }
        let place = suffix.place(&self.key);
        let bits = bloom_bits(place);
        if self.bloom[part(place, self.bloom.len())] & bits != bits {
            return None;
        }
        self.confirmed(suffix, place, wanted)
    }

    /// The entry among those of its bucket. Out of line: what comes before is all that most questions need.
    #[cold]
    fn confirmed(&self, suffix: &Suffix<'_>, place: u64, wanted: u8) -> Option<u64> {
        let bucket = part(place, self.starts.len() - 1);
        let bucket = self.starts[bucket] as usize..self.starts[bucket + 1] as usize;
        let identity = identity(suffix, &self.key);
        let is_wanted = |entry: &u64| {
            entry >> IDENTITY_SHIFT == identity && (entry >> SOURCE_BITS) as u8 & wanted != 0
        };
        bucket.map(|index| self.read(index)).find(is_wanted)
    }

    /// The entry at its place in the order.
    #[inline]
    fn read(&self, index: usize) -> u64 {
        let mut word = [0; 8];
        word[..ENTRY].copy_from_slice(&self.entries[index * ENTRY..][..ENTRY]);
        u64::from_le_bytes(word)
    }
}

/// Which of `count` equal parts a place is in, ascending with the place.
#[inline]
fn part(place: u64, count: usize) -> usize {
    ((u128::from(place) * count as u128) >> 64) as usize
}

/// The lowest bits of a place: those that have no say in which part it is in.
#[inline]
fn bloom_bits(place: u64) -> u64 {
    1 << (place & 63) | 1 << (place >> 6 & 63) | 1 << (place >> 12 & 63)
}

#[inline]
fn identity(suffix: &Suffix<'_>, key: &Key) -> u64 {
    suffix.identity(key) >> (u64::BITS - IDENTITY_BITS)
}

impl fmt::Debug for NameSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NameSet({} names)", self.len())
    }
}

/// A [`NameSet`] would hold too many names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are more than {} names", NameSetBuilder::MOST)]
pub struct TooMany;

/// Makes a [`NameSet`]. Memory while building: for each added name its text, a byte and 16 bytes (twice that just after a vector
/// has grown), and at the end for each kept or covered name at most 25 bytes.
#[derive(Debug)]
pub struct NameSetBuilder {
    key: Key,
    /// The names, each with the bits of its reach behind it.
    texts: Vec<u8>,
    /// Place, identity, reach and source of each name, the highest bits first.
    records: Vec<u128>,
    depths: Depths,
}

impl NameSetBuilder {
    /// Most names that can be added: 16,777,216.
    pub const MOST: usize = 1 << 24;

    /// An empty one. `seed` must be something that nobody outside can know.
    pub fn new(seed: u64) -> Self {
        Self {
            key: Key::new(seed),
            texts: Vec::new(),
            records: Vec::new(),
            depths: Depths::default(),
        }
    }

    /// Names that were added, doubles and all.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Adds an entry. Of several entries for one name the reaches add up, and the first source is kept.
    ///
    /// # Errors
    ///
    /// [`Self::MOST`] names are there already.
    pub fn add(&mut self, pattern: &Pattern<'_>, source: SourceId) -> Result<(), TooMany> {
        if self.records.len() == Self::MOST {
            return Err(TooMany);
        }
        let text = pattern.name().as_bytes();
        let whole = Suffix::whole(text, &self.key);
        let reach = pattern.reach().bits();
        self.depths.add(whole.depth, reach);
        let about = u128::from(reach) << SOURCE_BITS | u128::from(source.0);
        self.records.push(record(&whole, &self.key) | about);
        self.texts.extend_from_slice(text);
        self.texts.push(reach);
        Ok(())
    }

    /// The set: sorted, without doubles, without what is below an entry that stands for all below it.
    pub fn build(mut self) -> NameSet {
        self.records.sort_unstable();
        self.records.dedup_by(|next, kept| {
            let is_same = *next >> IDENTITY_SHIFT == *kept >> IDENTITY_SHIFT;
            if is_same {
                // Sorted by source too within a reach, so that the first is the smallest.
                let mask = u128::from(SOURCE_MASK);
                let about = (*kept | *next) & (0b11 << SOURCE_BITS);
                let source = (*kept & mask).min(*next & mask);
                *kept = *kept >> IDENTITY_SHIFT << IDENTITY_SHIFT | about | source;
            }
            is_same
        });
        let set = compile(&self.key, &self.records, self.depths);
        if self.depths.below == 0 {
            return set;
        }
        let (mut covered, depths) = self.covered(&set);
        if covered.is_empty() {
            return set;
        }
        drop(set);
        covered.sort_unstable();
        let mut covered = covered.into_iter().peekable();
        self.records.retain(|record| {
            let name = record >> IDENTITY_SHIFT;
            while covered.next_if(|gone| *gone < name).is_some() {}
            covered.peek() != Some(&name)
        });
        compile(&self.key, &self.records, depths)
    }

    /// The names that wider entries cover, and the depths of the others. `set` holds all names.
    fn covered(&self, set: &NameSet) -> (Vec<u128>, Depths) {
        let (mut covered, mut depths) = (Vec::new(), Depths::default());
        // No byte of a name is that low.
        let texts = self.texts.split_inclusive(|byte| *byte < 4);
        for (reach, text) in texts.filter_map(<[u8]>::split_last) {
            let is_covered = find_suffix(text, &self.key, |suffix| {
                if suffix.is_whole {
                    return None;
                }
                set.entry(suffix)?;
                // Asked again in full: a wrong answer would lose a name.
                (self.reach(suffix)? & Reach::BELOW != 0).then_some(())
            });
            let whole = Suffix::whole(text, &self.key);
            if is_covered.is_some() {
                covered.push(record(&whole, &self.key) >> IDENTITY_SHIFT);
            } else {
                depths.add(whole.depth, *reach);
            }
        }
        (covered, depths)
    }

    /// What is recorded about a name, once the records are sorted.
    fn reach(&self, suffix: &Suffix<'_>) -> Option<u8> {
        let wanted = record(suffix, &self.key) >> IDENTITY_SHIFT;
        let key = |record: &u128| record >> IDENTITY_SHIFT;
        let place = self.records.binary_search_by_key(&wanted, key).ok()?;
        Some((self.records[place] >> SOURCE_BITS) as u8 & 0b11)
    }
}

/// All that a fingerprint says about a name, above the bits for its reach and source.
fn record(suffix: &Suffix<'_>, key: &Key) -> u128 {
    u128::from(suffix.place(key)) << 64 | u128::from(identity(suffix, key)) << IDENTITY_SHIFT
}

/// Puts sorted records into buckets.
fn compile(key: &Key, records: &[u128], depths: Depths) -> NameSet {
    let buckets = records.len().div_ceil(PER_BUCKET).max(1);
    let mut starts: Vec<u32> = Vec::with_capacity(buckets + 1);
    let mut bloom = vec![0; records.len().div_ceil(PER_WORD).max(1)].into_boxed_slice();
    let mut entries = Vec::with_capacity(records.len() * ENTRY);
    for (index, record) in (0..).zip(records) {
        let place = (record >> 64) as u64;
        bloom[part(place, bloom.len())] |= bloom_bits(place);
        while starts.len() <= part(place, buckets) {
            starts.push(index);
        }
        entries.extend_from_slice(&(*record as u64).to_le_bytes()[..ENTRY]);
    }
    // There are at most `NameSetBuilder::MOST` records.
    starts.resize(buckets + 1, records.len() as u32);
    NameSet {
        key: key.clone(),
        depths,
        len: records.len(),
        bloom,
        starts: starts.into(),
        entries: entries.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(count: u32) -> NameSet {
        let mut builder = NameSetBuilder::new(17);
        for number in 0..count {
            let text = format!("host{number}.example");
            let pattern = Pattern::new(&text, Reach::Both).expect("a name");
            builder
                .add(&pattern, SourceId::LAST)
                .expect("there is room");
        }
        builder.build()
    }

    /// What the module promises about memory and about the filter in front.
    #[test]
    fn promises_in_numbers() {
        let count = 100_000;
        let set = set(count);
        assert_eq!(set.len(), count as usize);
        assert!(set.memory() as f64 / f64::from(count) < 8.4);
        let mut passed = 0;
        for number in 0..count {
            assert!(set.contains(format!("www.host{number}.example").as_bytes()));
            let other = format!("other{number}.example");
            assert!(!set.contains(other.as_bytes()));
            let place = Suffix::whole(other.as_bytes(), &set.key).place(&set.key);
            let bits = bloom_bits(place);
            passed += u32::from(set.bloom[part(place, set.bloom.len())] & bits == bits);
        }
        // 1 of 26; the standard deviation is 60.
        assert!((3_500..=4_200).contains(&passed), "{passed}");
    }

    #[test]
    fn narrower_entries_are_covered() {
        let mut builder = NameSetBuilder::new(17);
        for text in [
            "a.b.example",
            "*.b.example",
            "b.example",
            "c.a.b.example",
            "*.x.b.example",
        ] {
            let pattern = Pattern::parse(text).expect(text);
            builder
                .add(&pattern, SourceId::LAST)
                .expect("there is room");
        }
        let set = builder.build();
        assert_eq!(set.len(), 1);
        assert_eq!((set.depths.itself, set.depths.below), (1 << 2, 1 << 2));
    }

    #[test]
    fn every_small_number_of_names() {
        for count in 0..100 {
            let set = set(count);
            for number in 0..count {
                assert!(set.contains(format!("host{number}.example").as_bytes()));
            }
            assert!(!set.contains(format!("host{count}.example").as_bytes()));
        }
    }
}
