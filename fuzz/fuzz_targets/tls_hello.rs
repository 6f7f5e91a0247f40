//! Any bytes as the first bytes of a TLS client's stream, whole and cut: reading must neither panic nor contradict itself.
#![no_main]

#[path = "../../crates/wire/tests/every_name/mod.rs"]
mod every_name;

use every_name::{cut_tls_name, every_tls_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    every_tls_name(input);
    cut_tls_name(input, 0..input.len().min(1_024));
    // Places to cut at from the input: its first byte says how far apart they are at most, and the others how far each is.
    let Some((&widest, stream)) = input.split_first() else {
        return;
    };
    let mut at = 0;
    let places = input.iter().map(|byte| {
        at += usize::from(byte % widest.max(1)) + 1;
        at
    });
    cut_tls_name(stream, places.take_while(|at| *at <= stream.len()));
});
