//! A set of names as fingerprints: some eight bytes a name, and one look at memory for each suffix that could be in it.
//!
//! The fingerprint's first half says in which bucket a name lies, 51 bits of its second half which name it is; beside them are two
//! bits for the reach of the entry and eleven for its source. A name that is in the set is always found. One that is not is taken for one
//! that is with a probability of some 12 × 127 / 2⁵¹, below 2⁻⁴⁰, for a question with all its suffixes: 12 entries are
//! compared, and no name has more than 127 labels.

use std::fmt;

use super::fingerprint::{Fingerprint, Key};
use super::pattern::{Pattern, Reach};
use super::suffix::{Suffix, asked, find_suffix};

/// Names in a bucket on average.
const PER_BUCKET: usize = 6;
/// Entries that are compared whatever the size of the bucket: 99 of 100 buckets have no more.
const WINDOW: usize = 12;
/// Buckets in a group: with 64 bytes a group, 0.37 bytes a name.
const GROUP: usize = 29;
const SOURCE_BITS: u32 = 11;
const SOURCE_MASK: u128 = (1 << SOURCE_BITS) - 1;
const IDENTITY_SHIFT: u32 = SOURCE_BITS + 2;
const IDENTITY_BITS: u32 = u64::BITS - IDENTITY_SHIFT;

/// Which of the sources of a set an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(u16);

impl SourceId {
    /// Most sources of a set.
    pub const COUNT: usize = 1 << SOURCE_BITS;

    pub(super) const LAST: Self = Self((1 << SOURCE_BITS) - 1);

    /// The `index`th source, if there can be so many.
    pub fn new(index: usize) -> Option<Self> {
        (index < Self::COUNT).then_some(Self(index as u16))
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
    len: usize,
    buckets: usize,
    /// Where the buckets lie, and one group more, where the entries end.
    groups: Box<[Group]>,
    /// In the order of their places; behind them [`WINDOW`] zeros, which no name matches.
    entries: Box<[u64]>,
    depths: Depths,
}

/// Where 29 buckets lie among the entries. One cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
struct Group {
    /// Of the first bucket.
    start: u32,
    /// Bucket `i` is from `bounds[i]` to `bounds[i + 1]`, counted from `start`; what does not fit is the highest number.
    bounds: [u16; GROUP + 1],
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
        size_of::<Self>() + size_of_val(&*self.groups) + size_of_val(&*self.entries)
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
                source: SourceId((u128::from(entry) & SOURCE_MASK) as u16),
            };
            accept(hit)
        })
    }

    /// The entry of a suffix, if it stands for the whole name.
    #[inline]
    fn entry(&self, suffix: &Suffix) -> Option<u64> {
        let (depths, wanted) = if suffix.is_whole {
            (self.depths.itself, Reach::ITSELF)
        } else {
            (self.depths.below, Reach::BELOW)
        };
        // Most lists hold no top-level domain, and nothing deep: these are not looked for.
        if suffix.depth >= u128::BITS || depths >> suffix.depth & 1 == 0 {
            return None;
        }
        let fingerprint = suffix.fingerprint(&self.key);
        let bucket = bucket(fingerprint.place, self.buckets);
        let (group, bucket) = (&self.groups[bucket / GROUP..], bucket % GROUP);
        let start = group[0].start as usize + usize::from(group[0].bounds[bucket]);
        let identity = identity(fingerprint) << IDENTITY_SHIFT;
        let is_same = |entry: u64| (entry ^ identity) >> IDENTITY_SHIFT == 0;
        // Nearly every bucket is within the window, and what else is there does no harm: no jump has to wait for memory.
        let window = &self.entries[start..start + WINDOW];
        let may_be_there = window
            .iter()
            .fold(false, |found, entry| found | is_same(*entry));
        let end = match group[0].bounds[bucket + 1] {
            u16::MAX => group[1].start as usize,
            bound => group[0].start as usize + usize::from(bound),
        };
        if !may_be_there && end <= start + WINDOW {
            return None;
        }
        let is_wanted = |entry: u64| is_same(entry) && (entry >> SOURCE_BITS) as u8 & wanted != 0;
        let mut entries = self.entries[start..end].iter();
        entries.find(|entry| is_wanted(**entry)).copied()
    }
}

/// Which bucket of `count` a place is in, ascending with the place.
#[inline]
fn bucket(place: u64, count: usize) -> usize {
    ((u128::from(place) * count as u128) >> 64) as usize
}

#[inline]
fn identity(fingerprint: Fingerprint) -> u64 {
    fingerprint.identity >> (u64::BITS - IDENTITY_BITS)
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
    /// The names, each with a line feed behind it.
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
        self.records
            .push(record(whole.fingerprint(&self.key)) | about);
        self.texts.extend_from_slice(text);
        self.texts.push(b'\n');
        Ok(())
    }

    /// The set: sorted, without doubles, without what is below an entry that stands for all below it.
    pub fn build(mut self) -> NameSet {
        self.records.sort_unstable();
        self.records.dedup_by(|next, kept| {
            let is_same = *next >> IDENTITY_SHIFT == *kept >> IDENTITY_SHIFT;
            if is_same {
                // Sorted by source too within a reach, so that the first is the smallest.
                let about = (*kept | *next) & (0b11 << SOURCE_BITS);
                let source = (*kept & SOURCE_MASK).min(*next & SOURCE_MASK);
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
        for text in self.texts.split(|byte| *byte == b'\n') {
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
                covered.push(record(whole.fingerprint(&self.key)) >> IDENTITY_SHIFT);
            } else if let Some(reach) = self.reach(&whole) {
                depths.add(whole.depth, reach);
            }
        }
        (covered, depths)
    }

    /// What is recorded about a name, once the records are sorted.
    fn reach(&self, suffix: &Suffix) -> Option<u8> {
        let wanted = record(suffix.fingerprint(&self.key)) >> IDENTITY_SHIFT;
        let key = |record: &u128| record >> IDENTITY_SHIFT;
        let place = self.records.binary_search_by_key(&wanted, key).ok()?;
        Some((self.records[place] >> SOURCE_BITS) as u8 & 0b11)
    }
}

/// All that a fingerprint says about a name, above the bits for its reach and source.
fn record(fingerprint: Fingerprint) -> u128 {
    u128::from(fingerprint.place) << 64 | u128::from(identity(fingerprint)) << IDENTITY_SHIFT
}

/// Puts sorted records into buckets.
fn compile(key: &Key, records: &[u128], depths: Depths) -> NameSet {
    let buckets = records.len().div_ceil(PER_BUCKET).max(1);
    let groups = buckets.div_ceil(GROUP);
    let mut starts: Vec<u32> = Vec::with_capacity(groups * GROUP + 1);
    for (index, record) in (0..).zip(records) {
        let bucket = bucket((record >> 64) as u64, buckets);
        while starts.len() <= bucket {
            starts.push(index);
        }
    }
    // There are at most `NameSetBuilder::MOST` records.
    let len = records.len() as u32;
    starts.resize(groups * GROUP + 1, len);
    let group = |index: usize| {
        let starts = &starts[index * GROUP..];
        let bound = |bucket: usize| starts.get(bucket).map_or(0, |start| start - starts[0]);
        Group {
            start: starts[0],
            bounds: std::array::from_fn(|at| u16::try_from(bound(at)).unwrap_or(u16::MAX)),
        }
    };
    let entries = records.iter().map(|record| *record as u64);
    NameSet {
        key: key.clone(),
        len: records.len(),
        buckets,
        groups: (0..=groups).map(group).collect(),
        entries: entries.chain([0; WINDOW]).collect(),
        depths,
    }
}
