//! IP packets from their parts, with a tag by which each is known again wherever it arrives.

use std::net::IpAddr;

use policy::protocol::{ICMP, ICMPV6, TCP, UDP};

/// The packets of one datagram: who sends it to whom, and what is in it.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) body: Body,
    /// Where it is cut in two, in bytes of the transport part; a multiple of 8.
    pub(crate) cut: Option<Cut>,
}

/// How a datagram is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) at: usize,
    pub(crate) is_last_first: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Tcp(Segment),
    Udp {
        ports: [u16; 2],
        payload: Vec<u8>,
    },
    /// A question or its answer.
    Echo {
        is_reply: bool,
        identifier: u16,
    },
    /// An error about a packet, which it quotes.
    Error {
        kind: u8,
        code: u8,
        quoted: Vec<u8>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) ports: [u16; 2],
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) flags: u8,
    /// A multiple of 4 bytes.
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Datagram {
    /// The packets as they are sent. The tag stands where nothing else is said: the urgent pointer of a segment that is not
    /// urgent, the begin of a UDP payload, what ICMP leaves unused.
    pub(crate) fn packets(&self, tag: u16) -> Vec<Vec<u8>> {
        let transport = self.transport(tag);
        match self.cut {
            Some(Cut { at, is_last_first }) if at > 0 && at < transport.len() => {
                let mut pieces = vec![
                    self.packet(&transport[..at], tag, Some((0, true))),
                    self.packet(&transport[at..], tag, Some((at, false))),
                ];
                if is_last_first {
                    pieces.reverse();
                }
                pieces
            }
            _ => vec![self.packet(&transport, tag, None)],
        }
    }

    pub(crate) fn protocol(&self) -> u8 {
        match (&self.body, self.source) {
            (Body::Tcp(_), _) => TCP,
            (Body::Udp { .. }, _) => UDP,
            (_, IpAddr::V4(_)) => ICMP,
            (_, IpAddr::V6(_)) => ICMPV6,
        }
    }

    fn transport(&self, tag: u16) -> Vec<u8> {
        let is_v6 = self.source.is_ipv6();
        let mut out = Vec::new();
        let check = match &self.body {
            Body::Tcp(segment) => {
                for port in segment.ports {
                    out.extend(port.to_be_bytes());
                }
                out.extend(segment.sequence.to_be_bytes());
                out.extend(segment.acknowledged.to_be_bytes());
                let words = 5 + segment.options.len() as u8 / 4;
                out.extend([words << 4, segment.flags, 0xff, 0xff, 0, 0]);
                out.extend(tag.to_be_bytes());
                out.extend(&segment.options);
                out.extend(&segment.payload);
                16
            }
            Body::Udp { ports, payload } => {
                for port in ports {
                    out.extend(port.to_be_bytes());
                }
                out.extend((10 + payload.len() as u16).to_be_bytes());
                out.extend([0, 0]);
                out.extend(tag.to_be_bytes());
                out.extend(payload);
                6
            }
            Body::Echo {
                is_reply,
                identifier,
            } => {
                let kind = match (is_v6, is_reply) {
                    (false, false) => 8,
                    (false, true) => 0,
                    (true, false) => 128,
                    (true, true) => 129,
                };
                out.extend([kind, 0, 0, 0]);
                out.extend(identifier.to_be_bytes());
                out.extend(tag.to_be_bytes());
                out.extend([0x5a; 48]);
                2
            }
            Body::Error { kind, code, quoted } => {
                out.extend([*kind, *code, 0, 0, 0, 0]);
                out.extend(tag.to_be_bytes());
                out.extend(quoted);
                2
            }
        };
        let seed = match self.protocol() {
            ICMP => 0,
            protocol => sum(
                &octets(self.destination),
                sum(&octets(self.source), u32::from(protocol) + out.len() as u32),
            ),
        };
        let sum = fold(sum(&out, seed));
        out[check..check + 2].copy_from_slice(&sum.to_be_bytes());
        out
    }

    fn packet(&self, body: &[u8], tag: u16, piece: Option<(usize, bool)>) -> Vec<u8> {
        let (offset, more) = piece.unwrap_or_default();
        let place = offset as u16 | u16::from(more);
        let mut head = if self.source.is_ipv6() {
            let fragment = if piece.is_some() { 8 } else { 0 };
            let next = if piece.is_some() { 44 } else { self.protocol() };
            let mut head = vec![0x60, 0, 0, 0];
            head.extend((body.len() as u16 + fragment).to_be_bytes());
            head.extend([next, 64]);
            head
        } else {
            let mut head = vec![0x45, 0];
            head.extend((body.len() as u16 + 20).to_be_bytes());
            head.extend(tag.to_be_bytes());
            // "More" from the lowest bit to the third highest, and the offset in units of 8.
            head.extend(place.rotate_right(3).to_be_bytes());
            head.extend([64, self.protocol(), 0, 0]);
            head
        };
        head.extend(octets(self.source));
        head.extend(octets(self.destination));
        if self.source.is_ipv4() {
            let check = fold(sum(&head, 0));
            head[10..12].copy_from_slice(&check.to_be_bytes());
        } else if piece.is_some() {
            head.extend([self.protocol(), 0]);
            head.extend(place.to_be_bytes());
            head.extend(u32::from(tag).to_be_bytes());
        }
        head.extend(body);
        head
    }
}

/// The tag of a transport part; 0 where there is none, or what it is about is not of ours.
pub(crate) fn tag(protocol: u8, transport: &[u8]) -> u16 {
    let at = match protocol {
        TCP => 18,
        UDP => 8,
        ICMP | ICMPV6 => 6,
        _ => return 0,
    };
    let bytes = transport.get(at..at + 2);
    bytes.map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// The tag of the packet that an ICMP error quotes.
pub(crate) fn quoted_tag(quoted: &[u8]) -> u16 {
    let (protocol, length) = match quoted.first().map(|byte| byte >> 4) {
        Some(4) => (quoted.get(9), usize::from(quoted[0] & 0x0f) * 4),
        Some(6) => (quoted.get(6), 40),
        _ => return 0,
    };
    protocol.map_or(0, |&protocol| {
        tag(protocol, quoted.get(length..).unwrap_or_default())
    })
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
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
