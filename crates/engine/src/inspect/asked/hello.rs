//! The hellos of TLS, and what may stand between two of them.

use policy::HostField;
use wire::http::{HeadReader, Http};
use wire::tls::{HELLO_MAX, HelloReader, ServerName, Sni};

use super::found::FoundHosts;
use super::reader::{Phase, Reader, Step};
use super::stray::Stray;
use super::{Wanted, certain};

/// Bytes of stream in which a ClientHello has to end: the longest that there is, in records of 6 bytes and more. What goes on behind
/// them passes no more.
const HELLO_STREAM: usize = 6 * (4 + HELLO_MAX);
/// Bytes of records behind a hello that may be early data, which a server passes over when it asks for a second hello: four times
/// what servers allow by default (OpenSSL).
const EARLY: usize = 64 * 1024;

/// A hello under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    reader: HelloReader,
    is_second: bool,
    /// It may be a request, too, where somebody wants to know: what begins a record is a method to servers that take any.
    head: Option<HeadReader>,
    /// It is no head, and one to lenient servers if it names a host: what its lines until here say, as long as they count. So many bytes
    /// hold no end of another.
    stray: Option<Stray>,
    lines: usize,
    searched: usize,
}

impl Hello {
    pub(super) fn first(wanted: Wanted) -> Self {
        Self {
            reader: HelloReader::default(),
            is_second: false,
            head: wanted.http.then(HeadReader::default),
            stray: wanted.http.then(Stray::of_hello),
            lines: 0,
            searched: 0,
        }
    }

    fn second(wanted: Wanted) -> Self {
        Self {
            is_second: true,
            ..Self::first(wanted)
        }
    }
}

impl Reader {
    pub(super) fn hello(&mut self, rest: &[u8], mut hello: Hello, asked: &mut FoundHosts) -> Step {
        let within = rest.get(..HELLO_STREAM).unwrap_or(rest);
        let mut room = ServerName::new();
        let (name, has_early_data) = match hello.reader.read(within, &mut room) {
            Sni::Incomplete(_) => {
                self.is_refused = within.len() == HELLO_STREAM;
                self.refuse_request(rest, &mut hello);
                self.phase = Phase::Hello(hello);
                return Step::More;
            }
            Sni::Name {
                host, early_data, ..
            } => (Some(certain(HostField::Sni, &host)), early_data),
            Sni::Absent { early_data, .. } => (None, early_data),
            Sni::NotTls | Sni::Malformed(_) => {
                self.phase = Phase::Head(HeadReader::default());
                return Step::Read(0);
            }
        };
        let end = hello.reader.stream_len();
        self.refuse_request(rest.get(..end).unwrap_or(rest), &mut hello);
        if self.is_refused {
            return Step::More;
        }
        if let Some(name) = name {
            self.is_refused |= asked.add(name).is_break();
        }
        if hello.reader.behind() > 0 {
            // No client has anything to say before the server answers: what a record holds behind the hello may be another one, or a
            // request.
            self.is_refused = true;
            return Step::More;
        }
        self.phase = if hello.is_second {
            Phase::Done
        } else {
            Phase::AfterHello {
                early: if has_early_data { EARLY } else { 0 },
            }
        };
        Step::Read(end)
    }

    /// What is both a request and a hello, as far as it goes, is nobody's.
    fn refuse_request(&mut self, rest: &[u8], hello: &mut Hello) {
        if let Some(head) = &mut hello.head {
            match head.read(rest) {
                Http::Incomplete => {}
                Http::Request(_) | Http::TooLong => {
                    self.is_refused = true;
                    return;
                }
                _ => hello.head = None,
            }
        }
        if hello.head.is_none() && self.wanted.http {
            while let Some(stray) = hello.stray {
                let fresh = rest.get(hello.searched..).unwrap_or_default();
                let Some(end) = fresh.iter().position(|&byte| byte == b'\n') else {
                    break;
                };
                let end = hello.searched + end;
                hello.stray = stray.behind_line(rest.get(hello.lines..end).unwrap_or_default());
                self.is_refused |= hello.stray.is_some_and(Stray::names_host);
                (hello.lines, hello.searched) = (end + 1, end + 1);
            }
            hello.searched = rest.len();
        }
    }

    /// A server may ask for a second hello, and clients may send records before it that say nothing (RFC 8446 §4.1.4, §D.4), warn
    /// (OpenSSL passes over `user_canceled`), or hold early data, which the server passes over then (§4.2.10).
    pub(super) fn after_hello(&mut self, rest: &[u8], early: usize) -> Step {
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
                self.phase = Phase::Hello(Hello::second(self.wanted));
            }
            [HANDSHAKE, ..] if rest.len() < 6 => return Step::More,
            [CHANGE_CIPHER_SPEC..=HEARTBEAT, ..] => self.phase = Phase::Done,
            // Clients of TLS send records: to who takes the hello for a method this is the rest of a request.
            _ if self.wanted.http => {
                self.is_refused = true;
                return Step::More;
            }
            _ => self.phase = Phase::Done,
        }
        Step::Read(0)
    }
}

/// Types of records and messages (RFC 8446 §4, §5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;
const CLIENT_HELLO: u8 = 1;

/// Most bytes of a record behind its header (RFC 5246 §6.2.3: TLS 1.3 allows fewer).
const RECORD_MAX: u16 = 16 * 1024 + 2_048;

/// Whether the bytes begin with a record and the header of another; `None` where more have to come to tell.
pub(super) fn begins_with_record(stream: &[u8]) -> Option<bool> {
    let mut rest = stream;
    for _ in 0..2 {
        let may_be = rest
            .first()
            .is_none_or(|kind| matches!(*kind, CHANGE_CIPHER_SPEC..=HEARTBEAT))
            && rest.get(1).is_none_or(|major| *major == 3)
            && rest.get(2).is_none_or(|minor| *minor <= 4);
        let len = rest
            .get(3..5)
            .and_then(|len| len.try_into().ok())
            .map(u16::from_be_bytes);
        if !may_be || len.is_some_and(|len| len > RECORD_MAX) {
            return Some(false);
        }
        rest = rest.get(5 + usize::from(len?)..).unwrap_or_default();
    }
    Some(true)
}
