//! Generated packets. Each has a source address of its own, so that what happens to one never changes the state of another,
//! and by which what comes out is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::Direction;

use crate::random::Random;

/// The firewall's own addresses.
pub(crate) const OWN: [&str; 4] = ["10.200.0.1", "10.201.0.1", "fd00:200::1", "fd00:201::1"];
/// Hosts behind it.
pub(crate) const BEHIND: [&str; 4] = ["10.210.0.7", "10.210.1.9", "fd00:210::7", "fd00:210:1::9"];
/// First ports of the pool that packets and rules share.
pub(crate) const PORTS: [u16; 12] = [0, 22, 53, 67, 68, 80, 443, 546, 547, 4_000, 8_080, 65_535];
/// Protocols that packets and rules share.
pub(crate) const PROTOCOLS: [u8; 14] = [1, 2, 4, 6, 6, 6, 17, 17, 47, 50, 58, 132, 33, 253];
/// Groups of sources: `10.G.x.y` and `fd00:G::…`.
pub(crate) const GROUPS: u32 = 6;

/// One datagram, whole or in fragments, with the way it goes.
#[derive(Clone, Debug)]
pub(crate) struct Generated {
    pub(crate) number: u32,
    pub(crate) direction: Direction,
    /// Whether it is sent on the VLAN.
    pub(crate) vlan: bool,
    pub(crate) source: IpAddr,
    /// The IP packets to send, in this order.
    pub(crate) packets: Vec<Vec<u8>>,
    /// Whether the host may throw it away itself, for what is in it: whole packets, sources that no honest host has, ICMPv6 with a
    /// wrong checksum, and fragments behind extension headers. Of other fragments, that the kernel puts them together is part of what is compared.
    pub(crate) may_be_refused: bool,
    /// For people.
    pub(crate) what: String,
}

impl Generated {
    /// The interface that it comes in by, or leaves by.
    pub(crate) const fn interface(&self) -> &'static str {
        match self.direction {
            Direction::In | Direction::Forward => "f0",
            Direction::Out => "g0",
        }
    }

    /// One of the packets in its Ethernet frame.
    pub(crate) fn frame(&self, packet: &[u8], to: [u8; 6]) -> Vec<u8> {
        let mut frame = to.to_vec();
        frame.extend([2, 0, 0, 0, 0, 1]);
        if self.vlan {
            frame.extend([0x81, 0, 0, 5]);
        }
        frame.extend(if packet.first().is_some_and(|byte| byte >> 4 == 6) {
            [0x86, 0xdd]
        } else {
            [8, 0]
        });
        frame.extend(packet);
        frame
    }
}

/// The source of a packet by number; `10.G.x.y` or `fd00:G::x:y`.
pub(crate) fn source(number: u32, v6: bool) -> IpAddr {
    let group = number % GROUPS;
    if v6 {
        IpAddr::V6(Ipv6Addr::new(
            0xfd00,
            group as u16,
            0,
            0,
            0,
            0,
            (number >> 16) as u16,
            number as u16,
        ))
    } else {
        IpAddr::V4(Ipv4Addr::new(
            10,
            group as u8,
            (number >> 8) as u8,
            number as u8,
        ))
    }
}

/// The number of the packet that has this source.
pub(crate) fn number_of(source: IpAddr) -> Option<u32> {
    match source {
        IpAddr::V4(v4) => {
            let [ten, group, high, low] = v4.octets();
            (ten == 10 && u32::from(group) < GROUPS).then(|| u32::from(high) << 8 | u32::from(low))
        }
        IpAddr::V6(v6) => {
            let parts = v6.segments();
            (parts[0] == 0xfd00 && u32::from(parts[1]) < GROUPS)
                .then(|| u32::from(parts[6]) << 16 | u32::from(parts[7]))
        }
    }
}

/// Packets are the same in each `round`, but for the identification of fragments: the kernel holds for a minute what it could not
/// put together.
pub(crate) fn generate(number: u32, round: u32, random: &mut Random) -> Generated {
    let direction = random.pick(&[
        Direction::In,
        Direction::In,
        Direction::Forward,
        Direction::Out,
    ]);
    let v6 = random.once_in(2);
    let mut from = source(number, v6);
    let to: IpAddr = {
        let pool = if direction == Direction::In {
            OWN
        } else {
            BEHIND
        };
        pool[random.below(2) as usize + if v6 { 2 } else { 0 }]
            .parse()
            .unwrap()
    };
    // Now and then a source that no honest host has; such packets come out nowhere and need no number.
    let martian = random.once_in(40);
    if martian {
        from = random
            .pick(if v6 {
                &["::1", "ff02::5", "::ffff:10.0.0.1"]
            } else {
                &["127.0.0.1", "224.0.0.9", "255.255.255.255", "0.0.0.9"]
            })
            .parse()
            .unwrap();
    }
    let mut protocol = random.pick(&PROTOCOLS);
    if v6 && protocol == 1 {
        protocol = 58;
    }
    if !v6 && protocol == 58 && random.once_in(2) {
        protocol = 1;
    }
    let body = transport(protocol, from, to, number, random);
    let (head, what) = if v6 {
        head_v6(from, to, protocol, direction, random)
    } else {
        head_v4(from, to, protocol, random)
    };
    let is_plain = head.len() == if v6 { 40 } else { 20 };
    let (packets, shape) = cut(head, body, protocol, [number, round], direction, random);
    Generated {
        number,
        direction,
        vlan: random.once_in(6) && direction != Direction::Out,
        source: from,
        may_be_refused: packets.len() == 1
            || martian
            || protocol == 58 && direction == Direction::In
            || !is_plain && direction == Direction::In,
        what: format!(
            "{direction} {from} > {to} protocol {protocol} {what}{shape}{} packet(s)",
            packets.len()
        ),
        packets,
    }
}

fn sum(bytes: &[u8], seed: u32) -> u32 {
    bytes.chunks(2).fold(seed, |sum, pair| {
        sum + (u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
    })
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> u32 {
    sum(
        &octets(to),
        sum(&octets(from), u32::from(protocol) + len as u32),
    )
}

/// The transport header and payload, checksummed.
fn transport(protocol: u8, from: IpAddr, to: IpAddr, number: u32, random: &mut Random) -> Vec<u8> {
    let ports = [random.pick(&PORTS), random.pick(&PORTS)];
    let size = random.pick(&[0_usize, 4, 8, 40, 40, 200, 1_200]);
    let payload = random.bytes(size);
    let mut out = Vec::new();
    let mut at = None;
    match protocol {
        6 => {
            let flags = random.pick(&[
                2_u8, 2, 2, 2, 0x12, 0x10, 0x10, 0x18, 4, 0x14, 1, 0x11, 0, 0x29, 3, 0x22, 0x3f,
                0xc2,
            ]);
            out.extend(ports[0].to_be_bytes());
            out.extend(ports[1].to_be_bytes());
            out.extend(number.to_be_bytes());
            out.extend(1_u32.to_be_bytes());
            let options: &[u8] = random.pick(&[&[][..], &[2, 4, 5, 0xb4], &[1, 1, 1, 0]]);
            let words = (5 + options.len() / 4) as u8;
            let words = if random.once_in(60) { 3 } else { words };
            out.extend([words << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
            out.extend(options);
            at = Some(16);
        }
        17 => {
            out.extend(ports[0].to_be_bytes());
            out.extend(ports[1].to_be_bytes());
            let claimed = if random.once_in(60) {
                9_000
            } else {
                8 + payload.len() as u16
            };
            out.extend(claimed.to_be_bytes());
            out.extend([0, 0]);
            at = Some(6);
        }
        1 => {
            let kind = random.pick(&[8_u8, 8, 8, 0, 3, 11, 13, 14, 17, 5, 9, 19, 42]);
            out.extend([kind, random.below(3) as u8, 0, 0]);
            out.extend(number.to_be_bytes());
            at = Some(2);
        }
        58 => {
            let kind = random.pick(&[
                128_u8, 128, 128, 129, 1, 2, 3, 130, 131, 139, 140, 141, 200, 137,
            ]);
            out.extend([kind, 0, 0, 0]);
            out.extend(number.to_be_bytes());
            if matches!(kind, 130 | 131) {
                out.extend([0; 16]);
            }
            at = Some(2);
        }
        47 => out.extend([0, 0, 8, 0]),
        132 => {
            // INIT with its verification tag of 0, or DATA, which begins nothing.
            out.extend(ports[0].to_be_bytes());
            out.extend(ports[1].to_be_bytes());
            let init = random.once_in(2);
            out.extend(if init { 0_u32 } else { 7 }.to_be_bytes());
            out.extend([0; 4]);
            out.extend(if init { [1, 0, 0, 20] } else { [0, 3, 0, 20] });
            out.extend(number.to_be_bytes());
            out.extend([0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
            let crc = crc32c(&out);
            out[8..12].copy_from_slice(&crc.to_le_bytes());
            return out;
        }
        33 => {
            out.extend(ports[0].to_be_bytes());
            out.extend(ports[1].to_be_bytes());
            out.extend([4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        _ => out.extend(number.to_be_bytes()),
    }
    out.extend(payload);
    if let Some(at) = at {
        let seed = if protocol == 1 {
            0
        } else {
            pseudo(from, to, protocol, out.len())
        };
        let check = fold(sum(&out, seed));
        out[at..at + 2].copy_from_slice(&check.to_be_bytes());
    }
    out
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            }
        })
    })
}

/// An IPv4 header with options, its lengths and checksum still open.
fn head_v4(from: IpAddr, to: IpAddr, protocol: u8, random: &mut Random) -> (Vec<u8>, String) {
    let options: &[u8] = random.pick(&[
        &[][..],
        &[],
        &[],
        &[1, 1, 1, 1],
        &[148, 4, 0, 0],
        &[7, 7, 4, 0, 0, 0, 0, 0],
    ]);
    let mut head = vec![
        0x45 + (options.len() / 4) as u8,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        64,
        protocol,
        0,
        0,
    ];
    head.extend(octets(from));
    head.extend(octets(to));
    head.extend(options);
    let what = if options.is_empty() {
        String::new()
    } else {
        format!("options {options:?} ")
    };
    (head, what)
}

/// An IPv6 header with its extension headers, its length still open.
fn head_v6(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    direction: Direction,
    random: &mut Random,
) -> (Vec<u8>, String) {
    let chain: &[u8] = match (random.below(8), direction) {
        (0, _) => &[0],
        (1, _) => &[60],
        (2, _) => &[0, 60],
        // A host looks into these itself and throws them away; a router and a sender do not.
        (3, Direction::Forward | Direction::Out) => &[43],
        (4, Direction::Forward | Direction::Out) => &[51],
        _ => &[],
    };
    let mut head = vec![0x60, 0, 0, 0, 0, 0, *chain.first().unwrap_or(&protocol), 64];
    head.extend(octets(from));
    head.extend(octets(to));
    for (place, kind) in chain.iter().enumerate() {
        let next = *chain.get(place + 1).unwrap_or(&protocol);
        match kind {
            43 => head.extend([next, 0, 4, 0, 0, 0, 0, 0]),
            51 => head.extend([next, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]),
            _ => head.extend([next, 0, 1, 4, 0, 0, 0, 0]),
        }
    }
    // The authentication header is counted in 4-byte units and must keep the chain aligned to 8 (RFC 4302 §2.2).
    if chain.contains(&51) {
        let at = head.len() - 12;
        head[at + 1] = 2;
        head.extend([0; 4]);
    }
    let what = if chain.is_empty() {
        String::new()
    } else {
        format!("extensions {chain:?} ")
    };
    (head, what)
}

/// The whole packet, or its fragments: in some order, some missing, some of a shape that no sender makes.
fn cut(
    head: Vec<u8>,
    mut body: Vec<u8>,
    mut protocol: u8,
    id: [u32; 2],
    direction: Direction,
    random: &mut Random,
) -> (Vec<Vec<u8>>, String) {
    let v6 = head[0] >> 4 == 6;
    if body.len() < 32 || !random.once_in(4) {
        return (vec![finish(head, &body, id, None, protocol)], String::new());
    }
    // Extension headers may stand behind the fragment header too, and be cut like what follows them. A router that cuts such a
    // datagram again wants them in the first fragment (`ip6_find_1stfragopt`).
    let options = if v6 && direction == Direction::In {
        random.pick(&[0, 0, 1, 2])
    } else {
        0
    };
    for _ in 0..options {
        body.splice(0..0, [protocol, 0, 1, 4, 0, 0, 0, 0]);
        protocol = 60;
    }
    let pieces = shape(body.len(), v6, random);
    // What a fragment claims beyond the end of the datagram is zeros.
    let content = |piece: &Piece| -> Vec<u8> {
        (piece.from..piece.to)
            .map(|at| body.get(at).copied().unwrap_or_default())
            .collect()
    };
    let packets: Vec<_> = pieces
        .iter()
        // That is decided by itself, and nobody puts it together.
        .filter(|piece| !(v6 && is_bare(&content(piece), piece, protocol)))
        .map(|piece| finish(head.clone(), &content(piece), id, Some(piece), protocol))
        .collect();
    if packets.is_empty() {
        let whole = finish(head, &body, id, None, protocol);
        return (vec![whole], String::new());
    }
    (packets, format!("fragments of {} {pieces:?} ", body.len()))
}

/// Whether a first fragment ends with its extension headers, so that it is no fragment to the kernel.
fn is_bare(content: &[u8], piece: &Piece, mut protocol: u8) -> bool {
    let mut at = 0;
    while protocol == 60 && at < content.len() {
        protocol = content[at];
        at += 8;
    }
    piece.from == 0 && protocol != 60 && at >= content.len()
}

/// A fragment: what it holds of the datagram, whether more follow, and its ECN bits.
#[derive(Clone, Copy, Debug)]
struct Piece {
    from: usize,
    to: usize,
    more: bool,
    ecn: u8,
}

fn piece(from: usize, to: usize, more: bool) -> Piece {
    Piece {
        from,
        to,
        more,
        ecn: 0,
    }
}

/// Fragments of a datagram, of which some are not as they should be.
fn shape(len: usize, v6: bool, random: &mut Random) -> Vec<Piece> {
    let eighths = len as u32 / 8;
    let mut borders: Vec<usize> = (0..1 + random.below(3))
        .map(|_| 8 * (1 + random.below(eighths - 1)) as usize)
        .collect();
    borders.extend([0, len]);
    borders.sort_unstable();
    borders.dedup();
    let mut pieces: Vec<Piece> = borders
        .windows(2)
        .map(|ends| piece(ends[0], ends[1], ends[1] != len))
        .collect();
    if random.once_in(3) {
        let place = random.below(pieces.len() as u32) as usize;
        pieces[..=place].reverse();
    }
    if random.once_in(3) {
        pieces.reverse();
    }
    for _ in 0..random.pick(&[0, 0, 1, 1, 2]) {
        let place = random.below(pieces.len() as u32) as usize;
        let at = 8 * random.below(eighths) as usize;
        let odd = match random.below(12) {
            0 => {
                pieces.remove(place);
                if pieces.is_empty() {
                    pieces.push(piece(0, 8, true));
                }
                continue;
            }
            1 => {
                pieces[place].from = pieces[place].from.saturating_sub(8);
                continue;
            }
            2 => {
                pieces[place].ecn = random.below(4) as u8;
                continue;
            }
            // The first fragment of IPv6 whose length no reassembly takes is decided by itself.
            3 if !v6 || pieces[place].from > 0 => {
                if pieces[place].more {
                    pieces[place].to += random.pick(&[3, 4, 7]);
                }
                continue;
            }
            // Repeated, whole or in part; or of two of them.
            4 => pieces[place],
            5 => piece(at, at + 8, true),
            6 => piece(at, (at + 16).min(eighths as usize * 8), true),
            // Empty, another end, beyond the end, beyond all ends.
            7 => piece(at.max(8), at.max(8), random.once_in(2)),
            8 => piece(at.max(8), len - random.below(8) as usize, false),
            9 => piece(
                eighths as usize * 8 + 8,
                eighths as usize * 8 + 16,
                random.once_in(2),
            ),
            10 => piece(65_528, 65_560, false),
            // Atomic in IPv6, no fragment in IPv4: that would be seen for itself.
            _ if v6 => piece(0, len, false),
            _ => piece(0, eighths as usize * 8, true),
        };
        pieces.insert(random.below(pieces.len() as u32 + 1) as usize, odd);
    }
    pieces
}

fn finish(
    mut head: Vec<u8>,
    body: &[u8],
    [number, round]: [u32; 2],
    piece: Option<&Piece>,
    protocol: u8,
) -> Vec<u8> {
    let v6 = head[0] >> 4 == 6;
    if v6 {
        if let Some(piece) = piece {
            // The fragment header stands last; what pointed to the transport points to it.
            let pointer = last_pointer(&head);
            head[pointer] = 44;
            head.extend([protocol, 0]);
            head.extend((piece.from as u16 | u16::from(piece.more)).to_be_bytes());
            head.extend((number | round << 16).to_be_bytes());
            head[1] |= piece.ecn << 4;
        }
        let length = (head.len() - 40 + body.len()) as u16;
        head[4..6].copy_from_slice(&length.to_be_bytes());
    } else {
        let length = (head.len() + body.len()) as u16;
        head[2..4].copy_from_slice(&length.to_be_bytes());
        let id = (number + round * 9_973) as u16 | 1;
        head[4..6].copy_from_slice(&id.to_be_bytes());
        if let Some(piece) = piece {
            let place = (piece.from / 8) as u16 | u16::from(piece.more) << 13;
            head[6..8].copy_from_slice(&place.to_be_bytes());
            head[1] |= piece.ecn;
        }
        let check = fold(sum(&head, 0));
        head[10..12].copy_from_slice(&check.to_be_bytes());
    }
    head.extend_from_slice(body);
    head
}

/// Where the number of what follows the last extension header stands.
fn last_pointer(head: &[u8]) -> usize {
    let (mut pointer, mut at, mut kind) = (6, 40, head[6]);
    while at < head.len() {
        pointer = at;
        let length = if kind == 51 {
            (usize::from(head[at + 1]) + 2) * 4
        } else {
            (usize::from(head[at + 1]) + 1) * 8
        };
        kind = head[at];
        at += length;
    }
    pointer
}
