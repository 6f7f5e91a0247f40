//! VLAN tags: the ids of up to two (IEEE 802.1Q, 802.1ad). Priority bits are not kept.

/// The VLAN ids a frame carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vlan {
    outer: Option<u16>,
    inner: Option<u16>,
}

impl Vlan {
    /// A frame without tags.
    pub const NONE: Self = Self {
        outer: None,
        inner: None,
    };

    /// Id of the first tag on the wire, 0 to 4095 (0: priority tag only).
    #[inline]
    pub fn outer(self) -> Option<u16> {
        self.outer
    }

    /// Id of the second tag on the wire, 0 to 4095.
    #[inline]
    pub fn inner(self) -> Option<u16> {
        self.inner
    }

    /// Whether the ethertype announces a tag: 802.1Q, 802.1ad, or the older QinQ.
    #[inline]
    pub(crate) fn is_tag(ethertype: u16) -> bool {
        matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
    }

    /// This with one more tag; a third replaces the second.
    #[inline]
    pub(crate) fn then(self, tag: u16) -> Self {
        let id = Some(tag & 0x0fff);
        match self.outer {
            None => Self {
                outer: id,
                inner: None,
            },
            outer => Self { outer, inner: id },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tags_fit_and_priority_is_dropped() {
        let one = Vlan::NONE.then(0xe064);
        assert_eq!((one.outer(), one.inner()), (Some(0x064), None));
        let two = one.then(0x0fff);
        assert_eq!((two.outer(), two.inner()), (Some(0x064), Some(0xfff)));
    }
}
