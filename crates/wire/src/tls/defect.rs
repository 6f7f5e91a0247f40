//! Why a ClientHello was refused.

use std::fmt;

/// One defect. A TLS server would end the connection for each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsDefect {
    /// A record is longer than 2^14 bytes, or too many in a row are empty (RFC 8446 section 5.1).
    RecordLength,
    /// Another kind of record stands between the parts of the hello (RFC 8446 section 5.1).
    Interleaved,
    /// The hello is longer than [`HELLO_MAX`](super::HELLO_MAX).
    TooLong,
    /// A field ends outside of what holds it, or something is left over (RFC 8446 section 4.1.2).
    FieldLength,
    /// The same extension that is read here stands twice (RFC 8446 section 4.2).
    RepeatedExtension,
    /// The list of names is empty, or has more than one host name, or an empty one (RFC 6066 section 3).
    NameList,
    /// The host name is longer than 255 bytes, which no DNS name is.
    NameTooLong,
}

impl TlsDefect {
    /// Stable kebab-case name, for records and counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RecordLength => "tls-record-length",
            Self::Interleaved => "tls-interleaved",
            Self::TooLong => "tls-hello-too-long",
            Self::FieldLength => "tls-field-length",
            Self::RepeatedExtension => "tls-repeated-extension",
            Self::NameList => "tls-name-list",
            Self::NameTooLong => "tls-name-too-long",
        }
    }
}

impl fmt::Display for TlsDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RecordLength => "a TLS record is too long, or too many are empty",
            Self::Interleaved => "another TLS record stands inside the ClientHello",
            Self::TooLong => "the TLS ClientHello is longer than its fields can be",
            Self::FieldLength => "a field of the TLS ClientHello has an impossible length",
            Self::RepeatedExtension => "an extension of the TLS ClientHello is repeated",
            Self::NameList => "the TLS server name list does not hold exactly one host name",
            Self::NameTooLong => "the TLS server name is longer than 255 bytes",
        })
    }
}

impl std::error::Error for TlsDefect {}
