//! Questions in datagrams: what they ask, which way they go, and what is recorded of them.

use super::*;

#[test]
fn names_are_judged_whatever_their_case() {
    let mut bench = bench();
    for (verdict, name) in [
        (Drop, "ads.example"),
        (Drop, "ADS.eXaMpLe."),
        (Allow, "x.ads.example"),
        (Allow, "below.example"),
        (Drop, "a.b.below.example"),
        (Drop, "both.example"),
        (Drop, "x.both.example"),
        (Allow, "fine.both.example"),
        (Allow, "other.example"),
        (Allow, ""),
    ] {
        let decision = ask(&mut bench, &query(name));
        assert_eq!(decision.verdict, verdict, "{name}");
        let reply = (verdict == Drop).then_some(DnsAnswer::Zero);
        assert_eq!(decision.reply, reply, "{name}");
    }
    assert_eq!(bench.engine.totals().dns_questions, 10);
    assert_eq!(bench.engine.totals().dns_blocked, 5);
}

#[test]
fn both_families_and_all_ways_are_judged_but_loopback_once() {
    let mut bench = bench();
    for (source, target) in [(CLIENT, HOST), (CLIENT6, HOST6)] {
        let asked = udp(source, 40_000, target, 53, &query("ads.example"));
        for direction in Direction::ALL {
            assert_eq!(bench.verdict(direction, &asked), Drop, "{direction}");
        }
    }
    let local = udp("127.0.0.1", 40_000, "127.0.0.1", 53, &query("ads.example"));
    for (direction, verdict) in [(Direction::Out, Drop), (Direction::In, Allow)] {
        let arrival = Arrival {
            now: bench.now,
            direction: Some(direction),
            interface: Some("lo"),
            wire_len: local.len() as u32,
            known: None,
        };
        let frame = wire::parse(Link::RawIp, &local, local.len());
        assert_eq!(bench.engine.handle(&arrival, frame).verdict, verdict);
    }
}

#[test]
fn what_cannot_be_read_or_is_no_question() {
    let good = query("other.example");
    let with = |place: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[place] = byte;
        bytes
    };
    let loops = [&good[..12], b"\xc0\x0c\0\x01\0\x01"].concat();
    let long = |last: usize| {
        let label = "a".repeat(63);
        query(&format!("{label}.{label}.{label}.{}", "b".repeat(last)))
    };
    for (message, expected) in [
        (&b""[..], Some(DnsRefusal::Defect(Defect::HeaderTruncated))),
        (&good[..20], Some(DnsRefusal::Defect(Defect::Truncated))),
        (&loops, Some(DnsRefusal::Defect(Defect::PointerForward))),
        (&long(61), None),
        (&long(62), Some(DnsRefusal::Defect(Defect::NameTooLong))),
        (&with(5, 2), Some(DnsRefusal::Questions)),
        // Nothing is asked: a query for a server cookie (RFC 7873 section 5.4).
        (&with(5, 0), None),
        // A response; NOTIFY, UPDATE; IQUERY, STATUS, DSO, none.
        (&with(2, 0x80), None),
        (&with(2, 4 << 3), None),
        (&with(2, 5 << 3), None),
        (&with(2, 1 << 3), Some(DnsRefusal::Opcode(1))),
        (&with(2, 2 << 3), Some(DnsRefusal::Opcode(2))),
        (&with(2, 6 << 3), Some(DnsRefusal::Opcode(6))),
        (&with(2, 15 << 3), Some(DnsRefusal::Opcode(15))),
    ] {
        let mut bench = bench();
        let decision = ask(&mut bench, message);
        assert_eq!(refusal(&decision), expected, "{message:?}");
        assert_eq!(decision.reply, None);
    }
}

#[test]
fn answers_and_other_ports_are_left_alone() {
    let mut bench = bench();
    let asked = query("ads.example");
    assert_eq!(
        bench.verdict(Direction::Out, &udp(HOST, 53, CLIENT, 5353, &asked)),
        Allow
    );
    // A client whose port is a server's: the answers go to port 53.
    let open = udp(CLIENT, 53, HOST, 53, &query("other.example"));
    assert_eq!(bench.verdict(Direction::In, &open), Allow);
    let mut response = query("ads.example");
    response[2] |= 0x80;
    let answer = udp(HOST, 53, CLIENT, 53, &response);
    assert_eq!(bench.verdict(Direction::Out, &answer), Allow);
    let connect = tcp(CLIENT, 53, HOST, 53, SYN, 99, b"");
    assert_eq!(bench.verdict(Direction::In, &connect), Allow);
    for (direction, packet) in [
        (Direction::Out, tcp(HOST, 53, CLIENT, 53, SYN_ACK, 7, b"")),
        (
            Direction::In,
            tcp(
                CLIENT,
                53,
                HOST,
                53,
                ACK,
                100,
                &framed(&query("other.example")),
            ),
        ),
        (
            Direction::Out,
            tcp(HOST, 53, CLIENT, 53, ACK, 8, &framed(&response)),
        ),
    ] {
        assert_eq!(bench.verdict(direction, &packet), Allow);
    }
}

/// An answer that comes so late that its question is forgotten looks like the begin of a flow.
#[test]
fn who_seems_to_have_begun_says_nothing() {
    let mut bench = bench();
    let mut response = query("slow.example");
    response[2] |= 0x80;
    let late = udp(HOST, 53, CLIENT, 5_353, &response);
    assert_eq!(bench.verdict(Direction::Out, &late), Allow);
    let asked = udp(CLIENT, 5_353, HOST, 53, &query("ads.example"));
    assert_eq!(bench.verdict(Direction::In, &asked), Drop);
    // A connection that goes on by the server's word.
    let more = tcp(HOST, 53, CLIENT, 5_353, ACK, 7, &framed(&response));
    assert_eq!(bench.verdict(Direction::Out, &more), Allow);
    for name in ["ads.example", "other.example"] {
        let asked = tcp(CLIENT, 5_353, HOST, 53, ACK, 100, &framed(&query(name)));
        let decision = bench.packet(Direction::In, &asked);
        assert_eq!(refusal(&decision), Some(DnsRefusal::BeginUnseen));
    }
}

#[test]
fn what_rules_deny_is_not_asked() {
    let mut plan = dns_plan();
    plan.rules[0].action = policy::Action::Deny;
    let mut bench = Bench::new(plan);
    let decision = ask(&mut bench, &query("ads.example"));
    assert_eq!(decision.reason, Reason::Rule(policy::RuleId(0)));
    assert_eq!(bench.engine.totals().dns_questions, 0);
}

#[test]
fn what_is_recorded() {
    for (log, dns, drops) in [
        (DnsLog::None, 0, 0),
        (DnsLog::Blocked, 1, 0),
        (DnsLog::All, 2, 0),
    ] {
        let plan = Plan {
            dns: Some(filter(log)),
            ..dns_plan()
        };
        let mut bench = Bench::new(plan);
        ask(&mut bench, &query("X.Both.example"));
        ask(&mut bench, &query("other.example"));
        let events = bench.events();
        let questions: Vec<_> = events
            .iter()
            .filter_map(|event| match &event.body {
                EventBody::Dns(question) => Some(question),
                _ => None,
            })
            .collect();
        assert_eq!(questions.len(), dns, "{log:?}");
        let is_drop = |event: &&engine::Event| matches!(event.body, EventBody::Drop { .. });
        assert_eq!(events.iter().filter(is_drop).count(), drops, "{log:?}");
        if let Some(first) = questions.first() {
            assert_eq!(&*first.name, "x.both.example");
            assert_eq!(first.blocked, Some(DnsAnswer::Zero));
            let entry = first.entry.as_ref().unwrap();
            assert_eq!(
                (&*entry.entry, &*entry.source),
                (".both.example", "ads.txt")
            );
        }
    }
}
