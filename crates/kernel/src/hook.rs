//! Netfilter's hooks, as NFLOG and NFQUEUE tell them (`NF_INET_*`, include/uapi/linux/netfilter.h).

use policy::Direction;

/// The direction that a hook stands for; `None` before and after routing.
pub(crate) const fn direction(hook: u8) -> Option<Direction> {
    match hook {
        1 => Some(Direction::In),
        2 => Some(Direction::Forward),
        3 => Some(Direction::Out),
        _ => None,
    }
}
