//! A concrete packet, as an example in a diagnostic. Not a packet off the wire: it has exactly what a rule can ask for.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::host::Asks;
use crate::plan::Direction;
use crate::protocol;

/// The packet. Printed in the words that `portcullis test` reads: `in tcp 203.0.113.7:40000 to 192.0.2.1:22`; with `{:#}` the
/// payload is cut after 32 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Which way it goes.
    pub direction: Direction,
    /// Its upper-layer protocol.
    pub protocol: u8,
    /// Source address; of the same family as the destination.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port, when the protocol has ports and the packet shows them.
    pub source_port: Option<u16>,
    /// Destination port, likewise.
    pub destination_port: Option<u16>,
    /// The interface it comes in or leaves by; `None` is "not known", which matches no interface condition.
    pub interface: Option<String>,
    /// Its payload; empty for a packet without one. It is taken for the begin of the stream too.
    pub payload: Vec<u8>,
    /// What the client asks for in its payload, which is then left out above.
    pub asks: Option<Asks>,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.direction)?;
        match protocol::name(self.protocol) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "{}", self.protocol)?,
        }
        write!(f, " {}", Endpoint(self.source, self.source_port))?;
        write!(
            f,
            " to {}",
            Endpoint(self.destination, self.destination_port)
        )?;
        if let Some(interface) = &self.interface {
            write!(f, " on {interface}")?;
        }
        if let Some(asks) = &self.asks {
            write!(f, " {asks}")?;
        }
        if !self.payload.is_empty() {
            f.write_str(" payload")?;
            let shown = if f.alternate() { 32 } else { usize::MAX };
            for byte in self.payload.iter().take(shown) {
                write!(f, " {byte:02x}")?;
            }
            if self.payload.len() > shown {
                write!(f, " … ({} bytes)", self.payload.len())?;
            }
        }
        Ok(())
    }
}

struct Endpoint(IpAddr, Option<u16>);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (address, None) => write!(f, "{address}"),
            (IpAddr::V4(address), Some(port)) => write!(f, "{address}:{port}"),
            (IpAddr::V6(address), Some(port)) => write!(f, "[{address}]:{port}"),
        }
    }
}

/// The text as printed: whoever reads it can give it to `portcullis test` as it is.
impl Serialize for Witness {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
