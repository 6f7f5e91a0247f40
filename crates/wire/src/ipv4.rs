//! IPv4 headers (RFC 791), checked as `ip_rcv_core` in the kernel's net/ipv4/ip_input.c checks them.

use std::net::{IpAddr, Ipv4Addr};

use crate::checksum::Sum;
use crate::fragment::{self, Fragment, Piece};
use crate::ipv4_options;
use crate::malformed::{Malformed, MalformedKind};
use crate::packet::{IpHeader, Network};

/// The first 20 bytes of an IPv4 header.
pub(crate) type Header = [u8; 20];

#[inline]
pub(crate) fn source(header: &Header) -> Ipv4Addr {
    Ipv4Addr::new(header[12], header[13], header[14], header[15])
}

#[inline]
pub(crate) fn destination(header: &Header) -> Ipv4Addr {
    Ipv4Addr::new(header[16], header[17], header[18], header[19])
}

/// Checks the header. `wire` is the length on the wire of what begins with `bytes`, at least `bytes.len()`.
#[inline]
pub(crate) fn parse(bytes: &[u8], wire: usize) -> Result<Network<'_>, Malformed> {
    let cut = wire > bytes.len();
    let Some(header) = bytes.first_chunk::<20>() else {
        return Err(if wire >= 20 {
            MalformedKind::CutByCapture
        } else {
            MalformedKind::Ipv4Truncated
        }
        .into());
    };
    let refuse = |kind| refused(header, kind);
    if header[0] >> 4 != 4 {
        return Err(Malformed::bare(MalformedKind::Ipv4Version));
    }
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header_len < 20 {
        return Err(refuse(MalformedKind::Ipv4HeaderLength));
    }
    let Some(whole_header) = bytes.get(..header_len) else {
        return Err(refuse(if cut && header_len <= wire {
            MalformedKind::CutByCapture
        } else {
            MalformedKind::Ipv4HeaderTruncated
        }));
    };
    // The order of ip_rcv_core: checksum, then lengths.
    let right = if header_len == 20 {
        Sum::default().add(header).is_right()
    } else {
        Sum::default().add(whole_header).is_right()
    };
    if !right {
        return Err(refuse(MalformedKind::Ipv4Checksum));
    }
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if total_len > wire {
        return Err(refuse(MalformedKind::Ipv4TotalLengthBeyondWire));
    }
    if total_len < header_len {
        return Err(refuse(MalformedKind::Ipv4TotalLength));
    }
    if header_len > 20 && !ipv4_options::are_right(&whole_header[20..]) {
        return Err(refuse(MalformedKind::Ipv4Options));
    }

    let place = u16::from_be_bytes([header[6], header[7]]);
    let piece = if place & 0x3fff == 0 {
        None
    } else {
        let fragment = Fragment {
            id: u32::from(u16::from_be_bytes([header[4], header[5]])),
            offset: (place & 0x1fff) << 3,
            more: place & 0x2000 != 0,
        };
        fragment::check(fragment, total_len - header_len, header_len, false).map_err(refuse)?;
        Some(Piece {
            fragment,
            unfragmentable: header_len as u32,
            payload: header_len as u32,
            pointer: 9,
            next_header: header[9],
        })
    };
    Ok(Network {
        header: IpHeader::V4(header),
        datagram: bytes.get(..total_len).unwrap_or(bytes),
        len: total_len,
        header_len,
        protocol: header[9],
        piece,
        routing: None,
        authenticated: false,
    })
}

#[cold]
fn refused(header: &Header, kind: MalformedKind) -> Malformed {
    Malformed {
        kind,
        source: Some(IpAddr::V4(source(header))),
        destination: Some(IpAddr::V4(destination(header))),
        protocol: Some(header[9]),
    }
}
