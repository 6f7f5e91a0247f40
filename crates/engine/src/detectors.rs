//! The detectors of a plan, what feeds each of them, and what each of them asks for.

use std::time::Duration;

use policy::{Direction, Plan, Response, Timestamp, key_address};

use crate::ban::{Detector, Evidence};
use crate::ban_table::source_prefix;
use crate::bucket::{Buckets, Shape};
use crate::detect::Threshold;
use crate::facts::Facts;
use crate::verdict::{Reason, Stage};

/// Detectors with their state.
#[derive(Debug)]
pub(crate) struct Detectors {
    blocked: Option<Threshold>,
    payload: Option<Threshold>,
    rate: Option<Buckets>,
    /// Over-rate packets by source since it last went over, for the evidence.
    rate_evidence: Option<Threshold>,
}

/// An offence: what a detector found, and what the policy wants done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Offence {
    pub(crate) detector: Detector,
    pub(crate) response: Response,
    pub(crate) ban: Duration,
    pub(crate) evidence: Evidence,
}

/// The source as detectors count it: the address for IPv4, the `/64` for IPv6.
pub(crate) fn counted(source: u128) -> u128 {
    policy::address::prefix_range(source_prefix(key_address(source))).0
}

impl Detectors {
    pub(crate) fn new(plan: &Plan, seed: u64) -> Self {
        let ceiling = plan.limits.sources;
        let detect = &plan.detect;
        Self {
            blocked: detect
                .blocked
                .as_ref()
                .map(|blocked| Threshold::new(blocked.packets, blocked.window, ceiling, seed)),
            payload: detect
                .payload
                .as_ref()
                .map(|payload| Threshold::new(payload.hits, payload.window, ceiling, seed)),
            rate: detect.rate.as_ref().and_then(|rate| {
                let packets = std::num::NonZeroU32::new(rate.packets)?;
                Some(Buckets::new(
                    Shape::new(packets, rate.window, packets, false),
                    ceiling,
                    seed,
                ))
            }),
            rate_evidence: detect
                .rate
                .as_ref()
                .map(|rate| Threshold::new(1, rate.window, ceiling, seed)),
        }
    }

    /// Counts a denied packet.
    pub(crate) fn denied(
        &mut self,
        plan: &Plan,
        facts: &Facts<'_>,
        reason: Reason,
        now: Timestamp,
    ) -> Option<Offence> {
        let settings = plan.detect.blocked.as_ref()?;
        let counts = match reason.stage() {
            // Over its rate is who is let in: a busy client is no offender, and forged packets would make it one.
            Stage::Rule => !matches!(reason, Reason::Limited(_)),
            Stage::Default => true,
            Stage::Malformed => matches!(
                reason,
                Reason::Impossible(crate::verdict::Impossible::TcpFlags)
            ),
            Stage::Link
            | Stage::Ban
            | Stage::Feed
            | Stage::Flow
            | Stage::Detector
            | Stage::Essential => false,
        };
        if !counts || settings.ignore.contains_key(facts.source) {
            return None;
        }
        let evidence = self
            .blocked
            .as_mut()?
            .count(counted(facts.source), facts.tuple(), now)?;
        Some(Offence {
            detector: Detector::Blocked,
            response: settings.response,
            ban: settings.ban,
            evidence,
        })
    }

    /// Counts a content-rule hit.
    pub(crate) fn content_hit(
        &mut self,
        plan: &Plan,
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> Option<Offence> {
        let settings = plan.detect.payload.as_ref()?;
        if facts.direction == Direction::Out || settings.ignore.contains_key(facts.source) {
            return None;
        }
        let evidence = self
            .payload
            .as_mut()?
            .count(counted(facts.source), facts.tuple(), now)?;
        // Hits are counted of TCP with a handshake alone, and of protocols that know none.
        let proven = [evidence.first_packet, evidence.last_packet]
            .iter()
            .all(|packet| packet.protocol == policy::protocol::TCP);
        let evidence = Evidence { proven, ..evidence };
        Some(Offence {
            detector: Detector::Payload,
            response: settings.response,
            ban: settings.ban,
            evidence,
        })
    }

    /// Counts a packet against its source's rate; an offence for each packet over it.
    pub(crate) fn packet(
        &mut self,
        plan: &Plan,
        facts: &Facts<'_>,
        established: bool,
        now: Timestamp,
    ) -> Option<Offence> {
        let settings = plan.detect.rate.as_ref()?;
        if facts.direction == Direction::Out
            || facts.is_loopback()
            || established && !settings.established
            || settings.ignore.contains_key(facts.source)
        {
            return None;
        }
        let source = counted(facts.source);
        if self.rate.as_mut()?.take(source, facts.len, now) {
            return None;
        }
        let evidence = self
            .rate_evidence
            .as_mut()?
            .count(source, facts.tuple(), now)?;
        let evidence = Evidence {
            count: u64::from(settings.packets) + 1,
            threshold: u64::from(settings.packets),
            ..evidence
        };
        Some(Offence {
            detector: Detector::Rate,
            response: settings.response,
            ban: settings.ban,
            evidence,
        })
    }
}
