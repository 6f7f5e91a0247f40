//! Fragments of odd shapes: what becomes of them, as Linux has it (net/ipv4/ip_fragment.c, net/ipv4/inet_fragment.c,
//! net/ipv6/netfilter/nf_conntrack_reasm.c).
#![allow(clippy::unwrap_used, reason = "inputs are constants")]

extern crate portcullis_engine as engine;

mod common;

use std::net::{Ipv4Addr, Ipv6Addr};

use common::*;
use engine::{FragmentFault, Reason, Verdict};
use policy::{Action, Direction, PortSet, Protocols, Rule};

/// From, to, more.
type Piece = (u32, u32, bool);

const HOST_V6: &str = "2001:db8:1::1";
/// UDP to port 53, of 88 bytes.
const LENGTH: u32 = 88;

fn datagram() -> Vec<u8> {
    let mut bytes = vec![0; LENGTH as usize];
    bytes[..8].copy_from_slice(&[0x10, 0x92, 0, 53, 0, LENGTH as u8, 0, 0]);
    bytes
}

/// What `piece` holds of a datagram; zeros beyond its end.
fn cut(datagram: &[u8], (from, to, _): Piece) -> Vec<u8> {
    (from..to)
        .map(|at| datagram.get(at as usize).copied().unwrap_or_default())
        .collect()
}

fn v4(datagram: &[u8], piece: Piece, ecn: u8) -> Vec<u8> {
    let body = cut(datagram, piece);
    let place = (piece.0 / 8) as u16 | u16::from(piece.2) << 13;
    let mut bytes = vec![0x45, ecn];
    bytes.extend((20 + body.len() as u16).to_be_bytes());
    bytes.extend([0x12, 0x34]);
    bytes.extend(place.to_be_bytes());
    bytes.extend([64, 17, 0, 0]);
    bytes.extend(CLIENT.parse::<Ipv4Addr>().unwrap().octets());
    bytes.extend(HOST.parse::<Ipv4Addr>().unwrap().octets());
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn v6(datagram: &[u8], next: u8, piece: Piece, ecn: u8) -> Vec<u8> {
    let body = cut(datagram, piece);
    let mut bytes = vec![0x60, ecn << 4, 0, 0];
    bytes.extend((8 + body.len() as u16).to_be_bytes());
    bytes.extend([44, 64]);
    for address in ["2001:db8::7", HOST_V6] {
        bytes.extend(address.parse::<Ipv6Addr>().unwrap().octets());
    }
    bytes.extend([next, 0]);
    bytes.extend((piece.0 as u16 | u16::from(piece.2)).to_be_bytes());
    bytes.extend([0, 0, 0, 7]);
    bytes.extend(body);
    bytes
}

fn bench() -> Bench {
    Bench::new(plan(vec![Rule {
        protocols: Protocols::one(17),
        port: PortSet::from_ranges([(53, 53)]),
        ..rule(Action::Allow)
    }]))
}

/// How many of the packets let something pass, and the reasons; every packet is counted once, as passed or as dropped.
fn passed(packets: &[Vec<u8>]) -> (usize, Vec<Reason>) {
    let mut bench = bench();
    let decisions: Vec<_> = packets
        .iter()
        .map(|bytes| bench.packet(Direction::In, bytes))
        .collect();
    bench.pass(100_000);
    bench.engine.advance(bench.now);
    let totals = bench.engine.totals();
    assert_eq!(totals.packets, totals.allowed + totals.dropped);
    let passed = decisions
        .iter()
        .filter(|decision| decision.verdict == Verdict::Allow);
    (
        passed.count(),
        decisions.iter().map(|decision| decision.reason).collect(),
    )
}

/// Each shape with its pieces in the order in which they come: from, to, and whether more follow. Then the families over which it
/// passes.
const SHAPES: &str = "\
in order                                              | 0-40+ 40-88                      | 4 6
in reverse                                            | 40-88 0-40+                      | 4 6
the first again                                       | 0-40+ 0-40+ 40-88                | 4 6
a part of the first again                             | 0-40+ 8-24+ 40-88                | 4 6
overlapping                                           | 0-40+ 32-88                      |
covering                                              | 8-24+ 0-40+ 40-88                |
the whole behind a part, which in IPv4 is no fragment | 0-40+ 0-88                       | 4
a part of two that came in order                      | 0-24+ 24-48+ 16-32+ 48-88        | 4 6
a part of two that came in reverse                    | 24-48+ 0-24+ 16-32+ 48-88        |
a part of two, a gap behind them                      | 48-88 0-24+ 24-40+ 16-32+ 40-48+ |
two ends                                              | 40-88 40-80 0-40+                | 6
an end before what came                               | 0-40+ 40-88+ 40-80 80-88         |
more beyond the end                                   | 40-88 88-96+ 0-40+               | 6
empty in the middle                                   | 0-40+ 40-40+ 40-88               | 6
empty and last, at the end                            | 0-40+ 40-88+ 88-88               |
empty and last, before the rest                       | 88-88 0-40+ 40-88+               | 6
no multiple of 8                                      | 0-40+ 40-83+ 80-88               | 4
no multiple of 8, cut down                            | 0-44+ 40-88                      | 4
a whole datagram's end beyond                         | 0-40+ 65528-65560 40-88          | 6
a gap                                                 | 0-40+ 48-88                      |
";

fn pieces(shape: &str) -> Vec<Piece> {
    let piece = |text: &str| {
        let more = text.ends_with('+');
        let (from, to) = text.trim_end_matches('+').split_once('-').unwrap();
        (from.parse().unwrap(), to.parse().unwrap(), more)
    };
    shape.split_whitespace().map(piece).collect()
}

#[test]
fn odd_fragments_do_what_they_do_to_the_kernel() {
    let udp = datagram();
    for row in SHAPES.lines() {
        let [name, shape, families] = row.split('|').collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let shape = pieces(shape);
        let in_v4: Vec<_> = shape.iter().map(|piece| v4(&udp, *piece, 0)).collect();
        let in_v6: Vec<_> = shape.iter().map(|piece| v6(&udp, 17, *piece, 0)).collect();
        for (family, packets) in [('4', in_v4), ('6', in_v6)] {
            let (count, reasons) = passed(&packets);
            let passes = families.contains(family);
            assert_eq!(
                count,
                usize::from(passes),
                "{name}, IPv{family}: {reasons:?}"
            );
        }
    }
}

#[test]
fn an_atomic_fragment_is_one_as_any() {
    let udp = datagram();
    let whole = (0, LENGTH, false);
    assert_eq!(passed(&[v6(&udp, 17, whole, 0)]).0, 1);
    // What was begun under its identification falls with it.
    let begun = [(0, 40, true), whole, (40, LENGTH, false)];
    let packets = begun.map(|piece| v6(&udp, 17, piece, 0));
    let (count, reasons) = passed(&packets);
    assert_eq!(count, 0, "{reasons:?}");
    assert_eq!(reasons[1], Reason::Fragment(FragmentFault::Overlap));
    // In a fragment there is none.
    let mut nested = vec![17, 0, 0, 0, 0, 0, 0, 9];
    nested.extend(&udp);
    let packet = v6(&nested, 44, (0, LENGTH + 8, false), 0);
    assert_eq!(
        passed(&[packet]),
        (0, vec![Reason::Fragment(FragmentFault::Nested)])
    );
}

#[test]
fn headers_may_be_spread_over_fragments() {
    // Two destination options headers, then UDP; cut between them.
    let mut chain = vec![60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0];
    chain.extend(datagram());
    let end = chain.len() as u32;
    let spread = |at: u32| {
        let pieces = [(0, at, true), (at, end, false)];
        passed(&pieces.map(|piece| v6(&chain, 60, piece, 0)))
    };
    assert_eq!(spread(8).0, 1);
    assert_eq!(spread(24).0, 1);
    // All headers but UDP: that is one the kernel does not take.
    assert_eq!(spread(16).0, 0);
    // Where the port is not 53, nothing is won.
    chain[19] = 54;
    let pieces = [(0, 8, true), (8, end, false)];
    assert_eq!(passed(&pieces.map(|piece| v6(&chain, 60, piece, 0))).0, 0);
}

#[test]
fn fragments_agree_on_congestion() {
    let udp = datagram();
    for (first, second, count) in [
        (0, 0, 1),
        (2, 2, 1),
        (2, 3, 1),
        (1, 2, 1),
        (0, 2, 0),
        (3, 0, 0),
    ] {
        let (one, other) = ((0, 40, true), (40, LENGTH, false));
        let found = [
            passed(&[v4(&udp, one, first), v4(&udp, other, second)]),
            passed(&[v6(&udp, 17, one, first), v6(&udp, 17, other, second)]),
        ];
        for (passed, reasons) in found {
            assert_eq!(passed, count, "{first} {second}: {reasons:?}");
        }
    }
}
