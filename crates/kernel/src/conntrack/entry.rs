//! One entry of the table, read from and written to netlink (`linux/netfilter/nfnetlink_conntrack.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{DELETE, NEW, SUBSYSTEM, attribute};
use crate::netlink::{Attributes, Builder, Message};

/// A connection as the kernel tracks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As its first packet had it.
    pub original: Tuple,
    /// As answers have it: the other way round, and different where addresses are translated.
    pub reply: Tuple,
    /// `IPS_*` bits (`linux/netfilter/nf_conntrack_common.h`).
    pub status: u32,
    /// The state of a TCP connection.
    pub tcp: Option<TcpState>,
    /// Of a TCP connection, whether the kernel checks no sequence numbers of one side (`IP_CT_TCP_FLAG_BE_LIBERAL`): so it tracks
    /// what it picked up under way. False in events about an entry's end, which do not tell.
    pub tcp_is_liberal: bool,
    /// The connection's mark.
    pub mark: u32,
    /// What is left until it expires; none in events about its end.
    pub timeout: Option<Duration>,
    /// Packets and bytes of the original direction, where the kernel counts.
    pub sent: Option<Counters>,
    /// Packets and bytes of the reply direction, where the kernel counts.
    pub received: Option<Counters>,
    /// The conntrack zone; 0 unless rules set another.
    pub zone: u16,
}

impl Entry {
    /// Were packets seen both ways?
    #[must_use]
    pub const fn answered(&self) -> bool {
        const SEEN_REPLY: u32 = 1 << 1;
        self.status & SEEN_REPLY != 0
    }

    /// Has the kernel come to regard it as established (for TCP: the handshake was completed)?
    #[must_use]
    pub const fn assured(&self) -> bool {
        is_assured(self.status)
    }
}

const fn is_assured(status: u32) -> bool {
    const ASSURED: u32 = 1 << 2;
    status & ASSURED != 0
}

/// Whether a message is about an entry that the kernel has come to regard as established, before anything else of it is read.
pub(super) fn tells_of_assured(message: &Message<'_>) -> bool {
    message.netfilter().is_some_and(|(_, attributes)| {
        let status = attributes.get(attribute::STATUS);
        status
            .and_then(|status| status.be32())
            .is_some_and(is_assured)
    })
}

/// One direction's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Where its packets come from.
    pub source: IpAddr,
    /// Where they go.
    pub destination: IpAddr,
    /// The IP protocol.
    pub protocol: u8,
    /// What tells flows between the same addresses apart.
    pub key: Key,
}

/// What tells flows between the same addresses apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Source and destination port.
    Ports(u16, u16),
    /// Type, code and identifier of ICMP or ICMPv6.
    Icmp(u8, u8, u16),
    /// Nothing.
    None,
}

/// How much went one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
}

/// `enum tcp_conntrack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are TCP's (RFC 9293)")]
pub enum TcpState {
    None,
    SynSent,
    SynReceived,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
    /// Simultaneous open: a SYN in each direction.
    SynSent2,
}

impl TcpState {
    const ALL: [TcpState; 10] = [
        Self::None,
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::LastAck,
        Self::TimeWait,
        Self::Close,
        Self::SynSent2,
    ];
}

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

impl Tuple {
    /// Source and destination port; `None` for protocols without.
    #[must_use]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match self.key {
            Key::Ports(source, destination) => Some((source, destination)),
            Key::Icmp(..) | Key::None => None,
        }
    }

    /// `AF_INET` or `AF_INET6`.
    pub(super) const fn family(&self) -> u8 {
        match self.source {
            IpAddr::V4(_) => libc::AF_INET as u8,
            IpAddr::V6(_) => libc::AF_INET6 as u8,
        }
    }

    fn read(attributes: Attributes<'_>) -> Option<Tuple> {
        let addresses = attributes.get(attribute::TUPLE_IP)?.nested();
        let four = |kind| {
            Some(IpAddr::from(Ipv4Addr::from(
                *addresses.get(kind)?.value.first_chunk::<4>()?,
            )))
        };
        let six = |kind| {
            Some(IpAddr::from(Ipv6Addr::from(
                *addresses.get(kind)?.value.first_chunk::<16>()?,
            )))
        };
        let source = four(attribute::IP_V4_SRC).or_else(|| six(attribute::IP_V6_SRC))?;
        let destination = four(attribute::IP_V4_DST).or_else(|| six(attribute::IP_V6_DST))?;

        let proto = attributes.get(attribute::TUPLE_PROTO)?.nested();
        let protocol = proto.get(attribute::PROTO_NUM)?.u8()?;
        let byte = |kind: u16| proto.get(kind).and_then(|value| value.u8());
        let half = |kind: u16| proto.get(kind).and_then(|value| value.be16());
        let icmp = |kind, code, id| Some(Key::Icmp(byte(kind)?, byte(code)?, half(id)?));
        let key = match protocol {
            ICMP => icmp(
                attribute::PROTO_ICMP_TYPE,
                attribute::PROTO_ICMP_CODE,
                attribute::PROTO_ICMP_ID,
            ),
            ICMPV6 => icmp(
                attribute::PROTO_ICMPV6_TYPE,
                attribute::PROTO_ICMPV6_CODE,
                attribute::PROTO_ICMPV6_ID,
            ),
            _ => half(attribute::PROTO_SRC_PORT)
                .zip(half(attribute::PROTO_DST_PORT))
                .map(|(a, b)| Key::Ports(a, b)),
        };
        Some(Tuple {
            source,
            destination,
            protocol,
            key: key.unwrap_or(Key::None),
        })
    }

    /// Writes it as the original tuple of a request.
    pub(super) fn write(&self, request: &mut Builder) {
        request.nest(attribute::TUPLE_ORIG, |tuple| {
            tuple.nest(attribute::TUPLE_IP, |addresses| {
                for (address, four, six) in [
                    (self.source, attribute::IP_V4_SRC, attribute::IP_V6_SRC),
                    (self.destination, attribute::IP_V4_DST, attribute::IP_V6_DST),
                ] {
                    match address {
                        IpAddr::V4(address) => addresses.bytes(four, &address.octets()),
                        IpAddr::V6(address) => addresses.bytes(six, &address.octets()),
                    };
                }
            });
            tuple.nest(attribute::TUPLE_PROTO, |proto| {
                proto.u8(attribute::PROTO_NUM, self.protocol);
                match self.key {
                    Key::Ports(source, destination) => {
                        proto
                            .be16(attribute::PROTO_SRC_PORT, source)
                            .be16(attribute::PROTO_DST_PORT, destination);
                    }
                    Key::Icmp(kind, code, id) if self.protocol == ICMP => {
                        proto
                            .be16(attribute::PROTO_ICMP_ID, id)
                            .u8(attribute::PROTO_ICMP_TYPE, kind)
                            .u8(attribute::PROTO_ICMP_CODE, code);
                    }
                    Key::Icmp(kind, code, id) => {
                        proto
                            .be16(attribute::PROTO_ICMPV6_ID, id)
                            .u8(attribute::PROTO_ICMPV6_TYPE, kind)
                            .u8(attribute::PROTO_ICMPV6_CODE, code);
                    }
                    Key::None => {}
                }
            });
        });
    }
}

/// Reads an entry from an answer or an event; `None` when the message is about something else.
#[must_use]
pub fn parse_entry(message: &Message<'_>) -> Option<Entry> {
    let [kind, subsystem] = message.kind.to_le_bytes();
    if subsystem != SUBSYSTEM || !matches!(kind, NEW | DELETE) {
        return None;
    }
    let (_, attributes) = message.netfilter()?;
    let word = |kind: u16| attributes.get(kind).and_then(|value| value.be32());
    let tuple = |kind: u16| Tuple::read(attributes.get(kind)?.nested());
    let counters = |kind: u16| {
        let counters = attributes.get(kind)?.nested();
        Some(Counters {
            packets: counters.get(attribute::COUNTERS_PACKETS)?.be64()?,
            bytes: counters.get(attribute::COUNTERS_BYTES)?.be64()?,
        })
    };
    let info = attributes.get(attribute::PROTOINFO);
    let tcp = info.and_then(|info| Some(info.nested().get(attribute::PROTOINFO_TCP)?.nested()));
    let state = tcp.as_ref().and_then(|tcp| {
        let state = tcp.get(attribute::PROTOINFO_TCP_STATE)?.u8()?;
        TcpState::ALL.get(usize::from(state)).copied()
    });
    // `struct nf_ct_tcp_flags`: flags, and which of them are meant when they are set.
    let is_liberal = |kind: u16| {
        const BE_LIBERAL: u8 = 0x08;
        let flags = tcp.as_ref().and_then(|tcp| tcp.get(kind)?.u8());
        flags.is_some_and(|flags| flags & BE_LIBERAL != 0)
    };
    Some(Entry {
        original: tuple(attribute::TUPLE_ORIG)?,
        reply: tuple(attribute::TUPLE_REPLY)?,
        status: word(attribute::STATUS).unwrap_or(0),
        tcp: state,
        tcp_is_liberal: is_liberal(attribute::PROTOINFO_TCP_FLAGS_ORIGINAL)
            || is_liberal(attribute::PROTOINFO_TCP_FLAGS_REPLY),
        mark: word(attribute::MARK).unwrap_or(0),
        timeout: word(attribute::TIMEOUT).map(|seconds| Duration::from_secs(seconds.into())),
        sent: counters(attribute::COUNTERS_ORIG),
        received: counters(attribute::COUNTERS_REPLY),
        zone: attributes
            .get(attribute::ZONE)
            .and_then(|zone| zone.be16())
            .unwrap_or(0),
    })
}
