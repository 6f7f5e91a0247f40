//! Bytes off the wire to length-checked packets.
//!
//! [`parse`] turns one captured frame into a [`Frame`]: either a [`Packet`], a zero-copy view whose accessors cannot
//! fail, or the ethertype of something that is not IP. What the Linux kernel would refuse comes back as [`Malformed`].
//!
//! What runs inside TCP and UDP and names hosts is read by [`dns`], [`tls`] and [`http`], each from bytes that somebody else put
//! in order.
//!
//! This crate does no I/O, never allocates, never panics on any bytes and has no dependencies. It does not reassemble
//! fragments, track flows, descend into tunnels or judge addresses: those are the engine's.
#![forbid(unsafe_code)]

mod chain;
mod checksum;
pub mod dns;
mod five_tuple;
mod fragment;
mod gre;
mod hop_by_hop;
mod host;
pub mod http;
mod icmp;
mod ipv4;
mod ipv4_options;
mod ipv6;
mod link;
mod malformed;
mod network;
mod packet;
mod quoted;
#[cfg(test)]
mod sample;
mod sctp;
mod tcp;
mod tcp_flags;
mod tcp_options;
pub mod tls;
mod transport;
mod transport_checksum;
mod tunnel;
mod udp;
mod vlan;

pub use five_tuple::FiveTuple;
pub use fragment::Fragment;
pub use gre::Gre;
pub use host::{Host, HostKind};
pub use icmp::Icmp;
pub use link::{Frame, Link, LinkDirection, parse, parse_trusting_checksums};
pub use malformed::{Malformed, MalformedKind};
pub use packet::Packet;
pub use quoted::Embedded;
pub use sctp::{Sctp, SctpChunk, SctpChunks};
pub use tcp::Tcp;
pub use tcp_flags::TcpFlags;
pub use tcp_options::{TcpOption, TcpOptions};
pub use transport::{Transport, protocol};
pub use tunnel::Tunnel;
pub use udp::Udp;
pub use vlan::Vlan;
