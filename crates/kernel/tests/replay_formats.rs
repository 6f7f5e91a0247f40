//! The dialects of pcap and pcapng, and what damage does, on captures made here byte by byte.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use policy::{Direction, Timestamp};
use portcullis_kernel::replay::{Replay, Warning};
use portcullis_kernel::source::{Source, SourceError};
use proptest::prelude::*;
use wire::Link;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Big,
    Little,
}
use Order::{Big, Little};

impl Order {
    fn u16(self, value: u16) -> [u8; 2] {
        if self == Big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }
    fn u32(self, value: u32) -> [u8; 4] {
        if self == Big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }
    fn u64(self, value: u64) -> [u8; 8] {
        if self == Big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }
}

fn pcap(order: Order, magic: u32, minor: u16, linktype: u32) -> Vec<u8> {
    let mut file = order.u32(magic).to_vec();
    file.extend(order.u16(2));
    file.extend(order.u16(minor));
    file.extend([0; 8]);
    file.extend(order.u32(65_535));
    file.extend(order.u32(linktype));
    file
}

fn record(order: Order, words: [u32; 4], extra: &[u8], data: &[u8]) -> Vec<u8> {
    [
        words.map(|word| order.u32(word)).as_flattened(),
        extra,
        data,
    ]
    .concat()
}

fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let length = order.u32(12 + body.len().next_multiple_of(4) as u32);
    let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
    [&order.u32(kind)[..], &length, body, &padding, &length].concat()
}

fn section(order: Order) -> Vec<u8> {
    let body = [
        &order.u32(0x1a2b_3c4d)[..],
        &order.u16(1),
        &order.u16(0),
        &order.u64(u64::MAX),
    ]
    .concat();
    block(order, 0x0a0d_0d0a, &body)
}

fn option(order: Order, kind: u16, value: &[u8]) -> Vec<u8> {
    let padding = vec![0; value.len().next_multiple_of(4) - value.len()];
    [
        &order.u16(kind)[..],
        &order.u16(value.len() as u16),
        value,
        &padding,
    ]
    .concat()
}

fn interface(order: Order, linktype: u16, snap_length: u32, options: &[u8]) -> Vec<u8> {
    block(
        order,
        1,
        &[
            &order.u16(linktype)[..],
            &[0; 2],
            &order.u32(snap_length),
            options,
        ]
        .concat(),
    )
}

fn enhanced(order: Order, interface: u32, time: u64, data: &[u8], options: &[u8]) -> Vec<u8> {
    let length = data.len() as u32;
    let words = [
        interface,
        (time >> 32) as u32,
        time as u32,
        length,
        length + 1,
    ];
    let padding = vec![0; data.len().next_multiple_of(4) - data.len()];
    block(
        order,
        6,
        &[
            words.map(|word| order.u32(word)).as_flattened(),
            data,
            &padding,
            options,
        ]
        .concat(),
    )
}

/// One packet as the tests look at it.
#[derive(Debug, PartialEq)]
struct Seen {
    nanos: u64,
    link: Option<Link>,
    bytes: Vec<u8>,
    wire_len: usize,
    direction: Option<Direction>,
    interface: Option<String>,
}

fn read(file: Vec<u8>) -> Result<(Vec<Seen>, Option<Warning>), SourceError> {
    let mut replay = Replay::read(std::io::Cursor::new(file))?;
    let mut seen = Vec::new();
    while let Some(packet) = replay.next()? {
        seen.push(Seen {
            nanos: packet.timestamp.as_nanos(),
            link: packet.link,
            bytes: packet.bytes.to_vec(),
            wire_len: packet.wire_len,
            direction: packet.direction,
            interface: packet.interface.map(str::to_owned),
        });
    }
    Ok((seen, replay.warning()))
}

#[test]
fn pcap_of_either_order_and_resolution() {
    for order in [Big, Little] {
        for (magic, nanos) in [
            (0xa1b2_c3d4, 7_000_000_005_000),
            (0xa1b2_3c4d, 7_000_000_000_005),
        ] {
            let file = [
                pcap(order, magic, 4, 1),
                record(order, [7_000, 5, 3, 60], &[], b"abc"),
            ]
            .concat();
            let (seen, warning) = read(file).unwrap();
            let expected = Seen {
                nanos,
                link: Some(Link::Ethernet),
                bytes: b"abc".to_vec(),
                wire_len: 60,
                direction: None,
                interface: None,
            };
            assert_eq!(
                (seen, warning),
                (vec![expected], None),
                "{order:?} {magic:x}"
            );
        }
    }
}

#[test]
fn pcap_of_kuznetsov_has_a_longer_header_with_a_direction() {
    for order in [Big, Little] {
        let mut file = pcap(order, 0xa1b2_cd34, 4, 1);
        for (packet_type, byte) in [(0, b'a'), (4, b'b'), (3, b'c')] {
            let extra = [&order.u32(2)[..], &order.u16(0x800), &[packet_type, 0]].concat();
            file.extend(record(order, [1, 2, 1, 1], &extra, &[byte]));
        }
        let (seen, warning) = read(file).unwrap();
        let seen: Vec<_> = seen
            .iter()
            .map(|packet| (packet.bytes[0], packet.direction))
            .collect();
        assert_eq!(
            seen,
            [
                (b'a', Some(Direction::In)),
                (b'b', Some(Direction::Out)),
                (b'c', None)
            ]
        );
        assert_eq!(warning, None);
    }
}

#[test]
fn pcap_of_old_writers_has_its_lengths_swapped() {
    for (minor, words) in [
        (2, [1, 1, 60, 3]),
        (3, [1, 1, 60, 3]),
        (3, [1, 1, 3, 60]),
        (4, [1, 1, 3, 60]),
    ] {
        let file = [
            pcap(Little, 0xa1b2_c3d4, minor, 1),
            record(Little, words, &[], b"abc"),
        ]
        .concat();
        let (seen, warning) = read(file).unwrap();
        assert_eq!(
            (seen[0].bytes.len(), seen[0].wire_len, warning),
            (3, 60, None),
            "2.{minor}"
        );
    }
}

#[test]
fn pcap_link_types() {
    // FCS present (bit 26) of 2 * 2 bytes; the type itself is in the low half.
    for (number, link) in [
        (0x2400_0001, Some(Link::Ethernet)),
        (113, Some(Link::LinuxSll)),
        (201, None),
    ] {
        let file = [
            pcap(Little, 0xa1b2_c3d4, 4, number),
            record(Little, [1, 1, 1, 1], &[], b"x"),
        ]
        .concat();
        assert_eq!(read(file).unwrap().0[0].link, link, "{number}");
    }
}

#[test]
fn times_that_cannot_be_saturate_and_may_run_backwards() {
    let words = [[u32::MAX, u32::MAX, 0, 0], [0, 0, 0, 0]];
    let records = words.map(|words| record(Big, words, &[], &[])).concat();
    let (seen, _) = read([pcap(Big, 0xa1b2_c3d4, 4, 1), records].concat()).unwrap();
    assert_eq!(seen[1].nanos, 0);
    assert_eq!(seen[0].nanos, u64::from(u32::MAX) * 1_000_001_000);

    let options = |resolution: u8, offset: i64| {
        [
            option(Big, 9, &[resolution]),
            option(Big, 14, &offset.cast_unsigned().to_be_bytes()),
        ]
        .concat()
    };
    for (resolution, offset, count, nanos) in [
        (6, 0, 1_500_000, 1_500_000_000),
        (6, 10, 1_500_000, 11_500_000_000),
        (9, 0, 17, 17),
        (0, 0, 3, 3_000_000_000),
        (3, -1, 2_500, 1_500_000_000),
        (12, 0, 5_000, 5),
        (0x80, 0, 2, 2_000_000_000),
        (0x81, 0, 3, 1_500_000_000),
        (0x80 | 32, 0, 1 << 31, 500_000_000),
        (6, -5, 1_000_000, 0),
        (0, 0, u64::MAX, Timestamp::MAX.as_nanos()),
        (0xff, i64::MAX, u64::MAX, Timestamp::MAX.as_nanos()),
        (0x7f, i64::MIN, u64::MAX, 0),
    ] {
        let file = [
            section(Big),
            interface(Big, 1, 0, &options(resolution, offset)),
            enhanced(Big, 0, count, b"x", &[]),
        ];
        let (seen, warning) = read(file.concat()).unwrap();
        assert_eq!(
            (seen[0].nanos, warning),
            (nanos, None),
            "{resolution} {offset} {count}"
        );
    }
}

#[test]
fn pcapng_sections_interfaces_and_blocks() {
    let mut file = Vec::new();
    for order in [Little, Big] {
        let old = [
            &order.u16(1)[..],
            &order.u16(9),
            &order.u32(0),
            &order.u32(8),
            &order.u32(2),
            &order.u32(2),
            b"pb",
        ];
        let flags = |direction| option(order, 2, &order.u32(direction));
        let comment = option(order, 1, b"a word");
        file.extend(
            [
                section(order),
                block(order, 4, b"names, passed over"),
                interface(
                    order,
                    1,
                    4,
                    &[option(order, 2, b"eth0"), comment.clone()].concat(),
                ),
                interface(order, 101, 0, &option(order, 9, &[9])),
                enhanced(order, 0, 1_000_000, b"first", &[comment, flags(1)].concat()),
                enhanced(order, 1, 5, b"second", &flags(2)),
                block(order, 0x0bad, b"custom"),
                block(order, 2, &old.concat()),
                block(order, 3, &[&order.u32(6)[..], b"simp"].concat()),
                block(order, 5, &[0; 20]),
            ]
            .concat(),
        );
    }
    let (seen, warning) = read(file).unwrap();
    assert_eq!(warning, None);
    assert_eq!(seen.len(), 8);
    for seen in seen.chunks(4) {
        let [first, second, old, simple] = seen else {
            panic!("four of each order")
        };
        assert_eq!(
            (first.nanos, first.link, first.wire_len),
            (1_000_000_000, Some(Link::Ethernet), 6)
        );
        assert_eq!(
            (first.direction, first.interface.as_deref()),
            (Some(Direction::In), Some("eth0"))
        );
        assert_eq!(
            (second.nanos, second.link, &second.bytes[..]),
            (5, Some(Link::RawIp), &b"second"[..])
        );
        assert_eq!(
            (second.direction, second.interface.as_deref()),
            (Some(Direction::Out), None)
        );
        assert_eq!(
            (old.nanos, old.link, &old.bytes[..]),
            (8, Some(Link::RawIp), &b"pb"[..])
        );
        // A simple packet has no time: the last one's stands. Its interface, the first, cuts at 4 bytes.
        assert_eq!(
            (simple.nanos, simple.link, &simple.bytes[..]),
            (8, Some(Link::Ethernet), &b"simp"[..])
        );
        assert_eq!((simple.wire_len, simple.direction), (6, None));
    }
}

#[test]
fn damage_ends_the_packets_and_is_told() {
    let head = [section(Little), interface(Little, 1, 0, &[])].concat();
    let good = enhanced(Little, 0, 1, b"good", &[]);
    let at = (head.len() + good.len()) as u64;
    let mut lengths = good.clone();
    *lengths.last_mut().unwrap() = 1;
    let truncated = Warning::Truncated { at };
    let corrupt = |what| Warning::Corrupt { at, what };
    for (tail, expected) in [
        (vec![6, 0], truncated),
        (good[..good.len() - 1].to_vec(), truncated),
        (block(Little, 99, &[0; 64])[..40].to_vec(), truncated),
        (lengths, corrupt("a block whose two lengths differ")),
        (
            enhanced(Little, 1, 1, b"", &[]),
            corrupt("a packet of an interface that is not described"),
        ),
        (
            block(Little, 6, &[0; 16]),
            corrupt("a packet block too short for its fields"),
        ),
        (
            block(Little, 3, &Little.u32(99)),
            corrupt("a packet longer than its block"),
        ),
        (vec![0; 64], corrupt("a block of impossible length")),
        (
            section(Little)[..8]
                .iter()
                .copied()
                .chain([0; 40])
                .collect(),
            corrupt("a section of no known byte order"),
        ),
    ] {
        let (seen, warning) = read([head.clone(), good.clone(), tail].concat()).unwrap();
        assert_eq!((seen.len(), warning), (1, Some(expected)));
    }

    let (head, good) = (
        pcap(Big, 0xa1b2_c3d4, 4, 1),
        record(Big, [1, 1, 4, 4], &[], b"good"),
    );
    let at = (head.len() + good.len()) as u64;
    for (tail, expected) in [
        (vec![1; 15], Warning::Truncated { at }),
        (good[..19].to_vec(), Warning::Truncated { at }),
        (
            record(Big, [1, 1, 262_145, 262_145], &[], b""),
            Warning::Corrupt {
                at,
                what: "a packet longer than any can be",
            },
        ),
        (
            record(Big, [1, 1, 262_144, 262_144], &[], b""),
            Warning::Truncated { at },
        ),
    ] {
        let (seen, warning) = read([head.clone(), good.clone(), tail].concat()).unwrap();
        assert_eq!((seen.len(), warning), (1, Some(expected)));
    }
}

#[test]
fn what_is_no_capture_is_one_sentence() {
    for (bytes, word) in [
        (&b""[..], "empty"),
        (b"\x1f\x8b\x08 compressed with gzip", "gunzip"),
        (b"snoop\0\0\0 from Solaris, long enough", "editcap"),
        (b"just some text that is long enough", "pcap"),
        (&Big.u32(0xa1b2_c3d4), "short"),
        (&section(Big)[..24], "cut short"),
    ] {
        let error = read(bytes.to_vec()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert!(!error.contains('\n'));
    }
    let error = Replay::open("/no/such/file".as_ref())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("/no/such/file"), "{error}");
}

#[test]
fn records_that_straddle_the_reads_arrive_whole() {
    // Chunks of 1 MiB are read; packets of a prime length never end with them. The pipe gives 4 KiB at a time.
    struct Pipe(std::io::Cursor<Vec<u8>>);
    impl std::io::Read for Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let most = buffer.len().min(4096);
            self.0.read(&mut buffer[..most])
        }
    }
    let data: Vec<u8> = (0..9973u32).map(|n| n as u8).collect();
    let one = record(Little, [1, 1, 9973, 9973], &[], &data);
    let file = [
        pcap(Little, 0xa1b2_c3d4, 4, 1),
        one.repeat(300),
        block(Little, 0, &[]),
    ]
    .concat();
    let mut replay = Replay::read(Pipe(std::io::Cursor::new(file))).unwrap();
    let mut count = 0;
    while let Some(packet) = replay.next().unwrap() {
        assert_eq!(packet.bytes, data);
        count += 1;
    }
    assert_eq!(count, 300);

    // A passed-over block far larger than the window costs no memory and hides nothing behind it.
    let large = block(Little, 77, &vec![0; 5 << 20]);
    let packet = enhanced(Little, 0, 1, b"behind", &[]);
    let file = [section(Little), interface(Little, 1, 0, &[]), large, packet].concat();
    assert_eq!(read(file).unwrap().0[0].bytes, b"behind");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic_and_always_end(
        ng in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = if ng {
            let packets = enhanced(Little, 0, 77, b"some packet", &option(Little, 2, &[1, 0, 0, 0])).repeat(3);
            [section(Little), interface(Little, 1, 0, &option(Little, 9, &[6])), packets, section(Big)].concat()
        } else {
            [pcap(Little, 0xa1b2_c3d4, 4, 1), record(Little, [1, 1, 11, 11], &[], b"some packet").repeat(3)].concat()
        };
        for (index, value) in changes {
            let at = index.index(file.len());
            file[at] = value;
        }
        file.truncate(cut.index(file.len() + 1));
        let most = file.len() / 12;
        if let Ok((seen, _)) = read(file) {
            prop_assert!(seen.len() <= most);
        }
    }
}
