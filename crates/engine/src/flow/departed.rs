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
    /// When its last packet came.
    last: Timestamp,
}

/// At most as many as flows; of a few neighbours the oldest makes room.
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
            last: flow.last,
        };
        let held = (self.0).entry(flow.key, || now, |held| held.last.as_nanos());
        if clock::is_within(held.last, now.last, KEPT) {
            // What was given up before may still go on as well.
            held.silent = [0, 1].map(|side| held.silent[side] || silent[side]);
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
        let held = (located.oriented)
            .and_then(|oriented| Some((self.0.get(oriented.key)?, oriented.from_low)));
        if held.is_some_and(|(held, from_low)| held.begun_by_low != Some(from_low)) {
            self.forget(located);
        }
    }

    /// Whether a packet carries bytes of somebody who says no more.
    pub(super) fn contradict(&self, located: &Located, now: Timestamp) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let held = (located.segment)
            .filter(Segment::has_bytes)
            .and(located.oriented)
            .and_then(|oriented| Some((self.0.get(oriented.key)?, oriented.from_low)));
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
