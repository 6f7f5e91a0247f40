//! The head of an HTTP/1.x request (RFC 9112), from the first bytes of a TCP stream: which host it is for.
//!
//! Where two servers could read the same head differently, none of the readings is picked: the host is then
//! [`RequestHost::Ambiguous`], since whoever sent it may have wanted a firewall to read one thing and the server another.
//! Bodies are not read, nor is anything of HTTP/2 but its preface.

mod ambiguity;
mod authority;
mod field;
mod head;
mod request_line;

pub use ambiguity::Ambiguity;
pub use field::{Anomalies, Body, is_token};
pub use head::{HEAD_MAX, HeadReader, Http, Request, RequestHost, request_head};
pub use request_line::{after_blanks, is_space};
