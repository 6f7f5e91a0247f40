//! A packet of a rule, from the numbers of a box: with an interface and a payload that the rule asks for.

use regex_syntax::hir::{Class, Hir, HirKind};

use super::region::{DESTINATION, DIRECTION, PORT, PROTOCOL, Point, SOURCE, SOURCE_PORT};
use crate::address::key_address;
use crate::content::{Content, Pattern};
use crate::evaluate::content_matches;
use crate::host::Asks;
use crate::plan::{Direction, Interface, Plan};
use crate::protocol;
use crate::witness::Witness;

/// Longest payload that is made up.
const LONGEST: usize = 65_536;

/// `None` when a regular expression is too hard to satisfy.
pub(super) fn packet(plan: &Plan, place: usize, point: &Point) -> Option<Witness> {
    let rule = &plan.rules[place];
    let protocol = u8::try_from(point[PROTOCOL]).ok()?;
    let hosts = rule.content.as_ref().and_then(Content::hosts);
    let payload = match &rule.content {
        Some(content) if hosts.is_none() => payload(content, protocol == protocol::TCP)?,
        Some(_) | None => Vec::new(),
    };
    Some(Witness {
        direction: Direction::ALL[usize::try_from(point[DIRECTION]).ok()? % 3],
        protocol,
        source: key_address(point[SOURCE]),
        destination: key_address(point[DESTINATION]),
        source_port: u16::try_from(point[SOURCE_PORT]).ok(),
        destination_port: u16::try_from(point[PORT]).ok(),
        interface: rule
            .interface
            .as_ref()
            .map(|interface| interface_name(plan, interface)),
        payload,
        asks: hosts.and_then(|(field, hosts)| {
            let host = hosts.first()?.example();
            Some(Asks { field, host })
        }),
    })
}

/// A name that the condition matches, and no other condition of the policy if that can be.
fn interface_name(plan: &Plan, wanted: &Interface) -> String {
    let begin = match wanted {
        Interface::Named(name) => return name.clone(),
        Interface::Prefix(begin) => begin,
    };
    let mut names = (0..100).map(|number| format!("{begin}{number}"));
    let is_free = |name: &String| {
        let mut conditions = plan.rules.iter().filter_map(|rule| rule.interface.as_ref());
        conditions.all(|other| match other {
            Interface::Named(other) => other != name,
            // One that is wider matches all of these names.
            Interface::Prefix(other) => {
                !name.starts_with(other.as_str()) || begin.starts_with(other.as_str())
            }
        })
    };
    names.find(is_free).unwrap_or_else(|| format!("{begin}0"))
}

fn payload(content: &Content, has_stream: bool) -> Option<Vec<u8>> {
    const FILL: u8 = b'.';
    let least = (content.min_len as usize).min(LONGEST);
    let found = match &content.pattern {
        // Told by the name, not by the bytes.
        None | Some(Pattern::Host { .. }) => Vec::new(),
        Some(Pattern::At { offset, bytes, .. }) => {
            let mut payload = vec![0; *offset as usize];
            payload.extend_from_slice(bytes);
            payload
        }
        Some(Pattern::Contains { bytes, .. }) => bytes.clone(),
        Some(Pattern::Regex(pattern)) => {
            let mut parser = regex_syntax::ParserBuilder::new()
                .unicode(false)
                .utf8(false)
                .build();
            let mut payload = Vec::new();
            satisfy(&parser.parse(pattern).ok()?, &mut payload, &mut 100_000);
            payload
        }
    };
    let missing = least.saturating_sub(found.len());
    let fill = vec![FILL; missing];
    [
        [found.clone(), fill.clone()].concat(),
        [fill, found].concat(),
    ]
    .into_iter()
    .find(|payload| content_matches(content, payload, has_stream))
}

/// Appends a text that the expression matches, but for its looks around, which the caller has to try.
/// `steps` bounds repetitions of nothing, such as `(){1000}{1000}`.
fn satisfy(hir: &Hir, text: &mut Vec<u8>, steps: &mut u32) {
    *steps = steps.saturating_sub(1);
    if text.len() > LONGEST || *steps == 0 {
        return;
    }
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.extend_from_slice(&literal.0),
        HirKind::Class(Class::Bytes(class)) => {
            let printable = class
                .ranges()
                .iter()
                .find_map(|range| (range.start()..=range.end()).find(u8::is_ascii_graphic));
            let first = class.ranges().first().map(|range| range.start());
            text.extend(printable.or(first));
        }
        HirKind::Class(Class::Unicode(class)) => {
            let first = class.ranges().first().map(|range| range.start());
            let mut buffer = [0; 4];
            text.extend(
                first
                    .into_iter()
                    .flat_map(|c| c.encode_utf8(&mut buffer).bytes().collect::<Vec<_>>()),
            );
        }
        HirKind::Repetition(repetition) => {
            // Once where it could be left out: a payload must not be empty.
            let times = match repetition.max {
                Some(0) => 0,
                _ => repetition.min.max(1),
            };
            for _ in 0..times {
                satisfy(&repetition.sub, text, steps);
                if *steps == 0 {
                    return;
                }
            }
        }
        HirKind::Capture(capture) => satisfy(&capture.sub, text, steps),
        HirKind::Concat(parts) => parts.iter().for_each(|part| satisfy(part, text, steps)),
        HirKind::Alternation(ways) => {
            if let Some(way) = ways.first() {
                satisfy(way, text, steps);
            }
        }
    }
}
