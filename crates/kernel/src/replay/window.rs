//! A sliding view over an input: large reads, records lent without copying, memory bounded by the largest record.

use std::io::{self, Read};

use crate::source::SourceError;

/// How much is asked of the input at a time: as much as stays in a processor's own cache until it is read.
const CHUNK: usize = 256 * 1024;

pub(super) struct Window {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// The unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// How many bytes were taken before `start`.
    position: u64,
}

impl Window {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Window {
        Window {
            input,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            position: 0,
        }
    }

    /// How many bytes of the input were taken or skipped.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Makes `count` unread bytes available, and returns how many are: fewer only at the end of the input.
    #[inline]
    pub(super) fn fill(&mut self, count: usize) -> Result<usize, SourceError> {
        if self.end - self.start < count {
            self.read(count)?;
        }
        Ok(count.min(self.end - self.start))
    }

    /// The next `count` bytes, which a [`Window::fill`] must have promised.
    #[inline]
    pub(super) fn peek(&self, count: usize) -> &[u8] {
        &self.buffer[self.start..self.end][..count]
    }

    /// As [`Window::peek`], and goes past them.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        let taken = self.start..self.start + count;
        self.start = taken.end;
        self.position += count as u64;
        &self.buffer[..self.end][taken]
    }

    /// Goes past `count` bytes without keeping them; returns how many there were.
    pub(super) fn skip(&mut self, count: u64) -> Result<u64, SourceError> {
        let mut left = count;
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK);
            let available = self.fill(step)?;
            self.take(available);
            left -= available as u64;
            if available < step {
                break;
            }
        }
        Ok(count - left)
    }

    #[cold]
    fn read(&mut self, count: usize) -> Result<(), SourceError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < count {
            self.buffer.resize(count, 0);
        }
        while self.end < count {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(got) => self.end += got,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let at = self.position + self.end as u64;
                    return Err(SourceError::Read { at, source });
                }
            }
        }
        Ok(())
    }
}
