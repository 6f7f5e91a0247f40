//! Live packets from AF_PACKET: a memory-mapped TPACKET_V3 ring over one interface or all of them.
//!
//! It only watches: nothing is installed in the kernel, and every packet goes on as if nobody looked. What crosses the
//! loopback is seen by the kernel twice, going out and coming in; the outgoing copy is left out. Segmentation offload makes
//! packets larger than any wire carries, and outgoing ones may lack their checksum ([`Captured::checksum_unfilled`]).
//! VLAN tags that the network card took off are put back, so that Ethernet frames are whole.
//!
//! Needs CAP_NET_RAW.
#![allow(
    unsafe_code,
    reason = "AF_PACKET sockets and their options have no safe interface in std"
)]

mod ring;

use std::cell::Cell;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use libc::{c_int, c_void};
use policy::Direction;
use wire::Link;

use crate::interfaces::{Names, interface_index};
use crate::netlink::wait_readable;
use crate::source::{Captured, Losses, Source, SourceError};
use ring::Ring;

/// What to capture and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The interface's name; `None` is all of them, also those that appear later.
    pub interface: Option<String>,
    /// Memory of the ring in bytes, rounded up to whole blocks of 1 MiB. The kernel drops packets when it is full.
    pub ring: usize,
    /// How long [`Source::next`] waits for a packet.
    pub wait: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            interface: None,
            ring: 16 * 1024 * 1024,
            wait: Duration::from_millis(100),
        }
    }
}

/// A live capture in the network namespace of the thread that opened it.
pub struct Capture {
    fd: OwnedFd,
    ring: Ring,
    names: Names,
    wait: Duration,
    interface: Option<String>,
    dropped: Cell<u64>,
    truncated: u64,
}

/// How soon a block with packets in it is handed over although it is not full, in milliseconds.
const PATIENCE: u32 = 8;
/// Room for the VLAN tag that is put back, in bytes.
const TAG: usize = 4;

impl Capture {
    /// Begins to capture.
    ///
    /// # Errors
    /// The process may not, there is no such interface, or the kernel has no memory for the ring.
    pub fn open(settings: &Settings) -> Result<Capture, SourceError> {
        // Protocol 0 receives nothing: packets come only once the ring is there and the socket bound.
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            let source = io::Error::last_os_error();
            return Err(match source.kind() {
                io::ErrorKind::PermissionDenied => SourceError::NotPermitted,
                _ => SourceError::Kernel {
                    action: "open a packet socket",
                    source,
                },
            });
        }
        // SAFETY: `fd` was just opened and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let index = match &settings.interface {
            Some(name) => interface_index(fd.as_fd(), name)
                .ok_or_else(|| SourceError::NoInterface { name: name.clone() })?,
            None => 0,
        };
        let version = libc::tpacket_versions::TPACKET_V3 as c_int;
        option(&fd, libc::PACKET_VERSION, &version, "choose TPACKET_V3")?;
        option(
            &fd,
            libc::PACKET_RESERVE,
            &(TAG as c_int),
            "reserve room for VLAN tags",
        )?;
        let request = Ring::request(settings.ring, PATIENCE);
        option(&fd, libc::PACKET_RX_RING, &request, "set up the ring")?;
        let ring = Ring::map(fd.as_fd(), &request).map_err(|source| SourceError::Kernel {
            action: "map the ring",
            source,
        })?;

        // SAFETY: sockaddr_ll is plain integers, for which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index.cast_signed();
        let (pointer, length) = (
            &raw const address,
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        );
        // SAFETY: pointer and length describe `address`, which lives through the call.
        if unsafe { libc::bind(fd.as_raw_fd(), pointer.cast(), length) } < 0 {
            return Err(SourceError::Kernel {
                action: "bind the packet socket",
                source: io::Error::last_os_error(),
            });
        }
        Ok(Capture {
            fd,
            ring,
            names: Names::default(),
            wait: settings.wait,
            interface: settings.interface.clone(),
            dropped: Cell::new(0),
            truncated: 0,
        })
    }

    /// The next packet; `None` when none came within `timeout`.
    ///
    /// # Errors
    /// The interface went away, or the kernel refuses to go on.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Captured<'_>>, SourceError> {
        let mut deadline = None;
        let slot = loop {
            match self.ring.next() {
                Some(slot) if slot.is_loopback_copy() => {}
                Some(slot) => break slot,
                None => {
                    // The clock is only read where there is something to wait for.
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + timeout);
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    wait_readable(self.fd.as_fd(), left).map_err(|source| SourceError::Kernel {
                        action: "wait",
                        source,
                    })?;
                    self.look_for_trouble()?;
                }
            }
        };
        self.truncated += u64::from(slot.wire_len > slot.captured);
        let interface = self
            .names
            .name(self.fd.as_fd(), slot.interface, slot.timestamp);
        let (link, linktype) = link(slot.hardware);
        Ok(Some(Captured {
            timestamp: slot.timestamp,
            link,
            linktype,
            bytes: self.ring.bytes(&slot),
            wire_len: slot.wire_len,
            direction: direction(slot.packet_type),
            interface,
            checksum_unfilled: slot.checksum_unfilled,
        }))
    }

    /// An interface that goes down leaves an error on the socket, and poll would return at once for ever.
    fn look_for_trouble(&self) -> Result<(), SourceError> {
        let mut error: c_int = 0;
        let mut length = size_of::<c_int>() as libc::socklen_t;
        // SAFETY: the pointers describe `error` and `length`, which live through the call.
        let got = unsafe {
            let value = (&raw mut error).cast::<c_void>();
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                value,
                &raw mut length,
            )
        };
        match (got, error, &self.interface) {
            (0, 0, _) => Ok(()),
            (0, libc::ENETDOWN, Some(name)) => Err(SourceError::Down { name: name.clone() }),
            (0, code, _) => Err(SourceError::Kernel {
                action: "go on",
                source: io::Error::from_raw_os_error(code),
            }),
            _ => Err(SourceError::Kernel {
                action: "ask for errors",
                source: io::Error::last_os_error(),
            }),
        }
    }
}

impl Source for Capture {
    fn next(&mut self) -> Result<Option<Captured<'_>>, SourceError> {
        self.next_timeout(self.wait)
    }

    fn losses(&self) -> Losses {
        // SAFETY: tpacket_stats_v3 is plain integers, for which zero is valid.
        let mut counts: libc::tpacket_stats_v3 = unsafe { MaybeUninit::zeroed().assume_init() };
        let mut length = size_of::<libc::tpacket_stats_v3>() as libc::socklen_t;
        // SAFETY: the pointers describe `counts` and `length`, which live through the call.
        let got = unsafe {
            let value = (&raw mut counts).cast::<c_void>();
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                value,
                &raw mut length,
            )
        };
        if got == 0 {
            // Reading sets the kernel's counters back to zero.
            self.dropped
                .set(self.dropped.get() + u64::from(counts.tp_drops));
        }
        Losses {
            dropped: self.dropped.get(),
            truncated: self.truncated,
            ..Losses::default()
        }
    }
}

/// The link layer of a hardware type (`linux/if_arp.h`), with its link type number; `u32::MAX` where it has none here.
fn link(hardware: u16) -> (Option<Link>, u32) {
    const RAWIP: u16 = 519;
    const IPV4_TUNNEL: u16 = 768;
    const IPV6_TUNNEL: u16 = 769;
    const SIT: u16 = 776;
    const GRE: u16 = 778;
    const GRE6: u16 = 823;
    match hardware {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => (Some(Link::Ethernet), 1),
        // Devices without a link header, among them tun and WireGuard, give the IP packet itself.
        libc::ARPHRD_NONE
        | libc::ARPHRD_PPP
        | RAWIP
        | IPV4_TUNNEL
        | IPV6_TUNNEL
        | SIT
        | GRE
        | GRE6 => (Some(Link::RawIp), 101),
        libc::ARPHRD_IEEE80211 => (None, 105),
        libc::ARPHRD_IEEE80211_RADIOTAP => (None, 127),
        _ => (None, u32::MAX),
    }
}

/// The direction of an `sll_pkttype`; `None` for what passes between others.
fn direction(packet_type: u8) -> Option<Direction> {
    match packet_type {
        libc::PACKET_HOST | libc::PACKET_BROADCAST | libc::PACKET_MULTICAST => Some(Direction::In),
        libc::PACKET_OUTGOING => Some(Direction::Out),
        _ => None,
    }
}

fn option<T>(
    fd: &OwnedFd,
    name: c_int,
    value: &T,
    action: &'static str,
) -> Result<(), SourceError> {
    let (pointer, length) = (
        std::ptr::from_ref(value).cast::<c_void>(),
        size_of::<T>() as libc::socklen_t,
    );
    // SAFETY: pointer and length describe `value`, which lives through the call.
    if unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, name, pointer, length) } < 0 {
        return Err(SourceError::Kernel {
            action,
            source: io::Error::last_os_error(),
        });
    }
    Ok(())
}
