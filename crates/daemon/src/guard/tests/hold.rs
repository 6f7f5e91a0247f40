//! Policies that wait for their confirmation, and what comes back when it does not come.

use kernel::datapath::{Applied, Apply, DatapathError, HeldBan, OwnBan, Snapshot};

use super::*;

const THIRD: &str = "mode = \"enforce\"\n[[rule]]\nname = \"names\"\naction = \"allow\"\ndirection = \"in\"\nprotocol = \"tcp\"\nport = 53\n";

/// A guard whose policies can wait: what stands for the reverting process says that it stands, and ends.
fn waiting() -> Stage {
    let mut stage = started(ENFORCE);
    let words = ["/bin/sh", "-c", "echo ready"];
    stage.guard.revert.command = words.map(Into::into).to_vec();
    stage
}

fn hold(stage: &mut Stage, text: &str) -> api::Applied {
    let minute = Some(Duration::from_secs(60));
    let applied = stage.guard.apply(candidate(text), asked(minute)).unwrap();
    assert!(applied.pending.is_some());
    applied
}

fn kept<T: serde::de::DeserializeOwned>(stage: &Stage, name: &str) -> Option<T> {
    stage.guard.state.read(name)
}

/// The digest of the policy that was rolled back.
fn rejected(stage: &Stage) -> Option<String> {
    let rejected: serde_json::Value = kept(stage, REJECTED)?;
    Some(rejected["digest"].as_str().unwrap().to_owned())
}

const RELOAD: Asked = Asked {
    by: By::Reload,
    confirm: None,
    force: false,
};

/// The digest of the policy that the next daemon would begin with.
fn applied(stage: &Stage) -> String {
    kept::<Saved>(stage, APPLIED).unwrap().digest
}

#[test]
fn what_was_in_force_comes_back_and_not_what_was_before_it() {
    let mut stage = waiting();
    stage.guard.apply(candidate(OTHER), asked(None)).unwrap();
    let refused = hold(&mut stage, THIRD).digest;
    assert!(passes(&stage.guard, 53));
    let back = stage.guard.roll_back(None).unwrap();
    assert_eq!((back.digest, back.pending), (candidate(OTHER).digest, None));
    assert!(passes(&stage.guard, 25) && !passes(&stage.guard, 80));
    assert_eq!(rejected(&stage), Some(refused));
    assert!(!stage.folder.path().join("state/pending.json").exists());
    // What was never confirmed is nothing to go back to.
    stage.guard.roll_back(None).unwrap();
    assert!(passes(&stage.guard, 80));
}

#[test]
fn a_second_rollback_does_not_lead_forward() {
    let mut stage = waiting();
    stage.guard.apply(candidate(OTHER), asked(None)).unwrap();
    stage.guard.roll_back(None).unwrap();
    assert!(passes(&stage.guard, 80));
    let refused = stage.guard.roll_back(None).unwrap_err();
    assert!(matches!(refused, ApplyError::NoPrevious), "{refused}");
    assert!(passes(&stage.guard, 80) && !passes(&stage.guard, 25));
    // Nor does its file by itself; who applies it has it.
    let error = stage.guard.apply(candidate(OTHER), RELOAD).unwrap_err();
    assert!(matches!(error, ApplyError::RolledBack { .. }), "{error}");
    stage.guard.apply(candidate(OTHER), asked(None)).unwrap();
    assert_eq!(rejected(&stage), None);
    stage.guard.apply(candidate(OTHER), RELOAD).unwrap();
}

#[test]
fn what_was_not_confirmed_does_not_come_back_by_itself() {
    let mut stage = waiting();
    hold(&mut stage, OTHER);
    stage.guard.roll_back(None).unwrap();
    let error = stage.guard.apply(candidate(OTHER), RELOAD).unwrap_err();
    assert!(error.to_string().contains("was rolled back"), "{error}");
    assert!(passes(&stage.guard, 80) && !passes(&stage.guard, 25));
    // Changed, it is another policy.
    stage.guard.apply(candidate(THIRD), RELOAD).unwrap();
    assert!(passes(&stage.guard, 53));
}

#[test]
fn a_changed_list_brings_no_rolled_back_policy_in() {
    let mut stage = waiting();
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("bad.netset");
    let text = format!("{OTHER}[feeds]\nbad = {{ file = {list:?} }}\n");
    std::fs::write(&list, "198.51.100.0/24\n").unwrap();
    hold(&mut stage, &text);
    stage.guard.roll_back(None).unwrap();
    std::fs::write(&list, "198.51.100.0/24\n198.18.0.0/16\n").unwrap();
    let error = stage.guard.apply(candidate(&text), RELOAD).unwrap_err();
    assert!(matches!(error, ApplyError::RolledBack { .. }), "{error}");
}

#[test]
fn a_file_that_changes_does_not_begin_to_enforce() {
    let mut stage = waiting();
    let observing = ENFORCE.replace("enforce", "observe");
    (stage.guard.apply(candidate(&observing), asked(None))).unwrap();
    let error = stage.guard.apply(candidate(OTHER), RELOAD).unwrap_err();
    assert!(error.to_string().contains("says enforce now"), "{error}");
    assert_eq!(stage.kernel.dump(), "");
    // Who asks for it has it, and its changes are taken from then on.
    stage.guard.apply(candidate(OTHER), asked(None)).unwrap();
    stage.guard.apply(candidate(THIRD), RELOAD).unwrap();
    assert!(passes(&stage.guard, 53));
}

#[test]
fn a_wait_that_would_bring_nothing_back_is_refused() {
    let mut stage = waiting();
    stage.guard.apply(candidate(OTHER), RELOAD).unwrap();
    let minute = Some(Duration::from_secs(60));
    let error = (stage.guard.apply(candidate(OTHER), asked(minute))).unwrap_err();
    let text = error.to_string();
    let previous = format!(
        "`portcullis rollback` goes back to <text> ({})",
        candidate(ENFORCE).digest
    );
    assert!(
        text.contains("in force already") && text.contains(&previous),
        "{text}"
    );
    assert!(text.contains("by reload"), "{text}");
    assert_eq!(stage.guard.status().pending, None);
    assert_eq!(rejected(&stage), None);
    assert_eq!(applied(&stage), candidate(OTHER).digest);
}

/// Else going back would lead to what somebody else left, which is nothing.
#[test]
fn what_comes_back_is_not_what_a_stranger_left() {
    let mut stage = waiting();
    stage.guard.ban(&by_hand("203.0.113.7", 600)).unwrap();
    stage.kernel.flush();
    hold(&mut stage, OTHER);
    let mut datapath = stage.kernel.clone();
    let waits = stage.guard.hold.as_ref().unwrap();
    datapath.restore(waits.snapshot().unwrap()).unwrap();
    let dump = stage.kernel.dump();
    assert!(dump.contains("tcp dport 80"), "{dump}");
    assert!(dump.contains("ban 203.0.113.7/32"), "{dump}");
    assert_eq!(stage.guard.status().drift.repaired, 1);
}

#[test]
fn after_a_flush_an_unconfirmed_policy_leaves_nothing_in_the_kernel() {
    let mut stage = waiting();
    stage.guard.flush().unwrap();
    hold(&mut stage, ENFORCE);
    assert_eq!(stage.guard.status().mode, "enforce");
    stage.guard.roll_back(None).unwrap();
    assert_eq!(stage.guard.status().mode, "observe");
    assert_eq!(stage.kernel.dump(), "");
}

/// Who flees by `flush` from a policy that locks him out, and follows what it says, must not lock himself out again.
#[test]
fn what_was_not_confirmed_does_not_come_back_after_a_flush() {
    let mut stage = waiting();
    let before = applied(&stage);
    hold(&mut stage, OTHER);
    stage.guard.flush().unwrap();
    assert_eq!(applied(&stage), before);
    assert_eq!(stage.kernel.dump(), "");
    assert_eq!(stage.guard.status().pending, None);
}

#[test]
fn who_keeps_another_file_hears_what_the_next_start_takes() {
    let mut stage = waiting();
    hold(&mut stage, OTHER);
    stage.guard.begins_with = Source::File("/etc/portcullis/policy.toml".into());
    let kept = stage.guard.confirm().unwrap().warnings;
    assert!(
        kept[0].contains("the next start takes /etc/portcullis/policy.toml"),
        "{kept:?}"
    );
    let file = stage.folder.path().join("policy.toml");
    stage.guard.begins_with = Source::File(file.clone());
    let told = stage
        .guard
        .apply(candidate(THIRD), asked(None))
        .unwrap()
        .warnings;
    assert!(
        told.iter().any(|text| text.contains("next start")),
        "{told:?}"
    );
    std::fs::write(&file, OTHER).unwrap();
    let told = stage
        .guard
        .apply(candidate(OTHER), asked(None))
        .unwrap()
        .warnings;
    assert!(
        !told.iter().any(|text| text.contains("next start")),
        "{told:?}"
    );
}

#[test]
fn a_file_that_the_next_start_takes_and_that_is_not_in_force_is_told_until_it_is() {
    let mut stage = waiting();
    let file = stage.folder.path().join("policy.toml");
    std::fs::write(&file, ENFORCE).unwrap();
    let main = || Candidate::load(&Source::File(file.clone()), clock::now()).unwrap();
    stage.guard.begins_with = Source::File(file.clone());
    stage.guard.apply(main(), asked(None)).unwrap();
    let sentence = format!(
        "{0}, which the next start takes, is not what is in force: <text> is; `portcullis apply {0}` takes it",
        file.display()
    );
    let told = |stage: &mut Stage| stage.guard.status().warnings.contains(&sentence);
    assert!(!told(&mut stage));
    hold(&mut stage, OTHER);
    assert!(
        !told(&mut stage),
        "nothing is settled before it is confirmed"
    );
    stage.guard.confirm().unwrap();
    assert!(told(&mut stage));
    let reloaded = stage.guard.apply(candidate(OTHER), RELOAD).unwrap();
    assert!(
        reloaded.warnings.contains(&sentence),
        "{:?}",
        reloaded.warnings
    );
    // Copied there, the next start takes what is in force.
    std::fs::write(&file, OTHER).unwrap();
    assert!(!told(&mut stage));
    std::fs::write(&file, THIRD).unwrap();
    assert!(told(&mut stage));
    stage.guard.apply(main(), asked(None)).unwrap();
    assert!(!told(&mut stage));
    let reloaded = stage.guard.apply(main(), RELOAD).unwrap();
    assert!(
        !reloaded.warnings.contains(&sentence),
        "{:?}",
        reloaded.warnings
    );
}

#[test]
fn after_a_flush_nothing_is_said_of_what_the_kernel_holds() {
    let mut stage = waiting();
    stage.guard.check(clock::now());
    assert!(stage.guard.status().drift.checked.is_some());
    // Also where the last check found what it could not put back.
    stage.kernel.flush();
    stage.kernel.fail(1);
    stage.guard.check(clock::now());
    stage.guard.flush().unwrap();
    stage.guard.check(clock::now());
    let drift = stage.guard.status().drift;
    assert_eq!((drift.checked, drift.in_sync), (None, true));
    stage.guard.apply(candidate(OTHER), asked(None)).unwrap();
    assert!(stage.guard.status().drift.checked.is_some());
}

#[test]
fn after_confirming_a_rollback_goes_to_what_was_before() {
    let mut stage = waiting();
    hold(&mut stage, OTHER);
    stage.guard.confirm().unwrap();
    assert!(passes(&stage.guard, 25));
    assert!(matches!(
        stage.guard.confirm(),
        Err(ApplyError::NothingPending)
    ));
    stage.guard.roll_back(None).unwrap();
    assert!(passes(&stage.guard, 80));
    assert_eq!(rejected(&stage), Some(candidate(OTHER).digest));
}

#[test]
fn what_the_kernel_held_comes_back_with_its_policy() {
    let mut stage = waiting();
    let before = stage.kernel.dump();
    let refused = hold(&mut stage, OTHER).digest;
    // The check, counters, then the transaction.
    stage.kernel.fail(3);
    let back = stage.guard.roll_back(None).unwrap();
    assert!(
        back.warnings[0].contains("as they were"),
        "{:?}",
        back.warnings
    );
    assert_eq!(back.pending, None);
    assert_eq!(stage.kernel.dump(), before);
    assert!(passes(&stage.guard, 80) && !passes(&stage.guard, 25));
    assert_eq!(applied(&stage), candidate(ENFORCE).digest);
    assert_eq!(rejected(&stage), Some(refused));
    // What is put back from now on is what came back.
    stage.kernel.flush();
    stage.guard.check(clock::now());
    assert_eq!(stage.kernel.dump(), before);
}

#[test]
fn from_observing_and_back_though_the_kernel_refuses() {
    let mut stage = waiting();
    let observing = ENFORCE.replace("enforce", "observe");
    stage
        .guard
        .apply(candidate(&observing), asked(None))
        .unwrap();
    hold(&mut stage, OTHER);
    assert_eq!(stage.guard.status().mode, "enforce");
    // The check, counters, then the removal.
    stage.kernel.fail(3);
    stage.guard.roll_back(None).unwrap();
    assert_eq!(stage.kernel.dump(), "");
    assert_eq!(stage.guard.status().mode, "observe");
    assert_eq!(applied(&stage), candidate(&observing).digest);
}

#[test]
fn what_cannot_go_back_yet_is_tried_again() {
    let mut stage = waiting();
    let before = stage.kernel.dump();
    let moment = Some(Duration::from_millis(1));
    stage.guard.apply(candidate(OTHER), asked(moment)).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    // The check, counters, the transaction, the snapshot.
    stage.kernel.fail(3);
    stage.kernel.fail(4);
    stage.guard.watch_hold();
    assert!(stage.guard.status().pending.is_some());
    assert!(passes(&stage.guard, 25), "engine and kernel are one");
    let operations = stage.kernel.operations().len();
    stage.guard.watch_hold();
    assert_eq!(stage.kernel.operations().len(), operations, "not at once");
    std::thread::sleep(Duration::from_millis(1_050));
    stage.guard.watch_hold();
    assert_eq!(stage.guard.status().pending, None);
    assert_eq!(stage.kernel.dump(), before);
}

#[test]
fn a_policy_is_confirmed_or_still_waits() {
    let mut stage = waiting();
    hold(&mut stage, OTHER);
    let file = stage.folder.path().join("state/pending.json");
    let text = std::fs::read(&file).unwrap();
    // Nobody removes a folder as if it were a file.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let error = stage.guard.confirm().unwrap_err();
    assert!(
        matches!(error, ApplyError::Hold(HoldError::Undecided(_))),
        "{error}"
    );
    assert!(stage.guard.status().pending.is_some());
    // The reverting process was faster.
    std::fs::remove_dir(&file).unwrap();
    let error = stage.guard.confirm().unwrap_err();
    assert!(
        matches!(error, ApplyError::Hold(HoldError::TooLate)),
        "{error}"
    );
    std::fs::write(&file, text).unwrap();
    stage.guard.confirm().unwrap();
    assert_eq!(stage.guard.status().pending, None);
    assert!(!file.exists() && passes(&stage.guard, 25));
}

/// Fails after the kernel has taken the rules, as reading back does.
struct Late(FakeDatapath);

impl Datapath for Late {
    fn apply(&mut self, request: &Apply<'_>) -> Result<Applied, DatapathError> {
        self.0.apply(request)?;
        let what = "chain inbound".to_owned();
        Err(DatapathError::ReadBack { what })
    }

    fn bans_many(&mut self, bans: &[(IpNet, Option<Duration>)]) -> Result<(), DatapathError> {
        self.0.bans_many(bans)
    }

    fn unban(&mut self, prefix: IpNet) -> Result<bool, DatapathError> {
        self.0.unban(prefix)
    }

    fn bans(&mut self) -> Result<Vec<HeldBan>, DatapathError> {
        self.0.bans()
    }

    fn take_own_bans(&mut self) -> Result<Vec<OwnBan>, DatapathError> {
        self.0.take_own_bans()
    }

    fn counters(&mut self) -> Result<Counters, DatapathError> {
        self.0.counters()
    }

    fn check(&mut self) -> Result<Drift, DatapathError> {
        self.0.check()
    }

    fn snapshot(&mut self) -> Result<Snapshot, DatapathError> {
        self.0.snapshot()
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), DatapathError> {
        self.0.restore(snapshot)
    }

    fn remove(&mut self) -> Result<(), DatapathError> {
        self.0.remove()
    }
}

#[test]
fn who_observes_keeps_no_rules_of_a_refused_policy() {
    let mut stage = started(&ENFORCE.replace("enforce", "observe"));
    stage.guard.datapath = Some(Box::new(Late(stage.kernel.clone())));
    let error = stage
        .guard
        .apply(candidate(OTHER), asked(None))
        .unwrap_err();
    assert!(error.to_string().contains("chain inbound"), "{error}");
    assert!(
        stage
            .kernel
            .operations()
            .iter()
            .any(|operation| operation == "apply")
    );
    assert_eq!(stage.kernel.dump(), "");
    assert_eq!(stage.guard.status().mode, "observe");
}

#[test]
fn who_cannot_begin_leaves_the_rules_that_are_there() {
    let kernel = FakeDatapath::new();
    let mut first = stage(ENFORCE, kernel.clone(), Vec::new());
    first.guard.start().unwrap();
    let before = kernel.dump();
    drop(first);
    let mut second = stage(OTHER, kernel.clone(), Vec::new());
    // What is there, then the transaction.
    kernel.fail(2);
    second.guard.start().unwrap_err();
    assert_eq!(kernel.dump(), before);
}

#[test]
fn who_begins_to_observe_takes_out_what_was_left() {
    let kernel = FakeDatapath::new();
    let mut first = stage(ENFORCE, kernel.clone(), Vec::new());
    first.guard.start().unwrap();
    first.guard.ban(&by_hand("203.0.113.7", 600)).unwrap();
    drop(first);
    let observing = ENFORCE.replace("enforce", "observe");
    let mut second = stage(&observing, kernel.clone(), Vec::new());
    second.guard.start().unwrap();
    assert_eq!(kernel.dump(), "");
    assert_eq!(
        second.guard.bans().len(),
        1,
        "the ban is known all the same"
    );

    // What cannot be taken out is told.
    let mut first = stage(ENFORCE, kernel.clone(), Vec::new());
    first.guard.start().unwrap();
    drop(first);
    let mut second = stage(&observing, kernel.clone(), Vec::new());
    kernel.fail(2);
    let begun = second.guard.start().unwrap();
    assert!(begun.warnings[0].contains("flush"), "{:?}", begun.warnings);
}

#[test]
fn a_restart_knows_what_to_go_back_to() {
    let kernel = FakeDatapath::new();
    let again = |stage: Stage, text: &str| {
        let folder = stage.folder;
        drop((stage.guard, stage.store));
        let mut stage = stage_in(folder, text, kernel.clone(), Vec::new());
        stage.guard.start().unwrap();
        stage
    };
    let mut first = stage(ENFORCE, kernel.clone(), Vec::new());
    first.guard.start().unwrap();
    first.guard.apply(candidate(OTHER), asked(None)).unwrap();
    let mut second = again(first, OTHER);
    second.guard.roll_back(None).unwrap();
    assert!(passes(&second.guard, 80));
    // The policy was changed while no daemon ran: what was in force is what is before it, also after one more restart.
    let third = again(second, THIRD);
    let mut fourth = again(third, THIRD);
    assert!(passes(&fourth.guard, 53));
    fourth.guard.roll_back(None).unwrap();
    assert!(passes(&fourth.guard, 80));
}

#[test]
fn what_was_rolled_back_is_not_what_the_next_start_takes() {
    let mut stage = waiting();
    let file = stage.folder.path().join("policy.toml");
    std::fs::write(&file, OTHER).unwrap();
    let main = Candidate::load(&Source::File(file.clone()), clock::now()).unwrap();
    stage.guard.begins_with = Source::File(file.clone());
    stage.guard.apply(main, asked(None)).unwrap();
    let told = |stage: &mut Stage| {
        let warnings = stage.guard.status().warnings;
        warnings
            .iter()
            .any(|text| text.contains("the next start takes"))
    };
    assert!(!told(&mut stage));
    let back = stage.guard.roll_back(None).unwrap();
    assert!(
        !back.warnings.iter().any(|text| text.contains("next start")),
        "{:?}",
        back.warnings
    );
    assert!(!told(&mut stage), "it takes what is in force");
    std::fs::write(&file, THIRD).unwrap();
    assert!(told(&mut stage), "that was not rolled back");
}
