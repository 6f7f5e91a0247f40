//! Answers in the place of a name server's: UDP datagrams with addresses and ports as the question had them, the other way round.
//!
//! They leave by raw sockets with [`mark::ANSWER`], by which our ruleset lets them pass. One to a client on this host comes back
//! to it over loopback.
#![allow(unsafe_code, reason = "std has no raw sockets")]

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use crate::datapath::mark;

/// `IPV6_HDRINCL` (include/uapi/linux/in6.h).
const IPV6_HDRINCL: libc::c_int = 36;
/// What Linux gives to packets of its own (`IPDEFTTL`).
const HOP_LIMIT: u8 = 64;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
/// Longest payload, in bytes: what passes any link unfragmented with both headers (RFC 8200 section 5).
pub const LONGEST: usize = 1_232;

/// One datagram: who is to have sent it, who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
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
    /// At most [`LONGEST`] bytes.
    pub payload: &'a [u8],
}

/// Sends datagrams from other addresses than this host's own, in the network namespace in which it was made.
#[derive(Debug)]
pub struct Replier {
    v4: OwnedFd,
    /// Where the kernel has no IPv6, nobody asks over it.
    v6: Option<OwnedFd>,
}

/// Why a datagram was not sent.
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
    #[error("an answer of {len} bytes from {from} to {to} fits into no datagram")]
    Unfit {
        /// Who was to have sent it.
        from: IpAddr,
        /// Who was to get it.
        to: IpAddr,
        /// Bytes of payload.
        len: usize,
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

    /// Sends a datagram. Does not wait: what does not fit into the socket's buffer is not sent.
    ///
    /// # Errors
    /// It was not sent.
    pub fn send(&self, datagram: &Datagram<'_>) -> Result<(), ReplyError> {
        let Datagram {
            source: from,
            destination: to,
            payload,
            ..
        } = *datagram;
        let len = payload.len();
        let unfit = || ReplyError::Unfit { from, to, len };
        let mut buffer = [0; IPV6_HEADER + UDP_HEADER + LONGEST];
        let packet = write(datagram, &mut buffer).ok_or_else(unfit)?;
        let sent = match (to, &self.v6) {
            (IpAddr::V4(to), _) => send_v4(&self.v4, packet, to),
            (IpAddr::V6(to), Some(socket)) => send_v6(socket, packet, to, datagram.interface),
            (IpAddr::V6(_), None) => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        };
        sent.map_err(|error| ReplyError::Send { from, to, error })
    }
}

/// Writes the packet; nothing for what fits into none.
fn write<'b>(
    datagram: &Datagram<'_>,
    buffer: &'b mut [u8; IPV6_HEADER + UDP_HEADER + LONGEST],
) -> Option<&'b [u8]> {
    let payload = datagram.payload;
    if payload.len() > LONGEST {
        return None;
    }
    let udp_len = UDP_HEADER + payload.len();
    let header = match (datagram.source, datagram.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = &mut buffer[..IPV4_HEADER];
            // Length, identification and checksum are the kernel's (ip(7), "raw").
            header[0] = 0x45;
            header[8] = HOP_LIMIT;
            header[9] = policy::protocol::UDP;
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&destination.octets());
            IPV4_HEADER
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = &mut buffer[..IPV6_HEADER];
            header[0] = 0x60;
            header[4..6].copy_from_slice(&(udp_len as u16).to_be_bytes());
            header[6] = policy::protocol::UDP;
            header[7] = HOP_LIMIT;
            header[8..24].copy_from_slice(&source.octets());
            header[24..40].copy_from_slice(&destination.octets());
            IPV6_HEADER
        }
        _ => return None,
    };
    let udp = &mut buffer[header..header + udp_len];
    udp[..2].copy_from_slice(&datagram.source_port.to_be_bytes());
    udp[2..4].copy_from_slice(&datagram.destination_port.to_be_bytes());
    udp[4..6].copy_from_slice(&(udp_len as u16).to_be_bytes());
    udp[UDP_HEADER..].copy_from_slice(payload);
    let sum = checksum(datagram.source, datagram.destination, udp);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    Some(&buffer[..header + udp_len])
}

/// Of UDP with the pseudo-header (RFC 768, RFC 8200 section 8.1), of a datagram whose checksum is still 0.
fn checksum(source: IpAddr, destination: IpAddr, udp: &[u8]) -> u16 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => words(&address.octets()),
        IpAddr::V6(address) => words(&address.octets()),
    };
    let mut sum = address(source) + address(destination) + words(udp);
    sum += u32::from(policy::protocol::UDP) + udp.len() as u32;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        // 0 says that there is none.
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
        mark::ANSWER.cast_signed(),
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
    // SAFETY: packet and address are valid for reading their given lengths, and both outlive the call.
    sent(unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            libc::MSG_NOSIGNAL,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_in>() as libc::socklen_t,
        )
    })
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
    // SAFETY: packet and address are valid for reading their given lengths, and both outlive the call.
    sent(unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            libc::MSG_NOSIGNAL,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_in6>() as libc::socklen_t,
        )
    })
}

fn sent(result: isize) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn packets_are_whole_and_their_checksums_right() {
        for (source, destination) in [("192.0.2.53", "203.0.113.7"), ("2001:db8::53", "fe80::7")] {
            for len in [0, 1, 30, 301, LONGEST] {
                let payload = vec![0xa5; len];
                let datagram = Datagram {
                    source: source.parse().unwrap(),
                    source_port: 53,
                    destination: destination.parse().unwrap(),
                    destination_port: 40_000,
                    interface: 0,
                    payload: &payload,
                };
                let mut buffer = [0; IPV6_HEADER + UDP_HEADER + LONGEST];
                let packet = write(&datagram, &mut buffer).unwrap().to_vec();
                let headers = packet.len() - UDP_HEADER - len;
                let udp = &packet[headers..];
                assert_eq!(&udp[UDP_HEADER..], &payload);
                assert_eq!(udp[..4], [0, 53, 0x9c, 0x40]);
                // A sum over what holds its own checksum is 0 (RFC 1071 section 1).
                assert_eq!(checksum(datagram.source, datagram.destination, udp), 0xffff);
            }
        }
    }

    #[test]
    fn what_fits_into_no_packet_is_none() {
        let datagram = Datagram {
            source: "192.0.2.53".parse().unwrap(),
            source_port: 53,
            destination: "2001:db8::7".parse().unwrap(),
            destination_port: 1,
            interface: 0,
            payload: b"",
        };
        let mut buffer = [0; IPV6_HEADER + UDP_HEADER + LONGEST];
        assert!(write(&datagram, &mut buffer).is_none());
        let long = Datagram {
            destination: "192.0.2.7".parse().unwrap(),
            payload: &[0; LONGEST + 1],
            ..datagram
        };
        assert!(write(&long, &mut buffer).is_none());
    }
}
