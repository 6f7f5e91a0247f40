//! Any datagram where the kernel's packet log is expected: read without a panic, and no field beyond what was there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_kernel::netlink::Messages;
use portcullis_kernel::nflog::parse_log_message;

fuzz_target!(|data: &[u8]| {
    for message in Messages::new(data) {
        let _ = (message.error(), message.explanation().count());
        if let Some(packet) = parse_log_message(&message) {
            assert!(packet.payload.len() <= data.len());
            assert!(packet.full_len() >= packet.payload.len());
            assert!(packet.prefix.len() <= data.len() && !packet.prefix.contains('\0'));
            let _ = packet.direction();
        }
    }
});
