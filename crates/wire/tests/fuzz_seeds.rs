//! The seeds of the fuzz targets are read to the end, each in another way, so that the fuzzers start deep inside.
#![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]

mod every_accessor;
mod every_name;
mod seeds;

use every_accessor::every_accessor;
use every_name::{every_dns_name, every_http_name, every_tls_name};
use portcullis_wire::dns::{Framed, Message, framed};
use portcullis_wire::http::{Http, request_head};
use portcullis_wire::tls::{ServerName, Sni, sni};
use portcullis_wire::{Frame, Link, parse};
use seeds::seeds;

#[test]
fn every_seed_is_a_packet() {
    let seeds = seeds("wire_parse");
    assert!(seeds.len() >= 8, "{} seeds", seeds.len());
    for (name, input) in seeds {
        let (first, bytes) = input.split_first().unwrap();
        let link = Link::ALL[usize::from(first & 7)];
        let parsed = parse(link, bytes, bytes.len() + usize::from(first >> 3) * 64);
        every_accessor(&parsed);
        assert!(matches!(parsed, Ok(Frame::Ip(_))), "{name}: {parsed:?}");
    }
}

#[test]
fn every_seed_is_a_message() {
    let seeds = seeds("dns_message");
    assert!(seeds.len() >= 5, "{} seeds", seeds.len());
    for (name, bytes) in seeds {
        every_dns_name(&bytes);
        let is_stream =
            matches!(framed(&bytes), Framed::Message { message, .. } if message.len() > 12);
        let is_message = Message::parse(&bytes).unwrap().trailing() == Ok(0);
        assert!(is_message || is_stream, "{name}");
    }
}

#[test]
fn every_seed_is_a_hello() {
    let seeds = seeds("tls_hello");
    assert!(seeds.len() >= 4, "{} seeds", seeds.len());
    for (name, bytes) in seeds {
        every_tls_name(&bytes);
        let mut room = ServerName::new();
        let read = sni(&bytes, &mut room);
        assert!(
            matches!(read, Sni::Name { .. } | Sni::Absent { .. }),
            "{name}"
        );
    }
}

#[test]
fn every_seed_is_a_head() {
    let seeds = seeds("http_head");
    assert!(seeds.len() >= 6, "{} seeds", seeds.len());
    for (name, bytes) in seeds {
        every_http_name(&bytes);
        let read = request_head(&bytes);
        assert!(matches!(read, Http::Request(_) | Http::Http2), "{name}");
    }
}
