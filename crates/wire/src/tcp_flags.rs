//! The control flags of TCP (RFC 9293 section 3.1, RFC 3168), and which combinations conntrack holds possible.

use std::fmt;

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

#[cfg(test)]
mod tests {
    use super::*;

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
