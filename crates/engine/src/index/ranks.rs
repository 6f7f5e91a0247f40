//! Many sorted borders, found by the upper bits of a value.

use super::borders::{Border, Split};

/// Borders in ascending order, in groups of equal upper 16 bits. Which of 65,536 groups have borders is a bit each, and how many
/// of them are below one is counted by words (rank, Jacobson, FOCS 1989): a look at one word finds a group among any number,
/// and a group of ports is one border, one of IPv4 addresses what a `/16` has.
#[derive(Debug)]
pub(super) struct Ranks<T> {
    words: Box<[Word]>,
    /// Where each group begins, and where the last one ends.
    starts: Box<[u32]>,
    borders: Box<[T]>,
}

/// Which of 64 groups there are, and how many there are before them.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    bits: u64,
    before: u32,
}

const WORDS: usize = 1 << 10;

impl<T: Border> Ranks<T> {
    pub(super) fn new(sorted: &[T]) -> Self {
        let mut words = vec![Word::default(); WORDS];
        let mut starts = Vec::new();
        for (place, border) in sorted.iter().enumerate() {
            let upper = border.upper();
            let (word, bit) = (&mut words[usize::from(upper >> 6)], 1 << (upper & 63));
            if word.bits & bit == 0 {
                word.bits |= bit;
                starts.push(place as u32);
            }
        }
        starts.push(sorted.len() as u32);
        let mut before = 0;
        for word in &mut words {
            word.before = before;
            before += word.bits.count_ones();
        }
        Self {
            words: words.into(),
            starts: starts.into(),
            borders: sorted.into(),
        }
    }

    /// The place of the last border that is not above `value`; 0 when all are.
    #[inline]
    pub(super) fn place(&self, value: T) -> usize {
        let upper = value.upper();
        let word = self.words[usize::from(upper >> 6)];
        // The groups up to the value's own, which is the highest of these bits.
        let up_to = word.bits << (63 - (upper & 63));
        let groups = (word.before + up_to.count_ones()) as usize;
        if T::SPLIT == Split::All {
            return groups.saturating_sub(1);
        }
        let end = self.starts.get(groups).copied().unwrap_or_default() as usize;
        if up_to >> 63 == 0 {
            // No border has these upper bits: the last of the group before is it.
            return end.saturating_sub(1);
        }
        let begin = self.starts.get(groups - 1).copied().unwrap_or_default() as usize;
        let group = self.borders.get(begin..end).unwrap_or_default();
        (begin + group.partition_point(|&border| border <= value)).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    /// Around every border, and around the ends of what the upper bits tell apart.
    fn places_are_those_of_a_binary_search<T: Border + Debug>(
        mut borders: Vec<T>,
        around: impl Fn(T) -> [T; 3],
    ) {
        borders.sort_unstable();
        borders.dedup();
        let ranks = Ranks::new(&borders);
        for value in borders.iter().copied().flat_map(around) {
            let expected = borders.partition_point(|&border| border <= value).max(1) - 1;
            assert_eq!(ranks.place(value), expected, "{value:?} among {borders:?}");
        }
    }

    #[test]
    fn ports() {
        let around = |port: u16| [port.saturating_sub(1), port, port.saturating_add(1)];
        for borders in [
            vec![],
            vec![0],
            vec![u16::MAX],
            vec![22, 80, 81, 82, 443],
            (0..=u16::MAX).collect(),
            (0..=u16::MAX).step_by(3).collect(),
            vec![0, 63, 64, 65, 127, 128, 1_023, 1_024, 65_472, 65_535],
        ] {
            places_are_those_of_a_binary_search(borders, around);
        }
    }

    #[test]
    fn addresses() {
        let around = |address: u32| {
            let (before, after) = (address.saturating_sub(1), address.saturating_add(1));
            [before, address, after]
        };
        for borders in [
            vec![],
            vec![0],
            vec![0x0b00_0001],
            vec![0, u32::MAX],
            // All in one /16, one in each, and few and many by turns.
            (0x0a00_0000..0x0a00_ffff).step_by(7).collect(),
            (0..=u16::MAX).map(|upper| u32::from(upper) << 16).collect(),
            (0..9_000_u32).map(|n| n.wrapping_mul(n) << 9).collect(),
            (0..9_000_u32).map(|n| n << 16 >> (n % 17)).collect(),
        ] {
            let ends = borders.iter().map(|border| border | 0xffff);
            let all = borders.iter().copied().chain(ends).collect();
            places_are_those_of_a_binary_search(all, around);
            places_are_those_of_a_binary_search(borders, around);
        }
    }

    #[test]
    fn what_lies_between_groups_is_of_the_one_before() {
        let ranks = Ranks::new(&[0x0b00_0010_u32, 0x0b00_0020, 0x0c10_0000]);
        for (value, place) in [
            (0, 0),
            (0x0b00_000f, 0),
            (0x0b00_001f, 0),
            (0x0b00_0020, 1),
            (0x0b01_0000, 1),
            (0x0c0f_ffff, 1),
            (0x0c10_0000, 2),
            (u32::MAX, 2),
        ] {
            assert_eq!(ranks.place(value), place, "{value:#x}");
        }
    }
}
