//! IPv4 options (RFC 791 section 3.1), checked as `ip_options_compile` in the kernel's net/ipv4/ip_options.c checks those of a
//! received packet. Security labels (CIPSO) are left to the kernel's configuration.

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
const ROUTER_ALERT: u8 = 148;

/// Whether the kernel takes the options.
pub(crate) fn are_right(options: &[u8]) -> bool {
    let mut seen = Seen::default();
    Options { rest: options }.all(|option| option.is_some_and(|option| seen.is_right(option)))
}

/// Whether a loose or strict source route is among the options, up to the first malformed one.
pub(crate) fn have_source_route(options: &[u8]) -> bool {
    Options { rest: options }
        .flatten()
        .any(|option| matches!(option, [LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, ..]))
}

/// Iterator over whole options, kind and length included; `None` for one that does not fit, and then no more.
struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Options<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        while let [NO_OPERATION, rest @ ..] = self.rest {
            self.rest = rest;
        }
        let whole = std::mem::take(&mut self.rest);
        let len = match whole {
            [] | [END, ..] => return None,
            [_, len, ..] if *len >= 2 => usize::from(*len),
            _ => return Some(None),
        };
        let Some((option, rest)) = whole.split_at_checked(len) else {
            return Some(None);
        };
        self.rest = rest;
        Some(Some(option))
    }
}

/// Options that may stand only once.
#[derive(Default)]
struct Seen {
    source_route: bool,
    record_route: bool,
    timestamp: bool,
}

impl Seen {
    fn is_right(&mut self, option: &[u8]) -> bool {
        let len = option.len();
        match *option {
            [LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, _, pointer, ..] => {
                pointer >= 4 && !std::mem::replace(&mut self.source_route, true)
            }
            [RECORD_ROUTE, _, pointer, ..] => {
                let pointer = usize::from(pointer);
                pointer >= 4
                    && (pointer > len || pointer + 3 <= len)
                    && !std::mem::replace(&mut self.record_route, true)
            }
            [TIMESTAMP, _, pointer, overflow_and_flag, ..] => {
                let pointer = usize::from(pointer);
                let room = match overflow_and_flag & 0x0f {
                    // Address and timestamp, the address prespecified or not.
                    1 | 3 => pointer + 7 <= len,
                    _ => pointer + 3 <= len,
                };
                let full = pointer > len && overflow_and_flag >> 4 < 15;
                pointer >= 5 && (room || full) && !std::mem::replace(&mut self.timestamp, true)
            }
            [ROUTER_ALERT, ..] => len >= 4,
            [
                LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE | RECORD_ROUTE | TIMESTAMP,
                ..,
            ] => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_kernel_judges() {
        let table: [(&[u8], bool); 22] = [
            (&[], true),
            (&[1, 1, 1, 0], true),
            (&[0, 0xff, 0xff, 0xff], true),
            (&[1, 1, 1, 130], false),
            (&[130, 1, 0, 0], false),
            (&[130, 5, 0, 0], false),
            (&[222, 4, 0, 0], true),
            // Router alert.
            (&[148, 4, 0, 0], true),
            (&[148, 3, 0, 0], false),
            // Source routes: pointer at least 4, once.
            (&[131, 7, 4, 192, 0, 2, 1, 0], true),
            (&[137, 7, 3, 192, 0, 2, 1, 0], false),
            (&[131, 2, 1, 1], false),
            (&[131, 3, 4, 137, 3, 4, 0, 0], false),
            // Record route: room for an address, or full.
            (&[7, 7, 4, 0, 0, 0, 0, 0], true),
            (&[7, 7, 8, 0, 0, 0, 0, 0], true),
            (&[7, 7, 5, 0, 0, 0, 0, 0], false),
            (&[7, 3, 4, 7, 3, 4, 0, 0], false),
            // Timestamps: plain, with address, full, full and overflown.
            (&[68, 8, 5, 0, 0, 0, 0, 0], true),
            (&[68, 8, 5, 1, 0, 0, 0, 0], false),
            (&[68, 8, 9, 0xe0, 0, 0, 0, 0], true),
            (&[68, 8, 9, 0xf0, 0, 0, 0, 0], false),
            (&[68, 8, 4, 0, 0, 0, 0, 0], false),
        ];
        for (options, right) in table {
            assert_eq!(are_right(options), right, "{options:?}");
        }
    }

    #[test]
    fn source_routes_are_found() {
        assert!(have_source_route(&[
            1, 148, 4, 0, 0, 137, 7, 4, 192, 0, 2, 1
        ]));
        assert!(!have_source_route(&[7, 7, 4, 131, 7, 4, 0, 0]));
        assert!(!have_source_route(&[]));
    }
}
