//! One policy in three forms is one plan: TOML, JSON and `rules.txt` say the same.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot load its own text has failed"
)]

mod print;
mod random;

use std::path::Path;

use portcullis_policy::{Format, Plan, Position, load_text};
use proptest::prelude::*;

/// The plan of a text, without the places where it was written.
fn plan(text: &str, format: Format) -> Plan {
    let loaded = load_text("policy", text, format, Path::new(""));
    let shown: Vec<_> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    let policy = loaded
        .policy
        .unwrap_or_else(|| panic!("{format:?}\n{text}\n{shown:#?}"));
    let mut plan = policy.into_plan();
    for rule in &mut plan.rules {
        assert_ne!(rule.position, Position::default());
        rule.position = Position::default();
    }
    plan
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn three_forms_are_one_plan(policy in random::policy()) {
        let toml = print::toml(&policy);
        let json = print::json(&policy);
        let rules = print::rules(&policy);
        let plans = [
            plan(&toml, Format::Toml),
            plan(&json, Format::Json),
            plan(&rules, Format::RulesTxt),
        ];
        prop_assert_eq!(&plans[0], &plans[1], "{}\n{}", toml, json);
        prop_assert_eq!(&plans[0], &plans[2], "{}\n{}", toml, rules);
        prop_assert_eq!(plans[0].rules.len(), policy.enabled_rules());
    }

    /// Bytes in the middle of a policy never panic, and either load or say why not.
    #[test]
    fn broken_policies_are_survived(
        policy in random::policy(),
        at in any::<prop::sample::Index>(),
        cut in 0_usize..8,
        with in "\\PC{0,3}|[\"'\\[\\]{}=,:#\\\\\n\u{0}]{1,3}",
    ) {
        for (text, format) in [
            (print::toml(&policy), Format::Toml),
            (print::json(&policy), Format::Json),
            (print::rules(&policy), Format::RulesTxt),
        ] {
            let characters: Vec<char> = text.chars().collect();
            let at = at.index(characters.len());
            let end = (at + cut).min(characters.len());
            let broken: String = characters[..at].iter().copied()
                .chain(with.chars())
                .chain(characters[end..].iter().copied())
                .collect();
            let loaded = load_text("policy", &broken, format, Path::new(""));
            let has_error = loaded.diagnostics.iter().any(|found| found.is_error());
            prop_assert_eq!(loaded.policy.is_none(), has_error);
            for found in &loaded.diagnostics {
                let lines = broken.split('\n').count() as u32;
                prop_assert!((1..=lines).contains(&found.position.line), "{}", found);
                let line = broken.split('\n').nth(found.position.line as usize - 1).unwrap();
                prop_assert!(found.position.column as usize <= line.chars().count() + 1, "{}\n{}", found, broken);
            }
        }
    }

    #[test]
    fn any_text_is_survived(text in "\\PC{0,200}|[a-z\"'\\[\\]{}=,:#\\\\\n .*@0-9-]{0,200}") {
        for format in [Format::Toml, Format::Json, Format::RulesTxt, Format::sniff(&text)] {
            load_text("policy", &text, format, Path::new("/nonexistent"));
        }
    }
}

#[test]
fn the_forms_are_told_apart() {
    for (text, format) in [
        ("", Format::Toml),
        ("# c\n\nmode = \"observe\"\n", Format::Toml),
        ("[[rule]]\n", Format::Toml),
        ("[default]\n", Format::Toml),
        ("default.inbound = \"deny\"\n", Format::Toml),
        ("{\n", Format::Json),
        ("[\n{", Format::Json),
        (" [ {\"action\": \"deny\"} ]", Format::Json),
        ("default in deny\n", Format::RulesTxt),
        ("# c\nallow in tcp\n", Format::RulesTxt),
        ("mode enforce\n", Format::RulesTxt),
    ] {
        assert_eq!(Format::sniff(text), format, "{text:?}");
    }
    for (path, format) in [
        ("a.toml", Some(Format::Toml)),
        ("a.JSON", Some(Format::Json)),
        ("rules.txt", Some(Format::RulesTxt)),
        ("a.rules", Some(Format::RulesTxt)),
        ("a.conf", None),
        ("a", None),
    ] {
        assert_eq!(Format::of_path(Path::new(path)), format, "{path}");
    }
}

#[test]
fn an_array_is_a_list_of_rules() {
    let array = plan(
        "[{\"action\": \"deny\", \"port\": 23, \"protocol\": \"tcp\"}]",
        Format::Json,
    );
    let rules = plan("deny tcp port 23", Format::RulesTxt);
    assert_eq!(array, rules);
    assert_eq!(array.rules[0].name, "deny tcp from any to any port 23");
}

/// Everything that the language has, by hand, so that a printer's mistake cannot hide one of the reader's.
#[test]
fn everything_once() {
    let toml = r#"
mode = "enforce"
on_failure = "closed"
essentials = false
[default]
inbound = "reject"
outbound = "deny"
forward = "allow"
[sets]
office = ["192.0.2.0/24", "2001:db8::/48"]
[feeds]
bad = "198.51.100.0/25,198.51.100.128-198.51.100.255"
[protect]
addresses = ["203.0.113.1", "@office"]
discover = false
[ban]
duration = "20m"
capacity = 500
escalation = false
memory = "7d"
longest = "2d"
ipv6 = { widen = true, neighbours = 8, collateral = 52 }
[ban.ipv4]
widen = true
neighbours = 32
[detect.blocked]
enabled = false
[detect.rate]
packets = 2000
window = "2s"
established = true
response = "limit"
ban = "1h"
ignore = "@office"
[log]
rotate_bytes = "1MiB"
rotate_keep = 2
store_age = "7d"
store_bytes = 67108864
drops_per_second = 10
flows_per_second = 20
[limits]
flows = 2048
sources = 1024
stream_bytes = "1MiB"
fragment_bytes = "1MiB"
[[rule]]
name = "ssh"
action = "allow"
direction = ["in", "forward"]
protocol = ["tcp", 132]
from = ["@office", "198.51.100.7", "10.0.0.1-10.0.0.9"]
to = "any"
port = [22, "8000-8100"]
source_port = "1024-65535"
interface = "wg*"
log = true
expires = 2027-01-01T00:00:00Z
[[rule]]
action = "limit"
protocol = "tcp"
port = 80
rate = { connections = 20, per = "1m", burst = 40 }
[[rule]]
action = "ban"
payload = { offset = 3, bytes = "68 ?? 0? ff", min_len = 8, max_len = 100, every_packet = true }
[[rule]]
action = "ban"
for = "1h30m"
payload = { contains = "a\\x00\\n\\\"", ignore_case = true, stream = true, depth = 100 }
[[rule]]
action = "reject"
payload = { regex = '^GET "/[a-z]+\.php', ignore_case = true, stream = true }
[[rule]]
action = "deny"
payload = { contains_hex = "de ad BEEF" }
[[rule]]
action = "deny"
enabled = false
"#;
    let rules = r#"
mode enforce
on-failure closed
essentials off
default in reject
default out deny
default forward allow
set office 192.0.2.0/24 2001:db8::/48
feed bad 198.51.100.0/25, 198.51.100.128-198.51.100.255
protect 203.0.113.1 @office
protect discover off
option ban.duration 20m
option ban.capacity 500
option ban.escalation off
option ban.memory 7d
option ban.longest 2d
option ban.ipv6.widen on
option ban.ipv6.neighbours 8
option ban.ipv6.collateral 52
option ban.ipv4.widen on
option ban.ipv4.neighbours 32
detect blocked off
detect rate packets 2000 window 2s established on response limit ban 1h ignore @office
option log.rotate_bytes 1MiB
option log.rotate_keep 2
option log.store_age 7d
option log.store_bytes 67108864
option log.drops_per_second 10
option log.flows_per_second 20
option limits.flows 2048
option limits.sources 1024
option limits.stream_bytes 1MiB
option limits.fragment_bytes 1MiB
allow in,forward tcp,132 from @office, 198.51.100.7 ,10.0.0.1-10.0.0.9 to any port 22,8000-8100 source-port 1024-65535 on wg* log expires 2027-01-01T00:00:00Z name "ssh"   # a comment
limit tcp port 80 rate 20/minute burst 40
ban payload at 3 bytes "68 ?? 0? ff" min-len 8 max-len 100 every-packet
ban for 1h30m payload contains "a\x00\n\"" ignore-case depth 100 stream
reject payload regex '^GET "/[a-z]+\.php' ignore-case stream
deny hex "deadbeef"
deny disabled
"#;
    let json = r#"{
"mode": "enforce", "on_failure": "closed", "essentials": false,
"default": {"inbound": "reject", "outbound": "deny", "forward": "allow"},
"sets": {"office": {"addresses": ["192.0.2.0/24", "2001:db8::/48"]}},
"feeds": {"bad": ["198.51.100.0/24"]},
"protect": {"addresses": "203.0.113.1, @office", "discover": false},
"ban": {"duration": "20m", "capacity": 500, "escalation": false, "memory": "7d", "longest": "2d",
  "ipv6": {"widen": true, "neighbours": 8, "collateral": 52}, "ipv4": {"widen": true, "neighbours": 32}},
"detect": {"blocked": {"enabled": false},
  "rate": {"packets": 2000, "window": "2s", "established": true, "response": "limit", "ban": "60m", "ignore": ["@office"]}},
"log": {"rotate_bytes": 1048576, "rotate_keep": 2, "store_age": "1w", "store_bytes": "64MiB", "drops_per_second": 10, "flows_per_second": 20},
"limits": {"flows": 2048, "sources": 1024, "stream_bytes": "1MiB", "fragment_bytes": "1MiB"},
"rules": [
  {"name": "ssh", "action": "allow", "direction": "in,forward", "protocol": "tcp,sctp", "from": "@office,198.51.100.7,10.0.0.1-10.0.0.9",
   "port": "22, 8000-8100", "source_port": ["1024-65535"], "interface": "wg*", "log": true, "expires": "2027-01-01T02:00:00+02:00", "comment": "why"},
  {"action": "limit", "protocol": "tcp", "port": "80", "rate": {"connections": 20, "per": "minute", "burst": 40}},
  {"action": "ban", "payload": {"offset": 3, "bytes": "68??0?ff", "min_len": 8, "max_len": 100, "every_packet": true}},
  {"action": "ban", "for": "90m", "payload": {"contains": "a\\x00\\n\"", "ignore_case": true, "stream": true, "depth": 100}},
  {"action": "reject", "payload": {"regex": "^GET \"/[a-z]+\\.php", "ignore_case": true, "stream": true}},
  {"action": "deny", "payload": {"contains_hex": "de ad be ef"}},
  {"action": "deny", "enabled": false}
]}"#;
    let plan_of_toml = plan(toml, Format::Toml);
    insta::assert_debug_snapshot!(plan_of_toml);
    assert_eq!(plan_of_toml, plan(json, Format::Json));
    assert_eq!(plan_of_toml, plan(rules, Format::RulesTxt));
}
