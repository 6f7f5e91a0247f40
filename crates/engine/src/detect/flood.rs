//! Packets over a rate: a token bucket for each source, and an offence at most once in a window.
//!
//! The buckets have the arithmetic of the kernel's `limit` expression (see [`crate::bucket`]), so that engine and kernel drop
//! the same packets: `packets` come back in each `window`, and `packets` may come at once.

use std::num::NonZeroU32;
use std::time::Duration;

use policy::{Direction, Measure, Plan, SynFlood, Timestamp, protocol};
use wire::FiveTuple;

use super::Offence;
use crate::ban::{Detector, Evidence};
use crate::bounded::{Bounded, Place};
use crate::bucket::{Bucket, Shape};
use crate::clock;
use crate::evidence::Pattern;
use crate::facts::Facts;
use crate::source::subnet_of;

/// The key of all sources together.
const EVERYBODY: u128 = 0;

/// The detectors that count packets.
#[derive(Debug)]
pub(crate) struct Floods {
    rate: Option<Meter>,
    syn: Option<Meter>,
    syn_of_all: Option<Meter>,
    icmp: Option<Meter>,
    udp: Option<Meter>,
}

/// Whose rate the kernel found a packet over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Its source's, by this detector.
    Source(Detector),
    /// That of all sources' half-open connections together.
    Everybody,
}

impl Over {
    /// The meters for ICMP that answers none of ours, whatever its flow, in the order in which a packet is measured.
    pub(crate) const ICMP: [Self; 2] = [
        Self::Source(Detector::Rate),
        Self::Source(Detector::IcmpFlood),
    ];
    /// The meters for packets that begin a flow, in the order in which a packet is measured: none after the one that drops it.
    pub(crate) const UNANSWERED: [Self; 4] = [
        Self::Source(Detector::Rate),
        Self::Source(Detector::SynFlood),
        Self::Everybody,
        Self::Source(Detector::UdpFlood),
    ];
}

/// What a detector that counts packets is set to.
pub(crate) fn measure(plan: &Plan, detector: Detector) -> Option<Measure<'_>> {
    let detect = &plan.detect;
    match detector {
        Detector::Rate => detect.rate.as_ref().map(Measure::from),
        Detector::SynFlood => detect.syn_flood.as_ref().map(Measure::from),
        Detector::IcmpFlood => detect.icmp_flood.as_ref().map(Measure::from),
        Detector::UdpFlood => detect.udp_flood.as_ref().map(Measure::from),
        Detector::Blocked | Detector::Payload | Detector::Scan | Detector::Brute => None,
    }
}

impl Floods {
    pub(super) fn new(plan: &Plan, seed: u64) -> Self {
        let ceiling = plan.limits.sources;
        let meter = |detector| {
            let set = measure(plan, detector)?;
            Some(Meter::new(set.packets, set.window, ceiling, seed))
        };
        let of_all = |set: &SynFlood| Meter::new(set.of_all().packets, set.window, 1, seed);
        Self {
            rate: meter(Detector::Rate),
            syn: meter(Detector::SynFlood),
            syn_of_all: plan.detect.syn_flood.as_ref().map(of_all),
            icmp: meter(Detector::IcmpFlood),
            udp: meter(Detector::UdpFlood),
        }
    }

    /// Counts a packet of a flow that was answered; `reply` says whether it answers. ICMP that does not was counted by
    /// [`Floods::icmp`]. `near` is where what this side of the flow sends was counted last.
    #[inline]
    pub(crate) fn established(
        &mut self,
        plan: &Plan,
        facts: &Facts<'_>,
        reply: bool,
        near: &mut Place,
        now: Timestamp,
    ) -> Option<Offence> {
        let counts = plan.detect.rate.as_ref()?.established;
        let is_counted = facts.icmp.is_some() && !reply;
        if !counts || is_counted || !is_metered(facts) {
            return None;
        }
        take_near(near, &mut self.rate, plan, Detector::Rate, facts, now)
    }

    /// Counts an ICMP packet that answers none of ours, whether it belongs to a flow or not, by one of [`Over::ICMP`]. Neighbour
    /// discovery is not counted: without it there is no network, and all neighbours share one `/64`.
    pub(crate) fn icmp(
        &mut self,
        meter: Over,
        plan: &Plan,
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> Option<Offence> {
        let (kind, _) = facts.icmp?;
        let is_discovery = facts.protocol == protocol::ICMPV6 && matches!(kind, 130..=137 | 143);
        if is_discovery || !is_metered(facts) {
            return None;
        }
        match meter {
            Over::Source(Detector::Rate) => take(&mut self.rate, plan, Detector::Rate, facts, now),
            Over::Source(Detector::IcmpFlood) => {
                take(&mut self.icmp, plan, Detector::IcmpFlood, facts, now)
            }
            Over::Source(_) | Over::Everybody => None,
        }
    }

    /// Counts a packet that begins a flow, or belongs to one that nobody has answered, by one of [`Over::UNANSWERED`]. The next
    /// is to be asked unless this one's offence drops the packet.
    pub(crate) fn unanswered(
        &mut self,
        meter: Over,
        plan: &Plan,
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> Option<Offence> {
        if !is_metered(facts) {
            return None;
        }
        match meter {
            // ICMP was counted before its flow was looked at.
            Over::Source(Detector::Rate) if facts.icmp.is_none() => {
                take(&mut self.rate, plan, Detector::Rate, facts, now)
            }
            Over::Source(Detector::SynFlood) if facts.begins() => {
                take(&mut self.syn, plan, Detector::SynFlood, facts, now)
            }
            Over::Everybody if facts.begins() => self.half_open_of_all(plan, facts, now),
            Over::Source(Detector::UdpFlood) if facts.protocol == protocol::UDP => {
                take(&mut self.udp, plan, Detector::UdpFlood, facts, now)
            }
            Over::Source(_) | Over::Everybody => None,
        }
    }

    /// Everybody's half-open connections together. Nobody is banned for them.
    fn half_open_of_all(
        &mut self,
        plan: &Plan,
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> Option<Offence> {
        let set = plan.detect.syn_flood.as_ref()?.of_all();
        if set.ignore.contains_key(facts.source) {
            return None;
        }
        let taken =
            self.syn_of_all
                .as_mut()?
                .take(&mut Place::default(), EVERYBODY, || facts.tuple(), now);
        let Taken::Over(evidence) = taken else {
            return None;
        };
        Some(of_everybody(set, evidence))
    }

    /// A connection was completed: its SYN is not half-open any more.
    pub(crate) fn completed(&mut self, source: u128, now: Timestamp) {
        for (meter, key) in [
            (&mut self.syn, subnet_of(source)),
            (&mut self.syn_of_all, EVERYBODY),
        ] {
            if let Some(meter) = meter {
                meter.give_back(key, now);
            }
        }
    }

    /// A ban of this source ended: that it is over a rate is told again.
    pub(super) fn begin_anew(&mut self, source: u128) {
        let meters = [&mut self.rate, &mut self.syn, &mut self.icmp, &mut self.udp];
        for meter in meters.into_iter().flatten() {
            if let Some(gauge) = meter.by_source.get_mut(source) {
                gauge.over = None;
            }
        }
    }

    /// The kernel's own meter found a packet over a rate.
    pub(crate) fn over_in_kernel(
        &mut self,
        plan: &Plan,
        over: Over,
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> Option<Offence> {
        let detector = match over {
            Over::Source(detector) => detector,
            Over::Everybody => {
                let set = plan.detect.syn_flood.as_ref()?.of_all();
                let meter = self.syn_of_all.as_mut()?;
                let evidence = meter.tell(EVERYBODY, facts.tuple(), now);
                return Some(of_everybody(set, evidence));
            }
        };
        let Measure { response, ban, .. } = measure(plan, detector)?;
        let meter = match detector {
            Detector::Rate => &mut self.rate,
            Detector::SynFlood => &mut self.syn,
            Detector::IcmpFlood => &mut self.icmp,
            Detector::UdpFlood => &mut self.udp,
            Detector::Blocked | Detector::Payload | Detector::Scan | Detector::Brute => {
                return None;
            }
        };
        let evidence = meter
            .as_mut()?
            .tell(subnet_of(facts.source), facts.tuple(), now);
        Some(Offence {
            detector,
            response,
            ban,
            evidence,
        })
    }
}

/// All sources together are over a rate, which is told: see [`SynFlood::of_all`].
fn of_everybody(set: Measure<'_>, evidence: Option<Evidence>) -> Offence {
    let evidence = evidence.map(|evidence| Evidence {
        pattern: Pattern::WholeHost,
        ..evidence
    });
    Offence {
        detector: Detector::SynFlood,
        response: set.response,
        ban: set.ban,
        evidence,
    }
}

/// What this host sends, and sends itself, is no flood against it.
fn is_metered(facts: &Facts<'_>) -> bool {
    facts.direction != Direction::Out && !facts.is_loopback()
}

fn take(
    meter: &mut Option<Meter>,
    plan: &Plan,
    detector: Detector,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Option<Offence> {
    take_near(&mut Place::default(), meter, plan, detector, facts, now)
}

fn take_near(
    near: &mut Place,
    meter: &mut Option<Meter>,
    plan: &Plan,
    detector: Detector,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Option<Offence> {
    let meter = meter.as_mut()?;
    let Measure {
        response,
        ban,
        ignore,
        ..
    } = measure(plan, detector)?;
    if ignore.contains_key(facts.source) {
        return None;
    }
    match meter.take(near, subnet_of(facts.source), || facts.tuple(), now) {
        Taken::Within => None,
        Taken::Over(evidence) => Some(Offence {
            detector,
            response,
            ban,
            evidence,
        }),
    }
}

/// A bucket for each source.
#[derive(Debug)]
struct Meter {
    shape: Shape,
    packets: u64,
    window: Duration,
    by_source: Bounded<Gauge>,
}

#[derive(Debug)]
struct Gauge {
    bucket: Bucket,
    /// Since it is over: boxed, as most never are.
    over: Option<Box<Excess>>,
}

#[derive(Debug)]
struct Excess {
    packets: u64,
    first: Timestamp,
    first_packet: FiveTuple,
    told: Option<Timestamp>,
}

/// What a packet does to its source's rate.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Taken {
    /// It is within.
    Within,
    /// It is over; with the evidence when that was not told within this window.
    Over(Option<Evidence>),
}

impl Meter {
    fn new(packets: u32, window: Duration, ceiling: u32, seed: u64) -> Self {
        let amount = NonZeroU32::new(packets).unwrap_or(NonZeroU32::MIN);
        Self {
            shape: Shape::new(amount, window, amount),
            packets: u64::from(amount.get()),
            window,
            by_source: Bounded::new(ceiling, seed),
        }
    }

    fn gauge(&mut self, near: &mut Place, source: u128, now: Timestamp) -> &mut Gauge {
        let shape = self.shape;
        let full = || Gauge {
            bucket: Bucket::full(&shape, now),
            over: None,
        };
        self.by_source.entry_near(near, source, full, |gauge| {
            gauge.bucket.missing(&shape, now)
        })
    }

    /// Counts a packet of a source, which was last found `near`.
    fn take(
        &mut self,
        near: &mut Place,
        source: u128,
        tuple: impl FnOnce() -> FiveTuple,
        now: Timestamp,
    ) -> Taken {
        let shape = self.shape;
        if self.gauge(near, source, now).bucket.take(&shape, 0, now) {
            return Taken::Within;
        }
        Taken::Over(self.tell(source, tuple(), now))
    }

    /// One that was taken turns out to be none.
    fn give_back(&mut self, source: u128, now: Timestamp) {
        let shape = self.shape;
        if let Some(gauge) = self.by_source.get_mut(source) {
            gauge.bucket.give_back(&shape, now);
        }
    }

    /// The evidence against a source that is over its rate, unless it was told within this window.
    fn tell(&mut self, source: u128, tuple: FiveTuple, now: Timestamp) -> Option<Evidence> {
        let (window, packets) = (self.window, self.packets);
        let fresh = || {
            Box::new(Excess {
                packets: 0,
                first: now,
                first_packet: tuple,
                told: None,
            })
        };
        let over = self
            .gauge(&mut Place::default(), source, now)
            .over
            .get_or_insert_with(fresh);
        over.packets += 1;
        over.first = over.first.min(now);
        if over
            .told
            .is_some_and(|told| clock::is_within(told, now, window))
        {
            return None;
        }
        let evidence = Evidence {
            count: packets + over.packets,
            threshold: packets,
            window,
            first: over.first,
            last: now,
            first_packet: over.first_packet,
            last_packet: tuple,
            proven: false,
            pattern: Pattern::Plain,
        };
        **over = Excess {
            packets: 0,
            first: now,
            first_packet: tuple,
            told: Some(now),
        };
        Some(evidence)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "constants")]
    use super::*;

    fn tuple() -> FiveTuple {
        FiveTuple {
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.2".parse().unwrap(),
            protocol: 17,
            source_port: Some(1),
            destination_port: Some(2),
        }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(1_000_000_000 + millis * 1_000)
    }

    #[test]
    fn a_burst_passes_and_the_rest_is_told_once_a_window() {
        let mut meter = Meter::new(100, Duration::from_secs(1), 8, 1);
        let mut take = |millis| meter.take(&mut Place::default(), 1, tuple, at(millis));
        assert!((0..100).all(|_| take(0) == Taken::Within));
        let Taken::Over(Some(evidence)) = take(0) else {
            panic!("the 101st at once is over the rate");
        };
        assert_eq!((evidence.count, evidence.threshold), (101, 100));
        assert!((0..50).all(|_| take(1) == Taken::Over(None)));
        assert_eq!(take(10), Taken::Within, "a hundredth of a second later");
        assert!(matches!(take(1_000), Taken::Within));
        let later: Vec<Taken> = (0..150).map(|_| take(1_001)).collect();
        let told = later
            .iter()
            .filter(|taken| matches!(taken, Taken::Over(Some(_))))
            .count();
        assert_eq!(told, 1);
    }

    #[test]
    fn what_is_given_back_never_counted() {
        let mut meter = Meter::new(10, Duration::from_secs(1), 8, 1);
        for _ in 0..1_000 {
            assert_eq!(
                meter.take(&mut Place::default(), 1, tuple, at(0)),
                Taken::Within
            );
            meter.give_back(1, at(0));
        }
    }
}
