//! What people write who come from another firewall, and how it is written here: an example says more than a list of words.

use super::RULE_STATEMENTS;
use crate::literal;
use crate::report::Report;
use crate::service;
use crate::tree::Span;

/// A word in the place of the protocol that is none.
pub(super) struct Foreign {
    /// What is wrong with it.
    pub(super) message: String,
    /// The rule as it is written here.
    pub(super) example: String,
}

/// What a word means that stands where a rule names its protocol: `22/tcp`, `ssh`, `192.0.2.1`. `None` for what means nothing.
pub(super) fn protocol(action: &str, direction: Option<&str>, word: &str) -> Option<Foreign> {
    let direction = direction.unwrap_or("in");
    let rule = |protocol: &str, port: &str| match action {
        "limit" => format!("limit {direction} {protocol} port {port} rate 6/minute"),
        action => format!("{action} {direction} {protocol} port {port}"),
    };
    if let Some((ports, protocol @ ("tcp" | "udp"))) = word.split_once('/')
        && is_ports(ports)
    {
        return Some(Foreign {
            message: format!("{word:?} is no protocol: the protocol stands first, then the port"),
            example: rule(protocol, &ports.replace(':', "-")),
        });
    }
    if let Some(service) = service::named(word) {
        return Some(Foreign {
            message: format!("{word:?} is no protocol: services are named by protocol and port"),
            example: rule(service.protocol, &service.port.to_string()),
        });
    }
    // Above 255 it is no protocol either.
    if is_ports(word) && word.parse::<u8>().is_err() {
        return Some(Foreign {
            message: format!("{word:?} is no protocol: a port stands behind the word port"),
            example: rule("tcp", &word.replace(':', "-")),
        });
    }
    let is_address = word.contains(['.', ':']) && literal::read(word).is_ok();
    is_address.then(|| Foreign {
        message: format!("{word:?} is no protocol: an address stands behind from or to"),
        example: match direction {
            "out" => format!("{action} out to {word}"),
            _ => format!("{action} {direction} from {word}"),
        },
    })
}

/// Warns of a number that is a protocol here, and was perhaps meant as a port.
pub(super) fn number(action: &str, word: &str, span: Span, report: &mut Report) {
    let Ok(number) = word.parse::<u16>() else {
        return;
    };
    if service::has_port(number) && number < 256 {
        let message = format!("{number} is taken for a protocol here, not for a port");
        report
            .warning(span, "protocol-number", message)
            .expected(format!(
                "{action} in tcp port {number}, for example, or protocol {number} if that is meant"
            ));
    }
}

/// `deny incoming` behind `default`, as it is written here.
pub(super) fn default(first: &str, second: Option<&str>) -> Option<String> {
    let is_action = RULE_STATEMENTS.contains(&first);
    let direction = match second {
        Some("outgoing" | "out" | "output" | "outbound") => "out",
        Some("routed" | "forward" | "forwarded") => "forward",
        _ => "in",
    };
    is_action.then(|| format!("default {direction} {first}"))
}

fn is_ports(text: &str) -> bool {
    let is_port = |part: &str| part.parse::<u16>().is_ok();
    !text.is_empty() && text.split([',', ':', '-']).all(is_port)
}
