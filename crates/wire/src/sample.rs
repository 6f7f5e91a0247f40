//! Packets for unit tests, built byte by byte so that each can be broken in one place.

use crate::checksum::Sum;
use crate::{Frame, Link, Malformed, MalformedKind, Packet, parse};

/// 192.0.2.1 to 198.51.100.2, TTL 64, no options, with a right checksum.
pub(crate) fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with_options(protocol, &[], payload)
}

/// The same with options, whose length must be a multiple of 4.
pub(crate) fn ipv4_with_options(protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let total = (header_len + payload.len()) as u16;
    let mut packet = vec![0x40 | (header_len / 4) as u8, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([
        0x12, 0x34, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2,
    ]);
    packet.extend(options);
    packet.extend(payload);
    mend_ipv4(&mut packet);
    packet
}

/// Sets the IPv4 header checksum right again.
pub(crate) fn mend_ipv4(packet: &mut [u8]) {
    let header_len = usize::from(packet[0] & 0x0f) * 4;
    let checksum = (0..=u16::MAX).find(|checksum| {
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        Sum::default().add(&packet[..header_len]).is_right()
    });
    assert!(checksum.is_some());
}

/// 2001:db8::1 to 2001:db8::2, hop limit 64.
pub(crate) fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 64]);
    for last in [1, 2] {
        packet.extend([
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last,
        ]);
    }
    packet.extend(payload);
    packet
}

/// A TCP header, ports 40000 to 22, with options and payload; the checksum is 0.
pub(crate) fn tcp(flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let words = (20 + options.len()) / 4;
    let mut segment = vec![
        0x9c,
        0x40,
        0,
        22,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        (words as u8) << 4,
        flags,
    ];
    segment.extend([0xff, 0xfe, 0, 0, 0, 9]);
    segment.extend(options);
    segment.extend(payload);
    segment
}

/// A UDP datagram, port 40000 to the given one; the checksum is 0.
pub(crate) fn udp(destination_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x9c, 0x40];
    datagram.extend(destination_port.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// Parses bytes that begin with an IP header and were captured whole.
pub(crate) fn whole(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
    cut(bytes, bytes.len())
}

/// Parses bytes that begin with an IP header and were `wire` bytes long on the wire.
pub(crate) fn cut(bytes: &[u8], wire: usize) -> Result<Packet<'_>, Malformed> {
    match parse(Link::RawIp, bytes, wire)? {
        Frame::Ip(packet) => Ok(packet),
        Frame::NotIp { .. } => panic!("raw IP is always IP"),
    }
}

/// The defect of bytes that begin with an IP header, if they have one.
pub(crate) fn defect(bytes: &[u8]) -> Option<MalformedKind> {
    whole(bytes).err().map(|malformed| malformed.kind)
}
