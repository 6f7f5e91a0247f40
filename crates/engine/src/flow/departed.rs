//! Flows that were forgotten soon, as their sender said that it has sent all.
//!
//! Whether the receiver has taken that FIN or reset is not to be seen from here: it discards those that acknowledge what is too old or was
//! never sent (RFC 5961 section 5), and of those that a router behind this one lets die it hears nothing. So what was put together of the
//! flow is given up, but not that it was: a sender who has ended sends no more bytes until another connection begins by a SYN. Who does
//! so all the same contradicts itself, and receivers disagree about what they have then.

use std::time::Duration;

use policy::Timestamp;

use super::{Flow, FlowKey, Located, TcpState};
use crate::bounded::Bounded;
use crate::clock;

/// How long a flow is remembered behind its last packet: as long as it would have been kept had it not ended.
const KEPT: Duration = TcpState::Established.timeout();

/// One that was forgotten.
#[derive(Clone, Copy, Debug)]
struct Departed {
    /// Who has ended: the higher endpoint, the lower one.
    ended: [bool; 2],
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

    /// A flow was not heard of for so long that it is forgotten.
    pub(super) fn note(&mut self, flow: &Flow) {
        let [first, other] = [false, true].map(|reply| flow.has_left(reply));
        if !(first || other) || flow.tcp_state() != Some(TcpState::FinWait) {
            return;
        }
        let ended = if flow.from_low {
            [other, first]
        } else {
            [first, other]
        };
        let last = flow.last;
        let now = Departed { ended, last };
        *self.0.entry(flow.key, || now, |held| held.last.as_nanos()) = now;
    }

    /// Whether a packet carries bytes that its sender said it would not send. A SYN begins another connection.
    pub(super) fn contradict(&mut self, located: &Located, now: Timestamp) -> bool {
        let (false, Some((segment, oriented))) = (
            self.0.is_empty(),
            located.segment.as_ref().zip(located.oriented),
        ) else {
            return false;
        };
        let Some(&held) = self.0.get(oriented.key) else {
            return false;
        };
        if segment.is_syn() || !clock::is_within(held.last, now, KEPT) {
            self.0.remove(oriented.key);
            return false;
        }
        segment.has_bytes() && held.ended[usize::from(oriented.from_low)]
    }
}
