//! This host on the network: the names of its interfaces, its own addresses, its gateways, its resolvers, and the networks of its
//! containers.
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
    /// The networks of the bridges that containers and virtual machines of this host hang on.
    pub guests: Vec<IpNet>,
}

/// How programs name the bridges that they make for containers and virtual machines: Docker, Podman (netavark and CNI), LXC, LXD,
/// Incus, libvirt, nerdctl, Kubernetes' CNI plugins. A bridge of another name may as well carry the uplink, and with it the whole
/// neighbourhood.
const GUEST_BRIDGES: [&str; 9] = [
    "docker", "podman", "cni", "cbr", "lxcbr", "lxdbr", "incusbr", "virbr", "nerdctl",
];

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
    let mut bridges = BTreeSet::new();
    dump(&mut socket, libc::RTM_GETLINK, 16, &mut |message| {
        bridges.extend(guest_bridge(message))
    })?;
    let (mut own, mut guests) = (BTreeSet::new(), BTreeSet::new());
    dump(&mut socket, libc::RTM_GETADDR, 8, &mut |message| {
        let Some(address) = own_address(message) else {
            return;
        };
        own.insert(address);
        // ifaddrmsg: family, prefix length, flags, scope, interface.
        let interface = message
            .payload
            .get(4..8)
            .and_then(|index| index.first_chunk());
        let is_bridge =
            interface.is_some_and(|index| bridges.contains(&u32::from_ne_bytes(*index)));
        // A link-local network is the same one on every link.
        let is_local = matches!(address, IpNet::V6(v6) if v6.addr().is_unicast_link_local());
        if is_bridge && !is_local {
            guests.insert(address.trunc());
        }
    })?;
    let mut gateways = BTreeSet::new();
    dump(&mut socket, libc::RTM_GETROUTE, 12, &mut |message| {
        gateways.extend(next_hops(message))
    })?;
    // Routes name next-hop objects alone where net.ipv4.nexthop_compat_mode is off. Kernels before 5.3 have none.
    let next_hops = dump(&mut socket, RTM_GETNEXTHOP, 8, &mut |message| {
        let gateway = message.attributes(8).get(NHA_GATEWAY);
        gateways.extend(gateway.and_then(|gateway| address_of(gateway.value)));
    });
    where_known(next_hops)?;
    let mut resolvers = BTreeSet::new();
    for path in RESOLVERS {
        resolvers.extend(resolvers_of(path)?);
    }
    Ok(HostAddresses {
        own: own.into_iter().collect(),
        gateways: gateways.into_iter().collect(),
        resolvers: resolvers.into_iter().collect(),
        guests: guests.into_iter().collect(),
    })
}

/// Where servers are named: of all; behind the stub resolver 127.0.0.53 that the first may name; and where NetworkManager keeps what
/// it would have written there.
const RESOLVERS: [&str; 4] = [
    "/etc/resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
];

/// The servers that a file names; none where there is no such file. What cannot be read is not taken for nothing: who is not known
/// to be a resolver can be banned.
fn resolvers_of(path: &'static str) -> Result<Vec<IpAddr>, HostError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(parse_resolvers(&text)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(HostError::Resolvers { path, source }),
    }
}

/// An outcome, where a kernel that does not know what it was asked for has nothing to tell.
fn where_known(outcome: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match outcome {
        Err(NetlinkError::Socket { ref source, .. } | NetlinkError::Refused { ref source, .. })
            if matches!(source.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL)) =>
        {
            Ok(())
        }
        other => other,
    }
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
        // Kernels before 5.3 have no next-hop objects that could change.
        where_known(socket.join(libc::RTNLGRP_NEXTHOP.cast_signed()))?;
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

/// `include/uapi/linux/rtnetlink.h`.
const RTM_GETNEXTHOP: u16 = 106;
/// The gateway of a next-hop object (`include/uapi/linux/nexthop.h`).
const NHA_GATEWAY: u16 = 6;

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

/// The index of an `RTM_NEWLINK` that is a bridge for containers or virtual machines.
fn guest_bridge(message: &Message<'_>) -> Option<u32> {
    // ifinfomsg: family, padding, type (2), interface.
    let index = u32::from_ne_bytes(*message.payload.get(4..8)?.first_chunk()?);
    let attributes = message.attributes(16);
    let name = attributes.get(libc::IFLA_IFNAME)?.string();
    let about = attributes.get(libc::IFLA_LINKINFO)?;
    let kind = about.nested().get(libc::IFLA_INFO_KIND)?.string();
    (kind == "bridge" && is_guest_bridge(name)).then_some(index)
}

fn is_guest_bridge(name: &str) -> bool {
    // Docker calls those of its other networks by the first 12 digits of the network's number; `br-lan` is something else.
    let of_docker = name
        .strip_prefix("br-")
        .is_some_and(|rest| rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    of_docker || GUEST_BRIDGES.iter().any(|known| name.starts_with(known))
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
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
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

    #[test]
    fn a_list_of_resolvers_that_is_there_and_cannot_be_read_is_not_taken_for_none() {
        let servers = |path| resolvers_of(path).map_err(|why| why.to_string());
        assert_eq!(servers("/proc/self/nothing"), Ok(Vec::new()));
        let why = servers("/proc/self").unwrap_err();
        assert!(why.starts_with("cannot read /proc/self: "), "{why}");
    }

    #[test]
    fn only_a_kernel_that_does_not_know_the_question_has_no_answer() {
        for (code, is_fine) in [
            (libc::EOPNOTSUPP, true),
            (libc::EINVAL, true),
            (libc::ENOBUFS, false),
            (libc::EPERM, false),
        ] {
            let refused = NetlinkError::Refused {
                index: 0,
                source: io::Error::from_raw_os_error(code),
                detail: String::new(),
                offset: None,
            };
            assert_eq!(where_known(Err(refused)).is_ok(), is_fine, "{code}");
        }
        assert!(where_known(Err(NetlinkError::Overrun)).is_err());
    }

    #[test]
    fn bridges_of_guests_are_known_by_name() {
        for (name, is_guests) in [
            ("docker0", true),
            ("docker_gwbridge", true),
            ("br-0123456789ab", true),
            ("br-lan", false),
            ("br0", false),
            ("vmbr0", false),
            ("podman1", true),
            ("cni-podman0", true),
            ("virbr0", true),
            ("lxdbr0", true),
            ("eth0", false),
        ] {
            assert_eq!(is_guest_bridge(name), is_guests, "{name}");
        }
    }
}
