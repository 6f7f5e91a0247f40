//! Whoever fills the memory for streams hides nothing by it.

use crate::common::*;
use crate::{DEPTH, PORT, no_evil};
use Verdict::{Allow, Drop};
use engine::{Invalid, Known, Reason, Tracked, Verdict};
use policy::{Pattern, RuleId};

#[test]
fn one_source_does_not_use_up_the_memory_of_all() {
    let mut policy = no_evil();
    policy.limits.stream_bytes = 1 << 20;
    let mut bench = Bench::new(policy);
    // Sixteen bytes short of the depth, a hundred times.
    let filling = vec![b'.'; DEPTH as usize - 16];
    let mut verdicts = Vec::new();
    for port in 1..=100 {
        for (known, flags, sequence, payload) in [
            (Known::again(Tracked::New), SYN, 99, &b""[..]),
            (Known::again(Tracked::Established), ACK, 100, &filling),
        ] {
            let packet = tcp(CLIENT, port, HOST, PORT, flags, sequence, payload);
            verdicts.push(bench.asked(known, &packet).reason);
        }
    }
    let refused = Reason::Invalid(Invalid::StreamMemory);
    assert!(verdicts.contains(&refused));
    // Its own next flow is no way through, and everybody else's is looked at.
    for (source, expected) in [(CLIENT, refused), ("198.51.100.7", Reason::Rule(RuleId(0)))] {
        let syn = tcp(source, 500, HOST, PORT, SYN, 99, b"");
        bench.asked(Known::again(Tracked::New), &syn);
        let begin = tcp(source, 500, HOST, PORT, ACK, 100, &filling);
        let bad = tcp(source, 500, HOST, PORT, ACK, 100 + DEPTH - 16, b"EVIL");
        bench.asked(Known::again(Tracked::Established), &begin);
        assert_eq!(
            bench.asked(Known::again(Tracked::Established), &bad).reason,
            expected,
            "{source}"
        );
    }
}

/// Sources that fill the memory for streams, each within its share: behind gaps, or in order just short of the depth.
fn fill(bench: &mut Bench, known: Known, source: impl Fn(u16) -> String, gap: u32) {
    let filling = vec![b'.'; DEPTH as usize - 16];
    for number in 0..40 {
        let source = source(number);
        let target = if source.contains(':') { HOST6 } else { HOST };
        for port in 1..=7 {
            let syn = tcp(&source, port, target, PORT, SYN, 99, b"");
            bench.asked(Known::again(Tracked::New), &syn);
            let data = tcp(&source, port, target, PORT, ACK, 100 + gap, &filling);
            bench.asked(known, &data);
        }
    }
}

/// Who fills the memory has it give back the begin of a long match, which would be missed then.
#[test]
fn no_match_is_forgotten_half_way() {
    for expression in ["BEGIN[^!]*END", "BEGIN.{600}END", "^BEGIN.*END"] {
        let mut policy = no_evil();
        policy.limits.stream_bytes = 1 << 20;
        if let Some(content) = &mut policy.rules[0].content {
            content.pattern = Some(Pattern::Regex(expression.to_owned()));
        }
        let mut bench = Bench::new(policy);
        let syn = tcp(CLIENT, 500, HOST, PORT, SYN, 99, b"");
        bench.asked(Known::again(Tracked::New), &syn);
        // Smaller than those who come, but for a few bytes; among equals the last ones give back first.
        let begin = [&b"BEGIN"[..], &[b'.'; 600]].concat();
        let data = tcp(CLIENT, 500, HOST, PORT, ACK, 100, &begin);
        assert_eq!(
            bench
                .asked(Known::again(Tracked::Established), &data)
                .verdict,
            Allow
        );
        for number in 0..4_000 {
            let source = format!("223.51.{}.{}", number / 250, number % 250 + 1);
            let syn = tcp(&source, 500, HOST, PORT, SYN, 99, b"");
            bench.asked(Known::again(Tracked::New), &syn);
            let data = tcp(&source, 500, HOST, PORT, ACK, 100, &[b'.'; 600]);
            bench.asked(Known::again(Tracked::Established), &data);
        }
        let data = tcp(CLIENT, 500, HOST, PORT, ACK, 705, b"END");
        let decision = bench.asked(Known::again(Tracked::Established), &data);
        assert_eq!(decision.verdict, Drop, "{expression} {:?}", decision.reason);
    }
}

#[test]
fn many_sources_do_not_use_up_the_memory_of_all() {
    let site = |number: u16| format!("2001:db8:77:{number:x}::1");
    let host = |number: u16| format!("198.51.100.{number}");
    for gap in [0, 8] {
        for (known, source) in [
            (
                Known::again(Tracked::Established),
                &host as &dyn Fn(u16) -> String,
            ),
            (Known::again(Tracked::Established), &site),
            (Known::again(Tracked::New), &host),
        ] {
            let mut policy = no_evil();
            policy.limits.stream_bytes = 1 << 20;
            let mut bench = Bench::new(policy);
            let ours = |source: &str, offset: u32, payload: &[u8]| {
                tcp(source, 500, HOST, PORT, ACK, 100 + offset, payload)
            };
            // One that was there before, and one that comes after.
            let begin = |bench: &mut Bench, source| {
                let syn = tcp(source, 500, HOST, PORT, SYN, 99, b"");
                bench.asked(Known::again(Tracked::New), &syn);
                let begin = vec![b'x'; 2_000];
                let data = ours(source, 0, &begin);
                let decision = bench.asked(Known::again(Tracked::Established), &data);
                assert_eq!(decision.verdict, Allow, "{source} {gap}");
                let data = ours(source, 2_000, b"EV");
                let decision = bench.asked(Known::again(Tracked::Established), &data);
                assert_eq!(decision.verdict, Allow, "{source} {gap}");
            };
            begin(&mut bench, CLIENT);
            fill(&mut bench, known, source, gap);
            begin(&mut bench, "192.0.2.77");
            fill(&mut bench, known, source, gap);
            for source in [CLIENT, "192.0.2.77"] {
                let data = ours(source, 2_002, b"IL, and more");
                let decision = bench.asked(Known::again(Tracked::Established), &data);
                let expected = Reason::Rule(RuleId(0));
                assert_eq!(decision.reason, expected, "{source} {gap}");
            }
        }
    }
}
