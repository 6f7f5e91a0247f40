//! Why a DNS message, or a name in it, was refused.

use std::fmt;

/// One defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Defect {
    /// Fewer than the 12 bytes of a header (RFC 1035 section 4.1.1).
    HeaderTruncated,
    /// The message ends inside a name, a question or a record (RFC 1035 section 4.1).
    Truncated,
    /// A label begins with the reserved bits 01 or 10 (RFC 1035 section 4.1.4, RFC 6891 section 5).
    LabelType,
    /// A name is longer than 255 bytes on the wire, with pointers followed (RFC 1035 section 2.3.4).
    NameTooLong,
    /// A pointer does not lead to before the labels that it ends, as a loop must (RFC 1035 section 4.1.4: to a *prior*
    /// occurrence).
    PointerForward,
    /// A pointer leads into the header, where no name is.
    PointerIntoHeader,
    /// A name takes more pointers than it can have labels.
    TooManyPointers,
    /// A label of a text is empty or longer than 63 bytes (RFC 1035 section 2.3.4).
    LabelLength,
    /// A text ends inside an escape, or a decimal escape is above 255 (RFC 1035 section 5.1).
    Escape,
    /// The data of an A, AAAA or CNAME record has not the length of what it holds (RFC 1035 section 3.3, RFC 3596).
    DataLength,
    /// An OPT record stands twice, outside the additional section, or has a name (RFC 6891 section 6.1.1).
    Opt,
}

impl Defect {
    /// Stable kebab-case name, for records and counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HeaderTruncated => "dns-header-truncated",
            Self::Truncated => "dns-truncated",
            Self::LabelType => "dns-label-type",
            Self::NameTooLong => "dns-name-too-long",
            Self::PointerForward => "dns-pointer-forward",
            Self::PointerIntoHeader => "dns-pointer-into-header",
            Self::TooManyPointers => "dns-too-many-pointers",
            Self::LabelLength => "dns-label-length",
            Self::Escape => "dns-escape",
            Self::DataLength => "dns-data-length",
            Self::Opt => "dns-opt",
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HeaderTruncated => "the DNS message is shorter than its header of 12 bytes",
            Self::Truncated => "the DNS message ends inside a name or a record",
            Self::LabelType => "a DNS label has a reserved type",
            Self::NameTooLong => "a DNS name is longer than 255 bytes",
            Self::PointerForward => "a DNS compression pointer does not lead backwards",
            Self::PointerIntoHeader => "a DNS compression pointer leads into the header",
            Self::TooManyPointers => "a DNS name takes more than 126 compression pointers",
            Self::LabelLength => "a label of the name is empty or longer than 63 bytes",
            Self::Escape => "an escape in the name is neither \\X nor \\DDD up to 255",
            Self::DataLength => "the data of a DNS record has the wrong length",
            Self::Opt => "the EDNS record of the DNS message is repeated or misplaced",
        })
    }
}

impl std::error::Error for Defect {}
