//! When and why flows began, remembered until they end: the kernel's table of connections knows neither. Its log of what it let
//! through tells both, of as many flows a second as its budget allows; of a TCP connection from outside, the completed handshake
//! tells when, whatever uses that budget up.

use std::collections::HashMap;
use std::time::Duration;

use engine::Reason;
use policy::Timestamp;
use wire::FiveTuple;

/// Flows in each of two generations, of two kinds of flows; together some 10 MiB at most.
const GENERATION: usize = 16_384;
/// How far the log's clock may be ahead of the daemon's.
const AHEAD: Duration = Duration::from_millis(500);

/// When and why flows began. Bounded: the oldest half is forgotten when it is full.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Let through by the kernel, as its log tells.
    begun: Generations,
    /// TCP connections from outside, completed: a flood of SYNs does not push these out.
    completed: Generations,
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
    /// Whether the log told of it; else its handshake alone did, and nobody knows which rule let it in.
    pub(super) is_logged: bool,
    /// For TCP from outside, when its handshake was told to be completed.
    pub(super) completed: Option<Timestamp>,
}

impl Begin {
    /// Whether what was told of a flow at a time is about this one, not about one before it on the same ports.
    pub(super) fn is_of(&self, told: Timestamp) -> bool {
        self.completed.is_none_or(|completed| completed <= told)
    }

    /// The same, of a connection whose handshake was told to be completed at a time. What passed before its SYN is none of it: somebody
    /// may send that so as not to be told from who was there before the firewall.
    fn by_handshake(self, at: Timestamp) -> Self {
        Self {
            at: if self.by_syn { self.at } else { at },
            by_syn: true,
            ..self
        }
    }
}

impl Seen {
    /// The log tells of a flow's first packet.
    pub(super) fn insert(&mut self, tuple: FiveTuple, begin: Begin) {
        match self.completed.get_mut(&tuple) {
            // The log was read later than the handshake that came of this packet, or even than its connection's end. The log's
            // clock may be a little ahead.
            Some(known) if !known.is_logged && begin.at <= known.at.after(AHEAD) => {
                *known = Begin {
                    is_closed: known.is_closed,
                    completed: known.completed,
                    ..begin.by_handshake(known.at)
                };
            }
            _ => {
                self.completed.remove(&tuple);
                self.begun.insert(tuple, begin);
            }
        }
    }

    /// A handshake was completed at a time; that is when its connection began, unless more is known.
    pub(super) fn complete(&mut self, tuple: FiveTuple, at: Timestamp) {
        let known = self.completed.get_mut(&tuple);
        if known.is_some_and(|begin| !begin.is_closed) {
            return;
        }
        let logged = self.begun.remove(&tuple);
        let logged = logged.filter(|begin| !begin.is_closed);
        let begin = logged.unwrap_or(Begin {
            at,
            reason: Reason::Established,
            by_syn: true,
            is_closed: false,
            is_logged: false,
            completed: None,
        });
        let begin = Begin {
            completed: Some(at),
            ..begin.by_handshake(at)
        };
        (self.completed).insert(tuple, begin);
    }

    pub(super) fn get(&self, tuple: &FiveTuple) -> Option<Begin> {
        (self.completed.get(tuple)).or_else(|| self.begun.get(tuple))
    }

    /// Marks a flow that was told to be closed at a time as such, and gives its begin the first time.
    pub(super) fn close(&mut self, tuple: &FiveTuple, told: Timestamp) -> Option<Begin> {
        let begin = match self.completed.get_mut(tuple) {
            Some(begin) => begin,
            None => self.begun.get_mut(tuple)?,
        };
        if !begin.is_of(told) || begin.is_closed {
            return None;
        }
        begin.is_closed = true;
        Some(*begin)
    }

    /// Forgets a flow that was told to have ended at a time.
    pub(super) fn take(&mut self, tuple: &FiveTuple, told: Timestamp) -> Option<Begin> {
        let begin = self.get(tuple).filter(|begin| begin.is_of(told))?;
        self.completed.remove(tuple);
        self.begun.remove(tuple);
        Some(begin)
    }

    /// Rule numbers mean other rules from now on; what was allowed stays allowed.
    pub(super) fn forget_rules(&mut self) {
        for begin in (self.begun.all_mut()).chain(self.completed.all_mut()) {
            if begin.reason.rule().is_some() {
                begin.reason = Reason::Established;
            }
        }
    }
}

/// The begins of flows of one kind.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<FiveTuple, Begin>,
    old: HashMap<FiveTuple, Begin>,
}

impl Generations {
    fn insert(&mut self, tuple: FiveTuple, begin: Begin) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(tuple, begin);
    }

    fn get(&self, tuple: &FiveTuple) -> Option<Begin> {
        (self.young.get(tuple))
            .or_else(|| self.old.get(tuple))
            .copied()
    }

    fn get_mut(&mut self, tuple: &FiveTuple) -> Option<&mut Begin> {
        (self.young.get_mut(tuple)).or_else(|| self.old.get_mut(tuple))
    }

    fn remove(&mut self, tuple: &FiveTuple) -> Option<Begin> {
        let young = self.young.remove(tuple);
        let old = self.old.remove(tuple);
        young.or(old)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Begin> {
        self.young.values_mut().chain(self.old.values_mut())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use policy::RuleId;

    fn tuple(number: u32) -> FiveTuple {
        FiveTuple {
            source: std::net::Ipv4Addr::from(number).into(),
            destination: std::net::Ipv4Addr::LOCALHOST.into(),
            protocol: 6,
            source_port: None,
            destination_port: None,
        }
    }

    fn logged(at: Timestamp) -> Begin {
        Begin {
            at,
            reason: Reason::Rule(RuleId(3)),
            by_syn: true,
            is_closed: false,
            is_logged: true,
            completed: None,
        }
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    #[test]
    fn it_is_bounded_and_forgets_the_oldest() {
        let mut seen = Seen::default();
        let many = 3 * GENERATION as u32;
        let begin = logged(at(1));
        seen.complete(tuple(many), at(1));
        for number in 0..many {
            seen.insert(tuple(number), begin);
        }
        assert!(seen.begun.young.len() + seen.begun.old.len() <= 2 * GENERATION);
        assert_eq!(seen.get(&tuple(0)), None);
        assert_eq!(seen.get(&tuple(many - 1)), Some(begin));
        assert!(seen.close(&tuple(many - 1), at(1)).is_some());
        assert_eq!(seen.close(&tuple(many - 1), at(1)), None, "told once");
        seen.forget_rules();
        assert_eq!(
            seen.take(&tuple(many - 1), at(1)).map(|begin| begin.reason),
            Some(Reason::Established)
        );
        assert_eq!(seen.take(&tuple(many - 1), at(1)), None);
        assert!(
            seen.get(&tuple(many)).is_some(),
            "completed: not pushed out"
        );
        for number in 0..many {
            seen.complete(tuple(number), at(2));
        }
        assert!(seen.completed.young.len() + seen.completed.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn a_completed_handshake_is_a_begin_until_the_log_knows_better() {
        let mut seen = Seen::default();
        seen.complete(tuple(1), at(10));
        let begin = seen.close(&tuple(1), at(11));
        assert_eq!(
            begin.map(|begin| (begin.at, begin.by_syn)),
            Some((at(10), true))
        );
        // The log comes late: its time and reason count, and the end is not told again.
        seen.insert(tuple(1), logged(at(9)));
        assert_eq!(seen.close(&tuple(1), at(12)), None);
        let known = seen.get(&tuple(1));
        let known = known.map(|begin| (begin.at, begin.reason));
        assert_eq!(known, Some((at(9), Reason::Rule(RuleId(3)))));
        // Another connection on the same ports, known by the log first, then one by its handshake alone.
        seen.insert(tuple(1), logged(at(20)));
        seen.complete(tuple(1), at(21));
        assert_eq!(seen.take(&tuple(1), at(19)), None, "a later one's");
        assert_eq!(
            seen.close(&tuple(1), at(22)),
            Some(Begin {
                is_closed: true,
                completed: Some(at(21)),
                ..logged(at(20))
            })
        );
        seen.complete(tuple(1), at(30));
        assert!(
            seen.close(&tuple(1), at(31))
                .is_some_and(|begin| begin.at == at(30))
        );
        assert!(seen.take(&tuple(1), at(32)).is_some());
        assert_eq!(seen.get(&tuple(1)), None);
    }

    #[test]
    fn what_passed_before_its_syn_hides_no_connection() {
        let stray = Begin {
            by_syn: false,
            ..logged(at(10))
        };
        for is_told_late in [false, true] {
            let mut seen = Seen::default();
            if is_told_late {
                seen.complete(tuple(1), at(21));
                seen.insert(tuple(1), stray);
            } else {
                seen.insert(tuple(1), stray);
                seen.complete(tuple(1), at(21));
            }
            let begin = seen.close(&tuple(1), at(22)).unwrap();
            assert!(begin.by_syn && begin.at == at(21), "{begin:?}");
            assert_eq!(begin.reason, stray.reason);
        }
    }
}
