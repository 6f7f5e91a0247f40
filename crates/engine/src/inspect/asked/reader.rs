//! Reads what one side of a stream says, byte after byte as they come: where a hello, a head, a body or a chunk begins and ends, and which
//! hosts they ask for. However the bytes are cut, it comes to the same.

use std::ops::{ControlFlow, Range};

use policy::HostField;
use wire::HostKind;
use wire::http::{Body, HeadReader, Http, Request, RequestHost, after_blanks, is_space, is_token};
use wire::tls::may_be_tls;

use super::super::readings::{
    CONNECT, Continues, Found, connects, hosts_of_head, hosts_of_lines, hosts_of_place,
    hosts_of_value,
};
use super::found::FoundHosts;
use super::hello::{Hello, begins_with_record};
use super::stray::Stray;
use super::{Wanted, certain};

/// Bytes of a line that hold a host with all that says so.
const TORN: usize = 512;
/// The longest line between chunks or where requests cannot be told apart.
pub(super) const LINE: usize = 8 * 1024;

/// Where the reading of a stream stands.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) wanted: Wanted,
    pub(super) phase: Phase,
    /// The begin of the stream was not seen, and no request yet.
    pub(super) is_picked_up: bool,
    /// A hello goes on for longer than any can be, or hosts have too many readings: nothing more passes.
    pub(super) is_refused: bool,
    /// So many bytes behind what was read hold no end of line.
    searched: usize,
    /// The parts of what is being read that belong to bodies.
    pub(super) bodies: Vec<Range<usize>>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The begin of the stream, of what a proxy was asked to connect to, or of another request.
    Begin,
    /// A ClientHello.
    Hello(Hello),
    /// Behind the first ClientHello, with so many bytes of early data that may still come.
    AfterHello {
        early: usize,
    },
    /// A request.
    Head(HeadReader),
    /// What is no request, where lenient servers may read one.
    Stray(Stray),
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
pub(super) enum Step {
    Read(usize),
    More,
}

impl Reader {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            phase: Phase::Begin,
            is_picked_up: false,
            is_refused: false,
            searched: 0,
            bodies: Vec::new(),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Reads no further.
    pub(super) fn give_up(&mut self) {
        self.phase = Phase::Done;
    }

    /// Bytes of a body that are still to come.
    pub(super) fn body_left(&mut self) -> Option<&mut u64> {
        match &mut self.phase {
            Phase::Body(left) | Phase::Chunk(left) => Some(left),
            _ => None,
        }
    }

    /// Reads what there is behind what was read before; gives how many bytes of it were.
    pub(super) fn read(&mut self, bytes: &[u8], asked: &mut FoundHosts) -> usize {
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
                    self.searched = 0;
                }
                Step::More => return read,
            }
        }
        bytes.len()
    }

    /// `rest` is not empty.
    fn step(&mut self, rest: &[u8], asked: &mut FoundHosts) -> Step {
        match self.phase {
            Phase::Begin => {
                self.phase = match may_be_tls(rest) {
                    true if self.wanted.sni => Phase::Hello(Hello::first(self.wanted)),
                    // What looks like a record may be a strange method, and a proxy may be asked to connect, and TLS follow.
                    _ => Phase::Head(HeadReader::default()),
                };
                Step::Read(0)
            }
            Phase::Hello(hello) => self.hello(rest, hello, asked),
            Phase::AfterHello { early } => self.after_hello(rest, early),
            Phase::Head(reader) => self.head(rest, reader, asked),
            Phase::Stray(stray) => self.stray(rest, stray, asked),
            Phase::Body(left) => self.body(rest, left, Phase::Body, Phase::Begin),
            Phase::Chunk(left) => self.body(rest, left, Phase::Chunk, Phase::ChunkEnd),
            Phase::ChunkSize | Phase::ChunkEnd | Phase::Trailer => self.chunk_line(rest),
            Phase::Lines(continues) => self.lines(rest, continues, asked),
            Phase::Done => Step::More,
        }
    }

    fn head(&mut self, rest: &[u8], mut reader: HeadReader, asked: &mut FoundHosts) -> Step {
        // Nobody connects by it.
        if !self.wanted.http && !begins_request(rest) {
            self.phase = Phase::Done;
            return Step::Read(0);
        }
        let read = reader.read(rest);
        let is_hello = self.wanted.sni && self.wanted.http && may_be_tls(rest);
        self.phase = match read {
            Http::Incomplete => {
                self.phase = Phase::Head(reader);
                return Step::More;
            }
            // What began as a hello, too: servers of TLS give it up sooner or later, and nothing may hang on when.
            Http::Request(_) | Http::TooLong if is_hello => {
                self.is_refused = true;
                return Step::More;
            }
            Http::Request(request) => {
                self.request(rest, &request, asked);
                return Step::Read(request.head_len);
            }
            Http::Http2 => Phase::Done,
            // Records of a connection that was picked up under way.
            Http::NotHttp if self.is_picked_up && begins_with_record(rest) != Some(false) => {
                if begins_with_record(rest).is_none() {
                    return Step::More;
                }
                Phase::Done
            }
            // It may be the middle of a body.
            Http::NotHttp if self.is_picked_up && self.wanted.http => {
                Phase::Lines(Continues::default())
            }
            Http::NotHttp if is_hello => Phase::Stray(Stray::of_hello()),
            Http::NotHttp => Phase::Stray(Stray::default()),
            Http::TooLong => Phase::Lines(Continues::default()),
        };
        Step::Read(0)
    }

    /// Where the line ends, if it does within so many bytes. Each byte is looked at once.
    pub(super) fn line_end(&mut self, rest: &[u8], longest: usize) -> Option<usize> {
        let within = rest.get(..longest).unwrap_or(rest);
        let fresh = within.get(self.searched..).unwrap_or_default();
        let end = fresh.iter().position(|&byte| byte == b'\n');
        let end = end.map(|end| self.searched + end);
        if end.is_none() {
            self.searched = within.len();
        }
        end
    }

    fn request(&mut self, rest: &[u8], request: &Request<'_>, asked: &mut FoundHosts) {
        self.is_picked_up = false;
        // Some proxies do not mind the case.
        let connects = request.method.eq_ignore_ascii_case(CONNECT);
        match request.host {
            RequestHost::Host(host) if self.wanted.http => {
                self.is_refused |= (asked.add(certain(HostField::HttpHost, &host))).is_break();
                if host.kind() == HostKind::Raw {
                    self.doubts(asked, false, |found| hosts_of_value(host.as_bytes(), found));
                }
            }
            RequestHost::Host(_) | RequestHost::Ambiguous(_) | RequestHost::Absent => {}
        }
        let is_ambiguous = matches!(request.host, RequestHost::Ambiguous(_));
        // The target goes before the field (RFC 9112 section 3.2.2), and half of the servers take the field.
        if self.wanted.http && (is_ambiguous || request.anomalies.host_differs) {
            let head = rest.get(..request.head_len).unwrap_or(rest);
            self.doubts(asked, false, |found| hosts_of_head(head, found));
        }
        if self.wanted.http {
            self.doubts(asked, true, |found| hosts_of_place(request.target, found));
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

    /// Takes the hosts that servers may read, as `read` finds them; gives whether there are any. Too many are refused.
    pub(super) fn doubts(
        &mut self,
        asked: &mut FoundHosts,
        is_path: bool,
        read: impl FnOnce(&mut Found<'_>) -> ControlFlow<()>,
    ) -> bool {
        if self.is_refused {
            return false;
        }
        let mut has_any = false;
        let end = read(&mut |host| {
            has_any = true;
            asked.doubt(host, is_path)
        });
        self.is_refused |= end.is_break();
        has_any
    }

    fn body(&mut self, rest: &[u8], left: u64, more: fn(u64) -> Phase, end: Phase) -> Step {
        let here = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        let left = left - here as u64;
        self.phase = if left == 0 { end } else { more(left) };
        Step::Read(here)
    }

    /// A line between chunks. What servers may read otherwise is read line by line from there on.
    fn chunk_line(&mut self, rest: &[u8]) -> Step {
        let Some(end) = self.line_end(rest, LINE) else {
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

    /// A line. Of one that is too long a part, and the next part begins with the end of it, so that nothing is torn.
    fn lines(&mut self, rest: &[u8], mut continues: Continues, asked: &mut FoundHosts) -> Step {
        let (line, read) = match self.line_end(rest, LINE) {
            Some(end) => (rest.get(..end + 1), end + 1),
            None if rest.len() < LINE => return Step::More,
            None => (rest.get(..LINE), LINE - TORN),
        };
        let line = line.unwrap_or(rest);
        if self.wanted.http {
            self.doubts(asked, false, |found| {
                hosts_of_lines(line, &mut continues, found)
            });
        }
        // TLS may follow, if a request is here and if it is no part of a body.
        self.is_refused |= self.wanted.sni && connects(line);
        self.phase = Phase::Lines(continues);
        Step::Read(read)
    }
}

/// Whether the bytes begin as a request of an ordinary client does, or with what servers pass over.
fn begins_request(stream: &[u8]) -> bool {
    let stream = stream.get(..64).unwrap_or(stream);
    let mut bytes = after_blanks(stream).iter();
    let other = bytes.find(|byte| !is_token(**byte));
    other.is_none_or(|byte| is_space(*byte))
}

/// Hexadecimal digits, then perhaps extensions.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next()?;
    let digits = std::str::from_utf8(digits).ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| is_number)
}
