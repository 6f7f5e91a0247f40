//! A policy in each of the three forms.

use serde_json::{Map, Value, json};

use crate::random::{Payload, Policy, Rule, Setting};

fn setting_value(setting: &Setting) -> Value {
    match setting {
        Setting::Word(word) => json!(word),
        Setting::Number(number) => json!(number),
        Setting::Flag(flag) => json!(flag),
        Setting::Texts(texts) => json!(texts),
    }
}

fn tree(policy: &Policy) -> Value {
    let mut root = Map::new();
    for (path, setting) in &policy.settings {
        let mut table = &mut root;
        let parts: Vec<_> = path.split('.').collect();
        for part in &parts[..parts.len() - 1] {
            let inner = table.entry(*part).or_insert_with(|| json!({}));
            table = inner.as_object_mut().unwrap();
        }
        table.insert(parts[parts.len() - 1].to_owned(), setting_value(setting));
    }
    for (name, is_feed, addresses) in &policy.sets {
        let section = if *is_feed { "feeds" } else { "sets" };
        let sets = root.entry(section).or_insert_with(|| json!({}));
        sets[name] = json!(addresses);
    }
    root.insert(
        "rule".to_owned(),
        policy.rules.iter().map(rule_tree).collect(),
    );
    Value::Object(root)
}

/// One item alone, two as a text with commas, more as a list: all are allowed.
fn items<T: AsRef<str>>(items: &[T]) -> Value {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match items.as_slice() {
        [one] => json!(one),
        [_, _] => json!(items.join(",")),
        _ => json!(items),
    }
}

fn rule_tree(rule: &Rule) -> Value {
    let mut table = Map::new();
    let mut put = |key: &str, value: Value| table.insert(key.to_owned(), value);
    put("action", json!(rule.action));
    for (key, list) in [
        ("direction", &rule.direction),
        ("protocol", &rule.protocol),
        ("port", &rule.port),
        ("source_port", &rule.source_port),
    ] {
        if !list.is_empty() {
            // A number may be one.
            let number = list[0].parse::<u32>().ok().filter(|_| list.len() == 1);
            put(
                key,
                number.map_or_else(|| items(list), |number| json!(number)),
            );
        }
    }
    for (key, list) in [("from", &rule.from), ("to", &rule.to)] {
        if !list.is_empty() {
            put(key, items(list));
        }
    }
    for (key, text) in [
        ("interface", rule.interface),
        ("expires", rule.expires),
        ("for", rule.ban_for),
        ("name", rule.name.as_deref()),
    ] {
        if let Some(text) = text {
            put(key, json!(text));
        }
    }
    if rule.log {
        put("log", json!(true));
    }
    if !rule.enabled {
        put("enabled", json!(false));
    }
    if let Some((amount, unit, per, burst)) = rule.rate {
        let mut rate = json!({ unit: amount, "per": per });
        if let Some(burst) = burst {
            rate["burst"] = json!(burst);
        }
        put("rate", rate);
    }
    if let Some((key, names)) = &rule.hosts {
        put(key, items(names));
    }
    if let Some(payload) = &rule.payload {
        put("payload", payload_tree(payload));
    }
    Value::Object(table)
}

fn payload_tree(payload: &Payload) -> Value {
    let mut table = json!({});
    if let Some((kind, pattern)) = &payload.pattern {
        table[*kind] = json!(pattern);
    }
    for (key, number) in [
        ("offset", payload.offset),
        ("min_len", payload.min_len),
        ("max_len", payload.max_len),
        ("depth", payload.depth),
    ] {
        if let Some(number) = number {
            table[key] = json!(number);
        }
    }
    for (key, flag) in [
        ("ignore_case", payload.ignore_case),
        ("stream", payload.stream),
        ("every_packet", payload.every_packet),
    ] {
        if flag {
            table[key] = json!(true);
        }
    }
    table
}

pub(crate) fn json(policy: &Policy) -> String {
    serde_json::to_string_pretty(&tree(policy)).unwrap()
}

pub(crate) fn toml(policy: &Policy) -> String {
    let tree = tree(policy);
    let root = tree.as_object().unwrap();
    let mut text = String::new();
    let is_section = |value: &Value| value.is_object();
    for (key, value) in root
        .iter()
        .filter(|(key, value)| !is_section(value) && *key != "rule")
    {
        text.push_str(&format!("{key} = {}\n", toml_value(value)));
    }
    for (key, value) in root.iter().filter(|(_, value)| is_section(value)) {
        text.push_str(&format!("[{key}]\n"));
        for (inner, value) in value.as_object().unwrap() {
            text.push_str(&format!("{inner} = {}\n", toml_value(value)));
        }
    }
    for rule in root["rule"].as_array().unwrap() {
        text.push_str("\n[[rule]]\n");
        for (key, value) in rule.as_object().unwrap() {
            text.push_str(&format!("{key} = {}\n", toml_value(value)));
        }
    }
    text
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(toml_value).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(table) => {
            let entries: Vec<_> = table
                .iter()
                .map(|(key, value)| format!("{key} = {}", toml_value(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        // JSON's texts, numbers and flags are TOML's too.
        other => other.to_string(),
    }
}

pub(crate) fn rules(policy: &Policy) -> String {
    let mut text = String::from("# a policy\n\n");
    for (path, setting) in &policy.settings {
        let value = match setting {
            Setting::Word(word) => (*word).to_owned(),
            Setting::Number(number) => number.to_string(),
            Setting::Flag(flag) => if *flag { "on" } else { "off" }.to_owned(),
            Setting::Texts(texts) => texts.join(if path.starts_with("protect") {
                " "
            } else {
                ", "
            }),
        };
        let statement = match *path {
            "mode" | "essentials" => (*path).to_owned(),
            "on_failure" => "on-failure".to_owned(),
            "default.inbound" => "default in".to_owned(),
            "default.outbound" => "default out".to_owned(),
            "default.forward" => "default forward".to_owned(),
            "protect.addresses" => "protect".to_owned(),
            "protect.discover" => "protect discover".to_owned(),
            "detect.blocked.packets" => "detect blocked packets".to_owned(),
            path => format!("option {path}"),
        };
        text.push_str(&format!("{statement} {value}\n"));
    }
    for (name, is_feed, addresses) in &policy.sets {
        let statement = if *is_feed { "feed" } else { "set" };
        text.push_str(&format!("{statement} {name} {}\n", addresses.join(" ")));
    }
    for rule in &policy.rules {
        text.push_str(&rule_line(rule));
        text.push('\n');
    }
    text
}

fn in_quotes(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn rule_line(rule: &Rule) -> String {
    let mut line = vec![rule.action.to_owned()];
    if !rule.direction.is_empty() {
        line.push(rule.direction.join(","));
    }
    if !rule.protocol.is_empty() {
        line.push(rule.protocol.join(","));
    }
    let lists = [
        ("from", rule.from.join(", ")),
        ("source-port", rule.source_port.join(",")),
        ("to", rule.to.join(",")),
        ("port", rule.port.join(" ,")),
    ];
    for (word, list) in lists {
        if !list.is_empty() {
            line.push(format!("{word} {list}"));
        }
    }
    for (word, text) in [
        ("on", rule.interface),
        ("expires", rule.expires),
        ("for", rule.ban_for),
    ] {
        line.extend(text.map(|text| format!("{word} {text}")));
    }
    line.extend(
        rule.name
            .as_ref()
            .map(|name| format!("name {}", in_quotes(name))),
    );
    if rule.log {
        line.push("log".to_owned());
    }
    if !rule.enabled {
        line.push("disabled".to_owned());
    }
    if let Some((amount, unit, per, burst)) = rule.rate {
        line.push(match unit {
            "connections" => format!("rate {amount}/{per}"),
            _ => format!("rate {amount} {unit}/{per}"),
        });
        line.extend(burst.map(|burst| format!("burst {burst}")));
    }
    if let Some((key, names)) = &rule.hosts {
        line.push(format!("{} {}", key.replace('_', "-"), names.join(", ")));
    }
    line.extend(rule.payload.as_ref().map(payload_words));
    line.join(" ")
}

fn payload_words(payload: &Payload) -> String {
    let mut words = vec!["payload".to_owned()];
    match &payload.pattern {
        Some(("bytes", bytes)) => words.push(format!(
            "at {} bytes {}",
            payload.offset.unwrap_or(0),
            in_quotes(bytes)
        )),
        Some(("contains_hex", hex)) => words.push(format!("hex {}", in_quotes(hex))),
        Some((kind, text)) => words.push(format!("{kind} {}", in_quotes(text))),
        None => {}
    }
    for (word, number) in [
        ("min-len", payload.min_len),
        ("max-len", payload.max_len),
        ("depth", payload.depth),
    ] {
        words.extend(number.map(|number| format!("{word} {number}")));
    }
    for (word, flag) in [
        ("ignore-case", payload.ignore_case),
        ("stream", payload.stream),
        ("every-packet", payload.every_packet),
    ] {
        if flag {
            words.push(word.to_owned());
        }
    }
    words.join(" ")
}
