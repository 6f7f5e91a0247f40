//! Events as one line each for people: time, what happened, the packet in short, and why.

use std::fmt::Write as _;

use engine::{Alert, BanEnd, Event, EventBody, Verdict};

use super::escape::Escaped;
use super::eve::Context;
use super::explain::{self, decided};
use super::notice::Notice;
use super::{ban, proto};

/// The line of an event, without newline. `None` for events that are only for machines: flows.
pub fn line(event: &Event, context: Context<'_>) -> Option<String> {
    let (action, why) = match &event.body {
        EventBody::Drop {
            verdict, reason, ..
        } => {
            let action = match (verdict, context.enforced) {
                (Verdict::Reject, true) => "REJECT",
                (Verdict::Reject, false) => "WOULD-REJECT",
                (_, true) => "DROP",
                (_, false) => "WOULD-DROP",
            };
            (action, decided(context.plan, *verdict, *reason).text)
        }
        EventBody::Logged { rule, .. } => ("ALLOW", explain::rule_text(context.plan, *rule)),
        EventBody::Dns(question) => {
            let action = match (question.blocked, context.enforced) {
                (None, _) => "DNS",
                (Some(_), true) => "DNS-BLOCKED",
                (Some(_), false) => "WOULD-DNS-BLOCK",
            };
            let tuple = event.tuple.as_ref();
            (action, explain::question(question, tuple).text)
        }
        EventBody::Alert(Alert::Content {
            rule,
            verdict,
            host,
        }) => {
            let what = if *verdict == Verdict::Allow {
                "passed"
            } else {
                "stopped"
            };
            let mut why = format!(
                "{what} by content {}",
                explain::rule_text(context.plan, *rule)
            );
            if let Some(asked) = host {
                why.push_str(&explain::asked_host(asked));
            }
            ("ALERT", why)
        }
        EventBody::Alert(Alert::Detector {
            detector,
            evidence,
            banned,
        }) => {
            let mut why = format!("detector {detector}: {}", evidence.describe(*detector));
            match (*banned, context.enforced) {
                (true, true) => why.push_str("; banned"),
                (true, false) => why.push_str("; would be banned"),
                (false, _) => {}
            }
            ("ALERT", why)
        }
        EventBody::Anomaly { name, .. } => ("ANOMALY", (*name).to_owned()),
        EventBody::Flow(_) => return None,
        EventBody::Ban(made) => {
            let until = match ban::ban(made, event.at).expires {
                Some(expires) => format!("until {expires}"),
                None => "until it is lifted".to_owned(),
            };
            let why = format!(
                "{} {until}: {} ({})",
                explain::short(made.prefix),
                made.reason,
                made.origin.name()
            );
            let is_ban = context.enforced && !made.would_be;
            (if is_ban { "BAN" } else { "WOULD-BAN" }, why)
        }
        EventBody::Unban { ban, end } => {
            let how = match end {
                BanEnd::Expired => "it ran out",
                BanEnd::Lifted => "it was lifted",
                BanEnd::NotEnforced => {
                    "it was never in force, and is not now that enforcing begins"
                }
            };
            let was = if ban.would_be || *end == BanEnd::NotEnforced {
                "would have been"
            } else {
                "was"
            };
            let prefix = explain::short(ban.prefix);
            (
                "UNBAN",
                format!("{prefix}: {how}; it {was} banned for: {}", ban.reason),
            )
        }
        EventBody::BanRefused { refused, .. } => ("BAN-REFUSED", refused.to_string()),
    };

    let mut line = format!("{} {action}", event.at);
    // Writing into a String cannot fail.
    if let Some(direction) = event.direction {
        let _ = write!(line, " {direction}");
    }
    if let Some(interface) = &event.interface {
        let _ = write!(line, " {}", Escaped(interface));
    }
    if let Some(tuple) = &event.tuple {
        let _ = write!(line, " {}", packet(tuple));
    }
    if let EventBody::Drop { packet, .. } | EventBody::Logged { packet, .. } = &event.body {
        let _ = write!(line, " len {} ttl {}", packet.len, packet.hop_limit);
        if let Some((kind, code)) = packet.icmp {
            let _ = write!(line, " type {kind} code {code}");
        }
        if let Some(flags) = packet.tcp_flags {
            let _ = write!(line, " flags {}", tcp_flags(flags));
        }
    }
    let _ = write!(line, ": {}", Escaped(&why));
    Some(line)
}

/// The line of a notice, without newline.
pub fn notice_line(notice: &Notice) -> String {
    let kind = notice.kind.name().to_ascii_uppercase();
    format!("{} {kind}: {}", notice.at, Escaped(&notice.text))
}

/// `TCP 203.0.113.7:40000 > 192.0.2.1:22`.
fn packet(tuple: &wire::FiveTuple) -> String {
    let end = |address: std::net::IpAddr, port: Option<u16>| match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    format!(
        "{} {} > {}",
        proto::Name(tuple.protocol),
        end(tuple.source, tuple.source_port),
        end(tuple.destination, tuple.destination_port)
    )
}

/// `SA`, in the letters of tcpdump but without dots; `none` when no bit is set.
fn tcp_flags(flags: u8) -> String {
    let letters: String = "FSRPAUEC"
        .chars()
        .enumerate()
        .filter(|(bit, _)| flags >> bit & 1 == 1)
        .map(|(_, letter)| letter)
        .collect();
    if letters.is_empty() {
        "none".to_owned()
    } else {
        letters
    }
}
