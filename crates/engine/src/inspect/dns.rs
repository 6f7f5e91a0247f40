//! Messages to name servers: which of them ask, and whether what they ask for is blocked.
//!
//! A datagram is one message. A stream is followed as long as it lives, as anything may be asked at its end; what of it was
//! judged is kept for a while, since a sender may send it again and its receiver take the second copy. NOTIFY, UPDATE and
//! responses resolve no name and are not judged. That DNS goes over TLS or HTTPS cannot be seen here.

use policy::DnsFilter;
use policy::names::NameVerdict;
use wire::Tcp;
use wire::dns::{Framed, Message, Name, RecordType, framed};

use super::memory::{Holding, Ticket};
use super::stream::{Reach, Stream};
use crate::flow::FlowSlot;
use crate::verdict::{DnsEntry, DnsRefusal};

/// A longer question is refused: with the longest name, EDNS and the padding of RFC 8467 it takes less than a tenth.
const LONGEST: usize = 4_096;
/// Bytes of a stream that are kept after they were judged, at least half of them: more than clients have under way unacknowledged.
const KEPT: usize = 16 * 1024;
/// Most bytes that one side of a connection may make us hold: what is kept, a segment of 64 KiB, and one that waits for it.
const HELD: usize = 192 * 1024;

/// NOTIFY (RFC 1996) and UPDATE (RFC 2136) name a zone to its servers, and are answered without records.
const OPCODES_THAT_ASK_NOTHING: [u8; 2] = [4, 5];

/// A question that could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) id: u16,
    pub(crate) record_type: RecordType,
    pub(crate) blocked: Option<DnsEntry>,
}

/// Reads one message. `name` then holds what it asks for; nothing is given where it asks for nothing.
///
/// # Errors
/// It may not pass, whatever it asks for.
#[inline]
pub(crate) fn judge(
    filter: &DnsFilter,
    message: &[u8],
    name: &mut Name,
) -> Result<Option<Asked>, DnsRefusal> {
    let message = Message::parse(message).map_err(DnsRefusal::Defect)?;
    // A name server drops a response that it has not asked for.
    if message.is_response() || OPCODES_THAT_ASK_NOTHING.contains(&message.opcode()) {
        return Ok(None);
    }
    if message.opcode() != 0 {
        return Err(DnsRefusal::Opcode(message.opcode()));
    }
    if message.question_count() > 1 {
        return Err(DnsRefusal::Questions);
    }
    let question = message.question(name).map_err(DnsRefusal::Defect)?;
    Ok(question.map(|(record_type, _)| Asked {
        id: message.id(),
        record_type,
        blocked: match filter.names.judge(name.as_bytes()) {
            NameVerdict::NotListed | NameVerdict::Allowed(_) => None,
            NameVerdict::Blocked(entry) => Some(DnsEntry {
                reach: entry.reach,
                source: entry.source_id,
            }),
        },
    }))
}

/// The streams of a connection to a name server.
#[derive(Debug)]
pub(crate) struct Questions {
    /// Who began it, as sources are counted.
    pub(crate) source: u128,
    pub(crate) ticket: Ticket,
    /// By who sends: the side that began the connection, the other.
    pub(crate) sides: [Option<Messages>; 2],
}

impl Questions {
    /// What it holds, as a flow in this place.
    pub(crate) fn holding(&self, flow: FlowSlot, is_proven: bool) -> Holding {
        let sides = self.sides.iter().flatten();
        Holding {
            flow,
            source: self.source,
            is_proven,
            bytes: sides.clone().map(Messages::memory).sum(),
            waits: sides.clone().any(|side| side.stream.waits()),
        }
    }

    /// Another connection has begun: the first byte of the side that asks has this number.
    pub(crate) fn begin_at(&mut self, first_byte: u32) {
        let asked = Messages {
            stream: Stream::beginning_at(first_byte),
            ..Messages::default()
        };
        self.sides = [Some(asked), None];
    }

    /// How far the messages of a side are put together, as far as they are still looked at.
    pub(crate) fn reaches(&self, reply: bool) -> impl Iterator<Item = Option<Reach>> {
        let side = self.sides[usize::from(reply)].iter();
        let side = side.filter(|messages| messages.refused.is_none());
        side.map(|messages| messages.stream.reach())
    }

    /// Whether the messages of a side are put together.
    pub(crate) fn follows(&self, reply: bool) -> bool {
        self.sides[usize::from(reply)].is_some()
    }

    /// There is no memory for it: nothing that carries data passes any more.
    pub(crate) fn refuse(&mut self) {
        for side in self.sides.iter_mut().flatten() {
            side.refuse(DnsRefusal::Memory);
        }
    }

    /// Gives back some of what it holds: what was judged. If there is nothing of the kind, or some waits for what is before it, all
    /// of it, and nothing passes any more.
    pub(crate) fn shed(&mut self) {
        let mut sides = self.sides.iter().flatten();
        if sides.any(|side| side.stream.waits()) {
            return self.refuse();
        }
        let mut judged = 0;
        for side in self.sides.iter_mut().flatten() {
            let read = std::mem::take(&mut side.read);
            side.stream.forget(read);
            judged += read;
        }
        if judged == 0 {
            self.refuse();
        }
    }
}

/// The messages of one side.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    stream: Stream,
    /// Bytes of the stream that were judged.
    read: usize,
    /// Bytes that follow on those and belong to a message that asks nothing.
    skip: usize,
    /// A message was refused: what the side sends from then on is refused too, as it is the same message again or one behind it.
    refused: Option<DnsRefusal>,
    /// Segments that were refused.
    refusals: u32,
    /// A capture holds the begins of packets alone: nothing can be said of this stream.
    is_cut: bool,
}

/// What is next in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    Message(&'a [u8]),
    /// No whole message.
    Nothing,
    TooLong,
}

impl Messages {
    /// Of a stream whose begin was not seen.
    pub(crate) fn unseen() -> Self {
        Self {
            refused: Some(DnsRefusal::BeginUnseen),
            ..Self::default()
        }
    }

    fn memory(&self) -> usize {
        self.stream.memory()
    }

    /// Takes a segment. What was refused before, is again.
    ///
    /// # Errors
    /// The segment may not pass.
    pub(crate) fn take(&mut self, segment: &Tcp<'_>, is_cut: bool) -> Result<(), DnsRefusal> {
        let payload = segment.payload();
        self.is_cut |= is_cut;
        if self.is_cut {
            self.stream = Stream::default();
            return Ok(());
        }
        if !payload.is_empty() {
            if let Some(refused) = self.refused {
                return Err(refused);
            }
            // Whether a byte before the first one, or one behind a gap at the begin, is what the receiver will take depends on
            // which of several SYNs it has taken.
            let offset = self.stream.offset(segment);
            let follows = offset.is_none_or(|offset| match self.stream.contiguous(u32::MAX) {
                [] => offset == 0,
                // Nor is more than this kept until the bytes before it come.
                held => offset as usize <= held.len() + HELD,
            });
            if !follows {
                return Err(DnsRefusal::Ambiguous);
            }
        }
        if self.stream.take(segment, u32::MAX / 2).is_none() {
            return Err(DnsRefusal::Ambiguous);
        }
        self.stream.begin_by(segment);
        Ok(())
    }

    /// The next message that a segment completed.
    pub(crate) fn next(&mut self) -> Next<'_> {
        loop {
            let skipped = self.skip.min(self.rest(self.read).len());
            self.skip -= skipped;
            let begin = self.read + skipped;
            let rest = self.rest(begin);
            let Some(([high, low], after)) = rest.split_first_chunk() else {
                self.read = begin;
                return Next::Nothing;
            };
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            let asks = after.get(2).map(|flags| {
                flags & 0x80 == 0 && !OPCODES_THAT_ASK_NOTHING.contains(&(flags >> 3 & 0x0f))
            });
            match (framed(rest), asks) {
                (_, Some(true)) if len > LONGEST => return Next::TooLong,
                // Long ones are not kept until they are whole.
                (_, Some(false)) if len > LONGEST => {
                    self.read = begin;
                    self.skip = 2 + len;
                }
                (Framed::NeedMore(_), _) => {
                    self.read = begin;
                    return Next::Nothing;
                }
                (Framed::Message { .. }, _) => {
                    self.read = begin + 2 + len;
                    return Next::Message(&self.rest(begin + 2)[..len]);
                }
            }
        }
    }

    /// All that the segment completed was judged: forgets what is old. Whether too much is left.
    pub(crate) fn settle(&mut self) -> Result<(), DnsRefusal> {
        if self.read > KEPT {
            let old = self.read - KEPT / 2;
            self.stream.forget(old);
            self.read -= old;
        }
        if self.memory() > HELD {
            return Err(DnsRefusal::Memory);
        }
        Ok(())
    }

    /// Whether the ends are to be told that a segment was refused: at the first, the second, the fourth and so on, as what was told may be
    /// lost, and whoever goes on sending must not have us send twice as much.
    pub(crate) fn tells(&mut self) -> bool {
        self.refusals = self.refusals.saturating_add(1);
        self.refusals.is_power_of_two()
    }

    /// From now on nothing of this side passes; nor does anything of it have to be kept.
    pub(crate) fn refuse(&mut self, refusal: DnsRefusal) {
        self.refused = Some(refusal);
        self.stream = Stream::default();
    }

    fn rest(&self, from: usize) -> &[u8] {
        let bytes = self.stream.contiguous(u32::MAX);
        bytes.get(from..).unwrap_or_default()
    }
}
