//! A TCP connection as conntrack follows it (net/netfilter/nf_conntrack_proto_tcp.c `nf_conntrack_tcp_packet`): the table of
//! [`super::tcp`], and what overrides it where the picture may be out of step with the ends'.
//!
//! Without window tracking, as the kernel does it with `nf_conntrack_tcp_be_liberal`: a capture may begin anywhere and lack
//! segments, and one that is lost here would have all that follow taken for invalid.

use wire::TcpFlags;

use super::tcp::{Row, Step, TcpState, step};

/// What a SYN can carry at most, in bytes: an IP packet.
const MOST_IN_SYN: u32 = 65_535;

/// What is known of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    state: TcpState,
    /// Both sides were heard, and what followed was no mere attempt (`IPS_ASSURED`).
    is_assured: bool,
    /// It was closed by a FIN, at some time (`IP_CT_TCP_FLAG_CLOSE_INIT`).
    was_closed: bool,
    /// The last segment that was not invalid.
    last: Last,
    /// A SYN was let through that the other end may answer with a "challenge ACK" (RFC 5961 §4.2).
    expects_challenge: bool,
    /// Both sides sent a SYN.
    is_simultaneous: bool,
    /// The highest acknowledgement of each side.
    acknowledged: [Option<u32>; 2],
}

#[derive(Clone, Copy, Debug)]
struct Last {
    row: Row,
    reply: bool,
    /// The sequence number behind the last acknowledging or ignored segment.
    end: u32,
}

/// What counts of one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    flags: TcpFlags,
    sequence: u32,
    acknowledgement: u32,
    /// The sequence number behind it: SYN and FIN count as one each.
    end: u32,
}

/// What a segment did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its place is not in this connection.
    Invalid,
    /// It begins another connection under the same 5-tuple.
    Reopens,
    /// It passes, and the connection is in this state.
    To(TcpState),
    /// It answers a SYN that was not believed: another connection begins, and nothing from before counts.
    BeginsAnew,
}

/// Whether a sequence number lies before another (RFC 9293 §3.4: modulo 2³²).
const fn before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

impl Segment {
    /// Of a segment with so many bytes of payload on the wire.
    pub(super) fn of(segment: &wire::Tcp<'_>, payload: usize) -> Self {
        let (flags, sequence) = (segment.flags(), segment.sequence());
        let marks = usize::from(flags.syn()) + usize::from(flags.fin());
        Self {
            flags,
            sequence,
            acknowledgement: segment.acknowledgement(),
            // Modulo 2³², as sequence numbers are.
            end: sequence.wrapping_add((payload + marks) as u32),
        }
    }

    pub(super) fn acknowledgement(&self) -> u32 {
        self.acknowledgement
    }

    pub(super) fn sequence(&self) -> u32 {
        self.sequence
    }

    pub(super) fn acknowledges(&self) -> bool {
        self.flags.ack()
    }

    /// Where a SYN has the stream begin, and where what it carries ends.
    pub(super) fn opening(&self) -> Option<(u32, u32)> {
        let opens = self.flags.syn() && !self.flags.ack();
        opens.then(|| (self.sequence.wrapping_add(1), self.end))
    }

    pub(super) fn is_syn_ack(&self) -> bool {
        self.flags.syn() && self.flags.ack()
    }

    pub(super) fn is_syn(&self) -> bool {
        self.flags.syn()
    }

    /// Whether it carries bytes.
    pub(super) fn has_bytes(&self) -> bool {
        let marks = u32::from(self.flags.syn()) + u32::from(self.flags.fin());
        self.end.wrapping_sub(self.sequence) > marks
    }

    pub(super) fn is_end(&self) -> bool {
        self.flags.fin() || self.flags.rst()
    }

    /// Whether it acknowledges the SYN of this number, and nothing behind: what the SYN carried may be acknowledged with it (RFC 7413).
    pub(super) fn answers(&self, syn: u32) -> bool {
        let within = self.acknowledgement.wrapping_sub(syn).wrapping_sub(1);
        self.flags.ack() && within <= MOST_IN_SYN
    }

    pub(super) fn is_reset(&self) -> bool {
        self.flags.rst()
    }
}

impl Connection {
    /// It was reset by us.
    pub(super) fn close(&mut self) {
        self.state = TcpState::Close;
    }

    /// The connection that a segment begins.
    pub(super) fn new(segment: Segment) -> Self {
        let state = match step(TcpState::None, segment.flags, false) {
            Step::To(state) => state,
            Step::Ignore | Step::Invalid => TcpState::None,
        };
        let mut this = Self {
            state,
            is_assured: false,
            was_closed: false,
            last: Last {
                row: Row::of(segment.flags),
                reply: false,
                end: 0,
            },
            expects_challenge: false,
            is_simultaneous: false,
            acknowledged: [None; 2],
        };
        this.note(segment, false);
        this
    }

    pub(super) const fn state(&self) -> TcpState {
        self.state
    }

    /// The kernel says that the connection is established. `ends`: this is all that its sender says.
    pub(super) fn follow_kernel(&mut self, segment: Segment, reply: bool, ends: bool) {
        let (row, end) = (Row::of(segment.flags), segment.end);
        self.last = Last { row, reply, end };
        // A mere acknowledgement behind the end is none of going on.
        let goes_on = self.state != TcpState::FinWait || segment.end != segment.sequence;
        if ends {
            self.state = TcpState::FinWait;
        } else if goes_on {
            self.state = TcpState::Established;
        }
    }

    /// Takes note of a segment. `reply`: it goes to the side that began the connection; `was_answered`: one did before.
    pub(super) fn follow(&mut self, segment: Segment, reply: bool, was_answered: bool) -> Turn {
        let (row, was) = (Row::of(segment.flags), self.state);
        let mut begins_anew = false;
        let next = match step(was, segment.flags, reply) {
            Step::Invalid => return Turn::Invalid,
            Step::Ignore if self.answers_ignored_syn(segment, reply) => {
                // The ends are in step, and we are again.
                begins_anew = true;
                self.acknowledged = [None; 2];
                self.was_closed = false;
                TcpState::SynReceived
            }
            Step::Ignore => return self.ignore(segment, reply),
            Step::To(TcpState::SynSent) if was.is_over() => {
                let by_same = self.last.reply == reply && self.last.row == Row::Reset;
                if self.was_closed || by_same {
                    return Turn::Reopens;
                }
                return self.ignore(segment, reply);
            }
            Step::To(TcpState::TimeWait)
                if was == TcpState::LastAck
                    && row == Row::Ack
                    && self.expects_challenge
                    && (self.last.row, self.last.reply) == (Row::Syn, !reply) =>
            {
                self.expects_challenge = false;
                return Turn::To(was);
            }
            Step::To(TcpState::SynSent2) => {
                self.is_simultaneous = true;
                TcpState::SynSent2
            }
            Step::To(TcpState::SynReceived) if reply && row == Row::Ack && self.is_simultaneous => {
                TcpState::Established
            }
            Step::To(TcpState::Close) if row == Row::Reset && self.doubts_reset(segment, reply) => {
                was
            }
            Step::To(next) => next,
        };
        self.note(segment, reply);
        self.last.row = row;
        self.last.reply = reply;
        self.was_closed |= was != next && next == TcpState::FinWait;
        self.is_assured |= was_answered
            && matches!(was, TcpState::SynReceived | TcpState::Established)
            && next == TcpState::Established;
        self.state = next;
        if begins_anew {
            return Turn::BeginsAnew;
        }
        Turn::To(next)
    }

    /// Whether this SYN+ACK answers a SYN that was let through and not believed.
    fn answers_ignored_syn(&self, segment: Segment, reply: bool) -> bool {
        self.is_behind_syn(segment, reply) && segment.acknowledgement == self.last.end
    }

    /// Whether this is a SYN+ACK, and the last segment before it a SYN of the other side.
    pub(super) fn is_behind_syn(&self, segment: Segment, reply: bool) -> bool {
        Row::of(segment.flags) == Row::SynAck
            && (self.last.row, self.last.reply) == (Row::Syn, !reply)
    }

    /// The segment passes: the ends may know better than we do. The state stays.
    fn ignore(&mut self, segment: Segment, reply: bool) -> Turn {
        let (row, end) = (Row::of(segment.flags), segment.end);
        self.last = Last { row, reply, end };
        if row == Row::Syn && !reply {
            self.expects_challenge = self.state == TcpState::LastAck;
            self.is_simultaneous = false;
        }
        Turn::To(self.state)
    }

    /// Whether the receiver of a reset would not believe it, as its sequence number is not the one that it expects (RFC 5961
    /// §3.2): the connection goes on then.
    fn doubts_reset(&self, segment: Segment, reply: bool) -> bool {
        let Some(expected) = self.acknowledged[usize::from(!reply)] else {
            return false;
        };
        let follows = self.last.row == Row::Ack
            && self.last.reply == reply
            && self.last.end == segment.sequence;
        self.state == TcpState::Established
            && self.is_assured
            && self.last.row != Row::Syn
            && segment.sequence != expected
            && !follows
    }

    fn note(&mut self, segment: Segment, reply: bool) {
        if segment.flags.ack() {
            let highest = &mut self.acknowledged[usize::from(reply)];
            if highest.is_none_or(|highest| before(highest, segment.acknowledgement)) {
                *highest = Some(segment.acknowledgement);
            }
        }
        if Row::of(segment.flags) == Row::Ack {
            self.last.end = segment.end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: u8 = 0x02;
    const SYN_ACK: u8 = 0x12;
    const ACK: u8 = 0x10;
    const FIN_ACK: u8 = 0x11;
    const RST: u8 = 0x04;

    /// Flags, whether it is a reply, sequence number, acknowledgement; no payload.
    type Said = (u8, bool, u32, u32);

    fn segment(&(flags, _, sequence, acknowledgement): &Said) -> Segment {
        let marks = (flags & SYN != 0) || (flags & 1 != 0);
        Segment {
            flags: TcpFlags::from_bits(flags),
            sequence,
            acknowledgement,
            end: sequence + u32::from(marks),
        }
    }

    /// A connection after these segments, of which the first has begun it; what the last one did.
    fn after(segments: &[Said]) -> (TcpState, Turn) {
        let mut connection = Connection::new(segment(&segments[0]));
        let mut turn = Turn::To(connection.state());
        let mut was_answered = false;
        for next in &segments[1..] {
            turn = connection.follow(segment(next), next.1, was_answered);
            was_answered |= next.1;
        }
        (connection.state(), turn)
    }

    const OPEN: [Said; 3] = [
        (SYN, false, 100, 0),
        (SYN_ACK, true, 500, 101),
        (ACK, false, 101, 501),
    ];

    #[test]
    fn what_the_table_alone_would_get_wrong() {
        use TcpState::{Close, Established, LastAck, SynReceived, TimeWait};
        type Case<'a> = (&'a str, &'a [Said], TcpState, Turn);
        let cases: [Case<'_>; 9] = [
            (
                "a reset that fits",
                &[(RST, true, 501, 0)],
                Close,
                Turn::To(Close),
            ),
            (
                "a reset that nobody believes",
                &[(RST, true, 9_999, 0)],
                Established,
                Turn::To(Established),
            ),
            (
                "a SYN of the side that was reset passes, and is not believed",
                &[(RST, true, 501, 0), (SYN, false, 7_000, 0)],
                Close,
                Turn::To(Close),
            ),
            (
                "until it is answered",
                &[
                    (RST, true, 501, 0),
                    (SYN, false, 7_000, 0),
                    (SYN_ACK, true, 8_000, 7_001),
                ],
                SynReceived,
                Turn::BeginsAnew,
            ),
            (
                "an answer to another SYN is none",
                &[
                    (RST, true, 501, 0),
                    (SYN, false, 7_000, 0),
                    (SYN_ACK, true, 8_000, 6_000),
                ],
                Close,
                Turn::To(Close),
            ),
            (
                "who has reset may begin anew",
                &[(RST, false, 101, 0), (SYN, false, 7_000, 0)],
                Close,
                Turn::Reopens,
            ),
            (
                "so may who has closed",
                &[
                    (FIN_ACK, false, 101, 501),
                    (FIN_ACK, true, 501, 102),
                    (ACK, false, 102, 502),
                    (SYN, false, 7_000, 0),
                ],
                TimeWait,
                Turn::Reopens,
            ),
            (
                "a challenge is not the last acknowledgement",
                &[
                    (FIN_ACK, false, 101, 501),
                    (FIN_ACK, true, 501, 102),
                    (SYN, false, 7_000, 0),
                    (ACK, true, 502, 102),
                ],
                LastAck,
                Turn::To(LastAck),
            ),
            (
                "a SYN from the other side of a live connection",
                &[(SYN, true, 1, 0)],
                Established,
                Turn::Invalid,
            ),
        ];
        for (what, then, state, turn) in cases {
            let segments: Vec<_> = OPEN.iter().chain(then).copied().collect();
            // Something is said, so that each side has acknowledged the other.
            let segments = [&segments[..3], &[(ACK, true, 501, 101)], &segments[3..]].concat();
            assert_eq!(after(&segments), (state, turn), "{what}");
        }
    }

    #[test]
    fn both_may_begin_at_once() {
        let segments = [
            (SYN, false, 100, 0),
            (SYN, true, 500, 0),
            (SYN_ACK, false, 100, 501),
            (ACK, true, 501, 101),
        ];
        assert_eq!(after(&segments).0, TcpState::Established);
    }
}
