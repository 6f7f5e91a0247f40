//! Answers in the place of a name server's, to questions that do not pass.

use std::net::IpAddr;

use kernel::nfqueue::QueuedPacket;
use kernel::reply::{Datagram, Replier};
use policy::{DnsAnswer, DnsFilter};
use wire::dns::{Message, REPLY_MAX, Reply, reply};
use wire::{Frame, Link, Transport};

/// An answer that waits to be sent until its question has its verdict.
#[derive(Debug)]
pub(super) struct Answer {
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    interface: u32,
    payload: Box<[u8]>,
}

impl Answer {
    /// To a question that the kernel holds. Nothing for what has no answer: it is dropped without one.
    pub(super) fn to(
        question: &QueuedPacket<'_>,
        answer: DnsAnswer,
        filter: &DnsFilter,
    ) -> Option<Self> {
        let what = match answer {
            DnsAnswer::Refuse => Reply::Refused,
            DnsAnswer::NxDomain => Reply::NxDomain,
            DnsAnswer::Zero => Reply::Zero {
                // At most a day.
                ttl: u32::try_from(filter.ttl.as_secs()).unwrap_or_default(),
            },
            DnsAnswer::Drop => return None,
        };
        let Ok(Frame::Ip(packet)) = wire::parse(Link::RawIp, question.payload, question.full_len)
        else {
            return None;
        };
        let Transport::Udp(_) = packet.transport() else {
            return None;
        };
        let (source_port, port) = packet.ports()?;
        let mut buffer = [0; REPLY_MAX];
        let message = Message::parse(packet.payload()).ok()?;
        let payload = reply(&message, what, &mut buffer).ok()?;
        // Where the client is: for what this host asks, the interface that the question would have left by.
        let interface = match question.interface_in {
            0 => question.interface_out,
            interface => interface,
        };
        Some(Self {
            from: (packet.destination(), port),
            to: (packet.source(), source_port),
            interface,
            payload: payload.into(),
        })
    }

    /// Sends it; whether that worked.
    pub(super) fn send(&self, replier: Option<&Replier>) -> bool {
        let datagram = Datagram {
            source: self.from.0,
            source_port: self.from.1,
            destination: self.to.0,
            destination_port: self.to.1,
            interface: self.interface,
            payload: &self.payload,
        };
        match replier.map(|replier| replier.send(&datagram)) {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::debug!("{error}");
                false
            }
            None => false,
        }
    }
}
