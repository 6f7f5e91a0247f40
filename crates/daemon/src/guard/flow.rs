//! Flows: those the engine tracks when it observes, those the kernel tracks when it enforces.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use engine::{Event, EventBody, FlowEnd, FlowRecord, Reason, TrackedEnd, Verdict};
use policy::{Direction, Timestamp};
use wire::FiveTuple;

use super::seen::Begin;
use super::{BanError, Guard, parse_prefix};
use crate::api;
use crate::clock;
use crate::pump::{Change, Tracked};
use crate::record::{decided, proto};

/// Flows that an answer holds when nobody says.
const FLOWS: usize = 1_000;

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
        let limit = query.limit.map_or(FLOWS, |limit| limit as usize);
        let matches = |tuple: &FiveTuple| {
            wanted.is_none_or(|prefix| {
                prefix.contains(&tuple.source) || prefix.contains(&tuple.destination)
            })
        };
        let mut flows: Vec<(FiveTuple, Direction, FlowRecord, bool)> = if self.enforcing {
            let now = clock::now();
            tracked
                .iter()
                .filter(|tracked| matches(&tracked.tuple))
                .map(|tracked| {
                    let begin = self.seen.get(&tracked.tuple);
                    (
                        tracked.tuple,
                        self.way(&tracked.tuple),
                        record(tracked, begin, now, None),
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
        let plan = &self.in_force.plan;
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
                decided: decided(plan, Verdict::Allow, record.reason),
            })
            .collect())
    }

    /// Flows that the kernel tracked have ended: for the detectors, each once, and for the record.
    pub(super) fn changes(&mut self, changes: Vec<Change>) {
        let now = clock::now();
        for change in changes {
            match change {
                Change::Closed(tracked) => {
                    // What was not seen to begin is not known to be short.
                    if let Some(begin) = self.seen.close(&tracked.tuple) {
                        self.watch_end(&tracked, Some(begin.at), now);
                    }
                }
                Change::Ended(tracked) => self.ended(&tracked, now),
            }
        }
        self.settle(now);
    }

    /// Feeds the detectors.
    fn watch_end(&mut self, tracked: &Tracked, began: Option<Timestamp>, now: Timestamp) {
        let direction = self.way(&tracked.tuple);
        self.engine.observe_flow_end(&TrackedEnd {
            tuple: tracked.tuple,
            direction,
            began,
            ended: now,
            icmp: tracked.icmp,
            answered: tracked.answered,
            completed: tracked.completed,
            was_reset: tracked.tcp_state == Some("CLOSE"),
        });
    }

    fn ended(&mut self, tracked: &Tracked, now: Timestamp) {
        let begin = self.seen.take(&tracked.tuple);
        if !begin.is_some_and(|begin| begin.is_closed) {
            // Of a connection that was completed, this is when it was forgotten, not when it ended.
            let began = begin.map(|begin| begin.at).filter(|_| !tracked.completed);
            self.watch_end(tracked, began, now);
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
            body: EventBody::Flow(record(tracked, begin, now, Some(end))),
        });
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

fn record(
    tracked: &Tracked,
    begin: Option<Begin>,
    now: Timestamp,
    ended: Option<FlowEnd>,
) -> FlowRecord {
    FlowRecord {
        start: begin.map_or(now, |begin| begin.at),
        end: now,
        packets_to_server: tracked.sent.0,
        packets_to_client: tracked.received.0,
        bytes_to_server: tracked.sent.1,
        bytes_to_client: tracked.received.1,
        tcp_state: tracked.tcp_state,
        reason: begin.map_or(Reason::Established, |begin| begin.reason),
        ended,
    }
}

/// The same number for the same flow; 53 bits, which JSON readers keep exact.
fn flow_id(tuple: &FiveTuple, begin: Option<Begin>) -> u64 {
    let mut hasher = DefaultHasher::new();
    tuple.hash(&mut hasher);
    begin.map(|begin| begin.at).hash(&mut hasher);
    hasher.finish() >> 11
}
