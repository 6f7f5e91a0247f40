use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn filter(block: &[&str], allow: &[&str]) -> NameFilter {
    let mut builder = NameFilterBuilder::new(5);
    for (place, text) in block.iter().enumerate() {
        let source = builder.source(Source::List(format!("block {place}")));
        let pattern = Pattern::parse(text).expect(text);
        builder.block(&pattern, source).expect("there is room");
    }
    for (place, text) in allow.iter().enumerate() {
        let source = builder.source(Source::List(format!("allow {place}")));
        let pattern = Pattern::parse(text).expect(text);
        builder.allow(&pattern, source).expect("there is room");
    }
    builder.build()
}

fn judged(filter: &NameFilter, name: &str) -> String {
    match filter.judge(name.as_bytes()) {
        NameVerdict::NotListed => "-".to_owned(),
        NameVerdict::Allowed(found) => format!("allowed by {found} of {}", found.source),
        NameVerdict::Blocked(found) => format!("blocked by {found} of {}", found.source),
    }
}

#[test]
fn verdicts() {
    let filter = filter(
        &[
            "exact.example",
            "*.below.example",
            ".both.example",
            "deep.a.b.c.both.example",
            ".twice.example",
            "twice.example",
        ],
        &[
            "good.both.example",
            "*.good.below.example",
            "unrelated.example",
        ],
    );
    for (name, wanted) in [
        ("exact.example", "blocked by exact.example of block 0"),
        ("EXACT.Example.", "blocked by exact.example of block 0"),
        ("a.exact.example", "-"),
        ("inexact.example", "-"),
        ("below.example", "-"),
        ("a.below.example", "blocked by *.below.example of block 1"),
        (
            "a.b.c.below.example",
            "blocked by *.below.example of block 1",
        ),
        ("notbelow.example", "-"),
        ("both.example", "blocked by .both.example of block 2"),
        ("a.b.both.example", "blocked by .both.example of block 2"),
        (
            "deep.a.b.c.both.example",
            "blocked by .both.example of block 2",
        ),
        (
            "good.both.example",
            "allowed by good.both.example of allow 0",
        ),
        ("a.good.both.example", "blocked by .both.example of block 2"),
        (
            "good.below.example",
            "blocked by *.below.example of block 1",
        ),
        (
            "x.good.below.example",
            "allowed by *.good.below.example of allow 1",
        ),
        (
            "unrelated.example",
            "allowed by unrelated.example of allow 2",
        ),
        ("twice.example", "blocked by .twice.example of block 4"),
        ("example", "-"),
        ("", "-"),
        (".", "-"),
    ] {
        assert_eq!(judged(&filter, name), wanted, "{name}");
    }
    assert_eq!(filter.blocked().len(), 4);
    assert_eq!(filter.allowed().len(), 3);
}

#[test]
fn everything_but_what_is_allowed() {
    let filter = filter(&["*", "ads.example"], &[".school.example"]);
    assert_eq!(filter.blocked().len(), 1);
    for (name, wanted) in [
        ("a.example", "blocked by * of block 0"),
        ("com", "blocked by * of block 0"),
        (
            "www.school.example",
            "allowed by .school.example of allow 0",
        ),
        ("ads.example", "blocked by * of block 0"),
    ] {
        assert_eq!(judged(&filter, name), wanted, "{name}");
    }
}

#[test]
fn the_allow_list_stands_above() {
    let filter = filter(&["ads.example", ".a.b.example"], &[".example"]);
    assert_eq!(
        judged(&filter, "ads.example"),
        "allowed by .example of allow 0"
    );
    assert_eq!(
        judged(&filter, "x.a.b.example"),
        "allowed by .example of allow 0"
    );
}

#[test]
fn more_sources_than_are_told_apart() {
    let mut builder = NameFilterBuilder::new(1);
    for index in 0..SourceId::COUNT + 10 {
        let source = builder.source(Source::List(index.to_string()));
        let text = format!("n{index}.example");
        let pattern = Pattern::parse(&text).expect("a name");
        builder.block(&pattern, source).expect("there is room");
    }
    let filter = builder.build();
    for (name, source) in [
        ("n0.example", "0"),
        ("n254.example", "254"),
        ("n255.example", "one of many sources"),
        ("n265.example", "one of many sources"),
    ] {
        assert_eq!(
            judged(&filter, name),
            format!("blocked by {name} of {source}")
        );
    }
}

#[test]
fn an_empty_filter_lists_nothing() {
    assert_eq!(judged(&NameFilter::default(), "a.example"), "-");
    assert_eq!(judged(&NameFilterBuilder::new(9).build(), ""), "-");
}

#[test]
fn long_names_are_judged_by_their_end() {
    let filter = filter(&[".ads.example"], &[]);
    let label = "x".repeat(63);
    let name = [label.as_str(); 9].join(".") + ".ads.example";
    assert_eq!(judged(&filter, &name), "blocked by .ads.example of block 0");
}

/// The plain way: every suffix of a name is looked up as text.
struct Model {
    block: HashMap<String, u8>,
    allow: HashMap<String, u8>,
}

impl Model {
    fn new(block: &[(String, Reach)], allow: &[(String, Reach)]) -> Self {
        let map = |entries: &[(String, Reach)]| {
            let mut map = HashMap::new();
            for (name, reach) in entries {
                *map.entry(name.clone()).or_default() |= reach.bits();
            }
            map
        };
        Self {
            block: map(block),
            allow: map(allow),
        }
    }

    fn has(map: &HashMap<String, u8>, name: &str) -> bool {
        let mut wanted = Reach::ITSELF;
        let mut rest = Some(name);
        while let Some(suffix) = rest {
            if map.get(suffix).is_some_and(|reach| reach & wanted != 0) {
                return true;
            }
            wanted = Reach::BELOW;
            rest = suffix.split_once('.').map(|(_, above)| above);
        }
        false
    }

    fn judge(&self, name: &str) -> &'static str {
        match (Self::has(&self.allow, name), Self::has(&self.block, name)) {
            (true, _) => "allowed",
            (false, true) => "blocked",
            (false, false) => "-",
        }
    }
}

/// Names of few different labels, so that they are below each other often.
fn name() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]|cc|longer-label-[xy]", 1..5).prop_map(|labels| labels.join("."))
}

fn entries() -> impl Strategy<Value = Vec<(String, Reach)>> {
    let reach = prop_oneof![Just(Reach::Itself), Just(Reach::Below), Just(Reach::Both)];
    prop::collection::vec((name(), reach), 0..60)
}

proptest! {
    #[test]
    fn it_is_the_plain_way(
        seed: u64,
        block in entries(),
        allow in entries(),
        names in prop::collection::vec(name(), 1..60),
    ) {
        let mut builder = NameFilterBuilder::new(seed);
        let source = builder.source(Source::Unknown);
        for (name, reach) in &block {
            builder.block(&Pattern::new(name, *reach).expect("a name"), source).expect("there is room");
        }
        for (name, reach) in &allow {
            builder.allow(&Pattern::new(name, *reach).expect("a name"), source).expect("there is room");
        }
        let (filter, model) = (builder.build(), Model::new(&block, &allow));
        let listed = block.iter().chain(&allow).map(|(name, _)| name);
        for name in names.iter().chain(listed) {
            let judged = judged(&filter, name);
            prop_assert!(judged.starts_with(model.judge(name)), "{} is {}", name, judged);
        }
    }

    #[test]
    fn the_order_of_entries_changes_nothing(seed: u64, block in entries()) {
        let build = |entries: &mut dyn Iterator<Item = &(String, Reach)>| {
            let mut builder = NameSetBuilder::new(seed);
            for (name, reach) in entries {
                let pattern = Pattern::new(name, *reach).expect("a name");
                builder.add(&pattern, SourceId::new(0).expect("there is one")).expect("there is room");
            }
            builder.build()
        };
        prop_assert_eq!(build(&mut block.iter()), build(&mut block.iter().rev()));
    }
}
