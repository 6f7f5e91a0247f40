//! Lists of policies: which policy they make it, what is kept of them, and for how long.

use std::path::Path;

use super::*;
use crate::last_good::LastGood;

fn policy(folder: &Path, text: &str) -> Source {
    let path = folder.join("policy.toml");
    std::fs::write(&path, text).unwrap();
    Source::File(path)
}

fn load(source: &Source, lists: &LastGood) -> Candidate {
    Candidate::load_with(source, clock::now(), lists).unwrap()
}

/// A stage whose confirmations can begin.
fn confirming(text: &str) -> Stage {
    let mut stage = started(text);
    let words = ["/bin/sh", "-c", "echo ready"];
    stage.guard.revert.command = words.map(Into::into).to_vec();
    stage
}

#[test]
fn a_changed_list_of_names_is_another_policy() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("names.txt");
    let source = policy(folder.path(), "[dns]\nlists = \"names.txt\"\n");
    let mut stage = confirming(ENFORCE);
    let lists = stage.guard.state.lists();
    let of = |text: &str| {
        std::fs::write(&list, text).unwrap();
        load(&source, &lists)
    };
    let first = of("ads.example\n");
    assert_eq!(of("! the same\n0.0.0.0 ads.example\n").digest, first.digest);
    let second = of("other.example\n");
    assert_ne!(second.digest, first.digest);
    assert_ne!(of("@@||ads.example^\n").digest, first.digest);
    // So that one which nobody confirmed is not taken up by a restart.
    stage.guard.apply(first.clone(), asked(None)).unwrap();
    let limit = Some(Duration::from_secs(60));
    stage.guard.apply(second.clone(), asked(limit)).unwrap();
    assert_eq!(stage.guard.roll_back(None).unwrap().digest, first.digest);
    let rejected: serde_json::Value = stage.guard.state.read(REJECTED).unwrap();
    assert_eq!(rejected["digest"], second.digest.as_str());
    // And a rollback goes to the one before.
    stage.guard.apply(second, asked(None)).unwrap();
    assert_eq!(stage.guard.roll_back(None).unwrap().digest, first.digest);
}

#[test]
fn a_list_of_names_that_is_gone_stops_nothing_and_blocks_what_it_blocked() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("names.txt");
    let source = policy(folder.path(), "[dns]\nlists = \"names.txt\"\n");
    let mut stage = started(ENFORCE);
    let lists = stage.guard.state.lists();
    std::fs::write(&list, "x y z\nads.example\n||pages.example/x\n").unwrap();
    let good = load(&source, &lists);
    stage.guard.apply(good.clone(), asked(None)).unwrap();
    let shown = stage.guard.status().policy.lists;
    assert_eq!(
        (
            shown[0].kind.as_str(),
            shown[0].names,
            shown[0].skipped,
            shown[0].bad_lines
        ),
        ("names", 1, 1, 1)
    );
    for emptied in [true, false] {
        if emptied {
            std::fs::write(&list, "").unwrap();
        } else {
            std::fs::remove_file(&list).unwrap();
        }
        let again = load(&source, &lists);
        assert_eq!(again.digest, good.digest, "it is the same policy");
        let judged = crate::names::judge(&again.plan, "ads.example").unwrap();
        assert_eq!(judged.verdict, "drop");
        stage.guard.apply(again, asked(None)).unwrap();
        let shown = stage.guard.status().policy.lists;
        assert!(shown[0].stale.is_some(), "emptied {emptied}: {shown:?}");
    }
    // What was in force can be read back at the next start, which is all that there is then.
    let saved = Saved::from(&good);
    load(&saved.as_it_was(), &lists);
}

#[test]
fn what_a_policy_on_its_way_needs_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("feed.netset");
    std::fs::write(&list, "198.51.100.0/24\n").unwrap();
    let source = policy(folder.path(), "[feeds]\nbad = { file = \"feed.netset\" }\n");
    let mut stage = started(ENFORCE);
    let lists = stage.guard.state.lists();
    let fresh = load(&source, &lists);
    // Meanwhile somebody applies another.
    stage.guard.apply(candidate(OTHER), asked(None)).unwrap();
    stage.guard.apply(fresh, asked(None)).unwrap();
    std::fs::write(&list, "").unwrap();
    let emptied = load(&source, &lists);
    assert!(emptied.lists[0].stale.is_some(), "{:?}", emptied.warnings);
    assert_eq!(emptied.lists[0].entries, 1);
    drop(emptied);
    // Two policies later nobody can go back to it.
    for text in [OTHER, ENFORCE] {
        stage.guard.apply(candidate(text), asked(None)).unwrap();
    }
    stage.guard.tell_of_lists(&[]);
    let nothing = Candidate::load_with(&source, clock::now(), &lists).unwrap();
    assert!(nothing.lists[0].stale.is_none() && nothing.lists[0].entries == 0);
}

/// Reading may be much work: not for a policy that cannot come into force.
#[test]
fn while_a_policy_waits_no_other_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("feed.netset");
    std::fs::write(&list, "198.51.100.0/24\n").unwrap();
    let source = policy(folder.path(), "[feeds]\nbad = { file = \"feed.netset\" }\n");
    let mut stage = confirming(ENFORCE);
    let lists = stage.guard.state.lists();
    let (handle, inbox) = Handle::channel();
    let (watch, watching) = Watch::start(handle.clone(), lists.clone()).unwrap();
    stage.guard.watch = watch.clone();
    let fresh = load(&source, &lists);
    let limit = Some(Duration::from_secs(600));
    stage.guard.apply(fresh, asked(limit)).unwrap();
    let Stage { guard, .. } = stage;
    let run = std::thread::spawn(move || guard.run(&inbox));
    let looked_at = || std::fs::metadata(&list).unwrap().accessed().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    std::fs::write(&list, "203.0.113.0/24\n").unwrap();
    // So that the next reading moves the time of access, also where the file system moves it seldom.
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    let times = std::fs::FileTimes::new().set_accessed(long_ago);
    std::fs::File::options()
        .append(true)
        .open(&list)
        .unwrap()
        .set_times(times)
        .unwrap();
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(
        looked_at(),
        long_ago,
        "it was read although nothing can come of it"
    );
    let ranges = |handle: &Handle| {
        let set = |guard: &mut Guard| guard.in_force.plan.sets[0].addresses.ranges().to_vec();
        handle.ask(set).unwrap()
    };
    let before = ranges(&handle);
    handle.ask(Guard::confirm).unwrap().unwrap();
    let begun = Instant::now();
    while ranges(&handle) == before {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it is read after that"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    watch.stop();
    watching.join().unwrap();
    handle.stop();
    run.join().unwrap();
}
