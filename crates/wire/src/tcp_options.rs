//! The options of a TCP header (RFC 9293 section 3.2), read tolerantly: a malformed one is shown as such and is the last.

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

impl<'a> TcpOptions<'a> {
    #[inline]
    pub(crate) fn new(options: &'a [u8]) -> Self {
        Self { rest: options }
    }
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
    use super::*;

    fn read(options: &[u8]) -> Vec<TcpOption<'_>> {
        TcpOptions::new(options).collect()
    }

    #[test]
    fn options_of_a_usual_syn() {
        let options = [
            2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 3, 3, 7,
        ];
        assert_eq!(
            read(&options),
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
        assert_eq!(read(&[3, 0, 3, 3]), [TcpOption::Malformed]);
        assert_eq!(read(&[1, 1, 1, 3]), [TcpOption::Malformed]);
        assert_eq!(read(&[2, 5, 5, 180]), [TcpOption::Malformed]);
        assert_eq!(read(&[0, 2, 5, 180]), []);
        // A maximum segment size of one byte is passed on as it came; the last option is longer than the header.
        assert_eq!(
            read(&[2, 3, 5, 254, 4, 1, 2, 99]),
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
}
