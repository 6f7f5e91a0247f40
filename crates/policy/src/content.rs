//! What a rule may ask of a packet's payload.

use regex::bytes::{Regex, RegexBuilder};

use crate::host::{HostField, HostPattern};

/// Longest pattern, in bytes as written for a regular expression and as compared for the others.
pub const LONGEST_PATTERN: usize = 4_096;

/// Largest compiled regular expression, in bytes: what one rule may cost in memory.
pub const REGEX_BYTES: usize = 1 << 20;

/// Compiles the expression of a [`Pattern::Regex`] as every part of Portcullis has to: over bytes, Unicode off, of bounded
/// size. The error is one line that says what is wrong with the expression.
pub fn compile_regex(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_BYTES)
        .build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("it needs more than {} KiB when compiled", limit >> 10)
        }
        // The parser's message draws the expression; its last line says what is wrong.
        other => other
            .to_string()
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .map(|line| line.trim().trim_start_matches("error: ").to_owned())
            .unwrap_or_else(|| "it is malformed".to_owned()),
    })
}

/// A content condition. All of its parts must hold.
///
/// Only a packet with a payload can match; a SYN never does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Content {
    /// What to look for; `None` when only the lengths count.
    pub pattern: Option<Pattern>,
    /// Shortest payload that can match, in bytes; at least 1.
    pub min_len: u32,
    /// Longest payload that can match, in bytes. For [`Scope::Stream`] the lengths are those of the packet's own payload.
    pub max_len: Option<u32>,
    /// Whether the pattern is looked for in each packet by itself or in the stream.
    pub scope: Scope,
    /// Whether every packet of a flow is inspected. If not, a flow is settled after [`Scope::Stream`]'s depth, or after
    /// [`Content::SETTLE_BYTES`] bytes of payload in the rule's direction for packet scope, and then costs nothing.
    pub every_packet: bool,
}

impl Content {
    /// Payload bytes in the rule's direction after which a flow is settled when the rule does not say otherwise.
    pub const SETTLE_BYTES: u32 = 16 * 1024;

    /// The condition that the client of a TCP stream asks for one of these hosts.
    pub fn of_hosts(field: HostField, mut hosts: Vec<HostPattern>) -> Self {
        hosts.sort_unstable();
        hosts.dedup();
        Self {
            pattern: Some(Pattern::Host { field, hosts }),
            min_len: 1,
            max_len: None,
            scope: Scope::Stream {
                depth: Self::SETTLE_BYTES,
            },
            every_packet: false,
        }
    }

    /// Whether it asks for the length of a packet's payload, beyond that there is one.
    pub fn has_lengths(&self) -> bool {
        self.min_len > 1 || self.max_len.is_some()
    }

    /// The hosts that it asks for, and where.
    pub fn hosts(&self) -> Option<(HostField, &[HostPattern])> {
        match &self.pattern {
            Some(Pattern::Host { field, hosts }) => Some((*field, hosts)),
            Some(Pattern::At { .. } | Pattern::Contains { .. } | Pattern::Regex(_)) | None => None,
        }
    }
}

/// What to look for in the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Bytes at a fixed offset; a bit that is 0 in the mask is not compared. `bytes` is already masked; same length.
    At {
        /// First byte compared, counted from the begin of the payload (or of the stream).
        offset: u32,
        /// The bytes, with unmasked bits 0.
        bytes: Vec<u8>,
        /// 0xff compares the byte, 0x00 does not, other values some bits.
        mask: Vec<u8>,
    },
    /// Bytes anywhere.
    Contains {
        /// The bytes; at least one.
        bytes: Vec<u8>,
        /// Compare ASCII letters without case.
        ignore_case: bool,
    },
    /// A regular expression over bytes (syntax of the `regex` crate, Unicode off), validated and of bounded size.
    Regex(String),
    /// A client that asks for one of these hosts. In the stream, whatever the scope says: from its begin until the name is read,
    /// or of HTTP as long as it lives, in each of its requests.
    Host {
        /// Where it asks.
        field: HostField,
        /// The hosts; sorted, each once, at least one.
        hosts: Vec<HostPattern>,
    },
}

/// Where a pattern is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// In the payload of each packet.
    Packet,
    /// In the first `depth` bytes of the reassembled stream of each direction, so that splitting a pattern over segments
    /// does not hide it. For protocols without streams it is the same as [`Scope::Packet`].
    Stream {
        /// Bytes from the begin of the stream, 1 to 65,536.
        depth: u32,
    },
}
