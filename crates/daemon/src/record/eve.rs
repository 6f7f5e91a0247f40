//! Events as JSON objects with the field names of Suricata's EVE, so that a SIEM reads them as they stand.
//!
//! What EVE has no field for (the rule's file and line, the stage, whether a verdict was enforced) goes where its schema leaves
//! room: `metadata.pktvars[0]` for packets, `metadata.flowvars[0]` for flows. `ban`, `unban`, `ban-refused`, `drift`, `policy`,
//! `daemon` and `firewall` (a logged packet that passed) are event types of our own in the same manner. Timestamps are RFC 3339
//! (`…Z`) like everywhere else in the product, where Suricata writes `+0000`.

use engine::evidence::Pattern;
use engine::{Alert, DnsQuestion, Event, EventBody, FlowRecord, Reason, Verdict};
use policy::{Mode, Plan, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};
use wire::FiveTuple;

use super::community_id::community_id;
use super::explain::{self, decided};
use super::notice::Notice;
use super::{ban, proto};
use crate::api::{self, Time};

/// What an event means depends on the policy it happened under.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The plan in force then.
    pub plan: &'a Plan,
    /// Whether verdicts were carried out; else they say what would have been.
    pub enforced: bool,
}

impl Context<'_> {
    fn mode(&self) -> Mode {
        if self.enforced {
            Mode::Enforce
        } else {
            Mode::Observe
        }
    }
}

/// What is told each minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Since the begin.
    pub totals: api::Totals,
    /// Seconds since the begin.
    pub uptime_s: u64,
    /// Packets that nobody saw.
    pub lost: u64,
    /// Flows tracked now.
    pub flows: usize,
}

/// One EVE object. Fields in the order Suricata writes them.
#[derive(Debug, Serialize)]
pub struct Eve {
    timestamp: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_iface: Option<Box<str>>,
    event_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dest_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dest_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proto: Option<proto::Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_v: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    community_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
    /// The object named after the event type, and those that go with it.
    #[serde(flatten)]
    body: Map<String, Value>,
}

impl Eve {
    /// The kind of event, for indexes and filters.
    pub fn kind(&self) -> &'static str {
        self.event_type
    }

    /// From an event.
    pub fn of_event(event: &Event, context: Context<'_>) -> Self {
        let facts = match &event.body {
            EventBody::Drop { packet, .. } | EventBody::Logged { packet, .. } => Some(packet),
            _ => None,
        };
        let icmp = facts.and_then(|facts| facts.icmp);
        let (event_type, body) = body(event, context);
        // A ban speaks of a prefix: that is its source, so that a search for an address finds it.
        let banned = match &event.body {
            EventBody::Ban(ban) | EventBody::Unban { ban, .. } => Some(explain::short(ban.prefix)),
            EventBody::BanRefused { refused, .. } => refused.prefix().map(explain::short),
            _ => None,
        };
        let tuple = event.tuple.as_ref();
        Self {
            timestamp: event.at.into(),
            flow_id: event.flow_id,
            in_iface: event.interface.clone(),
            event_type,
            src_ip: tuple.map(|tuple| tuple.source.to_string()).or(banned),
            src_port: tuple.and_then(|tuple| tuple.source_port),
            dest_ip: tuple.map(|tuple| tuple.destination.to_string()),
            dest_port: tuple.and_then(|tuple| tuple.destination_port),
            proto: tuple.map(|tuple| proto::Name(tuple.protocol)),
            ip_v: tuple.map(|tuple| if tuple.source.is_ipv4() { 4 } else { 6 }),
            icmp_type: icmp.map(|(kind, _)| kind),
            icmp_code: icmp.map(|(_, code)| code),
            community_id: tuple.and_then(|tuple| community_id(tuple, icmp)),
            direction: event.direction.map(policy::Direction::name),
            body,
        }
    }

    /// From a notice: the message in `engine`, where Suricata has its own.
    pub fn of_notice(notice: &Notice) -> Self {
        let body = object([
            ("log_level", json!("Notice")),
            (
                "engine",
                json!({ "message": notice.text, "module": "portcullis" }),
            ),
        ]);
        Self::bare(notice.at, notice.kind.name(), body)
    }

    /// The sums since the begin, as Suricata tells them each minute: where a SIEM looks whether the sensor lives and loses packets.
    pub fn of_stats(at: Timestamp, sums: &Sums) -> Self {
        let totals = &sums.totals;
        let stats = json!({
            "uptime": sums.uptime_s,
            "capture": { "kernel_packets": totals.packets, "kernel_drops": sums.lost },
            "decoder": { "pkts": totals.packets, "bytes": totals.bytes, "invalid": totals.anomalies },
            "ips": { "accepted": totals.allowed, "blocked": totals.dropped, "rejected": totals.rejected },
            "flow": { "total": totals.flows, "active": sums.flows },
            "detect": { "alert": totals.alerts },
        });
        Self::bare(at, "stats", object([("stats", stats)]))
    }

    /// Gives the event the number that `why` takes, where the schema leaves room for it.
    #[must_use]
    pub fn numbered(mut self, id: u64) -> Self {
        let metadata = self
            .body
            .entry("metadata")
            .or_insert_with(|| json!({ "pktvars": [{}] }));
        for vars in ["pktvars", "flowvars"] {
            if let Some(var) = metadata.get_mut(vars).and_then(|vars| vars.get_mut(0)) {
                var["event_id"] = json!(id);
            }
        }
        self
    }

    fn bare(at: Timestamp, event_type: &'static str, body: Map<String, Value>) -> Self {
        Self {
            timestamp: at.into(),
            flow_id: None,
            in_iface: None,
            event_type,
            src_ip: None,
            src_port: None,
            dest_ip: None,
            dest_port: None,
            proto: None,
            ip_v: None,
            icmp_type: None,
            icmp_code: None,
            community_id: None,
            direction: None,
            body,
        }
    }
}

/// The last line of `replay --json`: the sums and nothing else.
#[derive(Debug, Serialize)]
pub struct StatsLine {
    event_type: &'static str,
    stats: api::Totals,
}

impl From<engine::Totals> for StatsLine {
    fn from(totals: engine::Totals) -> Self {
        Self {
            event_type: "stats",
            stats: totals.into(),
        }
    }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn body(event: &Event, context: Context<'_>) -> (&'static str, Map<String, Value>) {
    match &event.body {
        EventBody::Drop {
            verdict,
            reason,
            packet,
        } => ("drop", drop_body(event, context, *verdict, *reason, packet)),
        EventBody::Logged { rule, .. } => {
            let why = decided(context.plan, Verdict::Allow, Reason::Rule(*rule));
            let hook = event.direction.map_or("any", policy::Direction::name);
            let body = object([
                ("firewall", json!({ "hook": hook, "policy": "accept" })),
                ("verdict", json!({ "action": "pass" })),
                ("metadata", pktvars(&why, context)),
            ]);
            ("firewall", body)
        }
        EventBody::Dns(question) => ("dns", dns_body(event, question, context)),
        EventBody::Alert(alert) => ("alert", alert_body(alert, context)),
        EventBody::Anomaly { name, malformed } => {
            let anomaly = json!({
                "type": if malformed.is_some() { "decode" } else { "stream" },
                "event": name,
                "layer": layer(name),
            });
            ("anomaly", object([("anomaly", anomaly)]))
        }
        EventBody::Flow(flow) => ("flow", flow_body(flow, event.tuple.as_ref(), context)),
        EventBody::Ban(made) => {
            let made = ban::ban_in(context.mode(), made, event.at);
            ("ban", object([("ban", json!(made))]))
        }
        EventBody::Unban { ban: over, end } => {
            let mut value = json!(ban::ban_in(context.mode(), over, event.at));
            value["ended"] = json!(end.name());
            ("unban", object([("ban", value)]))
        }
        EventBody::BanRefused { refused, origin } => {
            let value = json!({
                "prefix": refused.prefix(),
                "origin": origin.name(),
                "detector": match origin { engine::BanOrigin::Detector(detector) => Some(detector.name()), _ => None },
                "refused": refused.to_string(),
            });
            ("ban-refused", object([("ban", value)]))
        }
    }
}

fn drop_body(
    event: &Event,
    context: Context<'_>,
    verdict: Verdict,
    reason: Reason,
    packet: &engine::event::PacketFacts,
) -> Map<String, Value> {
    let why = decided(context.plan, verdict, reason);
    let mut drop = object([("len", json!(packet.len)), ("reason", json!(why.reason))]);
    let ipv6 = event.tuple.is_some_and(|tuple| tuple.source.is_ipv6());
    let hops = if ipv6 { "hoplimit" } else { "ttl" };
    drop.insert(hops.to_owned(), json!(packet.hop_limit));
    if let Some(flags) = packet.tcp_flags {
        // RFC 9293 §3.1, from the lowest bit.
        for (bit, name) in ["fin", "syn", "rst", "psh", "ack", "urg"]
            .iter()
            .enumerate()
        {
            drop.insert((*name).to_owned(), json!(flags >> bit & 1 == 1));
        }
    }
    let mut action = json!({ "action": "drop" });
    if verdict == Verdict::Reject {
        let tcp = event
            .tuple
            .is_some_and(|tuple| tuple.protocol == policy::protocol::TCP);
        action["reject"] = json!([if tcp { "tcp-reset" } else { "icmp-prohib" }]);
    }
    let mut body = object([
        ("drop", Value::Object(drop)),
        ("verdict", action),
        ("metadata", pktvars(&why, context)),
    ]);
    // As Suricata does: a drop by a rule carries the rule.
    if let Some(rule) = reason.rule().and_then(|id| explain::rule(context.plan, id)) {
        body.insert(
            "alert".to_owned(),
            rule_alert(rule, verdict, &why, "Policy rule"),
        );
    }
    body
}

/// As Suricata writes a query, in version 2 of its DNS records.
fn dns_body(event: &Event, question: &DnsQuestion, context: Context<'_>) -> Map<String, Value> {
    let why = explain::question(question, event.tuple.as_ref());
    let name = match &*question.name {
        "" => ".",
        name => name,
    };
    let dns = json!({
        "version": 2,
        "type": "query",
        "id": question.id,
        "rrname": name,
        "rrtype": question.record_type.to_string(),
        "opcode": 0,
    });
    let action = if question.blocked.is_some() {
        "drop"
    } else {
        "pass"
    };
    object([
        ("dns", dns),
        ("verdict", json!({ "action": action })),
        ("metadata", pktvars(&why, context)),
    ])
}

fn alert_body(alert: &Alert, context: Context<'_>) -> Map<String, Value> {
    match alert {
        Alert::Content {
            rule,
            verdict,
            host,
        } => {
            let why = decided(context.plan, *verdict, Reason::Rule(*rule));
            let alert = match explain::rule(context.plan, *rule) {
                Some(rule) => rule_alert(rule, *verdict, &why, "Content rule"),
                None => json!({ "signature": why.text, "action": alert_action(*verdict) }),
            };
            let mut body = object([("alert", alert), ("metadata", pktvars(&why, context))]);
            if let Some(asked) = host {
                let (protocol, field) = match asked.field {
                    policy::HostField::Sni => ("tls", "sni"),
                    policy::HostField::HttpHost => ("http", "hostname"),
                };
                body.insert("app_proto".to_owned(), json!(protocol));
                body.insert(protocol.to_owned(), json!({ field: asked.host }));
            }
            body
        }
        Alert::Detector {
            detector,
            evidence,
            banned,
        } => {
            let (id, signature) = match evidence.pattern {
                Pattern::WholeHost => (9, "too many half-open connections of all sources together"),
                Pattern::Plain | Pattern::Scan { .. } => detector_signature(*detector),
            };
            let alert = json!({
                "action": if *banned { "blocked" } else { "allowed" },
                "gid": DETECTORS_GID,
                "signature_id": id,
                "rev": 1,
                "signature": signature,
                "category": "Detector",
                "severity": 2,
                "context": { "detector": detector.name(), "banned": banned, "evidence": ban::evidence(evidence) },
            });
            object([("alert", alert)])
        }
    }
}

/// Generator of the alerts that rules make.
const RULES_GID: u32 = 1;
/// Generator of the alerts that detectors make.
const DETECTORS_GID: u32 = 2;

fn detector_signature(detector: engine::Detector) -> (u32, &'static str) {
    match detector {
        engine::Detector::Blocked => (1, "too many denied packets from one source"),
        engine::Detector::Rate => (2, "too many packets a second from one source"),
        engine::Detector::Payload => (3, "too many content rule hits from one source"),
        engine::Detector::Scan => (4, "one source finds closed port after closed port"),
        engine::Detector::SynFlood => (5, "too many half-open connections"),
        engine::Detector::IcmpFlood => (6, "too many ICMP packets from one source"),
        engine::Detector::UdpFlood => (7, "too many unanswered UDP packets from one source"),
        engine::Detector::Brute => (
            8,
            "one source comes and goes at one service, as who guesses",
        ),
    }
}

fn alert_action(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allowed",
        Verdict::Drop | Verdict::Reject => "blocked",
    }
}

fn rule_alert(rule: &policy::Rule, verdict: Verdict, why: &api::Decided, category: &str) -> Value {
    json!({
        "action": alert_action(verdict),
        "gid": RULES_GID,
        // Suricata counts signatures from 1.
        "signature_id": rule.id.0.saturating_add(1),
        "rev": 1,
        "signature": rule.name,
        "category": category,
        "severity": if rule.content.is_some() { 2 } else { 3 },
        "metadata": { "rule": why.rule, "file": why.file, "line": why.line, "stage": why.stage },
    })
}

fn flow_body(
    flow: &FlowRecord,
    tuple: Option<&FiveTuple>,
    context: Context<'_>,
) -> Map<String, Value> {
    let why = decided(context.plan, Verdict::Allow, flow.reason);
    let mut vars = var(&why, context);
    if let Some(name) = &flow.name {
        vars["name"] = json!(&**name);
    }
    let closed = flow.ended == Some(engine::FlowEnd::Closed);
    let state = match (closed, flow.packets_to_client) {
        (true, _) => "closed",
        (false, 0) => "new",
        (false, _) => "established",
    };
    let mut body = object([
        (
            "flow",
            json!({
                "pkts_toserver": flow.packets_to_server,
                "pkts_toclient": flow.packets_to_client,
                "bytes_toserver": flow.bytes_to_server,
                "bytes_toclient": flow.bytes_to_client,
                "start": Time(flow.start),
                "end": Time(flow.end),
                "age": flow.end.since(flow.start).as_secs(),
                "state": state,
                "reason": flow.ended.map_or("active", engine::FlowEnd::name),
            }),
        ),
        ("metadata", json!({ "flowvars": [vars] })),
    ]);
    let tcp = tuple.is_some_and(|tuple| tuple.protocol == policy::protocol::TCP);
    if let Some(state) = flow.tcp_state.filter(|_| tcp) {
        body.insert(
            "tcp".to_owned(),
            json!({ "state": state.to_ascii_lowercase() }),
        );
    }
    body
}

fn pktvars(why: &api::Decided, context: Context<'_>) -> Value {
    json!({ "pktvars": [var(why, context)] })
}

fn var(why: &api::Decided, context: Context<'_>) -> Value {
    let mut value = json!(why);
    value["enforced"] = json!(context.enforced);
    value
}

/// The layer that an anomaly's name begins with.
fn layer(name: &str) -> &'static str {
    const LAYERS: [(&str, &str); 11] = [
        ("link", "ethernet"),
        ("ip-", "ip"),
        ("ipv4", "ipv4"),
        ("ipv6", "ipv6"),
        ("fragment", "ip"),
        ("martian", "ip"),
        ("tcp", "tcp"),
        ("udp", "udp"),
        ("icmp", "icmp"),
        ("sctp", "sctp"),
        ("gre", "gre"),
    ];
    LAYERS
        .iter()
        .find(|(begin, _)| name.starts_with(begin))
        .map_or("unknown", |(_, layer)| layer)
}
