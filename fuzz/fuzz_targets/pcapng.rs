//! Any file where a pcapng capture is expected: it ends, without a panic, and gives no byte that was not in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_kernel::replay::Replay;
use portcullis_kernel::source::Source;

fuzz_target!(|data: &[u8]| {
    let Ok(mut replay) = Replay::read(std::io::Cursor::new(data.to_vec())) else {
        return;
    };
    let mut bytes = 0;
    while let Some(packet) = replay.next().expect("memory can be read") {
        assert!(packet.wire_len >= packet.bytes.len());
        // Each packet stands behind a header of its own, of 12 bytes at the least.
        bytes += packet.bytes.len() + 12;
    }
    assert!(bytes <= data.len());
    let _ = replay.warning().map(|warning| warning.to_string());
});
