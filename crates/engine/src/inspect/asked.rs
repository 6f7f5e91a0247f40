//! Which hosts one side of a TCP stream asks for: by the server name of its ClientHello, by the host of each HTTP/1 request.
//!
//! TLS is read until its hello, or the second one that a server may ask for (RFC 8446 §4.1.4), is whole; HTTP as long as one request
//! follows on the other, as each may ask a proxy to connect, and TLS follow. Where servers may disagree about where a request begins or which host it
//! is for, every reading is given. What is neither is let be.

use std::ops::Range;

use policy::HostField;
use wire::http::{Body, Http, Request, RequestHost, request_head};
use wire::tls::{HELLO_MAX, ServerName, Sni, may_be_tls, sni};
use wire::{Host, HostKind, Tcp};

use super::readings::{CONNECT, Continues, connects, hosts_of_head, hosts_of_host, hosts_of_lines};
use super::stream::{Reach, Stream};
use crate::event::AskedHost;

/// Bytes of stream in which a ClientHello has to end: the longest that there is, in records of 6 bytes and more. What goes on behind
/// them passes no more.
const HELLO_STREAM: usize = 6 * (4 + HELLO_MAX);
/// Bytes of records behind a hello that may be early data, which a server passes over when it asks for a second hello: four times
/// what servers allow by default (OpenSSL).
const EARLY: usize = 64 * 1024;
/// Bytes that are kept after they were read, at least half of them, to compare what is sent again. Of those before them the past
/// keeps more ([`Stream::pass`]).
const KEPT: usize = 16 * 1024;
/// Parts of bodies from so many bytes on are not kept: to know where one lies takes as much as a shorter one.
const PART: usize = 64;
/// Most bytes that one side may make us hold: a lost segment, and what was under way behind it.
const HELD: usize = 1024 * 1024;
/// Most readings that the hosts of one segment may have: each takes a look at the rules, and a client has one.
const READINGS: usize = 64;
/// The longest line between chunks or where requests cannot be told apart.
const LINE: usize = 8 * 1024;
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
    let mut asked = Vec::new();
    let wanted = Wanted {
        sni: true,
        http: true,
    };
    Reader::new(wanted).read(payload, &mut asked);
    asked
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
        self.reader.phase == Phase::Done
    }

    /// Reads no further.
    pub(crate) fn give_up(&mut self) {
        self.reader.phase = Phase::Done;
        self.stream = Stream::default();
    }

    /// Takes a segment, and gives the hosts that are asked for in what it completes.
    ///
    /// `is_asked` says that the segment waits for its verdict: none is missing then that its receiver has.
    pub(crate) fn take(&mut self, segment: &Tcp<'_>, is_asked: bool) -> Result<Vec<Asked>, Unread> {
        let mut asked = Vec::new();
        if self.is_done() {
            return Ok(asked);
        }
        if self.reader.is_refused && !segment.payload().is_empty() {
            return Err(Unread::Waiting);
        }
        if self.memory() > HELD {
            if !is_asked {
                self.give_up();
                return Ok(asked);
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
        Ok(asked)
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

#[derive(Debug)]
struct Reader {
    wanted: Wanted,
    phase: Phase,
    /// The begin of the stream was not seen, and no request yet.
    is_picked_up: bool,
    /// A hello goes on for longer than any can be, or hosts have too many readings: nothing more passes.
    is_refused: bool,
    /// The parts of what is being read that belong to bodies.
    bodies: Vec<Range<usize>>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The begin of the stream, of what a proxy was asked to connect to, or of another request.
    Begin,
    /// A ClientHello, not worth reading before there are so many bytes.
    Hello {
        needed: usize,
        is_second: bool,
    },
    /// Behind the first ClientHello, with so many bytes of early data that may still come.
    AfterHello {
        early: usize,
    },
    /// A request, of which so many bytes were seen.
    Head {
        seen: usize,
    },
    /// So many bytes of body, then a request.
    Body(u64),
    /// The size of a chunk (RFC 9112 §7.1), its bytes, the end of line behind them, the fields behind the last one.
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    /// Lines of which nobody can say what they belong to.
    Lines(Continues),
    /// Nothing to be read any more.
    Done,
}

/// What a step came to: so many bytes were read, or more are needed.
enum Step {
    Read(usize),
    More,
}

impl Reader {
    fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            phase: Phase::Begin,
            is_picked_up: false,
            is_refused: false,
            bodies: Vec::new(),
        }
    }

    /// Bytes of a body that are still to come.
    fn body_left(&mut self) -> Option<&mut u64> {
        match &mut self.phase {
            Phase::Body(left) | Phase::Chunk(left) => Some(left),
            _ => None,
        }
    }

    /// Reads what there is behind what was read before; gives how many bytes of it were.
    fn read(&mut self, bytes: &[u8], asked: &mut Vec<Asked>) -> usize {
        let mut read = 0;
        while self.phase != Phase::Done {
            let rest = bytes.get(read..).unwrap_or_default();
            if rest.is_empty() || self.is_refused {
                return read;
            }
            let is_body = self.body_left().is_some();
            match self.step(rest, asked) {
                Step::Read(count) => {
                    if is_body && count > 0 {
                        self.bodies.push(read..read + count);
                    }
                    read += count;
                }
                Step::More => return read,
            }
        }
        bytes.len()
    }

    /// `rest` is not empty.
    fn step(&mut self, rest: &[u8], asked: &mut Vec<Asked>) -> Step {
        match self.phase {
            Phase::Begin => {
                // Records of a connection that was picked up under way.
                if matches!(rest, [CHANGE_CIPHER_SPEC | APPLICATION_DATA, 3, ..]) {
                    self.phase = Phase::Done;
                    return Step::Read(0);
                }
                self.phase = match may_be_tls(rest) {
                    true if self.wanted.sni => Phase::Hello {
                        needed: 0,
                        is_second: false,
                    },
                    true => Phase::Done,
                    // A proxy may be asked to connect, and TLS follow.
                    false => Phase::Head { seen: 0 },
                };
                Step::Read(0)
            }
            Phase::Hello { needed, is_second } if rest.len() >= needed => {
                self.hello(rest, is_second, asked)
            }
            Phase::Hello { .. } => Step::More,
            Phase::AfterHello { early } => self.after_hello(rest, early),
            Phase::Head { seen } => self.head(rest, seen, asked),
            Phase::Body(left) => self.body(rest, left, Phase::Body, Phase::Begin),
            Phase::Chunk(left) => self.body(rest, left, Phase::Chunk, Phase::ChunkEnd),
            Phase::ChunkSize | Phase::ChunkEnd | Phase::Trailer => self.chunk_line(rest),
            Phase::Lines(continues) => self.lines(rest, continues, asked),
            Phase::Done => Step::More,
        }
    }

    fn hello(&mut self, rest: &[u8], is_second: bool, asked: &mut Vec<Asked>) -> Step {
        let mut room = ServerName::new();
        let has_early_data = match sni(rest, &mut room) {
            Sni::Incomplete(missing) => {
                self.is_refused = rest.len() >= HELLO_STREAM;
                self.phase = Phase::Hello {
                    needed: (rest.len() + missing).min(HELLO_STREAM),
                    is_second,
                };
                return Step::More;
            }
            Sni::Name {
                host, early_data, ..
            } => {
                asked.push(certain(HostField::Sni, &host));
                early_data
            }
            Sni::Absent { early_data, .. } => early_data,
            Sni::NotTls | Sni::Malformed(_) => {
                self.phase = Phase::Done;
                return Step::Read(0);
            }
        };
        self.phase = if is_second {
            Phase::Done
        } else {
            Phase::AfterHello {
                early: if has_early_data { EARLY } else { 0 },
            }
        };
        Step::Read(hello_end(rest))
    }

    /// A server may ask for a second hello, and clients may send records before it that say nothing (RFC 8446 §4.1.4, §D.4), warn
    /// (OpenSSL passes over `user_canceled`), or hold early data, which the server passes over then (§4.2.10).
    fn after_hello(&mut self, rest: &[u8], early: usize) -> Step {
        match rest {
            [CHANGE_CIPHER_SPEC, _, _, 0, 1, _, ..] => return Step::Read(6),
            [CHANGE_CIPHER_SPEC, ..] if rest.len() < 6 => return Step::More,
            [ALERT, _, _, 0, 2, _, _, ..] => return Step::Read(7),
            [ALERT, ..] if rest.len() < 7 => return Step::More,
            [APPLICATION_DATA, ..] if early > 0 && rest.len() < 5 => return Step::More,
            [APPLICATION_DATA, _, _, high, low, ..] if early > 0 => {
                let len = 5 + usize::from(u16::from_be_bytes([*high, *low]));
                if rest.len() < len {
                    return Step::More;
                }
                self.phase = Phase::AfterHello {
                    early: early.saturating_sub(len),
                };
                return Step::Read(len);
            }
            [HANDSHAKE, _, _, _, _, CLIENT_HELLO, ..] => {
                self.phase = Phase::Hello {
                    needed: 0,
                    is_second: true,
                };
            }
            [HANDSHAKE, ..] if rest.len() < 6 => return Step::More,
            _ => self.phase = Phase::Done,
        }
        Step::Read(0)
    }

    fn head(&mut self, rest: &[u8], seen: usize, asked: &mut Vec<Asked>) -> Step {
        // A head ends in an end of line: without a new one it is no more whole than it was.
        let fresh = rest.get(seen..).unwrap_or_default();
        let may_end = seen == 0 || rest.len() >= wire::http::HEAD_MAX || fresh.contains(&b'\n');
        if !may_end {
            self.phase = Phase::Head { seen: rest.len() };
            return Step::More;
        }
        match request_head(rest) {
            Http::Incomplete => {
                self.phase = Phase::Head { seen: rest.len() };
                Step::More
            }
            Http::Request(request) => {
                self.request(rest, &request, asked);
                Step::Read(request.head_len)
            }
            // It may be the middle of a body.
            Http::NotHttp if self.is_picked_up && self.wanted.http => {
                self.phase = Phase::Lines(Continues::default());
                Step::Read(0)
            }
            Http::Http2 | Http::NotHttp => {
                self.phase = Phase::Done;
                Step::Read(0)
            }
            Http::TooLong => {
                self.phase = Phase::Lines(Continues::default());
                Step::Read(0)
            }
        }
    }

    fn request(&mut self, rest: &[u8], request: &Request<'_>, asked: &mut Vec<Asked>) {
        self.is_picked_up = false;
        // Some proxies do not mind the case.
        let connects = request.method.eq_ignore_ascii_case(CONNECT);
        match request.host {
            RequestHost::Host(host) if self.wanted.http => {
                asked.push(certain(HostField::HttpHost, &host));
                if host.kind() == HostKind::Raw {
                    hosts_of_host(host.as_bytes(), &mut |host| self.doubt(host, asked));
                }
            }
            RequestHost::Ambiguous(_) if self.wanted.http => {
                let head = rest.get(..request.head_len).unwrap_or(rest);
                hosts_of_head(head, &mut |host| self.doubt(host, asked));
            }
            RequestHost::Host(_) | RequestHost::Ambiguous(_) | RequestHost::Absent => {}
        }
        self.phase = match request.body {
            Body::Length(0) => Phase::Begin,
            // Who does not connect may take it for the body of a request like others (RFC 9110 section 9.3.6): where TLS would begin
            // behind it, nobody can say.
            _ if connects => {
                self.is_refused |= self.wanted.sni;
                Phase::Lines(Continues::default())
            }
            Body::Length(length) => Phase::Body(length),
            Body::Chunked => Phase::ChunkSize,
            Body::Ambiguous => Phase::Lines(Continues::default()),
        };
    }

    fn doubt(&mut self, host: &[u8], asked: &mut Vec<Asked>) {
        if self.is_refused {
            return;
        }
        let mut readings = 0;
        for known in asked.iter().filter(|asked| asked.is_doubtful) {
            if *known.host == *host {
                return;
            }
            readings += 1;
        }
        if readings < READINGS {
            asked.push(doubtful(host));
        } else {
            self.is_refused = true;
        }
    }

    fn body(&mut self, rest: &[u8], left: u64, more: fn(u64) -> Phase, end: Phase) -> Step {
        let here = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        let left = left - here as u64;
        self.phase = if left == 0 { end } else { more(left) };
        Step::Read(here)
    }

    /// A line between chunks. What servers may read otherwise is read line by line from there on.
    fn chunk_line(&mut self, rest: &[u8]) -> Step {
        let Some(end) = rest.iter().take(LINE).position(|&byte| byte == b'\n') else {
            if rest.len() < LINE {
                return Step::More;
            }
            self.phase = Phase::Lines(Continues::default());
            return Step::Read(0);
        };
        let line = rest.get(..end).unwrap_or_default();
        // Whether another end of line ends a chunk's, servers disagree on.
        let whole = (line.strip_suffix(b"\r")).filter(|line| !line.contains(&b'\r'));
        let next = match (self.phase, whole) {
            (Phase::ChunkSize, Some(line)) => match chunk_size(line) {
                Some(0) => Phase::Trailer,
                Some(size) => Phase::Chunk(size),
                None => Phase::Lines(Continues::default()),
            },
            (Phase::ChunkEnd, Some([])) => Phase::ChunkSize,
            (Phase::Trailer, Some([])) => Phase::Begin,
            (Phase::Trailer, Some(_)) => Phase::Trailer,
            _ => Phase::Lines(Continues::default()),
        };
        self.phase = next;
        let is_read = !matches!(next, Phase::Lines(_));
        Step::Read(if is_read { end + 1 } else { 0 })
    }

    /// Whole lines, and as much of one that does not end.
    fn lines(&mut self, rest: &[u8], mut continues: Continues, asked: &mut Vec<Asked>) -> Step {
        let end = rest.iter().rposition(|&byte| byte == b'\n');
        let end = match end {
            Some(end) => end + 1,
            None if rest.len() < LINE => return Step::More,
            None => rest.len(),
        };
        let whole = rest.get(..end).unwrap_or(rest);
        for line in whole.split_inclusive(|&byte| byte == b'\n') {
            if self.wanted.http {
                hosts_of_lines(line, &mut continues, &mut |host| {
                    self.doubt(host, asked);
                });
            }
            // TLS may follow, if a request is here and if it is no part of a body.
            self.is_refused |= self.wanted.sni && connects(line);
            if self.is_refused {
                break;
            }
        }
        self.phase = Phase::Lines(continues);
        Step::Read(end)
    }
}

/// Types of records and messages (RFC 8446 §4, §5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;

/// Where the records end that carry a whole hello.
fn hello_end(stream: &[u8]) -> usize {
    let (mut at, mut carried) = (0, 0_usize);
    let (mut header, mut filled) = ([0_u8; 4], 0);
    while let Some([kind, _, _, high, low]) = stream.get(at..at + 5) {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind != HANDSHAKE {
            at += 5 + len;
            continue;
        }
        let part = stream.get(at + 5..).unwrap_or_default();
        for byte in part.iter().take(len.min(4 - filled)) {
            header[filled] = *byte;
            filled += 1;
        }
        (at, carried) = (at + 5 + len, carried + len);
        let [_, length @ ..] = header.map(usize::from);
        let whole = 4 + (length[0] << 16 | length[1] << 8 | length[2]);
        if filled == 4 && carried >= whole {
            break;
        }
    }
    at.min(stream.len())
}

/// Hexadecimal digits, then perhaps extensions.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next()?;
    let digits = std::str::from_utf8(digits).ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| is_number)
}

/// A name that DNS could not hold is doubtful all the same: some end it at a NUL, or take it for an address.
fn certain(field: HostField, host: &Host<'_>) -> Asked {
    let is_address = |host| matches!(policy::AskedHost::new(host), policy::AskedHost::Address(_));
    Asked {
        field,
        host: host.as_bytes().into(),
        is_doubtful: host.kind() == HostKind::Raw && !is_address(host.as_bytes()),
    }
}

fn doubtful(host: &[u8]) -> Asked {
    Asked {
        field: HostField::HttpHost,
        host: host.into(),
        is_doubtful: true,
    }
}
