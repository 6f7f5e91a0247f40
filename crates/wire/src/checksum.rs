//! The Internet checksum (RFC 1071) and CRC32c for SCTP (RFC 9260 appendix A). Sums only; what is summed is the caller's.

/// A running one's-complement sum over big-endian 16-bit words.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds bytes; an odd last byte counts as the high half of a word, so only the last slice added may be odd.
    #[inline]
    pub(crate) fn add(mut self, bytes: &[u8]) -> Self {
        // Four bytes at a time: 2^32 words fit before the 64-bit sum could overflow, and folding takes care of the rest.
        let (quads, rest) = bytes.as_chunks::<4>();
        for quad in quads {
            self.0 += u64::from(u32::from_be_bytes(*quad));
        }
        let (pairs, last) = rest.as_chunks::<2>();
        for pair in pairs {
            self.0 += u64::from(u16::from_be_bytes(*pair));
        }
        if let [byte] = last {
            self.0 += u64::from(*byte) << 8;
        }
        self
    }

    /// Adds one number.
    #[inline]
    pub(crate) fn add_u32(mut self, number: u32) -> Self {
        self.0 += u64::from(number);
        self
    }

    /// Whether the sum, checksum field included, comes out right (all ones).
    #[inline]
    pub(crate) fn is_right(self) -> bool {
        // In one's complement all-ones is zero: the sum is right when it is a positive multiple of 0xffff.
        let mut sum = self.0;
        sum = (sum & 0xffff_ffff) + (sum >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum == 0xffff
    }
}

const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// CRC32c over slices in turn.
pub(crate) fn crc32c<'a>(slices: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut crc = !0;
    for slice in slices {
        for byte in slice {
            crc = (crc >> 8) ^ CRC32C[usize::from(crc as u8 ^ byte)];
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plain sum of RFC 1071 section 4.1, as reference.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn rfc_1071_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(reference(&bytes), 0xddf2);
        assert!(
            Sum::default()
                .add(&bytes)
                .add(&(!0xddf2u16).to_be_bytes())
                .is_right()
        );
        assert!(!Sum::default().add(&bytes).is_right());
    }

    #[test]
    fn crc32c_check_value() {
        assert_eq!(crc32c([b"1234".as_slice(), b"56789"]), 0xe306_9283);
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_reference(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let right = reference(&bytes) == 0xffff;
            proptest::prop_assert_eq!(Sum::default().add(&bytes).is_right(), right);
            if bytes.len() % 2 == 1 {
                bytes.push(0);
            }
            let checksum = !reference(&bytes);
            proptest::prop_assert!(Sum::default().add(&bytes).add(&checksum.to_be_bytes()).is_right());
            proptest::prop_assert_eq!(Sum::default().add(&bytes).add_u32(u32::from(!checksum)).is_right(), {
                let mut twice = bytes.clone();
                twice.extend((!checksum).to_be_bytes());
                reference(&twice) == 0xffff
            });
        }
    }
}
