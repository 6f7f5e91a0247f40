#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its own table has failed"
)]

use std::path::PathBuf;

use proptest::prelude::*;

use crate::report::{Report, Source};
use crate::tree::{Node, Table, Value};

fn read(text: &str) -> (Table, Vec<crate::Diagnostic>) {
    let mut report = Report::default();
    let source = Source::new("t".to_owned(), PathBuf::new(), text.to_owned());
    let file = report.add_source(source);
    let table = super::parse(file, &mut report);
    (table, report.finish())
}

/// A tree in short form, the same for ours and for the oracle's.
fn show(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{:?}", text.text),
        Value::Integer(number) => number.to_string(),
        Value::Float => "float".to_owned(),
        Value::Flag(flag) => flag.to_string(),
        Value::Moment(_) => "moment".to_owned(),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(|item| show(&item.value)).collect();
            format!("[{}]", items.join(","))
        }
        Value::Table(table) => show_table(table),
        Value::Null => "null".to_owned(),
        Value::Damaged => "damaged".to_owned(),
    }
}

fn show_table(table: &Table) -> String {
    let mut entries: Vec<_> = table
        .entries()
        .iter()
        .map(|entry| format!("{:?}={}", entry.key, show(&entry.value.value)))
        .collect();
    entries.sort();
    format!("{{{}}}", entries.join(","))
}

fn show_item(item: &toml_edit::Item) -> String {
    match item {
        toml_edit::Item::None => "none".to_owned(),
        toml_edit::Item::Value(value) => show_value(value),
        toml_edit::Item::Table(table) => show_items(table.iter()),
        toml_edit::Item::ArrayOfTables(tables) => {
            let tables: Vec<_> = tables
                .iter()
                .map(|table| show_items(table.iter()))
                .collect();
            format!("[{}]", tables.join(","))
        }
    }
}

fn show_items<'a>(items: impl Iterator<Item = (&'a str, &'a toml_edit::Item)>) -> String {
    let mut entries: Vec<_> = items
        .map(|(key, item)| format!("{key:?}={}", show_item(item)))
        .collect();
    entries.sort();
    format!("{{{}}}", entries.join(","))
}

fn show_value(value: &toml_edit::Value) -> String {
    use toml_edit::Value as Oracle;
    match value {
        Oracle::String(text) => format!("{:?}", text.value()),
        Oracle::Integer(number) => number.value().to_string(),
        Oracle::Float(_) => "float".to_owned(),
        Oracle::Boolean(flag) => flag.value().to_string(),
        Oracle::Datetime(_) => "moment".to_owned(),
        Oracle::Array(items) => {
            let items: Vec<_> = items.iter().map(show_value).collect();
            format!("[{}]", items.join(","))
        }
        Oracle::InlineTable(table) => {
            let mut entries: Vec<_> = table
                .iter()
                .map(|(key, value)| format!("{key:?}={}", show_value(value)))
                .collect();
            entries.sort();
            format!("{{{}}}", entries.join(","))
        }
    }
}

/// What toml_edit accepts we accept, with the same content; what it refuses we refuse.
fn agrees(text: &str) {
    let (ours, problems) = read(text);
    match text.parse::<toml_edit::DocumentMut>() {
        Ok(oracle) => {
            assert!(problems.is_empty(), "{text:?} is TOML: {problems:?}");
            assert_eq!(show_table(&ours), show_items(oracle.iter()), "{text:?}");
        }
        Err(error) => {
            // Dates are not checked here but where one is wanted, and `expires` wants RFC 3339.
            let is_date = error.to_string().contains("date") || error.to_string().contains("time");
            assert!(
                !problems.is_empty() || is_date,
                "{text:?} is no TOML: {error}"
            );
        }
    }
}

#[test]
fn reads_what_the_oracle_reads() {
    for text in [
        "",
        "\u{feff}a = 1\n",
        "a = 1\r\nb = \"x\" # c\n",
        "a.b.c = 1\na.b.d = 2\n[a.x]\ny = 1\n",
        "[a]\nb = 1\n[a.c]\nd = 1\n",
        "[a.b]\nc = 1\n[a]\nd = 1\n",
        "[[r]]\na = 1\n[r.x]\ny = 1\n[[r]]\na = 2\n[r.x]\ny = 2\n[[r.z]]\nq = 1\n",
        "a = [1, 2,\n # c\n 3,\n]\n",
        "a = { b = 1, c.d = \"x\", e = [ { f = 1 } ] }\n",
        "a = {\n b = 1,\n c = 2,\n}\n",
        "a = \"\\\"\\\\\\n\\x41\\u00e9\\e\"\nb = 'c:\\d'\n",
        "a = \"\"\"\nx\n\"\"\"\nb = '''\ny'''\n",
        "\"a b\" = 1\n'c.d' = 2\na.\"x.y\".z = 3\n",
        "a = 0x1F\nb = 0o17\nc = 0b101\nd = 1_000\ne = -5\nf = +7\n",
        "a = 1.5\nb = 1e9\nc = inf\nd = -nan\n",
        "a = 2027-01-01T00:00:00Z\nb = 2027-01-01 00:00:00.5Z\nc = 2027-01-01\nd = 07:30:00\n",
        "a = [[1], [\"x\"]]\n",
        "1 = 2\ntrue = false\n",
        // Refused.
        "a = 1\na = 2\n",
        "[a]\n[a]\n",
        "a = 1\n[a]\n",
        "a = []\n[[a]]\n",
        "[[a]]\n[a]\n",
        "[a]\n[[a]]\n",
        "a = { b = 1 }\n[a.c]\n",
        "a = { b = 1 }\na.c = 1\n",
        "[a.b.c]\nz = 9\n[a]\nb.c.t = 1\n",
        "[a]\nb.c = 1\n[a.b]\nd = 1\n",
        "a = { b.c = 1, b = 2 }\n",
        "a = 1 b = 2\n",
        "a =\n",
        "= 1\n",
        "a\n",
        "[a\n",
        "[[a]\n",
        "[ [a] ]\n",
        "[]\n",
        "[a]]\n",
        "[a] b = 1\n",
        "a = [1 2]\n",
        "a = [1,,2]\n",
        "a = [1\n",
        "a = {b = 1\n",
        "a = {b = 1,,}\n",
        "a = {b}\n",
        "a = \"x\n",
        "a = 'x\n",
        "a = \"\"\"x\n",
        "a = \"\\q\"\n",
        "a = 01\n",
        "a = 1__0\n",
        "a = 0xG\n",
        "a = yes\n",
        "a = 10.0.0.0/8\n",
        "a..b = 1\n",
        "a = \"x\u{7}\"\n",
        "a b = 1\n",
        "a = 99999999999999999999\n",
        "a = 1\rb = 2\n",
        "a = ]\n",
        "}\n",
    ] {
        agrees(text);
    }
}

/// Errors as `line:column message`.
fn problems(text: &str) -> Vec<String> {
    let (_, problems) = read(text);
    let shown = problems.iter().map(|problem| {
        let at = &problem.position;
        format!("{}:{} {}", at.line, at.column, problem.message)
    });
    shown.collect()
}

#[test]
fn one_mistake_is_one_message_at_its_place() {
    for (text, expected) in [
        ("a = \"x\nb = 1\n", "1:5 the text is never closed"),
        ("a = [1, 2\nb = 1\n", "1:5 [ is never closed"),
        ("a = [1, 2,\nb = 1\n", "1:5 [ is never closed"),
        (
            "a = [\n  \"x\",\n[[rule]]\nb = 1\n",
            "1:5 [ is never closed",
        ),
        (
            "a = [\n  \"x\"\n  \"y\",\n]\nb = 1\n",
            "2:6 a comma is missing before \"y\"",
        ),
        ("a = { b = 1\nc = 1\n[d]\ne = 1\n", "1:5 { is never closed"),
        (
            "a = {\n b = 1\n c = 2\n}\nd = 1\n",
            "2:7 a comma is missing before \"c\"",
        ),
        (
            "a = { b = 1, c }\nd = 1\n",
            "1:16 = is missing before \"}\"",
        ),
        ("[[rule]\nb = 1\n", "1:8 one ] is missing"),
        (
            "[rule\nb = 1\n",
            "1:6 ] is missing before the end of the line",
        ),
        (
            "a = allow\nb = 1\n",
            "1:5 the text \"allow\" is not in quotes",
        ),
        ("a = “allow”\nb = 1\n", "1:5 \"“allow”\" is in curly quotes"),
        (
            "a = 10.0.0.0/8\nb = 1\n",
            "1:5 the text \"10.0.0.0/8\" is not in quotes",
        ),
        ("a = \"x\" y\nb = 1\n", "1:9 \"y\" stands behind the value"),
        ("a \"x\"\nb = 1\n", "1:3 = is missing between a and \"x\""),
        ("a: 1\nb = 1\n", "1:1 \"a:\" is no key"),
        (
            "a =\nb = 1\n",
            "1:4 a value is missing before the end of the line",
        ),
        (
            "a = 1\na = 2\nb = 1\n",
            "2:1 a is set a second time; it is set already at line 1, column 1",
        ),
        ("}\nb = 1\n", "1:1 a line cannot begin with \"}\""),
        ("a = '''x\ny\nb = 1\n", "1:5 the text is never closed"),
        (
            "a = \"\\d\"\nb = 1\n",
            "1:5 the text has an escape that TOML does not know, \\d",
        ),
        (
            "a = 022\nb = 1\n",
            "1:5 \"022\" is no number as TOML writes them",
        ),
    ] {
        let found = problems(text);
        // The third line of the multi-line text is no statement by itself.
        let found = &found[..1.max(found.len() - usize::from(text.contains("'''")))];
        assert_eq!(found, [expected], "{text:?}");
        let (table, _) = read(text);
        let later =
            ["b", "d"].iter().any(|key| table.get(key).is_some()) || table.get("rule").is_some();
        assert!(later, "nothing is read behind the mistake in {text:?}");
    }
}

#[test]
fn places_in_texts_are_exact() {
    let (table, _) = read("a = \"80,443\"\nb = \"a\\x41,x\"\n");
    let place = |node: &Node| (node.part(3, 6).start, node.part(3, 6).end);
    assert_eq!(place(&table.get("a").unwrap().value), (8, 11));
    let escaped = &table.get("b").unwrap().value;
    assert_eq!(place(escaped), (escaped.span.start, escaped.span.end));
}

#[test]
fn hostile_texts_end() {
    for text in [
        "[".repeat(100_000),
        "a = ".to_owned() + &"[".repeat(100_000),
        "a = ".to_owned() + &"{a=".repeat(100_000),
        "a.".repeat(100_000) + "b = 1",
        "[a.".repeat(50_000),
        "a = [1\n".repeat(20_000),
        "a = \"\"\"\n".repeat(3_001),
        (0..50_000).map(|n| format!("k{n} = 1\n")).collect(),
        "a = 1\n".repeat(50_000),
    ] {
        let (table, _) = read(&text);
        drop(table);
    }
}

fn fragment() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "[a]\n",
        "[a.b]\n",
        "[[r]]\n",
        "[[a.r]]\n",
        "a = 1\n",
        "b = \"x\"\n",
        "b.c = true\n",
        "a.b.c = 'y'\n",
        "x = [1, \"a\"]\n",
        "y = { p = 1, q.r = 2 }\n",
        "z = [\n1,\n]\n",
        "\n",
        "# c\n",
        "d = 2027-01-01T00:00:00Z\n",
        "e = -1.5\n",
        "[r.s]\n",
        "\"k k\" = 1\n",
        "a",
        "b",
        ".",
        "=",
        " = ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\"",
        "'",
        "\\",
        "\n",
        " ",
        "1",
        "true",
        "é",
        "\"\"\"",
        "'''",
        "\r\n",
        "0x",
        "_",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_text_is_read_as_the_oracle_reads_it(parts in prop::collection::vec(fragment(), 0..14)) {
        agrees(&parts.concat());
    }

    #[test]
    fn any_text_is_survived(text in "\\PC{0,80}|[\\[\\]{}=,.\"'\n a1#\\\\]{0,80}") {
        read(&text);
    }
}
