//! This host on the network: the names of its interfaces, its own addresses, its gateways and its resolvers.
//!
//! What may never be banned by mistake starts from these ([`host_addresses`], refreshed when [`Changes`] says so). Leases, NTP
//! servers and the sessions of administrators are not looked for here.
#![allow(
    unsafe_code,
    reason = "interface names are asked for by ioctl, which has no safe interface"
)]

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use ipnet::IpNet;
use policy::Timestamp;

use crate::netlink::{Attributes, Builder, Message, NetlinkError, ReceiveBatch, Socket};

/// Names of interfaces by index, asked again after a second since they can be renamed.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<u32, (Timestamp, Option<Box<str>>)>,
}

impl Names {
    const FRESH: Duration = Duration::from_secs(1);
    /// Interfaces come and go where containers do; their indices are never used again.
    const MOST: usize = 4096;

    /// The name of an interface in the network namespace of `socket` (any socket, which need not be the calling thread's);
    /// `None` where there is none, and for index 0. One that is gone keeps its last name.
    pub fn name(&mut self, socket: BorrowedFd<'_>, index: u32, now: Timestamp) -> Option<&str> {
        if self.known.len() >= Self::MOST && !self.known.contains_key(&index) {
            self.known.clear();
        }
        let (asked, name) = self
            .known
            .entry(index)
            .or_insert_with(|| (now, interface_name(socket, index)));
        if now.since(*asked) > Self::FRESH {
            *name = interface_name(socket, index).or_else(|| name.take());
            *asked = now;
        }
        name.as_deref()
    }
}

/// The name of an interface in the namespace of `socket`.
fn interface_name(socket: BorrowedFd<'_>, index: u32) -> Option<Box<str>> {
    // SAFETY: ifreq is integers and bytes, for which zero is valid.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    request.ifr_ifru.ifru_ifindex = index.cast_signed();
    // SAFETY: SIOCGIFNAME reads the index from and writes the name to the ifreq, which lives through the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFNAME, &raw mut request) } < 0 {
        return None;
    }
    let name = request.ifr_name.map(|byte| byte.cast_unsigned());
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(name).into())
}

/// The index of an interface in the namespace of `socket`; `None` where there is none of that name.
pub(crate) fn interface_index(socket: BorrowedFd<'_>, name: &str) -> Option<u32> {
    // SAFETY: ifreq is integers and bytes, for which zero is valid.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: SIOCGIFINDEX reads the zero-terminated name from and writes the index to the ifreq, which lives through the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX, &raw mut request) } < 0 {
        return None;
    }
    // SAFETY: the kernel has just written this member of the union, and any bits are an integer.
    u32::try_from(unsafe { request.ifr_ifru.ifru_ifindex }).ok()
}

/// What this host is and depends on, each sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAddresses {
    /// Its own addresses on all interfaces, with the length of their network's prefix.
    pub own: Vec<IpNet>,
    /// The next hops of its routes.
    pub gateways: Vec<IpAddr>,
    /// Its DNS servers.
    pub resolvers: Vec<IpAddr>,
}

/// Why the host's addresses are not known.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel does not tell.
    #[error("cannot list addresses and routes: {0}")]
    Netlink(#[from] NetlinkError),
    /// The resolver's configuration cannot be read.
    #[error("cannot read {path}: {source}; name your resolvers in [protect] until it can be read")]
    Resolvers {
        /// The file.
        path: &'static str,
        /// Why it cannot.
        source: io::Error,
    },
}

/// Asks the kernel of the calling thread's network namespace, and the resolver's configuration.
///
/// # Errors
/// Either does not answer; a host without a resolver configuration has no resolvers.
pub fn host_addresses() -> Result<HostAddresses, HostError> {
    let mut socket = Socket::open(libc::NETLINK_ROUTE)?;
    let mut own = BTreeSet::new();
    dump(&mut socket, libc::RTM_GETADDR, 8, &mut |message| {
        own.extend(own_address(message))
    })?;
    let mut gateways = BTreeSet::new();
    dump(&mut socket, libc::RTM_GETROUTE, 12, &mut |message| {
        gateways.extend(next_hops(message))
    })?;
    let mut resolvers = BTreeSet::new();
    // The second holds what stands behind the stub resolver 127.0.0.53 that the first names.
    for path in ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] {
        match std::fs::read_to_string(path) {
            Ok(text) => resolvers.extend(parse_resolvers(&text)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(HostError::Resolvers { path, source }),
        }
    }
    Ok(HostAddresses {
        own: own.into_iter().collect(),
        gateways: gateways.into_iter().collect(),
        resolvers: resolvers.into_iter().collect(),
    })
}

/// The servers that a `resolv.conf` names, in its order; scopes (`%eth0`) are cut off, and what is no address is passed over.
#[must_use]
pub fn parse_resolvers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        words.next()?.split('%').next()?.parse().ok()
    };
    text.lines().filter_map(server).collect()
}

/// Tells when addresses or routes change, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Changes {
    socket: Socket,
    batch: ReceiveBatch,
}

impl Changes {
    /// Begins to listen.
    ///
    /// # Errors
    /// The kernel has no routing netlink.
    pub fn open() -> Result<Changes, NetlinkError> {
        let socket = Socket::open(libc::NETLINK_ROUTE)?;
        for group in [
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV6_IFADDR,
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_ROUTE,
        ] {
            socket.join(group.cast_signed())?;
        }
        Ok(Changes {
            socket,
            batch: ReceiveBatch::new(16, 4096),
        })
    }

    /// Did anything change since the last call? Waits for it up to `timeout`.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn changed(&mut self, timeout: Duration) -> Result<bool, NetlinkError> {
        match self.socket.receive_batch(&mut self.batch, timeout) {
            Ok(count) => Ok(count > 0),
            // More changed than fits: that something did is all that is asked.
            Err(NetlinkError::Overrun) => Ok(true),
            Err(why) => Err(why),
        }
    }
}

/// Lists all objects of a kind; `header` is the length of the request's fixed part.
fn dump(
    socket: &mut Socket,
    kind: u16,
    header: usize,
    each: &mut dyn FnMut(&Message<'_>),
) -> Result<(), NetlinkError> {
    let mut request = Builder::new();
    request
        .message(kind, libc::NLM_F_DUMP as u16)
        .raw(&vec![0; header]);
    let request = request.finish()?;
    for _ in 0..5 {
        match socket.dump(&request, |message| each(&message)) {
            // What is listed twice is kept once.
            Err(NetlinkError::Changed) => {}
            done => return done,
        }
    }
    Err(NetlinkError::Changed)
}

/// The address of an `RTM_NEWADDR`.
fn own_address(message: &Message<'_>) -> Option<IpNet> {
    let length = *message.payload.get(1)?;
    let attributes = message.attributes(8);
    // On a point-to-point link IFA_ADDRESS is the other end's, and IFA_LOCAL ours.
    let address = attributes
        .get(libc::IFA_LOCAL)
        .or_else(|| attributes.get(libc::IFA_ADDRESS))?;
    IpNet::new(address_of(address.value)?, length).ok()
}

/// The gateways of an `RTM_NEWROUTE`: its own, or those of each path.
fn next_hops(message: &Message<'_>) -> Vec<IpAddr> {
    let attributes = message.attributes(12);
    let mut found: Vec<IpAddr> = gateway(attributes).into_iter().collect();
    let mut paths = attributes
        .get(libc::RTA_MULTIPATH)
        .map_or(&[][..], |paths| paths.value);
    // rtnexthop: length, flags, hops, interface; then attributes.
    while let Some(length) = paths
        .first_chunk()
        .map(|length| usize::from(u16::from_ne_bytes(*length)))
    {
        let Some(inside) = paths.get(8..length) else {
            break;
        };
        found.extend(gateway(Attributes::new(inside)));
        paths = paths.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn gateway(attributes: Attributes<'_>) -> Option<IpAddr> {
    const VIA: u16 = 18; // RTA_VIA: a gateway of the other family, after two bytes that name it
    let direct = attributes
        .get(libc::RTA_GATEWAY)
        .and_then(|gateway| address_of(gateway.value));
    direct.or_else(|| address_of(attributes.get(VIA)?.value.get(2..)?))
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_from_the_usual_lines() {
        let text = "# nameserver 9.9.9.9\nsearch example\nnameserver 192.0.2.53\n  nameserver\tfe80::1%eth0 \nnameserver nonsense\noptions edns0\nnameserver\n";
        let expected: [IpAddr; 2] = [
            Ipv4Addr::new(192, 0, 2, 53).into(),
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(),
        ];
        assert_eq!(parse_resolvers(text), expected);
    }
}
