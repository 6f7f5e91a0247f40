//! Bans that are taken in from a file.

use super::*;

#[test]
fn imports_say_what_became_of_each() {
    let mut stage = started(ENFORCE);
    let import: BanImport = serde_json::from_str(
        r#"[{"prefix": "203.0.113.1"}, {"prefix": "203.0.113.2", "since": "2026-01-01T00:00:00Z", "expires": null},
            {"prefix": "203.0.113.3", "expires": "2020-01-01T00:00:00Z"}, {"prefix": "192.0.2.1"}, {"prefix": "x"}]"#,
    )
    .unwrap();
    let outcome = stage.guard.import_bans(&import);
    assert_eq!(
        (outcome.added, outcome.expired, outcome.refused_count),
        (2, 1, 2)
    );
    let bans = stage.guard.bans();
    assert_eq!(bans.len(), 2);
    assert!(
        (599..=600).contains(&bans[0].remaining_s.unwrap()),
        "the policy's default"
    );
    assert_eq!(bans[1].expires, None, "as it was exported");
    assert_eq!(stage.guard.totals().bans, 2);
    assert!(stage.store.flush(Duration::from_secs(10)));
}

#[test]
fn an_import_makes_no_ban_shorter_and_forgets_nothing() {
    let mut stage = started(ENFORCE);
    let mut by_name = by_hand("203.0.113.7", 3_600);
    by_name.reason = Some("scan".to_owned());
    stage.guard.ban(&by_name).unwrap();
    let outcome = |stage: &mut Stage, text: &str| {
        let import: BanImport = serde_json::from_str(text).unwrap();
        let outcome = stage.guard.import_bans(&import);
        (outcome.added, outcome.unchanged)
    };
    assert_eq!(
        outcome(&mut stage, r#"[{"prefix": "203.0.113.7"}]"#),
        (0, 1),
        "the policy's ten minutes are less"
    );
    let forever = r#"[{"prefix": "203.0.113.7", "since": "2026-01-01T00:00:00Z"},
        {"prefix": "203.0.113.8", "reason": "a\\nb"}, {"prefix": "203.0.113.9", "reason": "a\u001b[2J"}]"#;
    assert_eq!(outcome(&mut stage, forever), (3, 0));
    let bans = stage.guard.bans();
    let shown: Vec<_> = bans
        .iter()
        .map(|ban| (ban.expires.is_none(), ban.reason.as_str()))
        .collect();
    let expected = [(true, "scan"), (false, "a\\nb"), (false, "a\\u{1b}[2J")];
    assert_eq!(shown, expected);
}

#[test]
fn a_time_that_is_none_is_refused_and_does_not_become_another() {
    let mut stage = started(ENFORCE);
    let import: BanImport =
        serde_json::from_str(r#"{"203.0.113.1": -5.0, "203.0.113.2": 1e30, "203.0.113.3": 0}"#)
            .unwrap();
    let outcome = stage.guard.import_bans(&import);
    assert_eq!((outcome.added, outcome.expired), (0, 1));
    assert_eq!(outcome.refused_count, 2);
    for refused in &outcome.refused {
        assert!(refused.error.contains("1970-01-01"), "{refused:?}");
    }
}
