//! The detectors that count packets – `rate` and the floods – as meters of the kernel: a token bucket for each source, and what
//! happens to packets over it.
//!
//! The kernel counts what the engine counts, but for one thing: it cannot give a SYN's token back when its handshake is
//! completed, so that it counts SYNs where the engine counts half-open connections. A source for which a full set has no room
//! is not measured: what stands behind decides. Sources are addresses for IPv4 and `/64` for IPv6; those to be ignored are not
//! counted, protected ones are counted and not dropped.

use std::num::NonZeroU32;
use std::rc::Rc;

use policy::{Direction, Measure, Plan, Response, SynFlood};

use super::list::{Family, Side};
use super::own_ban;
use super::rate::meter;
use super::rule::meter_set;
use super::writer::Writer;
use crate::tag::{Cause, Outcome};

/// A segment that begins a connection.
const IS_SYN: &str = "tcp flags & (syn|ack) == syn";
/// The limit of everybody's SYNs together.
const LIMIT_OF_ALL: &str = "limit_syn_flood";
/// What the names of sets begin with that are filled by packets.
pub(super) const METERS: [&str; 5] = [
    "rate_v",
    "syn_flood_v",
    "udp_flood_v",
    "icmp_flood_v",
    "questions_v",
];

/// A detector that counts packets.
#[derive(Clone, Copy)]
struct Detector<'a> {
    /// As sets and chains are named for it.
    name: &'static str,
    cause: Cause,
    measure: Measure<'a>,
}

impl<'a> Detector<'a> {
    fn of(name: &'static str, cause: Cause, set: Option<impl Into<Measure<'a>>>) -> Option<Self> {
        Some(Self {
            name,
            cause,
            measure: set?.into(),
        })
    }

    fn rate(plan: &'a Plan) -> Option<Self> {
        Self::of("rate", Cause::Rate, plan.detect.rate.as_ref())
    }

    fn syn(plan: &'a Plan) -> Option<Self> {
        Self::of("syn_flood", Cause::SynFlood, plan.detect.syn_flood.as_ref())
    }

    fn syn_of_all(plan: &'a Plan) -> Option<Self> {
        let set = plan.detect.syn_flood.as_ref().map(SynFlood::of_all);
        Self::of("syn_flood", Cause::SynFloodOfAll, set)
    }

    fn icmp(plan: &'a Plan) -> Option<Self> {
        Self::of(
            "icmp_flood",
            Cause::IcmpFlood,
            plan.detect.icmp_flood.as_ref(),
        )
    }

    fn udp(plan: &'a Plan) -> Option<Self> {
        Self::of("udp_flood", Cause::UdpFlood, plan.detect.udp_flood.as_ref())
    }

    fn bucket(&self) -> super::rate::Meter {
        let packets = NonZeroU32::new(self.measure.packets).unwrap_or(NonZeroU32::MIN);
        meter(packets, self.measure.window, packets)
    }

    /// The set of its buckets.
    fn define_set(&self, writer: &mut Writer<'_>) {
        for family in Family::BOTH {
            let name = format!("{}_{}", self.name, family.suffix());
            let set = meter_set(
                &name,
                family.key_type(),
                writer.plan.limits.sources,
                self.bucket().memory,
            );
            writer.table.set(set);
        }
    }

    /// The chain for packets over it.
    fn define_over(&self, writer: &mut Writer<'_>) {
        let rules = match self.measure.response {
            Response::Alert => return,
            Response::Limit => writer.refusal(Outcome::Drop, self.cause),
            Response::Ban => own_ban::rules(writer, self.measure.ban, self.cause),
        };
        writer.table.chain(format!("over_{}", self.name), rules);
    }

    /// A rule for each family: packets for which `condition` holds and of which `over` is true.
    fn tests(
        &self,
        writer: &mut Writer<'_>,
        condition: impl Fn(Family) -> String,
        over: impl Fn(Family) -> String,
    ) -> Vec<String> {
        let ignored = writer.lists.share(self.measure.ignore);
        let name = self.name;
        writer.lists.name(
            &ignored,
            format!("{name}_ignore"),
            Some(format!("sources that the {name} detector does not count")),
        );
        let protected = Rc::clone(&writer.protected);
        let alerts = self.measure.response == Response::Alert;
        let mut rules = Vec::new();
        for family in Family::BOTH {
            let mut outside = |list| {
                let lists = &mut writer.lists;
                lists.exclusions(list, Side::Source, family, &mut writer.table)
            };
            let counted = outside(&ignored);
            let dropped = if alerts {
                Some(Vec::new())
            } else {
                outside(&protected)
            };
            // Where nobody is counted, or nobody would be dropped, there is nothing to measure.
            let (Some(counted), Some(dropped)) = (counted, dropped) else {
                continue;
            };
            let mut parts = vec!["iif != \"lo\"".to_owned(), condition(family)];
            parts.extend(counted);
            parts.push(over(family));
            if alerts {
                parts.push(writer.table.counter(&self.cause.counter()));
                parts.push(writer.log_refused(Outcome::Alert, self.cause));
            } else {
                parts.extend(dropped);
                parts.push(format!("goto over_{}", self.name));
            }
            parts.retain(|part| !part.is_empty());
            rules.push(parts.join(" "));
        }
        rules
    }

    /// [`Detector::tests`] by source.
    fn tests_by_source(
        &self,
        writer: &mut Writer<'_>,
        condition: impl Fn(Family) -> String,
    ) -> Vec<String> {
        let terms = self.bucket().terms;
        self.tests(writer, condition, |family| {
            format!(
                "update @{}_{} {{ {} limit rate over {terms} }}",
                self.name,
                family.suffix(),
                family.counted_source(),
            )
        })
    }
}

/// Writes the sets, and the chains for what is over.
pub(super) fn write(writer: &mut Writer<'_>) {
    let plan = writer.plan;
    let by_source = [
        Detector::rate(plan),
        Detector::syn(plan),
        Detector::udp(plan),
        Detector::icmp(plan),
    ];
    for detector in by_source.into_iter().flatten() {
        detector.define_set(writer);
        detector.define_over(writer);
    }
    if let Some(detector) = Detector::syn_of_all(plan) {
        let limit = format!("over {}", detector.bucket().terms);
        writer.table.limit(LIMIT_OF_ALL, &limit);
    }
    // What is over the smaller measure is dropped by it, and a flood has to reach the one that bans.
    let of_icmp = [Detector::rate(plan), Detector::icmp(plan)];
    if of_icmp.iter().any(Option::is_some) {
        let mut rules = vec![
            // What this host asked for is no flood, nor is that without which there is no network.
            "ct direction reply return".to_owned(),
            "icmpv6 type { 130-137, 143 } return".to_owned(),
        ];
        for detector in of_icmp.into_iter().flatten() {
            rules.extend(detector.tests_by_source(writer, |family| is_icmp(family, "")));
        }
        writer.table.chain("icmp_meter", rules);
    }
}

/// The condition that holds for the ICMP of a family, or with the operator `!= ` for all else.
fn is_icmp(family: Family, operator: &str) -> String {
    let protocol = match family {
        Family::V4 => "icmp",
        Family::V6 => "ipv6-icmp",
    };
    format!("meta l4proto {operator}{protocol}")
}

/// The rule for every ICMP packet, whatever its flow.
pub(super) fn of_icmp(writer: &Writer<'_>, direction: Direction) -> Option<String> {
    let detect = &writer.plan.detect;
    (direction != Direction::Out && (detect.icmp_flood.is_some() || detect.rate.is_some()))
        .then(|| "meta l4proto { icmp, ipv6-icmp } jump icmp_meter".to_owned())
}

/// The rules for packets of established flows.
pub(super) fn of_established(writer: &mut Writer<'_>, direction: Direction) -> Vec<String> {
    let plan = writer.plan;
    match Detector::rate(plan) {
        Some(detector)
            if direction != Direction::Out
                && (plan.detect.rate.as_ref()).is_some_and(|rate| rate.established) =>
        {
            // ICMP that answers nothing went through its own meter.
            let mut rules = detector.tests_by_source(writer, |family| is_icmp(family, "!= "));
            rules.extend(detector.tests_by_source(writer, |family| {
                format!("{} ct direction reply", is_icmp(family, ""))
            }));
            rules
        }
        _ => Vec::new(),
    }
}

/// The rules for packets that begin a flow, or belong to one that nobody has answered.
pub(super) fn of_unanswered(writer: &mut Writer<'_>, direction: Direction) -> Vec<String> {
    if direction == Direction::Out {
        return Vec::new();
    }
    let plan = writer.plan;
    let mut rules = Vec::new();
    if let Some(detector) = Detector::rate(plan) {
        rules.extend(detector.tests_by_source(writer, |family| is_icmp(family, "!= ")));
    }
    if let Some(detector) = Detector::syn(plan) {
        rules.extend(detector.tests_by_source(writer, |_| IS_SYN.to_owned()));
    }
    if let Some(detector) = Detector::syn_of_all(plan) {
        rules.extend(detector.tests(
            writer,
            |family| format!("meta nfproto {} {IS_SYN}", family.nfproto()),
            |_| format!("limit name \"{LIMIT_OF_ALL}\""),
        ));
    }
    if let Some(detector) = Detector::udp(plan) {
        rules.extend(detector.tests_by_source(writer, |_| "meta l4proto udp".to_owned()));
    }
    rules
}
