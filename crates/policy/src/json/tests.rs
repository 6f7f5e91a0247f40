#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its own table has failed"
)]

use std::path::PathBuf;

use proptest::prelude::*;

use crate::report::{Report, Source};
use crate::tree::{Table, Value};

fn read(text: &str) -> (Table, Vec<crate::Diagnostic>) {
    let mut report = Report::default();
    let source = Source::new("t".to_owned(), PathBuf::new(), text.to_owned());
    let file = report.add_source(source);
    let table = super::parse(file, &mut report);
    (table, report.finish())
}

/// A tree as serde_json has it; decimals are not told apart.
fn show(value: &Value) -> serde_json::Value {
    match value {
        Value::Text(text) => text.text.clone().into(),
        Value::Integer(number) => (*number).into(),
        Value::Float => "a float".into(),
        Value::Flag(flag) => (*flag).into(),
        Value::List(items) => items.iter().map(|item| show(&item.value)).collect(),
        Value::Table(table) => show_table(table),
        Value::Null => serde_json::Value::Null,
        Value::Moment(_) | Value::Damaged => panic!("{value:?} is not JSON"),
    }
}

fn show_table(table: &Table) -> serde_json::Value {
    let entries = table.entries().iter();
    let entries = entries.map(|entry| (entry.key.clone(), show(&entry.value.value)));
    serde_json::Value::Object(entries.collect())
}

fn without_floats(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Number(number) if !number.is_i64() => "a float".into(),
        serde_json::Value::Array(items) => items.into_iter().map(without_floats).collect(),
        serde_json::Value::Object(entries) => {
            let entries = entries
                .into_iter()
                .map(|(key, value)| (key, without_floats(value)));
            serde_json::Value::Object(entries.collect())
        }
        other => other,
    }
}

/// What serde_json accepts as an object or array we accept, with the same content; what it refuses we refuse.
fn agrees(text: &str) {
    let (ours, problems) = read(text);
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(oracle @ (serde_json::Value::Object(_) | serde_json::Value::Array(_))) => {
            let only = |codes: &[&str]| problems.iter().all(|p| codes.contains(&p.code));
            // serde_json keeps the last of two keys and turns large whole numbers into decimals.
            let twice = problems
                .iter()
                .any(|p| p.code == "duplicate-key" || p.message.contains("too large"));
            assert!(
                only(&["duplicate-key"]) || twice,
                "{text:?} is JSON: {problems:?}"
            );
            if !twice {
                let ours = match oracle {
                    serde_json::Value::Array(_) => show(&ours.get("rule").unwrap().value.value),
                    _ => show_table(&ours),
                };
                assert_eq!(ours, without_floats(oracle), "{text:?}");
            }
        }
        Ok(_) => assert_eq!(problems.len(), 1, "{text:?} is no policy: {problems:?}"),
        Err(error) => {
            let is_blank = text
                .trim_matches([' ', '\t', '\n', '\r', '\u{feff}'])
                .is_empty();
            // A number out of a double's range is one nonetheless.
            let is_huge = error.to_string().contains("out of range");
            assert!(
                is_blank || is_huge || !problems.is_empty(),
                "{text:?} is no JSON: {error}"
            );
        }
    }
}

#[test]
fn reads_what_the_oracle_reads() {
    for text in [
        "",
        "{}",
        "[]",
        " { \"a\" : [ 1 , -2 , true , false , null , \"x\" , { } ] } ",
        "{\"a\": \"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"}",
        "{\"a\": 1.5, \"b\": 1e9, \"c\": -0.1E-2}",
        "[[[1]]]",
        "1",
        "\"x\"",
        "null",
        "{\"a\": 1,}",
        "[1,]",
        "[,1]",
        "[1,,2]",
        "[1 2]",
        "{\"a\" 1}",
        "{\"a\":}",
        "{a: 1}",
        "{'a': 1}",
        "{\"a\": 'x'}",
        "{\"a\": 01}",
        "{\"a\": +1}",
        "{\"a\": .5}",
        "{\"a\": 1.}",
        "{\"a\": 0x10}",
        "{\"a\": True}",
        "{\"a\": \"x}",
        "{\"a\": \"\\q\"}",
        "{\"a\": \"\\u12\"}",
        "{\"a\": \"\\ud800\"}",
        "{\"a\": \"\\udc00\"}",
        "{\"a\": \"\t\"}",
        "{\"a\": 1} x",
        "{\"a\": [1}",
        "{\"a\": {\"b\": 1}",
        "// c\n{}",
        "{} /* c",
        "{\"a\": 99999999999999999999}",
        "{1: 2}",
        "{: 2}",
        "]",
        "\u{feff}",
    ] {
        agrees(text);
    }
}

#[test]
fn one_mistake_is_one_message_at_its_place() {
    for (line, expected) in [
        ("\"a\": 1,, ", "2:8 a key is missing before this comma"),
        ("\"a\": \"x, ", "2:6 the text is never closed"),
        (
            "\"a: \"x\", ",
            "2:6 a colon is missing between the key and \"x\"",
        ),
        (
            "\"a\" 1, ",
            "2:5 a colon is missing between the key and \"1\"",
        ),
        ("a: 1, ", "2:1 the key a is not in double quotes"),
        ("'a': 1, ", "2:1 the text is in single quotes"),
        ("\"a\": 'x', ", "2:6 the text is in single quotes"),
        ("\"a\": allow, ", "2:6 \"allow\" is not in double quotes"),
        ("\"a\": , ", "2:6 a value is missing before \",\""),
        ("\"a\": 1 ", "2:7 a comma is missing before \"b\""),
        ("\"a\": [1, 2 ", "2:13 a colon is missing"),
        (
            "\"a\": 022, ",
            "2:6 \"022\" is no number as JSON writes them",
        ),
        (
            "\"a\": \"\\d\", ",
            "2:7 the text has an escape that JSON does not know, \\d",
        ),
        ("// why, ", "2:1 JSON has no comments"),
        (
            "\"a\": 1, \"a\": 2, ",
            "2:9 a is set a second time; it is set already at line 2, column 1",
        ),
        ("%%, ", "2:1 \"%%,\" is no key"),
    ] {
        if line.contains('[') {
            // What is not closed ends with what is around it.
            continue;
        }
        let text = format!("{{\n{line}\n\"b\": 1}}");
        let (table, problems) = read(&text);
        let shown: Vec<_> = problems
            .iter()
            .map(|p| format!("{}:{} {}", p.position.line, p.position.column, p.message))
            .collect();
        assert!(
            shown.len() == 1 && shown[0].starts_with(expected.trim_end_matches(",\" is no key")),
            "{text}: {shown:?}, not {expected}"
        );
        assert!(
            table.get("b").is_some(),
            "nothing is read behind the mistake in {text}"
        );
    }
}

#[test]
fn brackets_that_are_not_closed_end_with_what_is_around_them() {
    let text = "{\"r\": [\n{\"a\": 1\n{\"a\": [2, 3}, {\"a\": 4}], \"b\": 5";
    let (table, problems) = read(text);
    let places: Vec<_> = problems
        .iter()
        .map(|p| (p.position.line, p.position.column, p.message.as_str()))
        .collect();
    assert_eq!(
        places,
        [
            (1, 1, "{ is never closed"),
            (2, 1, "{ is never closed"),
            (3, 7, "[ is never closed"),
        ]
    );
    assert!(table.get("b").is_some());
}

#[test]
fn hostile_texts_end() {
    for text in [
        "[".repeat(100_000),
        "{\"a\":".repeat(100_000),
        "[1,".repeat(100_000),
        "\"".repeat(100_001),
        "/*".repeat(100_000),
        format!(
            "{{{}}}",
            (0..50_000)
                .map(|n| format!("\"k{n}\":1,"))
                .collect::<String>()
        ),
        "}".repeat(100_000),
        "[}".repeat(100_000),
        // A backslash as the very last byte once was read for ever.
        "{\"a\": \"\\".to_owned(),
    ] {
        read(&text);
    }
}

fn fragment() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"b\"",
        "\"a\":1,",
        "1",
        "-2.5",
        "true",
        "null",
        " ",
        "\n",
        "\"",
        "\\",
        "'",
        "a",
        "é",
        "//",
        "/*",
        "*/",
        "\"x\\u0041\"",
        "0",
        "e",
    ])
    .prop_map(str::to_owned)
}

fn good(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("1".to_owned()),
        Just("-7".to_owned()),
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("\"a\\n\"".to_owned()),
        Just("1.5".to_owned()),
    ];
    leaf.prop_recursive(depth, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|entries| {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(k, v)| format!("\"{k}\": {v}"))
                    .collect();
                format!("{{{}}}", entries.join(",\n"))
            }),
        ]
    })
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn good_texts_are_read_as_the_oracle_reads_them(text in good(4)) {
        agrees(&text);
    }

    #[test]
    fn any_text_is_read_as_the_oracle_reads_it(parts in prop::collection::vec(fragment(), 0..14)) {
        agrees(&parts.concat());
    }

    #[test]
    fn a_broken_text_is_refused_as_the_oracle_refuses_it(text in good(4), at in any::<prop::sample::Index>(), with in fragment()) {
        let mut text = text;
        let mut at = at.index(text.len() + 1);
        while !text.is_char_boundary(at) { at -= 1; }
        text.insert_str(at, &with);
        agrees(&text);
    }
}
