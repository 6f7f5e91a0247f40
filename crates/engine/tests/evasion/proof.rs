//! Nobody is banned for what somebody else can have sent.

use crate::common::*;
use crate::{PORT, no_evil};
use Verdict::{Allow, Drop};
use engine::{Invalid, Known, Reason, Tracked, Verdict};
use policy::{Action, Direction};

#[test]
fn nobody_is_banned_by_a_packet_that_anybody_can_send() {
    let mut policy = no_evil();
    policy.rules[0].action = Action::Ban(std::time::Duration::from_secs(60));
    let mut bench = Bench::new(policy);
    let forged = tcp("198.51.100.99", 5, HOST, PORT, SYN, 1, b"EVIL");
    assert_eq!(
        bench.asked(Known::again(Tracked::New), &forged).verdict,
        Drop
    );
    assert_eq!(bench.engine.bans().count(), 0);
    let syn = tcp(CLIENT, 5, HOST, PORT, SYN, 1, b"");
    assert_eq!(bench.asked(Known::again(Tracked::New), &syn).verdict, Allow);
    let bad = tcp(CLIENT, 5, HOST, PORT, ACK, 2, b"EVIL");
    assert_eq!(
        bench
            .asked(Known::again(Tracked::Established), &bad)
            .verdict,
        Drop
    );
    assert_eq!(bench.engine.bans().count(), 1);
}

/// Connection tracking has no state for it in which both sides are known, and says all the same that the client was answered.
#[test]
fn who_speaks_behind_an_answer_is_banned_though_its_server_has_closed() {
    let mut policy = no_evil();
    policy.rules[0].action = Action::Ban(std::time::Duration::from_secs(60));
    let mut bench = Bench::new(policy);
    let server =
        |flags, sequence| acknowledging(100, tcp(HOST, PORT, CLIENT, 5, flags, sequence, b""));
    for (direction, packet) in [
        (Direction::In, tcp(CLIENT, 5, HOST, PORT, SYN, 99, b"")),
        (Direction::Out, server(SYN_ACK, 499)),
        (Direction::Out, server(FIN_ACK, 500)),
    ] {
        assert_eq!(bench.verdict(direction, &packet), Allow);
    }
    let bad = tcp(CLIENT, 5, HOST, PORT, ACK, 100, b"EVIL");
    assert_eq!(bench.verdict(Direction::In, &bad), Drop);
    assert_eq!(bench.engine.bans().count(), 1);
}

#[test]
fn who_guesses_at_a_handshake_proves_nothing() {
    for (secret, offences) in [(0, 1), (65_000, 0)] {
        let mut policy = no_evil();
        policy.rules[0].action = Action::Ban(std::time::Duration::from_secs(60));
        let mut bench = Bench::new(policy);
        // What acknowledges 1 acknowledges the SYN-ACK in the first case alone.
        for (direction, packet) in [
            (
                policy::Direction::In,
                tcp(CLIENT, 5, HOST, PORT, SYN, 99, b""),
            ),
            (
                policy::Direction::Out,
                acknowledging(100, tcp(HOST, PORT, CLIENT, 5, SYN_ACK, secret, b"")),
            ),
            (
                policy::Direction::In,
                tcp(CLIENT, 5, HOST, PORT, ACK, 100, b"EVIL"),
            ),
        ] {
            bench.packet(direction, &packet);
        }
        let bans: Vec<u32> = bench.engine.bans().map(|ban| ban.offences).collect();
        assert_eq!(bans, [offences], "{secret}");
    }
}

#[test]
fn a_burst_of_segments_out_of_place_makes_a_handshake_doubtful() {
    let ban = |now| engine::Ban {
        prefix: format!("{CLIENT}/32").parse().unwrap(),
        origin: engine::BanOrigin::Rule("no evil".into()),
        reason: "test".into(),
        since: now,
        expires: now.after(std::time::Duration::from_secs(600)),
        times_banned: 1,
        offences: 1,
        grew_from: Vec::new(),
        would_be: false,
        evidence: None,
    };
    for (guesses, wait, offences) in [(15, 0, 1), (16, 0, 0), (16, 61_000, 1)] {
        let mut bench = Bench::new(no_evil());
        for guess in 0..guesses {
            let packet = tcp(CLIENT, 5, HOST, PORT, ACK, 100 + guess, b"");
            let Ok(wire::Frame::Ip(parsed)) = wire::parse(wire::Link::RawIp, &packet, packet.len())
            else {
                panic!("a segment");
            };
            let arrival = engine::Arrival {
                now: bench.now,
                direction: Some(policy::Direction::In),
                interface: None,
                wire_len: packet.len() as u32,
                known: None,
            };
            let reason = Reason::Invalid(Invalid::TcpNoConnection);
            bench.engine.observe(&arrival, &parsed, Drop, reason);
        }
        bench.pass(wait);
        let (now, engine) = (bench.now, &mut bench.engine);
        let made = engine.adopt_ban(ban(now), now).unwrap();
        assert_eq!(made.offences, offences, "{guesses}");
    }
}
