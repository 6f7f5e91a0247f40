//! Why a request head has more than one reading.

use std::fmt;

/// One reason. RFC 9112 lets or makes a server refuse the request for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Ambiguity {
    /// The request line is not method, target and version of HTTP/1 with one space between them (RFC 9112 section 3).
    RequestLine,
    /// The target is in none of the four forms, or names no host where it must (RFC 9112 section 3.2, RFC 9110 section
    /// 4.2.1).
    Target,
    /// A user name stands before the host, which hides it (RFC 9110 section 4.2.4).
    UserInfo,
    /// What stands behind the host is no port (RFC 3986 section 3.2.3).
    Port,
    /// Host fields differ (RFC 9112 section 3.2).
    HostFields,
    /// Space stands between a field's name and its colon (RFC 9112 section 5.1).
    SpaceBeforeColon,
    /// A field's name is empty or holds what no name may (RFC 9112 section 5.1).
    FieldName,
    /// A line is no field: it has no colon.
    FieldLine,
    /// A line that begins with space continues the Host field or no field, or looks like a Host field itself (RFC 9112
    /// sections 2.2 and 5.2).
    Folding,
    /// A line holds a NUL, or a carriage return that does not end it (RFC 9112 section 2.2, RFC 9110 section 5.5).
    ControlCharacter,
}

impl Ambiguity {
    /// Stable kebab-case name, for records and counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestLine => "http-request-line",
            Self::Target => "http-target",
            Self::UserInfo => "http-user-info",
            Self::Port => "http-port",
            Self::HostFields => "http-host-fields",
            Self::SpaceBeforeColon => "http-space-before-colon",
            Self::FieldName => "http-field-name",
            Self::FieldLine => "http-field-line",
            Self::Folding => "http-folding",
            Self::ControlCharacter => "http-control-character",
        }
    }
}

impl fmt::Display for Ambiguity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestLine => "the HTTP request line is not method, target and version",
            Self::Target => "the HTTP request target is in no known form",
            Self::UserInfo => "a user name hides the host of the HTTP request",
            Self::Port => "what follows the host of the HTTP request is no port",
            Self::HostFields => "the HTTP request has Host fields that differ",
            Self::SpaceBeforeColon => "space stands before the colon of an HTTP field",
            Self::FieldName => "the name of an HTTP field is malformed",
            Self::FieldLine => "a line of the HTTP head has no colon",
            Self::Folding => "a continued line of the HTTP head may change its host",
            Self::ControlCharacter => "the HTTP head holds a NUL or a lone carriage return",
        })
    }
}

impl std::error::Error for Ambiguity {}
