//! The policies under `examples/` load and lint without a word, and those that are one policy in two forms are one plan.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read the examples has failed"
)]

use std::path::{Path, PathBuf};

use portcullis_policy::{Format, Plan, Position, Timestamp, lint, load_path, load_text};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// Before any example's rule expires.
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn plan(path: &Path) -> Plan {
    let loaded = load_path(path);
    let shown: Vec<_> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    assert!(shown.is_empty(), "{shown:#?}");
    loaded.policy.unwrap().into_plan()
}

#[test]
fn every_example_is_clean() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let ending = path.extension().unwrap_or_default().to_owned();
        if ending != "toml" && ending != "json" && ending != "txt" {
            continue;
        }
        count += 1;
        let plan = plan(&path);
        assert!(!plan.rules.is_empty(), "{}", path.display());
        let found: Vec<_> = lint(&plan, NOW).iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{found:#?}");
    }
    assert!(count >= 6, "{count} examples");
}

#[test]
fn two_forms_of_one_policy() {
    let without_places = |name: &str| {
        let mut plan = plan(&folder().join(name));
        for rule in &mut plan.rules {
            rule.position = Position::default();
        }
        plan
    };
    assert_eq!(without_places("rules.txt"), without_places("rules.json"));
}

/// The first policy of the reference stands there in three forms; they are one plan, and the reference tells the truth.
#[test]
fn the_reference_shows_one_policy_three_times() {
    let reference = include_str!("../../../docs/policy.md");
    let block = |language: &str| {
        let begin = format!("```{language}\n");
        let (_, rest) = reference.split_once(&begin).unwrap();
        rest.split_once("```").unwrap().0
    };
    let base = tempfile::tempdir().unwrap();
    std::fs::create_dir(base.path().join("lists")).unwrap();
    let list = base.path().join("lists/firehol_level1.netset");
    std::fs::write(list, "203.0.113.0/24\n").unwrap();
    let plan = |language: &str, format: Format| {
        let loaded = load_text("policy.md", block(language), format, base.path());
        let shown: Vec<_> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        assert!(shown.is_empty(), "{shown:#?}");
        let mut plan = loaded.policy.unwrap().into_plan();
        for rule in &mut plan.rules {
            rule.position = Position::default();
        }
        plan
    };
    let toml = plan("toml", Format::Toml);
    assert_eq!(toml.rules.len(), 3);
    assert_eq!(toml, plan("json", Format::Json));
    assert_eq!(toml, plan("text", Format::RulesTxt));
}
