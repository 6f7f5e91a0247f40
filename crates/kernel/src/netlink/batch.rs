//! Many datagrams by one system call, into buffers that are made once.
#![allow(unsafe_code, reason = "recvmmsg has no safe interface in std")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

/// Most datagrams taken by one system call.
const MOST: usize = 64;

/// Buffers for the datagrams of one `recvmmsg`, allocated once.
#[derive(Debug)]
pub struct ReceiveBatch {
    memory: Box<[u8]>,
    each: usize,
    lengths: [usize; MOST],
    filled: usize,
    truncated: u64,
}

impl ReceiveBatch {
    /// Room for `count` (1–64) datagrams of at most `each` bytes.
    #[must_use]
    pub fn new(count: usize, each: usize) -> ReceiveBatch {
        let each = each.max(1);
        let memory = vec![0; count.clamp(1, MOST) * each].into_boxed_slice();
        ReceiveBatch {
            memory,
            each,
            lengths: [0; MOST],
            filled: 0,
            truncated: 0,
        }
    }

    /// The datagrams of the last receipt, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.memory
            .chunks_exact(self.each)
            .zip(&self.lengths[..self.filled])
            .map(|(chunk, length)| &chunk[..*length])
    }

    /// How many datagrams did not fit so far: their first bytes are there, the rest is lost.
    #[must_use]
    pub const fn truncated(&self) -> u64 {
        self.truncated
    }

    /// Forgets what was received before.
    pub(super) fn empty(&mut self) {
        self.filled = 0;
    }

    /// Takes what lies ready, without waiting.
    pub(super) fn fill(&mut self, fd: RawFd) -> io::Result<usize> {
        // SAFETY: iovec and mmsghdr are pointers and integers, for which zero is valid.
        let (mut vectors, mut headers): ([libc::iovec; MOST], [libc::mmsghdr; MOST]) = unsafe {
            (
                MaybeUninit::zeroed().assume_init(),
                MaybeUninit::zeroed().assume_init(),
            )
        };
        let room = self.memory.len() / self.each;
        for ((chunk, vector), header) in self
            .memory
            .chunks_exact_mut(self.each)
            .zip(&mut vectors)
            .zip(&mut headers)
        {
            vector.iov_base = chunk.as_mut_ptr().cast();
            vector.iov_len = chunk.len();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the first `room` headers (`room` <= MOST, as `new` clamps) each point to one iovec of `vectors`, and each
        // of those to its own chunk of `self.memory`; all three outlive the call, and nothing else refers to the memory.
        let count = unsafe {
            libc::recvmmsg(
                fd,
                headers.as_mut_ptr(),
                room as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (length, header) in self.lengths.iter_mut().zip(&headers[..count]) {
            *length = (header.msg_len as usize).min(self.each);
            self.truncated += u64::from(header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0);
        }
        self.filled = count;
        Ok(count)
    }
}
