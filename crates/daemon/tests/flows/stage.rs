//! Three namespaces: packets are sent from any of them by the one in the middle, and seen to arrive.
//!
//! One packet is under way at a time, and all is handled on one processor: a frame that is sent behind it and has arrived
//! proves that what has not come will not come.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use kernel::datapath::{Apply, Datapath as _, Queues};
use kernel::nflog::{self, Log};
use kernel::nfqueue::{self, Queue};
use kernel::nft::{Features, Nft};
use lab::{Ears, Mouth, Netns, Tap};
use policy::protocol::{ICMP, ICMPV6, TCP, UDP};
use policy::{AddressSet, Direction, Plan};
use wire::{Frame, Link, Transport};

use crate::datagram::{quoted_tag, tag};

/// The firewall's own addresses.
pub(crate) const OWN: [&str; 2] = ["10.200.0.1", "fd00:200::1"];
/// What packets that a test sends from the firewall bear: by it the answers of its own stack are kept apart, and silenced.
const MARK: u32 = 0x40;
/// Frames that are sent behind a packet (an Ethernet type for experiments: IEEE 802).
const MARKER: u16 = 0x88b5;
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Outside,
    Firewall,
    Behind,
}

impl Place {
    /// The firewall's interface to it.
    pub(crate) const fn interface(self) -> &'static str {
        match self {
            Self::Outside => "f0",
            Self::Firewall => "lo",
            Self::Behind => "g0",
        }
    }
}

/// Which way a packet goes.
pub(crate) fn direction(from: Place, to: Place) -> Direction {
    match (from, to) {
        (Place::Firewall, _) => Direction::Out,
        (_, Place::Firewall) => Direction::In,
        _ => Direction::Forward,
    }
}

impl Fate {
    pub(crate) fn add(&mut self, later: Self) {
        self.arrived += later.arrived;
        self.told += later.told;
        self.strange += later.strange;
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// It arrived where it was sent to, so many times.
    pub(crate) arrived: u32,
    /// Its sender was told "no": RST, or ICMP "administratively prohibited".
    pub(crate) told: u32,
    /// Whatever else came out.
    pub(crate) strange: u32,
}

pub(crate) struct Stage {
    pub(crate) firewall: Netns,
    pub(crate) nft: Nft,
    _others: [Netns; 2],
    outside: Tap,
    behind: Tap,
    /// The other ends of both wires, for markers.
    ends: [Tap; 2],
    gateways: [[u8; 6]; 2],
    mouth: Mouth,
    ears: Ears,
    /// What connection tracking complains of.
    log: Log,
    /// What the kernel hands up.
    pub(crate) queue: Queue,
    marker: u64,
}

impl Stage {
    pub(crate) fn new() -> Self {
        lab::stay_on_one_processor().unwrap();
        let [outside, firewall, behind] = ["out", "fw", "in"].map(|name| Netns::new(name).unwrap());
        let join = |netns: &Netns, here: &str, there: &str, net: u8| {
            let address = |host: u8| {
                [
                    format!("10.{net}.0.{host}/24"),
                    format!("fd00:{net}::{host}/64"),
                ]
            };
            let (one, two) = (address(2), address(1));
            lab::veth(
                netns,
                here,
                &[&one[0], &one[1]],
                &firewall,
                there,
                &[&two[0], &two[1]],
            )
            .unwrap();
        };
        join(&outside, "o0", "f0", 220);
        join(&behind, "b0", "g0", 221);
        firewall
            .sh("ip addr add 10.200.0.1/32 dev lo; ip addr add fd00:200::1/128 dev lo
             for net in 220:f0 221:g0; do
               dev=${net#*:}; net=${net%:*}
               ip neigh replace 10.$net.0.9 lladdr 02:00:00:00:00:99 dev $dev nud permanent
               ip -6 neigh replace fd00:$net::9 lladdr 02:00:00:00:00:99 dev $dev nud permanent
               ethtool -K $dev gro off >/dev/null 2>&1
             done
             for group in 0 1 2 3 4 5; do
               ip route add 10.$group.0.0/16 via 10.220.0.9
               ip -6 route add fd00:$group::/32 via fd00:220::9
             done
             ip route add 10.210.0.0/16 via 10.221.0.9; ip -6 route add fd00:210::/32 via fd00:221::9
             sysctl -qw net.netfilter.nf_log.2=nfnetlink_log net.netfilter.nf_log.10=nfnetlink_log
             sysctl -qw net.netfilter.nf_conntrack_log_invalid=255
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
             sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.f0.rp_filter=0 net.ipv4.conf.g0.rp_filter=0
             sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv4.icmp_msgs_per_sec=1000000 net.ipv4.icmp_msgs_burst=1000000
             sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.f0.send_redirects=0 net.ipv4.conf.g0.send_redirects=0
             nft 'add table inet mute
                  add chain inet mute out { type filter hook output priority -500; }
                  add rule inet mute out meta mark & 0xff == 0x40 accept
                  add rule inet mute out meta l4proto tcp ct state related accept
                  add rule inet mute out icmp type destination-unreachable icmp code 13 accept
                  add rule inet mute out icmpv6 type destination-unreachable icmpv6 code 1 accept
                  add rule inet mute out meta mark & 0x20000000 != 0 accept
                  add rule inet mute out drop'")
            .unwrap();
        let gateways = ["f0", "g0"].map(|interface| {
            let text = firewall
                .sh(&format!(
                    r"ip -o link show {interface} | sed 's/.*ether \([0-9a-f:]*\).*/\1/'"
                ))
                .unwrap();
            let mut address = [0; 6];
            for (byte, text) in address.iter_mut().zip(text.trim().split(':')) {
                *byte = u8::from_str_radix(text, 16).unwrap();
            }
            address
        });
        let tap = |netns, interface, kind| Tap::open(netns, interface, kind).unwrap();
        Self {
            nft: Nft::new(Features { queue: false }),
            outside: tap(&outside, "o0", None),
            behind: tap(&behind, "b0", None),
            ends: ["f0", "g0"].map(|interface| tap(&firewall, interface, Some(MARKER))),
            gateways,
            mouth: Mouth::open(&firewall, MARK).unwrap(),
            ears: Ears::open(&firewall, &[TCP, UDP, ICMP, ICMPV6]).unwrap(),
            log: firewall
                .enter(|| {
                    Log::open(&nflog::Settings {
                        group: 0,
                        gather: 1,
                        ..nflog::Settings::default()
                    })
                })
                .unwrap()
                .unwrap(),
            queue: firewall
                .enter(|| Queue::open(0, &nfqueue::Settings::default()))
                .unwrap()
                .unwrap(),
            marker: 0,
            _others: [outside, behind],
            firewall,
        }
    }

    pub(crate) fn with<R: Send>(&mut self, work: impl FnOnce(&mut Nft) -> R + Send) -> R {
        let nft = &mut self.nft;
        self.firewall.enter(|| work(nft)).unwrap()
    }

    /// Puts a plan in force, with no flow and no ban known. Bans with it those that it should.
    pub(crate) fn apply(&mut self, plan: &Plan, queues: Option<Queues>, bans: &[IpNet]) {
        let protected = AddressSet::default();
        let request = Apply {
            plan,
            protected: &protected,
            queues,
            goes_on: false,
        };
        let bans: Vec<_> = bans.iter().map(|&ban| (ban, None)).collect();
        self.with(|nft| {
            nft.remove().unwrap();
            nft.apply(&request).unwrap();
            if !bans.is_empty() {
                nft.bans_many(&bans).unwrap();
            }
        });
        self.forget_flows();
    }

    /// Makes the kernel forget every flow.
    pub(crate) fn forget_flows(&self) {
        self.firewall.sh("conntrack -F >/dev/null 2>&1").unwrap();
    }

    /// Whether connection tracking lets segments pass that are outside the window.
    pub(crate) fn be_liberal(&self, liberal: bool) {
        let value = if liberal { "1" } else { "0" };
        for name in ["tcp_be_liberal", "tcp_ignore_invalid_rst"] {
            self.firewall
                .sysctl(&format!("net.netfilter.nf_conntrack_{name}"), value)
                .unwrap();
        }
    }

    /// What connection tracking has complained of since it was asked last.
    pub(crate) fn complaints(&mut self) -> String {
        let mut texts = String::new();
        let mut each = |packet: &nflog::LogPacket<'_>| texts.push_str(packet.prefix);
        while self.log.receive(Duration::ZERO, &mut each).unwrap() > 0 {}
        texts
    }

    pub(crate) fn describe(&self) -> String {
        self.firewall
            .run("nft", &["list", "table", "inet", "portcullis"])
            .unwrap_or_default()
    }

    pub(crate) fn send(&self, from: Place, packet: &[u8]) {
        let (tap, gateway) = match from {
            Place::Firewall => return self.mouth.send(packet),
            Place::Outside => (&self.outside, self.gateways[0]),
            Place::Behind => (&self.behind, self.gateways[1]),
        };
        let kind = if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
        tap.send(&frame(gateway, kind, packet)).unwrap();
    }

    /// Waits until everything that was sent is dealt with, and says what became of the packet with a tag.
    pub(crate) fn fate(&mut self, number: u16, from: Place, to: Place) -> Fate {
        let mut fate = Fate::default();
        // What a packet brings about (it is forwarded, its sender is told) is queued behind the first marker.
        for _ in 0..2 {
            self.marker += 1;
            let marker = frame([0xff; 6], MARKER, &self.marker.to_be_bytes());
            let ways = [
                (&self.outside, &self.ends[0]),
                (&self.ends[0], &self.outside),
                (&self.behind, &self.ends[1]),
                (&self.ends[1], &self.behind),
            ];
            for (here, _) in ways {
                here.send(&marker).unwrap();
            }
            for (place, (_, there)) in [None, Some(Place::Outside), None, Some(Place::Behind)]
                .into_iter()
                .zip(ways)
            {
                let deadline = Instant::now() + PATIENCE;
                loop {
                    match there.receive() {
                        Some(frame) if frame == marker => break,
                        Some(frame) => {
                            if let Some(place) = place {
                                count(&mut fate, &frame, place, number, from, to);
                            }
                        }
                        None => assert!(Instant::now() < deadline, "a marker was lost"),
                    }
                }
            }
        }
        while let Some(heard) = self.ears.receive() {
            if heard.protocol == ICMPV6
                && heard
                    .transport
                    .first()
                    .is_some_and(|&kind| is_of_neighbours(kind))
            {
                continue;
            }
            let is_error = matches!(heard.protocol, ICMP | ICMPV6);
            let seen = Seen {
                tag: tag(heard.protocol, &heard.transport),
                is_refusal: match heard.protocol {
                    TCP => heard.transport.get(13).is_some_and(|flags| flags & 4 != 0),
                    _ => is_error && is_prohibited(&heard.transport, heard.protocol),
                },
                about: if is_error {
                    quoted_tag(heard.transport.get(8..).unwrap_or_default())
                } else {
                    0
                },
            };
            seen.count(&mut fate, Place::Firewall, number, from, to);
        }
        fate
    }
}

fn is_prohibited(transport: &[u8], protocol: u8) -> bool {
    transport.starts_with(if protocol == ICMP { &[3, 13] } else { &[1, 1] })
}

/// What neighbours say in ICMPv6 to find each other, whatever a test does.
fn is_of_neighbours(kind: u8) -> bool {
    (130..=143).contains(&kind)
}

fn frame(to: [u8; 6], kind: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend(kind.to_be_bytes());
    frame.extend(packet);
    frame
}

/// A packet that came out.
struct Seen {
    tag: u16,
    /// It may be what tells a sender "no".
    is_refusal: bool,
    /// The tag of what it quotes.
    about: u16,
}

impl Seen {
    fn count(&self, fate: &mut Fate, place: Place, number: u16, from: Place, to: Place) {
        // A RST of the kernel's has no tag, and quotes nothing.
        let is_told = self.about == number || (self.about, self.tag) == (0, 0);
        if place == to && self.tag == number {
            fate.arrived += 1;
        } else if place == from && self.is_refusal && is_told {
            fate.told += 1;
        } else {
            fate.strange += 1;
        }
    }
}

/// Counts a frame that left the firewall.
fn count(fate: &mut Fate, frame: &[u8], place: Place, number: u16, from: Place, to: Place) {
    let bytes = &frame[14..];
    let Ok(Frame::Ip(packet)) = wire::parse(Link::RawIp, bytes, bytes.len()) else {
        return;
    };
    // What follows the first of a datagram's fragments has no tag.
    if packet.fragment().is_some_and(|piece| piece.offset > 0) {
        return;
    }
    let transport = &bytes[packet.header_len()..];
    let (is_refusal, about) = match packet.transport() {
        Transport::Tcp(tcp) => (tcp.flags().rst(), 0),
        Transport::Icmp(icmp) if icmp.is_v6() && is_of_neighbours(icmp.kind()) => return,
        Transport::Icmp(icmp) => (
            is_prohibited(transport, packet.protocol()),
            if icmp.is_error() {
                quoted_tag(&transport[8..])
            } else {
                0
            },
        ),
        _ => (false, 0),
    };
    let seen = Seen {
        tag: tag(packet.protocol(), transport),
        is_refusal,
        about,
    };
    seen.count(fate, place, number, from, to);
}
