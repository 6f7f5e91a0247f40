//! Any bytes as what a client says to a name server: however they are cut, the same questions are found, and what `hickory-proto`
//! reads as a question for a forbidden name does not pass.
#![no_main]

extern crate portcullis_engine as engine;
extern crate portcullis_policy as policy;
extern crate portcullis_wire as wire;

#[path = "../../crates/engine/tests/every_cut/mod.rs"]
mod every_cut;

use every_cut::{FORBIDDEN, cuts_and_stream, every_cut_of_questions, question_passes};
use hickory_proto::op::{Message, MessageType, OpCode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (cuts, stream) = cuts_and_stream(input);
    every_cut_of_questions(&cuts, stream);
    // Without the length, as a datagram.
    for message in [stream, stream.get(2..).unwrap_or_default()] {
        assert!(!asks_for_forbidden(message) || !question_passes(message));
    }
});

/// Whether the message does, as another reader sees it.
fn asks_for_forbidden(message: &[u8]) -> bool {
    let Ok(message) = Message::from_vec(message) else {
        return false;
    };
    let asks = message.metadata.message_type == MessageType::Query
        && message.metadata.op_code == OpCode::Query;
    asks && message.queries.iter().any(|query| {
        let mut labels = query.name().iter().rev().map(<[u8]>::to_ascii_lowercase);
        FORBIDDEN
            .rsplit('.')
            .all(|label| labels.next().is_some_and(|asked| asked == label.as_bytes()))
    })
}
