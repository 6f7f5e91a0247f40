//! What user space sends in the place of others: answers of name servers, and resets of connections. No rule is asked of it.
//! See [`Replier`](crate::reply::Replier).

use policy::protocol::TCP;
use policy::{Action, Direction};

use super::writer::Writer;
use super::{inspect, question};
use crate::datapath::mark;

/// Whether user space sent the packet. Foreign marks mostly are whole numbers that have the bit by accident.
pub(super) fn is_forged() -> String {
    format!("meta mark & {:#010x} == {:#010x}", mark::OURS, mark::FORGED)
}

/// The rules that let it pass.
pub(super) fn passes(writer: &Writer<'_>, direction: Direction) -> Vec<String> {
    let is_any_sent = question::filter(writer).is_some() || resets(writer);
    if !is_any_sent || !inspect::hands_up(writer) {
        return Vec::new();
    }
    let passes = format!("{} accept", is_forged());
    match direction {
        Direction::In => vec![format!("iif \"lo\" {passes}")],
        Direction::Out => vec![passes],
        Direction::Forward => Vec::new(),
    }
}

/// Whether a content rule resets connections: the kernel resets who sent the packet, and user space whom it was for.
fn resets(writer: &Writer<'_>) -> bool {
    (writer.plan.rules.iter()).any(|rule| {
        rule.action == Action::Reject && rule.content.is_some() && rule.protocols.contains(TCP)
    })
}
