//! Lists that give nothing, of addresses and of names: they are what somebody remembers of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis_policy::names::NameVerdict;
use portcullis_policy::{Entries, Keeper, Kept, ListKind};

/// What a daemon remembers, in memory.
#[derive(Default)]
struct Shelf(BTreeMap<(PathBuf, ListKind), Entries>);

impl Keeper for Shelf {
    fn keep(&mut self, path: &Path, kind: ListKind, entries: &Entries) {
        self.0.insert((path.to_owned(), kind), entries.clone());
    }

    fn recall(&mut self, path: &Path, kind: ListKind) -> Vec<Kept> {
        let kept = self
            .0
            .iter()
            .filter(|((kept, of), _)| *of == kind && (kept == path || kept.parent() == Some(path)));
        kept.map(|((path, _), entries)| Kept {
            path: path.clone(),
            entries: entries.clone(),
            read: portcullis_policy::Timestamp::from_secs(1),
        })
        .collect()
    }
}

/// The first set's prefixes, and the codes of what is said.
fn held(policy: &Path, shelf: &mut Shelf) -> (String, Vec<&'static str>) {
    let loaded = portcullis_policy::load_path_with(policy, shelf, 0);
    let codes = loaded.diagnostics.iter().map(|found| found.code).collect();
    let Some(policy) = loaded.policy else {
        return ("no policy".to_owned(), codes);
    };
    let set = policy.into_plan().sets[0].addresses.clone();
    let prefixes: Vec<_> = set.prefixes().map(|prefix| prefix.to_string()).collect();
    (prefixes.join(" "), codes)
}

#[test]
fn a_list_that_gives_nothing_keeps_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, list) = (
        folder.path().join("p.txt"),
        folder.path().join("bad.netset"),
    );
    fs::write(&policy, "feed bad file bad.netset\n").unwrap();
    let mut shelf = Shelf::default();
    assert_eq!(
        held(&policy, &mut shelf),
        ("no policy".to_owned(), vec!["missing-file"]),
        "who names a file that never was has made a mistake"
    );
    let kept = ("192.0.2.1/32".to_owned(), vec!["stale-list"]);
    for (content, expected) in [
        (Some("192.0.2.1\n"), ("192.0.2.1/32".to_owned(), vec![])),
        (Some(""), kept.clone()),
        (Some("# fetched, nothing in it\n"), kept.clone()),
        (Some("<html>502 Bad Gateway</html>\n"), kept.clone()),
        (None, kept.clone()),
        (
            Some("198.51.100.0/24\nx\n"),
            ("198.51.100.0/24".to_owned(), vec!["bad-lines"]),
        ),
        (Some("# empty\n"), (String::new(), vec![])),
        (None, (String::new(), vec!["stale-list"])),
    ] {
        match content {
            Some(text) => fs::write(&list, text).unwrap(),
            None => fs::remove_file(&list).unwrap(),
        }
        assert_eq!(held(&policy, &mut shelf), expected, "{content:?}");
    }
    // A folder in the file's place, a loop of links: no list, and no reason to let go of what it held.
    fs::write(&list, "192.0.2.9\n").unwrap();
    held(&policy, &mut shelf);
    fs::remove_file(&list).unwrap();
    std::os::unix::fs::symlink(&list, &list).unwrap();
    assert_eq!(
        held(&policy, &mut shelf),
        ("192.0.2.9/32".to_owned(), vec!["stale-list"])
    );
}

#[test]
fn a_folder_is_a_list_of_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("p.txt");
    let file = |name: &str| folder.path().join("lists").join(name);
    fs::create_dir_all(file("deeper.netset")).unwrap();
    fs::write(&policy, "feed bad file lists\n").unwrap();
    let mut shelf = Shelf::default();
    assert_eq!(
        held(&policy, &mut shelf),
        (String::new(), vec!["empty-list"])
    );
    fs::write(file("b.netset"), "192.0.2.2\nx\n").unwrap();
    fs::write(file("a.txt"), "192.0.2.4\ny\n").unwrap();
    for other in [
        ".hidden",
        "a.txt~",
        ".a.txt.swp",
        "c.swp",
        "d.tmp",
        "e.part",
    ] {
        fs::write(file(other), "203.0.113.1\n").unwrap();
    }
    let loaded = portcullis_policy::load_path_with(&policy, &mut shelf, 0);
    let names: Vec<_> = loaded
        .lists
        .iter()
        .map(|list| list.path.file_name().unwrap())
        .collect();
    assert_eq!(names, ["a.txt", "b.netset"]);
    assert_eq!(loaded.folders, [folder.path().join("lists")]);
    assert_eq!(loaded.files.len(), 3);
    assert!(
        loaded.stamps.values().all(Option::is_some),
        "{:?}",
        loaded.stamps
    );
    assert_eq!(loaded.stamps.len(), 4, "the folder too");
    let both = "192.0.2.2/32 192.0.2.4/32";
    let bad = vec!["bad-lines", "bad-lines"];
    assert_eq!(held(&policy, &mut shelf), (both.to_owned(), bad));
    fs::write(file("a.txt"), "").unwrap();
    assert_eq!(
        held(&policy, &mut shelf),
        (both.to_owned(), vec!["stale-list", "bad-lines"])
    );
    fs::remove_file(file("a.txt")).unwrap();
    assert_eq!(
        held(&policy, &mut shelf),
        ("192.0.2.2/32".to_owned(), vec!["bad-lines"]),
        "one file less is what somebody wanted"
    );
    fs::remove_file(file("b.netset")).unwrap();
    assert!(held(&policy, &mut shelf).0.contains("192.0.2.2/32"));
    fs::remove_dir_all(folder.path().join("lists")).unwrap();
    assert!(held(&policy, &mut shelf).0.contains("192.0.2.2/32"));
}

/// Which of `names` are blocked, and the codes of what is said.
fn blocked(policy: &Path, shelf: &mut Shelf, names: &[&str]) -> (String, Vec<&'static str>) {
    let loaded = portcullis_policy::load_path_with(policy, shelf, 0);
    let codes = loaded.diagnostics.iter().map(|found| found.code).collect();
    let Some(policy) = loaded.policy else {
        return ("no policy".to_owned(), codes);
    };
    let filter = policy.into_plan().dns.unwrap().names;
    let is_blocked =
        |name: &&&str| matches!(filter.judge(name.as_bytes()), NameVerdict::Blocked(_));
    let blocked: Vec<_> = names.iter().filter(is_blocked).copied().collect();
    (blocked.join(" "), codes)
}

#[test]
fn a_list_of_names_that_gives_nothing_keeps_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, list) = (folder.path().join("p.txt"), folder.path().join("ads.txt"));
    fs::write(&policy, "option dns.lists ads.txt\n").unwrap();
    let mut shelf = Shelf::default();
    let now = |shelf: &mut Shelf| {
        blocked(
            &policy,
            shelf,
            &[
                "ads.example",
                "x.ads.example",
                "good.ads.example",
                "b.example",
            ],
        )
    };
    assert_eq!(
        now(&mut shelf),
        ("no policy".to_owned(), vec!["missing-file"]),
        "who names a file that never was has made a mistake"
    );
    let all = "ads.example x.ads.example".to_owned();
    let kept = (all.clone(), vec!["stale-list"]);
    for (content, expected) in [
        (
            Some("||ads.example^ # mine\n@@||good.ads.example^\n"),
            (all.clone(), vec![]),
        ),
        (Some(""), kept.clone()),
        (Some("! fetched, nothing in it\n"), kept.clone()),
        (Some("<html>502 Bad Gateway</html>\n"), kept.clone()),
        (
            Some("! all of it is about pages\n/banner/*\n"),
            kept.clone(),
        ),
        (None, kept.clone()),
        (
            Some("b.example\nx y z\n"),
            ("b.example".to_owned(), vec!["bad-lines"]),
        ),
        (Some("! empty\n"), (String::new(), vec![])),
        (None, (String::new(), vec!["stale-list"])),
    ] {
        match content {
            Some(text) => fs::write(&list, text).unwrap(),
            None => fs::remove_file(&list).unwrap(),
        }
        assert_eq!(now(&mut shelf), expected, "{content:?}");
    }
}

#[test]
fn a_folder_of_names_keeps_what_its_files_held() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("p.txt");
    let lists = folder.path().join("lists");
    fs::create_dir(&lists).unwrap();
    fs::write(&policy, "option dns.lists lists\n").unwrap();
    let mut shelf = Shelf::default();
    let names = ["a.example", "b.example"];
    assert_eq!(
        blocked(&policy, &mut shelf, &names),
        (String::new(), vec!["empty-list"])
    );
    fs::write(lists.join("a"), "a.example\n").unwrap();
    fs::write(lists.join("b"), "b.example\n").unwrap();
    let both = "a.example b.example".to_owned();
    assert_eq!(blocked(&policy, &mut shelf, &names), (both.clone(), vec![]));
    let loaded = portcullis_policy::load_path_with(&policy, &mut shelf, 0);
    let told: Vec<_> = loaded
        .lists
        .iter()
        .map(|list| (list.kind, list.set.as_str(), list.entries))
        .collect();
    assert_eq!(
        told,
        [(ListKind::Names, "lists", 1), (ListKind::Names, "lists", 1)]
    );
    fs::remove_file(lists.join("a")).unwrap();
    assert_eq!(
        blocked(&policy, &mut shelf, &names),
        ("b.example".to_owned(), vec![]),
        "one file less is what somebody wanted"
    );
    fs::remove_dir_all(&lists).unwrap();
    assert_eq!(
        blocked(&policy, &mut shelf, &names),
        (both, vec!["stale-list", "stale-list"])
    );
}

/// A list that grew beyond what there is room for is no reason to have none at all.
#[test]
fn a_list_that_is_too_long_keeps_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, list) = (folder.path().join("p.txt"), folder.path().join("list"));
    let mut shelf = Shelf::default();
    fs::write(&policy, "feed bad file list\n").unwrap();
    fs::write(&list, "192.0.2.1\n").unwrap();
    held(&policy, &mut shelf);
    fs::write(&list, "192.0.2.1\n".repeat(10_000_001)).unwrap();
    assert_eq!(
        held(&policy, &mut shelf),
        ("192.0.2.1/32".to_owned(), vec!["stale-list"])
    );
    assert_eq!(
        held(&policy, &mut Shelf::default()),
        ("no policy".to_owned(), vec!["too-many"])
    );
}

/// What is not there when it is looked for, and there when the reading is over, has changed: nobody would look again otherwise.
#[test]
fn what_was_not_there_has_no_stamp() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("p.txt");
    fs::write(&policy, "feed bad file list\noption dns.lists names\n").unwrap();
    fs::create_dir(folder.path().join("names")).unwrap();
    let loaded = portcullis_policy::load_path(&policy);
    let stamp = |name: &str| loaded.stamps[&folder.path().join(name)];
    assert_eq!(stamp("list"), None);
    assert!(stamp("names").is_some() && stamp("p.txt").is_some());
    // One that is there and cannot be read is not read again before it changes.
    fs::write(&policy, "feed bad file list\n").unwrap();
    fs::write(folder.path().join("list"), "").unwrap();
    let folder_as_policy = portcullis_policy::load_path(folder.path());
    assert!(folder_as_policy.policy.is_none());
    assert!(folder_as_policy.stamps[folder.path()].is_some());
}
