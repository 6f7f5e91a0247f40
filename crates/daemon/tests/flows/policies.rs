//! Generated policies over the same hosts and ports as the conversations, as people write them.

use std::fmt::Write as _;
use std::path::Path;

use policy::{Format, Plan};

use crate::conversation::{GROUPS, PORTS};
use crate::random::Random;

const DETECTORS: [&str; 8] = [
    "blocked",
    "rate",
    "payload",
    "scan",
    "syn_flood",
    "icmp_flood",
    "udp_flood",
    "brute",
];

/// A policy in `rules.txt`.
pub(crate) fn generate(random: &mut Random) -> String {
    let default = |random: &mut Random| random.pick(&["allow", "deny", "deny", "reject"]);
    let mut text = "mode enforce\nprotect discover off\n".to_owned();
    for detector in DETECTORS {
        writeln!(text, "detect {detector} off").unwrap();
    }
    for (direction, action) in [
        ("in", default(random)),
        ("out", random.pick(&["allow", "allow", "deny", "reject"])),
        ("forward", default(random)),
    ] {
        writeln!(text, "default {direction} {action}").unwrap();
    }
    if random.once_in(3) {
        writeln!(text, "feed bad {}", prefix(random)).unwrap();
    }
    if random.once_in(4) {
        writeln!(text, "protect {}", prefix(random)).unwrap();
    }
    if random.once_in(4) {
        text.push_str("essentials off\n");
    }
    for _ in 0..random.pick(&[0, 1, 2, 4, 8, 20]) {
        rule(&mut text, random);
    }
    text
}

/// The same with content rules among the others, and with names that are not resolved.
pub(crate) fn looking_inside(random: &mut Random) -> String {
    let plain = "option ban.ipv6.widen false\n".to_owned() + &generate(random);
    let mut lines: Vec<String> = plain.lines().map(str::to_owned).collect();
    let settings = lines.iter().take_while(|line| !is_rule(line)).count();
    for _ in 0..1 + random.below(4) {
        let behind = random.below((lines.len() - settings) as u32 + 1) as usize;
        let place = if random.once_in(2) { 0 } else { behind };
        lines.insert(settings + place, content(random));
    }
    let looks = |line: &String| line.contains("payload") && is_rule(line);
    if let Some(first) = lines.iter().position(looks) {
        let behind = lines[first..].iter_mut();
        behind.for_each(|line| *line = unreachable(line));
    }
    if random.once_in(2) {
        lines.push("deny dns ads.example *.below.example".to_owned());
    }
    lines.join("\n") + "\n"
}

/// A `limit` rule behind a content rule with a rate that nobody reaches: user space and the kernel count apart there. What such a rule
/// takes by its content user space alone counts.
fn unreachable(line: &str) -> String {
    match line.split_once(" rate ") {
        Some((before, _)) if !line.contains("payload") => {
            let unit = ["connections", "packets", "bytes"]
                .into_iter()
                .find(|unit| line.contains(unit));
            let unit = unit.unwrap();
            format!("{before} rate 1000000000 {unit}/second burst 4000000000 ")
        }
        _ => line.to_owned(),
    }
}

fn is_rule(line: &str) -> bool {
    ["allow", "deny", "reject", "ban", "limit"]
        .iter()
        .any(|action| line.starts_with(action))
}

fn content(random: &mut Random) -> String {
    let action = random.pick(&["deny", "deny", "reject", "allow", "ban", "limit"]);
    let direction = random.pick(&["", "in ", "out ", "forward "]);
    let protocol = random.pick(&["tcp ", "tcp ", "udp "]);
    let mut text = format!("{action} {direction}{protocol}");
    if random.once_in(2) {
        let key = if random.once_in(3) {
            "source-port"
        } else {
            "port"
        };
        write!(text, "{key} {} ", random.pick(&PORTS)).unwrap();
    }
    if random.once_in(5) {
        write!(text, "on {} ", random.pick(&["f0", "g0"])).unwrap();
    }
    // What is said is the alphabet, over and over, each segment from its begin: some patterns lie across two.
    let pattern = random.pick(&[
        "contains \"abc\"",
        "contains \"jab\"",
        "contains \"XYZ\" ignore-case",
        "hex \"61 61\"",
        "regex \"j+a\"",
        "regex \"^a.c\"",
        "at 4 bytes \"65 ?6\"",
        "at 101 bytes \"6?\"",
        "",
    ]);
    if pattern.is_empty() {
        let bounds = random.pick(&["min-len 50", "max-len 20", "min-len 5 max-len 120"]);
        write!(text, "payload {bounds} ").unwrap();
    } else {
        write!(text, "payload {pattern} ").unwrap();
        if protocol == "tcp " && random.once_in(2) {
            text.push_str(random.pick(&["stream ", "depth 150 ", "depth 4000 "]));
        }
    }
    if random.once_in(3) {
        text.push_str("every-packet ");
    }
    if action == "limit" {
        rate(&mut text, random);
    }
    text
}

fn rule(text: &mut String, random: &mut Random) {
    let action = random.pick(&[
        "allow", "allow", "allow", "deny", "reject", "limit", "limit", "ban",
    ]);
    let direction = random.pick(&["", "in ", "in ", "out ", "forward "]);
    let protocol = random.pick(&["", "tcp ", "tcp ", "tcp ", "udp ", "icmp ", "icmpv6 "]);
    write!(text, "{action} {direction}{protocol}").unwrap();
    if !protocol.starts_with("icmp") && random.once_in(2) {
        let key = if random.once_in(5) {
            "source-port"
        } else {
            "port"
        };
        write!(text, "{key} {} ", random.pick(&PORTS)).unwrap();
    }
    if protocol.is_empty() || !protocol.starts_with("icmp") {
        match random.below(5) {
            0 => write!(text, "from {} ", prefix(random)).unwrap(),
            1 => write!(text, "to {} ", prefix(random)).unwrap(),
            _ => {}
        }
    }
    if random.once_in(6) {
        write!(text, "on {} ", random.pick(&["f0", "g0", "f*"])).unwrap();
    }
    if action == "limit" {
        rate(text, random);
    }
    text.push('\n');
}

/// So slow that nothing comes back while a test runs, however busy the machine is.
fn rate(text: &mut String, random: &mut Random) {
    let (unit, burst) = random.pick(&[
        ("connections", 2),
        ("connections", 5),
        ("packets", 3),
        ("packets", 12),
        ("bytes", 300),
        ("bytes", 3_000),
    ]);
    write!(text, "rate 1 {unit}/day burst {burst} ").unwrap();
}

fn prefix(random: &mut Random) -> String {
    let group = random.below(GROUPS);
    match random.below(6) {
        0 => format!("10.{group}.0.0/17"),
        1 => format!("10.{group}.0.0/16"),
        2 => format!("fd00:{group}::/32"),
        3 => format!("10.{group}.0.0/16, fd00:{group}::/32"),
        4 => "10.210.0.0/16, fd00:210::/32".to_owned(),
        _ => format!("fd00:{group}::/49"),
    }
}

/// The plan of a text.
pub(crate) fn plan(text: &str) -> Plan {
    let loaded = policy::load_text("policy", text, Format::RulesTxt, Path::new("/"));
    match loaded.policy {
        Some(policy) => policy.into_plan(),
        None => panic!("{:?}\n{text}", loaded.diagnostics),
    }
}
