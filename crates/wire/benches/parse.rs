//! Frame to 5-tuple, beside etherparse. Absolute values mean little on a shared machine: compare within one run.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::{
    IpHeaders, Ipv4Header, Ipv6Header, NetSlice, PacketBuilder, SlicedPacket, TransportSlice,
    ip_number,
};
use portcullis_wire::{FiveTuple, Frame, Link, parse};

fn ours(bytes: &[u8]) -> Option<FiveTuple> {
    match parse(Link::Ethernet, bytes, bytes.len()) {
        Ok(Frame::Ip(packet)) => Some(packet.five_tuple()),
        _ => None,
    }
}

fn etherparse(bytes: &[u8]) -> Option<FiveTuple> {
    let packet = SlicedPacket::from_ethernet(bytes).ok()?;
    let (source, destination, protocol): (IpAddr, IpAddr, u8) = match packet.net? {
        NetSlice::Ipv4(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
            ip.payload().ip_number.0,
        ),
        NetSlice::Ipv6(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
            ip.payload().ip_number.0,
        ),
        NetSlice::Arp(_) => return None,
    };
    let ports = match packet.transport {
        Some(TransportSlice::Tcp(tcp)) => Some((tcp.source_port(), tcp.destination_port())),
        Some(TransportSlice::Udp(udp)) => Some((udp.source_port(), udp.destination_port())),
        _ => None,
    };
    Some(FiveTuple {
        source,
        destination,
        protocol,
        source_port: ports.map(|ports| ports.0),
        destination_port: ports.map(|ports| ports.1),
    })
}

/// The frames: name and bytes.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let ethernet = || PacketBuilder::ethernet2([2; 6], [4; 6]);
    let payload = [0x5a; 64];
    let mut frames = Vec::new();
    let mut add = |name, bytes| frames.push((name, bytes));

    let mut bytes = Vec::new();
    let packet = ethernet().ipv4([192, 0, 2, 1], [198, 51, 100, 2], 64);
    packet
        .tcp(40_000, 443, 1, 1024)
        .write(&mut bytes, &payload)
        .expect("a vector takes all");
    add("ipv4_tcp", bytes);

    let mut bytes = Vec::new();
    let packet = ethernet().ipv4([192, 0, 2, 1], [198, 51, 100, 2], 64);
    packet
        .udp(40_000, 53)
        .write(&mut bytes, &payload)
        .expect("a vector takes all");
    add("ipv4_udp", bytes);

    let mut bytes = Vec::new();
    let packet = ethernet().ipv6([0x20; 16], [0x30; 16], 64);
    packet
        .tcp(40_000, 443, 1, 1024)
        .write(&mut bytes, &payload)
        .expect("a vector takes all");
    add("ipv6_tcp", bytes);

    let mut bytes = Vec::new();
    let mut header = Ipv4Header::new(0, 64, ip_number::TCP, [192, 0, 2, 1], [198, 51, 100, 2])
        .expect("no payload fits");
    header.options = [1; 40].into();
    let packet = ethernet().ip(IpHeaders::Ipv4(header, Default::default()));
    packet
        .tcp(40_000, 443, 1, 1024)
        .write(&mut bytes, &payload)
        .expect("a vector takes all");
    add("ipv4_options_tcp", bytes);

    let mut bytes = Vec::new();
    let extension = etherparse::Ipv6RawExtHeader::new_raw(ip_number::TCP, &[1, 4, 0, 0, 0, 0])
        .expect("one unit");
    let extensions = etherparse::Ipv6Extensions {
        hop_by_hop_options: Some(extension.clone()),
        destination_options: Some(extension),
        ..Default::default()
    };
    let header = Ipv6Header {
        hop_limit: 64,
        source: [0x20; 16],
        destination: [0x30; 16],
        ..Default::default()
    };
    let packet = ethernet().ip(IpHeaders::Ipv6(header, extensions));
    packet
        .tcp(40_000, 443, 1, 1024)
        .write(&mut bytes, &payload)
        .expect("a vector takes all");
    add("ipv6_extensions_tcp", bytes);
    frames
}

fn benchmark(criterion: &mut Criterion) {
    for (name, frame) in frames() {
        assert_eq!(ours(&frame), etherparse(&frame), "{name}");
        assert!(ours(&frame).is_some(), "{name}");
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        group.bench_function("portcullis", |bencher| {
            bencher.iter(|| ours(black_box(&frame)))
        });
        group.bench_function("etherparse", |bencher| {
            bencher.iter(|| etherparse(black_box(&frame)))
        });
        group.finish();
    }
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
