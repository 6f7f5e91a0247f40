//! Questions in streams, however they are cut, and what such streams may hold.

use super::*;

/// A stream to a name server, as the kernel shows it: the packets of one side.
struct Stream {
    bench: Bench,
    at: u32,
    known: fn(bool) -> Known,
}

impl Stream {
    fn open(known: fn(bool) -> Known) -> Self {
        let mut stream = Self {
            bench: bench(),
            at: 100,
            known,
        };
        assert_eq!(stream.raw(SYN, 99, b"", false).verdict, Allow);
        stream
    }

    fn raw(&mut self, flags: u8, sequence: u32, payload: &[u8], established: bool) -> Decision {
        let packet = tcp(CLIENT, 40_000, HOST, 53, flags, sequence, payload);
        self.bench.asked((self.known)(established), &packet)
    }

    fn send(&mut self, payload: &[u8]) -> Decision {
        let at = self.at;
        self.at = at.wrapping_add(payload.len() as u32);
        self.raw(ACK, at, payload, true)
    }
}

fn by_rules(established: bool) -> Known {
    Known::again(if established {
        Tracked::Established
    } else {
        Tracked::New
    })
}

fn by_kernel(established: bool) -> Known {
    Known {
        is_accepted: true,
        ..by_rules(established)
    }
}

const WAYS: [fn(bool) -> Known; 2] = [by_rules, by_kernel];

#[test]
fn a_question_is_found_however_it_is_cut() {
    let bytes = framed(&query("ads.example"));
    for known in WAYS {
        for cut in 1..bytes.len() {
            let mut stream = Stream::open(known);
            assert_eq!(stream.send(&bytes[..cut]).verdict, Allow, "{cut}");
            let decision = stream.send(&bytes[cut..]);
            assert_eq!(decision.verdict, Reject, "{cut}");
            assert!(matches!(refusal(&decision), Some(DnsRefusal::Blocked(_))));
            assert_eq!(decision.reply, None);
        }
        let mut stream = Stream::open(known);
        let (last, begin) = bytes.split_last().unwrap();
        for byte in begin {
            assert_eq!(stream.send(&[*byte]).verdict, Allow);
        }
        assert_eq!(stream.send(&[*last]).verdict, Reject);
        // The same again, and what comes behind.
        let at = stream.at;
        assert_eq!(stream.raw(ACK, at - 1, &[*last], true).verdict, Reject);
        assert_eq!(stream.send(&framed(&query("other.example"))).verdict, Drop);
        // Whoever goes on sending is not told each time.
        let verdicts = (0..1_000).map(|_| stream.send(b"x").verdict);
        assert_eq!(verdicts.filter(|verdict| *verdict == Reject).count(), 8);
    }
}

#[test]
fn a_question_may_stand_anywhere_in_a_long_stream() {
    for known in WAYS {
        let mut stream = Stream::open(known);
        let fine = framed(&query("other.example")).repeat(20);
        for _ in 0..500 {
            assert_eq!(stream.send(&fine).verdict, Allow);
        }
        // A retransmission is the same bytes, and needs no memory.
        let at = stream.at - fine.len() as u32;
        assert_eq!(stream.raw(ACK, at, &fine, true).verdict, Allow);
        let both = [fine.clone(), framed(&query("x.both.example")), fine].concat();
        assert_eq!(stream.send(&both).verdict, Reject);
    }
}

#[test]
fn bytes_out_of_order_are_put_together() {
    let bytes = [
        framed(&query("other.example")),
        framed(&query("ads.example")),
    ]
    .concat();
    for known in WAYS {
        let mut stream = Stream::open(known);
        assert_eq!(stream.raw(ACK, 100, &bytes[..5], true).verdict, Allow);
        assert_eq!(stream.raw(ACK, 110, &bytes[10..], true).verdict, Allow);
        assert_eq!(stream.raw(ACK, 105, &bytes[5..10], true).verdict, Reject);
    }
}

#[test]
fn streams_that_two_could_read_differently_do_not_pass() {
    let ambiguous = Some(DnsRefusal::Ambiguous);
    let fine = framed(&query("other.example"));
    let bad = framed(&query("adsx.both.example"));
    for known in WAYS {
        // Judged bytes, sent again with others in them.
        let mut stream = Stream::open(known);
        assert_eq!(stream.send(&fine).verdict, Allow);
        assert_eq!(refusal(&stream.raw(ACK, 100, &bad, true)), ambiguous);
        // Before the first byte; behind a gap at the begin: which SYN did the server take?
        let mut stream = Stream::open(known);
        assert_eq!(refusal(&stream.raw(ACK, 95, &bad, true)), ambiguous);
        assert_eq!(refusal(&stream.raw(ACK, 105, &bad, true)), ambiguous);
        assert_eq!(refusal(&stream.raw(ACK, 99, &[0], true)), ambiguous);
        assert_eq!(stream.send(&fine).verdict, Allow);
        let last = stream.at - 1;
        for keep_alive in [&[][..], &fine[fine.len() - 1..]] {
            assert_eq!(stream.raw(ACK, last, keep_alive, true).verdict, Allow);
        }
        assert_eq!(refusal(&stream.raw(ACK, last, &[0], true)), ambiguous);
        assert_eq!(stream.send(&bad).verdict, Reject);
        // A second begin, of what nobody has answered yet, would move the frame.
        for other in [60, 98, 100] {
            let mut stream = Stream::open(known);
            assert_eq!(stream.raw(SYN, other, b"", false).verdict, Drop);
            assert_eq!(stream.raw(SYN, 99, b"", false).verdict, Allow);
            assert_eq!(stream.send(&bad).verdict, Reject);
        }
        // Older than is kept.
        let mut stream = Stream::open(known);
        for _ in 0..2_000 {
            stream.send(&fine);
        }
        assert_eq!(refusal(&stream.raw(ACK, 100, &bad, true)), ambiguous);
    }
}

#[test]
fn a_stream_whose_begin_was_not_seen_is_refused() {
    for known in WAYS {
        let mut bench = bench();
        let segment = tcp(
            CLIENT,
            40_000,
            HOST,
            53,
            ACK,
            7,
            &framed(&query("other.example")),
        );
        let decision = bench.asked(known(true), &segment);
        assert_eq!(refusal(&decision), Some(DnsRefusal::BeginUnseen));
        assert_eq!(decision.verdict, Reject);
    }
}

/// The server has lost the connection, or reset it, and answers the SYN that connection tracking takes for more of it.
#[test]
fn another_connection_under_the_same_ports_begins_anew_when_it_is_answered() {
    for known in WAYS {
        for is_answered in [false, true] {
            for is_refused_before in [false, true] {
                let mut stream = Stream::open(known);
                let first = match is_refused_before {
                    true => "ads.example",
                    false => "other.example",
                };
                stream.send(&framed(&query(first)));
                assert_eq!(stream.raw(SYN, 7_000_000, b"", true).verdict, Allow);
                if is_answered {
                    let answer = tcp(HOST, 53, CLIENT, 40_000, SYN_ACK, 9, b"");
                    let answer = acknowledging(7_000_001, answer);
                    let reply = Known::again(Tracked::Reply { is_open: true });
                    assert_eq!(stream.bench.asked(reply, &answer).verdict, Allow);
                }
                stream.at = 7_000_001;
                let passes = stream.send(&framed(&query("other.example"))).verdict == Allow;
                assert_eq!(passes, is_answered, "{is_refused_before}");
                if is_answered {
                    let decision = stream.send(&framed(&query("ads.example")));
                    let blocked = matches!(refusal(&decision), Some(DnsRefusal::Blocked(_)));
                    assert!(blocked, "{decision:?}");
                }
            }
        }
    }
}

#[test]
fn long_questions_are_refused_and_long_updates_pass() {
    for known in WAYS {
        let mut stream = Stream::open(known);
        let mut long = query("other.example");
        long.resize(4_097, 0);
        assert_eq!(
            refusal(&stream.send(&framed(&long)[..200])),
            Some(DnsRefusal::TooLong)
        );

        let mut stream = Stream::open(known);
        let mut update = query("ads.example");
        update[2] = 5 << 3;
        update.resize(65_535, 0);
        for piece in framed(&update).chunks(1_000) {
            assert_eq!(stream.send(piece).verdict, Allow);
        }
        assert_eq!(stream.send(&framed(&query("ads.example"))).verdict, Reject);
    }
}

#[test]
fn memory_of_one_source_is_bounded() {
    let mut bench = bench();
    let limit = u64::from(bench.engine.plan().limits.stream_bytes);
    let mut refused = 0;
    for port in 1_000..3_000_u16 {
        let syn = tcp(CLIENT, port, HOST, 53, SYN, 99, b"");
        bench.asked(by_kernel(false), &syn);
        let begin = [&4_000_u16.to_be_bytes()[..], &[0; 3_900]].concat();
        let decision = bench.asked(
            by_kernel(true),
            &tcp(CLIENT, port, HOST, 53, ACK, 100, &begin),
        );
        refused += u64::from(refusal(&decision) == Some(DnsRefusal::Memory));
    }
    assert!(refused > 2_000 - limit / 8 / 3_900 - 10, "{refused}");
    // Somebody else has room.
    let syn = tcp(HOST, 1_000, HOST, 53, SYN, 99, b"");
    bench.asked(by_kernel(false), &syn);
    let fine = framed(&query("other.example"));
    assert_eq!(
        bench
            .asked(
                by_kernel(true),
                &tcp(HOST, 1_000, HOST, 53, ACK, 100, &fine)
            )
            .verdict,
        Allow
    );
}

#[test]
fn a_reload_keeps_what_was_begun() {
    let bytes = framed(&query("ads.example"));
    let mut stream = Stream::open(by_kernel);
    stream.send(&bytes[..9]);
    stream.bench.engine.reload(Arc::new(dns_plan()));
    assert_eq!(stream.send(&bytes[9..]).verdict, Reject);
}

#[test]
fn when_all_streams_together_hold_too_much_those_that_hold_most_give_way() {
    // Whatever the policy does without the daemon, which is there.
    for (on_failure, name, passes) in [
        (policy::OnFailure::Open, "www.example", true),
        (policy::OnFailure::Closed, "www.example", true),
        (policy::OnFailure::Open, "ads.example", false),
        (policy::OnFailure::Closed, "ads.example", false),
    ] {
        let mut policy = dns_plan();
        policy.on_failure = on_failure;
        policy.limits.stream_bytes = 64 * 1024;
        let mut bench = Bench::new(policy);
        let open = |bench: &mut Bench, source: &str| {
            bench.packet(Direction::In, &tcp(source, 40_000, HOST, 53, SYN, 1, b""));
            bench.packet(
                Direction::Out,
                &tcp(HOST, 53, source, 40_000, SYN_ACK, 1, b""),
            );
            bench.packet(Direction::In, &tcp(source, 40_000, HOST, 53, ACK, 2, b""));
        };
        // Begins of questions that never end, until not another nine bytes fit.
        for (net, length) in [(100, 3_000), (101, 7), (102, 7), (103, 7), (104, 7)] {
            let begin = [&4_000_u16.to_be_bytes()[..], &vec![0; length]].concat();
            for n in 0..200 {
                let source = format!("198.51.{net}.{n}");
                open(&mut bench, &source);
                bench.packet(
                    Direction::In,
                    &tcp(&source, 40_000, HOST, 53, ACK, 2, &begin),
                );
            }
        }
        open(&mut bench, CLIENT);
        let question = framed(&query(name));
        let (first, rest) = question.split_at(9);
        let mut ask = |seq, bytes: &[u8]| {
            let decision = bench.packet(
                Direction::In,
                &tcp(CLIENT, 40_000, HOST, 53, ACK, seq, bytes),
            );
            decision.verdict == Allow
        };
        assert!(ask(2, first), "{on_failure:?}");
        assert_eq!(ask(11, rest), passes, "{on_failure:?} {name}");
    }
}

/// The kernel forgets a connection that is reset before it was answered, and calls what follows new. User space does not see the reset.
#[test]
fn what_follows_on_a_syn_that_was_reset_is_no_more_of_its_stream() {
    let question = framed(&query("other.example"));
    let first = Known {
        flow: Tracked::New,
        is_first: true,
        is_accepted: true,
    };
    for is_accepted in [false, true] {
        let first = Known {
            is_accepted,
            ..first
        };
        for ahead in [0, 1_000] {
            let mut observing = bench();
            let mut enforcing = bench();
            for (flags, sequence, payload) in [(SYN, 99, &b""[..]), (ACK, 100 + ahead, &question)] {
                let packet = tcp(CLIENT, 40_000, HOST, 53, flags, sequence, payload);
                let said = observing.packet(Direction::In, &packet);
                let done = enforcing.asked(first, &packet);
                assert_eq!(
                    (said.verdict, refusal(&said)),
                    (done.verdict, refusal(&done)),
                    "{ahead} {is_accepted}"
                );
                let begin_unseen = (flags == ACK).then_some(DnsRefusal::BeginUnseen);
                assert_eq!(refusal(&done), begin_unseen, "{ahead} {is_accepted}");
                let reset = tcp(HOST, 53, CLIENT, 40_000, RST | ACK, 0, b"");
                observing.packet(Direction::Out, &acknowledging(100, reset));
            }
        }
    }
}
