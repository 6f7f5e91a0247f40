//! The byte order of a file or section: that of the machine that wrote it.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Big,
    Little,
}

/// Each method reads at `offset`, where the caller knows that `bytes` is long enough.
impl ByteOrder {
    #[inline]
    pub(super) fn u16(self, bytes: &[u8], offset: usize) -> u16 {
        let bytes = [bytes[offset], bytes[offset + 1]];
        match self {
            Self::Big => u16::from_be_bytes(bytes),
            Self::Little => u16::from_le_bytes(bytes),
        }
    }

    #[inline]
    pub(super) fn u32(self, bytes: &[u8], offset: usize) -> u32 {
        let bytes = [
            bytes[offset],
            bytes[offset + 1],
            bytes[offset + 2],
            bytes[offset + 3],
        ];
        match self {
            Self::Big => u32::from_be_bytes(bytes),
            Self::Little => u32::from_le_bytes(bytes),
        }
    }

    /// The four words that a pcap record begins with; `None` where there are fewer bytes.
    #[inline]
    pub(super) fn words(self, bytes: &[u8]) -> Option<[u32; 4]> {
        let (words, _) = bytes.as_chunks::<4>();
        let words = words.first_chunk::<4>()?.map(u32::from_ne_bytes);
        Some(match self {
            Self::Big => words.map(u32::from_be),
            Self::Little => words.map(u32::from_le),
        })
    }

    /// A 64-bit value in this order (pcapng's packet timestamps are two 32-bit halves instead, the high one first).
    pub(super) fn u64(self, bytes: &[u8], offset: usize) -> u64 {
        let (first, second) = (
            u64::from(self.u32(bytes, offset)),
            u64::from(self.u32(bytes, offset + 4)),
        );
        match self {
            Self::Big => first << 32 | second,
            Self::Little => second << 32 | first,
        }
    }
}
