//! Where the chains of a ruleset stand among the hooks of others, so that the next ruleset can stand behind it.
//!
//! The kernel hooks up new chains, still empty, before the transaction is committed, and reads at each chain which generation
//! is in force. Of two chains that change places in that moment a packet may find both empty. It finds one of them full if the
//! new one stands behind: the old one holds until the commit, the new one from then on. At equal priority the kernel would
//! put the new one in front (`nf_hook_entries_grow` in net/netfilter/core.c), so each ruleset takes a priority one higher.

/// One of a row of priorities for each base chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u8);

impl Slot {
    /// As many as lie between the priorities at which other programs stand.
    const COUNT: u8 = 32;
    /// What is gone back to stands behind what was to replace it: two are kept for that.
    const KEPT: u8 = 2;

    /// The one at which a chain with the first priority `base` has this `priority`.
    pub(super) fn of(priority: i32, base: i32) -> Option<Self> {
        let number = u8::try_from(priority.checked_sub(base)?).ok()?;
        (number < Self::COUNT).then_some(Self(number))
    }

    /// For a ruleset that replaces one in this slot; `None` when it has to begin anew, at the first slot.
    pub(super) fn next(self) -> Option<Self> {
        let next = self.0 + 1;
        (next < Self::COUNT - Self::KEPT).then_some(Self(next))
    }

    /// For this ruleset when it comes back after another replaced it.
    fn to_come_back(self) -> Self {
        Self((self.0 + Self::KEPT).min(Self::COUNT - 1))
    }

    /// How much higher the priorities are for this ruleset when it comes back after another replaced it.
    pub(super) fn way_back(self) -> i32 {
        i32::from(self.to_come_back().0 - self.0)
    }

    /// Behind all others that a ruleset replaces.
    pub(super) const fn last() -> Self {
        Self(Self::COUNT - 1)
    }

    /// The priority of a chain whose first one is `base`.
    pub(super) fn priority(self, base: i32) -> i32 {
        base + i32::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replaces_or_comes_back_stands_behind() {
        let mut slot = Slot::default();
        let mut passed = 1;
        loop {
            let next = slot.next().unwrap_or_default();
            assert!(slot.to_come_back() > next, "{slot:?}");
            let Some(behind) = slot.next() else { break };
            assert!(behind > slot && behind < Slot::last());
            slot = behind;
            passed += 1;
        }
        assert_eq!(passed, 30);
        assert!(Slot::last() > slot);
        assert!(slot.to_come_back().next().is_none());
    }

    #[test]
    fn a_slot_is_known_by_its_priority() {
        assert_eq!(Slot::of(-298, -300), Some(Slot(2)));
        assert_eq!(Slot(2).priority(-300), -298);
        assert_eq!(Slot::of(-301, -300), None);
        assert_eq!(Slot::of(-268, -300), None);
        assert_eq!(Slot::of(i32::MAX, i32::MIN), None);
    }
}
