//! DNS messages (RFC 1035), as far as a firewall needs them: the names asked for, the addresses answered, and a short reply
//! in the place of a server's.
//!
//! Reading is lazy: [`Message::parse`] checks the header alone, and each iterator ends at the first [`Defect`]. A resolver's
//! work – caches, DNSSEC, names in the data of records other than CNAME – is not done here.

mod defect;
mod edns;
mod encoded_name;
mod framing;
mod message;
mod name;
mod rcode;
mod record;
mod record_type;
mod reply;

pub use defect::Defect;
pub use edns::Edns;
pub use encoded_name::EncodedName;
pub use framing::{Framed, Messages, framed};
pub use message::{Message, Question, Questions};
pub use name::{Name, Suffixes};
pub use rcode::Rcode;
pub use record::{Record, RecordData, Records, Section};
pub use record_type::RecordType;
pub use reply::{REPLY_MAX, Reply, Unanswerable, reply};

/// Class IN, the Internet (RFC 1035 section 3.2.4).
pub const CLASS_IN: u16 = 1;
