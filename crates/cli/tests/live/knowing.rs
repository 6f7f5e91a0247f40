//! Why an address is dropped, as its user asks: after a scan, when it is in a feed, when a ban was refused; and the record by kind.

use std::time::Duration;

use crate::firewall::{Firewall, eventually};
use crate::network::{ATTACKER, CLIENT, SERVER, SERVER_FOR_ATTACKER, connect, topology};

const POLICY: &str = r#"
mode = "enforce"
[default]
inbound = "deny"
outbound = "allow"
[sets]
office = ["10.77.1.0/24"]
[feeds]
bad = { file = "bad.netset" }
[[rule]]
name = "web for the office"
action = "allow"
direction = "in"
protocol = "tcp"
from = "@office"
port = 8080
[dns]
block = ["ads.example"]
"#;

fn firewall(netns: &lab::Netns) -> Firewall<'_> {
    // The list has to lie beside the policy before the daemon reads it.
    let without = POLICY.replace(
        "bad = { file = \"bad.netset\" }",
        "bad = [\"198.51.100.0/24\"]",
    );
    let firewall = Firewall::start(netns, &without);
    let list = firewall.policy().with_file_name("bad.netset");
    std::fs::write(list, "198.51.100.0/24\n").unwrap();
    firewall.write(POLICY);
    firewall.ask("reload");
    firewall
}

/// The first lines that `why` says.
#[track_caller]
fn why(firewall: &Firewall<'_>, subject: &str) -> String {
    firewall.ask(&format!("why {subject}")).stdout
}

#[test]
fn what_becomes_of_an_address_now_is_said_first() {
    let Some(lab) = topology() else { return };
    let firewall = firewall(&lab.server);
    firewall.ask("ban 192.0.2.7 --reason because");
    firewall.ask("ban 203.0.113.9 --for 1m");
    firewall.ask("unban 203.0.113.9");
    firewall.ask("ban 203.0.113.9 --for 1m");
    for (subject, first) in [
        (
            "198.51.100.7",
            "Dropped now: 198.51.100.7 is in the feed @bad (",
        ),
        (
            "198.51.0.0/16",
            "Dropped now, in part: a part of 198.51.0.0/16 is in the feed @bad (",
        ),
        ("192.0.2.7", "Dropped now: 192.0.2.7 is banned since "),
        (SERVER, "10.77.1.1 is protected (an address of this host): "),
        (
            CLIENT,
            "10.77.1.2 is neither banned nor in a feed: the rules decide, and it is named in \"web for the office\" (allow, ",
        ),
        (
            "203.0.113.1",
            "203.0.113.1 is neither banned nor in a feed: the rules decide about it as about anybody.",
        ),
    ] {
        let story = why(&firewall, subject);
        assert!(story.starts_with(first), "{subject}: {story}");
    }
    assert!(why(&firewall, "203.0.113.9").contains("for the 2nd time"));

    // What drops it is named where somebody tries to lift it, and what is said works.
    let refused = firewall.call(&["unban", "198.51.100.7"]).expect(1);
    let refused = refused.one_sentence("`portcullis allow 198.51.100.7` lets it past");
    assert!(
        refused.stderr.contains("the feed @bad ("),
        "{}",
        refused.stderr
    );
    firewall.ask("allow 198.51.100.7");
    let story = why(&firewall, "198.51.100.7");
    assert!(
        story.starts_with("198.51.100.7 is protected (on the runtime allow list")
            && story.contains("is in the feed @bad"),
        "{story}"
    );

    // Own addresses are named as such, and a refusal of everything is not about everybody.
    let own = firewall.call(&["ban", SERVER]).expect(1);
    own.one_sentence("10.77.1.1 is protected (an address of this host)");
    firewall.call(&["ban", "0.0.0.0/0"]).expect(1);
    firewall
        .call(&["unban", "203.0.113.1"])
        .expect(1)
        .one_sentence("203.0.113.1 is not banned");
    let told = firewall.ask("events --kind ban-refused").stdout;
    assert_eq!(told.lines().count(), 2, "{told}");
    for subject in ["203.0.113.1", CLIENT] {
        assert!(!why(&firewall, subject).contains("0.0.0.0/0"), "{subject}");
    }
    assert!(why(&firewall, SERVER).contains("BAN-REFUSED"));

    let status = firewall.ask("status").stdout;
    for part in [
        "scan (ban)",
        "@bad: 1 range of ",
        " old)",
        "1 entry blocked",
        "1 rule, 2 sets",
    ] {
        assert!(status.contains(part), "{part}: {status}");
    }
    assert!(!status.contains("found it full"), "{status}");
}

#[test]
fn a_scan_is_told_by_what_led_to_its_ban() {
    let Some(lab) = topology() else { return };
    let firewall = firewall(&lab.server);
    for port in 3000..3012 {
        assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, port).is_silent());
    }
    eventually("it is banned", Duration::from_secs(10), || {
        firewall.json("bans") != serde_json::json!([])
    });
    let packets = ["tcp 10.77.2.2:", " to 10.77.2.1:3000", "; the last: "];
    let story = why(&firewall, ATTACKER);
    for part in packets
        .iter()
        .chain(&[" BAN ", " ALERT ", "more like it until", "to ports 3001"])
    {
        assert!(story.contains(part), "{part}: {story}");
    }
    assert!(
        !story.contains(": 10.77.2.2 is banned\n"),
        "what the ban drops buries it: {story}"
    );

    // The number of the ban and of a drop: the event is the last line of what came before it.
    for kind in ["ban", "drop"] {
        let event = firewall
            .ask(&format!("events --kind {kind} --address {ATTACKER} -n 1"))
            .stdout;
        let number = event.split_whitespace().next().unwrap();
        let story = why(&firewall, number);
        let lines: Vec<&str> = story.lines().filter(|line| line.starts_with('#')).collect();
        assert!(
            lines.last().is_some_and(|last| last.starts_with(number)),
            "{story}"
        );
        assert!(
            story.contains("`portcullis why 10.77.2.2` tells everything"),
            "{story}"
        );
        assert_eq!(kind == "ban", story.contains(packets[2]), "{story}");
    }
    let stats = firewall.ask("stats").stdout;
    assert!(
        stats.contains("denied services") && stats.lines().count() < 30,
        "{stats}"
    );
}

#[test]
fn kinds_and_rules_that_do_not_exist_are_said_to() {
    let Some(lab) = topology() else { return };
    let firewall = firewall(&lab.server);
    let socket = firewall.policy().with_file_name("api.sock");
    let nonsense = firewall.call(&["events", "--kind", "nonsense"]).expect(2);
    assert!(
        nonsense.stderr.contains("ban-refused") && nonsense.stderr.contains("dns"),
        "{}",
        nonsense.stderr
    );
    firewall
        .call(&["events", "--kind", "drop,dns-blocked,BAN"])
        .expect(0);
    let unknown = firewall
        .call(&["events", "--rule", "web for the ofice"])
        .expect(1);
    unknown.one_sentence("did you mean \"web for the office\"?");
    firewall
        .call(&["events", "--rule", "web for the office"])
        .expect(0);
    let answer = firewall.request("GET", "events?kind=nonsense", "");
    assert!(answer.contains(" 400 "), "{answer} at {}", socket.display());
}

/// A ban of a part, and a feed that holds more: what is said of one address is not said of all.
#[test]
fn a_ban_of_a_part_does_not_hide_what_a_feed_drops() {
    let Some(lab) = topology() else { return };
    let firewall = firewall(&lab.server);
    firewall.ask("ban 198.51.100.0/25");
    let story = why(&firewall, "198.51.100.7");
    assert!(
        story.starts_with("Dropped now: 198.51.100.0/25 is banned")
            && story.contains("198.51.100.7 is in the feed @bad (")
            && story.contains(" too, which drops it when the ban ends."),
        "{story}"
    );
    let story = why(&firewall, "198.51.0.0/16");
    assert!(
        story.starts_with("Dropped now, in part: 198.51.100.0/25 is banned")
            && story.contains("\nA part of 198.51.0.0/16 is in the feed @bad (")
            && !story.contains("when the ban ends"),
        "{story}"
    );
    // One address has one name, however it is written.
    let told = firewall.ask("allow ::ffff:192.0.2.99").stdout;
    assert!(told.starts_with("192.0.2.99 is never banned"), "{told}");
    let told = firewall.ask("events --kind policy").stdout;
    assert!(told.contains("192.0.2.99 is on the allow list"), "{told}");
    let number = firewall.ask("events --kind ban").stdout;
    let number = number.split_whitespace().next().unwrap();
    let story = why(&firewall, number);
    assert!(story.contains(", 198.51.100.0/25 was banned: "), "{story}");

    // Who observes is told by each verb that nothing is blocked, and by nothing that something was.
    firewall.write(&POLICY.replace("enforce", "observe"));
    firewall.ask("reload");
    let judged = firewall.call(&["dns", "test", "ads.example"]).expect(6);
    assert!(judged.stderr.contains("nothing is blocked"), "{judged:?}");
    firewall.ask("ban 192.0.2.7");
    let number = firewall.ask("events --kind would-ban -n 1").stdout;
    let number = number.split_whitespace().next().unwrap();
    let story = why(&firewall, number);
    assert!(
        story.contains(", 192.0.2.7 would have been banned: "),
        "{story}"
    );
    // A flush takes nothing away from who blocks nothing anyway.
    firewall.ask("flush");
    let told = firewall.ask("reload");
    assert!(!told.stderr.contains("flush"), "{}", told.stderr);
    firewall.write(POLICY);
    firewall.call(&["reload"]);
    assert!(firewall.ask("reload").stderr.contains("flush"));
}
