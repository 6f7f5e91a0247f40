//! No bytes make the parser or an accessor panic, on any link.
#![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]

mod every_accessor;

use every_accessor::every_accessor;
use portcullis_wire::{Link, parse};
use proptest::prelude::*;

/// Bytes that begin like IP, so that random ones get past the first check.
fn ip_like() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    // The protocols and extension headers that are read, and one that is not.
    let next = prop::sample::select(vec![
        0u8, 1, 4, 6, 17, 33, 41, 43, 44, 47, 51, 58, 59, 60, 132, 136, 200,
    ]);
    (bytes, next.clone(), next, any::<bool>(), any::<bool>()).prop_map(
        |(mut bytes, next, second, v6, mend)| {
            if bytes.len() < 60 {
                return bytes;
            }
            if v6 {
                bytes[0] = 0x60 | bytes[0] & 0x0f;
                bytes[6] = next;
                // A chain of short headers, where the first is one.
                bytes[40] = second;
                bytes[41] &= 1;
                let payload = bytes.len() as u16 - 40;
                bytes[4..6].copy_from_slice(&payload.to_be_bytes());
            } else {
                bytes[0] = 0x40 | (5 + bytes[0] % 3);
                bytes[9] = next;
                let len = bytes.len() as u16;
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
                if mend {
                    bytes[6..8].fill(0);
                }
                mend_ipv4(&mut bytes);
            }
            let upper = if v6 {
                40
            } else {
                usize::from(bytes[0] & 0x0f) * 4
            };
            if next == 17 && mend && bytes.len() >= upper + 8 {
                let len = (bytes.len() - upper) as u16;
                bytes[upper + 4..upper + 6].copy_from_slice(&len.to_be_bytes());
            }
            bytes
        },
    )
}

fn mend_ipv4(bytes: &mut [u8]) {
    let header_len = usize::from(bytes[0] & 0x0f) * 4;
    bytes[10..12].fill(0);
    let mut sum: u32 = bytes[..header_len]
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

fn on_every_link(bytes: &[u8], wire: usize) {
    for link in Link::ALL {
        every_accessor(&parse(link, bytes, wire));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..160), more in prop::sample::select(vec![0usize, 1, 1000, usize::MAX])) {
        on_every_link(&bytes, bytes.len().saturating_add(more));
    }

    #[test]
    fn bytes_that_begin_like_ip(bytes in ip_like(), cut in 0usize..200) {
        on_every_link(&bytes, bytes.len());
        let kept = bytes.len().saturating_sub(cut);
        on_every_link(&bytes[..kept], bytes.len());
        on_every_link(&bytes[..kept], kept);
    }

    #[test]
    fn bytes_that_begin_like_a_frame(bytes in ip_like(), tags in 0usize..4) {
        let mut frame = vec![0; 12];
        for _ in 0..tags {
            frame.extend([0x81, 0, 0, 7]);
        }
        frame.extend(if bytes.first().is_some_and(|first| first >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] });
        frame.extend(&bytes);
        on_every_link(&frame, frame.len());
    }
}

#[test]
fn the_strategy_reaches_every_transport() {
    use portcullis_wire::{Frame, Transport};
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut seen = [0usize; 8];
    for _ in 0..20_000 {
        let bytes = ip_like().new_tree(&mut runner).unwrap().current();
        let at = match parse(Link::RawIp, &bytes, bytes.len()) {
            Ok(Frame::Ip(packet)) => match packet.transport() {
                Transport::Tcp(_) => 0,
                Transport::Udp(_) => 1,
                Transport::Icmp(_) => 2,
                Transport::Sctp(_) => 3,
                Transport::Gre(_) => 4,
                Transport::Fragment => 5,
                Transport::Other => 6,
            },
            _ => 7,
        };
        seen[at] += 1;
    }
    assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
}
