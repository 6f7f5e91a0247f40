//! Hypothetical packets.

use serde::{Deserialize, Serialize};

/// Packets to judge by the policy in force, or by another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TestRequest {
    /// The packets.
    pub packets: Vec<TestPacket>,
}

/// A packet that might come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestPacket {
    /// `in`, `out`, `forward`.
    pub direction: String,
    /// A name or a number.
    pub protocol: String,
    /// Source address.
    pub source: String,
    /// Source port, for protocols with ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Destination address.
    pub destination: String,
    /// Destination port, for protocols with ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// Where it comes in, or leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Its payload, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_hex: Option<String>,
    /// Instead of a payload: the TLS server name that its client asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Instead of a payload: the HTTP host that its client asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_host: Option<String>,
}

/// What would become of it: the shape of `test --json`, which is [`super::Decided`] and the packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestResult {
    /// The verdict and where it comes from.
    #[serde(flatten)]
    pub decided: super::Decided,
    /// The packet, in short.
    pub packet: String,
    /// `observe` while nothing is blocked whatever the verdict, `enforce` while the kernel carries verdicts out; absent where a file was asked and no daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}
