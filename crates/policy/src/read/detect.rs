//! `[detect.*]`: the detectors that are executed, and those that are kept for later.

use std::time::Duration;

use crate::address::AddressSet;
use crate::fields::Fields;
use crate::report::Report;
use crate::settings::{Blocked, Detect, PayloadHits, RateLimit, Response};

use super::rule::BAN;
use super::{Sets, addresses, later};

pub(super) const RESPONSES: &[(&str, Response)] = &[
    ("alert", Response::Alert),
    ("limit", Response::Limit),
    ("ban", Response::Ban),
];

/// Shortest and longest window that packets are counted in.
const WINDOW: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(86_400);

/// The detectors of a policy that says nothing about them.
pub(super) fn defaults() -> Detect {
    Detect {
        blocked: Some(Blocked::default()),
        rate: Some(RateLimit::default()),
        payload: Some(PayloadHits::default()),
    }
}

pub(super) fn read(mut fields: Fields<'_>, sets: &Sets, report: &mut Report) -> Detect {
    let mut detect = defaults();
    if let Some(node) = fields.get("blocked")
        && let Some(fields) = Fields::of(node, "[detect.blocked]", report)
    {
        detect.blocked = blocked(fields, sets, report);
    }
    if let Some(node) = fields.get("rate")
        && let Some(fields) = Fields::of(node, "[detect.rate]", report)
    {
        detect.rate = rate(fields, sets, report);
    }
    if let Some(node) = fields.get("payload")
        && let Some(fields) = Fields::of(node, "[detect.payload]", report)
    {
        detect.payload = payload(fields, sets, report);
    }
    for section in later::DETECTORS {
        if let Some(node) = fields.get(section.key) {
            let span = fields.key_span(section.key);
            later::check(section, span, node, sets, report);
        }
    }
    fields.finish(report);
    detect
}

/// What every detector has.
struct Common {
    is_enabled: bool,
    window: Option<Duration>,
    response: Option<Response>,
    ban: Option<Duration>,
    ignore: AddressSet,
}

fn common(fields: &mut Fields<'_>, sets: &Sets, report: &mut Report) -> Common {
    Common {
        is_enabled: fields.flag("enabled", report).unwrap_or(true),
        window: fields.duration("window", WINDOW, report),
        response: fields.word("response", RESPONSES, report),
        ban: fields.duration("ban", BAN, report),
        ignore: match fields.get("ignore") {
            Some(node) => addresses::union(node, "ignore", sets, report),
            None => AddressSet::default(),
        },
    }
}

fn blocked(mut fields: Fields<'_>, sets: &Sets, report: &mut Report) -> Option<Blocked> {
    let common = common(&mut fields, sets, report);
    let default = Blocked::default();
    let packets = fields.count("packets", 1..=1_000_000_000, report);
    fields.finish(report);
    common.is_enabled.then(|| Blocked {
        packets: packets.unwrap_or(default.packets),
        window: common.window.unwrap_or(default.window),
        response: common.response.unwrap_or(default.response),
        ban: common.ban.unwrap_or(default.ban),
        ignore: common.ignore,
    })
}

fn rate(mut fields: Fields<'_>, sets: &Sets, report: &mut Report) -> Option<RateLimit> {
    let common = common(&mut fields, sets, report);
    let default = RateLimit::default();
    let packets = fields.count("packets", 1..=1_000_000_000, report);
    let established = fields.flag("established", report);
    fields.finish(report);
    common.is_enabled.then(|| RateLimit {
        packets: packets.unwrap_or(default.packets),
        window: common.window.unwrap_or(default.window),
        established: established.unwrap_or(default.established),
        response: common.response.unwrap_or(default.response),
        ban: common.ban.unwrap_or(default.ban),
        ignore: common.ignore,
    })
}

fn payload(mut fields: Fields<'_>, sets: &Sets, report: &mut Report) -> Option<PayloadHits> {
    let common = common(&mut fields, sets, report);
    let default = PayloadHits::default();
    let hits = fields.count("hits", 1..=1_000_000_000, report);
    fields.finish(report);
    common.is_enabled.then(|| PayloadHits {
        hits: hits.unwrap_or(default.hits),
        window: common.window.unwrap_or(default.window),
        response: common.response.unwrap_or(default.response),
        ban: common.ban.unwrap_or(default.ban),
        ignore: common.ignore,
    })
}
