//! Sets of ports.

use std::fmt;

/// A set of ports: sorted, disjoint, non-adjacent inclusive ranges. Port 0 is a port like any other, never a sentinel;
/// "any port", which a packet without ports matches as well, is [`PortSet::Any`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum PortSet {
    /// Matches every packet, also one that has no ports.
    #[default]
    Any,
    /// Matches a packet that has ports, and whose port lies in one of the ranges.
    Of(Vec<(u16, u16)>),
}

impl PortSet {
    /// From inclusive ranges in any order.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u16, u16)>) -> Self {
        let mut ranges: Vec<_> = ranges
            .into_iter()
            .filter(|(first, last)| first <= last)
            .collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self::Of(merged)
    }

    /// Whether a packet with this port, or with none, matches.
    #[inline]
    pub fn matches(&self, port: Option<u16>) -> bool {
        match (self, port) {
            (Self::Any, _) => true,
            (Self::Of(_), None) => false,
            (Self::Of(ranges), Some(port)) => ranges
                .iter()
                .any(|&(first, last)| first <= port && port <= last),
        }
    }

    /// Whether this is [`PortSet::Any`].
    pub fn is_any(&self) -> bool {
        matches!(self, Self::Any)
    }

    /// The ranges; empty for [`PortSet::Any`].
    pub fn ranges(&self) -> &[(u16, u16)] {
        match self {
            Self::Any => &[],
            Self::Of(ranges) => ranges,
        }
    }

    /// Whether every packet that `other` matches is matched by this too.
    pub fn contains_set(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Of(_), Self::Any) => false,
            (Self::Of(outer), Self::Of(inner)) => inner.iter().all(|&(first, last)| {
                outer
                    .iter()
                    .any(|&(start, end)| start <= first && last <= end)
            }),
        }
    }

    /// What both match.
    pub fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Any, set) | (set, Self::Any) => set.clone(),
            (Self::Of(left), Self::Of(right)) => {
                let pairs = left
                    .iter()
                    .flat_map(|&(a, b)| right.iter().map(move |&(c, d)| (a.max(c), b.min(d))));
                Self::from_ranges(pairs)
            }
        }
    }

    /// Whether nothing can match.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Of(ranges) if ranges.is_empty())
    }
}

/// As the policy writes it: `80,443,8000-8100`, or `any`.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Of(ranges) = self else {
            return f.write_str("any");
        };
        for (index, (first, last)) in ranges.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if first == last {
                write!(f, "{first}")?
            } else {
                write!(f, "{first}-{last}")?
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_print() {
        let ports =
            PortSet::from_ranges([(8000, 8100), (80, 80), (81, 82), (0, 0), (65_535, 65_535)]);
        assert_eq!(ports.to_string(), "0,80-82,8000-8100,65535");
        assert!(
            ports.matches(Some(0))
                && ports.matches(Some(8100))
                && !ports.matches(Some(83))
                && !ports.matches(None)
        );
        assert!(PortSet::Any.matches(None));
    }
}
