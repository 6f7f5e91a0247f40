//! How flows age: how long each is kept, and who goes when. In the course of packets a few slots are looked at with each, where
//! [something may be due](super::due); when time passes without any, all are, spread over [`ROUND`].

use std::time::Duration;

use policy::Timestamp;

use super::{Ended, Flow, FlowSlot, FlowTable};
use crate::clock;
use crate::event::FlowEnd;

/// How long an answer is waited for before a flow counts as one that nobody answers: longer than the first two
/// retransmissions of a SYN (RFC 6298 §2: 1 s, doubled).
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a flow is kept that the kernel tracks and that needs no more inspection.
const SETTLED_TIMEOUT: Duration = Duration::from_secs(120);
/// In which every flow is looked at once when time passes: a full table at once would hold up packets for as long as that takes.
const ROUND: Duration = Duration::from_secs(1);
/// Slots looked at for expired flows at each packet.
const SWEEP: usize = 2;
/// Slots looked at for one that may go when the table is full (the kernel looks at 8 hash buckets).
const EVICTION_SWEEP: usize = 64;
/// Slots whose flows are ended together when all are.
const TOGETHER: usize = 4_096;

impl Flow {
    /// Whether nobody answers: asked at least so long ago, and not told before.
    fn is_silent(&self, now: Timestamp) -> bool {
        !self.answered && !self.failure_told && now.since(self.start) >= PATIENCE
    }

    fn timeout(&self) -> Duration {
        match (self.tcp_state(), self.tuple.protocol) {
            // Its end is never seen, and nothing is left to be known of it.
            (Some(_), _)
                if self.by_kernel && self.inspection.is_none() && self.questions.is_none() =>
            {
                SETTLED_TIMEOUT
            }
            (Some(state), _) => state.timeout(),
            (None, policy::protocol::ICMP | policy::protocol::ICMPV6) => Duration::from_secs(30),
            (None, policy::protocol::UDP | policy::protocol::UDPLITE) if !self.answered => {
                Duration::from_secs(30)
            }
            (None, policy::protocol::UDP | policy::protocol::UDPLITE) => Duration::from_secs(120),
            (None, wire::protocol::GRE) => Duration::from_secs(180),
            (None, _) => Duration::from_secs(600),
        }
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.last) > self.timeout()
    }

    /// Whether it may make room when the table is full: nobody answered, or it is closed (the kernel's "not assured").
    fn may_be_evicted(&self) -> bool {
        !self.answered || self.is_closed()
    }
}

impl FlowTable {
    #[inline]
    pub(super) fn sweep(&mut self, now: Timestamp, ended: &mut Ended) {
        self.due.tell(now);
        for _ in 0..SWEEP.min(self.slab.len()) {
            self.turn_hand();
            if self.due.is_due(self.hand, now) {
                self.expire_at_hand(now, ended);
            } else {
                debug_assert!(self.stays_at_hand(now));
            }
        }
    }

    /// Whether a look at the slot would change nothing.
    fn stays_at_hand(&self, now: Timestamp) -> bool {
        let mut flow = self.slab[self.hand].iter();
        flow.all(|flow| clock::is_same_clock(flow.last, now) && !flow.is_over(now))
    }

    /// To the next slot; behind the last one lies the first. Slots are never taken away.
    #[inline]
    fn turn_hand(&mut self) {
        self.hand += 1;
        if self.hand >= self.slab.len() {
            self.hand = 0;
        }
    }

    fn expire_at_hand(&mut self, now: Timestamp, ended: &mut Ended) -> bool {
        let Some(flow) = &mut self.slab[self.hand] else {
            self.due.clear(self.hand);
            return false;
        };
        if !clock::is_same_clock(flow.last, now) {
            flow.last = now;
        }
        let over = flow.is_over(now);
        self.due.put(self.hand, flow.last);
        if over {
            let closed = self.slab[self.hand].as_ref().is_some_and(Flow::is_closed);
            let end = if closed {
                FlowEnd::Closed
            } else {
                FlowEnd::TimedOut
            };
            self.remove(FlowSlot(self.hand as u32), end, ended);
        }
        over
    }

    pub(super) fn make_room(&mut self, now: Timestamp, ended: &mut Ended) -> bool {
        for _ in 0..EVICTION_SWEEP.min(self.slab.len()) {
            self.turn_hand();
            if self.expire_at_hand(now, ended) {
                return true;
            }
            if self.slab[self.hand]
                .as_ref()
                .is_some_and(Flow::may_be_evicted)
            {
                self.remove(FlowSlot(self.hand as u32), FlowEnd::Evicted, ended);
                return true;
            }
        }
        false
    }

    /// Looks at every flow once in [`ROUND`], however often it is called: those that are over end, and those that nobody answers
    /// are put into `silent`, each once, and end by [`FlowTable::expire`] when they have been told.
    pub(crate) fn walk(&mut self, now: Timestamp, silent: &mut Vec<FlowSlot>, ended: &mut Ended) {
        let (begin, last) = self.walk;
        let passed = last.and_then(|last| clock::age(last, now)).unwrap_or(ROUND);
        let slots = self.slab.len() as u128 * passed.min(ROUND).as_nanos() / ROUND.as_nanos();
        if slots == 0 {
            return;
        }
        self.due.tell(now);
        for step in 0..slots as usize {
            self.hand = (begin + step) % self.slab.len();
            let flow = self.slab[self.hand].as_mut();
            if let Some(flow) = flow.filter(|flow| flow.is_silent(now)) {
                flow.failure_told = true;
                silent.push(FlowSlot(self.hand as u32));
            } else {
                self.expire_at_hand(now, ended);
            }
        }
        self.walk = ((begin + slots as usize) % self.slab.len(), Some(now));
    }

    /// Whether it is still to be told of a flow that nobody answers it.
    pub(crate) fn awaits_answers(&self) -> bool {
        let mut flows = self.slab.iter().flatten();
        flows.any(|flow| !flow.answered && !flow.failure_told)
    }

    /// Every flow that nobody answers and that was not told, put into `silent`.
    pub(crate) fn silent(&mut self, now: Timestamp, silent: &mut Vec<FlowSlot>) {
        for (place, flow) in self.slab.iter_mut().enumerate() {
            if let Some(flow) = flow.as_mut().filter(|flow| flow.is_silent(now)) {
                flow.failure_told = true;
                silent.push(FlowSlot(place as u32));
            }
        }
    }

    /// Ends this flow if it is over at `now`.
    pub(crate) fn expire(&mut self, flow: FlowSlot, now: Timestamp, ended: &mut Ended) {
        self.due.tell(now);
        self.hand = flow.0 as usize;
        self.expire_at_hand(now, ended);
    }

    /// Whether flows were ended by [`FlowTable::finish`], and it has not said yet that none is left.
    pub(crate) fn is_finishing(&self) -> bool {
        self.finished > 0
    }

    /// Ends flows, in the order of their slots, some thousand at a time; whether there were any.
    pub(crate) fn finish(&mut self, ended: &mut Ended) -> bool {
        let from = |begin: usize| {
            let step = self.slab[begin..].iter().position(Option::is_some)?;
            Some(begin + step)
        };
        // Once more from the first: nothing here keeps a flow from being entered meanwhile, where another was ended.
        let Some(first) = from(self.finished).or_else(|| from(0)) else {
            self.finished = 0;
            return false;
        };
        self.finished = (first + TOGETHER).min(self.slab.len());
        for place in first..self.finished {
            let closed = self.slab[place].as_ref().is_some_and(Flow::is_closed);
            let end = if closed {
                FlowEnd::Closed
            } else {
                FlowEnd::Shutdown
            };
            self.remove(FlowSlot(place as u32), end, ended);
        }
        true
    }
}
