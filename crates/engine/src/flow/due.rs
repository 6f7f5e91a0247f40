//! When each flow is to be looked at again. A look at a flow that cannot be over yet is a miss of the cache for nothing, and two flows
//! are looked at with each packet; these moments lie close together.

use policy::Timestamp;

use super::tcp::TcpState;
use crate::clock;

/// The moments, by the slots of the table.
#[derive(Debug, Default)]
pub(super) struct Due {
    slots: Vec<Slot>,
    /// No flow that was put down in this era has a later last packet.
    latest: Timestamp,
    /// Begins anew when the clock is set back: flows may be older then than they were.
    era: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    at: Timestamp,
    era: u64,
}

impl Due {
    /// Time goes on, or back. To be called before flows are counted or looked at by it.
    #[inline]
    pub(super) fn tell(&mut self, now: Timestamp) {
        if now > self.latest {
            self.latest = now;
        } else if !clock::is_same_clock(self.latest, now) {
            self.latest = now;
            self.era += 1;
        }
    }

    /// Whether a flow may be over, or have been seen by another clock.
    #[inline]
    pub(super) fn is_due(&self, place: usize, now: Timestamp) -> bool {
        (self.slots.get(place)).is_none_or(|slot| slot.era != self.era || now > slot.at)
    }

    /// A flow was entered or looked at, whose last packet was then: whatever state it comes to, it is kept for the shortest time.
    #[inline]
    pub(super) fn put(&mut self, place: usize, last: Timestamp) {
        self.latest = self.latest.max(last);
        self.set(place, last.after(TcpState::SHORTEST));
    }

    /// There is no flow in a slot.
    pub(super) fn clear(&mut self, place: usize) {
        self.set(place, Timestamp::MAX);
    }

    /// Each flow is to be looked at, as its times were changed.
    pub(super) fn forget(&mut self) {
        self.era += 1;
    }

    fn set(&mut self, place: usize, at: Timestamp) {
        let slot = Slot { at, era: self.era };
        match self.slots.get_mut(place) {
            Some(known) => *known = slot,
            // Slots are added one by one.
            None => self.slots.push(slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn none_is_looked_at_before_it_can_be_over() {
        let mut due = Due::default();
        due.tell(at(1_000));
        due.put(0, at(1_000));
        due.clear(1);
        for (now, first) in [(1_000, false), (1_010, false), (1_011, true)] {
            due.tell(at(now));
            assert_eq!(due.is_due(0, at(now)), first, "{now}");
            assert!(!due.is_due(1, at(now)), "{now}");
        }
    }

    #[test]
    fn all_are_when_the_clock_was_set_back() {
        let mut due = Due::default();
        due.tell(at(1_000));
        due.put(0, at(1_000));
        due.put(1, at(1_000));
        due.tell(at(998));
        assert!(!due.is_due(0, at(998)), "that is disorder");
        due.tell(at(500));
        assert!(due.is_due(0, at(500)) && due.is_due(1, at(500)));
        due.put(0, at(500));
        assert!(!due.is_due(0, at(510)) && due.is_due(1, at(510)));
    }

    #[test]
    fn a_last_packet_that_is_ahead_counts_as_time() {
        let mut due = Due::default();
        due.tell(at(1_000));
        due.put(0, at(1_002));
        due.tell(at(999));
        assert!(
            due.is_due(0, at(999)),
            "three seconds ahead is another clock"
        );
    }
}
