//! Parsing and every accessor allocate nothing.

mod counting;
mod every_accessor;
mod every_name;

use counting::allocations;
use etherparse::{Icmpv4Type, PacketBuilder, icmpv4};
use every_accessor::every_accessor;
use every_name::{every_dns_name, every_http_name, every_tls_name};
use portcullis_wire::{Frame, Link, parse};

fn frames() -> Vec<Vec<u8>> {
    let ethernet = || PacketBuilder::ethernet2([2; 6], [4; 6]);
    let mut frames = vec![Vec::new(); 5];
    let write = "a vector takes all";
    let v4 = ethernet().ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
    v4.tcp(1, 2, 3, 4)
        .syn()
        .write(&mut frames[0], b"payload")
        .expect(write);
    let v6 = ethernet().ipv6([0x20; 16], [0x30; 16], 64);
    v6.udp(1, 4789)
        .write(&mut frames[1], b"payload")
        .expect(write);
    let v4 = ethernet().ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
    let unreachable = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
    let quotation = frames[0][14..42].to_vec();
    v4.icmpv4(unreachable)
        .write(&mut frames[2], &quotation)
        .expect(write);
    // Malformed: a flipped bit of the checksum; not IP: an ARP ethertype.
    frames[3] = frames[0].clone();
    frames[3][24] ^= 1;
    frames[4] = frames[0].clone();
    frames[4][13] = 6;
    frames
}

#[test]
fn nothing_is_allocated() {
    let frames = frames();
    let before = allocations();
    for frame in &frames {
        for link in Link::ALL {
            for kept in 0..frame.len() {
                every_accessor(&parse(link, &frame[..kept], frame.len()));
                every_accessor(&parse(link, &frame[..kept], kept));
            }
        }
        every_accessor(&parse(Link::Ethernet, frame, frame.len()));
    }
    for bytes in every_name::SAMPLES {
        every_dns_name(bytes);
        every_tls_name(bytes);
        every_http_name(bytes);
    }
    assert_eq!(allocations(), before);

    // The counter counts, and the frames are what they are meant to be.
    drop(std::hint::black_box(vec![1u8]));
    assert_eq!(allocations(), before + 1);
    let parsed = frames
        .iter()
        .map(|frame| parse(Link::Ethernet, frame, frame.len()));
    let kinds: Vec<_> = parsed
        .map(|parsed| matches!(parsed, Ok(Frame::Ip(_))))
        .collect();
    assert_eq!(kinds, [true, true, true, false, false]);
}
