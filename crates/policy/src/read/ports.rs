//! Ports: `22`, `"80,443,8000-8100"`, `[22, "8000-8100"]`.

use std::borrow::Cow;

use crate::diagnostic::quoted;
use crate::fields::parts;
use crate::port::PortSet;
use crate::protocol::{self, Protocols};
use crate::report::Report;
use crate::service;
use crate::tree::{Node, Span};

use super::{Reader, Reported};

const EXPECTED: &str = "a port from 0 to 65535, a range such as 8000-8100, or a list of those";

/// Ports of a setting: as those of a rule, but `any` is none. Nothing when it is not written, or wrong and reported.
pub(super) fn listed(
    node: Option<&Node>,
    key: &'static str,
    report: &mut Report,
) -> Option<PortSet> {
    let parts = parts(node?, key, EXPECTED, report)?;
    ranges(parts, key, report).map(PortSet::from_ranges)
}

impl Reader<'_> {
    /// `port` or `source_port`.
    pub(super) fn ports(
        &mut self,
        node: Option<&Node>,
        key: &'static str,
    ) -> Result<PortSet, Reported> {
        match node {
            None => Ok(PortSet::Any),
            Some(node) => read(node, key, self.report).ok_or(Reported),
        }
    }

    /// Whether ports fit the protocols; reported when one of these has none.
    pub(super) fn ports_fit(
        &mut self,
        protocols: Protocols,
        node: &Node,
        ports: &PortSet,
        key: &str,
    ) -> bool {
        if ports.is_any() || protocols.is_any() {
            return true;
        }
        let Some(portless) = protocols.iter().find(|&p| !protocol::has_ports(p)) else {
            return true;
        };
        let name = Protocols::one(portless);
        let message = format!("{key} is given, and {name} has no ports");
        self.report
            .error(node.span, "port-without-ports", message)
            .expected("protocol tcp, udp, sctp, udplite or dccp, or no ports");
        false
    }
}

/// A list of ports and ranges, or `any`; `None` when something in it is wrong, which is reported.
pub(super) fn read(node: &Node, key: &'static str, report: &mut Report) -> Option<PortSet> {
    let mut parts = parts(node, key, EXPECTED, report)?;
    let written = parts.len();
    parts.retain(|(part, _)| part != "any");
    let is_any = parts.len() < written;
    let ranges = ranges(parts, key, report)?;
    Some(if is_any {
        PortSet::Any
    } else {
        PortSet::from_ranges(ranges)
    })
}

/// Ports and ranges; `None` when one is wrong: then all that are have been reported.
fn ranges(
    parts: Vec<(Cow<'_, str>, Span)>,
    key: &str,
    report: &mut Report,
) -> Option<Vec<(u16, u16)>> {
    let written = parts.len();
    let ranges: Vec<_> = parts
        .into_iter()
        .filter_map(|(part, span)| range(&part, key, span, report))
        .collect();
    (ranges.len() == written).then_some(ranges)
}

fn range(text: &str, key: &str, span: Span, report: &mut Report) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim_end(), last.trim_start());
    let number = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (Some(from), Some(to)) = (number(first), number(last)) else {
        let service = service::named(text).map(|service| service.port.to_string());
        let colon = text
            .split_once(':')
            .filter(|(a, b)| number(a).is_some() && number(b).is_some())
            .map(|(a, b)| format!("{a}-{b}"));
        report
            .error(
                span,
                "bad-port",
                format!("{key} cannot be {}", quoted(text)),
            )
            .expected(EXPECTED)
            .suggest(service.or(colon));
        return None;
    };
    match (u16::try_from(from), u16::try_from(to)) {
        (Ok(from), Ok(to)) if from <= to => Some((from, to)),
        (Ok(_), Ok(_)) => {
            report
                .error(
                    span,
                    "bad-port",
                    format!("the range {} ends before it begins", quoted(text)),
                )
                .suggest(Some(format!("{last}-{first}")));
            None
        }
        (from, _) => {
            let beyond = if from.is_err() { first } else { last };
            let message = format!("{} is no port: the highest is 65535", quoted(beyond));
            report.error(span, "bad-port", message).expected(EXPECTED);
            None
        }
    }
}
