//! What decides about a packet that the kernel holds, and how the kernel is told.

use std::os::fd::BorrowedFd;

use engine::{Arrival, Decision, Engine, Inspect, Known, Setup, Tracked};
use kernel::datapath::mark;
use kernel::interfaces::Names;
use kernel::nfqueue::{QueuedPacket, Verdict};
use policy::{Direction, Timestamp};
use wire::Link;

use crate::clock::Clock;

/// What decides about one packet.
#[derive(Debug)]
pub struct Judge {
    /// The engine, with the flows of one queue.
    pub engine: Engine,
    names: Names,
    clock: Clock,
}

impl Judge {
    /// A judge with an engine of its own.
    pub fn new(setup: Setup) -> Self {
        Self {
            engine: Engine::new(setup),
            names: Names::default(),
            clock: Clock::new(),
        }
    }

    /// The present, by the clock that packets are judged by.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Follows the wall clock when it was set: what is left of every time stays what it was.
    pub fn notice_step(&mut self) {
        if let Some(step) = self.clock.step() {
            self.engine.shift(|at| step.shift(at));
        }
    }

    /// Decides about a packet. By the queue's `socket` interfaces are called by name.
    pub fn judge(&mut self, queued: &QueuedPacket<'_>, socket: BorrowedFd<'_>) -> Decision {
        let latest = self.clock.now();
        let now = (queued.timestamp).map_or(latest, |stamp| self.clock.arrival(stamp));
        // The kernel has checked what it hands up, and has written into options that record the way.
        let frame = wire::parse_trusting_checksums(Link::RawIp, queued.payload, queued.full_len);
        let interface = match queued.direction() {
            Some(Direction::Out) => queued.interface_out,
            _ => queued.interface_in,
        };
        let arrival = Arrival {
            now,
            direction: queued.direction(),
            interface: self.names.name(socket, interface, now),
            wire_len: u32::try_from(queued.full_len).unwrap_or(u32::MAX),
            known: Some(known(queued.mark)),
        };
        self.engine.handle(&arrival, frame)
    }
}

/// What the kernel says of a packet by its mark.
fn known(present: u32) -> Known {
    let has = |bit| present & bit != 0;
    let is_open = has(mark::ESTABLISHED);
    Known {
        flow: match (has(mark::REPLY), is_open) {
            (true, is_open) => Tracked::Reply { is_open },
            (false, true) => Tracked::Established,
            (false, false) => Tracked::New,
        },
        is_first: has(mark::FIRST),
        is_accepted: has(mark::ACCEPTED),
    }
}

/// The decision as the kernel takes it, by the mark that is `present` on the packet. Marks that are not ours stay as they were.
pub fn for_kernel(present: u32, verdict: engine::Verdict, inspect: Inspect) -> Verdict {
    let others = present & !mark::ALL;
    // That it was seen is kept with its flow.
    let passed = others | present & mark::FIRST;
    match (verdict, inspect) {
        (engine::Verdict::Drop, _) => Verdict::Drop,
        (engine::Verdict::Reject, _) => Verdict::Accept {
            mark: Some(others | mark::REJECT),
        },
        (engine::Verdict::Allow, Inspect::Settled) => Verdict::Accept {
            mark: Some(passed | mark::SETTLED),
        },
        // Nothing was ever to be seen of an established flow: no need to ask again.
        (engine::Verdict::Allow, Inspect::None) if present & mark::ESTABLISHED != 0 => {
            Verdict::Accept {
                mark: Some(passed | mark::SETTLED),
            }
        }
        (engine::Verdict::Allow, Inspect::Anew) => Verdict::Accept {
            mark: Some(others | mark::FIRST),
        },
        (engine::Verdict::Allow, Inspect::More | Inspect::None) => {
            Verdict::Accept { mark: Some(passed) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_keep_other_marks_and_clear_ours() {
        let present = 0x4900_ca6c;
        for (verdict, inspect, expected) in [
            (engine::Verdict::Allow, Inspect::More, Some(0xca6c)),
            (engine::Verdict::Allow, Inspect::Anew, Some(0x8000_ca6c)),
            (engine::Verdict::Allow, Inspect::Settled, Some(0x0400_ca6c)),
            (engine::Verdict::Reject, Inspect::None, Some(0x0200_ca6c)),
            (engine::Verdict::Allow, Inspect::None, Some(0x0400_ca6c)),
            (engine::Verdict::Drop, Inspect::None, None),
        ] {
            let expected = match expected {
                None => Verdict::Drop,
                mark => Verdict::Accept { mark },
            };
            assert_eq!(
                for_kernel(present, verdict, inspect),
                expected,
                "{verdict} {inspect:?}"
            );
        }
        let mark = Some(0x8000_ca6c);
        let first = for_kernel(present | mark::FIRST, engine::Verdict::Allow, Inspect::More);
        assert_eq!(first, Verdict::Accept { mark }, "kept with the flow");
    }
}
