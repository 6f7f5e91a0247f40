//! Options of the IPv6 hop-by-hop header (RFC 8200 section 4.2), checked as `ip6_parse_tlv` in the kernel's
//! net/ipv6/exthdrs.c checks them before any netfilter hook, with the kernel's default limit on their number.

const PAD1: u8 = 0;
const PADN: u8 = 1;
const ROUTER_ALERT: u8 = 5;

/// `net.ipv6.max_hbh_opts_number` (`IP6_DEFAULT_MAX_HBH_OPTS_CNT`).
const MAX_OPTIONS: usize = 8;
/// Padding only aligns to 8 bytes, so more than 7 in a row is refused (RFC 4942 section 2.1.9.5).
const MAX_PADDING: usize = 7;

/// Whether the kernel takes the options: the header without its first two bytes.
pub(crate) fn are_right(mut options: &[u8]) -> bool {
    let mut padding = 0;
    let mut count = 0;
    loop {
        let len = match *options {
            [] => return true,
            [PAD1, ..] => 1,
            [_, len, ..] => usize::from(len) + 2,
            [_] => return false,
        };
        let Some((option, rest)) = options.split_at_checked(len) else {
            return false;
        };
        options = rest;
        match *option {
            [PAD1, ..] => padding += 1,
            [PADN, _, ref zeros @ ..] => {
                padding += len;
                if zeros.iter().any(|byte| *byte != 0) {
                    return false;
                }
            }
            _ => {
                padding = 0;
                count += 1;
            }
        }
        if padding > MAX_PADDING || count > MAX_OPTIONS {
            return false;
        }
        match *option {
            [ROUTER_ALERT, len, ..] if len != 2 => return false,
            // The two high bits tell what a node does that does not know the option; 00 is to skip it. The jumbo payload
            // option (0xc2) falls here too: with a payload length it is refused, without one it was before.
            [kind, ..] if kind >> 6 != 0 => return false,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_kernel_judges() {
        let table: [(&[u8], bool); 13] = [
            (&[5, 2, 0, 0, 1, 0], true),
            (&[5, 2, 0, 0, 0, 0], true),
            (&[5, 1, 0, 1, 1, 0], false),
            (&[1, 4, 0, 0, 0, 0], true),
            (&[1, 4, 0, 0, 0, 1], false),
            (&[1, 5, 0, 0, 0, 0], false),
            (&[0, 0, 0, 0, 0, 5], false),
            (&[0x1e, 4, 9, 9, 9, 9], true),
            (&[0x5e, 4, 9, 9, 9, 9], false),
            (&[0x9e, 4, 9, 9, 9, 9], false),
            (&[0xc2, 4, 0, 1, 0, 0], false),
            (&[1, 4, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 1, 0], false),
            (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], false),
        ];
        for (options, right) in table {
            assert_eq!(are_right(options), right, "{options:?}");
        }
    }

    #[test]
    fn at_most_eight_options() {
        let nine = [0x1e, 0].repeat(9);
        assert!(are_right(&nine[..16]));
        assert!(!are_right(&nine));
    }
}
