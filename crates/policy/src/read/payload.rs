//! `payload = { … }`: what a rule asks of the bytes.

use crate::content::{Content, LONGEST_PATTERN, Pattern, Scope, compile_regex};
use crate::diagnostic::quoted;
use crate::fields::{Fields, text};
use crate::report::Report;
use crate::tree::{Node, Span};

use super::Reported;

/// Farthest byte of a payload or stream that a pattern can name; streams are held for so many bytes at most.
const FARTHEST: u32 = 65_536;

pub(super) fn read(node: &Node, report: &mut Report) -> Result<Content, Reported> {
    let mut fields = Fields::of(node, "payload", report).ok_or(Reported)?;
    let before = report.error_count();

    let pattern = pattern(&mut fields, report);
    let min_len = fields.count("min_len", 1..=FARTHEST, report);
    let max_len = fields.count("max_len", 1..=FARTHEST, report);
    let stream = fields.flag("stream", report);
    let depth = fields.count("depth", 1..=FARTHEST, report);
    let every_packet = fields.flag("every_packet", report).unwrap_or(false);

    if stream == Some(false) && fields.get("depth").is_some() {
        let span = fields.key_span("depth");
        report
            .error(
                span,
                "bad-payload",
                "depth is for streams, and stream is false",
            )
            .expected("stream = true, or no depth");
    }
    let scope = if stream.unwrap_or(depth.is_some()) {
        Scope::Stream {
            depth: depth.unwrap_or(Content::SETTLE_BYTES),
        }
    } else {
        Scope::Packet
    };
    let nothing_asked = [
        "offset",
        "bytes",
        "contains",
        "contains_hex",
        "regex",
        "min_len",
        "max_len",
    ]
    .into_iter()
    .all(|key| fields.get(key).is_none());
    if nothing_asked && !fields.is_damaged() {
        report
            .error(node.span, "bad-payload", "payload asks for nothing")
            .expected("bytes, contains, contains_hex, regex, min_len or max_len");
    }
    let content = Content {
        pattern,
        min_len: min_len.unwrap_or(1),
        max_len,
        scope,
        every_packet,
    };
    let lengths_fit = lengths_fit(&content, &fields, report);
    if lengths_fit && report.error_count() == before {
        has_room(&content, &fields, report);
    }
    fields.finish(report);
    if report.error_count() == before {
        Ok(content)
    } else {
        Err(Reported)
    }
}

fn pattern(fields: &mut Fields<'_>, report: &mut Report) -> Option<Pattern> {
    let kinds: Vec<&'static str> = ["bytes", "contains", "contains_hex", "regex"]
        .into_iter()
        .filter(|kind| fields.get(kind).is_some())
        .collect();
    if let [first, second, ..] = kinds.as_slice() {
        let span = fields.key_span(second);
        report
            .error(
                span,
                "bad-payload",
                format!("a rule looks for one pattern, not {first} and {second}"),
            )
            .expected(
                "one of bytes, contains, contains_hex and regex; a second rule for the second",
            );
    }
    let offset = fields.count("offset", 0..=FARTHEST - 1, report);
    let ignore_case = fields.flag("ignore_case", report).unwrap_or(false);
    let kind = kinds.first().copied();
    if fields.get("offset").is_some() && kind != Some("bytes") {
        let span = fields.key_span("offset");
        report
            .error(
                span,
                "bad-payload",
                "offset says where bytes stand, and there are no bytes",
            )
            .expected("bytes = \"68 ?? 00\" beside it");
    }
    if ignore_case && !matches!(kind, Some("contains" | "regex")) {
        let span = fields.key_span("ignore_case");
        report
            .error(
                span,
                "bad-payload",
                "ignore_case is for text, and there is none",
            )
            .expected("contains or regex beside it");
    }
    // Of too many each is read, as each may be wrong by itself.
    let patterns = kinds.into_iter().map(|kind| {
        let node = fields.get(kind)?;
        let written = text(node, kind, report)?;
        match kind {
            "bytes" => {
                let (bytes, mask) = masked_bytes(node, kind, true, report)?;
                Some(Pattern::At {
                    offset: offset.unwrap_or(0),
                    bytes,
                    mask,
                })
            }
            "contains" => Some(Pattern::Contains {
                bytes: escaped(node, report)?,
                ignore_case,
            }),
            "contains_hex" => Some(Pattern::Contains {
                bytes: masked_bytes(node, kind, false, report)?.0,
                ignore_case: false,
            }),
            _ => regex(written, ignore_case, node.span, report),
        }
    });
    let patterns: Vec<Option<Pattern>> = patterns.collect();
    patterns.into_iter().next().flatten()
}

/// Pairs of hex digits, with `?` for a digit that does not matter; blanks between the pairs may be left out.
fn masked_bytes(
    node: &Node,
    key: &str,
    wildcards: bool,
    report: &mut Report,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let written = node.text().unwrap_or_default();
    let expected = if wildcards {
        "pairs of hex digits, ? for a digit that does not matter, such as \"68 ?? 0?\""
    } else {
        "pairs of hex digits such as \"de ad be ef\""
    };
    let (mut bytes, mut mask) = (Vec::new(), Vec::new());
    let mut begin: Option<(usize, u8, u8)> = None;
    for (at, character) in written.char_indices() {
        if character.is_ascii_whitespace() {
            if let Some((at, ..)) = begin {
                half_a_byte(node, at, expected, report);
                return None;
            }
            continue;
        }
        let digit = match character.to_digit(16) {
            Some(digit) => (digit as u8, 0x0f),
            None if character == '?' && wildcards => (0, 0),
            None => {
                let span = node.part(at, at + character.len_utf8());
                let message = format!("{key} has {} in it", quoted(&character.to_string()));
                report.error(span, "bad-hex", message).expected(expected);
                return None;
            }
        };
        match begin.take() {
            None => begin = Some((at, digit.0, digit.1)),
            Some((_, high, high_mask)) => {
                bytes.push(high << 4 | digit.0);
                mask.push(high_mask << 4 | digit.1);
            }
        }
    }
    if let Some((at, ..)) = begin {
        half_a_byte(node, at, expected, report);
        return None;
    }
    if bytes.is_empty() {
        report
            .error(node.span, "empty-pattern", format!("{key} is empty"))
            .expected(expected);
        return None;
    }
    if mask.iter().all(|&mask| mask == 0) {
        report
            .error(
                node.span,
                "empty-pattern",
                format!("{key} compares nothing"),
            )
            .expected(format!("a digit among the ?, or min_len = {}", bytes.len()));
        return None;
    }
    too_long(bytes.len(), node.span, report)?;
    Some((bytes, mask))
}

fn half_a_byte(node: &Node, at: usize, expected: &str, report: &mut Report) {
    let span = node.part(at, at + 1);
    report
        .error(span, "bad-hex", "half a byte: a digit stands alone")
        .expected(expected);
}

fn too_long(length: usize, span: Span, report: &mut Report) -> Option<()> {
    if length <= LONGEST_PATTERN {
        return Some(());
    }
    report
        .error(
            span,
            "pattern-too-long",
            format!("the pattern has {length} bytes"),
        )
        .expected(format!("at most {LONGEST_PATTERN}"));
    None
}

/// Text with `\xNN`, `\n`, `\r`, `\t`, `\0`, `\\` and `\"`.
fn escaped(node: &Node, report: &mut Report) -> Option<Vec<u8>> {
    let written = node.text().unwrap_or_default();
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest.as_bytes()[at + 1..];
        let (byte, length) = match escape {
            [b'n', ..] => (b'\n', 1),
            [b'r', ..] => (b'\r', 1),
            [b't', ..] => (b'\t', 1),
            [b'0', ..] => (0, 1),
            [b'\\', ..] => (b'\\', 1),
            [b'"', ..] => (b'"', 1),
            [b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digits = &rest[at + 2..at + 4];
                (u8::from_str_radix(digits, 16).unwrap_or_default(), 3)
            }
            _ => {
                let start = written.len() - rest.len() + at;
                let shown: String = rest[at..].chars().take(2).collect();
                let span = node.part(start, start + shown.len());
                let message = format!("contains has an unknown escape, {}", quoted(&shown));
                report
                    .error(span, "bad-escape", message)
                    .expected("\\xNN, \\n, \\r, \\t, \\0, \\\\ or \\\"");
                return None;
            }
        };
        bytes.push(byte);
        rest = &rest[at + 1 + length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    if bytes.is_empty() {
        report
            .error(
                node.span,
                "empty-pattern",
                "contains is empty, so that every payload would match",
            )
            .expected("at least one byte, or min_len = 1");
        return None;
    }
    too_long(bytes.len(), node.span, report)?;
    Some(bytes)
}

fn regex(written: &str, ignore_case: bool, span: Span, report: &mut Report) -> Option<Pattern> {
    if written.is_empty() {
        report
            .error(
                span,
                "empty-pattern",
                "regex is empty, so that every payload would match",
            )
            .expected("a regular expression, or min_len = 1");
        return None;
    }
    too_long(written.len(), span, report)?;
    let pattern = if ignore_case {
        format!("(?i){written}")
    } else {
        written.to_owned()
    };
    match compile_regex(&pattern) {
        Ok(regex) => {
            if regex.is_match(b"") {
                report
                    .warning(
                        span,
                        "matches-everything",
                        "regex matches every payload, as it can match nothing at all",
                    )
                    .expected("a part that has to be there; + where * stands");
            }
            Some(Pattern::Regex(pattern))
        }
        Err(problem) => {
            report
                .error(
                    span,
                    "bad-regex",
                    format!("regex cannot be used: {problem}"),
                )
                .expected("the syntax of Rust's regex crate, over bytes");
            None
        }
    }
}

/// Whether a payload can have the length that is asked for; of what could not be read the default is 1 to any.
fn lengths_fit(content: &Content, fields: &Fields<'_>, report: &mut Report) -> bool {
    let most = content.max_len.filter(|most| *most < content.min_len);
    if let Some(most) = most {
        let message = format!("max_len {most} is below min_len {}", content.min_len);
        report.error(fields.key_span("max_len"), "bad-payload", message);
    }
    most.is_none()
}

/// Whether the pattern ends where it is looked for.
fn has_room(content: &Content, fields: &Fields<'_>, report: &mut Report) {
    let (key, end) = match &content.pattern {
        Some(Pattern::At { offset, bytes, .. }) => ("bytes", *offset as usize + bytes.len()),
        Some(Pattern::Contains { bytes, .. }) => ("contains", bytes.len()),
        Some(Pattern::Regex(_) | Pattern::Host { .. }) | None => return,
    };
    let (room, what) = match (content.scope, content.max_len) {
        (Scope::Stream { depth }, _) => (depth, "depth"),
        (Scope::Packet, Some(most)) => (most, "max_len"),
        (Scope::Packet, None) => (FARTHEST, "the longest payload"),
    };
    if end > room as usize {
        let message = format!("the pattern ends at byte {end}, behind {what} ({room})");
        report.error(fields.key_span(key), "bad-payload", message);
    }
}
