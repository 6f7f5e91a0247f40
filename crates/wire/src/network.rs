//! The network layer of a packet, the same shape for both families.

use std::net::IpAddr;

use crate::fragment::Piece;
use crate::{ipv4, ipv6};

/// The IP header and what stands between it and the upper layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network<'a> {
    pub(crate) header: IpHeader<'a>,
    /// From the IP header to the end of the datagram, as captured.
    pub(crate) datagram: &'a [u8],
    /// Length of the datagram as claimed, at least `headers.len` and `datagram.len()`.
    len: u32,
    pub(crate) headers: Headers,
}

/// All headers before the upper layer, read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headers {
    /// Up to the upper layer, or to the payload of a fragment other than the first.
    pub(crate) len: u32,
    pub(crate) protocol: u8,
    /// An IPv6 authentication header was stepped over.
    pub(crate) authenticated: bool,
    pub(crate) routing: Option<Routing>,
    pub(crate) piece: Option<Piece>,
}

/// The IPv6 routing headers of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routing {
    /// Type of the first; 0 (deprecated by RFC 5095) wins over others in the same packet.
    pub(crate) kind: u8,
    /// Whether one has segments left, so that the destination is not the final one.
    pub(crate) underway: bool,
}

/// The fixed part of the IP header.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IpHeader<'a> {
    V4(&'a ipv4::Header),
    V6(&'a ipv6::Header),
}

impl IpHeader<'_> {
    #[inline]
    pub(crate) fn is_ipv6(self) -> bool {
        matches!(self, Self::V6(_))
    }

    /// Whether the version field says what the link said.
    pub(crate) fn has_right_version(self) -> bool {
        match self {
            Self::V4(header) => header[0] >> 4 == 4,
            Self::V6(header) => header[0] >> 4 == 6,
        }
    }

    #[inline]
    pub(crate) fn source(self) -> IpAddr {
        match self {
            Self::V4(header) => ipv4::source(header).into(),
            Self::V6(header) => ipv6::source(header).into(),
        }
    }

    #[inline]
    pub(crate) fn destination(self) -> IpAddr {
        match self {
            Self::V4(header) => ipv4::destination(header).into(),
            Self::V6(header) => ipv6::destination(header).into(),
        }
    }
}

impl Headers {
    /// No extension headers: the upper layer follows at `len`.
    #[inline]
    pub(crate) fn plain(len: usize, protocol: u8) -> Self {
        Self {
            len: len as u32,
            protocol,
            authenticated: false,
            routing: None,
            piece: None,
        }
    }
}

impl<'a> Network<'a> {
    /// A datagram at the start of `bytes` that claims `len` bytes, `headers.len` of them headers; at most 65,575.
    #[inline]
    pub(crate) fn new(header: IpHeader<'a>, bytes: &'a [u8], len: usize, headers: Headers) -> Self {
        Self {
            header,
            datagram: bytes.get(..len).unwrap_or(bytes),
            len: len as u32,
            headers,
        }
    }

    /// Length of the datagram as claimed.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Captured bytes after the headers.
    #[inline]
    pub(crate) fn upper(&self) -> &'a [u8] {
        self.datagram
            .get(self.headers.len as usize..)
            .unwrap_or_default()
    }

    /// Length of what follows the headers, as claimed.
    #[inline]
    pub(crate) fn upper_len(&self) -> usize {
        self.len.saturating_sub(self.headers.len) as usize
    }
}
