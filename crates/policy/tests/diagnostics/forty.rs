//! A policy with some forty mistakes of all kinds, syntax among them: each is told once, at its place, and nothing else is.

use portcullis_policy::{Diagnostic, Format};

use crate::marks::{lines, load, place, unmark};

fn found(marked: &str, format: Format) -> Vec<Diagnostic> {
    let (text, places) = unmark(marked);
    let loaded = load(&text, format);
    assert!(loaded.policy.is_none());
    let found: Vec<_> = loaded.diagnostics.iter().map(place).collect();
    assert_eq!(found, places, "{}", lines(&loaded.diagnostics));
    assert!(found.len() >= 40, "{} mistakes", found.len());
    loaded.diagnostics
}

#[test]
fn toml() {
    let found = found(include_str!("forty/policy.toml"), Format::Toml);
    insta::assert_snapshot!(lines(&found));
}

#[test]
fn json() {
    let found = found(include_str!("forty/policy.json"), Format::Json);
    insta::assert_snapshot!(lines(&found));
}

#[test]
fn rules_txt() {
    let found = found(include_str!("forty/rules.txt"), Format::RulesTxt);
    insta::assert_snapshot!(lines(&found));
}
