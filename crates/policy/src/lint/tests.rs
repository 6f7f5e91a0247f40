#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot load its own table has failed"
)]

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::evaluate::rule_matches;
use crate::load::{Format, load_text};
use crate::plan::RuleId;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn plan(text: &str) -> Plan {
    let loaded = load_text("t.rules", text, Format::RulesTxt, Path::new(""));
    let policy = loaded.policy;
    policy
        .unwrap_or_else(|| panic!("{text}: {:?}", loaded.diagnostics))
        .into_plan()
}

/// Code and line of each finding, after checking each witness against the plain scan.
fn codes(text: &str) -> Vec<(&'static str, u32)> {
    let plan = plan(text);
    let found = lint(&plan, NOW);
    for finding in &found {
        check_witness(&plan, finding);
    }
    found
        .iter()
        .map(|finding| (finding.code, finding.position.line))
        .collect()
}

fn rule_at<'p>(plan: &'p Plan, finding: &Diagnostic) -> &'p Rule {
    let mut rules = plan.rules.iter();
    rules
        .find(|rule| rule.position == finding.position)
        .unwrap()
}

fn check_witness(plan: &Plan, finding: &Diagnostic) {
    let rule = rule_at(plan, finding);
    let Some(witness) = &finding.witness else {
        assert!(
            finding.code == "never-matches" && rule.expires.is_none(),
            "{finding} shows no packet"
        );
        return;
    };
    if finding.code == "never-matches" {
        assert!(
            rule_matches(plan, rule, witness, Timestamp::default()),
            "{finding}"
        );
        assert!(!rule_matches(plan, rule, witness, NOW), "{finding}");
        return;
    }
    assert!(rule_matches(plan, rule, witness, NOW), "{finding}");
    let first = first_match(plan, witness, NOW).unwrap();
    let decider = &plan.rules[first.0 as usize];
    match finding.code {
        "shadowed" | "contradictory" => {
            assert!(first < rule.id, "{finding}");
            // A content rule is replaced by the same condition alone, as it looks at answers too.
            let same = verdict::alike(decider, rule) && decider.content == rule.content;
            assert!(!same, "{finding}");
        }
        "redundant" | "bans-own-host" => assert!(first <= rule.id, "{finding}"),
        other => panic!("unknown code {other}"),
    }
}

#[test]
fn single_rules() {
    for (text, expected) in [
        // One earlier rule takes all.
        ("allow in tcp\ndeny in tcp port 22", vec![("shadowed", 2)]),
        // Of the two only the second would look at answers of flows that began the other way.
        (
            "allow in tcp,udp from any to any\nallow in tcp from any to any contains \"a\"",
            vec![("shadowed", 2)],
        ),
        (
            "allow in tcp port 1-100\ndeny in tcp port 22,80",
            vec![("shadowed", 2)],
        ),
        ("allow in tcp port 1-100\ndeny in tcp port 22,180", vec![]),
        (
            "allow in tcp from 192.0.2.0/24\ndeny in tcp from 192.0.2.7 port 22",
            vec![("shadowed", 2)],
        ),
        (
            "allow in tcp from 192.0.2.0/24\ndeny in tcp from 192.0.0.0/16 port 22",
            vec![],
        ),
        ("allow in\ndeny in,out", vec![]),
        ("allow\ndeny in,out", vec![("shadowed", 2)]),
        ("deny in tcp\ndeny in tcp port 22", vec![("redundant", 2)]),
        // Names: a wider one takes all of a narrower one, and never a rule without names.
        (
            "deny sni .a.example\nallow tcp sni b.a.example",
            vec![("shadowed", 2)],
        ),
        (
            "deny sni .a.example\ndeny sni *.a.example,a.example",
            vec![("redundant", 2)],
        ),
        ("deny sni a.example\nallow tcp", vec![]),
        ("deny sni *.a.example\nallow sni a.example", vec![]),
        ("deny sni .a.example\nallow http-host a.example", vec![]),
        (
            "allow in sni a.example\ndeny in sni a.example",
            vec![("contradictory", 2)],
        ),
        ("allow in tcp\ndeny in sni a.example", vec![("shadowed", 2)]),
        // A request with two hosts is let pass by neither, and may be denied by one.
        (
            "allow http-host .a.example\ndeny http-host a.example",
            vec![],
        ),
        (
            "deny http-host .a.example\nallow http-host a.example",
            vec![("shadowed", 2)],
        ),
        (
            "limit in tcp rate 5/s\nlimit in tcp rate 5/s",
            vec![("redundant", 2)],
        ),
        (
            "limit in tcp rate 5/s\nlimit in tcp rate 6/s",
            vec![("shadowed", 2)],
        ),
        (
            "deny in tcp\ndeny in tcp port 22 log",
            vec![("shadowed", 2)],
        ),
        (
            "deny in tcp log\ndeny in tcp port 22",
            vec![("redundant", 2)],
        ),
        (
            "allow in tcp port 22\ndeny in tcp port 22",
            vec![("contradictory", 2)],
        ),
        (
            "reject in tcp port 22\ndeny in tcp port 22",
            vec![("shadowed", 2)],
        ),
        (
            "ban in tcp port 22\ndeny in tcp port 22",
            vec![("shadowed", 2)],
        ),
        // The narrower first is how it should be.
        ("deny in tcp port 22\nallow in tcp", vec![]),
        // Interfaces.
        ("allow in tcp on eth0\ndeny in tcp port 22", vec![]),
        (
            "allow in tcp on eth0\ndeny in tcp port 22 on eth0",
            vec![("shadowed", 2)],
        ),
        (
            "allow in tcp on eth*\ndeny in tcp port 22 on eth0",
            vec![("shadowed", 2)],
        ),
        (
            "allow in tcp on eth*\ndeny in tcp port 22 on eth1*",
            vec![("shadowed", 2)],
        ),
        (
            "allow in tcp on eth1*\nreject in tcp port 22 on eth*",
            vec![],
        ),
        (
            "allow in tcp on wg0\nallow in tcp\ndeny in tcp port 22 on wg*",
            vec![("shadowed", 3)],
        ),
        // Contents.
        (
            "deny in tcp port 80 contains \"x\"\nallow in tcp port 80",
            vec![],
        ),
        (
            "allow in tcp port 80\ndeny in tcp port 80 contains \"x\"",
            vec![("shadowed", 2)],
        ),
        (
            "allow in tcp port 80\ndeny in tcp port 80 regex \"^GET /[a-f]+\\.(php|asp)$\" min-len 3",
            vec![("shadowed", 2)],
        ),
        (
            "allow in tcp contains \"x\"\ndeny in tcp port 80 contains \"x\"",
            vec![("shadowed", 2)],
        ),
        (
            "allow in tcp contains \"x\"\ndeny in tcp port 80 contains \"xx\"",
            vec![],
        ),
        // Expiry.
        (
            "allow in tcp expires 2020-01-01T00:00:00Z\ndeny in tcp port 22",
            vec![("never-matches", 1)],
        ),
        (
            "allow in tcp expires 2100-01-01T00:00:00Z\ndeny in tcp port 22",
            vec![],
        ),
        (
            "allow in tcp expires 2100-01-01T00:00:00Z\ndeny in tcp port 22 expires 2099-01-01T00:00:00Z",
            vec![("shadowed", 2)],
        ),
        // Families and protocols.
        ("allow in tcp from 0.0.0.0/0\ndeny in tcp port 22", vec![]),
        (
            "allow in tcp from 0.0.0.0/0\nallow in tcp from ::/0\ndeny in tcp port 22",
            vec![("shadowed", 3)],
        ),
        (
            "allow in tcp from 0.0.0.0/0\ndeny in tcp to 192.0.2.1 port 22",
            vec![("shadowed", 2)],
        ),
        (
            "allow in port 22\ndeny in tcp port 22",
            vec![("shadowed", 2)],
        ),
        ("allow in tcp,udp port 22\ndeny in port 22", vec![]),
        (
            "allow in tcp,udp,sctp,dccp,udplite port 22\ndeny in port 22",
            vec![("shadowed", 2)],
        ),
        // A fragment shows no ports.
        ("allow in tcp port 0-65535\ndeny in tcp", vec![]),
        // A set and its parts.
        (
            "set office 192.0.2.0/25 192.0.2.128/25\nallow in from @office\ndeny in from 192.0.2.0/24",
            vec![("shadowed", 3)],
        ),
        (
            "set office 192.0.2.0/25\nallow in from @office\ndeny in from @office,192.0.2.128",
            vec![],
        ),
    ] {
        assert_eq!(codes(text), expected, "{text}");
    }
}

#[test]
fn several_rules_together() {
    for (text, expected) in [
        (
            "allow in tcp port 0-100\nreject in tcp port 101-65535\ndeny in tcp port 50-200",
            vec![("shadowed", 3)],
        ),
        (
            "allow in tcp port 0-100\nreject in tcp port 102-65535\ndeny in tcp port 50-200",
            vec![],
        ),
        (
            "deny in tcp port 0-100\ndeny in tcp port 101-200\ndeny in tcp port 50-150",
            vec![("redundant", 3)],
        ),
        (
            "allow from 10.0.0.0/9 port 1-10\nallow from 10.128.0.0/9 port 1-5\nallow from 10.128.0.0/9 port 6-10\ndeny from 10.0.0.0/8 port 2-9",
            vec![("shadowed", 4)],
        ),
        (
            "allow from 10.0.0.0/9 port 1-10\nallow from 10.128.0.0/9 port 1-5\nallow from 10.128.0.0/9 port 7-10\ndeny from 10.0.0.0/8 port 2-9",
            vec![],
        ),
        (
            "allow in\nallow out\nallow forward\ndeny tcp",
            vec![("shadowed", 4)],
        ),
    ] {
        assert_eq!(codes(text), expected, "{text}");
    }
}

#[test]
fn rules_that_match_nothing() {
    let text = "feed none file nothing.txt\ndeny in from @none";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("nothing.txt"), "# empty\n").unwrap();
    std::fs::write(folder.path().join("six.txt"), "2001:db8::/32\n").unwrap();
    for (text, why) in [
        (text, "the set @none in from is empty"),
        (
            "set six file six.txt\ndeny in from @six to 192.0.2.1",
            "no address family in common",
        ),
    ] {
        let loaded = load_text("t.rules", text, Format::RulesTxt, folder.path());
        let found = lint(&loaded.policy.unwrap().into_plan(), NOW);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (found[0].code, found[0].position.line),
            ("never-matches", 2)
        );
        assert!(found[0].message.contains(why), "{}", found[0]);
    }
    assert_eq!(codes("ban out tcp port 25"), [("bans-own-host", 1)]);
}

#[test]
fn rules_that_repeat_the_default() {
    for (text, expected) in [
        (
            "default out allow\nallow out tcp port 443",
            vec![("redundant", 2)],
        ),
        (
            "default out allow\nallow out tcp port 443\ndeny out tcp",
            vec![],
        ),
        (
            "default out allow\nallow out tcp port 443\ndeny out udp",
            vec![("redundant", 2)],
        ),
        ("default out allow\nallow out tcp port 443 log", vec![]),
        ("default out deny\nallow out tcp port 443", vec![]),
        // Loopback is essential: denying telnet there is a difference.
        ("default in deny\ndeny in tcp port 23", vec![]),
        (
            "default in deny\nessentials off\ndeny in tcp port 23",
            vec![("redundant", 3)],
        ),
        (
            "default in deny\ndeny in tcp port 23 on eth0",
            vec![("redundant", 2)],
        ),
        ("default in deny\ndeny in udp port 68 on eth0", vec![]),
        ("default in deny\nessentials off\ndeny tcp port 23", vec![]),
        // A hit of a content rule is evidence.
        (
            "default in deny\nessentials off\ndeny in tcp port 23 contains \"x\"",
            vec![],
        ),
    ] {
        assert_eq!(codes(text), expected, "{text}");
    }
}

#[test]
fn messages_name_the_other_rule() {
    let plan = plan("allow in tcp name \"all\"\ndeny in tcp port 22 name \"ssh\"");
    let found = lint(&plan, NOW);
    assert_eq!(
        found[0].to_string(),
        "t.rules:2:1: warning[shadowed]: rule \"ssh\" never decides a packet: rule \"all\" (line 1) matches all of its packets \
         first; expected the narrower rule first; for example in tcp 203.0.113.7:40000 to 192.0.2.1:22"
    );
}

/// Small rules over few values, so that they meet often.
fn rule_line() -> impl Strategy<Value = String> {
    let actions = prop::sample::select(vec!["allow", "deny", "reject"]);
    let directions = prop::sample::select(vec!["", "in", "out", "in,forward"]);
    let protocols = prop::sample::select(vec!["", "tcp", "udp", "icmp", "tcp,udp"]);
    let addresses = prop::sample::select(vec![
        "any",
        "10.0.0.0/30",
        "10.0.0.0/31",
        "10.0.0.2",
        "10.0.0.1-10.0.0.3",
        "2001:db8::/127",
        "2001:db8::1",
        "10.0.0.3,2001:db8::1",
    ]);
    let ports = prop::sample::select(vec!["", "1", "1-3", "2-4", "1,3", "0-65535"]);
    let tails = prop::sample::select(vec![
        "",
        "",
        "",
        "on eth0",
        "on eth*",
        "log",
        "expires 2020-01-01T00:00:00Z",
        "expires 2090-01-01T00:00:00Z",
        "contains \"a\"",
        "regex \"a|b\"",
    ]);
    let parts = (
        actions,
        directions,
        protocols,
        addresses.clone(),
        addresses,
        ports,
        tails,
    );
    parts.prop_map(|(action, direction, protocol, from, to, port, tail)| {
        let port = match (protocol, port) {
            ("icmp", _) | (_, "") => String::new(),
            (_, port) => format!("port {port}"),
        };
        format!("{action} {direction} {protocol} from {from} to {to} {port} {tail}\n")
    })
}

/// Every packet that the rules above can tell apart.
fn packets() -> Vec<Witness> {
    let v4: Vec<std::net::IpAddr> = (0..6)
        .map(|n| std::net::Ipv4Addr::new(10, 0, 0, n).into())
        .collect();
    let v6: Vec<std::net::IpAddr> = (0..3)
        .map(|n| std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n).into())
        .collect();
    let mut all = Vec::new();
    for addresses in [&v4, &v6] {
        for (source, destination) in addresses
            .iter()
            .flat_map(|s| addresses.iter().map(move |d| (*s, *d)))
        {
            for direction in Direction::ALL {
                for (protocol, ports) in
                    [(6, 0..6_u16), (17, 0..6), (1, 0..0), (6, 0..0), (132, 1..3)]
                {
                    let ports: Vec<Option<u16>> = if ports.is_empty() {
                        vec![None]
                    } else {
                        ports.map(Some).collect()
                    };
                    for port in ports {
                        for (interface, payload) in [
                            (None, ""),
                            (Some("eth0"), "a"),
                            (Some("eth1"), "b"),
                            (Some("wg0"), "c"),
                        ] {
                            all.push(Witness {
                                direction,
                                protocol,
                                source,
                                destination,
                                source_port: port.map(|_| 9),
                                destination_port: port,
                                interface: interface.map(str::to_owned),
                                payload: payload.as_bytes().to_vec(),
                                asks: None,
                            });
                        }
                    }
                }
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What is said of a rule is true of every packet; and a rule that one other takes whole is always found.
    #[test]
    fn findings_are_true(lines in prop::collection::vec(rule_line(), 1..9)) {
        let text: String = lines.concat();
        let loaded = load_text("t.rules", &text, Format::RulesTxt, Path::new(""));
        // Families that never meet are errors.
        let Some(policy) = loaded.policy else { return Ok(()); };
        let plan = policy.into_plan();
        let found = lint(&plan, NOW);
        for finding in &found {
            check_witness(&plan, finding);
        }
        let with_code = |rule: &Rule, codes: &[&str]| {
            found.iter().any(|f| f.position == rule.position && codes.contains(&f.code))
        };
        let mut reached = vec![false; plan.rules.len()];
        for packet in packets() {
            if let Some(RuleId(first)) = first_match(&plan, &packet, NOW) {
                reached[first as usize] = true;
            }
        }
        for (rule, reached) in plan.rules.iter().zip(reached) {
            prop_assert!(
                !(reached && with_code(rule, &["shadowed", "contradictory", "never-matches"])),
                "{} is reached in\n{}", rule.name, text
            );
        }
        for (place, rule) in plan.rules.iter().enumerate() {
            let taken = plan.rules[..place].iter().any(|earlier| {
                same_packets(earlier, rule) && earlier.expires.is_none()
            });
            prop_assert!(
                !taken || with_code(rule, &["shadowed", "contradictory", "redundant", "never-matches"]),
                "{} repeats an earlier rule in\n{}", rule.name, text
            );
        }
    }

    /// Taking out what is redundant changes no verdict.
    #[test]
    fn redundant_rules_can_go(lines in prop::collection::vec(rule_line(), 1..9)) {
        let text = format!("default in allow\ndefault out deny\ndefault forward deny\nessentials off\n{}", lines.concat());
        let loaded = load_text("t.rules", &text, Format::RulesTxt, Path::new(""));
        let Some(policy) = loaded.policy else { return Ok(()); };
        let plan = policy.into_plan();
        let verdict = |plan: &Plan, packet: &Witness| match first_match(plan, packet, NOW) {
            Some(id) => format!("{:?}", plan.rules[id.0 as usize].action),
            None => format!("{:?}", plan.default.of(packet.direction)),
        };
        for finding in lint(&plan, NOW).iter().filter(|f| f.code == "redundant") {
            let mut without = plan.clone();
            without.rules.retain(|rule| rule.position != finding.position);
            for (id, rule) in without.rules.iter_mut().enumerate() {
                rule.id = RuleId(id as u32);
            }
            for packet in packets() {
                prop_assert_eq!(verdict(&plan, &packet), verdict(&without, &packet), "{} in\n{}", finding, text);
            }
        }
    }
}

/// Ten thousand rules of the kinds that policies are made of, within the time that a person waits.
#[test]
fn ten_thousand_rules_are_fast() {
    let mut text = String::new();
    for n in 0..2_500_u32 {
        let (a, b) = (n / 250, n % 250);
        text.push_str(&format!("deny in from 10.{a}.{b}.0/24\n"));
        text.push_str(&format!("allow in tcp from 172.16.{a}.{b} port 22\n"));
        text.push_str(&format!(
            "allow in tcp to 192.0.2.{} port {}\n",
            n % 200,
            1_000 + n
        ));
        text.push_str(&format!(
            "deny forward udp from 2001:db8:{n:x}::/48 to any port 53\n"
        ));
    }
    text.push_str(
        "allow in tcp port 22\ndeny in from 10.3.7.9\ndeny in tcp from 10.0.0.0/16 port 22\n",
    );
    let plan = plan(&text);
    assert_eq!(plan.rules.len(), 10_003);
    let start = std::time::Instant::now();
    let found = lint(&plan, NOW);
    let took = start.elapsed();
    eprintln!("10,003 rules in {took:?}");
    let codes: Vec<_> = found.iter().map(|f| (f.code, f.position.line)).collect();
    assert_eq!(codes, [("redundant", 10_002), ("shadowed", 10_003)]);
    assert!(took.as_secs() < 10, "{took:?}");
}
