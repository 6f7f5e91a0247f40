//! A cursor over the first handshake message of a stream, which hides the borders of the records that carry it and goes on where it
//! stopped when more of the stream has come.

use super::TlsDefect;

/// The longest ClientHello that is read: what its fields can hold, each at its longest (RFC 8446 section 4.1.2). OpenSSL accepts as
/// much, other servers less. A hello with post-quantum keys has 2 KiB.
///
/// In records of one byte each it takes six times as much of the stream, which is for the caller to bound.
pub const HELLO_MAX: usize = 2 + 32 + (1 + 32) + (2 + 65_534) + (1 + 255) + (2 + 65_535);

/// The longest record (RFC 8446 section 5.1).
const RECORD_MAX: u16 = 1 << 14;
const RECORD_HEADER: usize = 5;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// Type and length of a handshake message (RFC 8446 section 4).
const MESSAGE_HEADER: usize = 4;
/// Records in a row that carry nothing of the hello. OpenSSL passes over 32 empty ones, other servers over fewer.
const IDLE_MAX: u8 = 32;

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The stream ends; at least this many further bytes are needed.
    Incomplete(usize),
    /// No ClientHello begins here.
    NotTls,
    /// One does, but it cannot be.
    Defect(TlsDefect),
}

impl From<TlsDefect> for Stop {
    fn from(defect: TlsDefect) -> Self {
        Self::Defect(defect)
    }
}

/// How far the message was read. Whatever was read is not looked at again: where a number or what is passed over stops half way,
/// the same call goes on with it. Each call is given the stream from its begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    /// Bytes of the stream that were read.
    at: usize,
    /// Bytes that the message still has.
    left: usize,
    /// Bytes of the message that are still to be passed over.
    skip: usize,
    /// The first bytes of a number, and how many of them there were.
    number: u32,
    digits: u8,
    /// Records in a row that carried nothing.
    idle: u8,
    /// Bytes that the current record still has to carry, at most [`RECORD_MAX`].
    record: u16,
    /// How often bytes were looked for, for tests that count.
    #[cfg(test)]
    pub(super) looks: usize,
}

impl Default for Handshake {
    /// At the begin of the stream.
    fn default() -> Self {
        Self {
            at: 0,
            left: MESSAGE_HEADER,
            skip: 0,
            number: 0,
            digits: 0,
            idle: 0,
            record: 0,
            #[cfg(test)]
            looks: 0,
        }
    }
}

impl Handshake {
    /// The header is read: the message has so many bytes more.
    pub(super) fn begin_body(&mut self, len: usize) -> Result<(), Stop> {
        if len > HELLO_MAX {
            return Err(TlsDefect::TooLong.into());
        }
        self.left = len;
        Ok(())
    }

    /// Bytes of the stream that were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes that the current record carries behind what was read.
    pub(super) fn record(&self) -> usize {
        usize::from(self.record)
    }

    /// Bytes of the message that were not read yet.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// A number of so many bytes, at most 4, behind which at least `end` bytes of the message have to be left.
    pub(super) fn number(&mut self, stream: &[u8], len: usize, end: usize) -> Result<usize, Stop> {
        let digits = usize::from(self.digits);
        if self.left + digits < end + len {
            return Err(TlsDefect::FieldLength.into());
        }
        let mut missing = len - digits;
        while missing > 0 {
            let part = self.part(stream, missing)?;
            for byte in part {
                self.number = self.number << 8 | u32::from(*byte);
                self.digits += 1;
            }
            missing -= part.len();
        }
        self.digits = 0;
        Ok(std::mem::take(&mut self.number) as usize)
    }

    /// So many bytes are to be passed over, by [`pass`](Self::pass).
    pub(super) fn skip(&mut self, count: usize) -> Result<(), Stop> {
        if count > self.left {
            return Err(TlsDefect::FieldLength.into());
        }
        self.skip = count;
        Ok(())
    }

    /// Passes over what is to be.
    pub(super) fn pass(&mut self, stream: &[u8]) -> Result<(), Stop> {
        while self.skip > 0 {
            self.skip -= self.part(stream, self.skip)?.len();
        }
        Ok(())
    }

    /// Reads as many bytes as there is room for, all of which are there.
    pub(super) fn copy(&mut self, stream: &[u8], mut room: &mut [u8]) -> Result<(), Stop> {
        while !room.is_empty() {
            let part = self.part(stream, room.len())?;
            let Some((now, later)) = room.split_at_mut_checked(part.len()) else {
                // A part is no longer than what was asked for.
                return Ok(());
            };
            now.copy_from_slice(part);
            room = later;
        }
        Ok(())
    }

    /// The next bytes of the message that lie in one record: at least one, at most `most`, which the message still has.
    fn part<'a>(&mut self, stream: &'a [u8], most: usize) -> Result<&'a [u8], Stop> {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        if self.record == 0 {
            self.enter_record(stream)?;
        }
        let rest = stream.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            // Every byte that is left, and the header of one more record if this one cannot hold them.
            let more = if self.left > self.record() {
                RECORD_HEADER
            } else {
                0
            };
            return Err(Stop::Incomplete(self.left + more));
        }
        let part = rest.get(..most.min(self.record())).unwrap_or(rest);
        self.at += part.len();
        // Of that record, no more was taken.
        self.record -= part.len() as u16;
        self.left -= part.len();
        Ok(part)
    }

    /// Goes to the next record that carries something. Servers pass over empty ones (OpenSSL) and over alerts that are no more
    /// than warnings (GnuTLS), though RFC 8446 section 5.1 has them end the connection.
    fn enter_record(&mut self, stream: &[u8]) -> Result<(), Stop> {
        loop {
            #[cfg(test)]
            {
                self.looks += 1;
            }
            let rest = stream.get(self.at..).unwrap_or_default();
            let missing = |there: usize| Stop::Incomplete(RECORD_HEADER - there + self.left);
            let kind = rest.first().ok_or(missing(0))?;
            if !matches!(*kind, HANDSHAKE | ALERT) {
                return Err(TlsDefect::Interleaved.into());
            }
            let Some(([_, _, _, high, low], rest)) = rest.split_first_chunk() else {
                return Err(missing(rest.len()));
            };
            let len = u16::from_be_bytes([*high, *low]);
            if len > RECORD_MAX {
                return Err(TlsDefect::RecordLength.into());
            }
            if *kind == HANDSHAKE && len > 0 {
                self.at += RECORD_HEADER;
                (self.record, self.idle) = (len, 0);
                return Ok(());
            }
            let len = usize::from(len);
            if self.idle >= IDLE_MAX {
                return Err(TlsDefect::RecordLength.into());
            }
            if rest.len() < len {
                let alert = len - rest.len();
                return Err(Stop::Incomplete(alert + RECORD_HEADER + self.left));
            }
            self.at += RECORD_HEADER + len;
            self.idle += 1;
        }
    }
}

/// Whether a client of SSL 3 or TLS may begin so: with a handshake record, or an alert before it.
pub fn may_be_tls(stream: &[u8]) -> bool {
    let kind = stream.first();
    let major = stream.get(1);
    kind.is_none_or(|kind| matches!(*kind, HANDSHAKE | ALERT))
        && major.is_none_or(|major| *major == 3)
}
