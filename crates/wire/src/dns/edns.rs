//! The OPT pseudo-record (RFC 6891 section 6.1).

/// What an OPT record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns<'a> {
    /// Bytes of UDP payload that the sender can take; below 512 counts as 512 (RFC 6891 section 6.2.3).
    pub udp_payload_size: u16,
    /// The upper eight bits of the response code.
    pub extended_rcode: u8,
    /// Version; 0 is the only one there is.
    pub version: u8,
    /// DNSSEC records are asked for (RFC 3225).
    pub dnssec_ok: bool,
    /// Options as they came: each a code and a length of two bytes, and data.
    pub options: &'a [u8],
}

impl<'a> Edns<'a> {
    /// An OPT record's class, TTL and data, which it uses for its own.
    pub(super) fn new(class: u16, ttl: u32, options: &'a [u8]) -> Self {
        let [extended_rcode, version, flags, _] = ttl.to_be_bytes();
        Self {
            udp_payload_size: class.max(512),
            extended_rcode,
            version,
            dnssec_ok: flags & 0x80 != 0,
            options,
        }
    }
}
