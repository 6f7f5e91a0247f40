//! Handing packets of content rules up to user space, and taking note of what comes back.
//!
//! Packet marks carry what cannot be said otherwise: "hand this up" to the NFQUEUE rule of kernels without `nft_queue`,
//! "settled" and "reject" from user space back to the `late` chains, which stand after it. See [`crate::datapath::mark`].

use super::HandUp;
use super::writer::Writer;
use crate::datapath::mark;

/// After the NFQUEUE rule in the `security` table, which iptables hooks up at 150 (iptables-nft) or 50 (iptables-legacy).
const LATE: i32 = 300;

/// Marks that others set on the packet are not ours.
pub(super) const FORGET_MARKS: &str =
    "meta mark & 0x0f000000 != 0 meta mark set meta mark & 0xf0ffffff";
/// Holds for packets of flows that need not be looked at any more.
pub(super) const IS_SETTLED: &str = "ct mark & 0x04000000 != 0";

// The texts above spell out these bits.
const _: () = assert!(mark::ALL == 0x0f00_0000 && mark::SETTLED == 0x0400_0000);

/// The chains that hand up, and those that act on what came back.
pub(super) fn write(writer: &mut Writer<'_>) {
    let Some(queues) = writer.context.queues else {
        return;
    };
    let bypass = writer.plan.on_failure.passes();
    let rule = match writer.context.hand_up {
        HandUp::Queue => {
            // Without `fanout`, which would choose the queue by CPU: each flow stays with one worker.
            let flags = if bypass { "flags bypass " } else { "" };
            let numbers = if queues.count > 1 {
                format!("{}-{}", queues.first, queues.last())
            } else {
                queues.first.to_string()
            };
            format!("queue {flags}num {numbers}")
        }
        HandUp::Mark => format!("meta mark set meta mark | {:#010x} accept", mark::HAND_UP),
    };
    // User space cannot see conntrack: it is told by a mark whether the flow was answered.
    let state = format!(
        "ct state established meta mark set meta mark | {:#010x}",
        mark::ESTABLISHED
    );
    writer.table.chain("hand_up", vec![state, rule]);
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
