//! Packets in the place of somebody else's: answers to questions that do not get to their name server, and the reset of a
//! connection for the side that would wait for the rest of one.
//!
//! They leave by raw sockets with [`mark::FORGED`], by which our ruleset lets them pass. One to a client on this host comes back
//! to it over loopback.
#![allow(unsafe_code, reason = "std has no raw sockets")]

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use policy::protocol;

use crate::datapath::mark;

/// `IPV6_HDRINCL` (include/uapi/linux/in6.h).
const IPV6_HDRINCL: libc::c_int = 36;
/// What Linux gives to packets of its own (`IPDEFTTL`).
const HOP_LIMIT: u8 = 64;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
const RST: u8 = 0x04;
const BUFFER: usize = IPV6_HEADER + UDP_HEADER + LONGEST;
/// Longest payload, in bytes: what passes any link unfragmented with both headers (RFC 8200 section 5).
pub const LONGEST: usize = 1_232;

/// One packet: who is to have sent it, who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged<'a> {
    /// Who is to have sent it.
    pub source: IpAddr,
    /// Who is to have sent it.
    pub source_port: u16,
    /// Who gets it.
    pub destination: IpAddr,
    /// Who gets it.
    pub destination_port: u16,
    /// Index of the interface on which a link-local destination is; 0 for none.
    pub interface: u32,
    /// What is in it.
    pub body: Body<'a>,
}

/// What is in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// UDP, with at most [`LONGEST`] bytes.
    Datagram(&'a [u8]),
    /// TCP: RST with the sequence number that its receiver expects next (RFC 5961 section 3.2).
    Reset {
        /// That number.
        sequence: u32,
    },
}

/// Sends packets from other addresses than this host's own, in the network namespace in which it was made.
#[derive(Debug)]
pub struct Replier {
    v4: OwnedFd,
    /// Where the kernel has no IPv6, nobody asks over it.
    v6: Option<OwnedFd>,
}

/// Why a packet was not sent.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// The kernel refused.
    #[error("cannot send an answer from {from} to {to}: {error}")]
    Send {
        /// Who was to have sent it.
        from: IpAddr,
        /// Who was to get it.
        to: IpAddr,
        /// Why.
        error: io::Error,
    },
    /// One address is IPv4 and the other IPv6, or the payload is too long.
    #[error("an answer from {from} to {to} fits into no packet")]
    Unfit {
        /// Who was to have sent it.
        from: IpAddr,
        /// Who was to get it.
        to: IpAddr,
    },
}

impl Replier {
    /// Opens the sockets. Takes CAP_NET_RAW and CAP_NET_ADMIN.
    ///
    /// # Errors
    /// The kernel refuses one.
    pub fn open() -> io::Result<Self> {
        let v6 = match socket(libc::AF_INET6, libc::IPPROTO_IPV6, IPV6_HDRINCL) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            socket => Some(socket?),
        };
        Ok(Self {
            v4: socket(libc::AF_INET, libc::IPPROTO_IP, libc::IP_HDRINCL)?,
            v6,
        })
    }

    /// Sends a packet. Does not wait: what does not fit into the socket's buffer is not sent.
    ///
    /// # Errors
    /// It was not sent.
    pub fn send(&self, forged: &Forged<'_>) -> Result<(), ReplyError> {
        let (from, to) = (forged.source, forged.destination);
        let mut buffer = [0; BUFFER];
        let packet = write(forged, &mut buffer).ok_or(ReplyError::Unfit { from, to })?;
        let sent = match (to, &self.v6) {
            (IpAddr::V4(to), _) => send_v4(&self.v4, packet, to),
            (IpAddr::V6(to), Some(socket)) => send_v6(socket, packet, to, forged.interface),
            (IpAddr::V6(_), None) => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        };
        sent.map_err(|error| ReplyError::Send { from, to, error })
    }
}

/// Writes the packet; nothing for what fits into none.
fn write<'b>(forged: &Forged<'_>, buffer: &'b mut [u8; BUFFER]) -> Option<&'b [u8]> {
    let (protocol, len) = match forged.body {
        Body::Datagram(payload) if payload.len() > LONGEST => return None,
        Body::Datagram(payload) => (protocol::UDP, UDP_HEADER + payload.len()),
        Body::Reset { .. } => (protocol::TCP, TCP_HEADER),
    };
    let header = match (forged.source, forged.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = &mut buffer[..IPV4_HEADER];
            // Length, identification and checksum are the kernel's (raw(7)).
            header[0] = 0x45;
            header[8] = HOP_LIMIT;
            header[9] = protocol;
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&destination.octets());
            IPV4_HEADER
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = &mut buffer[..IPV6_HEADER];
            header[0] = 0x60;
            header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            header[6] = protocol;
            header[7] = HOP_LIMIT;
            header[8..24].copy_from_slice(&source.octets());
            header[24..40].copy_from_slice(&destination.octets());
            IPV6_HEADER
        }
        _ => return None,
    };
    let upper = &mut buffer[header..header + len];
    upper[..2].copy_from_slice(&forged.source_port.to_be_bytes());
    upper[2..4].copy_from_slice(&forged.destination_port.to_be_bytes());
    let checksum_at = match forged.body {
        Body::Datagram(payload) => {
            upper[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            upper[UDP_HEADER..].copy_from_slice(payload);
            6
        }
        Body::Reset { sequence } => {
            upper[4..8].copy_from_slice(&sequence.to_be_bytes());
            // Its own length in words of 32 bits (RFC 9293 section 3.1).
            upper[12] = (TCP_HEADER as u8 / 4) << 4;
            upper[13] = RST;
            16
        }
    };
    let sum = checksum(forged.source, forged.destination, protocol, upper);
    upper[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
    Some(&buffer[..header + len])
}

/// With the pseudo-header (RFC 768, RFC 9293 section 3.1, RFC 8200 section 8.1), of a packet whose checksum is still 0.
fn checksum(source: IpAddr, destination: IpAddr, protocol: u8, upper: &[u8]) -> u16 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => words(&address.octets()),
        IpAddr::V6(address) => words(&address.octets()),
    };
    let mut sum = address(source) + address(destination) + words(upper);
    sum += u32::from(protocol) + upper.len() as u32;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        // To UDP 0 says that there is none; to TCP both are the same number.
        0 => 0xffff,
        sum => sum,
    }
}

/// The sum of at most 64 KiB as words of 16 bits.
fn words(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    words.sum()
}

fn socket(family: libc::c_int, level: libc::c_int, option: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    let raw = unsafe { libc::socket(family, kind, libc::IPPROTO_RAW) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call that gave `raw` succeeded, and nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    set(&socket, level, option, 1)?;
    set(
        &socket,
        libc::SOL_SOCKET,
        libc::SO_MARK,
        mark::FORGED.cast_signed(),
    )?;
    // Nothing is read from it.
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, 0)?;
    Ok(socket)
}

fn set(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value is an int that lives for the call, and its size is given.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn send_v4(socket: &OwnedFd, packet: &[u8], to: Ipv4Addr) -> io::Result<()> {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(to.octets()),
        },
        sin_zero: [0; 8],
    };
    send(socket, packet, &address)
}

fn send_v6(socket: &OwnedFd, packet: &[u8], to: Ipv6Addr, interface: u32) -> io::Result<()> {
    let address = libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: 0,
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr {
            s6_addr: to.octets(),
        },
        sin6_scope_id: if to.is_unicast_link_local() {
            interface
        } else {
            0
        },
    };
    send(socket, packet, &address)
}

/// `A` is the address structure of the socket's family.
fn send<A>(socket: &OwnedFd, packet: &[u8], address: &A) -> io::Result<()> {
    // SAFETY: packet and address are valid for reading their given lengths, and both outlive the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            libc::MSG_NOSIGNAL,
            std::ptr::from_ref(address).cast(),
            size_of::<A>() as libc::socklen_t,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn forged<'a>(source: &str, destination: &str, body: Body<'a>) -> Forged<'a> {
        Forged {
            source: source.parse().unwrap(),
            source_port: 53,
            destination: destination.parse().unwrap(),
            destination_port: 40_000,
            interface: 0,
            body,
        }
    }

    #[test]
    fn packets_are_whole_and_their_checksums_right() {
        let payloads = [0, 1, 30, 301, LONGEST].map(|len| vec![0xa5; len]);
        for (source, destination) in [("192.0.2.53", "203.0.113.7"), ("2001:db8::53", "fe80::7")] {
            let datagrams = payloads.iter().map(|payload| Body::Datagram(payload));
            for body in datagrams.chain([Body::Reset {
                sequence: 0x0102_0304,
            }]) {
                let forged = forged(source, destination, body);
                let mut buffer = [0; BUFFER];
                let packet = write(&forged, &mut buffer).unwrap();
                let (protocol, len, middle) = match body {
                    Body::Datagram(payload) => (17, UDP_HEADER + payload.len(), &packet[..0]),
                    Body::Reset { .. } => (6, TCP_HEADER, &[1, 2, 3, 4, 0, 0, 0, 0, 0x50, 4][..]),
                };
                let upper = &packet[packet.len() - len..];
                assert_eq!(upper[..4], [0, 53, 0x9c, 0x40]);
                assert!(upper[4..].starts_with(middle));
                if let Body::Datagram(payload) = body {
                    assert_eq!(&upper[UDP_HEADER..], payload);
                }
                // A sum over what holds its own checksum is 0 (RFC 1071 section 1).
                assert_eq!(
                    checksum(forged.source, forged.destination, protocol, upper),
                    0xffff
                );
            }
        }
    }

    #[test]
    fn what_fits_into_no_packet_is_none() {
        let mut buffer = [0; BUFFER];
        let mixed = forged("192.0.2.53", "2001:db8::7", Body::Datagram(b""));
        assert!(write(&mixed, &mut buffer).is_none());
        let long = [0; LONGEST + 1];
        let long = forged("192.0.2.53", "192.0.2.7", Body::Datagram(&long));
        assert!(write(&long, &mut buffer).is_none());
    }
}
