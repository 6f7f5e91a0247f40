//! `check`, `compile` and `test` on policy files, without a daemon.

use std::path::PathBuf;

use serde_json::Value;

use crate::common::{Called, call, command, line, nobody, portcullis, repository};

/// Every policy among the examples.
fn examples() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(repository("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|ending| ending == "toml" || ending == "json")
                || path
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().ends_with("rules.txt"))
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "there are no examples");
    found
}

struct Policy {
    directory: tempfile::TempDir,
}

impl Policy {
    fn new(text: &str) -> Self {
        let policy = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        std::fs::write(policy.path(), text).unwrap();
        policy
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("policy.toml")
    }

    fn call(&self, verb: &str, rest: &str) -> Called {
        let path = self.path();
        let words: Vec<&str> = rest.split_whitespace().collect();
        match verb {
            "test" => portcullis(
                [
                    &["test", "--config", path.to_str().unwrap()],
                    words.as_slice(),
                ]
                .concat(),
            ),
            _ => portcullis([&[verb, path.to_str().unwrap()], words.as_slice()].concat()),
        }
    }
}

const WEB: &str = r#"
mode = "enforce"

[default]
inbound = "deny"
outbound = "allow"
forward = "reject"

[[rule]]
name = "no bad bytes"
action = "deny"
direction = "in"
protocol = "tcp"
port = 4000
payload = { offset = 0, bytes = "68 ?? 00", min_len = 3 }

[[rule]]
name = "game"
action = "allow"
direction = "in"
protocol = "tcp"
port = 4000

[[rule]]
name = "ssh from the office"
action = "allow"
direction = "in"
protocol = "tcp"
from = ["192.0.2.0/24", "2001:db8::/48"]
port = "22"
interface = "eth0"
"#;

#[test]
fn names_are_judged_by_a_policy_file_and_its_lists() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    std::fs::write(
        folder.path().join("ads.txt"),
        "0.0.0.0 ads.example\n||track.example^\n@@||ok.track.example^\n",
    )
    .unwrap();
    std::fs::write(
        &policy,
        "[dns]\nlists = [\"ads.txt\"]\nanswer = \"refuse\"\n",
    )
    .unwrap();
    let test = |names: &[&str]| {
        let mut command = command();
        command
            .args(["dns", "test", "--json", "--config"])
            .arg(&policy)
            .args(names);
        call(command, b"")
    };
    for (name, code, reason) in [
        ("ADS.example.", 6, "dns-blocked"),
        ("x.ads.example", 0, "dns-not-listed"),
        ("a.b.track.example", 6, "dns-blocked"),
        ("ok.track.example", 0, "dns-allowed"),
        ("b\u{fc}cher.example", 0, "dns-not-listed"),
    ] {
        let called = test(&[name]);
        assert_eq!(
            called.code, code,
            "{name}: {}{}",
            called.stdout, called.stderr
        );
        assert_eq!(called.json()["reason"], reason, "{name}");
    }
    let blocked = test(&["ads.example"]).json();
    assert_eq!(blocked["answer"], "refuse");
    assert_eq!(blocked["entry"], "ads.example");
    assert!(
        blocked["source"].as_str().unwrap().ends_with("ads.txt"),
        "{blocked}"
    );
    for bad in ["*.ads.example", "192.0.2.1", "a..b"] {
        let called = test(&[bad]);
        assert_eq!(called.code, 2, "{bad}: {}", called.stdout);
        assert!(
            called.stderr.contains("write one such as"),
            "{}",
            called.stderr
        );
    }
}

#[test]
fn examples_are_clean_and_compile() {
    for file in examples() {
        let file = file.to_str().unwrap();
        let checked = portcullis(["check", file]);
        assert!(
            [0, 6].contains(&checked.code),
            "{file}: {}{}",
            checked.stdout,
            checked.stderr
        );
        let script = portcullis(["compile", file]).expect(0).stdout;
        assert!(script.contains("table inet portcullis"), "{file}: {script}");
        assert!(!script.contains("flush ruleset"), "{file}");
        let findings = portcullis(["check", file, "--json"]).json();
        assert!(findings.is_array(), "{file}: {findings}");
    }
}

#[test]
fn a_clean_policy_is_clean() {
    let policy = Policy::new(WEB);
    let called = policy.call("check", "").expect(0);
    assert_eq!(called.stderr, "");
    assert_eq!(
        policy.call("check", "--json").expect(0).json(),
        Value::Array(Vec::new())
    );
}

#[test]
fn every_mistake_is_reported_at_once() {
    let policy = Policy::new(
        "mode = \"obsreve\"\n\n[[rule]]\naction = \"alow\"\nprotocol = \"tcp\"\nport = 99999\n",
    );
    let called = policy.call("check", "").expect(3);
    let path = policy.path();
    let path = path.to_str().unwrap();
    for at in [":1:", ":4:", ":6:"] {
        assert!(
            called.stdout.contains(&format!("{path}{at}")),
            "{at} is not in {}",
            called.stdout
        );
    }
    for word in ["observe", "allow"] {
        assert!(
            called.stdout.contains(word),
            "{word} is not in {}",
            called.stdout
        );
    }
    let findings = policy.call("check", "--json").expect(3).json();
    let findings = findings.as_array().unwrap();
    assert!(findings.len() >= 3, "{findings:?}");
    for finding in findings {
        for field in [
            "severity",
            "code",
            "message",
            "file",
            "line",
            "column",
            "suggestion",
            "witness",
        ] {
            assert!(finding.get(field).is_some(), "{field} is not in {finding}");
        }
    }
    for verb in ["compile", "test"] {
        let called = policy.call(
            verb,
            if verb == "test" {
                "in tcp 1.2.3.4:1 to 1.2.3.5:2"
            } else {
                ""
            },
        );
        let called = called.expect(3);
        assert_eq!(called.stdout, "", "{verb}");
        assert!(
            called.stderr.contains(&format!("{path}:1:")),
            "{verb}: {}",
            called.stderr
        );
    }
}

#[test]
fn lint_is_found_and_its_witness_is_a_packet() {
    let policy = Policy::new(
        r#"
[[rule]]
name = "all of the office"
action = "allow"
direction = "in"
protocol = "tcp"
from = "192.0.2.0/24"

[[rule]]
name = "never reached"
action = "deny"
direction = "in"
protocol = "tcp"
from = "192.0.2.7"
port = 22
"#,
    );
    let called = policy.call("check", "").expect(6);
    assert!(called.stdout.contains("never reached"), "{}", called.stdout);
    let findings = policy.call("check", "--json").expect(6).json();
    let finding = &findings[0];
    assert_eq!(finding["severity"], "warning");
    // What it shows is what `test` takes.
    let witness = finding["witness"]
        .as_str()
        .unwrap_or_else(|| panic!("{finding}"));
    let judged = policy
        .call("test", &format!("--json {witness}"))
        .expect(0)
        .json();
    assert_eq!(judged["rule"], "all of the office");
}

#[test]
fn each_packet_gets_its_verdict_and_reason() {
    let policy = Policy::new(WEB);
    for (packet, code, verdict, reason, rule, stage) in [
        (
            "in tcp 192.0.2.7:40000 to 198.51.100.1:22 on eth0",
            0,
            "allow",
            "rule",
            Some("ssh from the office"),
            "rule",
        ),
        (
            "in tcp [2001:db8::7]:40000 to [2001:db8::1]:22 on eth0",
            0,
            "allow",
            "rule",
            Some("ssh from the office"),
            "rule",
        ),
        (
            "in tcp 192.0.2.7:40000 to 198.51.100.1:22 on eth1",
            6,
            "drop",
            "default-in",
            None,
            "default",
        ),
        (
            "in tcp 203.0.113.7:40000 to 198.51.100.1:22 on eth0",
            6,
            "drop",
            "default-in",
            None,
            "default",
        ),
        (
            "in tcp 203.0.113.7:40000 to 198.51.100.1:4000",
            0,
            "allow",
            "rule",
            Some("game"),
            "rule",
        ),
        (
            "in tcp 203.0.113.7:40000 to 198.51.100.1:4000 payload 68 01 00",
            6,
            "drop",
            "rule",
            Some("no bad bytes"),
            "rule",
        ),
        (
            "in tcp 203.0.113.7:40000 to 198.51.100.1:4000 payload 68 01 01",
            0,
            "allow",
            "rule",
            Some("game"),
            "rule",
        ),
        (
            "out udp 198.51.100.1:5353 to 203.0.113.7:53",
            0,
            "allow",
            "default-out",
            None,
            "default",
        ),
        (
            "forward tcp 192.0.2.7:1 to 203.0.113.7:443",
            6,
            "reject",
            "default-forward",
            None,
            "default",
        ),
        (
            "in icmp 203.0.113.7 to 198.51.100.1",
            6,
            "drop",
            "default-in",
            None,
            "default",
        ),
    ] {
        let judged = policy
            .call("test", &format!("--json {packet}"))
            .expect(code)
            .json();
        assert_eq!(judged["verdict"], verdict, "{packet}: {judged}");
        assert_eq!(judged["reason"], reason, "{packet}: {judged}");
        assert_eq!(judged["rule"].as_str(), rule, "{packet}: {judged}");
        assert_eq!(judged["stage"], stage, "{packet}: {judged}");
        assert_eq!(
            judged["line"].is_u64(),
            rule.is_some(),
            "{packet}: {judged}"
        );
        assert_eq!(
            judged["file"].is_string(),
            rule.is_some(),
            "{packet}: {judged}"
        );
        let told = policy.call("test", packet).expect(code).stdout;
        assert!(
            told.contains(verdict) && rule.is_none_or(|rule| told.contains(rule)),
            "{told}"
        );
    }
}

#[test]
fn payload_and_interface_may_be_flags() {
    let policy = Policy::new(WEB);
    let bad = [
        "test",
        "--config",
        policy.path().to_str().unwrap(),
        "--json",
        "--payload",
        "68 01 00",
    ]
    .map(String::from)
    .to_vec();
    let packet = "in tcp 203.0.113.7:40000 to 198.51.100.1:4000"
        .split(' ')
        .map(String::from);
    portcullis(bad.into_iter().chain(packet)).expect(6);
    policy
        .call(
            "test",
            "--interface eth0 in tcp 192.0.2.7:40000 to 198.51.100.1:22",
        )
        .expect(0);
    policy
        .call(
            "test",
            "in tcp 192.0.2.7:40000 to 198.51.100.1:22 --interface eth1",
        )
        .expect(6);
}

#[test]
fn packets_come_from_a_file() {
    let policy = Policy::new(WEB);
    let file = policy.directory.path().join("packets.txt");
    std::fs::write(
        &file,
        "# what must pass\nin tcp 192.0.2.7:40000 to 198.51.100.1:22 on eth0\n\nout udp 198.51.100.1:1 to 203.0.113.7:53\n",
    )
    .unwrap();
    let called = policy
        .call("test", &format!("--json --file {}", file.display()))
        .expect(0);
    assert_eq!(called.stdout.lines().count(), 2, "{}", called.stdout);
    std::fs::write(
        &file,
        "out udp 198.51.100.1:1 to 203.0.113.7:53\nin tcp 1.2.3.4:1 to 1.2.3.5:23\n",
    )
    .unwrap();
    policy
        .call("test", &format!("--file {}", file.display()))
        .expect(6);
    // A line that is no packet does not keep the others from being judged.
    std::fs::write(
        &file,
        "in tcp oops\nout udp 198.51.100.1:1 to 203.0.113.7:53\nsideways\nin tcp 1.2.3.4:1 to 1.2.3.5:23\n",
    )
    .unwrap();
    for form in ["", "--json"] {
        let called = policy
            .call("test", &format!("{form} --file {}", file.display()))
            .expect(2);
        assert_eq!(called.stdout.lines().count(), 2, "{}", called.stdout);
        let told: Vec<&str> = called.stderr.lines().collect();
        assert!(
            told.len() == 2
                && told[0].contains("packets.txt:1: ")
                && told[1].contains("packets.txt:3: "),
            "{}",
            called.stderr
        );
    }
    std::fs::write(&file, "in tcp oops\n").unwrap();
    let called = policy
        .call("test", &format!("--file {}", file.display()))
        .expect(2)
        .one_sentence("packets.txt:1");
    assert_eq!(called.stdout, "");
}

#[test]
fn a_limit_is_no_plain_allow() {
    let policy = Policy::new(
        "[default]\ninbound = \"deny\"\n\
         [[rule]]\nname = \"pings\"\naction = \"limit\"\nprotocol = \"icmp\"\nrate = { packets = 5, per = \"1s\" }\n\
         [[rule]]\nname = \"web\"\naction = \"allow\"\nprotocol = \"tcp\"\nport = 80\n",
    );
    for (packet, told) in [
        (
            "in icmp 192.0.2.7 to 198.51.100.1",
            "allow while within its rate: in ",
        ),
        ("in tcp 192.0.2.7:1 to 198.51.100.1:80", "allow: in "),
    ] {
        let called = policy.call("test", packet).expect(0);
        assert!(called.stdout.starts_with(told), "{}", called.stdout);
    }
}

#[test]
fn a_daemon_that_was_named_must_answer() {
    let packet = "in icmp 192.0.2.7 to 198.51.100.1";
    let socket = nobody();
    let called = line(&format!("test --socket {socket} {packet}"))
        .expect(4)
        .one_sentence(&socket);
    assert_eq!(called.stdout, "");
    let mut named = command();
    named
        .env("PORTCULLIS_SOCKET", &socket)
        .arg("test")
        .args(packet.split(' '));
    call(named, b"").expect(4).one_sentence(&socket);
    // A policy asks no daemon.
    Policy::new(WEB)
        .call("test", &format!("--socket {socket} {packet}"))
        .expect(6);
}

#[test]
fn without_a_daemon_the_policy_that_judges_is_named() {
    if std::os::unix::net::UnixStream::connect("/run/portcullis/api.sock").is_ok() {
        eprintln!("SKIPPED: a daemon runs on this host");
        return;
    }
    let usual = std::path::Path::new("/etc/portcullis/policy.toml");
    let called = line("test in icmp 192.0.2.7 to 198.51.100.1");
    if usual.exists() {
        assert!(
            called
                .stderr
                .contains("judged by /etc/portcullis/policy.toml"),
            "{called:?}"
        );
    } else {
        called.expect(4).one_sentence("--config FILE");
    }
}

#[test]
fn a_missing_policy_is_named() {
    for words in [
        "check /nonexistent.toml",
        "compile /nonexistent.toml",
        "test --config /nonexistent.toml in icmp 1.2.3.4 to 1.2.3.5",
    ] {
        let called = line(words);
        assert!(called.code == 3 || called.code == 1, "{words}: {called:?}");
        assert!(
            format!("{}{}", called.stdout, called.stderr).contains("/nonexistent.toml"),
            "{words}: {called:?}"
        );
    }
}
