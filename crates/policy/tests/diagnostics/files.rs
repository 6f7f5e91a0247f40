//! Includes and lists: what is read, in which order, and what is said when it cannot be.

use std::fs;
use std::path::Path;

use portcullis_policy::{Loaded, load_path};

use crate::marks::{lines, place};

/// Writes the files into a fresh folder and loads the first.
fn load(files: &[(&str, &str)]) -> (tempfile::TempDir, Loaded) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let loaded = load_path(&folder.path().join(files[0].0));
    (folder, loaded)
}

fn names(loaded: &Loaded) -> Vec<String> {
    let policy = loaded.policy.as_ref();
    let policy = policy.unwrap_or_else(|| panic!("{}", lines(&loaded.diagnostics)));
    policy
        .plan()
        .rules
        .iter()
        .map(|rule| rule.name.clone())
        .collect()
}

#[test]
fn includes_stand_where_they_are_written() {
    let (folder, loaded) = load(&[
        (
            "policy.toml",
            "include = [\"rules.d\"]\n[[rule]]\nname = \"own 1\"\naction = \"deny\"\n[[rule]]\ninclude = \"between.txt\"\n[[rule]]\nname = \"own 2\"\naction = \"deny\"\n",
        ),
        (
            "rules.d/20-b.json",
            "[{\"name\": \"b\", \"action\": \"deny\"}]",
        ),
        (
            "rules.d/10-a.toml",
            "[[rule]]\nname = \"a\"\naction = \"deny\"\nfrom = \"@shared\"\n",
        ),
        (
            "rules.d/30-c.txt",
            "deny name c1\ninclude ../deeper.rules\ndeny name c2\nset shared 10.0.0.1\n",
        ),
        ("rules.d/.hidden.toml", "nonsense"),
        ("rules.d/readme.md", "nonsense"),
        ("deeper.rules", "deny name deeper\n"),
        ("between.txt", "deny name between\n"),
    ]);
    assert_eq!(
        names(&loaded),
        ["a", "b", "c1", "deeper", "c2", "own 1", "between", "own 2"]
    );
    let policy = loaded.policy.unwrap();
    let relative = |path: &Path| path.strip_prefix(folder.path()).unwrap().to_owned();
    let files: Vec<_> = policy
        .files()
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(files.len(), 6, "{files:?}");
    assert!(files[1].ends_with("rules.d/10-a.toml"), "{files:?}");
    assert_eq!(
        loaded
            .folders
            .iter()
            .map(|path| relative(path))
            .collect::<Vec<_>>(),
        [Path::new("rules.d")]
    );
    let place = &policy.plan().rules[4].position;
    assert!(
        place.file.ends_with("rules.d/30-c.txt") && place.line == 3,
        "{place}"
    );
}

#[test]
fn settings_of_all_files_grow_together() {
    let (_folder, loaded) = load(&[
        (
            "policy.toml",
            "include = [\"a.toml\", \"b.txt\"]\n[default]\ninbound = \"allow\"\n[protect]\naddresses = [\"10.0.0.1\"]\n",
        ),
        (
            "a.toml",
            "mode = \"enforce\"\n[default]\noutbound = \"deny\"\n[protect]\naddresses = [\"10.0.0.2\"]\n",
        ),
        ("b.txt", "default forward reject\nprotect 10.0.0.3\n"),
    ]);
    let plan = loaded
        .policy
        .unwrap_or_else(|| panic!("{}", lines(&loaded.diagnostics)))
        .into_plan();
    assert_eq!(plan.mode, portcullis_policy::Mode::Enforce);
    assert_eq!(
        plan.default.outbound,
        portcullis_policy::DefaultAction::Deny
    );
    assert_eq!(
        plan.default.forward,
        portcullis_policy::DefaultAction::Reject
    );
    assert!(plan.protect.addresses.contains("10.0.0.3".parse().unwrap()));
    assert_eq!(plan.protect.addresses.ranges().len(), 1);
}

#[test]
fn one_setting_in_two_files_is_a_mistake() {
    let (_folder, loaded) = load(&[
        (
            "policy.toml",
            "include = \"a.toml\"\nmode = \"enforce\"\n[sets]\nx = [\"10.0.0.1\"]\n",
        ),
        ("a.toml", "mode = \"enforce\"\n[sets]\nx = [\"10.0.0.2\"]\n"),
    ]);
    let found: Vec<_> = loaded
        .diagnostics
        .iter()
        .map(|found| (found.code, place(found)))
        .collect();
    assert_eq!(
        found,
        [("duplicate-key", (2, 1)), ("duplicate-set", (4, 1))]
    );
    assert!(
        loaded.diagnostics[0].message.contains("a.toml:1:1"),
        "{}",
        loaded.diagnostics[0]
    );
}

#[test]
fn cycles_depth_and_repetition() {
    let (_folder, loaded) = load(&[
        ("a.toml", "include = \"b.txt\"\n"),
        ("b.txt", "\ninclude a.toml\n"),
    ]);
    assert_eq!(
        loaded.diagnostics.len(),
        1,
        "{}",
        lines(&loaded.diagnostics)
    );
    let found = &loaded.diagnostics[0];
    assert_eq!((found.code, place(found)), ("include-cycle", (2, 9)));
    assert!(
        found.position.file.ends_with("b.txt") && found.message.contains("a.toml includes"),
        "{found}"
    );

    let (_folder, loaded) = load(&[
        ("a.toml", "include = [\"b.txt\", \"./b.txt\"]\n"),
        ("b.txt", "deny\n"),
    ]);
    assert_eq!(loaded.diagnostics.len(), 1);
    assert_eq!(
        (loaded.diagnostics[0].code, place(&loaded.diagnostics[0])),
        ("include-twice", (1, 21))
    );

    let files: Vec<(String, String)> = (0..10)
        .map(|n| (format!("{n}.txt"), format!("include {}.txt\n", n + 1)))
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let (_folder, loaded) = load(&files);
    assert_eq!(
        loaded.diagnostics.len(),
        1,
        "{}",
        lines(&loaded.diagnostics)
    );
    assert_eq!(loaded.diagnostics[0].code, "include-depth");
    assert!(
        loaded.diagnostics[0].position.file.ends_with("8.txt"),
        "{}",
        loaded.diagnostics[0]
    );
}

#[test]
fn an_empty_folder_is_told() {
    let (folder, _) = load(&[("x/readme", "")]);
    let path = folder.path().join("policy.toml");
    fs::write(&path, "include = \"x\"\n").unwrap();
    let loaded = load_path(&path);
    assert_eq!(
        (loaded.diagnostics[0].code, loaded.policy.is_some()),
        ("empty-include", true)
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let loaded = load_path(Path::new("/nonexistent/policy.toml"));
    assert_eq!(
        lines(&loaded.diagnostics),
        "/nonexistent/policy.toml:1:1: error[missing-file]: there is no file /nonexistent/policy.toml; expected the path of a policy\n"
    );
    assert_eq!(loaded.files, [Path::new("/nonexistent/policy.toml")]);
    assert_eq!(
        load_path(Path::new("/dev/zero")).diagnostics[0].code,
        "unreadable"
    );
    assert_eq!(
        load_path(Path::new("/tmp")).diagnostics[0].code,
        "unreadable"
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.toml");
    fs::write(&path, b"mode = \"observe\"\n# caf\xe9\n").unwrap();
    let loaded = load_path(&path);
    assert_eq!(
        (loaded.diagnostics[0].code, place(&loaded.diagnostics[0])),
        ("not-utf8", (2, 6))
    );
    // The files are there to be watched although there is no policy.
    assert_eq!(loaded.files, [path]);
}

#[test]
fn a_file_without_a_known_ending_is_known_by_its_text() {
    for text in [
        "deny in tcp port 23\n",
        "[{\"action\": \"deny\", \"port\": 23}]",
        "[[rule]]\naction = \"deny\"\nport = 23\n",
    ] {
        let (_folder, loaded) = load(&[("policy.conf", text)]);
        assert_eq!(names(&loaded).len(), 1);
    }
}

#[test]
fn lists_keep_their_good_lines() {
    let (folder, loaded) = load(&[
        (
            "policy.toml",
            "[sets]\na = { file = \"lists/a.netset\" }\nb = { file = \"lists/empty.txt\" }\nc = { file = \"lists/hosts\", format = \"hosts\" }\n",
        ),
        (
            "lists/a.netset",
            "# c\n10.0.0.0/8\nbad line\n10.1.0.0/16 ; inside\n\n  1.2.3\n1.2.3.4/40\nx\n192.0.2.1-192.0.2.3\n",
        ),
        ("lists/empty.txt", "; nothing\n"),
        ("lists/hosts", "0.0.0.0 ads.example\n127.0.0.1 localhost\n"),
    ]);
    let plan = loaded.policy.as_ref().unwrap().plan();
    let set: Vec<_> = plan.sets[0]
        .addresses
        .prefixes()
        .map(|p| p.to_string())
        .collect();
    assert_eq!(set, ["10.0.0.0/8", "192.0.2.1/32", "192.0.2.2/31"]);
    let shown = lines(&loaded.diagnostics).replace(&folder.path().display().to_string(), "FOLDER");
    insta::assert_snapshot!(shown, @r#"
    FOLDER/lists/a.netset:3:1: warning[bad-lines]: 4 lines are skipped: FOLDER/lists/a.netset:3:1 "bad" is no address, FOLDER/lists/a.netset:6:3 "1.2.3" is only a part of an address, FOLDER/lists/a.netset:7:1 "1.2.3.4/40" has a prefix length that is no number from 0 to 32, …
    FOLDER/lists/empty.txt:1:1: warning[empty-list]: the list is empty
    FOLDER/lists/hosts:1:1: warning[empty-list]: the list names 2 hosts and no address: a list of domains cannot fill a set of addresses
    "#);
}

#[test]
fn a_set_of_a_list_and_of_its_own() {
    let (_folder, loaded) = load(&[
        (
            "policy.txt",
            "set a file a.txt format cidr\nfeed b file a.txt\nprotect @a\n",
        ),
        ("a.txt", "10.0.0.0/8\n"),
    ]);
    let policy = loaded
        .policy
        .unwrap_or_else(|| panic!("{}", lines(&loaded.diagnostics)));
    assert_eq!(
        policy.files().len(),
        2,
        "a list that is used twice is one file"
    );
    let plan = policy.plan();
    assert_eq!(
        (plan.sets.len(), plan.feeds.len(), plan.protect.sets.len()),
        (2, 1, 1)
    );
}

#[test]
fn a_format_is_one_of_five() {
    let (_folder, loaded) = load(&[
        ("policy.txt", "set a file a.txt format host\n"),
        ("a.txt", "10.0.0.0/8\n"),
    ]);
    assert_eq!(loaded.diagnostics.len(), 1);
    let found = &loaded.diagnostics[0];
    assert_eq!((found.code, place(found)), ("unknown-word", (1, 25)));
    assert_eq!(found.suggestion.as_deref(), Some("hosts"));
}

#[test]
fn a_feed_refuses_what_is_too_wide() {
    let (_folder, loaded) = load(&[
        (
            "p.txt",
            "feed bad file bad.netset\nset all file bad.netset\n",
        ),
        ("bad.netset", "192.0.2.1\n0.0.0.0/0\n2000::/3\n"),
    ]);
    assert_eq!(
        loaded.diagnostics.len(),
        1,
        "{}",
        lines(&loaded.diagnostics)
    );
    let told = loaded.diagnostics[0].to_string();
    assert!(
        told.contains("2 lines are skipped") && told.contains("wider than /8"),
        "{told}"
    );
    let lists: Vec<_> = loaded
        .lists
        .iter()
        .map(|list| (list.entries, list.bad_lines))
        .collect();
    assert_eq!(lists, [(2, 0), (1, 2)], "the set `all` holds all of it");
}

/// A million entries, a tenth of them prefixes that hold others: within the time that a person waits, and no more than once in memory.
#[test]
fn a_million_entries_load_at_once() {
    let mut text = String::with_capacity(20 << 20);
    let mut number = 1_u32;
    for entry in 0..1_000_000 {
        // Marsaglia's xorshift: every IPv4 address but 0.0.0.0, in no order.
        number ^= number << 13;
        number ^= number >> 17;
        number ^= number << 5;
        let address = std::net::Ipv4Addr::from_bits(number);
        match entry % 10 {
            0 => text.push_str(&format!("{address}/24\n")),
            _ => text.push_str(&format!("{address}\n")),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("p.txt");
    fs::write(folder.path().join("bad.netset"), &text).unwrap();
    fs::write(&policy, "feed bad file bad.netset\n").unwrap();
    let begun = std::time::Instant::now();
    let loaded = load_path(&policy);
    let took = begun.elapsed();
    let ranges = loaded.lists[0].entries;
    println!(
        "1,000,000 entries of {} bytes in {took:?}: {ranges} ranges",
        text.len()
    );
    assert!((900_000..1_000_000).contains(&ranges), "{ranges}");
    assert!(took.as_secs() < 10, "{took:?}");
}
