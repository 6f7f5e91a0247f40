//! The record: what happened, as typed values. Writers (EVE JSON, text, store) live in the daemon.

use std::sync::Arc;

use policy::{Direction, DnsAnswer, HostField, RuleId, Timestamp};
use wire::dns::RecordType;
use wire::{FiveTuple, MalformedKind};

use crate::ban::{Ban, BanEnd, BanRefused, Detector, Evidence};
use crate::verdict::{Reason, Verdict};

/// One line of the record.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// The packet's addresses, where it had them.
    pub tuple: Option<FiveTuple>,
    /// Which way it went.
    pub direction: Option<Direction>,
    /// Where it came in, or leaves for [`Direction::Out`].
    pub interface: Option<Box<str>>,
    /// Its flow: a number that is the same in every event of the flow, and in every replay of the same capture. 53 bits, so
    /// that JSON readers keep it exact.
    pub flow_id: Option<u64>,
    /// What happened.
    pub body: EventBody,
}

impl Event {
    /// Of no packet.
    pub const fn without_packet(at: Timestamp, body: EventBody) -> Self {
        Self {
            at,
            tuple: None,
            direction: None,
            interface: None,
            flow_id: None,
            body,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventBody {
    /// A packet was dropped or rejected (in observe mode: would have been).
    Drop {
        /// Drop or reject.
        verdict: Verdict,
        /// Why.
        reason: Reason,
        /// The packet.
        packet: PacketFacts,
    },
    /// A rule with `log = true` allowed a packet.
    Logged {
        /// The rule.
        rule: RuleId,
        /// The packet.
        packet: PacketFacts,
    },
    /// A name server was asked.
    Dns(DnsQuestion),
    /// Something a person should know.
    Alert(Alert),
    /// A packet that is broken or impossible.
    Anomaly {
        /// What is wrong: a stable name.
        name: &'static str,
        /// Whether its bytes could not be read (else they could, but make no sense).
        malformed: Option<MalformedKind>,
    },
    /// A flow ended.
    Flow(FlowRecord),
    /// A source was banned.
    Ban(Ban),
    /// A ban ended.
    Unban {
        /// The ban as it stood.
        ban: Ban,
        /// How.
        end: BanEnd,
    },
    /// A ban was asked for and not made.
    BanRefused {
        /// Why.
        refused: BanRefused,
        /// Who asked for it.
        origin: crate::ban::BanOrigin,
    },
}

/// A question to a name server, and what the policy says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsQuestion {
    /// What ties the answer to it.
    pub id: u16,
    /// The name in canonical form (see [`wire::dns::Name`]); empty for the root.
    pub name: Box<str>,
    /// What is asked for.
    pub record_type: RecordType,
    /// Whether it does not pass, and what becomes of it then.
    pub blocked: Option<DnsAnswer>,
    /// The entry that blocked or allowed it.
    pub entry: Option<DnsListed>,
}

/// An entry of a list of names, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsListed {
    /// As lists write it: `*.ads.example`.
    pub entry: Box<str>,
    /// The list file, or the place in the policy.
    pub source: Box<str>,
}

/// What a record says of one packet beside its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketFacts {
    /// Length of the IP packet in bytes, as its header claims.
    pub len: u32,
    /// Hop limit or TTL.
    pub hop_limit: u8,
    /// TCP flags (the low 8 bits), for TCP.
    pub tcp_flags: Option<u8>,
    /// ICMP type and code, for ICMP and ICMPv6.
    pub icmp: Option<(u8, u8)>,
}

/// Something a person should know.
#[derive(Clone, Debug, PartialEq)]
pub enum Alert {
    /// A content rule matched.
    Content {
        /// The rule.
        rule: RuleId,
        /// What became of the packet.
        verdict: Verdict,
        /// The host that its client asks for, of rules that name hosts.
        host: Option<AskedHost>,
    },
    /// A detector found an offender.
    Detector {
        /// Which one.
        detector: Detector,
        /// On what evidence.
        evidence: Evidence,
        /// Whether the source is dropped from now on.
        banned: bool,
    },
}

/// A host that a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedHost {
    /// Where it asked.
    pub field: HostField,
    /// As sent, without port; bytes that are no printable ASCII are escaped as in Rust.
    pub host: Box<str>,
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEnd {
    /// Both sides closed it, or one reset it.
    Closed,
    /// Nothing came any more.
    TimedOut,
    /// It made room for another.
    Evicted,
    /// The capture or the daemon ended.
    Shutdown,
}

impl FlowEnd {
    /// Stable name, for records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::TimedOut => "timeout",
            Self::Evicted => "evicted",
            Self::Shutdown => "shutdown",
        }
    }
}

/// A flow at its end, or as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// First packet.
    pub start: Timestamp,
    /// Last packet.
    pub end: Timestamp,
    /// Packets from the side that began it.
    pub packets_to_server: u64,
    /// Packets from the other side.
    pub packets_to_client: u64,
    /// Bytes of IP from the side that began it.
    pub bytes_to_server: u64,
    /// Bytes of IP from the other side.
    pub bytes_to_client: u64,
    /// TCP state by the kernel's name (`SYN_SENT`, `ESTABLISHED`, …) for TCP.
    pub tcp_state: Option<&'static str>,
    /// Why its first packet was allowed.
    pub reason: Reason,
    /// Why it ended; `None` while it lives.
    pub ended: Option<FlowEnd>,
    /// The name that its client had resolved to the address it went to, where the answer was seen. Whoever answers in a name
    /// server's place can put any name here.
    pub name: Option<Arc<str>>,
}

/// Sums since the begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets seen.
    pub packets: u64,
    /// Bytes of the frames as captured on the wire.
    pub bytes: u64,
    /// Packets that passed.
    pub allowed: u64,
    /// Packets dropped, or that would have been.
    pub dropped: u64,
    /// Packets rejected, or that would have been.
    pub rejected: u64,
    /// Of the dropped and rejected, where nothing is blocked: what came of flows that would have been denied. Nobody would have sent it.
    pub sequels: u64,
    /// Broken or impossible packets.
    pub anomalies: u64,
    /// Flows begun.
    pub flows: u64,
    /// Alerts.
    pub alerts: u64,
    /// Bans made.
    pub bans: u64,
    /// Questions to name servers that `[dns]` looked at.
    pub dns_questions: u64,
    /// And those of them that asked for a blocked name.
    pub dns_blocked: u64,
}

impl Totals {
    /// Counts packets by what became of them.
    pub(crate) fn add(&mut self, verdict: Verdict, packets: u64) {
        match verdict {
            Verdict::Allow => self.allowed += packets,
            Verdict::Drop => self.dropped += packets,
            Verdict::Reject => self.rejected += packets,
        }
    }
}
