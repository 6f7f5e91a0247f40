//! The capabilities in effect for the calling thread (`capabilities(7)`).

/// A capability that Portcullis can need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// CAP_NET_ADMIN: rules, queues, the packet log, connection tracking.
    NetAdmin,
    /// CAP_NET_RAW: capturing.
    NetRaw,
}

impl Capability {
    /// Its number in `linux/capability.h`.
    const fn bit(self) -> u32 {
        match self {
            Self::NetAdmin => 12,
            Self::NetRaw => 13,
        }
    }
}

/// Is the capability in effect for the calling thread? `false` also where `/proc` does not tell.
#[must_use]
pub fn has_capability(capability: Capability) -> bool {
    std::fs::read_to_string("/proc/thread-self/status")
        .is_ok_and(|status| effective(&status, capability))
}

fn effective(status: &str, capability: Capability) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> capability.bit() & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read() {
        for (mask, admin, raw) in [
            ("000001ffffffffff", true, true),
            ("0000000000001000", true, false),
            ("0000000000002000", false, true),
            ("0000000000000000", false, false),
            ("nonsense", false, false),
        ] {
            let status =
                format!("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{mask}\nCapBnd:\t0\n");
            assert_eq!(effective(&status, Capability::NetAdmin), admin, "{mask}");
            assert_eq!(effective(&status, Capability::NetRaw), raw, "{mask}");
        }
        assert!(!effective("", Capability::NetRaw));
    }
}
