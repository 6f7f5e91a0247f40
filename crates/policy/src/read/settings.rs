//! Everything but rules and sets.

use std::time::Duration;

use crate::diagnostic::{one_of, quoted};
use crate::fields::{Fields, meant};
use crate::plan::{DefaultAction, Mode, OnFailure, Plan};
use crate::report::Report;
use crate::settings::{BanSettings, Detect, Limits, LogSettings, Protect, Reach};
use crate::tree::{Entry, Node, Table};

use super::dns::{self, DnsDraft};
use super::rule::BAN;
use super::{Sets, addresses, detect, later};
use crate::address::AddressSet;

const MODES: &[(&str, Mode)] = &[("observe", Mode::Observe), ("enforce", Mode::Enforce)];

const FAILURES: &[(&str, OnFailure)] = &[
    ("open", OnFailure::Open),
    ("closed", OnFailure::Closed),
    ("last-known", OnFailure::LastKnown),
];

const DEFAULTS: &[(&str, DefaultAction)] = &[
    ("allow", DefaultAction::Allow),
    ("deny", DefaultAction::Deny),
    ("reject", DefaultAction::Reject),
];

/// The keys of a whole policy.
const KEYS: &[&str] = &[
    "mode",
    "on_failure",
    "essentials",
    "include",
    "default",
    "sets",
    "feeds",
    "rule",
    "protect",
    "ban",
    "detect",
    "log",
    "limits",
    "dns",
    "web",
    "watch",
    "notify",
    "runtime",
];

/// What users may write for one of [`KEYS`], for messages.
const OTHER_KEYS: &[(&str, &str)] = &[
    ("set", "sets"),
    ("feed", "feeds"),
    ("includes", "include"),
    ("defaults", "default"),
    ("policy", "default"),
    ("bans", "ban"),
    ("detector", "detect"),
    ("detectors", "detect"),
    ("logging", "log"),
    ("whitelist", "protect"),
    ("allowlist", "protect"),
    ("blocklist", "feeds"),
    ("blacklist", "feeds"),
];

/// Whether it is an action that a default can have; reported when it is none.
pub(crate) fn check_default(node: &Node, report: &mut Report) {
    crate::fields::word(node, "default", DEFAULTS, report);
}

/// The plan without rules and sets, and what is kept for later.
pub(super) fn read(table: &Table, sets: &Sets, report: &mut Report) -> (Plan, Option<DnsDraft>) {
    let mut plan = Plan {
        essentials: true,
        ..Plan::default()
    };
    let mut dns = None;
    for entry in table.entries() {
        section(entry, &mut plan, &mut dns, sets, report);
    }
    // Detectors that no section mentions are on with their defaults.
    if table.get("detect").is_none() {
        plan.detect = Detect::standard();
    }
    (plan, dns)
}

fn section(
    entry: &Entry,
    plan: &mut Plan,
    dns: &mut Option<DnsDraft>,
    sets: &Sets,
    report: &mut Report,
) {
    let node = &entry.value;
    match entry.key.as_str() {
        "mode" => {
            plan.mode = crate::fields::word(node, "mode", MODES, report).unwrap_or_default();
        }
        "on_failure" => {
            let read = crate::fields::word(node, "on_failure", FAILURES, report);
            plan.on_failure = read.unwrap_or_default();
        }
        "essentials" => {
            let read = crate::fields::flag(node, "essentials", report);
            plan.essentials = read.unwrap_or(true);
        }
        "default" => {
            if let Some(fields) = Fields::of(node, "[default]", report) {
                defaults(fields, plan, report);
            }
        }
        "protect" => {
            if let Some(fields) = Fields::of(node, "[protect]", report) {
                plan.protect = protect(fields, sets, report);
            }
        }
        "ban" => {
            if let Some(fields) = Fields::of(node, "[ban]", report) {
                plan.ban = ban(fields, report);
            }
        }
        "log" => {
            if let Some(fields) = Fields::of(node, "[log]", report) {
                plan.log = log(fields, report);
            }
        }
        "limits" => {
            if let Some(fields) = Fields::of(node, "[limits]", report) {
                plan.limits = limits(fields, report);
            }
        }
        "detect" => {
            if let Some(fields) = Fields::of(node, "[detect]", report) {
                plan.detect = detect::read(fields, sets, report);
            }
        }
        "dns" => *dns = dns::read(entry, report),
        "web" | "watch" | "notify" | "runtime" => later::section(entry, report),
        _ if node.is_lost() => {}
        unknown => {
            let other = OTHER_KEYS.iter().find(|(other, _)| *other == unknown);
            let guess = other
                .map(|(_, ours)| *ours)
                .or_else(|| meant(unknown, KEYS.iter().copied()));
            let message = format!("a policy has no key {}", quoted(unknown));
            report
                .error(entry.key_span, "unknown-key", message)
                .expected(one_of(KEYS.iter().copied()))
                .suggest(guess);
        }
    }
}

fn defaults(mut fields: Fields<'_>, plan: &mut Plan, report: &mut Report) {
    if let Some(action) = fields.word("inbound", DEFAULTS, report) {
        plan.default.inbound = action;
    }
    if let Some(action) = fields.word("outbound", DEFAULTS, report) {
        plan.default.outbound = action;
    }
    if let Some(action) = fields.word("forward", DEFAULTS, report) {
        plan.default.forward = action;
    }
    fields.finish(report);
}

fn protect(mut fields: Fields<'_>, sets: &Sets, report: &mut Report) -> Protect {
    let mut protect = Protect::default();
    if let Some(node) = fields.get("addresses")
        && let Some(listed) = addresses::listed(node, "addresses", sets, report)
    {
        protect.addresses = match listed.any {
            Some(_) => AddressSet::all(),
            None => AddressSet::from_ranges(listed.inline),
        };
        protect.sets = listed.sets;
        let named = protect.sets.iter().map(|&id| sets.addresses(id));
        let all = named.fold(protect.addresses.clone(), |all, set| all.union(set));
        if let Some(whose) = all.of_everybody() {
            report.warning(
                listed.any.unwrap_or(node.span),
                "protects-everything",
                format!("with {whose} protected no ban and no feed of it ever takes effect"),
            );
        }
    }
    if let Some(discover) = fields.flag("discover", report) {
        protect.discover = discover;
    }
    fields.finish(report);
    protect
}

fn ban(mut fields: Fields<'_>, report: &mut Report) -> BanSettings {
    let memory = Duration::from_secs(60)..=Duration::from_secs(365 * 86_400);
    let default = BanSettings::default();
    let mut family = |key, what, shortest, longest, default: Reach, report: &mut Report| {
        let node = fields.get(key);
        let inner = node.and_then(|node| Fields::of(node, what, report));
        inner.map_or(default, |inner| {
            reach(inner, shortest, longest, default, report)
        })
    };
    let ipv4 = family("ipv4", "[ban.ipv4]", 8, 32, default.ipv4, report);
    let ipv6 = family("ipv6", "[ban.ipv6]", 16, 64, default.ipv6, report);
    let ban = BanSettings {
        duration: fields
            .duration("duration", BAN, report)
            .unwrap_or(default.duration),
        capacity: fields
            .count("capacity", 1..=1_000_000, report)
            .unwrap_or(default.capacity),
        escalation: fields
            .flag("escalation", report)
            .unwrap_or(default.escalation),
        memory: fields
            .duration("memory", memory, report)
            .unwrap_or(default.memory),
        longest: fields
            .duration("longest", BAN, report)
            .unwrap_or(default.longest),
        ipv4,
        ipv6,
    };
    fields.finish(report);
    ban
}

fn reach(
    mut fields: Fields<'_>,
    shortest: u8,
    longest: u8,
    default: Reach,
    report: &mut Report,
) -> Reach {
    let lengths = u32::from(shortest)..=u32::from(longest);
    let collateral = fields.count("collateral", lengths, report);
    let reach = Reach {
        widen: fields.flag("widen", report).unwrap_or(default.widen),
        neighbours: fields
            .count("neighbours", 2..=64, report)
            .unwrap_or(default.neighbours),
        // The range above is within 8 bits.
        collateral: collateral.map_or(default.collateral, |length| length as u8),
    };
    fields.finish(report);
    reach
}

fn log(mut fields: Fields<'_>, report: &mut Report) -> LogSettings {
    const TIB: u64 = 1 << 40;
    let age = Duration::from_secs(60)..=Duration::from_secs(3_650 * 86_400);
    let default = LogSettings::default();
    let log = LogSettings {
        rotate_bytes: fields
            .bytes("rotate_bytes", 1 << 16..=TIB, report)
            .unwrap_or(default.rotate_bytes),
        rotate_keep: fields
            .count("rotate_keep", 0..=1_000, report)
            .unwrap_or(default.rotate_keep),
        store_age: fields
            .duration("store_age", age, report)
            .unwrap_or(default.store_age),
        store_bytes: fields
            .bytes("store_bytes", 1 << 20..=TIB, report)
            .unwrap_or(default.store_bytes),
        drops_per_second: fields
            .count("drops_per_second", 0..=1_000_000, report)
            .unwrap_or(default.drops_per_second),
        flows_per_second: fields
            .count("flows_per_second", 0..=1_000_000, report)
            .unwrap_or(default.flows_per_second),
    };
    fields.finish(report);
    log
}

fn limits(mut fields: Fields<'_>, report: &mut Report) -> Limits {
    let default = Limits::default();
    let mut bytes = |key, most: u32, report: &mut Report| {
        let read = fields.bytes(key, 1 << 16..=u64::from(most), report);
        // The range above is within 32 bits.
        read.map(|bytes| bytes as u32)
    };
    let stream = bytes("stream_bytes", 1 << 30, report);
    let fragment = bytes("fragment_bytes", 1 << 28, report);
    let limits = Limits {
        flows: fields
            .count("flows", 1_024..=16_777_216, report)
            .unwrap_or(default.flows),
        sources: fields
            .count("sources", 256..=16_777_216, report)
            .unwrap_or(default.sources),
        stream_bytes: stream.unwrap_or(default.stream_bytes),
        fragment_bytes: fragment.unwrap_or(default.fragment_bytes),
    };
    fields.finish(report);
    limits
}
