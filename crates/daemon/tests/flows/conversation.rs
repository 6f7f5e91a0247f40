//! Generated conversations: what two hosts say to each other over a firewall, packet by packet, and what others throw in.
//!
//! Each has hosts of its own beside the firewall, so that conversations change nothing for each other but where a policy counts sources.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use policy::Direction;

use crate::datagram::{Body, Cut, Datagram};
use crate::random::Random;
use crate::stage::{OWN, Place, direction};
use crate::talk::Talk;

/// Hosts outside are `10.G.x.y` and `fd00:G::…`.
pub(crate) const GROUPS: u32 = 6;
/// Ports that conversations and rules share.
pub(crate) const PORTS: [u16; 6] = [22, 53, 80, 443, 4_000, 8_080];

/// The side that begins, and the side that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    /// Where client and server are, and who.
    pub(crate) places: [Place; 2],
    pub(crate) hosts: [IpAddr; 2],
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// What is done before the packet is sent.
    pub(crate) act: Option<Act>,
    pub(crate) from: Side,
    pub(crate) datagram: Datagram,
    /// Whether no receiver would take it, by its sequence numbers.
    pub(crate) is_outside_window: bool,
    pub(crate) what: String,
}

/// What an administrator does in the midst of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Ban(IpNet),
    Unban(IpNet),
}

/// What may happen in conversations.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flavour {
    /// Segments that belong nowhere.
    pub(crate) is_wild: bool,
    /// All other segments are such as their receiver would take them.
    pub(crate) is_exact: bool,
    /// What goes to port 53 asks for names.
    pub(crate) asks_names: bool,
    /// Bans come and go.
    pub(crate) has_bans: bool,
    /// Connections are reset.
    pub(crate) has_resets: bool,
}

impl Conversation {
    pub(crate) fn place(&self, side: Side) -> Place {
        self.places[side as usize]
    }

    pub(crate) fn host(&self, side: Side) -> IpAddr {
        self.hosts[side as usize]
    }

    /// Which way the packets of a side go, and the interface that rules see.
    pub(crate) fn way(&self, from: Side) -> (Direction, &'static str) {
        let (here, there) = (self.place(from), self.place(from.other()));
        let way = direction(here, there);
        let interface = match way {
            Direction::Out => there.interface(),
            Direction::In | Direction::Forward => here.interface(),
        };
        (way, interface)
    }

    pub(crate) fn generate(number: u32, flavour: Flavour, random: &mut Random) -> Self {
        let is_v6 = random.once_in(2);
        let stranger = stranger(number, is_v6);
        let own: IpAddr = OWN[usize::from(is_v6)].parse().unwrap();
        let behind = host_behind(number, is_v6);
        let (places, hosts) = match random.below(6) {
            0 | 1 => ([Place::Outside, Place::Firewall], [stranger, own]),
            2 => ([Place::Firewall, Place::Outside], [own, stranger]),
            3 => ([Place::Firewall, Place::Behind], [own, behind]),
            4 => ([Place::Outside, Place::Behind], [stranger, behind]),
            _ => ([Place::Behind, Place::Outside], [behind, stranger]),
        };
        let mut this = Self {
            places,
            hosts,
            steps: Vec::new(),
        };
        // A reset is believed by its number alone, which takes the window: with a ban the kernel's follows one side alone.
        let is_banned = flavour.has_bans && random.once_in(2);
        let flavour = Flavour {
            has_resets: flavour.has_resets && !is_banned,
            ..flavour
        };
        let ports = [40_000 + (number % 20_000) as u16, random.pick(&PORTS)];
        match random.below(10) {
            0 | 2 => this.datagrams(ports, flavour, random),
            1 => this.echoes(number as u16, random),
            _ => Talk::new(&mut this, ports, flavour).generate(random),
        }
        this.throw_in(random);
        if is_banned {
            this.ban(random);
        }
        this
    }

    pub(crate) fn push(&mut self, from: Side, body: Body, what: String) {
        let datagram = Datagram {
            source: self.host(from),
            destination: self.host(from.other()),
            body,
            cut: None,
        };
        self.steps.push(Step {
            act: None,
            from,
            datagram,
            is_outside_window: false,
            what,
        });
    }

    /// Questions and answers over UDP, in any order.
    fn datagrams(&mut self, [client, server]: [u16; 2], flavour: Flavour, random: &mut Random) {
        for _ in 0..2 + random.below(8) {
            let (from, ports) = if random.once_in(2) {
                (Side::Client, [client, server])
            } else {
                (Side::Server, [server, client])
            };
            let length = random.pick(&[0_usize, 1, 30, 400]);
            let mut payload = alphabet(length);
            if flavour.asks_names && server == 53 && !random.once_in(6) {
                // The tag stands for the message's number.
                payload = question(random).split_off(2);
            }
            self.push(from, Body::Udp { ports, payload }, format!("UDP {length}"));
        }
    }

    fn echoes(&mut self, identifier: u16, random: &mut Random) {
        for _ in 0..2 + random.below(6) {
            let from = random.pick(&[Side::Client, Side::Client, Side::Server]);
            let is_reply = random.once_in(if from == Side::Client { 6 } else { 2 });
            // A reply to another question than was asked.
            let identifier = identifier ^ u16::from(random.once_in(8));
            let body = Body::Echo {
                is_reply,
                identifier,
            };
            self.push(from, body, format!("echo reply {is_reply} {identifier}"));
        }
    }

    /// Fragments and ICMP errors, here and there.
    fn throw_in(&mut self, random: &mut Random) {
        for step in &mut self.steps {
            if random.once_in(12) {
                step.datagram.cut = Some(Cut {
                    // Behind the TCP header, so that the first piece shows whose it is.
                    at: 40 + 8 * random.below(8) as usize,
                    is_last_first: random.once_in(2),
                });
                step.what.push_str(", cut");
            }
        }
        let mut place = 0;
        while place < self.steps.len() {
            if random.once_in(10) {
                let error = self.error(place, random);
                self.steps.insert(
                    place
                        + 1
                        + random.below(2) as usize * usize::from(place + 1 < self.steps.len()),
                    error,
                );
                place += 1;
            }
            place += 1;
        }
    }

    /// An ICMP error about a packet, from its receiver or a router on the way.
    fn error(&self, place: usize, random: &mut Random) -> Step {
        let about = &self.steps[place];
        let from = about.from.other();
        let is_v6 = about.datagram.source.is_ipv6();
        let mut quoted = about.datagram.clone();
        quoted.cut = None;
        let mut bytes = quoted.packets(1).remove(0);
        let kind = if is_v6 {
            random.pick(&[(1, 4), (1, 0), (1, 3), (3, 0), (4, 0)])
        } else {
            random.pick(&[(3, 3), (3, 0), (3, 1), (11, 0), (12, 0)])
        };
        let mut what = format!("ICMP {kind:?} about \"{}\"", about.what);
        let header = if is_v6 { 40 } else { 20 };
        match random.below(8) {
            // What RFC 792 promises at least.
            0 => bytes.truncate(header + 8),
            1 => {
                bytes.truncate(header + 3);
                what.push_str(", cut short");
            }
            2 => {
                bytes[header] ^= 1;
                what.push_str(", of another port");
            }
            _ => bytes.truncate(header + 100),
        }
        let router = self.place(from) != Place::Firewall && random.once_in(2);
        let source = if router {
            what.push_str(", from a router");
            match (self.place(from), is_v6) {
                (Place::Behind, false) => "10.210.9.9",
                (Place::Behind, true) => "fd00:210::9:9",
                (_, false) => "10.0.250.250",
                (_, true) => "fd00:0::250:250",
            }
            .parse()
            .unwrap()
        } else {
            about.datagram.destination
        };
        Step {
            act: None,
            from,
            datagram: Datagram {
                source,
                destination: about.datagram.source,
                body: Body::Error {
                    kind: kind.0,
                    code: kind.1,
                    quoted: bytes,
                },
                cut: None,
            },
            is_outside_window: false,
            what,
        }
    }

    /// One of the two is banned under way, and perhaps pardoned.
    fn ban(&mut self, random: &mut Random) {
        let remote = [Side::Client, Side::Server]
            .into_iter()
            .filter(|&side| self.place(side) != Place::Firewall)
            .map(|side| self.host(side))
            .collect::<Vec<_>>();
        let prefix = IpNet::from(random.pick(&remote));
        let count = self.steps.len() as u32;
        if count == 0 {
            return;
        }
        let first = random.below(count);
        self.steps[first as usize].act = Some(Act::Ban(prefix));
        let last = first + 1 + random.below(4);
        if random.once_in(2) && last < count {
            self.steps[last as usize].act = Some(Act::Unban(prefix));
        }
    }
}

/// So many letters.
pub(crate) fn alphabet(length: usize) -> Vec<u8> {
    (0..length).map(|place| b'a' + (place % 26) as u8).collect()
}

/// A question to a name server.
pub(crate) fn question(random: &mut Random) -> Vec<u8> {
    let mut bytes = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    let name = random.pick(&[
        "ads.example",
        "good.example",
        "good.example",
        "x.below.example",
        "below.example",
        "a-somewhat-longer-name.with.some-more-parts.in.it.example",
    ]);
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, random.pick(&[1, 28, 15]), 0, 1]);
    bytes
}

/// The host outside of a number.
pub(crate) fn stranger(number: u32, is_v6: bool) -> IpAddr {
    let group = number % GROUPS;
    if is_v6 {
        let [high, low] = [(number >> 16) as u16, number as u16];
        Ipv6Addr::new(0xfd00, group as u16, 0, low, 0, 0, high, 1).into()
    } else {
        Ipv4Addr::new(10, group as u8, (number >> 8) as u8, number as u8).into()
    }
}

/// The host behind the firewall of a number.
fn host_behind(number: u32, is_v6: bool) -> IpAddr {
    if is_v6 {
        Ipv6Addr::new(0xfd00, 0x210, 0, number as u16, 0, 0, 0, 2).into()
    } else {
        Ipv4Addr::new(10, 210, (number >> 8) as u8, number as u8).into()
    }
}
