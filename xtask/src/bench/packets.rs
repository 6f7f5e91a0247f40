//! Synthetic traffic: TCP connections with data both ways, UDP exchanges and probes of closed ports, as raw Ethernet frames.

use std::net::Ipv4Addr;

/// One frame: destination and source MAC, IPv4, transport. Checksums of the IP header are right, those of TCP and UDP are 0.
pub(crate) struct Frame {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) protocol: u8,
    pub(crate) source_port: u16,
    pub(crate) port: u16,
    pub(crate) flags: u8,
    pub(crate) payload: usize,
}

impl Frame {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        let transport = if self.protocol == 6 { 20 } else { 8 };
        let length = (20 + transport + self.payload) as u16;
        let begin = out.len();
        out.extend([0x45, 0]);
        out.extend(length.to_be_bytes());
        out.extend([0, 0, 0x40, 0, 64, self.protocol, 0, 0]);
        out.extend(Ipv4Addr::from_bits(self.source).octets());
        out.extend(Ipv4Addr::from_bits(self.destination).octets());
        let mut sum: u32 = out[begin..]
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        out[begin + 10..begin + 12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        out.extend(self.source_port.to_be_bytes());
        out.extend(self.port.to_be_bytes());
        if self.protocol == 6 {
            out.extend([
                0, 0, 0, 1, 0, 0, 0, 1, 0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0,
            ]);
        } else {
            out.extend(((8 + self.payload) as u16).to_be_bytes());
            out.extend([0, 0]);
        }
        out.resize(out.len() + self.payload, b'x');
    }
}

/// The frames of one conversation between a client and the host, in order.
pub(crate) fn conversation(number: u64) -> Vec<Frame> {
    const HOST: u32 = 0x0a00_0001;
    let client = 0x0b00_0000 | (number as u32).wrapping_mul(2_654_435_761) >> 12;
    let source_port = 1_024 + (number % 60_000) as u16;
    let tcp = |inbound: bool, port: u16, flags: u8, payload: usize| {
        let (source, destination) = if inbound {
            (client, HOST)
        } else {
            (HOST, client)
        };
        let (a, b) = if inbound {
            (source_port, port)
        } else {
            (port, source_port)
        };
        Frame {
            source,
            destination,
            protocol: 6,
            source_port: a,
            port: b,
            flags,
            payload,
        }
    };
    match number % 8 {
        // A probe of a closed port.
        0 => vec![tcp(true, (number % 1_000) as u16 + 10_000, 2, 0)],
        // A question and its answer.
        1 | 2 => [true, false]
            .into_iter()
            .map(|inbound| Frame {
                protocol: 17,
                payload: 60,
                ..tcp(inbound, 53, 0, 0)
            })
            .collect(),
        // A connection with data.
        _ => {
            let mut frames = vec![
                tcp(true, 443, 0x02, 0),
                tcp(false, 443, 0x12, 0),
                tcp(true, 443, 0x10, 0),
            ];
            for _ in 0..8 {
                frames.extend([tcp(true, 443, 0x18, 100), tcp(false, 443, 0x18, 400)]);
            }
            frames.extend([
                tcp(true, 443, 0x11, 0),
                tcp(false, 443, 0x11, 0),
                tcp(true, 443, 0x10, 0),
            ]);
            frames
        }
    }
}
