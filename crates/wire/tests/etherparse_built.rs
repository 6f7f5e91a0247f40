//! Packets built by etherparse, whole, cut and with flipped bits: wherever both parsers accept, they see the same.
#![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]

mod etherparse_oracle;
mod every_accessor;

use etherparse::{
    Ethernet2Header, IpAuthHeader, IpHeaders, IpNumber, Ipv4Header, Ipv6Extensions, Ipv6Header,
    Ipv6RawExtHeader, Ipv6RoutingExtensions, PacketBuilder, PacketBuilderStep, TcpHeader,
    VlanHeader, VlanId, ip_number,
};
use etherparse_oracle::Seen;
use every_accessor::every_accessor;
use portcullis_wire::{
    Frame, Link, MalformedKind, Packet, Transport, parse, parse_trusting_checksums,
};
use proptest::prelude::*;

/// What a frame is built from.
#[derive(Clone, Debug)]
struct Recipe {
    ethernet: bool,
    vlan: Vec<u16>,
    ip: IpHeaders,
    upper: Upper,
    payload: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Upper {
    Tcp {
        ports: (u16, u16),
        flags: u8,
        options: Vec<u8>,
    },
    Udp {
        ports: (u16, u16),
    },
    Echo {
        id: u16,
    },
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let vlan = prop::collection::vec(0..4096u16, 0..=2);
    let ip = prop_oneof![ipv4().boxed(), ipv6().boxed()];
    let payload = prop::collection::vec(any::<u8>(), 0..100);
    (any::<bool>(), vlan, ip, upper(), payload).prop_map(|(ethernet, vlan, ip, upper, payload)| {
        Recipe {
            ethernet,
            vlan,
            ip,
            upper,
            payload,
        }
    })
}

fn upper() -> impl Strategy<Value = Upper> {
    let options = prop::collection::vec(any::<[u8; 4]>(), 0..=10).prop_map(|words| words.concat());
    prop_oneof![
        (any::<(u16, u16)>(), any::<u8>(), options).prop_map(|(ports, flags, options)| {
            Upper::Tcp {
                ports,
                flags,
                options,
            }
        }),
        any::<(u16, u16)>().prop_map(|ports| Upper::Udp { ports }),
        any::<u16>().prop_map(|id| Upper::Echo { id }),
    ]
}

fn ipv4() -> impl Strategy<Value = IpHeaders> {
    (
        any::<[u8; 4]>(),
        any::<[u8; 4]>(),
        any::<u8>(),
        any::<u16>(),
        0..=10usize,
    )
        .prop_map(|(source, destination, ttl, id, no_operations)| {
            let mut header = Ipv4Header::new(0, ttl, ip_number::UDP, source, destination).unwrap();
            header.identification = id;
            header.options = vec![1; no_operations * 4].as_slice().try_into().unwrap();
            IpHeaders::Ipv4(header, Default::default())
        })
}

fn ipv6() -> impl Strategy<Value = IpHeaders> {
    // Unicast by the first byte.
    let address = || {
        any::<[u8; 16]>().prop_map(|mut octets| {
            octets[0] = 0x20;
            octets
        })
    };
    (address(), address(), any::<u8>(), extensions()).prop_map(
        |(source, destination, hop_limit, extensions)| {
            let header = Ipv6Header {
                source,
                destination,
                hop_limit,
                ..Default::default()
            };
            IpHeaders::Ipv6(header, extensions)
        },
    )
}

fn extensions() -> impl Strategy<Value = Ipv6Extensions> {
    // One PadN of 4 bytes, and unknown options to skip behind it.
    let options = || {
        prop::option::of((0..4usize).prop_map(|more| {
            let bytes = [
                vec![1, 4, 0, 0, 0, 0],
                [0x1e, 6, 1, 2, 3, 4, 5, 6].repeat(more),
            ]
            .concat();
            Ipv6RawExtHeader::new_raw(IpNumber(0), &bytes).unwrap()
        }))
    };
    let icv = (1..5usize)
        .prop_map(|words| IpAuthHeader::new(IpNumber(0), 1, 2, &vec![7; words * 4]).unwrap());
    (options(), options(), options(), prop::option::of(icv)).prop_map(
        |(hop_by_hop_options, destination_options, routing, auth)| Ipv6Extensions {
            hop_by_hop_options,
            destination_options,
            routing: routing.map(|routing| Ipv6RoutingExtensions {
                routing,
                final_destination_options: None,
            }),
            // To etherparse an atomic fragment is no fragment.
            fragment: None,
            auth,
        },
    )
}

impl Recipe {
    fn build(&self) -> (Link, Vec<u8>) {
        let mut bytes = Vec::new();
        if !self.ethernet {
            self.finish(PacketBuilder::ip(self.ip.clone()), &mut bytes);
            return (Link::RawIp, bytes);
        }
        let ethernet: PacketBuilderStep<Ethernet2Header> = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let id = |id: u16| VlanId::try_new(id).unwrap();
        match *self.vlan {
            [] => self.finish(ethernet.ip(self.ip.clone()), &mut bytes),
            [one] => {
                let tagged: PacketBuilderStep<VlanHeader> = ethernet.single_vlan(id(one));
                self.finish(tagged.ip(self.ip.clone()), &mut bytes);
            }
            [outer, inner, ..] => {
                let tagged = ethernet.double_vlan(id(outer), id(inner));
                self.finish(tagged.ip(self.ip.clone()), &mut bytes);
            }
        }
        (Link::Ethernet, bytes)
    }

    fn finish(&self, step: PacketBuilderStep<IpHeaders>, bytes: &mut Vec<u8>) {
        match &self.upper {
            Upper::Tcp {
                ports,
                flags,
                options,
            } => {
                let mut header = TcpHeader::new(ports.0, ports.1, 1, 2);
                header.fin = flags & 1 != 0;
                header.syn = flags & 2 != 0;
                header.rst = flags & 4 != 0;
                header.psh = flags & 8 != 0;
                header.ack = flags & 16 != 0;
                header.urg = flags & 32 != 0;
                header.ece = flags & 64 != 0;
                header.cwr = flags & 128 != 0;
                header.set_options_raw(options).unwrap();
                step.tcp_header(header).write(bytes, &self.payload).unwrap();
            }
            Upper::Udp { ports } => step
                .udp(ports.0, ports.1)
                .write(bytes, &self.payload)
                .unwrap(),
            Upper::Echo { id } => match self.ip {
                IpHeaders::Ipv4(..) => step
                    .icmpv4_echo_request(*id, 1)
                    .write(bytes, &self.payload)
                    .unwrap(),
                IpHeaders::Ipv6(..) => step
                    .icmpv6_echo_request(*id, 1)
                    .write(bytes, &self.payload)
                    .unwrap(),
            },
        }
    }
}

fn accepted(link: Link, bytes: &[u8], wire: usize) -> Packet<'_> {
    match parse(link, bytes, wire) {
        Ok(Frame::Ip(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whole(recipe in recipe()) {
        let (link, bytes) = recipe.build();
        let packet = accepted(link, &bytes, bytes.len());
        every_accessor(&Ok(Frame::Ip(packet)));
        prop_assert_eq!(Ok(Some(Seen::of(&packet))), etherparse_oracle::strict(link, &bytes));
        match (&recipe.upper, packet.transport()) {
            (Upper::Tcp { ports, flags, options }, Transport::Tcp(tcp)) => {
                prop_assert_eq!(packet.ports(), Some(*ports));
                prop_assert_eq!(tcp.flags().bits(), *flags);
                prop_assert_eq!(tcp.header_len(), 20 + options.len());
            }
            (Upper::Udp { ports }, Transport::Udp(_)) => prop_assert_eq!(packet.ports(), Some(*ports)),
            (Upper::Echo { id }, Transport::Icmp(icmp)) => prop_assert_eq!(icmp.identifier(), Some(*id)),
            (upper, transport) => prop_assert!(false, "{upper:?} was read as {transport:?}"),
        }
        // Etherparse fills checksums in, though not over the final destination of a routing header.
        let routed = packet.routing_header_type().is_some();
        prop_assert!(routed || packet.transport_checksum_ok() == Some(true));
        prop_assert_eq!(packet.payload(), &recipe.payload[..]);
    }

    #[test]
    fn padded(recipe in recipe(), padding in 1..20usize) {
        let (link, mut bytes) = recipe.build();
        let before = Seen::of(&accepted(link, &bytes, bytes.len()));
        bytes.resize(bytes.len() + padding, 0xee);
        prop_assert_eq!(before, Seen::of(&accepted(link, &bytes, bytes.len())));
    }

    #[test]
    fn cut(recipe in recipe(), at in any::<prop::sample::Index>()) {
        let (link, bytes) = recipe.build();
        let whole = accepted(link, &bytes, bytes.len());
        let kept = &bytes[..at.index(bytes.len())];
        let parsed = parse(link, kept, bytes.len());
        every_accessor(&parsed);
        match parsed {
            Ok(Frame::Ip(packet)) => {
                prop_assert_eq!(packet.five_tuple(), whole.five_tuple());
                prop_assert_eq!(packet.payload_len(), whole.payload_len());
                prop_assert!(whole.payload().starts_with(packet.payload()));
                prop_assert_eq!(Ok(Some(Seen::of(&packet))), etherparse_oracle::lax(link, kept));
            }
            Err(malformed) => {
                prop_assert_eq!(malformed.kind, MalformedKind::CutByCapture);
                prop_assert!(malformed.source.is_none_or(|source| source == whole.source()));
                prop_assert!(kept.len() < bytes.len() - whole.payload().len());
            }
            Ok(Frame::NotIp { .. }) => prop_assert!(false, "a cut packet is still IP"),
        }
        // The same bytes as a whole frame claim more than there is.
        prop_assert!(parse(link, kept, kept.len()).is_err());
    }

    #[test]
    fn damaged(recipe in recipe(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let (link, mut bytes) = recipe.build();
        let headers = bytes.len() - recipe.payload.len();
        for (at, byte) in damage {
            bytes[at.index(headers)] = byte;
        }
        every_accessor(&parse(link, &bytes, bytes.len()));
        let ours = parse_trusting_checksums(link, &bytes, bytes.len());
        every_accessor(&ours);
        if let (Ok(Frame::Ip(packet)), Ok(Some(theirs))) = (ours, etherparse_oracle::strict(link, &bytes)) {
            // Etherparse steps over an authentication header in IPv4, which the kernel does not, and takes the payload of later
            // IPv6 fragments for extension headers.
            let later = packet.fragment().is_some_and(|fragment| fragment.offset != 0);
            let known = if packet.is_ipv6() { later } else { packet.protocol() == portcullis_wire::protocol::AH };
            let protocol = if known { packet.protocol() } else { theirs.protocol };
            prop_assert_eq!(Seen::of(&packet), Seen { protocol, ..theirs });
        }
    }
}
