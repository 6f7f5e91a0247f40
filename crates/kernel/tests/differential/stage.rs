//! Three namespaces: packets are sent from one, decided in the middle, and seen to arrive in the middle or in the third.
#![allow(unsafe_code, reason = "raw sockets are opened and read through libc")]

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use kernel::nft::{Context, HandUp, Slot};
use lab::{Mouth, Netns};
use policy::{AddressSet, Direction, Plan};

use crate::packets::{Generated, PROTOCOLS, number_of};

pub(crate) struct Stage {
    _outside: Netns,
    pub(crate) firewall: Netns,
    /// Sends frames from outside.
    sender: OwnedFd,
    gateway: [u8; 6],
    /// Send from the firewall itself, headers and all: IPv4, IPv6.
    own: Mouth,
    /// See what comes to the firewall itself, after its `input` hook.
    arrived: Vec<(OwnedFd, bool)>,
    /// Sees what was forwarded.
    behind: OwnedFd,
    _behind: Netns,
    _untagging: OwnedFd,
}

/// How long, over all packets, those that are expected are waited for; and how long between two looks.
const PATIENCE: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(2);

/// What came out, by packet number.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) numbers: HashSet<u32>,
    /// Sources that were told "no": by RST, or by ICMP "administratively prohibited".
    pub(crate) told: HashSet<u32>,
}

fn fd(raw: libc::c_int) -> io::Result<OwnedFd> {
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call that gave `raw` succeeded, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn large_buffer(socket: &OwnedFd) {
    let bytes: libc::c_int = 64 << 20;
    // SAFETY: the option's value is an int that lives for the call.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of::<libc::c_int>() as u32,
        );
    }
}

fn packet_socket(interface: &str) -> io::Result<OwnedFd> {
    let all = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: no pointers.
    let socket = fd(unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_NONBLOCK,
            i32::from(all),
        )
    })?;
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: all-zero is a valid sockaddr_ll, and `name` is a C string that lives for the call.
    let (mut address, index) = unsafe {
        (
            std::mem::zeroed::<libc::sockaddr_ll>(),
            libc::if_nametoindex(name.as_ptr()),
        )
    };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = all;
    address.sll_ifindex = index as i32;
    // SAFETY: the address is a sockaddr_ll of this size.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    large_buffer(&socket);
    Ok(socket)
}

impl Stage {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let (outside, firewall, behind) =
            (Netns::new("out")?, Netns::new("fw")?, Netns::new("in")?);
        lab::veth(
            &outside,
            "o0",
            &["10.220.0.2/24", "fd00:220::2/64"],
            &firewall,
            "f0",
            &["10.220.0.1/24", "fd00:220::1/64"],
        )?;
        lab::veth(
            &behind,
            "b0",
            &["10.221.0.2/24", "fd00:221::2/64"],
            &firewall,
            "g0",
            &["10.221.0.1/24", "fd00:221::1/64"],
        )?;
        firewall.sh(
            "ip addr add 10.200.0.1/32 dev lo; ip addr add 10.201.0.1/32 dev lo
             ip addr add fd00:200::1/128 dev lo; ip addr add fd00:201::1/128 dev lo
             for group in 0 1 2 3 4 5; do
               ip route add 10.$group.0.0/16 via 10.220.0.2
               ip -6 route add fd00:$group::/32 via fd00:220::2
             done
             ip neigh replace 10.221.0.9 lladdr 02:00:00:00:00:99 dev g0 nud permanent
             ip -6 neigh replace fd00:221::9 lladdr 02:00:00:00:00:99 dev g0 nud permanent
             ip route add 10.210.0.0/16 via 10.221.0.9; ip -6 route add fd00:210::/32 via fd00:221::9
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
             sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.f0.rp_filter=0
             sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv4.icmp_msgs_per_sec=1000000 net.ipv4.icmp_msgs_burst=1000000
             # Fragments with two ends make datagrams with a wrong checksum, which the engine does not judge.
             sysctl -qw net.netfilter.nf_conntrack_checksum=0
             # What is never whole is held for a minute, over many rounds.
             sysctl -qw net.ipv4.ipfrag_high_thresh=1000000000 net.netfilter.nf_conntrack_frag6_high_thresh=1000000000
             ethtool -K f0 gro off >/dev/null 2>&1; true",
        )?;
        let untagging = firewall.enter(|| crate::vlan::pop_tags("f0"))??;
        let gateway = firewall.sh(r"ip -o link show f0 | sed 's/.*ether \([0-9a-f:]*\).*/\1/'")?;
        let mut address = [0; 6];
        for (byte, text) in address.iter_mut().zip(gateway.trim().split(':')) {
            *byte = u8::from_str_radix(text, 16)?;
        }
        let sender = outside.enter(|| packet_socket("o0"))??;
        let arrived = firewall.enter(|| -> io::Result<Vec<(OwnedFd, bool)>> {
            let mut protocols = PROTOCOLS.to_vec();
            protocols.sort_unstable();
            protocols.dedup();
            let mut sockets = Vec::new();
            for (family, v6) in [(libc::AF_INET, false), (libc::AF_INET6, true)] {
                for protocol in &protocols {
                    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK;
                    // SAFETY: no pointers.
                    let socket = fd(unsafe { libc::socket(family, kind, i32::from(*protocol)) })?;
                    large_buffer(&socket);
                    sockets.push((socket, v6));
                }
            }
            Ok(sockets)
        })??;
        let own = Mouth::open(&firewall, 0)?;
        let watch = behind.enter(|| packet_socket("b0"))??;
        Ok(Self {
            _outside: outside,
            firewall,
            sender,
            gateway: address,
            own,
            arrived,
            behind: watch,
            _behind: behind,
            _untagging: untagging,
        })
    }

    /// Puts a plan in force, with no flow known.
    pub(crate) fn apply(&self, plan: &Plan, bans: &[ipnet::IpNet]) -> anyhow::Result<()> {
        let none = AddressSet::default();
        let context = Context {
            protected: &none,
            queues: None,
            hand_up: HandUp::Mark,
            log_group: 117,
            slot: Slot::default(),
        };
        let script = kernel::nft::compile(plan, &context)?;
        let file = tempfile::NamedTempFile::new()?;
        let path = file.path().to_string_lossy().into_owned();
        let destroyed = self
            .firewall
            .output("nft", &["delete", "table", "inet", "portcullis"])?;
        drop(destroyed);
        std::fs::write(file.path(), &script.text)?;
        self.firewall.run("nft", &["-f", &path])?;
        for ban in bans {
            let set = match (
                ban.addr().is_ipv4(),
                ban.prefix_len() == ban.max_prefix_len(),
            ) {
                (true, true) => "ban4",
                (true, false) => "bannet4",
                (false, true) => "ban6",
                (false, false) => "bannet6",
            };
            let what = if ban.prefix_len() == ban.max_prefix_len() {
                ban.addr().to_string()
            } else {
                ban.to_string()
            };
            self.firewall.sh(&format!(
                "nft 'add element inet portcullis {set} {{ {what} timeout 1h }}'"
            ))?;
        }
        self.firewall.sh("conntrack -F 2>/dev/null; true")?;
        Ok(())
    }

    /// Puts in force what tracks connections and lets everything pass: what does not come out then, the network stack
    /// itself throws away, whatever the policy.
    pub(crate) fn open(&self) -> anyhow::Result<()> {
        self.firewall.sh(
            "nft 'add table inet open; add chain inet open every { type filter hook prerouting priority 0;
}
             add rule inet open every ct state new accept'; conntrack -F 2>/dev/null; true",
        )?;
        Ok(())
    }

    /// Ends [`Stage::open`].
    pub(crate) fn close(&self) -> anyhow::Result<()> {
        self.firewall
            .run("nft", &["delete", "table", "inet", "open"])?;
        Ok(())
    }

    /// Sends the packets and says which came out. Waits for those that are `expected` to, so that a busy machine loses none.
    pub(crate) fn send(&self, packets: &[Generated], expected: &Seen) -> io::Result<Seen> {
        let mut seen = Seen::default();
        let mut patience = PATIENCE;
        for chunk in packets.chunks(64) {
            for generated in chunk {
                for bytes in &generated.packets {
                    if generated.direction == Direction::Out {
                        self.own.send(bytes);
                        continue;
                    }
                    let frame = generated.frame(bytes, self.gateway);
                    // SAFETY: the buffer lives for the call and has this length.
                    let sent = unsafe {
                        libc::send(
                            self.sender.as_raw_fd(),
                            frame.as_ptr().cast(),
                            frame.len(),
                            0,
                        )
                    };
                    if sent < 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
            }
            self.drain(&mut seen);
            let came = |seen: &Seen| {
                chunk.iter().all(|one| {
                    (!expected.numbers.contains(&one.number) || seen.numbers.contains(&one.number))
                        && (!expected.told.contains(&one.number) || seen.told.contains(&one.number))
                })
            };
            while !came(&seen) && !patience.is_zero() {
                std::thread::sleep(STEP);
                patience = patience.saturating_sub(STEP);
                self.drain(&mut seen);
            }
        }
        // What the kernel put off to its own thread.
        for _ in 0..20 {
            std::thread::sleep(STEP);
            self.drain(&mut seen);
        }
        Ok(seen)
    }

    fn drain(&self, seen: &mut Seen) {
        let mut buffer = vec![0; 65_536];
        for (socket, v6) in &self.arrived {
            while let Some((bytes, from)) = receive(socket, &mut buffer) {
                let source = if *v6 { from } else { source_of(bytes) };
                seen.numbers.extend(source.and_then(number_of));
            }
        }
        while let Some((bytes, _)) = receive(&self.behind, &mut buffer) {
            seen.numbers
                .extend(bytes.get(14..).and_then(source_of).and_then(number_of));
        }
        while let Some((bytes, _)) = receive(&self.sender, &mut buffer) {
            seen.told.extend(told(bytes));
        }
    }

    pub(crate) fn describe(&self) -> String {
        self.firewall
            .run("nft", &["list", "table", "inet", "portcullis"])
            .unwrap_or_default()
    }
}

/// Who was told "no" by this frame, which left the firewall to the outside.
fn told(frame: &[u8]) -> Option<u32> {
    let at = if frame.get(12..14)? == [0x81, 0] {
        18
    } else {
        14
    };
    let Ok(wire::Frame::Ip(packet)) =
        wire::parse(wire::Link::RawIp, frame.get(at..)?, frame.len() - at)
    else {
        return None;
    };
    let no = match packet.transport() {
        wire::Transport::Tcp(tcp) => tcp.flags().rst(),
        wire::Transport::Icmp(icmp) if icmp.is_v6() => (icmp.kind(), icmp.code()) == (1, 1),
        wire::Transport::Icmp(icmp) => icmp.kind() == 3 && matches!(icmp.code(), 9 | 10 | 13),
        _ => false,
    };
    no.then(|| number_of(packet.destination())).flatten()
}

fn source_of(packet: &[u8]) -> Option<std::net::IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(std::net::Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?).into()),
        6 => Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?).into()),
        _ => None,
    }
}

/// One datagram, and its sender where that is an IPv6 address.
fn receive<'a>(
    socket: &OwnedFd,
    buffer: &'a mut [u8],
) -> Option<(&'a [u8], Option<std::net::IpAddr>)> {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_storage>() as u32;
    // SAFETY: buffer and address live for the call and have these sizes.
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
    let got = usize::try_from(got).ok()?;
    let from = (i32::from(address.ss_family) == libc::AF_INET6).then(|| {
        // SAFETY: the family says that it is a sockaddr_in6, which fits into the storage.
        let address = unsafe { *(&raw const address).cast::<libc::sockaddr_in6>() };
        std::net::Ipv6Addr::from(address.sin6_addr.s6_addr).into()
    });
    Some((&buffer[..got], from))
}
