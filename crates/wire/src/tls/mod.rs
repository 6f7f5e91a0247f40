//! The server name of a TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3), from the first bytes of a TCP stream.
//!
//! The hello may be spread over records in any manner; it is read in place. Neither the certificate nor anything encrypted is
//! seen here: a client that uses Encrypted Client Hello shows the name of its front alone, and one that sends no server name
//! shows none. QUIC and DTLS carry the hello otherwise and are not read.

mod client_hello;
mod defect;
mod handshake;

pub use client_hello::{HelloReader, ServerName, Sni, sni};
pub use defect::TlsDefect;
pub use handshake::{HELLO_MAX, may_be_tls};
