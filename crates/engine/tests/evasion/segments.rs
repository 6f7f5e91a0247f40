//! Segments that receivers take in different ways, or not at all.

use crate::common::*;
use crate::{AMBIGUOUS, Connection, DEPTH, PORT, no_evil};
use Verdict::{Allow, Drop};
use engine::{Invalid, Known, Reason, Tracked, Verdict};
use policy::RuleId;

#[test]
fn repetition_does_not_use_up_the_depth() {
    let mut connection = Connection::open();
    let filling = [b'.'; 1_300];
    for _ in 0..20 {
        assert_eq!(connection.send(0, &filling).verdict, Allow);
    }
    assert_eq!(
        connection.send(1_300, b"EVIL").reason,
        Reason::Rule(RuleId(0))
    );
}

#[test]
fn bytes_behind_a_gap_do_not_use_up_the_depth() {
    let mut connection = Connection::open();
    for place in 1..=20 {
        assert_eq!(connection.send(place * 800, &[b'.'; 800]).verdict, Allow);
    }
    assert_eq!(connection.send(0, b"EVIL").reason, Reason::Rule(RuleId(0)));
}

#[test]
fn a_segment_that_contradicts_another_is_dropped() {
    for (first, second) in [
        ((0, &b"xxxx"[..]), (0, &b"EVIL"[..])),
        ((4, b"xxxx"), (0, b"aaaaEVIL")),
        ((4, b"xxxx"), (4, b"EVILzz")),
        ((2, b"xx"), (0, b"EVIL")),
    ] {
        let mut connection = Connection::open();
        assert_eq!(connection.send(first.0, first.1).verdict, Allow);
        assert_eq!(connection.send(second.0, second.1).reason, AMBIGUOUS);
        // The honest copy of what came first goes on.
        assert_eq!(connection.send(first.0, first.1).verdict, Allow);
    }
}

/// Receivers discard it, or wait for a cookie with it; in a connection under way they take neither the SYN nor the RST.
#[test]
fn what_a_syn_or_a_reset_carries_is_no_part_of_the_stream() {
    let mut connection = Connection::open();
    assert_eq!(connection.flags(SYN, 0, b"qqqqqqqq").reason, AMBIGUOUS);
    assert_eq!(connection.flags(SYN, 48, b"zz").reason, AMBIGUOUS);
    let decoy = vec![b'.'; DEPTH as usize];
    assert_eq!(connection.flags(RST, 1, &decoy).verdict, Allow);
    assert_eq!(connection.send(0, b"an honest line. EV").verdict, Allow);
    assert_eq!(connection.send(18, b"IL").verdict, Drop);

    let mut bench = Bench::new(no_evil());
    let first = tcp(CLIENT, 41_000, HOST, PORT, SYN, 99, b"qqqqqqqq");
    let new = Known::again(Tracked::New);
    assert_eq!(bench.asked(new, &first).reason, AMBIGUOUS);
}

#[test]
fn urgent_data_is_dropped() {
    let mut connection = Connection::open();
    assert_eq!(connection.flags(ACK | URG, 0, b"EVxIL").reason, AMBIGUOUS);
    assert_eq!(connection.flags(ACK | URG, 0, b"").verdict, Allow);
}

#[test]
fn an_old_clock_and_a_signature_are_dropped() {
    use etherparse::TcpOptionElement::Timestamp;
    let segment = |offset: u32, clock: u32, payload: &[u8]| {
        let mut bytes = Vec::new();
        ip(CLIENT, HOST)
            .tcp(40_000, PORT, 100 + offset, 1_000)
            .ack(1)
            .options(&[Timestamp(clock, 0)])
            .unwrap()
            .write(&mut bytes, payload)
            .unwrap();
        bytes
    };
    let signed = |payload: &[u8]| {
        let mut raw = [1; 20];
        raw[..2].copy_from_slice(&[19, 18]);
        let mut bytes = Vec::new();
        ip(CLIENT, HOST)
            .tcp(40_000, PORT, 100, 1_000)
            .ack(1)
            .options_raw(&raw)
            .unwrap()
            .write(&mut bytes, payload)
            .unwrap();
        bytes
    };
    let mut connection = Connection::open();
    let mut asked = |packet: &[u8]| {
        connection
            .bench
            .asked(Known::again(Tracked::Established), packet)
    };
    assert_eq!(asked(&signed(b"xxxx")).reason, AMBIGUOUS);
    assert_eq!(asked(&segment(0, 5_000, b"abcd")).verdict, Allow);
    assert_eq!(asked(&segment(4, 4_000, b"xxxx")).reason, AMBIGUOUS);
    let ends = |mut packet: Vec<u8>| {
        packet[20 + 13] |= 1;
        packet
    };
    assert_eq!(asked(&ends(segment(4, 4_000, b""))).reason, AMBIGUOUS);
    // Segments that overtook each other are not old.
    assert_eq!(asked(&segment(8, 5_010, b"ijkl")).verdict, Allow);
    assert_eq!(
        asked(&segment(4, 5_005, b"EVIL")).reason,
        Reason::Rule(RuleId(0))
    );
}

#[test]
fn what_the_kernel_cut_off_is_not_passed_on() {
    let mut connection = Connection::open();
    let whole = tcp(
        CLIENT,
        connection.port,
        HOST,
        PORT,
        ACK,
        100,
        &[b'.'; 1_000],
    );
    let arrival = engine::Arrival {
        now: connection.bench.now,
        direction: Some(policy::Direction::In),
        interface: None,
        wire_len: whole.len() as u32,
        known: Some(Known::again(Tracked::Established)),
    };
    let cut = wire::parse(wire::Link::RawIp, &whole[..whole.len() - 4], whole.len());
    let decision = connection.bench.engine.handle(&arrival, cut);
    assert_eq!(decision.verdict, Drop);
    assert_eq!(decision.reason, Reason::Invalid(Invalid::CopyCut));
}

/// Its receiver may have discarded the first byte in that place (RFC 5961 section 5), and have the zero of what looks like a keep-alive.
#[test]
fn a_keep_alive_puts_no_other_byte_in_the_place_of_the_last() {
    let mut connection = Connection::open();
    assert_eq!(connection.send(0, b"EV").verdict, Allow);
    for (byte, expected) in [(b"V", Reason::Established), (b"\0", AMBIGUOUS)] {
        assert_eq!(connection.send(1, byte).reason, expected, "{byte:?}");
    }
    assert_eq!(connection.send(2, b"").verdict, Allow, "one without a byte");
    assert_eq!(connection.send(2, b"IL").reason, Reason::Rule(RuleId(0)));
}
