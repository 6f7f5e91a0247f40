//! Where in a side of a stream rules' contents matched. What is stopped is sent again, maybe in other segments, and is one hit.

use policy::RuleId;

/// Places that are remembered of a side. Of more the oldest is forgotten, and counts anew when it comes again.
const MOST: usize = 8;

/// The places, oldest first; those of one rule that touch are one.
#[derive(Debug, Default)]
pub(super) struct Hits(Vec<Place>);

#[derive(Clone, Copy, Debug)]
struct Place {
    rule: RuleId,
    /// Sequence number of the first byte.
    start: u32,
    len: u32,
}

impl Place {
    /// How far behind the begin of this place the other one begins, both ways.
    fn apart(&self, other: &Self) -> (u32, u32) {
        let ahead = other.start.wrapping_sub(self.start);
        (ahead, ahead.wrapping_neg())
    }

    fn overlaps(&self, other: &Self) -> bool {
        let (ahead, behind) = self.apart(other);
        ahead < self.len || behind < other.len
    }

    fn touches(&self, other: &Self) -> bool {
        let (ahead, behind) = self.apart(other);
        ahead <= self.len || behind <= other.len
    }

    /// Both, and what is between them.
    fn with(&self, other: &Self) -> Self {
        let (ahead, behind) = self.apart(other);
        let (first, second, offset) = if ahead <= behind {
            (self, other, ahead)
        } else {
            (other, self, behind)
        };
        Self {
            len: first.len.max(offset.saturating_add(second.len)),
            ..*first
        }
    }
}

impl Hits {
    /// Remembers that a rule's content matched in a segment of `len` bytes, which is not 0. Whether it is a new hit: none of these
    /// bytes was of one of this rule.
    pub(super) fn note(&mut self, rule: RuleId, start: u32, len: u32) -> bool {
        let mut place = Place { rule, start, len };
        let is_new = !(self.0.iter()).any(|known| known.rule == rule && known.overlaps(&place));
        self.0.retain(|known| {
            let is_of_it = known.rule == rule && known.touches(&place);
            if is_of_it {
                place = known.with(&place);
            }
            !is_of_it
        });
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push(place);
        is_new
    }

    /// The same under another policy, in which rules have other numbers.
    pub(super) fn renumbered(self, renumbered: impl Fn(RuleId) -> Option<RuleId>) -> Self {
        let places = self.0.into_iter();
        let places = places.filter_map(|place| {
            Some(Place {
                rule: renumbered(place.rule)?,
                ..place
            })
        });
        Self(places.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: RuleId = RuleId(3);

    #[test]
    fn what_is_sent_again_is_one_hit_however_it_is_cut() {
        // Begin and length of each segment, and whether it is a new hit.
        let cases: [&[(u32, u32, bool)]; 7] = [
            &[(100, 10, true), (100, 10, false), (100, 10, false)],
            // Two under way, both again, as two and as one; and with what follows them.
            &[
                (100, 10, true),
                (110, 10, true),
                (100, 10, false),
                (110, 10, false),
                (100, 20, false),
                (100, 30, false),
            ],
            // In the middle of what was one.
            &[
                (100, 30, true),
                (105, 5, false),
                (129, 9, false),
                (138, 1, true),
            ],
            // Each lower than the one before: each is its own.
            &[
                (300, 10, true),
                (200, 10, true),
                (100, 10, true),
                (200, 10, false),
            ],
            // Far ahead, and then what is before it.
            &[
                (30_100, 10, true),
                (100, 10, true),
                (110, 10, true),
                (120, 10, true),
            ],
            // Over the end of the numbers.
            &[
                (u32::MAX - 4, 10, true),
                (0, 2, false),
                (5, 10, true),
                (u32::MAX - 9, 6, false),
            ],
            &[(u32::MAX, 1, true), (0, 1, true), (u32::MAX, 2, false)],
        ];
        for case in cases {
            let mut hits = Hits::default();
            for &(start, len, is_new) in case {
                assert_eq!(hits.note(RULE, start, len), is_new, "{start} of {case:?}");
            }
        }
    }

    #[test]
    fn rules_stand_apart_and_places_have_a_ceiling() {
        let mut hits = Hits::default();
        assert!(hits.note(RULE, 100, 10));
        assert!(hits.note(RuleId(4), 100, 10));
        for n in 0..100 {
            assert!(hits.note(RULE, 1_000 + n * 100, 10));
            assert!(hits.0.len() <= MOST);
        }
        let mut hits = hits.renumbered(|rule| (rule == RULE).then_some(RuleId(9)));
        assert!(!hits.note(RuleId(9), 1_000 + 99 * 100, 10));
        assert!(hits.note(RULE, 1_000 + 99 * 100, 10));
    }
}
