//! Any bytes as what a client says to a server whose rules name hosts: however they are cut, the same hosts are found, and what
//! `httparse` reads as a request for a forbidden one does not pass.
#![no_main]

extern crate portcullis_engine as engine;
extern crate portcullis_policy as policy;
extern crate portcullis_wire as wire;

#[path = "../../crates/engine/tests/every_cut/mod.rs"]
mod every_cut;

use every_cut::{FORBIDDEN, cuts_and_stream, every_cut_of_requests};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (cuts, stream) = cuts_and_stream(input);
    let outcome = every_cut_of_requests(&cuts, stream);
    assert!(outcome.is_stopped || !asks_for_forbidden(stream));
});

/// Whether the first request of the stream does by its field, as another reader sees it, whatever its target names.
fn asks_for_forbidden(stream: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let is_whole = matches!(request.parse(stream), Ok(httparse::Status::Complete(_)));
    let mut hosts = request.headers.iter();
    is_whole
        && hosts.any(|header| {
            header.name.eq_ignore_ascii_case("host")
                && header.value.eq_ignore_ascii_case(FORBIDDEN.as_bytes())
        })
}
