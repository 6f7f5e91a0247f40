//! Calls every accessor of whatever a frame parsed to, and checks what must hold between them for any bytes. Shared by the
//! property tests, the captures and the fuzz target.

use std::hint::black_box;

use portcullis_wire::{Embedded, Frame, Icmp, Malformed, Packet, Transport, Vlan};

/// Calls all there is to call. Panics when two accessors contradict each other. Allocates nothing.
pub(crate) fn every_accessor(parsed: &Result<Frame<'_>, Malformed>) {
    match parsed {
        Ok(Frame::Ip(packet)) => of_packet(packet),
        Ok(Frame::NotIp { ethertype, vlan }) => {
            black_box(ethertype);
            of_vlan(*vlan);
        }
        Err(malformed) => {
            assert_eq!(malformed.source.is_some(), malformed.destination.is_some());
            assert!(!malformed.kind.name().is_empty());
            black_box((malformed, malformed.protocol));
        }
    }
}

fn of_vlan(vlan: Vlan) {
    assert!(vlan.outer().is_some() || vlan.inner().is_none());
    assert!(vlan.outer().max(vlan.inner()).is_none_or(|id| id < 4096));
}

fn of_packet(packet: &Packet<'_>) {
    let ip = packet.ip_bytes();
    assert_eq!(packet.source().is_ipv6(), packet.is_ipv6());
    assert_eq!(packet.destination().is_ipv6(), packet.is_ipv6());
    assert!(ip.len() <= packet.ip_len());
    assert_eq!(packet.is_cut(), ip.len() < packet.ip_len());
    assert!(packet.header_len() <= packet.ip_len());
    assert!(packet.header_len() >= if packet.is_ipv6() { 40 } else { 20 });
    assert!(packet.payload().len() <= packet.payload_len());
    assert!(packet.header_len() + packet.payload_len() <= packet.ip_len());
    assert!(packet.unfragmentable_len() <= packet.header_len());
    assert!(packet.is_cut() || packet.payload().len() == packet.payload_len());
    assert!(is_part(packet.payload(), ip));
    of_fragment(packet);
    of_transport(packet);

    let tuple = packet.five_tuple();
    assert_eq!(
        (tuple.source, tuple.destination),
        (packet.source(), packet.destination())
    );
    assert_eq!(
        tuple.source_port.zip(tuple.destination_port),
        packet.ports()
    );
    assert_eq!(tuple.reversed().reversed(), tuple);

    of_vlan(packet.vlan());
    assert_eq!(packet.ipv4_id().is_some(), !packet.is_ipv6());
    assert!(packet.routing_header_type().is_none() || packet.is_ipv6());
    black_box((
        packet.protocol(),
        packet.hop_limit(),
        packet.traffic_class(),
        packet.dont_fragment(),
    ));
    black_box((
        packet.link_direction(),
        packet.has_source_route(),
        packet.has_authentication_header(),
    ));
    black_box(packet.tunnel().map(|tunnel| tunnel.name()));
    let sum = packet.transport_checksum_ok();
    assert!(sum.is_none() || (!packet.is_cut() && packet.fragment().is_none()));
}

fn of_fragment(packet: &Packet<'_>) {
    let ip = packet.ip_bytes();
    let payload = packet.fragment_payload();
    assert!(payload.len() <= packet.fragment_payload_len());
    assert!(is_part(payload, ip));
    assert_eq!(
        packet.fragment().is_some(),
        packet.fragment_pointer().is_some()
    );
    match packet.fragment() {
        Some(fragment) => {
            // RFC 6946: one of IPv6 may be all there is.
            assert!(fragment.offset != 0 || fragment.more || packet.is_ipv6());
            assert_eq!(fragment.offset % 8, 0);
            assert!(matches!(packet.transport(), Transport::Fragment));
            assert!(packet.ports().is_none());
            // What a reassembler overwrites.
            let named = packet.fragment_pointer().and_then(|at| ip.get(at)).copied();
            let expected = if packet.is_ipv6() {
                44
            } else {
                packet.fragment_next_header()
            };
            assert_eq!(named, Some(expected));
            // An empty one is for the reassembler to judge.
            assert!(packet.fragment_payload().len() <= packet.fragment_payload_len());
        }
        None => {
            assert!(!matches!(packet.transport(), Transport::Fragment));
            assert_eq!(packet.fragment_next_header(), packet.protocol());
            assert_eq!(packet.unfragmentable_len(), packet.header_len());
            assert_eq!(packet.fragment_payload_len(), 0);
        }
    }
}

fn of_transport(packet: &Packet<'_>) {
    match packet.transport() {
        Transport::Tcp(tcp) => {
            assert_eq!(
                packet.ports(),
                Some((tcp.source_port(), tcp.destination_port()))
            );
            assert_eq!(packet.payload(), tcp.payload());
            assert!((20..=60).contains(&tcp.header_len()));
            assert!(tcp.options().count() <= 40);
            black_box((
                tcp.sequence(),
                tcp.acknowledgement(),
                tcp.window(),
                tcp.checksum(),
                tcp.urgent_pointer(),
            ));
            black_box((tcp.flags().bits(), tcp.flags().is_impossible()));
        }
        Transport::Udp(udp) => {
            assert_eq!(
                packet.ports(),
                Some((udp.source_port(), udp.destination_port()))
            );
            assert_eq!(packet.payload(), udp.payload());
            assert!(udp.length() >= 8 && udp.checksum_coverage() >= 8);
            black_box((udp.checksum(), udp.is_lite()));
        }
        Transport::Icmp(icmp) => {
            assert!(packet.ports().is_none());
            assert_eq!(icmp.is_v6(), packet.is_ipv6());
            assert_eq!(packet.payload(), icmp.payload());
            of_icmp(icmp);
        }
        Transport::Sctp(sctp) => {
            assert_eq!(
                packet.ports(),
                Some((sctp.source_port(), sctp.destination_port()))
            );
            assert_eq!(packet.payload(), sctp.payload());
            assert!(
                sctp.chunks()
                    .all(|chunk| is_part(chunk.value, sctp.payload()))
            );
            black_box((sctp.verification_tag(), sctp.checksum()));
        }
        Transport::Gre(gre) => {
            assert_eq!(packet.payload(), gre.payload());
            assert!((4..=16).contains(&gre.header_len()));
            black_box((gre.version(), gre.protocol_type(), gre.key(), gre.call_id()));
        }
        Transport::Fragment | Transport::Other => {}
    }
}

fn of_icmp(icmp: Icmp<'_>) {
    black_box((
        icmp.kind(),
        icmp.code(),
        icmp.checksum(),
        icmp.rest_of_header(),
        icmp.mtu(),
    ));
    assert_eq!(icmp.identifier().is_some(), icmp.sequence().is_some());
    assert!(!(icmp.is_error() && icmp.is_query()));
    let Some(embedded) = icmp.embedded() else {
        return;
    };
    let Embedded {
        source,
        destination,
        ports,
        icmp_identifier,
        is_fragment,
        ..
    } = embedded;
    assert!(icmp.is_error());
    assert_eq!(
        (source.is_ipv6(), destination.is_ipv6()),
        (icmp.is_v6(), icmp.is_v6())
    );
    assert!(!is_fragment || (ports.is_none() && icmp_identifier.is_none()));
}

/// Whether a slice lies inside another, or is empty.
fn is_part(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    part.is_empty() || (whole.start <= part.start && part.end <= whole.end)
}
