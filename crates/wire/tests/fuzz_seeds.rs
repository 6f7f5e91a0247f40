//! The seeds of the fuzz target `wire_parse` are IP packets, each of another kind, so that the fuzzer starts deep inside.
#![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]

mod every_accessor;

use std::path::Path;

use every_accessor::every_accessor;
use portcullis_wire::{Frame, Link, parse};

#[test]
fn every_seed_is_a_packet() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/wire_parse");
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("seed-")
        {
            continue;
        }
        let input = std::fs::read(&path).unwrap();
        let (first, bytes) = input.split_first().unwrap();
        let link = Link::ALL[usize::from(first & 7)];
        let parsed = parse(link, bytes, bytes.len() + usize::from(first >> 3) * 64);
        every_accessor(&parsed);
        assert!(
            matches!(parsed, Ok(Frame::Ip(_))),
            "{}: {parsed:?}",
            path.display()
        );
        seeds += 1;
    }
    assert!(seeds >= 8, "{seeds} seeds");
}
