//! Real lists: netsets, reputation lists, plain addresses; and lists of domains, which are no addresses.

use std::path::{Path, PathBuf};

use portcullis_policy::{Format, load_text};

fn lists() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/lists");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: the shared lists are not at {}", path.display());
    None
}

#[test]
fn real_lists_load() {
    let Some(base) = lists() else {
        return;
    };
    for (file, least_addresses, bad_lines) in [
        ("derived/drop.netset", 10_000_000_u128, false),
        ("derived/dshield.netset", 5_000, false),
        (
            "OISF+suricata-verify/tests/iprep-02/scirius-iprep.list",
            25_000,
            false,
        ),
        ("xisafe+suricata-rule/rules/compromised-ips.txt", 900, false),
        // Domains: no address in them, and nothing but a warning.
        ("ntop+nDPI/lists/107_gambling.list", 0, true),
        ("ntop+nDPI/lists/mining_hosts.txt", 0, true),
    ] {
        let text = format!("feed list file \"{file}\"");
        let start = std::time::Instant::now();
        let loaded = load_text("policy", &text, Format::RulesTxt, &base);
        let took = start.elapsed();
        let shown: Vec<_> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        let plan = loaded
            .policy
            .unwrap_or_else(|| panic!("{file}: {shown:?}"))
            .into_plan();
        let ranges = plan.sets[0].addresses.ranges();
        let addresses: u128 = ranges.iter().map(|(first, last)| last - first + 1).sum();
        eprintln!(
            "{file}: {} ranges, {addresses} addresses, {took:?} {shown:?}",
            ranges.len()
        );
        assert!(addresses >= least_addresses, "{file}: {addresses}");
        assert_eq!(!shown.is_empty(), bad_lines, "{file}: {shown:?}");
        assert!(shown.len() <= 1, "{file}: {shown:?}");
    }
}

/// A feed of 100,000 entries loads well within the second that it may take.
#[test]
fn large_feeds_load_fast() {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..100_000_u32)
        .map(|n| {
            format!(
                "{}.{}.{}.{}/32\n",
                n % 223 + 1,
                n / 223 % 256,
                n * 7 % 256,
                n * 31 % 256
            )
        })
        .collect();
    std::fs::write(folder.path().join("feed.txt"), text).unwrap();
    let start = std::time::Instant::now();
    let loaded = load_text(
        "policy",
        "feed f file feed.txt",
        Format::RulesTxt,
        folder.path(),
    );
    let took = start.elapsed();
    assert!(loaded.diagnostics.is_empty());
    eprintln!("100,000 entries in {took:?}");
    // What grows with the square takes minutes.
    assert!(took.as_secs() < 20, "{took:?}");
}
