//! Verdicts and the typed reasons that go with each of them, up to the screen.

use std::fmt;

use ipnet::IpNet;
use policy::names::{Reach, SourceId};
use policy::{Direction, RuleId, SetId};
use wire::MalformedKind;
use wire::dns::Defect;

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It passes.
    Allow,
    /// It is dropped in silence.
    Drop,
    /// It is dropped and its sender told: TCP RST, else ICMP "administratively prohibited".
    Reject,
}

impl Verdict {
    /// `allow`, `drop`, `reject`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Drop => "drop",
            Self::Reject => "reject",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a packet got its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not IP (ARP, LLDP, …): outside what the policy speaks of; allowed.
    NotIp,
    /// Its remote address is banned.
    Banned(IpNet),
    /// Its remote address is in a feed.
    Feed(SetId),
    /// Its headers cannot be read.
    Malformed(MalformedKind),
    /// Its headers can be read but no honest host sends them so.
    Impossible(Impossible),
    /// A fragment that is held until its datagram is whole, or never will be.
    Fragment(FragmentFault),
    /// It belongs to no flow and cannot begin one.
    Invalid(Invalid),
    /// It belongs to a flow that was allowed.
    Established,
    /// An ICMP error about a flow that was allowed, or a connection such a flow announced.
    Related,
    /// A rule decided.
    Rule(RuleId),
    /// A `limit` rule matched and its source is over the rate.
    Limited(RuleId),
    /// A detector limits its source.
    Flood(crate::ban::Detector),
    /// No rule decided, and a network needs it.
    Essential(Essential),
    /// No rule decided.
    Default(Direction),
    /// It would have passed, but for what it asks of a name server.
    Dns(DnsRefusal),
}

/// The part of the decision that a reason comes from, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Not for the policy.
    Link,
    /// Bans.
    Ban,
    /// Feeds.
    Feed,
    /// Malformed or impossible packets.
    Malformed,
    /// Flow state.
    Flow,
    /// Detectors that limit.
    Detector,
    /// The rules.
    Rule,
    /// What a network needs.
    Essential,
    /// The default of the direction.
    Default,
    /// Questions to name servers, of packets that would pass.
    Dns,
}

impl Stage {
    /// Stable name, for records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Ban => "ban",
            Self::Feed => "feed",
            Self::Malformed => "malformed",
            Self::Flow => "flow",
            Self::Detector => "detector",
            Self::Rule => "rule",
            Self::Essential => "essential",
            Self::Default => "default",
            Self::Dns => "dns",
        }
    }
}

impl Reason {
    /// Where in the decision this reason comes from.
    pub const fn stage(self) -> Stage {
        match self {
            Self::NotIp => Stage::Link,
            Self::Banned(_) => Stage::Ban,
            Self::Feed(_) => Stage::Feed,
            Self::Malformed(_) | Self::Impossible(_) | Self::Fragment(_) => Stage::Malformed,
            Self::Invalid(_) | Self::Established | Self::Related => Stage::Flow,
            Self::Flood(_) => Stage::Detector,
            Self::Rule(_) | Self::Limited(_) => Stage::Rule,
            Self::Essential(_) => Stage::Essential,
            Self::Default(_) => Stage::Default,
            Self::Dns(_) => Stage::Dns,
        }
    }

    /// Stable kebab-case name without its parameters, for records and counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotIp => "not-ip",
            Self::Banned(_) => "banned",
            Self::Feed(_) => "feed",
            Self::Malformed(kind) => kind.name(),
            Self::Impossible(kind) => kind.name(),
            Self::Fragment(fault) => fault.name(),
            Self::Invalid(kind) => kind.name(),
            Self::Established => "established",
            Self::Related => "related",
            Self::Rule(_) => "rule",
            Self::Limited(_) => "limited",
            Self::Flood(_) => "flood",
            Self::Essential(kind) => kind.name(),
            Self::Default(Direction::In) => "default-in",
            Self::Default(Direction::Out) => "default-out",
            Self::Default(Direction::Forward) => "default-forward",
            Self::Dns(refusal) => refusal.name(),
        }
    }

    /// The rule that decided, if one did.
    pub const fn rule(self) -> Option<RuleId> {
        match self {
            Self::Rule(rule) | Self::Limited(rule) => Some(rule),
            _ => None,
        }
    }
}

/// Why a message to a name server does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnsRefusal {
    /// It asks for a name that is blocked.
    Blocked(DnsEntry),
    /// It cannot be read.
    Defect(Defect),
    /// It has more than one question (RFC 9619 section 4).
    Questions,
    /// Its opcode is neither a query nor one that resolves no name (NOTIFY, UPDATE).
    Opcode(u8),
    /// TCP: a question longer than 4,096 bytes.
    TooLong,
    /// TCP: the begin of its stream was not seen, so that nobody can tell where its messages begin.
    BeginUnseen,
    /// TCP: sender and receiver may take the segment for different bytes, or it does not follow on what was seen.
    Ambiguous,
    /// TCP: the memory for streams is used up, or its source's share of it.
    Memory,
}

/// Which entry blocked a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DnsEntry {
    /// Whether it stands for itself, for what is below it, or for both.
    pub reach: Reach,
    /// Where it comes from: see [`policy::names::NameFilter::sources`].
    pub source: SourceId,
}

impl DnsRefusal {
    /// Stable kebab-case name, for records and counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocked(_) => "dns-blocked",
            Self::Defect(defect) => defect.name(),
            Self::Questions => "dns-questions",
            Self::Opcode(_) => "dns-opcode",
            Self::TooLong => "dns-too-long",
            Self::BeginUnseen => "dns-begin-unseen",
            Self::Ambiguous => "dns-ambiguous",
            Self::Memory => "dns-memory",
        }
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Stable kebab-case name, for records and counters.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

named! {
    /// Headers that can be read but that no honest host sends.
    Impossible {
        /// A TCP flag combination that the protocol does not know, such as none, SYN+FIN or FIN alone
        /// (net/netfilter/nf_conntrack_proto_tcp.c `tcp_valid_flags`).
        TcpFlags "tcp-flags",
        /// A source that can send nothing: multicast, broadcast, "this network", loopback from outside (RFC 6890, RFC 1122 §3.2.1.3).
        MartianSource "martian-source",
        /// A destination that cannot be reached from outside: loopback, "this network".
        MartianDestination "martian-destination",
    }
}

named! {
    /// What became of a fragment.
    FragmentFault {
        /// Held until the rest comes. Not a verdict yet: it passes or falls with the whole datagram.
        Held "fragment-held",
        /// It overlaps another; the datagram is discarded (RFC 5722, and net/ipv4/ip_fragment.c since CVE-2018-5391).
        Overlap "fragment-overlap",
        /// The rest did not come in time (30 s for IPv4, 60 s for IPv6).
        Incomplete "fragment-incomplete",
        /// Its lengths make no datagram: past 65,535 bytes, not a multiple of 8, a second end, or something beyond the end.
        Length "fragment-length",
        /// It carries no data.
        Empty "fragment-empty",
        /// Some fragments of a datagram may be marked as congested and some not (RFC 3168 section 5.3).
        Ecn "fragment-ecn",
        /// What was put together is a fragment again.
        Nested "fragment-nested",
        /// The memory for incomplete datagrams is used up.
        Memory "fragment-memory",
    }
}

named! {
    /// Why a packet can neither belong to a flow nor begin one (net/netfilter/nf_conntrack_proto_*.c).
    Invalid {
        /// TCP: this segment has no place in the state its connection is in.
        TcpState "tcp-state",
        /// TCP: the first segment seen is one that begins nothing (SYN-ACK, RST, FIN).
        TcpNoConnection "tcp-no-connection",
        /// ICMP: a reply, an error or an unknown type without the flow it would belong to.
        IcmpNoFlow "icmp-no-flow",
        /// SCTP: a chunk that begins nothing.
        SctpNoAssociation "sctp-no-association",
        /// GRE: a version or key that cannot be tracked.
        Gre "gre-untrackable",
        /// Of a protocol without states: the kernel finds a checksum or a length in it wrong.
        Damaged "damaged",
        /// The memory for streams under inspection is used up, and its flow held most; or the flows of its source alone hold an eighth of it.
        StreamMemory "stream-memory",
        /// TCP under a content rule that looks at the stream: sender and receiver may take it for different bytes. It differs
        /// from a byte that was sent before, is urgent, comes with a SYN, has an older clock (RFC 7323 section 5), or is signed.
        StreamAmbiguous "stream-ambiguous",
        /// The kernel handed up only the begin of a packet that a content rule has to see whole: it is longer than 65,531 bytes.
        CopyCut "copy-cut",
        /// The flow table is full and nothing in it may be put out.
        FlowTableFull "flow-table-full",
    }
}

named! {
    /// What a network needs under any default. Each stands after the rules, so that a rule can still deny it.
    Essential {
        /// Traffic of this host with itself.
        Loopback "loopback",
        /// IPv6 neighbour discovery: types 133–137 with hop limit 255 (RFC 4861).
        NeighbourDiscovery "neighbour-discovery",
        /// IPv6 multicast listener discovery: types 130–132 and 143, from a link-local source or `::` (RFC 2710, RFC 3810).
        MulticastListener "multicast-listener",
        /// ICMPv6 "packet too big" and ICMP "fragmentation needed" (RFC 4890 §4.3.1, RFC 1191).
        PathMtu "path-mtu",
        /// Replies of DHCP servers, UDP 67 to 68 (RFC 2131), and our requests.
        Dhcp "dhcp",
        /// Replies of DHCPv6 servers from link-local addresses, UDP 547 to 546 (RFC 8415), and our requests.
        Dhcpv6 "dhcpv6",
    }
}
