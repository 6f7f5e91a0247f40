//! Questions to name servers: `[dns]` looks at those that the rules let pass.
//!
//! They are marked before flow state and rules are asked, and queued behind all of that: by the NFQUEUE rule of iptables, or by
//! chains of our own where nf_tables can queue. So the rules decide first, and only what they accept waits for user space.
//! Each question is looked at: the mark that settles a flow for content rules says nothing here.

use policy::{Direction, DnsFilter, PortSet};

use super::writer::Writer;
use super::{HandUp, inspect, rule::Content, shield};
use crate::datapath::mark;

/// Behind the filters of others, before [`inspect`] acts on what came back.
const PRIORITY: i32 = 200;

/// The filter, where its verdicts are carried out.
fn filter<'a>(writer: &Writer<'a>) -> Option<&'a DnsFilter> {
    let is_skipped = Content::of(writer) == Content::Skip;
    writer.plan.dns.as_ref().filter(|_| !is_skipped)
}

/// The rule that sends questions by the chain that marks them. What this host says to itself is seen when it leaves.
pub(super) fn jump(writer: &Writer<'_>, direction: Direction) -> Option<String> {
    let ports = ports(&filter(writer)?.ports);
    let outside = match direction {
        Direction::In => " iif != \"lo\"",
        Direction::Out | Direction::Forward => "",
    };
    Some(format!("{ports}{outside} jump questions"))
}

/// A look at two bytes for all other packets; which protocol they belong to is asked behind.
fn ports(ports: &PortSet) -> String {
    match side(ports, "dport") {
        Some(side) => side,
        None => "meta l4proto { tcp, udp }".to_owned(),
    }
}

/// The rule that copies answers of name servers to user space, which tells flows by name then. It decides nothing, and no packet
/// waits for it.
pub(super) fn copies(writer: &Writer<'_>, direction: Direction) -> Option<String> {
    let filter = filter(writer)?;
    // What this host says to itself is seen when it leaves.
    let outside = match direction {
        Direction::In => " iif != \"lo\"",
        Direction::Out | Direction::Forward => "",
    };
    let ports = side(&filter.ports, "sport").unwrap_or_default();
    let copy = writer.copy_answer();
    Some(format!(
        "{ports}{outside} meta l4proto udp ct state established ct direction reply {copy}"
    ))
}

/// A look at the ports of one side; nothing where every port counts.
fn side(ports: &PortSet, side: &str) -> Option<String> {
    if ports.is_any() {
        return None;
    }
    let ranges = ports.ranges().iter().map(|&(first, last)| match last {
        last if last == first => first.to_string(),
        last => format!("{first}-{last}"),
    });
    let ranges: Vec<String> = ranges.collect();
    Some(match &ranges[..] {
        [one] => format!("th {side} {one}"),
        several => format!("th {side} {{ {} }}", several.join(", ")),
    })
}

/// The rules that let answers pass which user space sends in the place of a name server.
pub(super) fn answers(writer: &Writer<'_>, direction: Direction) -> Vec<String> {
    if filter(writer).is_none() || !inspect::hands_up(writer) {
        return Vec::new();
    }
    let is_answer = format!("meta mark & {:#010x} != 0 accept", mark::ANSWER);
    match direction {
        Direction::In => vec![format!("iif \"lo\" {is_answer}")],
        Direction::Out => vec![is_answer],
        Direction::Forward => Vec::new(),
    }
}

pub(super) fn write(writer: &mut Writer<'_>) {
    if filter(writer).is_none() {
        return;
    }
    let mut rules = vec![
        "meta l4proto != { tcp, udp } return".to_owned(),
        // Answers to a client whose port is one of these. What is not tracked has no direction, and is looked at.
        "ct direction reply return".to_owned(),
    ];
    let Some(queues) = writer.context.queues else {
        // Nobody looks, and the policy says what then.
        rules.push(writer.drop());
        return writer.table.chain("questions", rules);
    };
    let marks = mark::HAND_UP | mark::ACCEPTED;
    rules.push(inspect::is_established());
    rules.push(format!("meta mark set meta mark | {marks:#010x}"));
    writer.table.chain("questions", rules);
    // An answer belongs to no flow that connection tracking could know: the question has never begun one.
    let untracked = format!("meta mark & {:#010x} != 0 notrack", mark::ANSWER);
    let chain = "answers";
    writer
        .table
        .base_chain(chain, "output", shield::PRIORITY, vec![untracked]);
    if writer.context.hand_up == HandUp::Queue {
        let queue = inspect::queue(writer, queues);
        let rule = format!("meta mark & {:#010x} != 0 {queue}", mark::HAND_UP);
        for (chain, hook) in [
            ("questions_in", "input"),
            ("questions_out", "output"),
            ("questions_forward", "forward"),
        ] {
            let rules = vec![rule.clone()];
            writer.table.base_chain(chain, hook, PRIORITY, rules);
        }
    }
}
