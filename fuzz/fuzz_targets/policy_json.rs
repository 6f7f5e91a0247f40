//! Any text as a policy: never a panic; a policy or an error, never both and never neither; and what loads can be linted.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portcullis_policy::{Format, Timestamp, lint, load_text};

fuzz_target!(|text: &str| {
    let loaded = load_text("policy", text, Format::Json, Path::new("/nonexistent"));
    let has_error = loaded.diagnostics.iter().any(|found| found.is_error());
    assert_eq!(loaded.policy.is_none(), has_error);
    for found in &loaded.diagnostics {
        assert!(found.position.line > 0 && found.position.column > 0, "{found}");
    }
    if let Some(policy) = loaded.policy {
        lint(&policy.into_plan(), Timestamp::from_secs(1_800_000_000));
    }
});
