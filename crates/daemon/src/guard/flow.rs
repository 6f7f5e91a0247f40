//! Flows: those the engine tracks when it observes, those the kernel tracks when it enforces.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use engine::{Event, EventBody, FlowEnd, FlowRecord, Probe, Reason, TrackedEnd, Verdict};
use policy::{Direction, Timestamp};
use wire::{FiveTuple, Packet, Transport};

use super::seen::Begin;
use super::{BanError, Guard, parse_prefix};
use crate::api;
use crate::pump::{Change, Tracked};
use crate::record::{decided, proto};

/// How far the end of a flow may be ahead of its begin: the log is read by another thread, which may have to wait for a processor.
const HEADSTART: Duration = Duration::from_millis(500);
/// How often is looked whether begins have come where more than [`FEW`] ends wait: each look goes through all of them, and packets come in
/// thousands of batches a second. Few are looked at with each batch: what counts comes in the order of its packets then.
const AGAIN: Duration = Duration::from_millis(10);
const FEW: usize = 64;
/// Ends that wait for their begins at most.
const EARLY: usize = 4_096;

impl Guard {
    /// The live flows, those seen last first. `tracked` is the kernel's table, which counts when the kernel enforces.
    ///
    /// # Errors
    ///
    /// When the address is none.
    pub fn flows(
        &self,
        query: &api::FlowQuery,
        tracked: &[Tracked],
    ) -> Result<Vec<api::Flow>, BanError> {
        let wanted = query.address.as_deref().map(parse_prefix).transpose()?;
        let limit = query.limit.map_or(api::FLOWS, |limit| limit as usize);
        let matches = |tuple: &FiveTuple| {
            wanted.is_none_or(|prefix| {
                prefix.contains(&tuple.source) || prefix.contains(&tuple.destination)
            })
        };
        let mut flows: Vec<(FiveTuple, Direction, FlowRecord, bool)> = if self.enforcing {
            let now = self.clock.now();
            tracked
                .iter()
                .filter(|tracked| matches(&tracked.tuple))
                .map(|tracked| {
                    let begin = self.seen.get(&tracked.tuple);
                    (
                        tracked.tuple,
                        self.way(&tracked.tuple),
                        self.record(tracked, begin, now, None),
                        begin.is_some(),
                    )
                })
                .collect()
        } else {
            self.engine
                .flows()
                .filter(|(tuple, _, _)| matches(tuple))
                .map(|(tuple, direction, record)| (tuple, direction, record, true))
                .collect()
        };
        flows.sort_by_key(|(_, _, record, _)| std::cmp::Reverse((record.end, record.start)));
        flows.truncate(limit);
        let (plan, now) = (&self.in_force.plan, self.clock.now());
        Ok(flows
            .into_iter()
            .map(|(tuple, direction, record, begin_known)| api::Flow {
                src_ip: tuple.source.to_string(),
                src_port: tuple.source_port,
                dest_ip: tuple.destination.to_string(),
                dest_port: tuple.destination_port,
                proto: proto::Name(tuple.protocol).to_string(),
                direction: direction.name().to_owned(),
                pkts_toserver: record.packets_to_server,
                pkts_toclient: record.packets_to_client,
                bytes_toserver: record.bytes_to_server,
                bytes_toclient: record.bytes_to_client,
                start: begin_known.then(|| record.start.into()),
                end: record.end.into(),
                state: record.tcp_state.map(str::to_owned),
                name: record.name.as_deref().map(str::to_owned),
                decided: decided(plan, Verdict::Allow, record.reason),
                cut: (self.engine.cut(now, &probe(&tuple, direction)))
                    .map(|reason| decided(plan, Verdict::Drop, reason)),
                mode: self.mode().name().to_owned(),
            })
            .collect())
    }

    /// Flows that the kernel tracked have ended: for the detectors, each once, and for the record.
    pub(super) fn changes(&mut self, changes: Vec<Change>) {
        let now = self.clock.now();
        for change in changes {
            if self.is_early(&change, now) && self.early.len() < EARLY {
                self.early.push((change, now, Instant::now()));
            } else {
                self.change(change, now);
            }
        }
        self.settle(now);
    }

    fn change(&mut self, change: Change, now: Timestamp) {
        match change {
            Change::Completed(tracked) => {
                // What this host begins, and what stays on it, is never a reason to ban.
                let source = tracked.tuple.source;
                if !source.is_loopback() && !self.discovered.own.contains(source) {
                    self.seen.complete(tracked.tuple, now);
                }
            }
            Change::Closed(tracked) => {
                // What was not seen to begin is not known to be short.
                if let Some(begin) = self.seen.close(&tracked.tuple, now) {
                    self.watch_end(&tracked, Some(begin), Some(begin.at), now);
                }
            }
            Change::Ended(tracked) => self.ended(&tracked, now),
        }
    }

    /// Whether this end, told at a time, is of a flow whose begin was not seen yet: the kernel tells of its log and of its connections in
    /// two ways, and one may be ahead of the other.
    fn is_early(&self, change: &Change, told: Timestamp) -> bool {
        let begin = self.seen.get(&change.tracked().tuple);
        !matches!(change, Change::Completed(_)) && begin.is_none_or(|begin| !begin.is_of(told))
    }

    /// Looks again at ends of flows that came before their begins.
    pub(super) fn catch_up(&mut self) {
        if self.early.is_empty() {
            return;
        }
        let looked = Instant::now();
        if self.early.len() > FEW && looked.duration_since(self.caught_up) < AGAIN {
            return;
        }
        self.caught_up = looked;
        for (change, at, came) in std::mem::take(&mut self.early) {
            if self.is_early(&change, at) && looked.duration_since(came) < HEADSTART {
                self.early.push((change, at, came));
            } else {
                self.change(change, at);
            }
        }
        self.settle(self.clock.now());
    }

    /// Feeds the detectors.
    fn watch_end(
        &mut self,
        tracked: &Tracked,
        begin: Option<Begin>,
        began: Option<Timestamp>,
        now: Timestamp,
    ) {
        self.engine.observe_flow_end(&TrackedEnd {
            began,
            icmp: tracked.icmp,
            answered: tracked.answered,
            completed: tracked.completed,
            was_reset: tracked.tcp_state == Some("CLOSE"),
            ..self.failed(tracked.tuple, begin, now)
        });
    }

    /// The end of a flow that nobody answered.
    fn failed(&self, tuple: FiveTuple, begin: Option<Begin>, now: Timestamp) -> TrackedEnd {
        TrackedEnd {
            tuple,
            direction: self.way(&tuple),
            began: begin.map(|begin| begin.at),
            ended: now,
            by_syn: begin.map(|begin| begin.by_syn),
            icmp: None,
            answered: false,
            completed: false,
            was_reset: false,
        }
    }

    /// An ICMP error on its way out refuses what a flow asked for: its source has failed now, not when the kernel forgets the
    /// flow. What was not seen to begin, or is known to be over, waits for that.
    pub(super) fn refused(&mut self, error: &Packet<'_>, now: Timestamp) {
        let Transport::Icmp(icmp) = error.transport() else {
            return;
        };
        let Some(quoted) = icmp.embedded() else {
            return;
        };
        let (source_port, destination_port) = quoted.ports.unzip();
        let tuple = FiveTuple {
            source: quoted.source,
            destination: quoted.destination,
            protocol: quoted.protocol,
            source_port,
            destination_port,
        };
        if let Some(begin) = self.seen.close(&tuple, now) {
            self.engine.observe_flow_end(&TrackedEnd {
                icmp: quoted.icmp,
                ..self.failed(tuple, Some(begin), now)
            });
        }
    }

    fn ended(&mut self, tracked: &Tracked, now: Timestamp) {
        let begin = self.seen.take(&tracked.tuple, now);
        if !begin.is_some_and(|begin| begin.is_closed) {
            // Of a connection that was completed, this is when it was forgotten, not when it ended.
            let began = begin.map(|begin| begin.at).filter(|_| !tracked.completed);
            self.watch_end(tracked, begin, began, now);
        }
        let is_tcp = tracked.tuple.protocol == policy::protocol::TCP;
        let was_served = if is_tcp {
            tracked.completed
        } else {
            tracked.answered
        };
        if !self.engine.may_record_flow(was_served, now) {
            return;
        }
        let closed = matches!(tracked.tcp_state, Some("TIME_WAIT" | "CLOSE" | "LAST_ACK"));
        let end = if closed {
            FlowEnd::Closed
        } else {
            FlowEnd::TimedOut
        };
        self.recorder.event(Event {
            at: now,
            tuple: Some(tracked.tuple),
            direction: Some(self.way(&tracked.tuple)),
            interface: None,
            flow_id: Some(flow_id(&tracked.tuple, begin)),
            body: EventBody::Flow(self.record(tracked, begin, now, Some(end))),
        });
    }

    fn record(
        &self,
        tracked: &Tracked,
        begin: Option<Begin>,
        now: Timestamp,
        ended: Option<FlowEnd>,
    ) -> FlowRecord {
        let start = begin.map_or(now, |begin| begin.at);
        FlowRecord {
            start,
            end: now,
            packets_to_server: tracked.sent.0,
            packets_to_client: tracked.received.0,
            bytes_to_server: tracked.sent.1,
            bytes_to_client: tracked.received.1,
            tcp_state: tracked.tcp_state,
            reason: begin.map_or(Reason::Established, |begin| begin.reason),
            ended,
            name: self.engine.name_of(&tracked.tuple, start),
        }
    }

    /// Which way a flow goes, by whose addresses its ends are.
    fn way(&self, tuple: &FiveTuple) -> Direction {
        let own = &self.discovered.own;
        if own.contains(tuple.destination) || tuple.destination.is_multicast() {
            Direction::In
        } else if own.contains(tuple.source) {
            Direction::Out
        } else {
            Direction::Forward
        }
    }
}

/// Another packet of a flow.
fn probe(tuple: &FiveTuple, direction: Direction) -> Probe {
    Probe {
        direction,
        protocol: tuple.protocol,
        source: tuple.source,
        destination: tuple.destination,
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
        icmp: None,
        interface: None,
        payload: Vec::new(),
    }
}

/// The same number for the same flow; 53 bits, which JSON readers keep exact.
fn flow_id(tuple: &FiveTuple, begin: Option<Begin>) -> u64 {
    let mut hasher = DefaultHasher::new();
    tuple.hash(&mut hasher);
    begin.map(|begin| begin.at).hash(&mut hasher);
    hasher.finish() >> 11
}
