//! TCP connection states, and the table by which conntrack goes from one to the next (net/netfilter/nf_conntrack_proto_tcp.c
//! `tcp_conntracks`).

use std::time::Duration;

use wire::TcpFlags;

/// State of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TcpState {
    None,
    SynSent,
    SynReceived,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
    /// A SYN from each side (simultaneous open).
    SynSent2,
}

impl TcpState {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::SynSent2 => "SYN_SENT2",
        }
    }

    /// No flow is kept for a shorter time without a packet.
    pub(crate) const SHORTEST: Duration = Self::Close.timeout();

    /// How long a connection in this state is kept without a packet: the kernel's defaults, but one hour in place of five
    /// days for established ones, so that a table of bounded size holds those that live.
    pub(crate) const fn timeout(self) -> Duration {
        Duration::from_secs(match self {
            Self::None | Self::SynSent | Self::SynSent2 | Self::FinWait | Self::TimeWait => 120,
            Self::SynReceived | Self::CloseWait => 60,
            Self::Established => 3_600,
            Self::LastAck => 30,
            Self::Close => 10,
        })
    }

    /// Whether both sides have said that they are done, or one has reset it.
    pub(crate) const fn is_ending(self) -> bool {
        matches!(self, Self::LastAck | Self::TimeWait | Self::Close)
    }

    pub(crate) const fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Close)
    }
}

/// What a segment does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The connection is in this state now.
    To(TcpState),
    /// The segment passes and the state stays: our picture may be out of step with the ends'.
    Ignore,
    /// The segment has no place in this state.
    Invalid,
}

/// The row of the table: which of a segment's flags counts (`get_conntrack_index`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Syn,
    SynAck,
    Fin,
    Ack,
    Reset,
    None,
}

impl Row {
    pub(super) fn of(flags: TcpFlags) -> Self {
        if flags.rst() {
            Self::Reset
        } else if flags.syn() && flags.ack() {
            Self::SynAck
        } else if flags.syn() {
            Self::Syn
        } else if flags.fin() {
            Self::Fin
        } else if flags.ack() {
            Self::Ack
        } else {
            Self::None
        }
    }
}

/// `tcp_conntracks[dir][index][state]`.
pub(crate) fn step(state: TcpState, flags: TcpFlags, reply: bool) -> Step {
    use TcpState::{
        Close, CloseWait, Established, FinWait, LastAck, SynReceived, SynSent, SynSent2, TimeWait,
    };
    const IG: Step = Step::Ignore;
    const IV: Step = Step::Invalid;
    const SS: Step = Step::To(SynSent);
    const SR: Step = Step::To(SynReceived);
    const ES: Step = Step::To(Established);
    const FW: Step = Step::To(FinWait);
    const CW: Step = Step::To(CloseWait);
    const LA: Step = Step::To(LastAck);
    const TW: Step = Step::To(TimeWait);
    const CL: Step = Step::To(Close);
    const S2: Step = Step::To(SynSent2);
    #[rustfmt::skip]
    const ORIGINAL: [[Step; 10]; 6] = [
        //          NONE SYN_S SYN_R ESTAB FIN_W CLO_W LAST  TIME  CLOSE SYN2
        /* SYN  */ [SS,  SS,   IG,   IG,   IG,   IG,   IG,   SS,   SS,   S2],
        /* SA   */ [IV,  IV,   SR,   IV,   IV,   IV,   IV,   IV,   IV,   SR],
        /* FIN  */ [IV,  IV,   FW,   FW,   LA,   LA,   LA,   TW,   CL,   IV],
        /* ACK  */ [ES,  IV,   ES,   ES,   CW,   CW,   TW,   TW,   CL,   IV],
        /* RST  */ [IV,  CL,   CL,   CL,   CL,   CL,   CL,   CL,   CL,   CL],
        /* none */ [IV,  IV,   IV,   IV,   IV,   IV,   IV,   IV,   IV,   IV],
    ];
    #[rustfmt::skip]
    const REPLY: [[Step; 10]; 6] = [
        //          NONE SYN_S SYN_R ESTAB FIN_W CLO_W LAST  TIME  CLOSE SYN2
        /* SYN  */ [IV,  S2,   IV,   IV,   IV,   IV,   IV,   SS,   IV,   S2],
        /* SA   */ [IV,  SR,   IG,   IG,   IG,   IG,   IG,   IG,   IG,   SR],
        /* FIN  */ [IV,  IV,   FW,   FW,   LA,   LA,   LA,   TW,   CL,   IV],
        /* ACK  */ [IV,  IG,   SR,   ES,   CW,   CW,   TW,   TW,   CL,   IG],
        /* RST  */ [IV,  CL,   CL,   CL,   CL,   CL,   CL,   CL,   CL,   CL],
        /* none */ [IV,  IV,   IV,   IV,   IV,   IV,   IV,   IV,   IV,   IV],
    ];
    let table = if reply { &REPLY } else { &ORIGINAL };
    table[Row::of(flags) as usize][state as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_opens_and_closes() {
        let [syn, ack, fin] = [TcpFlags::SYN, TcpFlags::ACK, TcpFlags::FIN];
        let both = |a: TcpFlags, b: TcpFlags| TcpFlags::from_bits(a.bits() | b.bits());
        let mut state = TcpState::None;
        for (flags, reply, expected) in [
            (syn, false, TcpState::SynSent),
            (both(syn, ack), true, TcpState::SynReceived),
            (ack, false, TcpState::Established),
            (ack, true, TcpState::Established),
            (both(fin, ack), false, TcpState::FinWait),
            (ack, true, TcpState::CloseWait),
            (both(fin, ack), true, TcpState::LastAck),
            (ack, false, TcpState::TimeWait),
        ] {
            assert_eq!(
                step(state, flags, reply),
                Step::To(expected),
                "{flags} in {}",
                state.name()
            );
            state = expected;
        }
    }

    #[test]
    fn only_syn_and_ack_begin_a_connection() {
        for (flags, begins) in [
            (TcpFlags::SYN, true),
            (TcpFlags::ACK, true),
            (TcpFlags::from_bits(0x12), false),
            (TcpFlags::RST, false),
            (TcpFlags::from_bits(0x11), false),
            (TcpFlags::from_bits(0), false),
        ] {
            assert_eq!(
                matches!(step(TcpState::None, flags, false), Step::To(_)),
                begins,
                "{flags}"
            );
        }
    }

    #[test]
    fn none_is_kept_for_less_than_the_shortest_time() {
        use TcpState::{
            Close, CloseWait, Established, FinWait, LastAck, None, SynReceived, SynSent, SynSent2,
            TimeWait,
        };
        for state in [
            None,
            SynSent,
            SynReceived,
            Established,
            FinWait,
            CloseWait,
            LastAck,
            TimeWait,
            Close,
            SynSent2,
        ] {
            assert!(state.timeout() >= TcpState::SHORTEST, "{state:?}");
        }
    }
}
