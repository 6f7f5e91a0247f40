//! Judging a name allocates nothing.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

#[path = "../../wire/tests/counting/mod.rs"]
mod counting;

use counting::allocations;
use portcullis_policy as policy;

use policy::names::{NameFilterBuilder, NameVerdict, Pattern, Source};

#[test]
fn judging_allocates_nothing() {
    let mut builder = NameFilterBuilder::new(3);
    let source = builder.source(Source::List("list".to_owned()));
    for index in 0..1_000 {
        let text = format!(".blocked{index}.example");
        builder
            .block(&Pattern::parse(&text).unwrap(), source)
            .unwrap();
        let text = format!("good.blocked{index}.example");
        builder
            .allow(&Pattern::parse(&text).unwrap(), source)
            .unwrap();
    }
    let filter = builder.build();
    let long = ["a"; 400].join(".");
    let names = [
        "blocked7.example",
        "WWW.Blocked9.Example.",
        "good.blocked7.example",
        "a.b.c.d.e.f.other.example",
        "",
        &long,
    ];
    let before = allocations();
    let blocked = names
        .iter()
        .filter(|name| matches!(filter.judge(name.as_bytes()), NameVerdict::Blocked(_)))
        .count();
    assert_eq!(allocations() - before, 0);
    assert_eq!(blocked, 2);
}
