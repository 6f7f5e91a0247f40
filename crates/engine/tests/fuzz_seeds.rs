//! The seeds of the fuzz targets that drive the engine are read as they read them, each to what it is there for.
#![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]

extern crate portcullis_engine as engine;

mod every_cut;
#[path = "../../wire/tests/seeds/mod.rs"]
mod seeds;

use every_cut::{cuts_and_stream, every_cut_of_questions, every_cut_of_requests, question_passes};
use proptest::prelude::*;
use seeds::seeds;

#[test]
fn every_seed_asks_for_a_forbidden_host() {
    let seeds = seeds("asked_hosts");
    assert!(seeds.len() >= 8, "{} seeds", seeds.len());
    for (name, input) in seeds {
        let (cuts, stream) = cuts_and_stream(&input);
        let outcome = every_cut_of_requests(&cuts, stream);
        assert!(outcome.is_stopped, "{name}: {outcome:?}");
    }
}

#[test]
fn every_seed_asks_for_a_forbidden_name() {
    let seeds = seeds("asked_names");
    assert!(seeds.len() >= 4, "{} seeds", seeds.len());
    for (name, input) in seeds {
        let (cuts, stream) = cuts_and_stream(&input);
        let outcome = every_cut_of_questions(&cuts, stream);
        assert!(outcome.is_stopped, "{name}: {outcome:?}");
    }
}

/// Two requests that cannot be told apart pass in no case; the one before them is told however they come.
#[test]
fn what_is_asked_before_what_cannot_be_read_is_told() {
    let stream = b"POST http://ads.example/ HTTP/1.0\nTransfer-Encoding: chunked\r\n\r\nCONNECT b:1 HTTP/1.1\r\n";
    let outcome = every_cut_of_requests(&[], stream);
    assert!(outcome.is_stopped);
    assert_eq!(outcome.told, ["ads.example"]);
}

/// A request that begins as a hello which is malformed further on passes in no case, whether that is seen before the request ends or not.
#[test]
fn what_is_a_request_and_a_broken_hello_does_not_pass() {
    let begin = b"\x16\x03\x01\0H\x01\0?D\x03\x03";
    let suites = b"\0\0\x02\x13\x01\x01\0\x02\x05\0\x14\0\0";
    let head = b"G(T / HTTP/0.1\r\n&He\r\n\r\n\0\0\xe8\0\0";
    let rest = b"\x02\x13\x01\x01\0\0\x14\0\0\0\x10\0\x0e\0\0\x0bad'.example";
    let stream = [&begin[..], &[0; 32], suites, head, rest].concat();
    let outcome = every_cut_of_requests(&[3, 40], &stream);
    assert!(outcome.is_stopped);
    // What is neither is let be however it is cut.
    let head = b"G(T / HTT\r\nEHLO x\r\nHost: ads.example\r\n\r\n";
    let stream = [&begin[..], &[0; 32], suites, head, rest].concat();
    every_cut_of_requests(&[3, 40], &stream);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Parts of requests and hellos in any order.
    #[test]
    fn no_cut_of_requests_changes_what_is_found(
        parts in prop::collection::vec(prop::sample::select(vec![
            &b"GET / HTTP/1.1\r\n"[..], b"POST http://ads.example/ HTTP/1.0\n", b"CONNECT b:1 HTTP/1.1\r\n", b"Host: ads.example\r\n",
            b"Host:\r\n", b" ads.example:x\r\n", b"Host : good.example\r\n", b"Content-Length: 3\r\n", b"Content-Length: 30\r\n",
            b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding : x\n", b"\r\n", b"\r", b"\n", b"3\r\nabc\r\n", b"0\r\n", b"X: y\r\n z\r\n",
            b"GET / FOO\r\n", b"G(T //ads.example HTTP/1.1\r\n", b"EHLO x\n", b"FOO http:\\ads.example x\r\n", b"junk\r\n", b"CONNECT x y\r\n",
            b"\x16\x03\x01\0\0", b"\x15\x03\x01\0\x02\x01\x5a", b"\x14\x03\x03\0\x01\x01", b"\x17\x03\x03\0\x01a", b"GET", b"\0", b"\x1f",
        ]), 0..14),
        hello in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut stream = parts.concat();
        if hello {
            stream.extend(policy::HostField::Sni.first_bytes("www.ads.example"));
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        every_cut_of_requests(&cuts, &stream);
    }

    /// Messages of all kinds, one after the other and broken off.
    #[test]
    fn no_cut_of_questions_changes_what_is_found(
        parts in prop::collection::vec(prop::sample::select(vec![
            &b"\0\x1d\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03ads\x07example\0\0\x01\0\x01"[..],
            b"\0\x19\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\0\0\x01\0\x01",
            b"\0\x0c\x12\x34\x80\0\0\x01\0\0\0\0\0\0", b"\x20\0\x12\x34\x28\0", b"\0\0", b"\xff", b"\0\x0c\0\0\x01\0\0\0\0\0\0\0\0\0",
        ]), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let stream = parts.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        every_cut_of_questions(&cuts, &stream);
        question_passes(&stream);
    }
}
