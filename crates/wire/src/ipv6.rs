//! IPv6 headers (RFC 8200), checked as `ip6_rcv_core` in the kernel's net/ipv6/ip6_input.c checks them, and the chain of
//! extension headers, walked as `ipv6_skip_exthdr` in net/ipv6/exthdrs_core.c walks it.

use std::net::{IpAddr, Ipv6Addr};

use crate::fragment::{self, Fragment, Piece};
use crate::hop_by_hop;
use crate::malformed::{Malformed, MalformedKind};
use crate::packet::{IpHeader, Network};
use crate::transport::protocol;

/// The fixed IPv6 header.
pub(crate) type Header = [u8; 40];

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const NO_NEXT_HEADER: u8 = 59;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;

#[inline]
pub(crate) fn source(header: &Header) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[8..24]);
    octets.into()
}

#[inline]
pub(crate) fn destination(header: &Header) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[24..40]);
    octets.into()
}

/// A routing header of the packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routing {
    /// Routing type; 0 (deprecated by RFC 5095) wins over others in the same packet.
    pub(crate) kind: u8,
    /// Whether some routing header has segments left, so that the destination is not the final one.
    pub(crate) underway: bool,
}

/// Checks the header and walks the chain. `wire` is the length on the wire of what begins with `bytes`, at least `bytes.len()`.
#[inline]
pub(crate) fn parse(bytes: &[u8], wire: usize) -> Result<Network<'_>, Malformed> {
    let Some(header) = bytes.first_chunk::<40>() else {
        return Err(if wire >= 40 {
            MalformedKind::CutByCapture
        } else {
            MalformedKind::Ipv6Truncated
        }
        .into());
    };
    if header[0] >> 4 != 6 {
        return Err(Malformed::bare(MalformedKind::Ipv6Version));
    }
    let next_header = header[6];
    let refuse = |kind| refused(header, None, kind);
    if header[24] == 0xff && header[25] & 0x0f == 0 {
        return Err(refuse(MalformedKind::Ipv6DestinationScope));
    }
    if header[8] == 0xff {
        return Err(refuse(MalformedKind::Ipv6SourceMulticast));
    }
    if source(header).to_ipv4_mapped().is_some() {
        return Err(refuse(MalformedKind::Ipv6SourceMapped));
    }
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if payload_len == 0 && next_header == HOP_BY_HOP {
        return Err(refuse(MalformedKind::Ipv6Jumbogram));
    }
    let len = 40 + payload_len;
    if len > wire {
        return Err(refuse(MalformedKind::Ipv6PayloadLength));
    }
    let mut network = Network {
        header: IpHeader::V6(header),
        datagram: bytes.get(..len).unwrap_or(bytes),
        len,
        header_len: 40,
        protocol: next_header,
        piece: None,
        routing: None,
        authenticated: false,
    };
    if is_extension(next_header) {
        walk(&mut network).map_err(|kind| refused(header, Some(network.protocol), kind))?;
    }
    Ok(network)
}

/// The headers `ipv6_ext_hdr` counts. ESP (50) is an upper-layer protocol to the kernel, so are mobility and HIP.
#[inline]
pub(crate) fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | NO_NEXT_HEADER | DESTINATION_OPTIONS
    )
}

/// Walks to the upper layer. Each turn moves at least 8 bytes on, so the datagram's length bounds it.
///
/// As in `ipv6_skip_exthdr`, a hop-by-hop header is stepped over wherever it stands, and any number of headers goes.
fn walk(network: &mut Network<'_>) -> Result<(), MalformedKind> {
    let mut at = 40;
    let mut pointer = 6;
    let mut next = network.protocol;
    while is_extension(next) {
        network.protocol = next;
        if next == NO_NEXT_HEADER {
            return Err(MalformedKind::Ipv6NoNextHeader);
        }
        if at + 8 > network.len {
            return Err(runs_out(network));
        }
        let Some(&[following, units, third, fourth, id @ ..]) = network
            .datagram
            .get(at..)
            .and_then(|rest| rest.first_chunk::<8>())
        else {
            return Err(MalformedKind::CutByCapture);
        };
        let len = match next {
            FRAGMENT => {
                let place = u16::from_be_bytes([third, fourth]);
                let fragment = Fragment {
                    id: u32::from_be_bytes(id),
                    offset: place & 0xfff8,
                    more: place & 1 != 0,
                };
                // RFC 6946: offset 0 without more is a whole packet.
                if network.piece.is_none() && (fragment.offset != 0 || fragment.more) {
                    fragment::check(fragment, network.len - at - 8, at, true)?;
                    network.piece = Some(Piece {
                        fragment,
                        unfragmentable: at as u32,
                        payload: at as u32 + 8,
                        pointer,
                        next_header: following,
                    });
                    if fragment.offset != 0 {
                        network.protocol = following;
                        network.header_len = at + 8;
                        return Ok(());
                    }
                }
                8
            }
            AUTHENTICATION => (usize::from(units) + 2) * 4,
            _ => (usize::from(units) + 1) * 8,
        };
        if next == AUTHENTICATION {
            network.authenticated = true;
        }
        if next == ROUTING {
            let before = network.routing;
            network.routing = Some(Routing {
                kind: before.map_or(third, |routing| if third == 0 { 0 } else { routing.kind }),
                underway: fourth != 0 || before.is_some_and(|routing| routing.underway),
            });
        }
        let end = at + len;
        if end > network.len {
            return Err(runs_out(network));
        }
        if next == HOP_BY_HOP && at == 40 {
            let options = network.datagram.get(at + 2..end);
            if !hop_by_hop::are_right(options.ok_or(MalformedKind::CutByCapture)?) {
                return Err(MalformedKind::Ipv6HopByHop);
            }
        }
        pointer = at as u32;
        at = end;
        next = following;
    }
    network.protocol = next;
    network.header_len = at;
    if network.piece.is_some() && !first_fragment_is_whole(next, network.len - at) {
        return Err(MalformedKind::Ipv6FirstFragment);
    }
    Ok(())
}

/// The defect of a chain that leaves the packet: in a first fragment the rest may be in the next one, which is forbidden.
#[cold]
fn runs_out(network: &Network<'_>) -> MalformedKind {
    if network.piece.is_some() {
        MalformedKind::Ipv6FirstFragment
    } else {
        MalformedKind::Ipv6ExtensionTruncated
    }
}

/// `ipv6frag_thdr_truncated` of net/ipv6/reassembly.c.
fn first_fragment_is_whole(upper: u8, len: usize) -> bool {
    len >= match upper {
        protocol::TCP => 20,
        protocol::UDP => 8,
        protocol::ICMPV6 => 8,
        _ => 1,
    }
}

#[cold]
fn refused(header: &Header, protocol: Option<u8>, kind: MalformedKind) -> Malformed {
    Malformed {
        kind,
        source: Some(IpAddr::V6(source(header))),
        destination: Some(IpAddr::V6(destination(header))),
        protocol: protocol.or((!is_extension(header[6])).then_some(header[6])),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;
    use crate::MalformedKind::*;
    use crate::sample::{cut, defect, ipv6, tcp, udp, whole};
    use crate::transport::protocol::{ESP, TCP, UDP};

    /// An 8-byte extension header without options: one PadN fills it.
    fn options(next_header: u8) -> Vec<u8> {
        vec![next_header, 0, 1, 4, 0, 0, 0, 0]
    }

    fn fragment(next_header: u8, place: u16) -> Vec<u8> {
        let mut header = vec![next_header, 0];
        header.extend(place.to_be_bytes());
        header.extend([0xde, 0xad, 0xbe, 0xef]);
        header
    }

    fn routing(next_header: u8, kind: u8, segments_left: u8) -> Vec<u8> {
        vec![next_header, 0, kind, segments_left, 0, 0, 0, 0]
    }

    #[test]
    fn reads_the_header() {
        let mut bytes = ipv6(UDP, &udp(53, b"payload"));
        bytes[0..2].copy_from_slice(&[0x6a, 0xb0]);
        let packet = whole(&bytes).unwrap();
        assert_eq!(
            (
                packet.source().to_string(),
                packet.destination().to_string()
            ),
            ("2001:db8::1".into(), "2001:db8::2".into())
        );
        assert_eq!(
            (packet.is_ipv6(), packet.protocol(), packet.hop_limit()),
            (true, UDP, 64)
        );
        assert_eq!(
            (packet.header_len(), packet.ip_len(), packet.traffic_class()),
            (40, 55, 0xab)
        );
        assert_eq!(packet.payload(), b"payload");
    }

    #[test]
    fn each_defect() {
        type Damage = fn(&mut Vec<u8>);
        let breaks: [(&str, Damage, _); 7] = [
            ("short", |b| b.truncate(39), Ipv6Truncated),
            ("payload beyond", |b| b.truncate(54), Ipv6PayloadLength),
            ("multicast source", |b| b[8] = 0xff, Ipv6SourceMulticast),
            (
                "reserved scope",
                |b| b[24..26].copy_from_slice(&[0xff, 0x10]),
                Ipv6DestinationScope,
            ),
            (
                "mapped source",
                |b| {
                    b[8..18].fill(0);
                    b[18..20].fill(0xff);
                },
                Ipv6SourceMapped,
            ),
            ("no next header", |b| b[6] = 59, Ipv6NoNextHeader),
            (
                "jumbogram",
                |b| {
                    b[4..6].fill(0);
                    b[6] = 0;
                },
                Ipv6Jumbogram,
            ),
        ];
        for (name, damage, kind) in breaks {
            let mut bytes = ipv6(UDP, &udp(53, b"payload"));
            damage(&mut bytes);
            assert_eq!(defect(&bytes), Some(kind), "{name}");
        }
        // Payload length 0 without a hop-by-hop header is a packet without payload, so without its UDP header.
        let mut bytes = ipv6(UDP, &udp(53, b"payload"));
        bytes[4..6].fill(0);
        assert_eq!(defect(&bytes), Some(UdpTruncated));
        // Other multicast scopes are the engine's.
        let mut bytes = ipv6(UDP, &udp(53, b"payload"));
        bytes[24..26].copy_from_slice(&[0xff, 0x02]);
        assert_eq!(defect(&bytes), None);
    }

    #[test]
    fn chains_are_walked_to_the_upper_layer() {
        // Authentication headers count in units of 4 bytes, less 2.
        let authentication = [&[UDP, 4, 0, 0][..], &[0; 20]].concat();
        let table: [(&str, u8, Vec<u8>, usize); 6] = [
            ("hop-by-hop", HOP_BY_HOP, options(UDP), 48),
            ("destination options", DESTINATION_OPTIONS, options(UDP), 48),
            ("routing", ROUTING, routing(UDP, 4, 1), 48),
            ("authentication", AUTHENTICATION, authentication, 64),
            (
                "hop-by-hop not first",
                DESTINATION_OPTIONS,
                [options(HOP_BY_HOP), options(UDP)].concat(),
                56,
            ),
            ("atomic fragment", FRAGMENT, fragment(UDP, 0), 48),
        ];
        for (name, first, chain, header_len) in table {
            let bytes = ipv6(first, &[chain, udp(53, b"x")].concat());
            let packet = whole(&bytes).unwrap();
            assert_eq!(
                (packet.protocol(), packet.header_len()),
                (UDP, header_len),
                "{name}"
            );
            assert_eq!(
                (packet.ports(), packet.fragment()),
                (Some((40_000, 53)), None),
                "{name}"
            );
            assert_eq!(packet.has_authentication_header(), name == "authentication");
        }
    }

    #[test]
    fn esp_is_an_upper_layer() {
        let bytes = ipv6(ESP, &[0; 24]);
        let packet = whole(&bytes).unwrap();
        assert_eq!(
            (
                packet.protocol(),
                packet.header_len(),
                packet.payload().len()
            ),
            (ESP, 40, 24)
        );
    }

    #[test]
    fn the_longest_chain_ends() {
        let chain = options(DESTINATION_OPTIONS).repeat(8_000);
        assert_eq!(
            defect(&ipv6(DESTINATION_OPTIONS, &chain)),
            Some(Ipv6ExtensionTruncated)
        );
    }

    #[test]
    fn chains_that_run_out() {
        let long = vec![UDP, 1, 1, 4, 0, 0, 0, 0];
        assert_eq!(
            defect(&ipv6(DESTINATION_OPTIONS, &long)),
            Some(Ipv6ExtensionTruncated)
        );
        assert_eq!(
            defect(&ipv6(DESTINATION_OPTIONS, &long[..7])),
            Some(Ipv6ExtensionTruncated)
        );
        assert_eq!(
            defect(&ipv6(FRAGMENT, &fragment(UDP, 8)[..7])),
            Some(Ipv6ExtensionTruncated)
        );
        assert_eq!(
            defect(&ipv6(HOP_BY_HOP, &[UDP, 0, 0xc2, 4, 0, 1, 0, 0])),
            Some(Ipv6HopByHop)
        );
        // The destination options of the same kind are judged after netfilter, so not here.
        let bytes = ipv6(
            DESTINATION_OPTIONS,
            &[&[UDP, 0, 0xc2, 4, 0, 1, 0, 0][..], &udp(53, b"")].concat(),
        );
        assert_eq!(defect(&bytes), None);
    }

    #[test]
    fn defects_name_the_protocol_that_was_reached() {
        let malformed = whole(&ipv6(
            DESTINATION_OPTIONS,
            &[options(UDP), vec![0; 7]].concat(),
        ))
        .unwrap_err();
        assert_eq!(
            (malformed.kind, malformed.protocol),
            (UdpTruncated, Some(UDP))
        );
        assert_eq!(malformed.source.unwrap().to_string(), "2001:db8::1");
    }

    #[test]
    fn routing_headers() {
        let kinds = |chain: &[Vec<u8>]| {
            let bytes = ipv6(ROUTING, &[chain.concat(), udp(53, b"x")].concat());
            whole(&bytes).unwrap().routing_header_type()
        };
        assert_eq!(kinds(&[routing(UDP, 4, 0)]), Some(4));
        assert_eq!(
            kinds(&[routing(ROUTING, 4, 0), routing(UDP, 0, 1)]),
            Some(0)
        );
        assert_eq!(
            kinds(&[routing(ROUTING, 2, 0), routing(UDP, 4, 1)]),
            Some(2)
        );
        assert_eq!(
            whole(&ipv6(UDP, &udp(53, b"x")))
                .unwrap()
                .routing_header_type(),
            None
        );
    }

    #[test]
    fn fragments_with_headers_before_and_after() {
        let first = ipv6(
            HOP_BY_HOP,
            &[
                options(FRAGMENT),
                fragment(DESTINATION_OPTIONS, 1),
                options(TCP),
                tcp(2, &[], &[0; 4]),
            ]
            .concat(),
        );
        let packet = whole(&first).unwrap();
        let place = packet.fragment().unwrap();
        assert_eq!((place.id, place.offset, place.more), (0xdead_beef, 0, true));
        assert_eq!(
            (packet.protocol(), packet.header_len(), packet.ports()),
            (TCP, 64, None)
        );
        assert_eq!(
            (packet.unfragmentable_len(), packet.fragment_pointer()),
            (48, Some(40))
        );
        assert_eq!(
            (packet.fragment_payload(), packet.fragment_next_header()),
            (&first[56..], DESTINATION_OPTIONS)
        );

        let later = ipv6(
            FRAGMENT,
            &[fragment(DESTINATION_OPTIONS, 0x0100), vec![7; 5]].concat(),
        );
        let packet = whole(&later).unwrap();
        let place = packet.fragment().unwrap();
        assert_eq!(
            (place.offset, place.more, packet.protocol()),
            (0x100, false, DESTINATION_OPTIONS)
        );
        assert_eq!(
            (packet.unfragmentable_len(), packet.fragment_pointer()),
            (40, Some(6))
        );
        assert_eq!(
            (packet.fragment_payload(), packet.payload_len()),
            (&[7; 5][..], 5)
        );
    }

    #[test]
    fn fragments_the_kernel_refuses() {
        let piece = |next, place, payload: &[u8]| {
            defect(&ipv6(FRAGMENT, &[&fragment(next, place), payload].concat()))
        };
        assert_eq!(piece(UDP, 9, &[0; 12]), Some(Ipv6FragmentLength));
        assert_eq!(piece(UDP, 8, &[]), Some(FragmentEmpty));
        assert_eq!(piece(UDP, 0xfff8, &[0; 8]), Some(FragmentBeyondDatagram));
        assert_eq!(piece(TCP, 1, &[0; 16]), Some(Ipv6FirstFragment));
        assert_eq!(
            piece(DESTINATION_OPTIONS, 1, &options(TCP)),
            Some(Ipv6FirstFragment)
        );
        assert_eq!(piece(UDP, 1, &[0; 8]), None);
        // RFC 6946: an atomic fragment is judged as a whole packet.
        assert_eq!(piece(UDP, 0, &[0; 7]), Some(UdpTruncated));
    }

    #[test]
    fn a_cut_capture_is_no_defect_but_in_the_headers() {
        let bytes = ipv6(HOP_BY_HOP, &[options(UDP), udp(53, b"payload")].concat());
        for len in 0..56 {
            let malformed = cut(&bytes[..len], bytes.len()).unwrap_err();
            assert_eq!(
                (malformed.kind, malformed.source.is_some()),
                (CutByCapture, len >= 40),
                "{len}"
            );
        }
        for len in 56..bytes.len() {
            let packet = cut(&bytes[..len], bytes.len()).unwrap();
            assert_eq!(
                (packet.payload().len(), packet.payload_len()),
                (len - 56, 7)
            );
        }
    }
}
