//! Handing packets of content rules, and questions to name servers, up to user space, and taking note of what comes back.
//!
//! Packet marks carry what cannot be said otherwise: "hand this up" to the NFQUEUE rule of kernels without `nft_queue`,
//! "settled" and "reject" from user space back to the `late` chains, which stand after it. See [`crate::datapath::mark`].

use policy::protocol::TCP;

use super::HandUp;
use super::flow::BEGINS;
use super::rule::Content;
use super::writer::Writer;
use crate::datapath::{Queues, mark};

/// After the NFQUEUE rule in the `security` table, which iptables hooks up at 150 (iptables-nft) or 50 (iptables-legacy).
const LATE: i32 = 300;
/// Behind the filters of others, before [`LATE`].
const ACCEPTED: i32 = 200;

/// Marks that others set on the packet are not ours.
pub(super) const FORGET_MARKS: &str =
    "meta mark & 0xdf000000 != 0 meta mark set meta mark & 0x20ffffff";
/// Holds for packets of flows that need not be looked at any more.
pub(super) const IS_SETTLED: &str = "ct mark & 0x3f000000 == 0x04000000";
/// Holds for the SYN+ACK of a connection of which user space has seen packets: it says which SYN its sender has taken, and which
/// acknowledgement proves that it was received. Also for a SYN under way, by which one side begins anew, settled or not.
const IS_OPENING: &str = "tcp flags & syn == syn ct mark & 0xbb000000 == 0x80000000";
/// Takes note, at a SYN, that a connection began with one: connection tracking also picks up what is under way, with whoever is heard first.
const NOTE_SYN: &str = "ct state new ct mark & 0xff000000 == 0 ct mark set ct mark | 0x40000000";
/// What answers no SYN is no begin, whoever calls it one: nothing of what was put together before is over by it.
const FORGET_FIRST: &str = "tcp flags & syn == syn ct direction reply ct mark & 0x40000000 == 0 meta mark set meta mark & 0x7fffffff";

// The texts above and below spell out these bits.
const _: () = assert!(
    mark::ALL == 0xdf00_0000
        && mark::OURS == 0xff00_0000
        && mark::SETTLED == 0x0400_0000
        && mark::FIRST == 0x8000_0000
        && mark::BY_SYN == 0x4000_0000
);

/// Whether packets are handed up to user space.
pub(super) fn hands_up(writer: &Writer<'_>) -> bool {
    writer.plan.looks_inside() && Content::of(writer) == Content::HandUp
}

/// The statement that queues.
fn queue(writer: &Writer<'_>, queues: Queues) -> String {
    // Without `fanout`, which would choose the queue by CPU: each flow stays with one worker.
    let bypass = writer.plan.on_failure.passes();
    let flags = if bypass { "flags bypass " } else { "" };
    let numbers = if queues.count > 1 {
        format!("{}-{}", queues.first, queues.last())
    } else {
        queues.first.to_string()
    };
    format!("queue {flags}num {numbers}")
}

/// User space cannot see conntrack: it is told by marks where a packet stands in its flow. Connection marks of others may have our bits
/// by accident: of those flows no packet is called the first.
fn standing() -> Vec<String> {
    let bits = [
        ("ct mark & 0xbf000000 == 0", mark::FIRST),
        ("ct state established ct direction reply", mark::REPLY),
        (
            "ct state established ct direction original",
            mark::ESTABLISHED,
        ),
        ("ct direction reply ct status assured", mark::ESTABLISHED),
    ];
    let bits = bits.map(|(test, bit)| format!("{test} meta mark set meta mark | {bit:#010x}"));
    bits.into_iter().chain([FORGET_FIRST.to_owned()]).collect()
}

/// Marks a packet as one to be handed up if the rules, which are asked behind, accept it.
pub(super) fn to_hand_up_if_accepted() -> Vec<String> {
    let mut rules = standing();
    let marks = mark::HAND_UP | mark::ACCEPTED;
    rules.push(format!("meta mark set meta mark | {marks:#010x}"));
    rules
}

/// The rule that takes note of how connections begin, where content rules or `[dns]` look at them.
pub(super) fn begins(writer: &Writer<'_>) -> Option<String> {
    looks_at_tcp(writer).then(|| format!("{BEGINS} {NOTE_SYN}"))
}

fn looks_at_tcp(writer: &Writer<'_>) -> bool {
    let mut rules = writer.plan.rules.iter();
    let looks = writer.plan.dns.is_some()
        || rules.any(|rule| rule.content.is_some() && rule.protocols.contains(TCP));
    looks && hands_up(writer)
}

/// The rule that hands up how connections open, where content rules or `[dns]` look at them.
pub(super) fn openings(writer: &Writer<'_>) -> Option<String> {
    looks_at_tcp(writer).then(|| format!("{IS_OPENING} goto hand_up"))
}

/// The rule for a SYN under way of the side that began the connection, about which the rules decide: where user space follows the
/// connection it has to see what they accept.
pub(super) fn begins_again(writer: &Writer<'_>) -> Option<String> {
    looks_at_tcp(writer).then(|| format!("ct state established {IS_OPENING} jump begins_again"))
}

/// The chains that queue what the rules have accepted, where no NFQUEUE rule of iptables does.
fn queue_accepted(writer: &mut Writer<'_>, queues: Queues) {
    if writer.context.hand_up == HandUp::Mark {
        return;
    }
    let queue = queue(writer, queues);
    let rule = format!("meta mark & {:#010x} != 0 {queue}", mark::HAND_UP);
    for (chain, hook) in [
        ("accepted_in", "input"),
        ("accepted_out", "output"),
        ("accepted_forward", "forward"),
    ] {
        let rules = vec![rule.clone()];
        writer.table.base_chain(chain, hook, ACCEPTED, rules);
    }
}

/// The chains that hand up, and those that act on what came back.
pub(super) fn write(writer: &mut Writer<'_>) {
    let Some(queues) = writer.context.queues else {
        return;
    };
    // What a content rule has to see first, the rules behind it have not accepted.
    let others = !(mark::HAND_UP | mark::ACCEPTED);
    let follows_tcp = looks_at_tcp(writer);
    let mut rules = standing();
    match writer.context.hand_up {
        HandUp::Mark => rules.push(format!(
            "meta mark set meta mark & {others:#010x} | {:#010x} accept",
            mark::HAND_UP
        )),
        HandUp::Queue => {
            rules.extend(follows_tcp.then(|| format!("meta mark set meta mark & {others:#010x}")));
            rules.push(queue(writer, queues));
        }
    }
    writer.table.chain("hand_up", rules);
    if follows_tcp {
        let rules = to_hand_up_if_accepted();
        writer.table.chain("begins_again", rules);
        queue_accepted(writer, queues);
    }
    for (chain, hook) in [
        ("late_in", "input"),
        ("late_out", "output"),
        ("late_forward", "forward"),
    ] {
        let rules = vec![format!("meta mark & {:#010x} != 0 goto late", mark::ALL)];
        writer.table.base_chain(chain, hook, LATE, rules);
    }
    writer.table.chain(
        "late",
        vec![
            format!(
                "meta mark & {0:#010x} != 0 ct mark set ct mark & {1:#010x} | {0:#010x}",
                mark::FIRST,
                !(mark::SETTLED | mark::FIRST)
            ),
            format!(
                "meta mark & {0:#010x} != 0 ct mark set ct mark | {0:#010x}",
                mark::SETTLED
            ),
            format!("meta mark & {:#010x} != 0 goto late_reject", mark::REJECT),
            FORGET_MARKS.to_owned(),
        ],
    );
    writer.table.chain(
        "late_reject",
        vec![FORGET_MARKS.to_owned(), "goto refuse".to_owned()],
    );
}
