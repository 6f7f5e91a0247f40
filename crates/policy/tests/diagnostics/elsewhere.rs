//! What people write who come from another firewall: one error, with the line that was meant; and that line is right.

use portcullis_policy::{Format, Severity};

use crate::marks::{lines, load};

#[test]
fn a_rule_of_another_firewall_gets_an_example_that_loads() {
    for (text, example) in [
        ("allow 22/tcp", "allow in tcp port 22"),
        ("deny 53/udp", "deny in udp port 53"),
        ("allow 60000:61000/udp", "allow in udp port 60000-61000"),
        ("allow ssh", "allow in tcp port 22"),
        ("reject out smtp", "reject out tcp port 25"),
        ("deny out 203.0.113.7", "deny out to 203.0.113.7"),
        ("limit ssh", "limit in tcp port 22 rate 6/minute"),
        ("allow 8080", "allow in tcp port 8080"),
        ("deny 203.0.113.7", "deny in from 203.0.113.7"),
        ("deny 2001:db8::/48", "deny in from 2001:db8::/48"),
        ("default deny incoming", "default in deny"),
        ("default allow outgoing", "default out allow"),
        ("default deny", "default in deny"),
    ] {
        let found = load(text, Format::RulesTxt).diagnostics;
        let told = lines(&found);
        assert_eq!(found.len(), 1, "{told}");
        let expected = format!("{example}, for example");
        assert_eq!(
            found[0].expected.as_deref(),
            Some(expected.as_str()),
            "{told}"
        );
        let meant = load(example, Format::RulesTxt);
        assert!(
            meant.diagnostics.is_empty(),
            "{example}: {}",
            lines(&meant.diagnostics)
        );
    }
}

#[test]
fn a_number_that_looks_like_a_port_is_a_protocol_with_a_warning() {
    for (text, warned) in [
        ("allow 22", true),
        ("allow in 80", true),
        ("allow in protocol 22", false),
        ("allow in 50", false),
        ("allow in tcp port 22", false),
    ] {
        let loaded = load(text, Format::RulesTxt);
        let found: Vec<_> = loaded
            .diagnostics
            .iter()
            .map(|found| (found.severity, found.code))
            .collect();
        let expected = [(Severity::Warning, "protocol-number")];
        assert_eq!(found, expected[..usize::from(warned)], "{text}");
        assert!(loaded.policy.is_some(), "{text}");
    }
}

#[test]
fn a_feed_of_the_network_is_told_that_nothing_is_fetched() {
    for text in [
        "[feeds]\ndrop = { url = \"https://lists.example/drop.netset\" }\n",
        "[feeds.drop]\nurl = \"https://lists.example/drop.netset\"\nformat = \"netset\"\n",
    ] {
        let found = load(text, Format::Toml).diagnostics;
        let told = lines(&found);
        assert_eq!(found.len(), 1, "{told}");
        assert!(
            told.contains("nothing is fetched") && told.contains("file = "),
            "{told}"
        );
    }
}

#[test]
fn two_words_for_the_rules_are_one_mistake_that_says_so() {
    let text = "[[rules]]\naction = \"allow\"\n\n[[rule]]\naction = \"deny\"\n";
    let found = load(text, Format::Toml).diagnostics;
    let told = lines(&found);
    assert_eq!(found.len(), 1, "{told}");
    assert!(
        told.contains("rule and rules are one list, and the other word is used at line 1")
            && told.contains("one word"),
        "{told}"
    );
}
