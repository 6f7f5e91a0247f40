//! Any datagram where queued packets are expected, and any text as the queues' counters: read without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_kernel::netlink::Messages;
use portcullis_kernel::nfqueue::{parse_queue_message, parse_statistics};

fuzz_target!(|data: &[u8]| {
    for message in Messages::new(data) {
        if let Some(packet) = parse_queue_message(&message) {
            assert!(packet.payload.len() <= data.len());
            assert!(packet.full_len >= packet.payload.len());
            let _ = (packet.direction(), packet.conntrack.count());
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(parse_statistics(text).len() <= text.lines().count());
    }
});
