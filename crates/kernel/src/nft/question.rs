//! Questions to name servers: `[dns]` looks at those that the rules let pass.
//!
//! They are marked before flow state and rules are asked, and queued behind all of that: by the NFQUEUE rule of iptables, or by
//! chains of our own ([`inspect`]) where nf_tables can queue. So the rules decide first, and only what they accept waits for user space.
//! Each question is looked at: the mark that settles a flow for content rules says nothing here. Nor does the direction of a flow,
//! which is that of the packet by which connection tracking came to know it: a client can bring about that this is an answer.

use std::num::NonZeroU32;
use std::time::Duration;

use policy::{Direction, DnsFilter, PortSet};

use super::list::Family;
use super::rate::meter;
use super::rule::meter_set;
use super::writer::Writer;
use super::{forged, inspect, rule::Content, shield};

/// Questions that one source may have looked at in a second, and at once: more than a fast name server answers. All of one source and
/// server wait in the same queue, so that they delay few others.
const MOST_PER_SECOND: NonZeroU32 = NonZeroU32::new(200_000).unwrap();
/// Counts what is over that.
pub(super) const OVER: &str = "questions_over";

/// The filter, where its verdicts are carried out.
pub(super) fn filter<'a>(writer: &Writer<'a>) -> Option<&'a DnsFilter> {
    let is_skipped = Content::of(writer) == Content::Skip;
    writer.plan.dns.as_ref().filter(|_| !is_skipped)
}

/// The rule that sends questions by the chain that marks them.
pub(super) fn jump(writer: &Writer<'_>, direction: Direction) -> Option<String> {
    let ports = ports(&filter(writer)?.ports);
    let outside = outside(direction);
    Some(format!("{ports}{outside} jump questions"))
}

/// What this host says to itself is seen when it leaves, and not again when it comes.
const fn outside(direction: Direction) -> &'static str {
    match direction {
        Direction::In => " iif != \"lo\"",
        Direction::Out | Direction::Forward => "",
    }
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
    let outside = outside(direction);
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

/// Has no source fill the queue in which the questions of others wait: what is over the rate goes before it is copied. Not of this
/// host, whose packets come by no interface.
fn meters(writer: &mut Writer<'_>) -> Vec<String> {
    let bucket = meter(MOST_PER_SECOND, Duration::from_secs(1), MOST_PER_SECOND);
    let over = writer.table.counter(OVER);
    let meter_of = |family: Family| {
        let name = format!("questions_{}", family.suffix());
        let sources = writer.plan.limits.sources;
        let set = meter_set(&name, family.key_type(), sources, bucket.memory);
        writer.table.set(set);
        let source = family.counted_source();
        let terms = &bucket.terms;
        format!("iif != \"lo\" update @{name} {{ {source} limit rate over {terms} }} {over} drop")
    };
    Family::BOTH.into_iter().map(meter_of).collect()
}

pub(super) fn write(writer: &mut Writer<'_>) {
    if filter(writer).is_none() {
        return;
    }
    let mut rules = vec![
        "meta l4proto != { tcp, udp } return".to_owned(),
        // Asks nothing; and the kernel's own, by which a rejected packet is answered, cannot wait.
        "ct direction reply tcp flags & (rst) == rst return".to_owned(),
        // So do those by which rejected answers are answered.
        "ct state related tcp flags & (rst) == rst return".to_owned(),
    ];
    if writer.context.queues.is_none() {
        // Nobody looks, and the policy says what then.
        rules.push(writer.drop());
        return writer.table.chain("questions", rules);
    }
    rules.extend(meters(writer));
    rules.extend(inspect::to_hand_up_if_accepted());
    writer.table.chain("questions", rules);
    // An answer belongs to no flow that connection tracking could know: the question has never begun one. A reset does, which
    // ends with it, and in which addresses are translated.
    let untracked = format!("meta l4proto udp {} notrack", forged::is_forged());
    let chain = "answers";
    writer
        .table
        .base_chain(chain, "output", shield::PRIORITY, vec![untracked]);
}
