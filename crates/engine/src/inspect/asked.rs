//! Which hosts one side of a TCP stream asks for: by the server name of its ClientHello, by the host of each HTTP/1 request.
//!
//! TLS is read until its hello, or the second one that a server may ask for (RFC 8446 §4.1.4), is whole; HTTP as long as one request
//! follows on the other, as each may ask a proxy to connect, and TLS follow. Where servers may disagree about where a request begins or which host it
//! is for, every reading is given. What is neither is let be.

mod found;
mod hello;
mod reader;
mod stray;

use std::ops::Range;

use policy::HostField;
use wire::{Host, HostKind, Tcp};

use found::FoundHosts;
use reader::Reader;

use super::stream::{Reach, Stream};
use crate::event::AskedHost;

/// Bytes that are kept after they were read, at least half of them, to compare what is sent again. Of those before them the past
/// keeps more ([`Stream::pass`]).
const KEPT: usize = 16 * 1024;
/// Parts of bodies from so many bytes on are not kept: to know where one lies takes as much as a shorter one.
const PART: usize = 64;
/// Most bytes that one side may make us hold: a lost segment, and what was under way behind it. More than a hello takes, however long.
const HELD: usize = 1024 * 1024;
/// The most of a body that is jumped at once: the sequence space is twice four times as large.
const JUMP: u32 = 1 << 28;

/// A host that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) field: HostField,
    /// As sent, without port.
    pub(crate) host: Box<[u8]>,
    /// Servers may read another one, or this one otherwise.
    pub(crate) is_doubtful: bool,
    /// It stands where ordinary clients have a path, with a slash too many: only a rule that names it stops it, and none for whatever is
    /// named.
    pub(crate) is_path: bool,
}

impl Asked {
    /// For the record: bytes that are no printable ASCII are escaped.
    pub(crate) fn told(&self) -> AskedHost {
        AskedHost {
            field: self.field,
            host: self.host.escape_ascii().to_string().into(),
        }
    }
}

/// Which of them somebody wants to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) sni: bool,
    pub(crate) http: bool,
}

impl Wanted {
    pub(crate) fn any(self) -> bool {
        self.sni || self.http
    }

    pub(crate) fn one(field: HostField) -> Self {
        Self {
            sni: field == HostField::Sni,
            http: field == HostField::HttpHost,
        }
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self {
            sni: self.sni || other.sni,
            http: self.http || other.http,
        }
    }
}

/// What a packet asks for whose payload is taken for the begin of its stream.
pub(crate) fn asked_in(payload: &[u8]) -> Vec<Asked> {
    let mut asked = FoundHosts::default();
    let wanted = Wanted {
        sni: true,
        http: true,
    };
    Reader::new(wanted).read(payload, &mut asked);
    asked.into_all()
}

/// One side of a stream.
#[derive(Debug)]
pub(crate) struct Requests {
    stream: Stream,
    /// Bytes in order that were read.
    read: usize,
    /// The parts of them that belong to bodies.
    bodies: Vec<Range<usize>>,
    reader: Reader,
}

/// Why a segment could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Its receiver may take it for other bytes.
    Ambiguous,
    /// Too much waits for what is missing before it, a hello has no end, or a host too many readings.
    Waiting,
}

impl Requests {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self {
            stream: Stream::default(),
            read: 0,
            bodies: Vec::new(),
            reader: Reader::new(wanted),
        }
    }

    /// The first byte has this number.
    pub(crate) fn begin_at(&mut self, first_byte: u32) {
        self.stream = Stream::beginning_at(first_byte);
    }

    /// Goes on where others were, if they were after as much.
    pub(crate) fn carry_on(&mut self, before: Self) {
        let wanted = self.reader.wanted;
        if before.reader.wanted.union(wanted) == before.reader.wanted {
            *self = before;
            self.reader.wanted = wanted;
        }
    }

    pub(crate) fn memory(&self) -> usize {
        self.stream.memory() + self.bodies.capacity() * size_of::<Range<usize>>()
    }

    pub(crate) fn reach(&self) -> Option<Reach> {
        self.stream.reach()
    }

    /// Whether something waits for bytes before it.
    pub(crate) fn waits(&self) -> bool {
        self.stream.waits()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.reader.is_done()
    }

    /// Reads no further.
    pub(crate) fn give_up(&mut self) {
        self.reader.give_up();
        self.stream = Stream::default();
    }

    /// Takes a segment, and gives the hosts that are asked for in what it completes.
    ///
    /// `is_asked` says that the segment waits for its verdict: none is missing then that its receiver has. `begins`: if it is a SYN, the
    /// stream begins with it.
    pub(crate) fn take(
        &mut self,
        segment: &Tcp<'_>,
        is_asked: bool,
        begins: bool,
    ) -> Result<Vec<Asked>, Unread> {
        if self.is_done() {
            return Ok(Vec::new());
        }
        if self.reader.is_refused && !segment.payload().is_empty() {
            return Err(Unread::Waiting);
        }
        if self.stream.held() > HELD {
            if !is_asked {
                self.give_up();
                return Ok(Vec::new());
            }
            // It comes again when what is missing has come.
            let in_order = self.stream.contiguous(u32::MAX).len() as u32;
            let offset = self.stream.offset(segment);
            if offset.is_some_and(|offset| (in_order + 1..=u32::MAX / 2).contains(&offset)) {
                return Err(Unread::Waiting);
            }
        }
        let is_first = self.stream.offset(segment).is_none();
        self.reader.is_picked_up |= is_first && !segment.flags().syn();
        let taken = self.stream.take(segment, u32::MAX / 2);
        let grown = taken.ok_or(Unread::Ambiguous)?;
        if begins {
            self.stream.begin_by(segment);
        }
        let mut asked = FoundHosts::default();
        let mut has_news = !grown.is_empty();
        while has_news {
            let bytes = self.stream.contiguous(u32::MAX);
            let rest = bytes.get(self.read..).unwrap_or_default();
            let read = self.reader.read(rest, &mut asked);
            for part in self.reader.bodies.drain(..) {
                let (start, end) = (self.read + part.start, self.read + part.end);
                match self.bodies.last_mut().filter(|last| last.end == start) {
                    Some(last) => last.end = end,
                    None if part.len() >= PART => self.bodies.push(start..end),
                    None => {}
                }
            }
            self.read += read;
            has_news = self.forget();
        }
        // What was read before is told: a rule that forbids it says more.
        if self.reader.is_refused && asked.is_empty() {
            return Err(Unread::Waiting);
        }
        Ok(asked.into_all())
    }

    /// Whether nothing more passes: a rule can only say why.
    pub(crate) fn refuses(&self) -> bool {
        self.reader.is_refused
    }

    /// Forgets what was read; tells whether there is more to read now.
    fn forget(&mut self) -> bool {
        if self.is_done() {
            self.stream = Stream::default();
            self.bodies = Vec::new();
            return false;
        }
        if let Some(left) = self.reader.body_left()
            && *left > KEPT as u64
        {
            // What lies in a body is not waited for. All that is in order was read.
            let jump = (*left).min(u64::from(JUMP)) as u32;
            *left -= u64::from(jump);
            self.stream.pass(usize::MAX, &self.bodies);
            self.stream.jump(jump);
            self.bodies.clear();
            self.read = 0;
            return !self.stream.contiguous(1).is_empty();
        }
        if self.read > KEPT {
            let old = self.read - KEPT / 2;
            self.stream.pass(old, &self.bodies);
            self.read -= old;
            self.bodies.retain_mut(|part| {
                (part.start, part.end) =
                    (part.start.saturating_sub(old), part.end.saturating_sub(old));
                part.start < part.end
            });
        }
        false
    }
}

/// A name that DNS could not hold is doubtful all the same: some end it at a NUL, or take it for an address.
fn certain(field: HostField, host: &Host<'_>) -> Asked {
    let is_address = |host| matches!(policy::AskedHost::new(host), policy::AskedHost::Address(_));
    Asked {
        field,
        host: host.as_bytes().into(),
        is_doubtful: host.kind() == HostKind::Raw && !is_address(host.as_bytes()),
        is_path: false,
    }
}

fn doubtful(host: &[u8]) -> Asked {
    Asked {
        field: HostField::HttpHost,
        host: host.into(),
        is_doubtful: true,
        is_path: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each takes a look at the rules, and the known ones are compared with each that comes.
    #[test]
    fn so_many_readings_has_a_segment() {
        let many = b"a]".repeat(15_000);
        let numbers: Vec<u8> = (0..5_000)
            .flat_map(|at| format!("{at:x}g]").into_bytes())
            .collect();
        let two = b"GET //a:x@b HTTP/1.1\r\nHost: c\r\n\r\n".repeat(500);
        let raw: Vec<u8> = (0..500)
            .flat_map(|at| format!("GET / HTTP/1.1\r\nHost: a{at}_\x01\r\n\r\n").into_bytes())
            .collect();
        for (stream, most) in [
            (
                [b"GET //", &many[..], b" HTTP/1.1\r\nHost: b\r\n\r\n"].concat(),
                8,
            ),
            (
                [b"GET //", &numbers[..], b" HTTP/1.1\r\nHost: b\r\n\r\n"].concat(),
                65,
            ),
            (
                [b"GET / HTTP/1.1\r\nHost : ", &many[..], b"\r\n\r\n"].concat(),
                8,
            ),
            (
                [
                    b"GET / HTTP/1.1\r\nHost : ",
                    &b"b,".repeat(15_000)[..],
                    b"\r\n\r\n",
                ]
                .concat(),
                4,
            ),
            (
                [b"GET / HTTP/1.1\r\nHost : ", &numbers[..], b"\r\n\r\n"].concat(),
                65,
            ),
            // Beside the certain host of each request.
            (two, 500 + 8),
            (raw, 64),
        ] {
            let asked = asked_in(&stream);
            let start = stream[..64].escape_ascii();
            assert!(
                (1..=most).contains(&asked.len()),
                "{start}: {}",
                asked.len()
            );
        }
    }

    #[test]
    fn what_stands_as_a_host_and_in_a_path_is_a_host() {
        for (stream, expected) in [
            ("GET //a HTTP/1.1\r\n\r\n", true),
            ("GET //a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", false),
            (
                "GET //a HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost : a\r\n\r\n",
                false,
            ),
        ] {
            let asked = asked_in(stream.as_bytes());
            let of_a = asked.iter().filter(|asked| *asked.host == *b"a");
            let is_path: Vec<bool> = of_a.map(|asked| asked.is_path).collect();
            assert_eq!(is_path, [expected], "{stream:?}");
        }
    }
}
