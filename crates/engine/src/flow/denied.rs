//! Flows that were denied where nothing is blocked. Whoever only observes sees what comes of them: the service answers, and a client
//! that would never have been heard goes on. None of that would have been if the policy were enforced, so it is neither counted
//! as passed nor held against anybody: the flow was denied once, with its first packet.
//!
//! It remembers a fixed number of flows, each in the one place that its hash gives: a newer one takes the place of an older one.
//! What is forgotten is judged packet by packet.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;
use policy::Timestamp;

use super::{FlowKey, Located};
use crate::facts::Facts;
use crate::verdict::{Reason, Verdict};

/// Flows that are remembered, a power of two: some hundred bytes each.
const PLACES: usize = 1 << 13;
/// How long a flow is remembered of which nothing comes: a pause in a connection is no new begin.
const IDLE: Duration = Duration::from_secs(3_600);

/// The flows.
#[derive(Debug)]
pub(crate) struct DeniedFlows {
    /// Empty where they are not to be remembered.
    places: Vec<Option<Denied>>,
    hasher: FixedState,
}

#[derive(Clone, Debug)]
struct Denied {
    key: FlowKey,
    from_low: bool,
    answered: bool,
    verdict: Verdict,
    reason: Reason,
    last: Timestamp,
}

impl DeniedFlows {
    /// Remembers nothing before [`DeniedFlows::remember`].
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            places: Vec::new(),
            hasher: FixedState::with_seed(seed),
        }
    }

    /// From now on they are remembered, or not. What was is forgotten.
    pub(crate) fn remember(&mut self, is_on: bool) {
        self.places.clear();
        self.places.resize(if is_on { PLACES } else { 0 }, None);
    }

    /// Forgets all: other rules hold.
    pub(crate) fn forget(&mut self) {
        self.places.fill(None);
    }

    fn place(&self, key: &FlowKey) -> usize {
        // The hash of the flow table would do, were it not zero for what has no flow.
        self.hasher.hash_one(key) as usize & (PLACES - 1)
    }

    /// The verdict on the flow that a packet comes of, where it would not have been sent had that verdict been done.
    pub(crate) fn follows(
        &mut self,
        facts: &Facts<'_>,
        located: &Located,
        now: Timestamp,
    ) -> Option<(Verdict, Reason)> {
        let oriented = located.oriented.filter(|_| !self.places.is_empty())?;
        let place = self.place(&oriented.key);
        let denied = self.places[place].as_mut()?;
        if denied.key != oriented.key || now.since(denied.last) > IDLE {
            return None;
        }
        let is_reply = oriented.from_low != denied.from_low;
        // An error about it is no answer of the service.
        denied.answered |= is_reply && !located.quoted;
        let follows = match facts.tcp_flags {
            _ if is_reply || located.quoted => true,
            // What begins a connection, and what is sent again as nobody answered, is denied by itself.
            Some(flags) => denied.answered && !flags.syn(),
            // Every datagram is.
            None => false,
        };
        if !follows {
            return None;
        }
        denied.last = now;
        Some((denied.verdict, denied.reason))
    }

    /// The first packet of a flow was denied.
    pub(crate) fn note(
        &mut self,
        located: &Located,
        verdict: Verdict,
        reason: Reason,
        now: Timestamp,
    ) {
        let begins = !matches!(
            reason,
            Reason::Impossible(_) | Reason::Malformed(_) | Reason::Invalid(_) | Reason::Fragment(_)
        );
        let Some(oriented) = located.oriented else {
            return;
        };
        if self.places.is_empty() || !begins || located.quoted || located.found.is_some() {
            return;
        }
        let place = self.place(&oriented.key);
        self.places[place] = Some(Denied {
            key: oriented.key,
            from_low: oriented.from_low,
            answered: false,
            verdict,
            reason,
            last: now,
        });
    }
}
