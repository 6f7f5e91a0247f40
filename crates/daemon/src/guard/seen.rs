//! The first packets that the kernel let through, remembered until their flows end: the kernel's table of connections knows
//! neither when a flow began nor why it was allowed.

use std::collections::HashMap;

use engine::Reason;
use policy::Timestamp;
use wire::FiveTuple;

/// Flows in each of two generations; together some 10 MiB at most.
const GENERATION: usize = 32_768;

/// When and why flows began. Bounded: the oldest half is forgotten when it is full.
#[derive(Debug, Default)]
pub(super) struct Seen {
    young: HashMap<FiveTuple, Begin>,
    old: HashMap<FiveTuple, Begin>,
}

/// When and why a flow began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) at: Timestamp,
    pub(super) reason: Reason,
    /// For TCP, whether a SYN began it; else it was under way already.
    pub(super) by_syn: bool,
    /// Whether it was seen to be closed already.
    pub(super) is_closed: bool,
}

impl Seen {
    pub(super) fn insert(&mut self, tuple: FiveTuple, begin: Begin) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(tuple, begin);
    }

    pub(super) fn get(&self, tuple: &FiveTuple) -> Option<Begin> {
        self.young
            .get(tuple)
            .or_else(|| self.old.get(tuple))
            .copied()
    }

    /// Marks a flow as closed, and gives its begin the first time.
    pub(super) fn close(&mut self, tuple: &FiveTuple) -> Option<Begin> {
        let begin = match self.young.get_mut(tuple) {
            Some(begin) => begin,
            None => self.old.get_mut(tuple)?,
        };
        (!std::mem::replace(&mut begin.is_closed, true)).then_some(*begin)
    }

    pub(super) fn take(&mut self, tuple: &FiveTuple) -> Option<Begin> {
        let young = self.young.remove(tuple);
        let old = self.old.remove(tuple);
        young.or(old)
    }

    /// Rule numbers mean other rules from now on; what was allowed stays allowed.
    pub(super) fn forget_rules(&mut self) {
        for begin in self.young.values_mut().chain(self.old.values_mut()) {
            if begin.reason.rule().is_some() {
                begin.reason = Reason::Established;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::RuleId;

    #[test]
    fn it_is_bounded_and_forgets_the_oldest() {
        let tuple = |number: u32| FiveTuple {
            source: std::net::Ipv4Addr::from(number).into(),
            destination: std::net::Ipv4Addr::LOCALHOST.into(),
            protocol: 1,
            source_port: None,
            destination_port: None,
        };
        let begin = Begin {
            at: Timestamp::default(),
            reason: Reason::Rule(RuleId(3)),
            by_syn: false,
            is_closed: false,
        };
        let mut seen = Seen::default();
        let many = 3 * GENERATION as u32;
        for number in 0..many {
            seen.insert(tuple(number), begin);
        }
        assert!(seen.young.len() + seen.old.len() <= 2 * GENERATION);
        assert_eq!(seen.get(&tuple(0)), None);
        assert_eq!(seen.get(&tuple(many - 1)), Some(begin));
        assert!(seen.close(&tuple(many - 1)).is_some());
        assert_eq!(seen.close(&tuple(many - 1)), None, "told once");
        seen.forget_rules();
        assert_eq!(
            seen.take(&tuple(many - 1)).map(|begin| begin.reason),
            Some(Reason::Established)
        );
        assert_eq!(seen.take(&tuple(many - 1)), None);
    }
}
