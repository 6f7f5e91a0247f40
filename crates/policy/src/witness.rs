//! A concrete packet, as an example in a diagnostic. Not a packet off the wire: it has exactly what a rule can ask for.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use serde::ser::SerializeStruct;

use crate::plan::Direction;
use crate::protocol;

/// The packet. Printed in the words that `portcullis test` reads: `in tcp 203.0.113.7:40000 to 192.0.2.1:22`.
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
        if !self.payload.is_empty() {
            write!(f, " payload ")?;
            for (index, byte) in self.payload.iter().take(32).enumerate() {
                let space = if index > 0 { " " } else { "" };
                write!(f, "{space}{byte:02x}")?;
            }
            if self.payload.len() > 32 {
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

/// One object with the fields' names; `protocol` by name where it has one, `payload` in hex, and `text` as printed.
impl Serialize for Witness {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let protocol = protocol::name(self.protocol)
            .map_or_else(|| self.protocol.to_string(), ToOwned::to_owned);
        let payload: String = self.payload.iter().map(|b| format!("{b:02x}")).collect();
        let mut object = serializer.serialize_struct("Witness", 9)?;
        object.serialize_field("text", &self.to_string())?;
        object.serialize_field("direction", self.direction.name())?;
        object.serialize_field("protocol", &protocol)?;
        object.serialize_field("source", &self.source.to_string())?;
        object.serialize_field("destination", &self.destination.to_string())?;
        object.serialize_field("source_port", &self.source_port)?;
        object.serialize_field("destination_port", &self.destination_port)?;
        object.serialize_field("interface", &self.interface)?;
        object.serialize_field("payload", &payload)?;
        object.end()
    }
}
