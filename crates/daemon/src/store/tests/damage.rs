//! Files that cannot be used: damaged, somebody else's, locked, or on a full disk. The record goes on, and no ban is lost.

use std::path::Path;

use super::*;

fn works(store: &Store) {
    store.event(Entry {
        id: 1_000_000,
        at: now(),
        ..entries().remove(0)
    });
    assert!(store.flush(PATIENCE));
    assert!(store.reader().unwrap().event(1_000_000).unwrap().is_some());
    assert_eq!(store.state().state, "writing");
}

/// Opens a store where a file is that is none.
fn is_moved_aside(path: &Path) {
    let opened = Store::open(path, &LogSettings::default()).unwrap();
    assert!(
        opened.warnings.len() == 1 && opened.warnings[0].contains("store.db.bad-1"),
        "{:?}",
        opened.warnings
    );
    works(&opened.store);
}

#[test]
fn a_corrupt_file_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    fs::write(&path, vec![0x41; 100_000]).unwrap();
    is_moved_aside(&path);
    assert_eq!(
        fs::read(folder.path().join("store.db.bad-1")).unwrap(),
        vec![0x41; 100_000]
    );
}

#[test]
fn somebody_elses_database_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch("CREATE TABLE events (name TEXT)")
        .unwrap();
    drop(other);
    is_moved_aside(&path);
}

#[test]
fn a_locked_file_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE mine (a);")
        .unwrap();
    is_moved_aside(&path);
}

#[test]
fn a_file_that_breaks_under_way_is_replaced_and_asks_for_the_bans() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let opened = Store::open(&path, &LogSettings::default()).unwrap();
    for entry in entries() {
        opened.store.event(entry);
    }
    assert!(opened.store.flush(PATIENCE));
    assert!(!opened.store.take_bans_wanted());
    // A write over every page, as a bad disk or a careless copy makes it. The log is emptied first, or it would heal the pages.
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(other);
    let length = fs::metadata(&path).unwrap().len();
    fs::write(&path, vec![0xff; length as usize]).unwrap();
    let mut asked = false;
    for attempt in 0..40 {
        opened.store.event(Entry {
            id: 2_000_000 + attempt,
            at: now(),
            ..entries().remove(0)
        });
        assert!(opened.store.flush(PATIENCE));
        asked |= opened.store.take_bans_wanted();
        if asked && opened.store.state().state == "writing" {
            break;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    assert!(asked);
    assert!(folder.path().join("store.db.bad-1").exists());
    assert!(opened.store.state().lost > 0);
    works(&opened.store);
}

#[test]
fn no_place_for_a_file_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent/store.db");
    let opened = Store::open(&path, &LogSettings::default()).unwrap();
    assert_eq!(opened.warnings.len(), 1);
    opened.store.event(entries().remove(0));
    assert!(opened.store.flush(PATIENCE));
    assert_eq!(
        (
            opened.store.state().state.as_str(),
            opened.store.state().lost
        ),
        ("stopped", 1)
    );
    assert!(opened.store.reader().is_err());
    fs::create_dir(folder.path().join("absent")).unwrap();
    std::thread::sleep(Duration::from_millis(2_500));
    works(&opened.store);
}

#[test]
fn bans_that_a_full_disk_kept_out_are_asked_for_until_they_are_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let file = file::open_or_replace(&path, &mut Vec::new()).unwrap();
    let pages: i64 = file
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    file.pragma_update(None, "max_page_count", pages + 4)
        .unwrap();
    let (sender, receiver) = sync_channel(CHANNEL);
    let shared = Arc::new(Shared {
        path: path.clone(),
        ..Shared::default()
    });
    let settings = LogSettings::default();
    let thread = spawn(Some(file), receiver, Arc::clone(&shared), settings).unwrap();
    let store = Store { sender, shared };
    let mut entry = entries().remove(0);
    entry.json = "x".repeat(10_000);
    store.event(entry.clone());
    assert!(store.flush(PATIENCE));
    assert_eq!(store.state().error, None, "it fits");
    for id in 2..9 {
        store.event(Entry {
            id,
            ..entry.clone()
        });
    }
    store.ban(samples::ban());
    assert!(store.flush(PATIENCE));
    assert!(store.state().error.unwrap().contains("full"));
    let wanted = || {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !store.take_bans_wanted() {
            assert!(std::time::Instant::now() < deadline, "nobody asks");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wanted();
    // There is room again.
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute("DELETE FROM events", [])
        .unwrap();
    store.replace(Memory {
        bans: vec![samples::ban()],
        offenders: vec![engine::Offender::from(&samples::ban())],
        clock: Clock::new().stamp(),
    });
    assert!(store.flush(PATIENCE));
    assert_eq!(store.state().error, None);
    store.stop();
    thread.join().unwrap();
    let again = Store::open(&path, &LogSettings::default()).unwrap();
    assert_eq!(again.bans, [samples::ban()]);
    assert_eq!(again.offenders.len(), 1);
    again.store.stop();
    again.thread.join().unwrap();
}
