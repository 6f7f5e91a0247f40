//! Packets of a test's own making: put on a wire, sent from a host, and seen to arrive.
//!
//! Everything is non-blocking, and belongs to the namespace that it was opened in, wherever it is used. A test that stays on
//! one processor ([`stay_on_one_processor`]) has its packets handled in order: veth queues them by processor, so what was sent
//! behind a packet and has arrived says that the packet was dealt with.
#![allow(
    unsafe_code,
    reason = "std has neither packet sockets nor raw ones, and nix makes no address of them"
)]

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::netns::Netns;

/// Linux constants that nix's libc does not name: include/uapi/linux/in6.h, include/uapi/linux/if_packet.h.
const IPV6_HDRINCL: libc::c_int = 36;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
/// Longest datagram that is read.
const LONGEST: usize = 65_536;

/// One end of a wire: frames of one interface.
#[derive(Debug)]
pub struct Tap {
    socket: OwnedFd,
}

/// Sends IP packets from a host itself, with the headers that they have.
#[derive(Debug)]
pub struct Mouth {
    sockets: [OwnedFd; 2],
}

/// Hears what a host accepts for itself, behind all its rules.
#[derive(Debug)]
pub struct Ears {
    sockets: Vec<Ear>,
}

#[derive(Debug)]
struct Ear {
    socket: OwnedFd,
    protocol: u8,
    is_v6: bool,
}

/// A datagram that a host accepted, put together from its fragments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who sent it.
    pub source: IpAddr,
    /// The IP protocol.
    pub protocol: u8,
    /// Transport header and payload.
    pub transport: Vec<u8>,
}

/// Keeps the calling thread, and the threads and programs that it starts from now on, on the processor that comes first among
/// those that it may use.
///
/// # Errors
/// The kernel refused.
pub fn stay_on_one_processor() -> io::Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let first = (0..CpuSet::count()).find(|&processor| allowed.is_set(processor).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(first.unwrap_or(0))?;
    Ok(sched_setaffinity(Pid::from_raw(0), &one)?)
}

fn checked(outcome: libc::c_int) -> io::Result<libc::c_int> {
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(outcome)
    }
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let raw = checked(unsafe { libc::socket(family, kind, protocol) })?;
    // SAFETY: the call has just made it, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn option(
    socket: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value is an int that lives for the call, and its size is given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    checked(outcome).map(drop)
}

/// The next datagram and, from an IPv6 socket, its sender.
fn receive(socket: &OwnedFd) -> Option<(Vec<u8>, Option<Ipv6Addr>)> {
    let mut buffer = vec![0; LONGEST];
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: buffer and address live for the call and have the sizes that are given.
    let got = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            (&raw mut address).cast(),
            &raw mut length,
        )
    };
    buffer.truncate(usize::try_from(got).ok()?);
    let sender = (i32::from(address.ss_family) == libc::AF_INET6).then(|| {
        // SAFETY: the kernel wrote a sockaddr_in6, as the family says, and it fits into the storage.
        let address = unsafe { *(&raw const address).cast::<libc::sockaddr_in6>() };
        Ipv6Addr::from(address.sin6_addr.s6_addr)
    });
    Some((buffer, sender))
}

impl Tap {
    /// The wire at an interface. It shows what comes in there of one Ethernet type, or of all, and not what it sends.
    ///
    /// # Errors
    /// There is no such interface, or the process may not.
    pub fn open(netns: &Netns, interface: &str, kind: Option<u16>) -> anyhow::Result<Self> {
        let kind = kind.unwrap_or(libc::ETH_P_ALL as u16).to_be();
        let name = CString::new(interface)?;
        let open = || {
            let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
            option(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
            option(
                &socket,
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                LONGEST as i32 * 64,
            )?;
            // SAFETY: all-zero is a valid sockaddr_ll, and `name` is a C string that lives for the call.
            let (mut address, index) = unsafe {
                (
                    std::mem::zeroed::<libc::sockaddr_ll>(),
                    libc::if_nametoindex(name.as_ptr()),
                )
            };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = kind;
            address.sll_ifindex = checked(index.cast_signed())?;
            // SAFETY: the address is a sockaddr_ll, lives for the call, and its size is given.
            let bound = unsafe {
                libc::bind(
                    socket.as_raw_fd(),
                    (&raw const address).cast(),
                    size_of::<libc::sockaddr_ll>() as libc::socklen_t,
                )
            };
            checked(bound)?;
            io::Result::Ok(Self { socket })
        };
        Ok(netns.enter(open)??)
    }

    /// Puts a frame on the wire.
    ///
    /// # Errors
    /// The interface is down, or the frame too long.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the frame lives for the call and has this length.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// The next frame that came, if one did.
    #[must_use]
    pub fn receive(&self) -> Option<Vec<u8>> {
        receive(&self.socket).map(|(frame, _)| frame)
    }
}

impl Mouth {
    /// In a namespace; what it sends bears a packet mark.
    ///
    /// # Errors
    /// The process may not.
    pub fn open(netns: &Netns, mark: u32) -> anyhow::Result<Self> {
        let open = |family, level, name| {
            let socket = socket(family, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
            option(&socket, level, name, 1)?;
            option(&socket, libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed())?;
            io::Result::Ok(socket)
        };
        let sockets = netns.enter(|| -> io::Result<[OwnedFd; 2]> {
            Ok([
                open(libc::AF_INET, libc::IPPROTO_IP, libc::IP_HDRINCL)?,
                open(libc::AF_INET6, libc::IPPROTO_IPV6, IPV6_HDRINCL)?,
            ])
        })??;
        Ok(Self { sockets })
    }

    /// Sends an IP packet. That the host's own rules refuse it is no error: what does not arrive proves it.
    ///
    /// # Panics
    /// Where the packet is shorter than an IP header.
    pub fn send(&self, packet: &[u8]) {
        let is_v6 = packet[0] >> 4 == 6;
        // SAFETY: all-zero is a valid sockaddr_storage.
        let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let length = if is_v6 {
            // SAFETY: a sockaddr_in6 fits into the storage.
            let to = unsafe { &mut *(&raw mut address).cast::<libc::sockaddr_in6>() };
            to.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            to.sin6_addr.s6_addr.copy_from_slice(&packet[24..40]);
            size_of::<libc::sockaddr_in6>()
        } else {
            // SAFETY: a sockaddr_in fits into the storage.
            let to = unsafe { &mut *(&raw mut address).cast::<libc::sockaddr_in>() };
            to.sin_family = libc::AF_INET as libc::sa_family_t;
            to.sin_addr.s_addr =
                u32::from_ne_bytes([packet[16], packet[17], packet[18], packet[19]]);
            size_of::<libc::sockaddr_in>()
        };
        // SAFETY: packet and address live for the call and have these lengths.
        unsafe {
            libc::sendto(
                self.sockets[usize::from(is_v6)].as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                length as libc::socklen_t,
            )
        };
    }
}

impl Ears {
    /// In a namespace, for IP protocols by number, over IPv4 and IPv6.
    ///
    /// # Errors
    /// The process may not.
    pub fn open(netns: &Netns, protocols: &[u8]) -> anyhow::Result<Self> {
        let sockets = netns.enter(|| {
            let mut sockets = Vec::new();
            for &protocol in protocols {
                for (family, is_v6) in [(libc::AF_INET, false), (libc::AF_INET6, true)] {
                    sockets.push(Ear {
                        socket: socket(family, libc::SOCK_RAW, protocol.into())?,
                        protocol,
                        is_v6,
                    });
                }
            }
            io::Result::Ok(sockets)
        })??;
        Ok(Self { sockets })
    }

    /// The next datagram that was accepted, if one was.
    #[must_use]
    pub fn receive(&self) -> Option<Heard> {
        self.sockets.iter().find_map(|ear| {
            let (mut bytes, sender) = receive(&ear.socket)?;
            let source = if ear.is_v6 {
                sender?.into()
            } else {
                // An IPv4 raw socket gives the header too, an IPv6 one does not.
                let source = <[u8; 4]>::try_from(bytes.get(12..16)?).ok()?;
                bytes.drain(..usize::from(bytes[0] & 0x0f) * 4);
                source.into()
            };
            Some(Heard {
                source,
                protocol: ear.protocol,
                transport: bytes,
            })
        })
    }
}
