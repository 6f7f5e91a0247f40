#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;

const FEED: ListKind = ListKind::Feed;

fn set(prefixes: &[&str]) -> Entries {
    let prefixes = prefixes.iter().map(|prefix| prefix.parse().unwrap());
    let prefixes = prefixes.collect::<Vec<ipnet::IpNet>>();
    Entries::Addresses(prefixes.into_iter().collect())
}

/// The lists of a policy that lives as long as this.
struct Policy<'a>(&'a LastGood, Arc<Claim>);

impl Policy<'_> {
    fn keep(&self, path: &str, entries: &Entries) {
        let (path, digest) = (Path::new(path), digest(entries));
        self.0.keep(&self.1, path, FEED, entries, &digest);
    }

    fn recall(&self, path: &str) -> Vec<Entries> {
        let kept = self.0.recall(&self.1, Path::new(path), FEED);
        kept.into_iter().map(|kept| kept.entries).collect()
    }
}

fn policy(shelf: &LastGood) -> Policy<'_> {
    Policy(shelf, shelf.claim())
}

#[test]
fn what_was_good_comes_back_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = LastGood::open(folder.path());
    let addresses = set(&["192.0.2.1/32", "10.0.0.0/8", "2001:db8::/32", "::/0"]);
    policy(&shelf).keep("/lists/a", &addresses);
    policy(&shelf).keep("/lists/b", &set(&["192.0.2.2/32"]));
    let path = Path::new("/lists/a");
    assert_eq!(shelf.stale_since(path, FEED), None);
    let shelf = LastGood::open(folder.path());
    assert_eq!(policy(&shelf).recall("/lists/a")[0], addresses);
    for other in [ListKind::Set, ListKind::Names] {
        assert_eq!(
            shelf.recall(&shelf.claim(), path, other),
            [],
            "another list"
        );
    }
    assert_eq!(policy(&shelf).recall("/lists/c"), []);
    // The index has microseconds.
    let since = shelf.stale_since(path, FEED).unwrap().to_string();
    let shelf = LastGood::open(folder.path());
    policy(&shelf).recall("/lists/a");
    let again = shelf.stale_since(path, FEED).unwrap().to_string();
    assert_eq!(again, since, "the first time counts");
    let whole = policy(&shelf).recall("/lists");
    assert_eq!(whole.len(), 2, "a folder is its files");
    policy(&shelf).keep("/lists/a", &addresses);
    assert_eq!(shelf.stale_since(path, FEED), None, "it is good again");
}

#[test]
fn names_come_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let text = "ads.example\n@@*.good.example\n".to_owned();
    let names = Entries::Names(NameEntries::from_text(text).unwrap());
    let shelf = LastGood::open(folder.path());
    let (path, kind) = (Path::new("/lists/a"), ListKind::Names);
    shelf.keep(&shelf.claim(), path, kind, &names, &digest(&names));
    let shelf = LastGood::open(folder.path());
    let kept = shelf.recall(&shelf.claim(), path, kind);
    assert_eq!(kept[0].entries, names);
    let file = fs::read_dir(folder.path().join(FOLDER)).unwrap();
    fs::write(file.last().unwrap().unwrap().path(), "other.example\n").unwrap();
    assert_eq!(shelf.recall(&shelf.claim(), path, kind), []);
}

#[test]
fn what_no_policy_names_is_forgotten_and_damage_is_no_list() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = LastGood::open(folder.path());
    let lives = policy(&shelf);
    lives.keep("/a", &set(&["192.0.2.0/24"]));
    policy(&shelf).keep("/b", &set(&["192.0.2.0/24"]));
    shelf.forget_unclaimed();
    shelf.tidy();
    let files = || fs::read_dir(folder.path().join(FOLDER)).unwrap();
    assert_eq!(files().count(), 1);
    assert_eq!(lives.recall("/b"), []);
    assert_eq!(lives.recall("/a").len(), 1);
    let file = files().next().unwrap().unwrap().path();
    for damage in ["192.0.2.0-192.0.2.7\n", "", "nonsense\n"] {
        fs::write(&file, damage).unwrap();
        assert_eq!(lives.recall("/a"), [], "{damage:?}");
    }
    // The next good reading mends it, though the digest says that nothing is new.
    fs::remove_file(&file).unwrap();
    lives.keep("/a", &set(&["192.0.2.0/24"]));
    assert_eq!(lives.recall("/a").len(), 1);
}

/// A power failure between the list and the index must not leave an index that speaks of what is not there.
#[test]
fn a_crash_between_list_and_index_loses_neither_the_old_nor_the_new() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (set(&["192.0.2.0/24"]), set(&["198.51.100.0/24"]));
    let written = |entries: &Entries| {
        let shelf = LastGood::open(folder.path());
        policy(&shelf).keep("/a", entries);
        fs::read(folder.path().join(INDEX)).unwrap()
    };
    let lists = folder.path().join(FOLDER);
    let before = written(&old);
    let file = fs::read_dir(&lists).unwrap().next().unwrap().unwrap();
    let (path, text) = (file.path(), fs::read(file.path()).unwrap());
    written(&new);
    assert_eq!(fs::read_dir(&lists).unwrap().count(), 1, "the old one goes");
    // As it was when the new list was written, and nothing after it.
    fs::write(folder.path().join(INDEX), before).unwrap();
    fs::write(path, text).unwrap();
    let shelf = LastGood::open(folder.path());
    let lives = policy(&shelf);
    assert_eq!(lives.recall("/a"), [old]);
    lives.keep("/a", &new);
    shelf.tidy();
    assert_eq!(fs::read_dir(&lists).unwrap().count(), 1);
    assert_eq!(lives.recall("/a"), [new]);
}

#[test]
fn what_there_is_no_room_for_is_said_and_what_was_kept_stays() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = LastGood::open_with(folder.path(), 40);
    let lives = policy(&shelf);
    let old = set(&["192.0.2.0/24"]);
    lives.keep("/a", &old);
    assert_eq!(shelf.not_kept(), [""; 0]);
    lives.keep(
        "/a",
        &set(&["198.51.100.0/25", "203.0.113.0/25", "10.0.0.0/8"]),
    );
    let told = shelf.not_kept();
    assert!(told[0].contains("/a holds is not kept"), "{told:?}");
    assert_eq!(lives.recall("/a"), [old]);
    lives.keep("/a", &set(&["198.51.100.0/24"]));
    assert_eq!(shelf.not_kept(), [""; 0]);
    assert_eq!(lives.recall("/a"), [set(&["198.51.100.0/24"])]);
}

/// Since the guard asks while packets wait.
#[test]
fn who_asks_does_not_wait_for_who_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = LastGood::open(folder.path());
    let Some(inner) = &shelf.shelf else {
        panic!("it keeps");
    };
    // Somebody writes a large list.
    let disk = lock(&inner.disk);
    let asks = shelf.clone();
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        asks.stale_since(Path::new("/a"), FEED);
        asks.not_kept();
        asks.forget_unclaimed();
        done.send(()).unwrap();
    });
    wait.recv_timeout(std::time::Duration::from_secs(10))
        .unwrap();
    drop(disk);
}

#[test]
fn a_million_ranges_are_kept_and_come_back_soon() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = LastGood::open(folder.path());
    let ranges = (0..1_000_000_u128).map(|n| {
        (
            policy::address::IPV4_FIRST + n * 3,
            policy::address::IPV4_FIRST + n * 3,
        )
    });
    let addresses = Entries::Addresses(AddressSet::from_ranges(ranges));
    let lives = policy(&shelf);
    let begun = std::time::Instant::now();
    lives.keep("/lists/a", &addresses);
    let kept = begun.elapsed();
    lives.keep("/lists/a", &addresses);
    let again = begun.elapsed() - kept;
    let begun = std::time::Instant::now();
    assert_eq!(lives.recall("/lists/a"), [addresses]);
    println!(
        "1,000,000 ranges: kept in {kept:?}, the same again in {again:?}, read back in {:?}",
        begun.elapsed()
    );
    assert!(
        kept.as_secs() < 10 && begun.elapsed().as_secs() < 10,
        "{kept:?}"
    );
}
