//! Connections that connection tracking has lost and picks up with whoever is heard first: what is put together of either side goes on.

use crate::common::*;
use crate::{AMBIGUOUS, PORT, no_evil};
use Verdict::{Allow, Drop};
use engine::{Known, Reason, Tracked, Verdict};
use policy::Direction::{In, Out};
use policy::{Action, Content, DefaultAction, HostField, HostPattern, Plan, Rule, RuleId};

/// Evil of the client, and of the server where its answers are looked at.
const EVIL: Reason = Reason::Rule(RuleId(0));
const EVIL_ANSWER: Reason = Reason::Rule(RuleId(2));
const OPEN: Tracked = Tracked::Reply { is_open: true };
const OPENING: Tracked = Tracked::Reply { is_open: false };

/// What the kernel calls a packet, and whether it is the first of its flow.
type Called = (Tracked, bool);

const NEW: Called = (Tracked::New, true);
const STILL_NEW: Called = (Tracked::New, false);
const FIRST_ANSWER: Called = (OPENING, true);
const ANSWER: Called = (OPEN, false);
const MORE: Called = (Tracked::Established, false);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Client,
    Server,
}
use Who::{Client, Server};

/// Who sends how many bytes behind what both had said before (flags, offset, payload), what the kernel calls it, and what comes of it.
type Said<'a> = (Who, Called, (u8, u32, &'a [u8]), Option<Reason>);

/// Passes, for whatever reason.
const PASSES: Option<Reason> = None;

struct Talk(Bench);

/// Rules about what clients say, and with `answers` about what the server answers.
fn policy(answers: bool) -> Plan {
    let mut rules = no_evil().rules;
    if answers {
        rules.push(Rule {
            directions: policy::Directions::one(Out),
            source_port: policy::PortSet::from_ranges([(PORT, PORT)]),
            port: policy::PortSet::default(),
            ..rules[0].clone()
        });
    }
    let mut plan = plan(rules);
    plan.default.outbound = DefaultAction::Allow;
    plan
}

impl Talk {
    /// Both have said "EV" behind the handshake, and a while has passed.
    fn begun(plan: Plan) -> Self {
        let mut talk = Self(Bench::new(plan));
        for (who, called, said) in [
            (Client, NEW, (SYN, u32::MAX - 2, &b""[..])),
            (Server, (OPENING, false), (SYN_ACK, u32::MAX - 2, b"")),
            (Client, MORE, (ACK, u32::MAX - 1, b"")),
            (Client, MORE, (ACK, u32::MAX - 1, b"EV")),
            (Server, ANSWER, (ACK, u32::MAX - 1, b"EV")),
        ] {
            assert_eq!(talk.hear(who, called, said).0, Allow);
        }
        talk.0.pass(400_000);
        talk
    }

    fn hear(
        &mut self,
        who: Who,
        (flow, is_first): Called,
        (flags, offset, payload): (u8, u32, &[u8]),
    ) -> (Verdict, Reason) {
        let known = Known {
            is_first,
            ..Known::again(flow)
        };
        // Behind what was said, of which each side knows.
        let numbers = [102_u32, 502];
        let decision = match who {
            Client => {
                let sequence = numbers[0].wrapping_add(offset);
                let bytes = tcp(CLIENT, 5, HOST, PORT, flags, sequence, payload);
                let bytes = acknowledging(numbers[1], bytes);
                self.0.asked_on_its_way(In, known, &bytes)
            }
            Server => {
                let sequence = numbers[1].wrapping_add(offset);
                let bytes = tcp(HOST, PORT, CLIENT, 5, flags, sequence, payload);
                // A SYN+ACK answers the SYN.
                let begun = if flags == SYN_ACK { 2 } else { 0 };
                let bytes = acknowledging(numbers[0] - begun, bytes);
                self.0.asked_on_its_way(Out, known, &bytes)
            }
        };
        (decision.verdict, decision.reason)
    }

    fn check(&mut self, said: &[Said<'_>], what: &str) {
        for &(who, called, segment, expected) in said {
            let (verdict, reason) = self.hear(who, called, segment);
            let what = format!("{what}: {who:?} {called:?} {segment:?}: {reason:?}");
            match expected {
                None => assert_eq!(verdict, Allow, "{what}"),
                Some(expected) => assert_eq!((verdict, reason), (Drop, expected), "{what}"),
            }
        }
    }
}

#[test]
fn whoever_is_heard_first_each_side_goes_on_where_it_was() {
    fn text(offset: u32, text: &[u8]) -> (u8, u32, &[u8]) {
        (ACK, offset, text)
    }
    let rest = (ACK, 0, &b"IL"[..]);
    let cases: &[(&str, &[Said<'_>])] = &[
        (
            "the server, which is not looked at",
            &[
                (Client, FIRST_ANSWER, text(0, b"I"), PASSES),
                (Client, ANSWER, text(1, b"L"), Some(EVIL)),
            ],
        ),
        (
            "the server, and the client with an acknowledgement",
            &[
                (Client, FIRST_ANSWER, text(0, b""), PASSES),
                (Client, ANSWER, rest, Some(EVIL)),
            ],
        ),
        (
            "the server, with what is looked at",
            &[
                (Server, NEW, text(0, b"hello"), PASSES),
                (Server, STILL_NEW, text(5, b"hello"), PASSES),
                (Client, FIRST_ANSWER, rest, Some(EVIL)),
                (Client, ANSWER, rest, Some(EVIL)),
                (Server, MORE, text(10, b"more"), PASSES),
            ],
        ),
        (
            "the client",
            &[
                (Client, NEW, text(0, b"I"), PASSES),
                (Client, STILL_NEW, text(1, b"L"), Some(EVIL)),
            ],
        ),
        (
            "one after the other",
            &[
                (Client, FIRST_ANSWER, text(0, b"I"), PASSES),
                (Client, NEW, text(1, b""), PASSES),
                (Server, NEW, text(0, b"hello"), PASSES),
                (Client, FIRST_ANSWER, text(1, b"L"), Some(EVIL)),
            ],
        ),
        (
            "nobody who says anything evil",
            &[
                (Client, FIRST_ANSWER, text(0, b"..."), PASSES),
                (Client, ANSWER, text(3, b"..."), PASSES),
                (Server, MORE, text(0, b"..."), PASSES),
                (Client, ANSWER, text(6, b"EVIL"), Some(EVIL)),
            ],
        ),
        (
            "who sends again what was under way",
            &[
                (Server, NEW, text(u32::MAX - 1, b"EV"), PASSES),
                (Client, FIRST_ANSWER, text(u32::MAX - 1, b"EV."), PASSES),
                (Client, ANSWER, text(0, b"IL"), Some(AMBIGUOUS)),
                (Client, ANSWER, text(1, b"IL"), PASSES),
            ],
        ),
    ];
    for answers in [false, true] {
        for (what, said) in cases {
            Talk::begun(policy(answers)).check(said, &format!("{what} {answers}"));
        }
    }
}

#[test]
fn a_server_that_is_heard_first_gets_no_pattern_through() {
    for said in [
        &[(Server, NEW, (ACK, 0, &b"IL"[..]), Some(EVIL_ANSWER))][..],
        &[
            (Server, NEW, (ACK, 0, b""), PASSES),
            (Server, STILL_NEW, (ACK, 0, b"I"), PASSES),
            (Client, FIRST_ANSWER, (ACK, 0, b"..."), PASSES),
            (Server, MORE, (ACK, 1, b"L"), Some(EVIL_ANSWER)),
        ],
        // The client is heard first, of whom all was seen that rules want.
        &[
            (Client, NEW, (ACK, 0, &[b'.'; 1_000]), PASSES),
            (Client, MORE, (ACK, 1_000, &[b'.'; 1_000]), PASSES),
            (Client, NEW, (ACK, 2_000, b""), PASSES),
            (Client, NEW, (ACK, 2_000_000, b"."), PASSES),
            (Server, ANSWER, (ACK, 0, b"IL"), Some(EVIL_ANSWER)),
        ],
    ] {
        let mut policy = policy(true);
        if let Some(content) = &mut policy.rules[0].content {
            content.scope = policy::Scope::Stream { depth: 1_000 };
        }
        Talk::begun(policy).check(said, "");
    }
}

/// By who is heard first, as it decides new flows. What it denies moves nothing.
#[test]
fn what_is_picked_up_the_policy_decides() {
    let mut policy = policy(true);
    policy.default.outbound = DefaultAction::Deny;
    let denied = Some(Reason::Default(Out));
    Talk::begun(policy).check(
        &[
            (Server, NEW, (ACK, 0, b"I"), denied),
            (Client, NEW, (ACK, 0, b"I"), PASSES),
            (Server, ANSWER, (ACK, 0, b"."), PASSES),
            (Client, MORE, (ACK, 1, b"L"), Some(EVIL)),
        ],
        "",
    );
}

/// Connection tracking follows none of it, or all; the receiver takes none.
#[test]
fn what_is_no_part_of_the_stream_ends_nothing() {
    let unclear = Some(AMBIGUOUS);
    let far = 5_000_000;
    let cases: &[(&str, &[Said<'_>])] = &[
        (
            "a segment far away",
            &[(Client, NEW, (ACK, far, b"."), PASSES)],
        ),
        (
            "one that answers",
            &[(Client, FIRST_ANSWER, (ACK, far, b"."), PASSES)],
        ),
        (
            "a SYN+ACK that answers nothing",
            &[(Client, FIRST_ANSWER, (SYN_ACK, far, b""), unclear)],
        ),
        (
            "the same later",
            &[
                (Client, FIRST_ANSWER, (ACK, 0, b""), PASSES),
                (
                    Client,
                    ANSWER,
                    (SYN_ACK, 0_u32.wrapping_sub(500), b""),
                    unclear,
                ),
            ],
        ),
        (
            "a forged SYN of a server that was heard first",
            &[
                (Server, NEW, (ACK, 0, b""), PASSES),
                (Server, MORE, (SYN, far, b""), unclear),
                (Client, FIRST_ANSWER, (SYN_ACK, far, b""), unclear),
            ],
        ),
        (
            "a reset behind an acknowledgement",
            &[
                (Client, NEW, (ACK, 0, b""), PASSES),
                (Client, STILL_NEW, (RST, far, b""), PASSES),
            ],
        ),
        (
            "a reset of a server",
            &[
                (Server, NEW, (ACK, 0, b""), PASSES),
                (Server, STILL_NEW, (RST, far, b""), PASSES),
            ],
        ),
    ];
    for (what, said) in cases {
        for called in [NEW, FIRST_ANSWER, MORE, ANSWER] {
            let mut talk = Talk::begun(policy(true));
            talk.check(said, what);
            talk.check(&[(Client, called, (ACK, 0, b"IL"), Some(EVIL))], what);
            let mut talk = Talk::begun(policy(true));
            talk.check(said, what);
            talk.check(&[(Client, called, (ACK, 0, b".."), PASSES)], what);
        }
    }
}

/// Whether anybody takes a SYN is seen by its answer alone, which behind a reset does not come.
#[test]
fn a_begin_that_nobody_answers_does_not_have_a_stream_begin_anew() {
    for who in [Client, Server] {
        for is_reset in [false, true] {
            let mut talk = Talk::begun(policy(true));
            talk.check(&[(who, NEW, (SYN, 50_000, b""), PASSES)], "");
            if is_reset {
                talk.check(&[(who, STILL_NEW, (RST, 50_001, b""), PASSES)], "");
            }
            let called = if who == Client { NEW } else { FIRST_ANSWER };
            let rest = (Client, called, (ACK, 0, &b"IL"[..]), Some(AMBIGUOUS));
            talk.check(&[rest], &format!("{who:?} {is_reset}"));
        }
    }
}

/// Two begins in a row, and whoever was heard between them: what was said before the first may still go on.
#[test]
fn nor_do_two_begins() {
    let mut talk = Talk::begun(policy(true));
    talk.check(
        &[
            (Client, NEW, (SYN, 50_000, b""), PASSES),
            (Client, STILL_NEW, (RST, 50_001, b""), PASSES),
            (Server, NEW, (ACK, 0, b"hello"), PASSES),
            (Server, NEW, (SYN, 60_000, b""), PASSES),
            (Client, NEW, (SYN, 70_000, b""), PASSES),
            (Client, STILL_NEW, (ACK, 0, b"IL"), Some(AMBIGUOUS)),
        ],
        "",
    );
}

/// Nor has one that is answered to its sender by himself.
#[test]
fn who_began_what_has_ended_answers_no_begin() {
    let mut talk = Talk::begun(policy(false));
    talk.check(&[(Client, MORE, (FIN_ACK, 0, b""), PASSES)], "");
    talk.0.pass(125_000);
    talk.0.engine.advance(talk.0.now);
    talk.check(
        &[
            (Client, FIRST_ANSWER, (SYN_ACK, 1_000, b""), PASSES),
            (Client, ANSWER, (ACK, 0, b"IL"), Some(AMBIGUOUS)),
        ],
        "",
    );
}

#[test]
fn the_next_connection_begins_anew_whoever_begins_it() {
    let far = 7_000_000;
    for (who, client, server) in [(Client, MORE, ANSWER), (Server, ANSWER, MORE)] {
        let mut talk = Talk::begun(policy(true));
        let other = if who == Client { Server } else { Client };
        talk.check(&[(who, NEW, (SYN, far, b""), PASSES)], "");
        let sequence = [502, 102][usize::from(who == Server)];
        let answer = match other {
            Server => tcp(HOST, PORT, CLIENT, 5, SYN_ACK, sequence + far, b""),
            Client => tcp(CLIENT, 5, HOST, PORT, SYN_ACK, sequence + far, b""),
        };
        let begun = [102, 502][usize::from(who == Server)] + far + 1;
        let way = if other == Server { Out } else { In };
        let known = Known::again(OPENING);
        let decision = (talk.0).asked_on_its_way(way, known, &acknowledging(begun, answer));
        assert_eq!(decision.verdict, Allow, "{who:?} {:?}", decision.reason);
        talk.check(
            &[
                (Client, client, (ACK, far + 1, b"IL"), PASSES),
                (Server, server, (ACK, far + 1, b"IL"), PASSES),
                (Client, client, (ACK, far + 3, b"EVIL"), Some(EVIL)),
                (Server, server, (ACK, far + 3, b"EVIL"), Some(EVIL_ANSWER)),
            ],
            &format!("{who:?}"),
        );
    }
}

/// A SYN under way is taken by nobody: what is not known of the connection yet, it does not say.
#[test]
fn a_begin_under_way_begins_no_stream() {
    for before in [1_000, 2, 0_u32.wrapping_sub(3)] {
        let mut talk = Talk(Bench::new(policy(false)));
        talk.check(
            &[
                (Client, MORE, (SYN, 0_u32.wrapping_sub(before), b""), PASSES),
                (Client, MORE, (ACK, 0, b"EVIL"), Some(EVIL)),
            ],
            &before.to_string(),
        );
    }
}

#[test]
fn nor_is_there_a_way_out_for_a_host() {
    let host = HostPattern::parse("evil.example", HostField::HttpHost).unwrap();
    let forbidden = Rule {
        content: Some(Content::of_hosts(HostField::HttpHost, vec![host])),
        ..tcp_port(Action::Deny, PORT)
    };
    for (called, is_server_seen) in [(FIRST_ANSWER, false), (FIRST_ANSWER, true), (NEW, false)] {
        let mut talk = Talk(Bench::new(plan(vec![
            forbidden.clone(),
            tcp_port(Action::Allow, PORT),
        ])));
        let head = b"GET / HTTP/1.1\r\nHost: ev";
        let len = head.len() as u32;
        talk.check(
            &[
                (Client, NEW, (SYN, u32::MAX, b""), PASSES),
                (Client, MORE, (ACK, 0, head), PASSES),
            ],
            "",
        );
        if is_server_seen {
            talk.check(&[(Server, NEW, (ACK, 0, b""), PASSES)], "");
        }
        let rest = b"il.example\r\n\r\n";
        talk.check(&[(Client, called, (ACK, len, rest), Some(EVIL))], "");
    }
}

/// A SYN+ACK that answers no SYN of which connection tracking knows, of a connection that it has picked up: it is not called the first.
const NO_BEGIN: Called = (OPENING, false);

/// Only the answers are looked at: HOST asks CLIENT, which is the server here.
#[test]
fn a_server_answers_nothing_where_nobody_asked() {
    let mut rules = no_evil().rules;
    rules[0].source_port = policy::PortSet::from_ranges([(PORT, PORT)]);
    rules[0].port = policy::PortSet::default();
    let mut plan = plan(rules);
    plan.default.outbound = DefaultAction::Allow;
    for (begin, rest) in [(NO_BEGIN, Drop), (FIRST_ANSWER, Allow)] {
        let mut bench = Bench::new(plan.clone());
        let mut says = |(flow, is_first): Called, flags, sequence, payload: &[u8]| {
            let known = Known {
                is_first,
                ..Known::again(flow)
            };
            let bytes = tcp(CLIENT, PORT, HOST, 5, flags, sequence, payload);
            let decision = bench.asked(known, &acknowledging(100, bytes));
            bench.pass(30_000);
            decision.verdict
        };
        assert_eq!(says(FIRST_ANSWER, SYN_ACK, 499, b""), Allow);
        assert_eq!(says(ANSWER, ACK, 500, b"..EV"), Allow);
        // Behind a gap: connection tracking believes it, and forgets.
        says(ANSWER, FIN_ACK, 1_500, b"");
        says(begin, SYN_ACK, 503, b"");
        assert_eq!(says(ANSWER, ACK, 504, b"IL"), rest, "{begin:?}");
    }
}

/// Where it began was not seen, and so not by whom.
#[test]
fn nor_does_the_client_of_a_connection_that_is_older() {
    let mut bench = Bench::new(policy(false));
    let mut says = |(flow, is_first): Called, flags, sequence, payload: &[u8]| {
        let known = Known {
            is_first,
            ..Known::again(flow)
        };
        let bytes = tcp(CLIENT, 5, HOST, PORT, flags, sequence, payload);
        let decision = bench.asked(known, &acknowledging(510, bytes));
        bench.pass(30_000);
        decision.verdict
    };
    assert_eq!(says((Tracked::Established, true), ACK, 100, b"..EV"), Allow);
    assert_eq!(says(NO_BEGIN, SYN_ACK, 103, b""), Drop);
    assert_eq!(says(ANSWER, ACK, 104, b"IL"), Drop);
}

/// Two packets each from addresses that nobody has.
#[test]
fn forged_begins_do_not_push_out_what_is_remembered() {
    let mut plan = policy(false);
    plan.limits.flows = 100;
    let mut bench = Bench::new(plan);
    let mut hears = |(flow, is_first): Called, from: &str, (flags, sequence, payload)| {
        let known = Known {
            is_first,
            ..Known::again(flow)
        };
        let bytes = tcp(from, 5, HOST, PORT, flags, sequence, payload);
        let decision = bench.asked(known, &acknowledging(500, bytes));
        if flags == SYN {
            let answer = tcp(HOST, PORT, from, 5, SYN_ACK, 499, b"");
            let known = Known::again(OPENING);
            if from == CLIENT && sequence == 99 {
                bench.asked_on_its_way(Out, known, &acknowledging(100, answer));
            }
        }
        bench.pass(10);
        decision.reason
    };
    hears(NEW, CLIENT, (SYN, 99, &b""[..]));
    // That shows that he has his address.
    hears(MORE, CLIENT, (ACK, 100, b""));
    hears(MORE, CLIENT, (ACK, 100, b"EV"));
    hears(NEW, CLIENT, (SYN, 7_000_000, b""));
    for n in 0..1_000 {
        let from = format!("198.51.{}.{}", 100 + n / 250, 1 + n % 250);
        hears(NEW, &from, (ACK, 1_000, b"x"));
        hears(NEW, &from, (SYN, 5_000, b""));
    }
    assert_eq!(hears(NEW, CLIENT, (ACK, 102, b"IL")), AMBIGUOUS);
}
