//! Every code, at its place, with what it suggests.

mod rules;

use portcullis_policy::{Format, Severity};

pub(crate) use rules::RULE;
use rules::{IN_RULE, RULES};

use crate::marks::{lines, load, place, unmark};

/// Code, suggestion (empty for none), and a text with a mark where the diagnostic belongs.
type Case = (&'static str, &'static str, &'static str);

/// Lines of a TOML file that stand for themselves.
const WHOLE: &[Case] = &[
    ("toml-syntax", "", "mode = «\"observe\n"),
    ("toml-syntax", "\"enforce\"", "mode = «enforce\n"),
    ("toml-syntax", "", "[default«\ninbound = \"deny\"\n"),
    ("toml-syntax", "", "[[rule]«\naction = \"deny\"\n"),
    ("unknown-key", "mode", "«mod = \"observe\"\n"),
    ("unknown-key", "rule", "«rul = 1\n"),
    ("unknown-key", "sets", "«[set]\na = [\"10.0.0.1\"]\n"),
    ("unknown-key", "feeds", "«[blocklist]\na = 1\n"),
    ("unknown-key", "", "«zzz = 1\n"),
    ("unknown-key", "inbound", "[default]\n«inbond = \"deny\"\n"),
    ("unknown-key", "capacity", "[ban]\n«capacities = 3\n"),
    (
        "unknown-key",
        "window",
        "[detect.blocked]\n«windows = \"3s\"\n",
    ),
    ("unknown-key", "blocked", "«[detect.block]\npackets = 3\n"),
    ("unknown-key", "", "[protect]\n«routers = \"10.0.0.1\"\n"),
    ("unknown-key", "rotate_keep", "[log]\n«rotate_kept = 1\n"),
    ("unknown-key", "flows", "[limits]\n«flow = 1\n"),
    (
        "unknown-key",
        "file",
        "[sets]\na = { «fil = \"x\", addresses = [\"10.0.0.1\"] }\n",
    ),
    (
        "duplicate-key",
        "",
        "mode = \"observe\"\n«mode = \"enforce\"\n",
    ),
    ("duplicate-key", "", "[default]\n«[default]\n"),
    (
        "duplicate-set",
        "",
        "[sets]\na = [\"10.0.0.1\"]\n[feeds]\n«a = [\"10.0.0.2\"]\n",
    ),
    ("wrong-type", "true", "essentials = «\"yes\"\n"),
    ("wrong-type", "false", "essentials = «0\n"),
    ("wrong-type", "", "mode = «1\n"),
    ("wrong-type", "", "default = «\"deny\"\n"),
    ("wrong-type", "", "sets = «[\"10.0.0.1\"]\n"),
    ("wrong-type", "", "rule = «\"allow\"\n"),
    ("wrong-type", "", "«[rule]\naction = \"deny\"\n"),
    ("wrong-type", "3", "[ban]\ncapacity = «\"3\"\n"),
    ("wrong-type", "", "include = «3\n"),
    ("unknown-word", "enforce", "mode = «\"enforced\"\n"),
    (
        "unknown-word",
        "last-known",
        "on_failure = «\"last_known\"\n",
    ),
    ("unknown-word", "deny", "[default]\nforward = «\"drop\"\n"),
    (
        "unknown-word",
        "alert",
        "[detect.rate]\nresponse = «\"alarm\"\n",
    ),
    (
        "bad-set-name",
        "bad_name",
        "[sets]\n«\"bad name\" = [\"10.0.0.1\"]\n",
    ),
    (
        "bad-set-name",
        "office",
        "[sets]\n«\"@office\" = [\"10.0.0.1\"]\n",
    ),
    ("bad-set-name", "", "[sets]\n«\"\" = [\"10.0.0.1\"]\n"),
    (
        "bad-address",
        "",
        "[sets]\na = [\"10.0.0.1\", «\"10.0.0.256\"]\n",
    ),
    ("bad-address", "", "[sets]\na = [«\"any\"]\n"),
    (
        "bad-address",
        "",
        "[sets]\na = [\"10.0.0.1\"]\nb = [«\"@a\"]\n",
    ),
    ("bad-duration", "600s", "[ban]\nduration = «600\n"),
    ("bad-duration", "10m", "[ban]\nduration = «\"10min\"\n"),
    ("bad-duration", "", "[detect.payload]\nban = «\"long\"\n"),
    ("out-of-range", "", "[ban]\nduration = «\"0s\"\n"),
    ("out-of-range", "", "[ban]\nduration = «\"366d\"\n"),
    ("out-of-range", "", "[ban]\ncapacity = «1000001\n"),
    ("out-of-range", "", "[ban]\nmemory = «\"1s\"\n"),
    ("out-of-range", "", "[ban.ipv4]\ncollateral = «7\n"),
    ("out-of-range", "", "[ban.ipv6]\ncollateral = «65\n"),
    ("out-of-range", "", "[ban.ipv6]\nneighbours = «1\n"),
    ("unknown-key", "widen", "[ban.ipv6]\n«wide = true\n"),
    ("out-of-range", "", "[detect.blocked]\npackets = «0\n"),
    ("out-of-range", "", "[detect.blocked]\npackets = «-1\n"),
    ("out-of-range", "", "[detect.scan]\nports = «257\n"),
    ("out-of-range", "", "[detect.scan]\nhosts = «0\n"),
    (
        "out-of-range",
        "",
        "[detect.scan]\nwindow = \"10m\"\nslow_window = «\"10m\"\n",
    ),
    ("out-of-range", "", "[detect.scan]\nwindow = «\"2h\"\n"),
    (
        "out-of-range",
        "",
        "[detect.syn_flood]\nhalf_open = 100\nhost_half_open = «50\n",
    ),
    (
        "out-of-range",
        "",
        "[detect.syn_flood]\nhalf_open = «9000\n",
    ),
    ("out-of-range", "", "[detect.icmp_flood]\npackets = «0\n"),
    ("out-of-range", "", "[detect.udp_flood]\nwindow = «\"2d\"\n"),
    (
        "out-of-range",
        "",
        "[detect.brute]\nshorter_than = «\"2h\"\n",
    ),
    ("bad-port", "22", "[detect.brute]\nports = «\"ssh\"\n"),
    ("out-of-range", "", "[log]\nrotate_bytes = «\"1KiB\"\n"),
    ("out-of-range", "", "[limits]\nflows = «5\n"),
    ("bad-size", "", "[log]\nstore_bytes = «\"lots\"\n"),
    (
        "unknown-set",
        "",
        "[protect]\naddresses = [\"10.0.0.1\", «\"@home\"]\n",
    ),
    (
        "unknown-set",
        "@home",
        "[sets]\nhome = [\"10.0.0.1\"]\n[detect.blocked]\nignore = «\"@hom\"\n",
    ),
    ("missing-key", "", "[sets]\na = «{ }\n"),
    (
        "missing-key",
        "",
        "[sets]\na = { addresses = [\"10.0.0.1\"], «format = \"plain\" }\n",
    ),
    ("missing-key", "", "«[[include]]\n"),
    (
        "missing-file",
        "",
        "[sets]\na = { file = «\"nothing.txt\" }\n",
    ),
    ("missing-file", "", "include = [«\"nothing.toml\"]\n"),
    ("missing-file", "", "include = «\"\"\n"),
    ("unreadable", "", "include = «\"/dev/zero\"\n"),
    ("unreadable", "", "[sets]\na = { file = «\"/dev/zero\" }\n"),
    (
        "bad-domain",
        "",
        "[dns]\nenabled = false\nblock = [\"ads.example\", «\"ad s.example\"]\n",
    ),
    (
        "unknown-word",
        "zero",
        "[dns]\nenabled = false\nanswer = «\"zeor\"\n",
    ),
    (
        "unknown-key",
        "answer",
        "[dns]\nenabled = false\n«response = \"zero\"\n",
    ),
    (
        "out-of-range",
        "",
        "[dns]\nenabled = false\nttl = «\"2d\"\n",
    ),
    (
        "name-too-long",
        "",
        "[sets]\n«aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa = [\"10.0.0.1\"]\n",
    ),
    ("empty-item", "", "[sets]\na = \"10.0.0.1,«\"\n"),
];

/// Warnings: the policy loads.
const WARNINGS: &[Case] = &[
    (
        "host-bits",
        "192.0.2.0/24",
        "[sets]\na = [«\"192.0.2.7/24\"]\n",
    ),
    (
        "host-bits",
        "10.0.0.0/8",
        "[[rule]]\naction = \"deny\"\nfrom = [\"192.0.2.1\", «\"10.1.2.3/8\"]\n",
    ),
    ("empty-set", "", "[sets]\na = «[]\n"),
    (
        "any-among-others",
        "",
        "[[rule]]\naction = \"deny\"\nfrom = [\"10.0.0.1\", «\"any\"]\n",
    ),
    (
        "small-burst",
        "",
        "[[rule]]\naction = \"limit\"\nrate = «{ bytes = 60001, per = \"1m\", burst = 999 }\n",
    ),
    (
        "duplicate-rule-name",
        "",
        "[[rule]]\naction = \"deny\"\nname = \"a\"\nport = 1\n[[rule]]\naction = \"deny\"\nname = «\"a\"\nport = 2\n",
    ),
    (
        "matches-everything",
        "",
        "[[rule]]\naction = \"deny\"\npayload = { regex = «\"a*\" }\n",
    ),
    (
        "protects-everything",
        "",
        "[protect]\naddresses = «\"any\"\n",
    ),
    (
        "protects-everything",
        "",
        "[protect]\naddresses = «[\"0.0.0.0/0\", \"::/0\"]\n",
    ),
    (
        "protects-everything",
        "",
        "[sets]\nhalf = [\"128.0.0.0/1\"]\n[protect]\naddresses = «[\"0.0.0.0/1\", \"@half\"]\n",
    ),
    (
        "no-way-in",
        "",
        "mode = «\"enforce\"\n[[rule]]\naction = \"allow\"\nprotocol = \"tcp\"\nport = 80\n",
    ),
    ("not-enforced", "", "«[web]\nlisten = \"127.0.0.1:8117\"\n"),
    (
        "not-enforced",
        "",
        "«[[watch]]\nname = \"game\"\ncommand = [\"/usr/bin/game\"]\n",
    ),
    ("not-enforced", "", "«[notify]\ndesktop = true\n"),
    (
        "not-enforced",
        "",
        "«[runtime]\npriority = -5\nscheduling = \"fifo\"\ncpus = [0, 1]\n",
    ),
];

fn check(case: &Case, marked: &str, severity: Severity) {
    let (code, suggestion, _) = case;
    let (text, places) = unmark(marked);
    let loaded = load(&text, Format::Toml);
    let shown = lines(&loaded.diagnostics);
    assert_eq!(loaded.diagnostics.len(), 1, "{text}\n{shown}");
    let found = &loaded.diagnostics[0];
    assert_eq!(
        (found.code, found.severity),
        (*code, severity),
        "{text}\n{shown}"
    );
    // A warning without a mark is about a whole section, and its place is the section's header.
    let expected = places.first().copied().unwrap_or((1, 1));
    assert_eq!(place(found), expected, "{text}\n{shown}");
    let found_suggestion = found.suggestion.as_deref().unwrap_or("");
    assert_eq!(found_suggestion, *suggestion, "{text}\n{shown}");
    assert_eq!(
        loaded.policy.is_some(),
        severity == Severity::Warning,
        "{text}\n{shown}"
    );
}

#[test]
fn every_code_at_its_place() {
    for case in WHOLE.iter().chain(RULES) {
        check(case, case.2, Severity::Error);
    }
    for case in IN_RULE {
        check(case, &format!("{RULE}{}", case.2), Severity::Error);
    }
    for case in WARNINGS {
        check(case, case.2, Severity::Warning);
    }
}

/// A mistake in the middle hides nothing behind it, and nothing of what is right becomes wrong by it.
#[test]
fn a_mistake_hides_no_other() {
    let all = IN_RULE
        .iter()
        .map(|case| case.2)
        .filter(|text| !text.contains("[ban]"));
    let mut marked = String::new();
    for text in all {
        marked.push_str(&format!("{RULE}{text}"));
    }
    let (text, places) = unmark(&marked);
    let loaded = load(&text, Format::Toml);
    let found: Vec<_> = loaded.diagnostics.iter().map(place).collect();
    assert_eq!(found, places, "{}", lines(&loaded.diagnostics));
}

/// Every code that the tables above know is explained in the reference.
#[test]
fn the_reference_lists_every_code() {
    let reference = include_str!("../../../../docs/policy.md");
    let tables = [WHOLE, IN_RULE, RULES, WARNINGS];
    let known = tables
        .iter()
        .flat_map(|table| table.iter())
        .map(|case| case.0);
    let more = [
        "json-syntax",
        "rules-syntax",
        "too-many",
        "too-large",
        "not-utf8",
        "include-cycle",
        "include-twice",
        "include-depth",
        "empty-include",
        "bad-lines",
        "empty-list",
        "stale-list",
        "pattern-too-long",
        "shadowed",
        "redundant",
        "contradictory",
        "never-matches",
        "bans-own-host",
        "cuts-ipv6",
        "protocol-number",
    ];
    for code in known.chain(more) {
        assert!(
            reference.contains(&format!("`{code}`")),
            "docs/policy.md does not explain {code}"
        );
    }
}
