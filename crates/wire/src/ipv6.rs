//! IPv6 headers (RFC 8200), checked as `ip6_rcv_core` in the kernel's net/ipv6/ip6_input.c checks them, and the chain of
//! extension headers, walked as `ipv6_skip_exthdr` in net/ipv6/exthdrs_core.c walks it.

use std::net::{IpAddr, Ipv6Addr};

use crate::fragment::{self, Fragment, Piece};
use crate::hop_by_hop;
use crate::malformed::{Malformed, MalformedKind};
use crate::packet::{IpHeader, Network};
use crate::transport::protocol;

/// The fixed IPv6 header.
pub(crate) type Header = [u8; 40];

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const NO_NEXT_HEADER: u8 = 59;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;

#[inline]
pub(crate) fn source(header: &Header) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[8..24]);
    octets.into()
}

#[inline]
pub(crate) fn destination(header: &Header) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[24..40]);
    octets.into()
}

/// A routing header of the packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routing {
    /// Routing type; 0 (deprecated by RFC 5095) wins over others in the same packet.
    pub(crate) kind: u8,
    /// Whether some routing header has segments left, so that the destination is not the final one.
    pub(crate) underway: bool,
}

/// Checks the header and walks the chain. `wire` is the length on the wire of what begins with `bytes`, at least `bytes.len()`.
#[inline]
pub(crate) fn parse(bytes: &[u8], wire: usize) -> Result<Network<'_>, Malformed> {
    let Some(header) = bytes.first_chunk::<40>() else {
        return Err(if wire >= 40 {
            MalformedKind::CutByCapture
        } else {
            MalformedKind::Ipv6Truncated
        }
        .into());
    };
    if header[0] >> 4 != 6 {
        return Err(Malformed::bare(MalformedKind::Ipv6Version));
    }
    let next_header = header[6];
    let refuse = |kind| refused(header, None, kind);
    if header[24] == 0xff && header[25] & 0x0f == 0 {
        return Err(refuse(MalformedKind::Ipv6DestinationScope));
    }
    if header[8] == 0xff {
        return Err(refuse(MalformedKind::Ipv6SourceMulticast));
    }
    if source(header).to_ipv4_mapped().is_some() {
        return Err(refuse(MalformedKind::Ipv6SourceMapped));
    }
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if payload_len == 0 && next_header == HOP_BY_HOP {
        return Err(refuse(MalformedKind::Ipv6Jumbogram));
    }
    let len = 40 + payload_len;
    if len > wire {
        return Err(refuse(MalformedKind::Ipv6PayloadLength));
    }
    let mut network = Network {
        header: IpHeader::V6(header),
        datagram: bytes.get(..len).unwrap_or(bytes),
        len,
        header_len: 40,
        protocol: next_header,
        piece: None,
        routing: None,
        authenticated: false,
    };
    if is_extension(next_header) {
        walk(&mut network).map_err(|kind| refused(header, Some(network.protocol), kind))?;
    }
    Ok(network)
}

/// The headers `ipv6_ext_hdr` counts. ESP (50) is an upper-layer protocol to the kernel, so are mobility and HIP.
#[inline]
pub(crate) fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | NO_NEXT_HEADER | DESTINATION_OPTIONS
    )
}

/// Walks to the upper layer. Each turn moves at least 8 bytes on, so the datagram's length bounds it.
///
/// As in `ipv6_skip_exthdr`, a hop-by-hop header is stepped over wherever it stands, and any number of headers goes.
fn walk(network: &mut Network<'_>) -> Result<(), MalformedKind> {
    let mut at = 40;
    let mut pointer = 6;
    let mut next = network.protocol;
    while is_extension(next) {
        network.protocol = next;
        if next == NO_NEXT_HEADER {
            return Err(MalformedKind::Ipv6NoNextHeader);
        }
        if at + 8 > network.len {
            return Err(runs_out(network));
        }
        let Some(&[following, units, third, fourth, id @ ..]) = network
            .datagram
            .get(at..)
            .and_then(|rest| rest.first_chunk::<8>())
        else {
            return Err(MalformedKind::CutByCapture);
        };
        let len = match next {
            FRAGMENT => {
                let place = u16::from_be_bytes([third, fourth]);
                let fragment = Fragment {
                    id: u32::from_be_bytes(id),
                    offset: place & 0xfff8,
                    more: place & 1 != 0,
                };
                // RFC 6946: offset 0 without more is a whole packet.
                if network.piece.is_none() && (fragment.offset != 0 || fragment.more) {
                    fragment::check(fragment, network.len - at - 8, at, true)?;
                    network.piece = Some(Piece {
                        fragment,
                        unfragmentable: at as u32,
                        payload: at as u32 + 8,
                        pointer,
                        next_header: following,
                    });
                    if fragment.offset != 0 {
                        network.protocol = following;
                        network.header_len = at + 8;
                        return Ok(());
                    }
                }
                8
            }
            AUTHENTICATION => (usize::from(units) + 2) * 4,
            _ => (usize::from(units) + 1) * 8,
        };
        if next == AUTHENTICATION {
            network.authenticated = true;
        }
        if next == ROUTING {
            let before = network.routing;
            network.routing = Some(Routing {
                kind: before.map_or(third, |routing| if third == 0 { 0 } else { routing.kind }),
                underway: fourth != 0 || before.is_some_and(|routing| routing.underway),
            });
        }
        let end = at + len;
        if end > network.len {
            return Err(runs_out(network));
        }
        if next == HOP_BY_HOP && at == 40 {
            let options = network.datagram.get(at + 2..end);
            if !hop_by_hop::are_right(options.ok_or(MalformedKind::CutByCapture)?) {
                return Err(MalformedKind::Ipv6HopByHop);
            }
        }
        pointer = at as u32;
        at = end;
        next = following;
    }
    network.protocol = next;
    network.header_len = at;
    if network.piece.is_some() && !first_fragment_is_whole(next, network.len - at) {
        return Err(MalformedKind::Ipv6FirstFragment);
    }
    Ok(())
}

/// The defect of a chain that leaves the packet: in a first fragment the rest may be in the next one, which is forbidden.
#[cold]
fn runs_out(network: &Network<'_>) -> MalformedKind {
    if network.piece.is_some() {
        MalformedKind::Ipv6FirstFragment
    } else {
        MalformedKind::Ipv6ExtensionTruncated
    }
}

/// `ipv6frag_thdr_truncated` of net/ipv6/reassembly.c.
fn first_fragment_is_whole(upper: u8, len: usize) -> bool {
    len >= match upper {
        protocol::TCP => 20,
        protocol::UDP => 8,
        protocol::ICMPV6 => 8,
        _ => 1,
    }
}

#[cold]
fn refused(header: &Header, protocol: Option<u8>, kind: MalformedKind) -> Malformed {
    Malformed {
        kind,
        source: Some(IpAddr::V6(source(header))),
        destination: Some(IpAddr::V6(destination(header))),
        protocol: protocol.or((!is_extension(header[6])).then_some(header[6])),
    }
}
