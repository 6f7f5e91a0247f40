//! An event as the store indexes it.

use std::net::IpAddr;

use ipnet::IpNet;
use policy::address::{address_key, prefix_range};
use policy::{Plan, Timestamp};

use engine::{Alert, Event, EventBody, Reason, Verdict};

use crate::api::Decided;
use crate::record::{Notice, decided};

/// An event with what it is looked up by.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its number: ascending, never used twice.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// Its `event_type`.
    pub kind: &'static str,
    /// Source address, or the prefix of a ban.
    pub source: Option<Range>,
    /// Destination address.
    pub destination: Option<Range>,
    /// Upper-layer protocol.
    pub protocol: Option<u8>,
    /// Destination port.
    pub port: Option<u16>,
    /// The verdict it tells of.
    pub decided: Option<Decided>,
    /// The EVE object.
    pub json: String,
}

/// Addresses as keys in the one space of both families, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub first: u128,
    /// The last.
    pub last: u128,
}

impl From<IpNet> for Range {
    fn from(prefix: IpNet) -> Self {
        let (first, last) = prefix_range(prefix);
        Self { first, last }
    }
}

impl From<IpAddr> for Range {
    fn from(address: IpAddr) -> Self {
        let key = address_key(address);
        Self {
            first: key,
            last: key,
        }
    }
}

impl Entry {
    /// From an event under `plan`, with its EVE object.
    pub fn of_event(id: u64, event: &Event, plan: &Plan, kind: &'static str, json: String) -> Self {
        let (verdict, reason) = match &event.body {
            EventBody::Drop {
                verdict, reason, ..
            } => (*verdict, Some(*reason)),
            EventBody::Logged { rule, .. } => (Verdict::Allow, Some(Reason::Rule(*rule))),
            EventBody::Alert(Alert::Content { rule, verdict, .. }) => {
                (*verdict, Some(Reason::Rule(*rule)))
            }
            EventBody::Flow(flow) => (Verdict::Allow, Some(flow.reason)),
            EventBody::Alert(Alert::Detector { .. })
            // A blocked one is told as a drop as well, which is what counts.
            | EventBody::Dns(_)
            | EventBody::Anomaly { .. }
            | EventBody::Ban(_)
            | EventBody::Unban { .. }
            | EventBody::BanRefused { .. } => (Verdict::Allow, None),
        };
        let banned = match &event.body {
            EventBody::Ban(ban) | EventBody::Unban { ban, .. } => Some(ban.prefix),
            EventBody::BanRefused { refused, .. } => refused.prefix(),
            _ => None,
        };
        let tuple = event.tuple.as_ref();
        Self {
            id,
            at: event.at,
            kind,
            source: banned
                .map(Range::from)
                .or_else(|| tuple.map(|tuple| tuple.source.into())),
            destination: tuple.map(|tuple| tuple.destination.into()),
            protocol: tuple.map(|tuple| tuple.protocol),
            port: tuple.and_then(|tuple| tuple.destination_port),
            decided: reason.map(|reason| decided(plan, verdict, reason)),
            json,
        }
    }

    /// From a notice, with its EVE object.
    pub fn of_notice(id: u64, notice: &Notice, json: String) -> Self {
        Self {
            id,
            at: notice.at,
            kind: notice.kind.name(),
            source: None,
            destination: None,
            protocol: None,
            port: None,
            decided: None,
            json,
        }
    }
}
