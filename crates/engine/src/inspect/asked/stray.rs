//! A first line that is no request line of HTTP/1, and what stands behind it: lenient servers take nearly anything for a request line,
//! and a field that names a host says that this was one.
//!
//! What other protocols say is over after a line or a few: nothing of it is kept but the line under way.

use wire::http::{after_blanks, is_space};

use super::super::readings::{
    Continues, begins_field, connects, hosts_of_lines, hosts_of_stray_line, names_host,
};
use super::found::FoundHosts;
use super::reader::{LINE, Phase, Reader, Step};

/// Bytes at the end of a request line that hold its version.
const VERSION: usize = 16;
/// Lines that are no fields and that a server may pass over (tinyproxy).
const JUNK: u8 = 8;

/// Where the reading stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stray {
    /// The first line is behind.
    in_fields: bool,
    /// The first line is longer than any is kept.
    is_long: bool,
    /// It began as a hello, too: if it names a host, it is nobody's.
    is_hello: bool,
    /// It asks for a connection.
    connects: bool,
    /// A field named a host.
    has_host: bool,
    /// Lines behind the first one that are no fields.
    junk: u8,
    continues: Continues,
}

impl Reader {
    /// `rest` is not empty.
    pub(super) fn stray(&mut self, rest: &[u8], stray: Stray, asked: &mut FoundHosts) -> Step {
        let longest = if stray.is_long { usize::MAX } else { LINE };
        let Some(end) = self.line_end(rest, longest) else {
            return self.stray_part(rest, stray);
        };
        let line = rest.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.phase = if stray.is_hello && !stray.is_long {
            let next = stray.behind_line(line);
            self.is_refused |= next.is_some_and(Stray::names_host);
            next.map_or(Phase::Done, Phase::Stray)
        } else if !stray.in_fields {
            self.stray_first(line, stray, asked)
        } else if line.is_empty() {
            stray.end()
        } else {
            self.stray_field(line, stray, asked)
        };
        let is_read = matches!(self.phase, Phase::Stray(_));
        Step::Read(if is_read { end + 1 } else { 0 })
    }

    /// A line that does not end yet.
    fn stray_part(&mut self, rest: &[u8], mut stray: Stray) -> Step {
        if stray.is_long {
            let gone = rest.len().saturating_sub(VERSION);
            return if gone > 0 {
                Step::Read(gone)
            } else {
                Step::More
            };
        }
        if stray.in_fields && !may_go_on(rest) {
            self.phase = stray.end();
            return Step::Read(0);
        }
        if rest.len() < LINE {
            return Step::More;
        }
        if stray.in_fields {
            self.phase = Phase::Lines(stray.continues);
            return Step::Read(0);
        }
        stray.is_long = true;
        self.phase = Phase::Stray(stray);
        Step::Read(LINE - VERSION)
    }

    fn stray_first(&mut self, line: &[u8], mut stray: Stray, asked: &mut FoundHosts) -> Phase {
        if stray.is_long {
            // A line so long that says so is nobody's, and its target is gone.
            let end = line.get(line.len().saturating_sub(VERSION - 1)..);
            let mut parts = end.unwrap_or(line).windows(5);
            self.is_refused |=
                self.wanted.http && parts.any(|part| part.eq_ignore_ascii_case(b"HTTP/"));
        } else {
            let words = after_blanks(line).split(|byte| is_space(*byte));
            match words.filter(|word| !word.is_empty()).take(2).count() {
                // Servers pass over it.
                0 => return Phase::Stray(stray),
                1 => return Phase::Done,
                _ => {}
            }
            if self.wanted.http {
                self.doubts(asked, false, |found| hosts_of_stray_line(line, found));
            }
            stray.connects = connects(line);
        }
        if !self.wanted.http && !stray.connects {
            return Phase::Done;
        }
        (stray.in_fields, stray.is_long) = (true, false);
        Phase::Stray(stray)
    }

    fn stray_field(&mut self, line: &[u8], mut stray: Stray, asked: &mut FoundHosts) -> Phase {
        if !may_go_on(line) {
            return stray.end();
        }
        if is_junk(line) {
            stray.junk += 1;
            return if stray.junk < JUNK {
                Phase::Stray(stray)
            } else {
                stray.end()
            };
        }
        let mut continues = stray.continues;
        if self.wanted.http {
            stray.has_host |= self.doubts(asked, false, |found| {
                hosts_of_lines(line, &mut continues, found)
            });
        }
        stray.continues = continues;
        Phase::Stray(stray)
    }
}

impl Stray {
    /// Of what began as a hello.
    pub(super) fn of_hello() -> Self {
        Self {
            is_hello: true,
            ..Self::default()
        }
    }

    /// Behind a line of what began as a hello; `None` where nothing more of it counts. Only whether it names a host does.
    pub(super) fn behind_line(mut self, line: &[u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.in_fields {
            if line.is_empty() || !may_go_on(line) {
                return None;
            }
            self.junk += u8::from(is_junk(line));
        }
        self.in_fields |= !after_blanks(line).is_empty();
        self.has_host |= names_host(line);
        (self.junk < JUNK).then_some(self)
    }

    pub(super) fn names_host(self) -> bool {
        self.has_host
    }

    /// What comes behind it.
    fn end(self) -> Phase {
        if self.connects {
            Phase::Begin
        } else if self.has_host {
            Phase::Lines(self.continues)
        } else {
            Phase::Done
        }
    }
}

/// Whether a line behind the first one is no field, nor goes on with one.
fn is_junk(line: &[u8]) -> bool {
    let is_folded = line.first().is_some_and(|byte| is_space(*byte));
    !is_folded && (!begins_field(line) || !line.contains(&b':'))
}

/// Whether a line, perhaps without its end, may be one of a head: by its first bytes, so that another protocol is told by them.
fn may_go_on(line: &[u8]) -> bool {
    let start = line.get(..64).unwrap_or(line);
    let is_text = |byte: &u8| is_space(*byte) || !byte.is_ascii_control();
    begins_field(start) || start.iter().all(is_text)
}
