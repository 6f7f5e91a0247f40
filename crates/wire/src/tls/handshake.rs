//! A cursor over the first handshake message of a stream, which hides the borders of the records that carry it.

use super::TlsDefect;

/// The longest ClientHello that is read: what its fields can hold, each at its longest (RFC 8446 section 4.1.2). OpenSSL accepts as
/// much, other servers less. A hello with post-quantum keys has 2 KiB.
///
/// In records of one byte each it takes six times as much of the stream, which is for the caller to bound.
pub const HELLO_MAX: usize = 2 + 32 + (1 + 32) + (2 + 65_534) + (1 + 255) + (2 + 65_535);

/// The longest record (RFC 8446 section 5.1).
const RECORD_MAX: usize = 1 << 14;
const RECORD_HEADER: usize = 5;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Type and length of a handshake message (RFC 8446 section 4).
const MESSAGE_HEADER: usize = 4;
/// Records in a row that carry nothing of the hello. OpenSSL passes over 32 empty ones, other servers over fewer.
const IDLE_MAX: usize = 32;

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

/// The message, from its body on.
pub(super) struct Handshake<'a> {
    /// What follows in the stream.
    stream: &'a [u8],
    /// Bytes that the current record still has to carry.
    record: usize,
    /// Bytes that the message still has.
    left: usize,
}

impl<'a> Handshake<'a> {
    /// Begins at the beginning of the stream.
    pub(super) fn begin(stream: &'a [u8]) -> Result<Self, Stop> {
        // As soon as the first byte, or the second, is another protocol's, no more of it is awaited.
        if !may_be_tls(stream) {
            return Err(Stop::NotTls);
        }
        let mut handshake = Self {
            stream,
            record: 0,
            left: MESSAGE_HEADER,
        };
        if handshake.byte()? != CLIENT_HELLO {
            return Err(Stop::NotTls);
        }
        handshake.left = usize::from(handshake.byte()?) << 16 | handshake.word()?;
        if handshake.left > HELLO_MAX {
            return Err(TlsDefect::TooLong.into());
        }
        Ok(handshake)
    }

    /// Bytes of the message that were not read yet.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        let mut byte = [0];
        self.copy(&mut byte)?;
        Ok(byte[0])
    }

    /// A number of two bytes.
    pub(super) fn word(&mut self) -> Result<usize, Stop> {
        let mut word = [0; 2];
        self.copy(&mut word)?;
        Ok(usize::from(u16::from_be_bytes(word)))
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), Stop> {
        self.take(count, |_| ())
    }

    pub(super) fn copy(&mut self, into: &mut [u8]) -> Result<(), Stop> {
        let count = into.len();
        let mut rest = into;
        self.take(count, |part| {
            // The parts together are as long as `into`.
            if let Some((now, later)) = std::mem::take(&mut rest).split_at_mut_checked(part.len()) {
                now.copy_from_slice(part);
                rest = later;
            }
        })
    }

    /// Hands over the next bytes of the message, in as many parts as there are records.
    fn take(&mut self, count: usize, mut part: impl FnMut(&'a [u8])) -> Result<(), Stop> {
        if count > self.left {
            return Err(TlsDefect::FieldLength.into());
        }
        let mut wanted = count;
        while wanted > 0 {
            if self.record == 0 {
                self.enter_record()?;
            }
            let now = wanted.min(self.record).min(self.stream.len());
            let (bytes, rest) = self.stream.split_at(now);
            part(bytes);
            (self.stream, self.record) = (rest, self.record - now);
            (self.left, wanted) = (self.left - now, wanted - now);
            if wanted > 0 && self.record > 0 {
                // Every byte that is left, and the header of one more record if this one cannot hold them.
                let more = if self.left > self.record {
                    RECORD_HEADER
                } else {
                    0
                };
                return Err(Stop::Incomplete(self.left + more));
            }
        }
        Ok(())
    }

    /// Goes to the next record that carries something. Servers pass over empty ones (OpenSSL) and over alerts that are no more
    /// than warnings (GnuTLS), though RFC 8446 section 5.1 has them end the connection.
    fn enter_record(&mut self) -> Result<(), Stop> {
        for _ in 0..=IDLE_MAX {
            let missing = |there: usize| Stop::Incomplete(RECORD_HEADER - there + self.left);
            let kind = self.stream.first().ok_or(missing(0))?;
            if !matches!(*kind, HANDSHAKE | ALERT) {
                return Err(TlsDefect::Interleaved.into());
            }
            let Some(([_, _, _, high, low], rest)) = self.stream.split_first_chunk() else {
                return Err(missing(self.stream.len()));
            };
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            if len > RECORD_MAX {
                return Err(TlsDefect::RecordLength.into());
            }
            if *kind == HANDSHAKE && len > 0 {
                (self.stream, self.record) = (rest, len);
                return Ok(());
            }
            let Some(behind) = rest.get(len..) else {
                let alert = len - rest.len();
                return Err(Stop::Incomplete(alert + RECORD_HEADER + self.left));
            };
            self.stream = behind;
        }
        Err(TlsDefect::RecordLength.into())
    }
}

/// Whether a client of SSL 3 or TLS may begin so: with a handshake record, or an alert before it.
pub fn may_be_tls(stream: &[u8]) -> bool {
    let kind = stream.first();
    let major = stream.get(1);
    kind.is_none_or(|kind| matches!(*kind, HANDSHAKE | ALERT))
        && major.is_none_or(|major| *major == 3)
}
