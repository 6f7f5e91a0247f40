//! Attribute numbers of `linux/netfilter/nfnetlink_conntrack.h`, which libc does not have; `CTA_` is left out.

pub(super) const TUPLE_ORIG: u16 = 1;
pub(super) const TUPLE_REPLY: u16 = 2;
pub(super) const STATUS: u16 = 3;
pub(super) const PROTOINFO: u16 = 4;
pub(super) const TIMEOUT: u16 = 7;
pub(super) const MARK: u16 = 8;
pub(super) const COUNTERS_ORIG: u16 = 9;
pub(super) const COUNTERS_REPLY: u16 = 10;
pub(super) const ZONE: u16 = 18;

// In a tuple.
pub(super) const TUPLE_IP: u16 = 1;
pub(super) const TUPLE_PROTO: u16 = 2;

// In TUPLE_IP.
pub(super) const IP_V4_SRC: u16 = 1;
pub(super) const IP_V4_DST: u16 = 2;
pub(super) const IP_V6_SRC: u16 = 3;
pub(super) const IP_V6_DST: u16 = 4;

// In TUPLE_PROTO.
pub(super) const PROTO_NUM: u16 = 1;
pub(super) const PROTO_SRC_PORT: u16 = 2;
pub(super) const PROTO_DST_PORT: u16 = 3;
pub(super) const PROTO_ICMP_ID: u16 = 4;
pub(super) const PROTO_ICMP_TYPE: u16 = 5;
pub(super) const PROTO_ICMP_CODE: u16 = 6;
pub(super) const PROTO_ICMPV6_ID: u16 = 7;
pub(super) const PROTO_ICMPV6_TYPE: u16 = 8;
pub(super) const PROTO_ICMPV6_CODE: u16 = 9;

// In PROTOINFO, and in what is nested there.
pub(super) const PROTOINFO_TCP: u16 = 1;
pub(super) const PROTOINFO_TCP_STATE: u16 = 1;
pub(super) const PROTOINFO_TCP_FLAGS_ORIGINAL: u16 = 4;
pub(super) const PROTOINFO_TCP_FLAGS_REPLY: u16 = 5;

// In COUNTERS_ORIG and COUNTERS_REPLY.
pub(super) const COUNTERS_PACKETS: u16 = 1;
pub(super) const COUNTERS_BYTES: u16 = 2;
