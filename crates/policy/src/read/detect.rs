//! `[detect.*]`: each detector's keys, and what of them makes no sense together.

use std::time::Duration;

use crate::address::AddressSet;
use crate::fields::Fields;
use crate::report::Report;
use crate::settings::{
    Blocked, Brute, Detect, PacketFlood, PayloadHits, RateLimit, Response, Scan, SynFlood,
};
use crate::tree::Node;

use super::rule::BAN;
use super::{Sets, addresses, ports};

const RESPONSES: &[(&str, Response)] = &[
    ("alert", Response::Alert),
    ("limit", Response::Limit),
    ("ban", Response::Ban),
];

/// Shortest and longest window that packets are counted in.
const WINDOW: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Longest that a connection may last to count as short, and shortest that it makes sense to ask for.
const SHORT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3_600);

/// Packets, hits and connections that a threshold may ask for.
const COUNT: std::ops::RangeInclusive<u32> = 1..=1_000_000_000;

pub(super) fn read(mut fields: Fields<'_>, sets: &Sets, report: &mut Report) -> Detect {
    let mut detect = Detect::standard();
    let mut reader = Reader { sets, report };
    let known: [(&'static str, &'static str, Take); 8] = [
        ("blocked", "[detect.blocked]", |reader, fields, detect| {
            detect.blocked = reader.blocked(fields);
        }),
        ("rate", "[detect.rate]", |reader, fields, detect| {
            detect.rate = reader.rate(fields);
        }),
        ("payload", "[detect.payload]", |reader, fields, detect| {
            detect.payload = reader.payload(fields);
        }),
        ("scan", "[detect.scan]", |reader, fields, detect| {
            detect.scan = reader.scan(fields);
        }),
        (
            "syn_flood",
            "[detect.syn_flood]",
            |reader, fields, detect| {
                detect.syn_flood = reader.syn_flood(fields);
            },
        ),
        (
            "icmp_flood",
            "[detect.icmp_flood]",
            |reader, fields, detect| {
                detect.icmp_flood = reader.packet_flood(fields, PacketFlood::icmp());
            },
        ),
        (
            "udp_flood",
            "[detect.udp_flood]",
            |reader, fields, detect| {
                detect.udp_flood = reader.packet_flood(fields, PacketFlood::udp());
            },
        ),
        ("brute", "[detect.brute]", |reader, fields, detect| {
            detect.brute = reader.brute(fields);
        }),
    ];
    for (key, name, take) in known {
        if let Some(node) = fields.get(key) {
            reader.section(node, name, take, &mut detect);
        }
    }
    fields.finish(reader.report);
    detect
}

/// Reads one section into the detectors.
type Take = fn(&mut Reader<'_>, Fields<'_>, &mut Detect);

/// What the reading of each section needs.
struct Reader<'a> {
    sets: &'a Sets,
    report: &'a mut Report,
}

/// What every detector has.
struct Common {
    is_enabled: bool,
    window: Option<Duration>,
    response: Option<Response>,
    ban: Option<Duration>,
    ignore: AddressSet,
}

/// A detector with what every detector has put in, or nothing when it is off.
macro_rules! detector {
    ($common:expr, $name:ident { $($field:ident: $value:expr),* $(,)? }, $default:expr) => {{
        let (common, default) = ($common, $default);
        common.is_enabled.then(|| $name {
            $($field: $value.unwrap_or(default.$field),)*
            window: common.window.unwrap_or(default.window),
            response: common.response.unwrap_or(default.response),
            ban: common.ban.unwrap_or(default.ban),
            ignore: common.ignore,
        })
    }};
}

impl Reader<'_> {
    fn section(&mut self, node: &Node, name: &'static str, take: Take, detect: &mut Detect) {
        if let Some(fields) = Fields::of(node, name, self.report) {
            take(self, fields, detect);
        }
    }

    fn common(&mut self, fields: &mut Fields<'_>) -> Common {
        let report = &mut *self.report;
        Common {
            is_enabled: fields.flag("enabled", report).unwrap_or(true),
            window: fields.duration("window", WINDOW, report),
            response: fields.word("response", RESPONSES, report),
            ban: fields.duration("ban", BAN, report),
            ignore: match fields.get("ignore") {
                Some(node) => addresses::union(node, "ignore", self.sets, report),
                None => AddressSet::default(),
            },
        }
    }

    fn blocked(&mut self, mut fields: Fields<'_>) -> Option<Blocked> {
        let common = self.common(&mut fields);
        let packets = fields.count("packets", COUNT, self.report);
        fields.finish(self.report);
        detector!(common, Blocked { packets: packets }, Blocked::default())
    }

    fn rate(&mut self, mut fields: Fields<'_>) -> Option<RateLimit> {
        let common = self.common(&mut fields);
        let packets = fields.count("packets", COUNT, self.report);
        let established = fields.flag("established", self.report);
        fields.finish(self.report);
        detector!(
            common,
            RateLimit {
                packets: packets,
                established: established
            },
            RateLimit::default()
        )
    }

    fn payload(&mut self, mut fields: Fields<'_>) -> Option<PayloadHits> {
        let common = self.common(&mut fields);
        let hits = fields.count("hits", COUNT, self.report);
        fields.finish(self.report);
        detector!(common, PayloadHits { hits: hits }, PayloadHits::default())
    }

    fn scan(&mut self, mut fields: Fields<'_>) -> Option<Scan> {
        let common = self.common(&mut fields);
        let report = &mut *self.report;
        let ports = fields.count("ports", 1..=Scan::MOST, report);
        let slow_ports = fields.count("slow_ports", 1..=Scan::MOST, report);
        let slow_window = fields.duration("slow_window", WINDOW, report);
        let hosts = fields.count("hosts", 1..=Scan::MOST, report);
        let default = Scan::default();
        let window = common.window.unwrap_or(default.window);
        if slow_window.unwrap_or(default.slow_window) <= window {
            let (key, other) = match slow_window {
                Some(_) => ("slow_window", "window"),
                None => ("window", "slow_window, which is 1h"),
            };
            let message = match slow_window {
                Some(_) => format!("{key} is not longer than {other}"),
                None => format!("{key} is not shorter than {other}"),
            };
            report
                .error(fields.value_span(key), "out-of-range", message)
                .expected("a slow_window that is longer than window");
        }
        fields.finish(report);
        detector!(
            common,
            Scan {
                ports: ports,
                slow_ports: slow_ports,
                slow_window: slow_window,
                hosts: hosts,
            },
            default
        )
    }

    fn syn_flood(&mut self, mut fields: Fields<'_>) -> Option<SynFlood> {
        let common = self.common(&mut fields);
        let report = &mut *self.report;
        let half_open = fields.count("half_open", COUNT, report);
        let host_half_open = fields.count("host_half_open", COUNT, report);
        let default = SynFlood::default();
        let each = half_open.unwrap_or(default.half_open);
        let all = host_half_open.unwrap_or(default.host_half_open);
        if all < each {
            let key = host_half_open.map_or("half_open", |_| "host_half_open");
            let message = format!(
                "the whole host may have {all} half-open connections, and each source {each}"
            );
            report
                .error(fields.value_span(key), "out-of-range", message)
                .expected("a host_half_open that is at least half_open");
        }
        fields.finish(report);
        detector!(
            common,
            SynFlood {
                half_open: half_open,
                host_half_open: host_half_open
            },
            default
        )
    }

    fn packet_flood(
        &mut self,
        mut fields: Fields<'_>,
        default: PacketFlood,
    ) -> Option<PacketFlood> {
        let common = self.common(&mut fields);
        let packets = fields.count("packets", COUNT, self.report);
        fields.finish(self.report);
        detector!(common, PacketFlood { packets: packets }, default)
    }

    fn brute(&mut self, mut fields: Fields<'_>) -> Option<Brute> {
        let common = self.common(&mut fields);
        let report = &mut *self.report;
        let connections = fields.count("connections", COUNT, report);
        let shorter_than = fields.duration("shorter_than", SHORT, report);
        let watched = fields
            .get("ports")
            .and_then(|node| ports::read(node, "ports", report));
        fields.finish(report);
        detector!(
            common,
            Brute {
                connections: connections,
                shorter_than: shorter_than,
                ports: watched,
            },
            Brute::default()
        )
    }
}
