//! Sorted borders, and between which two of them a value lies.

use super::ranks::Ranks;

/// From so many borders on they are found by the upper half of a value; to begin with, that takes ten kilobytes.
const MANY: usize = 512;

/// Borders in ascending order.
#[derive(Debug)]
pub(super) enum Borders<T, const WIDTH: usize> {
    Few(Blocks<T, WIDTH>),
    Many(Ranks<T>),
}

/// What can be a border; unused places of a block hold the greatest value.
pub(super) trait Border: Ord + Copy {
    const GREATEST: Self;
    /// How values are split, where they are split.
    const SPLIT: Split;

    /// How many borders of the block are not above `value`.
    fn not_above(block: &[Self], value: Self) -> usize;

    /// The upper 16 bits.
    fn upper(self) -> u16;
}

/// What the upper 16 bits are of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    All,
    Half,
    /// Too little to tell many values apart by.
    Little,
}

/// The sum is taken in the borders' own type, so that a processor adds whole vectors of comparisons.
macro_rules! border {
    ($type:ty, $split:expr) => {
        impl Border for $type {
            const GREATEST: Self = Self::MAX;
            const SPLIT: Split = $split;

            #[inline]
            fn not_above(block: &[Self], value: Self) -> usize {
                let count: Self = block
                    .iter()
                    .map(|&border| Self::from(border <= value))
                    .sum();
                count as usize
            }

            #[inline]
            fn upper(self) -> u16 {
                (self >> (Self::BITS - u16::BITS)) as u16
            }
        }
    };
}

border!(u16, Split::All);
border!(u32, Split::Half);
border!(u128, Split::Little);

impl<T: Border, const WIDTH: usize> Borders<T, WIDTH> {
    /// `sorted` ascends, each value once; what lies before its first value counts as if it were that value.
    pub(super) fn new(sorted: &[T]) -> Self {
        if sorted.len() < MANY || T::SPLIT == Split::Little {
            Self::Few(Blocks::new(sorted))
        } else {
            Self::Many(Ranks::new(sorted))
        }
    }

    /// The place of the last border that is not above `value`; 0 when all are.
    #[inline]
    pub(super) fn place(&self, value: T) -> usize {
        match self {
            Self::Few(blocks) => blocks.place(value),
            Self::Many(ranks) => ranks.place(value),
        }
    }
}

/// Borders searched block by block: a block is as long as one or two cache lines and compared as a whole,
/// without a branch, and the blocks above hold the first border of each block below (a static B+ tree).
#[derive(Debug)]
pub(super) struct Blocks<T, const WIDTH: usize> {
    /// From the one block at the top down to the borders themselves.
    levels: Box<[Box<[[T; WIDTH]]>]>,
    count: usize,
}

impl<T: Border, const WIDTH: usize> Blocks<T, WIDTH> {
    fn new(sorted: &[T]) -> Self {
        let mut levels = vec![blocks(sorted)];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            let firsts: Vec<T> = below.iter().map(|block| block[0]).collect();
            levels.push(blocks(&firsts));
        }
        levels.reverse();
        Self {
            levels: levels.into(),
            count: sorted.len(),
        }
    }

    #[inline]
    fn place(&self, value: T) -> usize {
        // The filling of the blocks is the greatest value: only that is not below it.
        if value == T::GREATEST {
            return self.count.saturating_sub(1);
        }
        let mut at = 0;
        for level in &self.levels {
            let Some(block) = level.get(at) else { break };
            at = at * WIDTH + T::not_above(block, value).saturating_sub(1);
        }
        at
    }
}

fn blocks<T: Border, const WIDTH: usize>(sorted: &[T]) -> Box<[[T; WIDTH]]> {
    sorted
        .chunks(WIDTH)
        .map(|chunk| {
            let mut block = [T::GREATEST; WIDTH];
            block[..chunk.len()].copy_from_slice(chunk);
            block
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a binary search, around every border, for lists that fill blocks and levels exactly, almost, and barely not.
    #[test]
    fn places_are_those_of_a_binary_search() {
        for count in [
            1_u32, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 255, 256, 257, 511, 512, 5_000,
        ] {
            let borders: Vec<u32> = (0..count).map(|place| place * 7).collect();
            let tree = Blocks::<u32, 4>::new(&borders);
            let wide = Borders::<u32, 16>::new(&borders);
            let values = borders
                .iter()
                .flat_map(|&border| [border.saturating_sub(1), border, border + 1]);
            for value in values.chain([0, u32::MAX]) {
                let expected = borders.partition_point(|&border| border <= value).max(1) - 1;
                assert_eq!(tree.place(value), expected, "{value} among {count}");
                assert_eq!(wide.place(value), expected, "{value} among {count}");
            }
        }
    }

    #[test]
    fn the_greatest_value_may_be_a_border_and_no_border_is_place_0() {
        let tree = Blocks::<u16, 4>::new(&[0, 9, 70, 80, 90, u16::MAX]);
        assert_eq!(tree.place(u16::MAX), 5);
        assert_eq!(tree.place(u16::MAX - 1), 4);
        let filled = Blocks::<u16, 4>::new(&[0, 9, 70, 80, 90]);
        assert_eq!(filled.place(u16::MAX), 4);
        assert_eq!(Blocks::<u128, 4>::new(&[]).place(3), 0);
    }
}
