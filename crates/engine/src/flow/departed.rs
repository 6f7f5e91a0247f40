//! Flows of which what was put together is given up, while a receiver may wait for the rest: as their sender said that it has sent all,
//! or as a SYN came that would begin another connection under their ports, and that perhaps nobody takes.
//!
//! Whether the receiver has taken a FIN or reset is not to be seen from here: it discards those that acknowledge what is too old or was
//! never sent (RFC 5961 section 5), and of those that a router behind this one lets die it hears nothing. So it is remembered of whom
//! there was something: from him no bytes pass until another connection begins, by a SYN that is answered.

use std::time::Duration;

use policy::Timestamp;

use super::connection::Segment;
use super::{Flow, FlowKey, Located, TcpState};
use crate::bounded::Bounded;
use crate::clock;

/// How long a flow is remembered behind its last packet: as long as it would have been kept had it not ended.
const KEPT: Duration = TcpState::Established.timeout();

/// One that is given up.
#[derive(Clone, Copy, Debug)]
struct Departed {
    /// Who says no more: the higher endpoint, the lower one.
    silent: [bool; 2],
    /// Whether the lower endpoint began it, where its SYN was seen.
    begun_by_low: Option<bool>,
    /// Whether the side that began it has its address: nobody can have many of these in others' names.
    is_proven: bool,
    /// When its last packet came.
    last: Timestamp,
}

impl Departed {
    /// How much it matters: those who may never have been there wait for no rest.
    fn weight(&self) -> u64 {
        u64::from(self.is_proven) << 63 | self.last.as_nanos() >> 1
    }
}

/// At most as many as flows; of a few neighbours one that nobody need have sent makes room, else the oldest.
#[derive(Debug)]
pub(super) struct DepartedFlows(Bounded<Departed, FlowKey>);

impl DepartedFlows {
    pub(super) fn new(ceiling: u32, seed: u64) -> Self {
        Self(Bounded::new(ceiling, seed))
    }

    /// A flow is given up. `silent`: who of it says no more, first the side that began it.
    pub(super) fn note(&mut self, flow: &Flow, silent: [bool; 2]) {
        let [first, other] = silent;
        if !(first || other) {
            return;
        }
        let silent = if flow.from_low {
            [other, first]
        } else {
            [first, other]
        };
        let now = Departed {
            silent,
            begun_by_low: flow.by_syn.then_some(flow.from_low),
            is_proven: flow.is_proven,
            last: flow.last,
        };
        let held = (self.0).entry(flow.key, || now, Departed::weight);
        if clock::is_within(held.last, now.last, KEPT) {
            // What was given up before may still go on as well.
            held.silent = [0, 1].map(|side| held.silent[side] || silent[side]);
            held.is_proven |= now.is_proven;
            held.last = now.last;
        } else {
            *held = now;
        }
    }

    /// Another connection has begun under the same ports.
    pub(super) fn forget(&mut self, located: &Located) {
        if let Some(oriented) = located.oriented.filter(|_| !self.0.is_empty()) {
            self.0.remove(oriented.key);
        }
    }

    /// The same, as this SYN+ACK says, whose SYN was not seen. Who began what was given up answers nobody: a SYN+ACK of his is nothing
    /// to its receiver, and passes connection tracking where that has picked up the connection with the other side.
    pub(super) fn forget_answered(&mut self, located: &Located) {
        let held = self.held(located);
        if held.is_some_and(|(held, from_low)| held.begun_by_low != Some(from_low)) {
            self.forget(located);
        }
    }

    /// The one of a packet, and whether that comes from the lower endpoint.
    fn held(&self, located: &Located) -> Option<(&Departed, bool)> {
        let oriented = located.oriented.filter(|_| !self.0.is_empty())?;
        Some((self.0.get(oriented.key)?, oriented.from_low))
    }

    /// Whether a packet carries bytes of somebody who says no more.
    pub(super) fn contradict(&self, located: &Located, now: Timestamp) -> bool {
        let held = (located.segment)
            .filter(Segment::has_bytes)
            .and_then(|_| self.held(located));
        held.is_some_and(|(held, from_low)| {
            held.silent[usize::from(from_low)] && clock::is_within(held.last, now, KEPT)
        })
    }

    /// Moves when each was heard of last.
    pub(super) fn shift(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        for held in self.0.values_mut() {
            held.last = moved(held.last);
        }
    }
}
