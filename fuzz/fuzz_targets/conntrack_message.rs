//! Any datagram where connections are expected: read without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_kernel::conntrack::parse_entry;
use portcullis_kernel::netlink::Messages;

fuzz_target!(|data: &[u8]| {
    for entry in Messages::new(data).filter_map(|message| parse_entry(&message)) {
        let _ = (entry.answered(), entry.assured(), entry.tcp_is_liberal, entry.original.ports());
    }
});
