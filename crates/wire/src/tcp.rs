//! TCP segments (RFC 9293 section 3.1), length-checked as `tcp_error` in the kernel's nf_conntrack_proto_tcp.c checks them.

use std::fmt;

use crate::malformed::MalformedKind;
use crate::transport::Segment;

/// A view of one TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    header: &'a [u8; 20],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Tcp<'a> {
    #[inline]
    pub(crate) fn parse(segment: Segment<'a>) -> Result<Self, MalformedKind> {
        let (header, rest) = segment.split::<20>(MalformedKind::TcpTruncated)?;
        let header_len = usize::from(header[12] >> 4) * 4;
        if header_len < 20 || header_len > segment.len {
            return Err(MalformedKind::TcpDataOffset);
        }
        let (options, payload) = rest
            .split_at_checked(header_len - 20)
            .ok_or(MalformedKind::CutByCapture)?;
        Ok(Self {
            header,
            options,
            payload,
        })
    }

    /// Source port.
    #[inline]
    pub fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.header[0], self.header[1]])
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// Sequence number.
    #[inline]
    pub fn sequence(&self) -> u32 {
        u32::from_be_bytes([
            self.header[4],
            self.header[5],
            self.header[6],
            self.header[7],
        ])
    }

    /// Acknowledgement number; without meaning unless the ACK flag is set.
    #[inline]
    pub fn acknowledgement(&self) -> u32 {
        u32::from_be_bytes([
            self.header[8],
            self.header[9],
            self.header[10],
            self.header[11],
        ])
    }

    /// Header length with options, 20 to 60 bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        20 + self.options.len()
    }

    /// Control flags.
    #[inline]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags(self.header[13])
    }

    /// Window as sent, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        u16::from_be_bytes([self.header[14], self.header[15]])
    }

    /// Checksum as sent.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.header[16], self.header[17]])
    }

    /// Urgent pointer; without meaning unless the URG flag is set.
    #[inline]
    pub fn urgent_pointer(&self) -> u16 {
        u16::from_be_bytes([self.header[18], self.header[19]])
    }

    /// The options; a malformed one yields [`TcpOption::Malformed`] and ends the iteration.
    #[inline]
    pub fn options(&self) -> TcpOptions<'a> {
        TcpOptions { rest: self.options }
    }

    /// Captured bytes after the options.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// The eight control flags of a TCP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Flags from the byte at offset 13 of the header.
    #[inline]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The byte at offset 13 of the header.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `flags` are set.
    #[inline]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether FIN is set.
    #[inline]
    pub const fn fin(self) -> bool {
        self.contains(Self::FIN)
    }

    /// Whether SYN is set.
    #[inline]
    pub const fn syn(self) -> bool {
        self.contains(Self::SYN)
    }

    /// Whether RST is set.
    #[inline]
    pub const fn rst(self) -> bool {
        self.contains(Self::RST)
    }

    /// Whether PSH is set.
    #[inline]
    pub const fn psh(self) -> bool {
        self.contains(Self::PSH)
    }

    /// Whether ACK is set.
    #[inline]
    pub const fn ack(self) -> bool {
        self.contains(Self::ACK)
    }

    /// Whether URG is set.
    #[inline]
    pub const fn urg(self) -> bool {
        self.contains(Self::URG)
    }

    /// Whether ECE is set.
    #[inline]
    pub const fn ece(self) -> bool {
        self.contains(Self::ECE)
    }

    /// Whether CWR is set.
    #[inline]
    pub const fn cwr(self) -> bool {
        self.contains(Self::CWR)
    }

    /// Whether no honest stack sends this combination: all but those in `tcp_valid_flags` of nf_conntrack_proto_tcp.c,
    /// which leaves PSH, ECE and CWR out of account.
    #[inline]
    pub const fn is_impossible(self) -> bool {
        const FIN: u8 = TcpFlags::FIN.0;
        const SYN: u8 = TcpFlags::SYN.0;
        const RST: u8 = TcpFlags::RST.0;
        const ACK: u8 = TcpFlags::ACK.0;
        const URG: u8 = TcpFlags::URG.0;
        const SYN_URG: u8 = SYN | URG;
        const SYN_ACK: u8 = SYN | ACK;
        const RST_ACK: u8 = RST | ACK;
        const FIN_ACK: u8 = FIN | ACK;
        const FIN_ACK_URG: u8 = FIN | ACK | URG;
        const ACK_URG: u8 = ACK | URG;
        !matches!(
            self.0 & !(Self::PSH.0 | Self::ECE.0 | Self::CWR.0),
            SYN | SYN_URG | SYN_ACK | RST | RST_ACK | FIN_ACK | FIN_ACK_URG | ACK | ACK_URG
        )
    }
}

impl std::ops::BitOr for TcpFlags {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// As tcpdump prints them: `S`, `S.`, `.`, `P.`, `FPU`, `none`.
impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        for (bit, letter) in "FSRP.UEW".chars().enumerate() {
            if self.0 >> bit & 1 == 1 {
                fmt::Write::write_char(f, letter)?;
            }
        }
        Ok(())
    }
}

/// One TCP option (IANA "TCP Option Kind Numbers").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpOption<'a> {
    /// Maximum segment size, bytes (RFC 9293 section 3.7.1).
    MaximumSegmentSize(u16),
    /// Window scale shift (RFC 7323 section 2).
    WindowScale(u8),
    /// Selective acknowledgement permitted (RFC 2018 section 2).
    SackPermitted,
    /// Selective acknowledgement blocks, as sent (RFC 2018 section 3).
    Sack(&'a [u8]),
    /// Timestamp value and echo reply (RFC 7323 section 3).
    Timestamps {
        /// The sender's clock.
        value: u32,
        /// The peer's clock, echoed.
        echo: u32,
    },
    /// Any other option, or a known one of a strange length.
    Other {
        /// Option kind.
        kind: u8,
        /// Bytes after kind and length.
        data: &'a [u8],
    },
    /// A length below 2 or beyond the header; the last item.
    Malformed,
}

/// Iterator over the options of one segment, without padding and end mark.
#[derive(Clone, Debug)]
pub struct TcpOptions<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for TcpOptions<'a> {
    type Item = TcpOption<'a>;

    fn next(&mut self) -> Option<TcpOption<'a>> {
        while let [1, rest @ ..] = self.rest {
            self.rest = rest;
        }
        let whole = std::mem::take(&mut self.rest);
        let (kind, len) = match whole {
            [] | [0, ..] => return None,
            [kind, len, ..] if *len >= 2 => (*kind, usize::from(*len)),
            _ => return Some(TcpOption::Malformed),
        };
        let Some((option, rest)) = whole.split_at_checked(len) else {
            return Some(TcpOption::Malformed);
        };
        self.rest = rest;
        let data = option.get(2..).unwrap_or_default();
        Some(match (kind, data) {
            (2, [high, low]) => TcpOption::MaximumSegmentSize(u16::from_be_bytes([*high, *low])),
            (3, [shift]) => TcpOption::WindowScale(*shift),
            (4, []) => TcpOption::SackPermitted,
            (5, blocks) => TcpOption::Sack(blocks),
            (8, [a, b, c, d, e, f, g, h]) => TcpOption::Timestamps {
                value: u32::from_be_bytes([*a, *b, *c, *d]),
                echo: u32::from_be_bytes([*e, *f, *g, *h]),
            },
            _ => TcpOption::Other { kind, data },
        })
    }
}

impl std::iter::FusedIterator for TcpOptions<'_> {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;
    use crate::Transport;
    use crate::sample::{cut, defect, ipv4, tcp, whole};

    fn with_options(options: &[u8]) -> Vec<TcpOption<'static>> {
        let bytes = ipv4(6, &tcp(2, options, b"")).leak();
        match whole(bytes).unwrap().transport() {
            Transport::Tcp(tcp) => tcp.options().collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_every_field() {
        let bytes = ipv4(6, &tcp(0x12, &[1, 1, 1, 0], b"hello"));
        let packet = whole(&bytes).unwrap();
        let Transport::Tcp(tcp) = packet.transport() else {
            panic!("{packet:?}");
        };
        assert_eq!((tcp.source_port(), tcp.destination_port()), (40_000, 22));
        assert_eq!(
            (tcp.sequence(), tcp.acknowledgement()),
            (0x0102_0304, 0x0506_0708)
        );
        assert_eq!(
            (tcp.window(), tcp.checksum(), tcp.urgent_pointer()),
            (0xfffe, 0, 9)
        );
        assert_eq!(
            (tcp.flags(), tcp.header_len()),
            (TcpFlags::SYN | TcpFlags::ACK, 24)
        );
        assert_eq!(
            (tcp.payload(), packet.payload(), packet.payload_len()),
            (&b"hello"[..], &b"hello"[..], 5)
        );
    }

    #[test]
    fn each_defect() {
        let segment = tcp(2, &[0; 4], b"");
        let with_offset = |words: u8| {
            let mut segment = segment.clone();
            segment[12] = words << 4;
            defect(&ipv4(6, &segment))
        };
        assert_eq!(
            defect(&ipv4(6, &segment[..19])),
            Some(MalformedKind::TcpTruncated)
        );
        assert_eq!(with_offset(4), Some(MalformedKind::TcpDataOffset));
        assert_eq!(with_offset(5), None);
        assert_eq!(with_offset(6), None);
        assert_eq!(with_offset(7), Some(MalformedKind::TcpDataOffset));
        let bytes = ipv4(6, &segment);
        assert_eq!(
            cut(&bytes[..43], 44).unwrap_err().kind,
            MalformedKind::CutByCapture
        );
        assert_eq!(cut(&bytes[..43], 44).unwrap_err().protocol, Some(6));
    }

    #[test]
    fn options_of_a_usual_syn() {
        let options = [
            2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 3, 3, 7,
        ];
        assert_eq!(
            with_options(&options),
            [
                TcpOption::MaximumSegmentSize(1460),
                TcpOption::SackPermitted,
                TcpOption::Timestamps { value: 7, echo: 9 },
                TcpOption::WindowScale(7),
            ]
        );
    }

    #[test]
    fn malformed_options_end_the_iteration() {
        assert_eq!(with_options(&[3, 0, 3, 3]), [TcpOption::Malformed]);
        assert_eq!(with_options(&[1, 1, 1, 3]), [TcpOption::Malformed]);
        assert_eq!(with_options(&[2, 5, 5, 180]), [TcpOption::Malformed]);
        assert_eq!(with_options(&[0, 2, 5, 180]), []);
        // A maximum segment size of one byte is passed on as it came; the last option is longer than the header.
        assert_eq!(
            with_options(&[2, 3, 5, 254, 4, 1, 2, 99]),
            [
                TcpOption::Other {
                    kind: 2,
                    data: &[5]
                },
                TcpOption::Other {
                    kind: 254,
                    data: &[1, 2]
                },
                TcpOption::Malformed,
            ]
        );
    }

    #[test]
    fn flags_print_as_tcpdump_prints_them() {
        let table = [
            (0x00, "none"),
            (0x02, "S"),
            (0x12, "S."),
            (0x10, "."),
            (0x18, "P."),
            (0x11, "F."),
            (0x04, "R"),
            (0x29, "FPU"),
            (0xc2, "SEW"),
            (0xff, "FSRP.UEW"),
        ];
        for (bits, text) in table {
            assert_eq!(TcpFlags::from_bits(bits).to_string(), text);
        }
    }

    #[test]
    fn flag_accessors() {
        type Accessor = fn(TcpFlags) -> bool;
        let accessors: [Accessor; 8] = [
            TcpFlags::fin,
            TcpFlags::syn,
            TcpFlags::rst,
            TcpFlags::psh,
            TcpFlags::ack,
            TcpFlags::urg,
            TcpFlags::ece,
            TcpFlags::cwr,
        ];
        for bits in 0..=255u8 {
            for (bit, accessor) in accessors.iter().enumerate() {
                assert_eq!(accessor(TcpFlags::from_bits(bits)), bits >> bit & 1 == 1);
            }
        }
    }

    #[test]
    fn possible_flags_are_those_of_conntrack() {
        // FIN 1, SYN 2, RST 4, ACK 16, URG 32, as the table tcp_valid_flags has them.
        let valid = [
            2,
            2 | 32,
            2 | 16,
            4,
            4 | 16,
            1 | 16,
            1 | 16 | 32,
            16,
            16 | 32,
        ];
        for bits in 0..=255u8 {
            let counted = bits & !(8 | 64 | 128);
            assert_eq!(
                TcpFlags::from_bits(bits).is_impossible(),
                !valid.contains(&counted),
                "{bits:#x}"
            );
        }
    }
}
