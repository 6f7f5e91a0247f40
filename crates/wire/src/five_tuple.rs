//! The 5-tuple: what names a flow in one direction.

use std::net::IpAddr;

/// What identifies a flow in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FiveTuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Upper-layer protocol number.
    pub protocol: u8,
    /// Source port, for protocols with ports.
    pub source_port: Option<u16>,
    /// Destination port, for protocols with ports.
    pub destination_port: Option<u16>,
}

impl FiveTuple {
    /// The same flow seen from the other end.
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}
