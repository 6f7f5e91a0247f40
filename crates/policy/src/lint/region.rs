//! Sets of packets as boxes: six dimensions, each a set of ranges of numbers, so that one subtraction serves all of them.

use std::rc::Rc;

/// Sorted, disjoint, inclusive ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranges(Rc<[(u128, u128)]>);

impl Ranges {
    pub(super) fn new(ranges: impl IntoIterator<Item = (u128, u128)>) -> Self {
        Self(ranges.into_iter().collect())
    }

    pub(super) fn one(first: u128, last: u128) -> Self {
        Self::new([(first, last)])
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, number: u128) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= number);
        after > 0 && self.0[after - 1].1 >= number
    }

    /// Whether every number of `other` is in it.
    pub(super) fn contains_all(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
            || other.0.iter().all(|&(first, last)| {
                let after = self.0.partition_point(|&(start, _)| start <= first);
                after > 0 && self.0[after - 1].1 >= last
            })
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        if other.contains_all(self) {
            return self.clone();
        }
        if self.contains_all(other) {
            return other.clone();
        }
        let (mut left, mut right) = (0, 0);
        let mut common = Vec::new();
        while let (Some(&(a, b)), Some(&(c, d))) = (self.0.get(left), other.0.get(right)) {
            if a.max(c) <= b.min(d) {
                common.push((a.max(c), b.min(d)));
            }
            if b < d {
                left += 1;
            } else {
                right += 1;
            }
        }
        Self(common.into())
    }

    /// What is in this and not in the other.
    pub(super) fn minus(&self, other: &Self) -> Self {
        if other.contains_all(self) {
            return Self(Rc::new([]));
        }
        let mut rest = Vec::new();
        let mut right = 0;
        for &(first, last) in self.0.iter() {
            let mut begin = first;
            let mut is_used_up = false;
            while let Some(&(_, end)) = other.0.get(right)
                && end < begin
            {
                right += 1;
            }
            let mut place = right;
            while let Some(&(start, end)) = other.0.get(place)
                && start <= last
            {
                if start > begin {
                    rest.push((begin, start - 1));
                }
                if end >= last {
                    is_used_up = true;
                    break;
                }
                begin = end + 1;
                place += 1;
            }
            right = place;
            if !is_used_up {
                rest.push((begin, last));
            }
        }
        Self(rest.into())
    }

    /// A number well inside: of the widest range, at the golden section, so that rules about ends and middles are both missed.
    pub(super) fn inner(&self) -> u128 {
        // The widest of the first few will do: this is asked of sets with millions of ranges too.
        let few = self.0.iter().take(64);
        let widest = few.max_by_key(|&&(first, last)| last - first);
        widest.map_or(0, |&(first, last)| {
            let width = last - first;
            first + width / 1_000 * 618 + width % 1_000 * 618 / 1_000
        })
    }
}

pub(super) const DIRECTION: usize = 0;
pub(super) const PROTOCOL: usize = 1;
pub(super) const SOURCE: usize = 2;
pub(super) const DESTINATION: usize = 3;
pub(super) const SOURCE_PORT: usize = 4;
pub(super) const PORT: usize = 5;

/// The port of a packet that shows none.
pub(super) const NO_PORT: u128 = 65_536;

/// A packet: one number in each dimension.
pub(super) type Point = [u128; 6];

/// All packets whose numbers lie in the ranges, dimension by dimension.
#[derive(Clone, Debug)]
pub(super) struct Region(pub(super) [Ranges; 6]);

impl Region {
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().any(Ranges::is_empty)
    }

    pub(super) fn contains_all(&self, other: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&other.0);
        pairs.all(|(mine, theirs)| mine.contains_all(theirs))
    }

    /// How much work an operation on the two is.
    pub(super) fn weight(&self, other: &Self) -> u64 {
        let pairs = self.0.iter().zip(&other.0);
        let different = pairs.filter(|(mine, theirs)| !Rc::ptr_eq(&mine.0, &theirs.0));
        let lengths = different.map(|(mine, theirs)| mine.len() + theirs.len());
        // Even the smallest boxes have to be made.
        20 + lengths.sum::<usize>() as u64
    }

    /// What is in this and not in the other, in disjoint boxes: at most one for each dimension.
    pub(super) fn minus(&self, other: &Self) -> Vec<Self> {
        let mut pieces = Vec::new();
        let mut inside = self.clone();
        for dimension in 0..self.0.len() {
            let outside = inside.0[dimension].minus(&other.0[dimension]);
            if !outside.is_empty() {
                let mut piece = inside.clone();
                piece.0[dimension] = outside;
                pieces.push(piece);
            }
            inside.0[dimension] = inside.0[dimension].intersection(&other.0[dimension]);
            if inside.0[dimension].is_empty() {
                // They do not meet; what was cut off so far is all of it.
                break;
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges() -> impl Strategy<Value = Ranges> {
        prop::collection::btree_set(0_u128..40, 0..20).prop_map(|numbers| {
            let mut all: Vec<(u128, u128)> = Vec::new();
            for number in numbers {
                match all.last_mut() {
                    Some((_, last)) if *last + 1 == number => *last = number,
                    _ => all.push((number, number)),
                }
            }
            Ranges::new(all)
        })
    }

    proptest! {
        #[test]
        fn ranges_are_sets(a in ranges(), b in ranges()) {
            let (both, rest) = (a.intersection(&b), a.minus(&b));
            for number in 0..41 {
                prop_assert_eq!(both.contains(number), a.contains(number) && b.contains(number));
                prop_assert_eq!(rest.contains(number), a.contains(number) && !b.contains(number));
            }
            prop_assert_eq!(a.contains_all(&b), b.minus(&a).is_empty());
            prop_assert!(a.is_empty() || a.contains(a.inner()));
        }

        #[test]
        fn boxes_are_sets(a in prop::array::uniform3(ranges()), b in prop::array::uniform3(ranges())) {
            let full = |three: [Ranges; 3]| {
                let [x, y, z] = three;
                let one = Ranges::one(0, 0);
                Region([x, y, z, one.clone(), one.clone(), one])
            };
            let (a, b) = (full(a), full(b));
            let pieces = a.minus(&b);
            let inside = |region: &Region, x, y, z| {
                region.0[0].contains(x) && region.0[1].contains(y) && region.0[2].contains(z)
            };
            for x in (0..40).step_by(3) {
                for y in (0..40).step_by(3) {
                    for z in (0..40).step_by(3) {
                        let expected = usize::from(inside(&a, x, y, z) && !inside(&b, x, y, z));
                        let found = pieces.iter().filter(|piece| inside(piece, x, y, z)).count();
                        prop_assert_eq!(found, expected);
                    }
                }
            }
        }
    }
}
