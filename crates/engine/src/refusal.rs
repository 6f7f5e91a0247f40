//! ICMP errors by which a host, or a router before it, says that what they quote is not served: what the flow table takes for a
//! refusal, and the kernel is told to hand up a copy of. That a packet's time ran out says nothing of its target.

use policy::protocol::{ICMP, ICMPV6};

/// One kind of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// ICMP or ICMPv6, by its number.
    pub protocol: u8,
    /// Its type.
    pub kind: u8,
    /// Its codes.
    pub codes: Codes,
}

/// Some of the codes of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// Every one.
    All,
    /// Only this.
    Only(u8),
    /// Every one but this.
    AllBut(u8),
}

impl Codes {
    /// Whether the code is one of them.
    pub const fn hold(self, code: u8) -> bool {
        match self {
            Self::All => true,
            Self::Only(one) => code == one,
            Self::AllBut(one) => code != one,
        }
    }
}

/// Destination unreachable, but for "fragmentation needed", which is no refusal (RFC 792, RFC 1191; RFC 4443 section 3.1); and what an
/// IPv6 host says of a protocol that it does not know (RFC 4443 section 3.4, code 1).
pub const REFUSALS: [Refusal; 3] = [
    Refusal {
        protocol: ICMP,
        kind: 3,
        codes: Codes::AllBut(4),
    },
    Refusal {
        protocol: ICMPV6,
        kind: 1,
        codes: Codes::All,
    },
    Refusal {
        protocol: ICMPV6,
        kind: 4,
        codes: Codes::Only(1),
    },
];

/// Whether an ICMP packet, by type and code, is a refusal.
pub(crate) fn is_refusal(protocol: u8, icmp: Option<(u8, u8)>) -> bool {
    icmp.is_some_and(|(kind, code)| {
        REFUSALS.iter().any(|refusal| {
            refusal.protocol == protocol && refusal.kind == kind && refusal.codes.hold(code)
        })
    })
}
