//! Any bytes as a DNS message and as a stream of them: reading must neither panic nor contradict itself.
#![no_main]

#[path = "../../crates/wire/tests/every_name/mod.rs"]
mod every_name;

use every_name::every_dns_name;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| every_dns_name(input));
