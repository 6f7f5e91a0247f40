//! Whether a packet without a flow can begin one.

use wire::{Packet, Transport};

use super::Located;
use super::tcp::{self, Step, TcpState};
use crate::verdict::Invalid;

/// `Err` with what a packet is that can begin none.
pub(super) fn begins(packet: &Packet<'_>, located: &Located) -> Result<(), Invalid> {
    match packet.transport() {
        Transport::Tcp(segment) => match tcp::step(TcpState::None, segment.flags(), false) {
            Step::To(_) => Ok(()),
            Step::Ignore | Step::Invalid => Err(Invalid::TcpNoConnection),
        },
        Transport::Icmp(_) | Transport::Other
            if located.oriented.is_some_and(|oriented| oriented.is_answer) =>
        {
            Err(Invalid::IcmpNoFlow)
        }
        Transport::Sctp(sctp) => {
            // DATA, SACK and what carries no state begin nothing (nf_conntrack_proto_sctp.c `sctp_new`).
            let begins = sctp
                .chunks()
                .any(|chunk| matches!(chunk.kind, 1 | 2 | 4..=11 | 14));
            if begins {
                Ok(())
            } else {
                Err(Invalid::SctpNoAssociation)
            }
        }
        Transport::Gre(gre) if gre.version() > 1 => Err(Invalid::Gre),
        Transport::Gre(gre) if gre.version() == 1 && gre.protocol_type() != 0x880b => {
            Err(Invalid::Gre)
        }
        Transport::Icmp(_)
        | Transport::Udp(_)
        | Transport::Gre(_)
        | Transport::Fragment
        | Transport::Other => Ok(()),
    }
}
