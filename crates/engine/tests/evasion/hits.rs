//! What one segment was found in hides nothing that comes after it, wherever it stands in the stream.

use std::time::Duration;

use engine::{Alert, EventBody, Known, Reason, Tracked, Verdict};
use policy::Direction::{In, Out};
use policy::{Action, Content, PayloadHits, Plan, Rate, RateUnit, Rule, RuleId, Scope};

use super::*;

fn content(text: &str, scope: Scope) -> Option<Content> {
    let pattern = Pattern::Contains {
        bytes: text.as_bytes().to_vec(),
        ignore_case: false,
    };
    Some(Content {
        pattern: Some(pattern),
        min_len: 1,
        max_len: None,
        scope,
        every_packet: false,
    })
}

fn rule_on(text: &str, action: Action) -> Rule {
    Rule {
        content: content(text, Scope::Packet),
        ..tcp_port(action, PORT)
    }
}

fn connected(policy: Plan) -> Bench {
    let mut bench = Bench::new(policy);
    bench.verdict(In, &tcp(CLIENT, 5_000, HOST, PORT, SYN, 99, b""));
    let answer = tcp(HOST, PORT, CLIENT, 5_000, SYN | ACK, 499, b"");
    bench.verdict(Out, &acknowledging(100, answer));
    bench.verdict(In, &tcp(CLIENT, 5_000, HOST, PORT, ACK, 100, b""));
    bench.events();
    bench
}

fn send(bench: &mut Bench, sequence: u32, payload: &[u8]) -> Verdict {
    bench.verdict(In, &tcp(CLIENT, 5_000, HOST, PORT, ACK, sequence, payload))
}

#[test]
fn what_matched_far_ahead_hides_no_ban() {
    for (first, action) in [("probe", Action::Deny), ("hello", Action::Allow)] {
        let mut bench = connected(plan(vec![
            rule_on(first, action),
            rule_on("evil", Action::Ban(Duration::from_secs(600))),
            tcp_port(Action::Allow, PORT),
        ]));
        send(&mut bench, 30_100, first.as_bytes());
        assert_eq!(bench.engine.bans().count(), 0);
        assert_eq!(send(&mut bench, 100, b"evil"), Verdict::Drop, "{first}");
        assert_eq!(bench.engine.bans().count(), 1, "{first}");
    }
}

#[test]
fn hits_count_in_whatever_order_they_come() {
    let mut policy = plan(vec![
        rule_on("evil", Action::Deny),
        tcp_port(Action::Allow, PORT),
    ]);
    policy.detect.payload = Some(PayloadHits::default());
    for is_descending in [false, true] {
        let mut bench = connected(policy.clone());
        for n in 0..3 {
            let place = if is_descending { 2 - n } else { n };
            let verdict = send(
                &mut bench,
                100 + place * 8,
                format!("evil{place:04}").as_bytes(),
            );
            assert_eq!(verdict, Verdict::Drop);
        }
        assert_eq!(bench.engine.bans().count(), 1);
        let events = bench.events();
        let alerts = events
            .iter()
            .filter(|event| matches!(event.body, EventBody::Alert(Alert::Content { .. })));
        assert_eq!(alerts.count(), 3);
    }
}

/// Each segment begins with the first byte, and is longer by a request; or with the first byte that was not sent.
#[test]
fn a_rate_holds_for_requests_that_come_again_with_more_behind_them() {
    let rate = Rate {
        amount: 1.try_into().unwrap(),
        unit: RateUnit::Packets,
        per: Duration::from_secs(3_600),
        burst: 1.try_into().unwrap(),
    };
    for overlaps in [false, true] {
        for scope in [Scope::Stream { depth: DEPTH }, Scope::Packet] {
            let mut bench = connected(plan(vec![
                Rule {
                    rate: Some(rate),
                    content: content("LOGIN", scope),
                    ..tcp_port(Action::Limit, PORT)
                },
                tcp_port(Action::Allow, PORT),
            ]));
            let mut sent = Vec::new();
            let mut passed = 0;
            for n in 0..10 {
                let begin = if overlaps { 0 } else { sent.len() };
                sent.extend_from_slice(format!("LOGIN{n}\n").as_bytes());
                // What was dropped is sent again.
                let mut verdicts =
                    (0..3).map(|_| send(&mut bench, 100 + begin as u32, &sent[begin..]));
                passed += u32::from(verdicts.any(|verdict| verdict == Verdict::Allow));
            }
            assert_eq!(passed, 1, "{overlaps} {scope:?}");
        }
    }
}

/// What a `limit` rule stopped may come again with more, and that is looked at once the rule lets it pass; also of a connection that the
/// kernel has picked up, and that nobody has answered yet.
#[test]
fn what_comes_again_within_a_rate_hides_nothing() {
    let once = Rate {
        amount: 1.try_into().unwrap(),
        unit: RateUnit::Connections,
        per: Duration::from_secs(60),
        burst: 1.try_into().unwrap(),
    };
    let scope = Scope::Stream { depth: DEPTH };
    let limited = Rule {
        content: content("xy", scope),
        rate: Some(once),
        ..tcp_port(Action::Limit, PORT)
    };
    let forbidden = Rule {
        content: content("EVIL", scope),
        ..tcp_port(Action::Deny, PORT)
    };
    for called in [Tracked::New, Tracked::Established] {
        let mut bench = Bench::new(plan(vec![
            limited.clone(),
            forbidden.clone(),
            tcp_port(Action::Allow, PORT),
        ]));
        for (pause, at, text, expected) in [
            (0, 0, "x", None),
            (0, 1, "y", None),
            (0, 2, "x", None),
            (0, 3, "y", Some(Reason::Limited(RuleId(0)))),
            (61_000, 3, "yE", None),
            (61_000, 5, "VI", None),
            (61_000, 7, "L", Some(Reason::Rule(RuleId(1)))),
        ] {
            bench.pass(pause);
            let packet = tcp(CLIENT, 5, HOST, PORT, ACK, 100 + at, text.as_bytes());
            let decision = bench.asked(Known::again(called), &packet);
            let what = format!("{called:?} {at} {text}: {:?}", decision.reason);
            match expected {
                None => assert_eq!(decision.verdict, Verdict::Allow, "{what}"),
                Some(expected) => assert_eq!(decision.reason, expected, "{what}"),
            }
        }
    }
}
