//! `[dns]`: what is written becomes a filter, whatever the form; lists and folders; what is wrong with them.
#![allow(clippy::unwrap_used, reason = "a failure is the outcome of the test")]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_policy as policy;

use policy::names::NameVerdict;
use policy::{
    DnsAnswer, DnsFilter, DnsLog, Format, Loaded, NothingKept, PortSet, load_text, load_text_with,
};

fn shown(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.iter().map(ToString::to_string).collect()
}

/// The filter, and the diagnostics.
fn filter_and_warnings(text: &str, format: Format, base: &Path) -> (DnsFilter, Vec<String>) {
    let loaded = load_text("p", text, format, base);
    let shown = shown(&loaded);
    let plan = loaded
        .policy
        .unwrap_or_else(|| panic!("{shown:?}"))
        .into_plan();
    (plan.dns.expect("there is a [dns]"), shown)
}

fn filter(text: &str) -> DnsFilter {
    let (filter, warnings) = filter_and_warnings(text, Format::Toml, Path::new("/nonexistent"));
    assert_eq!(warnings, [""; 0]);
    filter
}

fn judged(filter: &DnsFilter, name: &str) -> String {
    match filter.names.judge(name.as_bytes()) {
        NameVerdict::NotListed => "not listed".to_owned(),
        NameVerdict::Allowed(found) => format!("allowed by {found}, {}", found.source),
        NameVerdict::Blocked(found) => format!("blocked by {found}, {}", found.source),
    }
}

#[test]
fn defaults_and_settings() {
    let plain = filter("[dns]\nblock = \"ads.example\"\n");
    assert_eq!(plain.answer, DnsAnswer::Zero);
    assert_eq!(plain.ports, PortSet::from_ranges([(53, 53)]));
    assert_eq!(plain.ttl, Duration::from_secs(60));
    assert_eq!(plain.log, DnsLog::Blocked);
    let set = filter(
        "[dns]\nblock = [\"ads.example\"]\nanswer = \"nxdomain\"\nports = [53, \"5353-5354\"]\nttl = \"1500ms\"\nlog = \"all\"\n",
    );
    assert_eq!(set.answer, DnsAnswer::NxDomain);
    assert_eq!(set.ports, PortSet::from_ranges([(53, 53), (5353, 5354)]));
    assert_eq!(set.ttl, Duration::from_secs(1));
    assert_eq!(set.log, DnsLog::All);
}

#[test]
fn without_the_section_or_with_it_off_there_is_no_filter() {
    for text in [
        "mode = \"observe\"\n",
        "[dns]\nenabled = false\nblock = \"ads.example\"\n",
    ] {
        let loaded = load_text("p", text, Format::Toml, Path::new("/"));
        assert_eq!(shown(&loaded), [""; 0]);
        assert_eq!(loaded.policy.expect("valid").into_plan().dns, None);
    }
}

#[test]
fn entries_tell_where_they_were_written() {
    let filter = filter(
        "[dns]\nblock = [\"ads.example, *.tracker.example\", \".both.example\", \"Bücher.example\"]\nallow = \"good.both.example\"\n",
    );
    for (name, wanted) in [
        ("ads.example", "blocked by ads.example, p:2:11"),
        ("www.ads.example", "not listed"),
        ("a.tracker.example", "blocked by *.tracker.example, p:2:24"),
        ("tracker.example", "not listed"),
        ("BOTH.example.", "blocked by .both.example, p:2:44"),
        ("x.both.example", "blocked by .both.example, p:2:44"),
        ("good.both.example", "allowed by good.both.example, p:3:9"),
        (
            "xn--bcher-kva.example",
            "blocked by xn--bcher-kva.example, p:2:61",
        ),
        ("a.example", "not listed"),
    ] {
        assert_eq!(judged(&filter, name), wanted, "{name}");
    }
}

#[test]
fn every_form_means_the_same() {
    let base = Path::new("/nonexistent");
    let toml = "[dns]\nblock = [\"ads.example\", \"*.ads.example\"]\nallow = \"good.ads.example\"\nanswer = \"drop\"\n";
    let rules =
        "deny dns ads.example *.ads.example\nallow dns good.ads.example\noption dns.answer drop\n";
    let json = r#"{ "dns": { "block": ["ads.example", "*.ads.example"], "allow": "good.ads.example", "answer": "drop" } }"#;
    for (text, format) in [
        (toml, Format::Toml),
        (rules, Format::RulesTxt),
        (json, Format::Json),
    ] {
        let (filter, warnings) = filter_and_warnings(text, format, base);
        assert_eq!(warnings, [""; 0]);
        assert_eq!(filter.answer, DnsAnswer::Drop);
        for (name, wanted) in [
            ("ads.example", "blocked by .ads.example"),
            ("a.ads.example", "blocked by .ads.example"),
            ("good.ads.example", "allowed by good.ads.example"),
        ] {
            let judged = judged(&filter, name);
            assert!(judged.starts_with(wanted), "{format:?} {name}: {judged}");
        }
    }
}

#[test]
fn lists_and_folders() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("block.d")).unwrap();
    write(
        "block.d/b.hosts",
        "0.0.0.0 hosts.example\n127.0.0.1 localhost\n",
    );
    write(
        "block.d/a.txt",
        "||adblock.example^\n@@||good.adblock.example^\n||cosmetic.example/x\n",
    );
    write("block.d/.hidden", "hidden.example\n");
    write("plain.txt", "plain.example\nhosts.example\nb c d\ncom\n");
    write("allow.txt", "fine.adblock.example\n||wide.example^\n");
    let text = "[dns]\nlists = [\"block.d\", \"plain.txt\"]\nallow_lists = \"allow.txt\"\nblock = \"a.wide.example\"\n";
    let loaded = load_text("p", text, Format::Toml, folder.path());
    let at = |name: &str| folder.path().join(name);
    assert_eq!(
        loaded.files,
        [
            at("block.d/a.txt"),
            at("block.d/b.hosts"),
            at("plain.txt"),
            at("allow.txt")
        ]
    );
    assert_eq!(loaded.folders, [at("block.d")]);
    let (filter, warnings) = filter_and_warnings(text, Format::Toml, folder.path());
    let plain = at("plain.txt").display().to_string();
    assert_eq!(
        warnings,
        [format!(
            "{plain}:3:1: warning[bad-lines]: 2 lines are skipped: {plain}:3:1 \"b c d\" is more than a name, \
             {plain}:4:1 \"com\" has one part only and would be a whole top-level domain"
        )]
    );
    for (name, wanted) in [
        (
            "hosts.example",
            "blocked by hosts.example, {}/block.d/b.hosts",
        ),
        (
            "x.adblock.example",
            "blocked by .adblock.example, {}/block.d/a.txt",
        ),
        (
            "x.good.adblock.example",
            "allowed by .good.adblock.example, {}/block.d/a.txt",
        ),
        (
            "fine.adblock.example",
            "allowed by fine.adblock.example, {}/allow.txt",
        ),
        ("a.wide.example", "allowed by .wide.example, {}/allow.txt"),
        ("plain.example", "blocked by plain.example, {}/plain.txt"),
        ("hidden.example", "not listed"),
        ("localhost", "not listed"),
        ("com", "not listed"),
        ("cosmetic.example", "not listed"),
    ] {
        let wanted = wanted.replace("{}", &folder.path().display().to_string());
        assert_eq!(judged(&filter, name), wanted, "{name}");
    }
}

/// All at once, each at its place.
#[test]
fn what_is_wrong() {
    let text = "[dns]\nblock = [\"ads..example\", \"192.0.2.1\"]\nlists = [\"nothing.txt\", 7]\nanswer = \"nxdomian\"\nlog = \"al\"\nports = \"http\"\nttl = 60\nallow_list = \"x\"\n";
    let loaded = load_text("p", text, Format::Toml, Path::new("/nonexistent"));
    assert!(loaded.policy.is_none());
    insta::assert_snapshot!(shown(&loaded).join("\n"));
}

#[test]
fn wide_entries_are_taken_from_the_policy_with_a_warning() {
    let text = "[dns]\nblock = [\"*\", \"*.zip\"]\nallow = \".school.example\"\n";
    let (filter, warnings) = filter_and_warnings(text, Format::Toml, Path::new("/"));
    assert_eq!(
        warnings,
        [
            "p:2:10: warning[wide-domain]: * blocks every name that is not allowed",
            "p:2:15: warning[wide-domain]: \"*.zip\" blocks in the top-level domain zip",
        ]
    );
    assert!(judged(&filter, "www.school.example").starts_with("allowed"));
    assert!(judged(&filter, "example").starts_with("blocked by *,"));
}

#[test]
fn the_seed_changes_the_fingerprints_and_no_verdict() {
    let text = "[dns]\nblock = \"ads.example\"\n";
    let load = |seed| {
        let loaded = load_text_with(
            "p",
            text,
            Format::Toml,
            Path::new("/"),
            &mut NothingKept,
            seed,
        );
        loaded.policy.expect("valid").into_plan()
    };
    assert_eq!(load(1), load(1));
    assert_ne!(load(1), load(2));
    for seed in 0..9 {
        let filter = load(seed).dns.expect("there is a [dns]");
        assert!(judged(&filter, "ads.example").starts_with("blocked"));
    }
}

fn lists() -> Option<PathBuf> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/lists/ntop+nDPI/lists");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: the shared lists are not at {}", path.display());
    None
}

/// The names are counted in a plain way too: the first word of each line that is no comment.
#[test]
fn real_lists_load() {
    let Some(base) = lists() else {
        return;
    };
    for (file, count) in [("107_gambling.list", 46_674), ("mining_hosts.txt", 245)] {
        let text = std::fs::read_to_string(base.join(file)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let words = lines.filter_map(|line| line.split_whitespace().next());
        let plain: HashSet<String> = words.map(str::to_lowercase).collect();
        assert_eq!(plain.len(), count, "{file}");
        let policy = format!("[dns]\nlists = \"{file}\"\n");
        let (filter, warnings) = filter_and_warnings(&policy, Format::Toml, &base);
        assert_eq!(warnings, [""; 0], "{file}");
        assert_eq!(filter.names.blocked().len(), count, "{file}");
        for name in &plain {
            assert!(judged(&filter, name).starts_with("blocked by"), "{name}");
            assert_eq!(judged(&filter, &format!("not-listed.{name}")), "not listed");
        }
    }
}

/// A million names load within a few seconds even unoptimised on a busy machine, and nothing is lost.
#[test]
fn a_long_list_loads() {
    let folder = tempfile::tempdir().unwrap();
    let count = 200_000_u32;
    let text: String = (0..count)
        .map(|n| format!("0.0.0.0 host{n}.d{}.example\n", n % 977))
        .collect();
    std::fs::write(folder.path().join("list"), text).unwrap();
    let (filter, warnings) =
        filter_and_warnings("[dns]\nlists = \"list\"\n", Format::Toml, folder.path());
    assert_eq!(warnings, [""; 0]);
    assert_eq!(filter.names.blocked().len(), count as usize);
    for n in (0..count).step_by(97) {
        let name = format!("host{n}.d{}.example", n % 977);
        assert!(judged(&filter, &name).starts_with("blocked by"), "{name}");
        let other = format!("host{n}.d{}.example", n % 977 + 1);
        assert_eq!(judged(&filter, &other), "not listed");
    }
}
