//! Verdicts, and how few messages carry them to the kernel.
//!
//! `NFQNL_MSG_VERDICT_BATCH` decides every waiting packet up to an id. So drops go first, each by itself; then a run of accepts
//! with the same mark is one message, and what was dropped among them is no longer there to be accepted.

use super::SUBSYSTEM;
use crate::netlink::{Builder, Netfilter};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, to the rules that come later.
    Accept {
        /// The firewall mark that it gets; `None` keeps the one it has.
        mark: Option<u32>,
    },
    /// It is gone, without an answer to its sender.
    Drop,
}

/// The verdicts of one batch.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// In the order of the ids, as the kernel hands packets over in that order.
    accepts: Vec<(u32, Option<u32>)>,
    drops: Vec<u32>,
    bytes: Vec<u8>,
}

impl Verdicts {
    pub(super) fn clear(&mut self) {
        self.accepts.clear();
        self.drops.clear();
    }

    #[inline]
    pub(super) fn push(&mut self, id: u32, verdict: Verdict) {
        match verdict {
            Verdict::Accept { mark } => self.accepts.push((id, mark)),
            Verdict::Drop => self.drops.push(id),
        }
    }

    /// The messages that tell the kernel; empty when there is nothing to tell.
    pub(super) fn messages(&mut self, queue: u16) -> &[u8] {
        let mut builder = Builder::reuse(std::mem::take(&mut self.bytes));
        for id in &self.drops {
            write(
                &mut builder,
                queue,
                libc::NFQNL_MSG_VERDICT,
                libc::NF_DROP,
                *id,
                None,
            );
        }
        for run in self.accepts.chunk_by(|(_, one), (_, next)| one == next) {
            if let [.., (last, mark)] = run {
                // A single verdict is found by its id, a batch by going through the queue: the same work for one packet.
                let kind = if run.len() > 1 {
                    libc::NFQNL_MSG_VERDICT_BATCH
                } else {
                    libc::NFQNL_MSG_VERDICT
                };
                write(&mut builder, queue, kind, libc::NF_ACCEPT, *last, *mark);
            }
        }
        // Two attributes of 12 and 8 bytes cannot be too long.
        self.bytes = builder.finish().unwrap_or_default();
        &self.bytes
    }
}

fn write(builder: &mut Builder, queue: u16, kind: i32, verdict: i32, id: u32, mark: Option<u32>) {
    let mut body = [0; 8]; // nfqnl_msg_verdict_hdr: verdict, id
    body[..4].copy_from_slice(&verdict.cast_unsigned().to_be_bytes());
    body[4..].copy_from_slice(&id.to_be_bytes());
    builder
        .netfilter(Netfilter {
            subsystem: SUBSYSTEM,
            message: kind as u8,
            flags: 0,
            family: 0,
            resource: queue,
        })
        .bytes(libc::NFQA_VERDICT_HDR as u16, &body);
    if let Some(mark) = mark {
        builder.be32(libc::NFQA_MARK as u16, mark);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::netlink::Messages;

    const KEEP: Verdict = Verdict::Accept { mark: None };

    fn mark(mark: u32) -> Verdict {
        Verdict::Accept { mark: Some(mark) }
    }

    /// What the kernel's queue does with the messages (`nfqnl_recv_verdict`, `nfqnl_recv_verdict_batch`).
    fn carried_out(waiting: &[u32], bytes: &[u8]) -> Vec<(u32, Verdict)> {
        let mut waiting = waiting.to_vec();
        let mut done = Vec::new();
        for message in Messages::new(bytes) {
            let (header, attributes) = message.netfilter().unwrap();
            assert_eq!(header.resource, 7);
            let body = attributes.get(libc::NFQA_VERDICT_HDR as u16).unwrap().value;
            let id = u32::from_be_bytes(body[4..8].try_into().unwrap());
            let mark = attributes
                .get(libc::NFQA_MARK as u16)
                .and_then(|mark| mark.be32());
            let verdict = if body[3] == 1 {
                Verdict::Accept { mark }
            } else {
                Verdict::Drop
            };
            let batch = message.kind & 0xff == libc::NFQNL_MSG_VERDICT_BATCH as u16;
            waiting.retain(|waits| {
                let covered = if batch {
                    id.wrapping_sub(*waits).cast_signed() >= 0
                } else {
                    *waits == id
                };
                if covered {
                    done.push((*waits, verdict));
                }
                !covered
            });
        }
        assert!(waiting.is_empty(), "{waiting:?} were forgotten");
        done.sort_by_key(|(id, _)| id.wrapping_add(8));
        done
    }

    #[test]
    fn each_packet_gets_its_own_verdict_by_few_messages() {
        for (verdicts, messages) in [
            (vec![], 0),
            (vec![KEEP], 1),
            (vec![KEEP; 64], 1),
            (vec![Verdict::Drop; 3], 3),
            (vec![KEEP, Verdict::Drop, KEEP, KEEP], 2),
            (vec![Verdict::Drop, KEEP, Verdict::Drop], 3),
            (
                vec![
                    mark(1),
                    mark(1),
                    KEEP,
                    KEEP,
                    mark(2),
                    Verdict::Drop,
                    mark(2),
                ],
                4 - 1 + 1,
            ),
            (vec![mark(1), mark(2), mark(1)], 3),
        ] {
            let mut queue = Verdicts::default();
            for round in 0..2 {
                queue.clear();
                // Ids wrap around within the batch.
                let wanted: Vec<_> = verdicts
                    .iter()
                    .enumerate()
                    .map(|(n, verdict)| ((n as u32).wrapping_sub(2), *verdict))
                    .collect();
                for (id, verdict) in &wanted {
                    queue.push(*id, *verdict);
                }
                let ids: Vec<_> = wanted.iter().map(|(id, _)| *id).collect();
                let bytes = queue.messages(7);
                assert_eq!(
                    Messages::new(bytes).count(),
                    messages,
                    "{verdicts:?}, round {round}"
                );
                assert_eq!(carried_out(&ids, bytes), wanted);
            }
        }
    }
}
