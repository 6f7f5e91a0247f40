//! Every kind of event through the writers, the JSON against Suricata's own schema.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use serde_json::Value;

use super::escape::{is_hazard, write_json};
use super::{Context, Eve, Notice, NoticeKind, samples, text};
use engine::{Alert, EventBody};
use policy::Timestamp;

/// Our own event types and fields; Suricata's schema knows the rest.
const OURS: [&str; 3] = ["ban", "unban", "ban-refused"];

fn objects() -> Vec<(String, Value)> {
    let plan = samples::plan();
    let mut eves: Vec<Eve> = samples::events()
        .iter()
        .flat_map(|event| {
            [true, false].map(|enforced| {
                Eve::of_event(
                    event,
                    Context {
                        plan: &plan,
                        enforced,
                    },
                )
            })
        })
        .collect();
    for kind in [NoticeKind::Drift, NoticeKind::Policy, NoticeKind::Daemon] {
        eves.push(Eve::of_notice(&Notice {
            at: Timestamp::from_secs(1),
            kind,
            text: "text\u{1b}\n".to_owned(),
        }));
    }
    let totals = crate::api::Totals {
        packets: 7,
        ..Default::default()
    };
    let sums = super::Sums {
        totals,
        uptime_s: 60,
        lost: 1,
        flows: 2,
    };
    eves.push(Eve::of_stats(Timestamp::from_secs(1), &sums));
    eves.iter()
        .map(|eve| {
            let mut bytes = Vec::new();
            write_json(eve, &mut bytes).unwrap();
            let text = String::from_utf8(bytes).unwrap();
            let value = serde_json::from_str(&text).unwrap();
            (text, value)
        })
        .collect()
}

#[test]
fn events_follow_suricatas_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/lists/OISF+suricata/etc/schema.json");
    let Ok(schema) = std::fs::read(&path) else {
        eprintln!(
            "SKIPPED: {} is not there, so no event was held against Suricata's schema",
            path.display()
        );
        return;
    };
    let mut schema: Value = serde_json::from_slice(&schema).unwrap();
    // The one difference by intent: our timestamps are RFC 3339, whose UTC is "Z"; the schema wants "+0000".
    let pattern = schema["properties"]["timestamp"]["pattern"]
        .as_str()
        .unwrap();
    assert_eq!(
        pattern,
        r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d+[+\-]\d+$"
    );
    schema["properties"]["timestamp"]["pattern"] =
        Value::from(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$");
    let validator = jsonschema::validator_for(&schema).unwrap();

    let mut kinds = std::collections::BTreeSet::new();
    for (text, mut value) in objects() {
        let kind = value["event_type"].as_str().unwrap().to_owned();
        if OURS.contains(&kind.as_str()) {
            assert!(
                value.as_object_mut().unwrap().remove("ban").is_some(),
                "{text}"
            );
        }
        if let Err(error) = validator.validate(&value) {
            panic!("{error} at {}\n{text}", error.instance_path());
        }
        kinds.insert(kind);
    }
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        [
            "alert",
            "anomaly",
            "ban",
            "ban-refused",
            "daemon",
            "dns",
            "drift",
            "drop",
            "firewall",
            "flow",
            "policy",
            "stats",
            "unban"
        ]
    );
}

#[test]
fn no_writer_lets_a_hazard_through() {
    for (text, _) in objects() {
        assert!(!text.chars().any(is_hazard), "{text}");
    }
    let plan = samples::plan();
    let context = Context {
        plan: &plan,
        enforced: true,
    };
    let lines: Vec<String> = samples::events()
        .iter()
        .filter_map(|event| text::line(event, context))
        .collect();
    assert!(lines.len() > 100);
    for line in lines {
        assert!(!line.chars().any(is_hazard), "{line}");
    }
}

#[test]
fn a_drop_says_why_in_both_forms() {
    let plan = samples::plan();
    let event = samples::events()
        .into_iter()
        .find(|event| {
            matches!(
                event.body,
                engine::EventBody::Drop {
                    reason: engine::Reason::Rule(policy::RuleId(0)),
                    ..
                }
            )
        })
        .unwrap();
    let context = Context {
        plan: &plan,
        enforced: true,
    };
    let value = serde_json::to_value(Eve::of_event(&event, context)).unwrap();
    for (pointer, expected) in [
        ("/timestamp", Value::from("2026-01-01T00:00:00.123456Z")),
        ("/event_type", "drop".into()),
        ("/src_ip", "203.0.113.7".into()),
        ("/src_port", 40_000.into()),
        ("/dest_ip", "192.0.2.1".into()),
        ("/dest_port", 22.into()),
        ("/proto", "TCP".into()),
        ("/direction", "in".into()),
        ("/drop/reason", "rule".into()),
        ("/drop/len", 60.into()),
        ("/drop/ttl", 64.into()),
        ("/drop/syn", true.into()),
        ("/drop/ack", true.into()),
        ("/drop/fin", false.into()),
        ("/alert/signature", plan.rules[0].name.as_str().into()),
        ("/metadata/pktvars/0/file", "policy.toml".into()),
        ("/metadata/pktvars/0/line", 12.into()),
        ("/metadata/pktvars/0/stage", "rule".into()),
        ("/metadata/pktvars/0/enforced", true.into()),
    ] {
        assert_eq!(
            value.pointer(pointer),
            Some(&expected),
            "{pointer} of {value}"
        );
    }
    assert_eq!(
        text::line(
            &event,
            Context {
                plan: &plan,
                enforced: false
            }
        )
        .unwrap(),
        "2026-01-01T00:00:00.123456Z WOULD-DROP in eth0\\u{1b}[2J\\n TCP 203.0.113.7:40000 > 192.0.2.1:22 len 60 ttl 64 flags SA: \
         rule \"ssh \\u{1b}[31mred\\n\\u{202e}\" (policy.toml:12)"
    );
}

#[test]
fn an_unban_says_whether_anybody_was_banned() {
    let plan = samples::plan();
    let context = Context {
        plan: &plan,
        enforced: false,
    };
    let lines: Vec<String> = (samples::events().iter())
        .filter(|event| matches!(event.body, EventBody::Unban { .. }))
        .map(|event| text::line(event, context).unwrap())
        .collect();
    for says in [
        "it ran out; it was banned for: 51",
        "it was lifted; it was banned for: 51",
        "it ran out; it would have been banned for: 51",
        "it was lifted; it would have been banned for: 51",
        "enforcing begins; it would have been banned for: 51",
    ] {
        let is_said = lines.iter().any(|line| line.contains(says));
        assert!(is_said, "{says}: {lines:?}");
    }
}

#[test]
fn an_alert_of_all_sources_together_names_nobody_as_its_source() {
    let plan = samples::plan();
    let mut event = (samples::events().into_iter())
        .find(|event| matches!(event.body, EventBody::Alert(Alert::Detector { .. })))
        .unwrap();
    event.tuple = None;
    if let EventBody::Alert(Alert::Detector { evidence, .. }) = &mut event.body {
        evidence.pattern = engine::evidence::Pattern::WholeHost;
    }
    let context = Context {
        plan: &plan,
        enforced: true,
    };
    let value = serde_json::to_value(Eve::of_event(&event, context)).unwrap();
    assert_eq!(
        value["alert"]["signature"],
        "too many half-open connections of all sources together"
    );
    assert!(value.get("src_ip").is_none() && value.get("src_port").is_none());
    let line = text::line(&event, context).unwrap();
    assert!(line.contains("of all sources"), "{line}");
    assert!(!line.contains(" > "), "{line}");
}

#[test]
fn a_ban_has_the_contracts_shape() {
    let now = samples::ban()
        .since
        .after(std::time::Duration::from_millis(599_500));
    let value = serde_json::to_value(super::ban::ban(&samples::ban(), now)).unwrap();
    let names: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    for name in [
        "prefix",
        "family",
        "detector",
        "origin",
        "reason",
        "since",
        "expires",
        "remaining_s",
        "times_banned",
        "evidence",
    ] {
        assert!(names.contains(&name), "{name} is missing of {names:?}");
    }
    assert_eq!(value["remaining_s"], 1, "half a second left is not over");
    assert_eq!(value["family"], "ipv4");
    assert_eq!(value["expires"], "2026-01-01T00:10:00.000000Z");
    assert_eq!(
        value["evidence"]["first_packet"],
        "tcp 203.0.113.7:40000 to 192.0.2.1:22"
    );
    let back: crate::api::Ban = serde_json::from_value(value).unwrap();
    assert_eq!(back.evidence.count, Some(51));
}
