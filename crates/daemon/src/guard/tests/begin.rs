//! Enforcing begins after observing: what only would have been is not done by it, and is not counted as done.

use super::bans::catch;
use super::*;
use kernel::tag::Cause;

/// `ENFORCE`, observing.
fn observing() -> String {
    ENFORCE.replace("enforce", "observe")
}

fn known(stage: &Stage) -> Vec<(String, bool)> {
    let bans = stage.guard.bans().into_iter();
    bans.map(|ban| (ban.prefix.to_string(), ban.would_be))
        .collect()
}

fn real(prefix: &str) -> (String, bool) {
    (prefix.to_owned(), false)
}

#[test]
fn bans_that_only_would_have_been_end_and_those_a_person_wanted_begin() {
    let mut stage = started(&observing());
    for prefix in ["203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32"] {
        catch(&mut stage.guard, prefix);
    }
    // Whoever asks for it wants it, however long it would have been banned anyway.
    let request = BanRequest {
        for_s: None,
        ..by_hand("203.0.113.2", 0)
    };
    let answer = stage.guard.ban(&request).unwrap();
    assert!(!answer.would_be);
    let list = BanImport::Plain([("203.0.113.3".to_owned(), 4e9)].into_iter().collect());
    assert_eq!(stage.guard.import_bans(&list).added, 1);
    stage.guard.ban(&by_hand("203.0.113.4", 600)).unwrap();

    let applied = stage.guard.apply(candidate(ENFORCE), asked(None)).unwrap();
    let kept = ["203.0.113.2/32", "203.0.113.3/32", "203.0.113.4/32"];
    assert_eq!(known(&stage), kept.map(real));
    let dump = stage.kernel.dump();
    assert!(
        kept.iter()
            .all(|prefix| dump.contains(&format!("ban {prefix}"))),
        "{dump}"
    );
    assert!(!dump.contains("203.0.113.1/32"), "{dump}");
    let told = |what: &str, who: &str| {
        let mut warnings = applied.warnings.iter();
        warnings.any(|warning| warning.contains(what) && warning.contains(who))
    };
    assert!(
        told("not enforced", "203.0.113.1"),
        "{:?}",
        applied.warnings
    );
    for who in ["203.0.113.2", "203.0.113.3", "203.0.113.4"] {
        assert!(
            told("3 bans are in force from now on", who),
            "{:?}",
            applied.warnings
        );
    }
    // Nothing begins by applying another policy.
    let again = stage.guard.apply(candidate(OTHER), asked(None)).unwrap();
    assert!(!format!("{:?}", again.warnings).contains("in force from now on"));
    // The first that is done is the first.
    catch(&mut stage.guard, "203.0.113.1/32");
    let ban = stage.guard.bans().remove(0);
    assert_eq!((ban.times_banned, ban.offences), (1, 1));
    assert!(ban.remaining_s.unwrap() <= 600);
}

#[test]
fn what_would_have_been_is_known_over_a_restart_for_what_it_is() {
    let mut first = started(&observing());
    catch(&mut first.guard, "203.0.113.1/32");
    first.guard.ban(&by_hand("203.0.113.4", 600)).unwrap();
    let totals = first.guard.totals();
    assert_eq!((totals.would_ban, totals.bans), (2, 0));
    assert!(first.store.flush(Duration::from_secs(10)));
    let Stage { guard, folder, .. } = first;
    drop(guard);
    let opened = Store::open(&folder.path().join("store.db"), &LogSettings::default()).unwrap();
    assert!(
        opened
            .offenders
            .iter()
            .all(|known| known.prefix.to_string() == "203.0.113.4/32")
    );
    let bans = opened.bans;
    assert_eq!(bans.len(), 2);
    // An observing start keeps both; an enforcing one begins without the first.
    let mut second = stage(&observing(), FakeDatapath::new(), bans.clone());
    second.guard.start().unwrap();
    let both = [("203.0.113.1/32".to_owned(), true), real("203.0.113.4/32")];
    assert_eq!(known(&second), both);
    let mut third = stage(ENFORCE, FakeDatapath::new(), bans);
    let applied = third.guard.start().unwrap();
    assert_eq!(known(&third), [real("203.0.113.4/32")]);
    assert!(!third.kernel.dump().contains("203.0.113.1/32"));
    assert!(format!("{:?}", applied.warnings).contains("203.0.113.1, which a detector"));
}

#[test]
fn a_change_of_mode_mixes_no_sums() {
    let mut stage = started(&observing());
    catch(&mut stage.guard, "203.0.113.1/32");
    stage.guard.apply(candidate(ENFORCE), asked(None)).unwrap();
    catch(&mut stage.guard, "203.0.113.2/32");
    let totals = stage.guard.totals();
    assert_eq!((totals.would_ban, totals.bans), (1, 1));
    stage
        .guard
        .apply(candidate(&observing()), asked(None))
        .unwrap();
    catch(&mut stage.guard, "203.0.113.3/32");
    let totals = stage.guard.totals();
    assert_eq!((totals.would_ban, totals.bans), (2, 1));
    // Those that were in force are so again, and the last never was.
    stage.guard.apply(candidate(ENFORCE), asked(None)).unwrap();
    assert_eq!(known(&stage), [real("203.0.113.2/32")]);
}

/// Whom the kernel banned a moment ago it banned: that its rules go now takes nothing back.
#[test]
fn what_the_kernel_banned_before_observing_began_holds() {
    let text = format!("{ENFORCE}[detect.rate]\nresponse = \"ban\"\nban = \"10m\"\n");
    type End = fn(&mut Stage);
    let ends: [End; 2] = [
        |stage| {
            let asked = asked(None);
            stage.guard.apply(candidate(&observing()), asked).unwrap();
        },
        |stage| {
            stage.guard.flush().unwrap();
        },
    ];
    for end in ends {
        let mut stage = started(&text);
        let ten_minutes = Some(std::time::Duration::from_secs(600));
        for (prefix, is_heard) in [("203.0.113.7/32", true), ("203.0.113.8/32", false)] {
            let prefix = prefix.parse().unwrap();
            stage.kernel.ban_by_itself(prefix, ten_minutes, Cause::Rate);
            if is_heard {
                stage.guard.check(clock::now());
            }
        }
        end(&mut stage);
        assert_eq!(
            known(&stage),
            [real("203.0.113.7/32"), real("203.0.113.8/32")]
        );
    }
}
