//! Any bytes as the first bytes of an HTTP client's stream, whole and cut: reading must neither panic nor contradict itself.
#![no_main]

#[path = "../../crates/wire/tests/every_name/mod.rs"]
mod every_name;

use every_name::every_http_name;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| every_http_name(input));
