//! What is sent in the place of others when a packet does not pass: the answer of a name server, and the reset of a connection for the
//! side that the packet was for.

use std::net::IpAddr;

use engine::{Decision, DnsRefusal, Reason, Verdict};
use kernel::nfqueue::QueuedPacket;
use kernel::reply::{Body, Forged, Replier};
use policy::{DnsAnswer, Plan};
use wire::dns::{Message, REPLY_MAX, Reply, reply};
use wire::{Frame, Link, Packet, Transport};

/// What waits to be sent until the packet that it is about has its verdict.
#[derive(Debug)]
pub(super) struct StandIn {
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    interface: u32,
    what: What,
}

#[derive(Debug)]
enum What {
    Reply(Box<[u8]>),
    Reset { sequence: u32 },
}

impl StandIn {
    /// To a packet that the kernel holds; nothing where the verdict says all.
    pub(super) fn to(held: &QueuedPacket<'_>, decision: &Decision, plan: &Plan) -> Option<Self> {
        let is_reset = decision.verdict == Verdict::Reject && resets(decision.reason, plan);
        if decision.reply.is_none() && !is_reset {
            return None;
        }
        let Ok(Frame::Ip(packet)) =
            wire::parse_trusting_checksums(Link::RawIp, held.payload, held.full_len)
        else {
            return None;
        };
        if is_reset {
            return Self::reset(held, &packet);
        }
        let filter = plan.dns.as_ref()?;
        let what = match decision.reply? {
            DnsAnswer::Refuse => Reply::Refused,
            DnsAnswer::NxDomain => Reply::NxDomain,
            DnsAnswer::Zero => Reply::Zero {
                // At most a day.
                ttl: u32::try_from(filter.ttl.as_secs()).unwrap_or_default(),
            },
            DnsAnswer::Drop => return None,
        };
        let (source_port, port) = packet.ports()?;
        let mut buffer = [0; REPLY_MAX];
        let message = Message::parse(packet.payload()).ok()?;
        let payload = reply(&message, what, &mut buffer).ok()?;
        Some(Self {
            from: (packet.destination(), port),
            to: (packet.source(), source_port),
            // Where the client is: for what this host asks, the interface that the question would have left by.
            interface: match held.interface_in {
                0 => held.interface_out,
                interface => interface,
            },
            what: What::Reply(payload.into()),
        })
    }

    /// The kernel resets the side that sent the packet. The other one would wait for it: a server has few places for those who do, and
    /// some have one.
    fn reset(held: &QueuedPacket<'_>, packet: &Packet<'_>) -> Option<Self> {
        let Transport::Tcp(segment) = packet.transport() else {
            return None;
        };
        // What is stopped has bytes; a SYN that has some as well begins a connection that nobody has yet.
        if segment.payload().is_empty() || segment.flags().syn() {
            return None;
        }
        let (source_port, port) = packet.ports()?;
        Some(Self {
            from: (packet.source(), source_port),
            to: (packet.destination(), port),
            interface: match held.interface_out {
                0 => held.interface_in,
                interface => interface,
            },
            what: What::Reset {
                sequence: segment.sequence(),
            },
        })
    }

    /// Sends it; whether that worked.
    pub(super) fn send(&self, replier: Option<&Replier>) -> bool {
        let forged = Forged {
            source: self.from.0,
            source_port: self.from.1,
            destination: self.to.0,
            destination_port: self.to.1,
            interface: self.interface,
            body: match &self.what {
                What::Reply(payload) => Body::Datagram(payload),
                What::Reset { sequence } => Body::Reset {
                    sequence: *sequence,
                },
            },
        };
        match replier.map(|replier| replier.send(&forged)) {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::debug!("{error}");
                false
            }
            None => false,
        }
    }
}

/// Whether a rejected packet of a connection ends it for both sides. One whose first packet a rule without content rejects has none.
fn resets(reason: Reason, plan: &Plan) -> bool {
    match reason {
        // The engine rejects what it wants told, and drops what follows.
        Reason::Dns(refusal) => refusal != DnsRefusal::Ambiguous,
        Reason::Rule(id) => {
            let rule = plan.rules.get(id.0 as usize);
            rule.is_some_and(|rule| rule.content.is_some())
        }
        _ => false,
    }
}
