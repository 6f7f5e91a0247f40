//! The chain of IPv6 extension headers (RFC 8200 section 4), walked as `ipv6_skip_exthdr` in the kernel's
//! net/ipv6/exthdrs_core.c walks it. What is in them is not judged, but for hop-by-hop options.

use crate::fragment::{Fragment, Piece};
use crate::hop_by_hop;
use crate::malformed::MalformedKind;
use crate::network::{Headers, Routing};
use crate::transport::protocol;

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const NO_NEXT_HEADER: u8 = 59;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;

/// The headers `ipv6_ext_hdr` counts. ESP (50) is an upper-layer protocol to the kernel, so are mobility and HIP.
#[inline]
pub(crate) fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | NO_NEXT_HEADER | DESTINATION_OPTIONS
    )
}

/// Walks to the upper layer of a datagram that claims `len` bytes and begins with an IPv6 header naming `first`.
///
/// As in `ipv6_skip_exthdr`, a hop-by-hop header is stepped over wherever it stands, and any number of headers goes. Each turn
/// moves at least 8 bytes on, so the length bounds them.
///
/// In a fragment the walk ends at the fragment header, or, in a first fragment, where the chain goes on in the next one. The kernel
/// takes such a fragment (`ipv6frag_thdr_truncated`), though RFC 8200 section 4.5 forbids it.
pub(crate) fn walk(datagram: &[u8], len: usize, first: u8) -> Result<Headers, MalformedKind> {
    let mut headers = Headers::plain(40, first);
    // Where the number of the header in turn stands.
    let mut pointer = 6;
    while is_extension(headers.protocol) {
        let kind = headers.protocol;
        let at = headers.len as usize;
        let step = Extension::read(datagram, len, at, kind).and_then(|extension| {
            extension.check(datagram, len, at)?;
            Ok(extension)
        });
        let extension = match step {
            Ok(extension) => extension,
            Err(MalformedKind::Ipv6ExtensionTruncated | MalformedKind::Ipv6NoNextHeader)
                if headers.piece.is_some() =>
            {
                return if goes_on(datagram, len, at, kind)? {
                    Ok(headers)
                } else {
                    Err(MalformedKind::Ipv6FirstFragment)
                };
            }
            Err(defect) => return Err(defect),
        };
        headers.note(&extension, at, pointer);
        headers.protocol = extension.next;
        headers.len = (at + extension.len) as u32;
        if extension
            .fragment()
            .is_some_and(|fragment| fragment.offset != 0)
        {
            return Ok(headers);
        }
        pointer = at as u32;
    }
    let upper_len = len - headers.len as usize;
    if headers.piece.is_some() && !first_fragment_is_whole(headers.protocol, upper_len) {
        return Err(MalformedKind::Ipv6FirstFragment);
    }
    Ok(headers)
}

/// Whether `ipv6_skip_exthdr` finds no end in a first fragment of which the header `kind` at `at` is not there or not whole: it
/// needs the first two bytes of each header, of a fragment header four, and steps over what is missing of the rest.
fn goes_on(datagram: &[u8], len: usize, at: usize, kind: u8) -> Result<bool, MalformedKind> {
    let needed = if kind == FRAGMENT { 4 } else { 2 };
    if kind == NO_NEXT_HEADER || at + needed > len {
        return Ok(true);
    }
    let Some(header) = datagram.get(at..at + needed) else {
        return Err(MalformedKind::CutByCapture);
    };
    let in_fragment = kind == FRAGMENT && (header[2] != 0 || header[3] & 0xf8 != 0);
    Ok(in_fragment || is_extension(header[0]))
}

/// Where a tolerant walk ended.
pub(crate) struct Last<'a> {
    /// The upper layer, or the extension header that could not be read.
    pub(crate) protocol: u8,
    /// What follows; empty when the bytes ended inside the chain.
    pub(crate) rest: &'a [u8],
    /// Whether it ended at a fragment header with an offset, behind which is no header.
    pub(crate) in_fragment: bool,
}

/// Walks as far as it can, judging nothing: for quoted and for malformed packets. `rest` is what follows the IPv6 header.
pub(crate) fn last(first: u8, mut rest: &[u8]) -> Last<'_> {
    let mut protocol = first;
    while is_extension(protocol) && protocol != NO_NEXT_HEADER {
        let Ok(extension) = Extension::read(rest, usize::MAX, 0, protocol) else {
            rest = &[];
            break;
        };
        if extension
            .fragment()
            .is_some_and(|fragment| fragment.offset != 0)
        {
            return Last {
                protocol: extension.next,
                rest: &[],
                in_fragment: true,
            };
        }
        let Some(after) = rest.get(extension.len..) else {
            rest = &[];
            break;
        };
        rest = after;
        protocol = extension.next;
    }
    Last {
        protocol,
        rest,
        in_fragment: false,
    }
}

/// One extension header: its length and its first 8 bytes, which all have.
struct Extension {
    kind: u8,
    next: u8,
    len: usize,
    third: u8,
    fourth: u8,
    last: [u8; 4],
}

impl Extension {
    fn read(datagram: &[u8], len: usize, at: usize, kind: u8) -> Result<Self, MalformedKind> {
        if kind == NO_NEXT_HEADER {
            return Err(MalformedKind::Ipv6NoNextHeader);
        }
        if at + 8 > len {
            return Err(MalformedKind::Ipv6ExtensionTruncated);
        }
        let rest = datagram.get(at..).unwrap_or_default();
        let Some(&[next, units, third, fourth, last @ ..]) = rest.first_chunk::<8>() else {
            return Err(MalformedKind::CutByCapture);
        };
        let len = match kind {
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(units) + 2) * 4,
            _ => (usize::from(units) + 1) * 8,
        };
        Ok(Self {
            kind,
            next,
            len,
            third,
            fourth,
            last,
        })
    }

    fn fragment(&self) -> Option<Fragment> {
        let place = u16::from_be_bytes([self.third, self.fourth]);
        (self.kind == FRAGMENT).then_some(Fragment {
            id: u32::from_be_bytes(self.last),
            offset: place & 0xfff8,
            more: place & 1 != 0,
        })
    }

    fn check(&self, datagram: &[u8], len: usize, at: usize) -> Result<(), MalformedKind> {
        let end = at + self.len;
        if end > len {
            return Err(MalformedKind::Ipv6ExtensionTruncated);
        }
        if self.kind == HOP_BY_HOP && at == 40 {
            let options = datagram.get(at + 2..end);
            if !hop_by_hop::are_right(options.ok_or(MalformedKind::CutByCapture)?) {
                return Err(MalformedKind::Ipv6HopByHop);
            }
        }
        Ok(())
    }
}

impl Headers {
    /// Keeps what later stages ask about an extension header.
    fn note(&mut self, extension: &Extension, at: usize, pointer: u32) {
        match extension.kind {
            AUTHENTICATION => self.authenticated = true,
            ROUTING => {
                let (kind, underway) = (extension.third, extension.fourth != 0);
                self.routing = Some(match self.routing {
                    None => Routing { kind, underway },
                    Some(before) => Routing {
                        kind: if kind == 0 { 0 } else { before.kind },
                        underway: underway || before.underway,
                    },
                });
            }
            _ => {}
        }
        match extension.fragment() {
            Some(fragment) if self.piece.is_none() => {
                self.piece = Some(Piece {
                    fragment,
                    unfragmentable: at as u32,
                    pointer,
                    next_header: extension.next,
                });
            }
            _ => {}
        }
    }
}

/// `ipv6frag_thdr_truncated` of net/ipv6/reassembly.c.
fn first_fragment_is_whole(upper: u8, len: usize) -> bool {
    len >= match upper {
        protocol::TCP => 20,
        protocol::UDP | protocol::ICMPV6 => 8,
        _ => 1,
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
    fn chains_are_walked_to_the_upper_layer() {
        // Authentication headers count in units of 4 bytes, less 2.
        let authentication = [&[UDP, 4, 0, 0][..], &[0; 20]].concat();
        let table: [(&str, u8, Vec<u8>, usize); 5] = [
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
        // What the reassembler of the engine judges.
        assert_eq!(piece(UDP, 9, &[0; 12]), None);
        assert_eq!(piece(UDP, 8, &[]), None);
        assert_eq!(piece(UDP, 0xfff8, &[0; 8]), None);
        assert_eq!(piece(TCP, 1, &[0; 16]), Some(Ipv6FirstFragment));
        assert_eq!(
            piece(DESTINATION_OPTIONS, 1, &options(TCP)),
            Some(Ipv6FirstFragment)
        );
        assert_eq!(piece(UDP, 1, &[0; 8]), None);
        // RFC 6946: an atomic fragment is a first one too.
        assert_eq!(piece(UDP, 0, &[0; 7]), Some(Ipv6FirstFragment));
        assert_eq!(piece(UDP, 0, &[0; 8]), None);
    }

    #[test]
    fn a_chain_may_go_on_in_the_next_fragment() {
        let long = |next| vec![next, 1, 1, 12, 0, 0, 0, 0];
        let table = [
            (
                "a header whole, of the next nothing",
                options(DESTINATION_OPTIONS),
                None,
            ),
            ("half a header, behind it another", long(ROUTING), None),
            (
                "half a header, behind it nothing at all",
                long(NO_NEXT_HEADER),
                None,
            ),
            (
                "half a header, behind it UDP",
                long(UDP),
                Some(Ipv6FirstFragment),
            ),
            (
                "half an unknown header",
                options(253),
                Some(Ipv6FirstFragment),
            ),
        ];
        for (name, payload, expected) in table {
            let bytes = [fragment(DESTINATION_OPTIONS, 1), payload].concat();
            assert_eq!(defect(&ipv6(FRAGMENT, &bytes)), expected, "{name}");
        }
        let bytes = ipv6(
            FRAGMENT,
            &[fragment(NO_NEXT_HEADER, 1), vec![0; 8]].concat(),
        );
        let packet = whole(&bytes).unwrap();
        assert_eq!(packet.fragment_payload(), &[0; 8]);
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
