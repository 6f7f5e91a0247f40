//! Any bytes on any link: parsing and every accessor must neither panic nor contradict one another.
//!
//! The first byte picks the link and how the frame was cut; the rest is the frame.
#![no_main]

#[path = "../../crates/wire/tests/every_accessor/mod.rs"]
mod every_accessor;

use every_accessor::every_accessor;
use libfuzzer_sys::fuzz_target;
use portcullis_wire::{Link, parse, parse_trusting_checksums};

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else {
        return;
    };
    let link = Link::ALL[usize::from(first & 7)];
    let more = usize::from(first >> 3) * 64;
    every_accessor(&parse(link, bytes, bytes.len() + more));
    // Without checksums to guess, the fuzzer gets further in.
    every_accessor(&parse_trusting_checksums(link, bytes, bytes.len() + more));
});
