//! A netlink socket: requests with their acknowledgements, dumps, and batches of whatever the kernel sends by itself.
#![allow(
    unsafe_code,
    reason = "netlink sockets, their options and recvmmsg have no safe interface in std"
)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use libc::{c_int, c_void};

use super::batch::ReceiveBatch;
use super::builder::stamp;
use super::{Message, Messages, NetlinkError};

/// How long an answer may take. The kernel answers nfnetlink requests before `sendmsg` returns; the rest is a loaded machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Room for the largest part of a dump (32 KiB on every kernel so far) and for any acknowledgement.
const ANSWER: usize = 128 * 1024;

/// A netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Socket {
    /// Opens a socket of a netlink family (`NETLINK_NETFILTER`, `NETLINK_ROUTE`) with error texts switched on.
    ///
    /// # Errors
    /// The kernel has no such family, or the process may not.
    pub fn open(family: c_int) -> Result<Socket, NetlinkError> {
        // SAFETY: no pointers are passed.
        let fd = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                family,
            )
        };
        check(fd, "open")?;
        // SAFETY: `fd` was just opened and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = Socket {
            fd,
            sequence: 0,
            buffer: vec![0; ANSWER].into_boxed_slice(),
        };
        // Both only add words to errors or drop the echo of the request; kernels before 4.12 lack them.
        let _ = socket.option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1, "configure");
        let _ = socket.option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1, "configure");

        // SAFETY: sockaddr_nl is plain integers, for which zero is valid: port 0 lets the kernel choose.
        let mut address: libc::sockaddr_nl = unsafe { MaybeUninit::zeroed().assume_init() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        let (pointer, length) = (
            &raw const address,
            size_of::<libc::sockaddr_nl>() as libc::socklen_t,
        );
        // SAFETY: the pointer and length describe `address`, which lives through the call.
        let bound = unsafe { libc::bind(socket.fd.as_raw_fd(), pointer.cast(), length) };
        check(bound, "bind")?;
        Ok(socket)
    }

    /// Asks for a receive buffer of `bytes`, beyond the machine's limit where CAP_NET_ADMIN allows it.
    ///
    /// # Errors
    /// Neither that nor what the limit allows could be set.
    pub fn receive_buffer(&self, bytes: usize) -> Result<(), NetlinkError> {
        let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
        self.option(
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            bytes,
            "enlarge the buffer of",
        )
        .or_else(|_| {
            self.option(
                libc::SOL_SOCKET,
                libc::SO_RCVBUF,
                bytes,
                "enlarge the buffer of",
            )
        })
    }

    /// Lets the kernel drop messages silently when the receive buffer is full, instead of failing the next read: for callers
    /// that learn of losses otherwise (queue counters, sequence numbers).
    ///
    /// # Errors
    /// The option cannot be set.
    pub fn no_enobufs(&self) -> Result<(), NetlinkError> {
        self.option(libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, 1, "configure")
    }

    /// Joins a multicast group of the family, such as `NFNLGRP_CONNTRACK_DESTROY`.
    ///
    /// # Errors
    /// There is no such group, or the process may not.
    pub fn join(&self, group: c_int) -> Result<(), NetlinkError> {
        self.option(
            libc::SOL_NETLINK,
            libc::NETLINK_ADD_MEMBERSHIP,
            group,
            "join a group of",
        )
    }

    /// Sends the messages that a [`super::Builder`] wrote and waits until every one that asks for an acknowledgement
    /// (`NLM_F_ACK`) has it. Where none asks, only errors that are there already are seen.
    ///
    /// # Errors
    /// The first refusal, with the kernel's words; or sending or waiting failed.
    pub fn request(&mut self, messages: &[u8]) -> Result<(), NetlinkError> {
        self.exchange(messages, |_| {})
    }

    /// As [`Socket::request`], and hands `each` the messages that the kernel sends in answer (`NLM_F_ECHO`, get requests).
    ///
    /// # Errors
    /// As [`Socket::request`].
    pub fn exchange(
        &mut self,
        messages: &[u8],
        mut each: impl FnMut(Message<'_>),
    ) -> Result<(), NetlinkError> {
        let sent = self.send(messages)?;
        let mut missing = sent.acknowledged;
        let mut refusal = None;
        loop {
            // Once refused, the kernel may have left out the other acknowledgements: take what lies ready and no more.
            let wait = if missing > 0 && refusal.is_none() {
                PATIENCE
            } else {
                Duration::ZERO
            };
            let Some(length) = self.receive(wait)? else {
                return match refusal {
                    Some(refusal) => Err(refusal),
                    None if missing == 0 => Ok(()),
                    None => Err(NetlinkError::NoAnswer { after: PATIENCE }),
                };
            };
            for message in Messages::new(&self.buffer[..length]) {
                let index = message.sequence.wrapping_sub(sent.first) as usize;
                if index >= sent.count {
                    continue; // an answer to an earlier request that was given up
                }
                match message.error() {
                    None => each(message),
                    Some(0) => missing = missing.saturating_sub(1),
                    Some(code) => {
                        refusal.get_or_insert_with(|| refused(index, code, &message));
                    }
                }
            }
            if missing == 0 && sent.acknowledged > 0 && refusal.is_none() {
                return Ok(());
            }
        }
    }

    /// Sends one message with `NLM_F_DUMP` and hands every answer to `each`, until the kernel says that it is done.
    ///
    /// # Errors
    /// A refusal; [`NetlinkError::Changed`] after the last answer when the table changed meanwhile; [`NetlinkError::Overrun`].
    pub fn dump(
        &mut self,
        message: &[u8],
        mut each: impl FnMut(Message<'_>),
    ) -> Result<(), NetlinkError> {
        let sent = self.send(message)?;
        let mut changed = false;
        loop {
            let length = self
                .receive(PATIENCE)?
                .ok_or(NetlinkError::NoAnswer { after: PATIENCE })?;
            for message in Messages::new(&self.buffer[..length]) {
                if message.sequence != sent.first {
                    continue;
                }
                changed |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match message.error() {
                    None => each(message),
                    Some(0) if changed => return Err(NetlinkError::Changed),
                    Some(0) => return Ok(()),
                    Some(code) => return Err(refused(0, code, &message)),
                }
            }
        }
    }

    /// Sends messages without waiting for anything; sequence numbers are filled in.
    ///
    /// # Errors
    /// The kernel does not take them.
    pub fn post(&mut self, messages: &[u8]) -> Result<(), NetlinkError> {
        self.send(messages).map(drop)
    }

    /// Sends messages as they are, without a copy and without sequence numbers: for verdicts, which nobody acknowledges.
    ///
    /// # Errors
    /// The kernel does not take them.
    pub fn send_raw(&self, messages: &[u8]) -> Result<(), NetlinkError> {
        loop {
            // SAFETY: pointer and length describe `messages`. Unconnected netlink sockets send to the kernel (port 0).
            let sent = unsafe {
                libc::send(
                    self.fd.as_raw_fd(),
                    messages.as_ptr().cast::<c_void>(),
                    messages.len(),
                    0,
                )
            };
            match check(sent, "send on") {
                Ok(_) => return Ok(()),
                Err(why) if why.errno() == Some(libc::EINTR) => {}
                Err(why) => return Err(why),
            }
        }
    }

    /// Takes the datagrams that lie ready, up to the batch's room, with one system call; waits up to `timeout` for the first.
    /// Returns how many came, 0 when the time passed.
    ///
    /// # Errors
    /// [`NetlinkError::Overrun`] when the kernel had to drop some (never after [`Socket::no_enobufs`]).
    pub fn receive_batch(
        &self,
        batch: &mut ReceiveBatch,
        timeout: Duration,
    ) -> Result<usize, NetlinkError> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.take_batch(batch)? {
                0 if !self.readable(deadline.saturating_duration_since(Instant::now()))? => {
                    return Ok(0);
                }
                0 => {}
                count => return Ok(count),
            }
        }
    }

    /// As [`Socket::receive_batch`], without waiting.
    ///
    /// # Errors
    /// As [`Socket::receive_batch`].
    pub fn take_batch(&self, batch: &mut ReceiveBatch) -> Result<usize, NetlinkError> {
        batch.empty();
        loop {
            match batch.fill(self.fd.as_raw_fd()) {
                Ok(count) => return Ok(count),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(receive_error(why)),
            }
        }
    }

    fn send(&mut self, messages: &[u8]) -> Result<Sent, NetlinkError> {
        let mut messages = messages.to_vec();
        let first = self.sequence.wrapping_add(1);
        let count = stamp(&mut messages, first);
        self.sequence = self.sequence.wrapping_add(count as u32);
        let asks = |message: &Message<'_>| message.flags & libc::NLM_F_ACK as u16 != 0;
        let acknowledged = Messages::new(&messages).filter(asks).count();
        self.send_raw(&messages)?;
        Ok(Sent {
            first,
            count,
            acknowledged,
        })
    }

    /// One datagram into the socket's own buffer: its length, or `None` when `wait` passed.
    fn receive(&mut self, wait: Duration) -> Result<Option<usize>, NetlinkError> {
        let deadline = Instant::now() + wait;
        loop {
            // SAFETY: pointer and length describe `self.buffer`, which is borrowed mutably for the call.
            let length = unsafe {
                let buffer = self.buffer.as_mut_ptr().cast::<c_void>();
                libc::recv(
                    self.fd.as_raw_fd(),
                    buffer,
                    self.buffer.len(),
                    libc::MSG_DONTWAIT | libc::MSG_TRUNC,
                )
            };
            let why = match usize::try_from(length) {
                Ok(length) if length > self.buffer.len() => {
                    return Err(NetlinkError::Malformed {
                        what: "a datagram of more than 128 KiB",
                    });
                }
                Ok(length) => return Ok(Some(length)),
                Err(_) => io::Error::last_os_error(),
            };
            match why.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => {
                    if !self.readable(deadline.saturating_duration_since(Instant::now()))? {
                        return Ok(None);
                    }
                }
                _ => return Err(receive_error(why)),
            }
        }
    }

    /// Waits until something can be read. A signal ends the wait early with `true`: the caller looks and waits again.
    fn readable(&self, timeout: Duration) -> Result<bool, NetlinkError> {
        wait_readable(self.fd.as_fd(), timeout).map_err(|source| NetlinkError::Socket {
            action: "wait for",
            source,
        })
    }

    fn option(
        &self,
        level: c_int,
        name: c_int,
        value: c_int,
        action: &'static str,
    ) -> Result<(), NetlinkError> {
        let (pointer, length) = (&raw const value, size_of::<c_int>() as libc::socklen_t);
        // SAFETY: pointer and length describe `value`, which lives through the call.
        let set =
            unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, name, pointer.cast(), length) };
        check(set, action).map(drop)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What went out: the sequence numbers `first..first + count`, and how many of them ask for an acknowledgement.
struct Sent {
    first: u32,
    count: usize,
    acknowledged: usize,
}

/// Waits until `fd` can be read, at most `timeout`, in steps of whole milliseconds rounded up. A signal counts as readable.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let millis = c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX);
    // SAFETY: one pollfd is passed, which lives through the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, millis) };
    match ready {
        0 => Ok(false),
        1.. => Ok(true),
        _ => {
            let why = io::Error::last_os_error();
            if why.kind() == io::ErrorKind::Interrupted {
                Ok(true)
            } else {
                Err(why)
            }
        }
    }
}

fn refused(index: usize, code: i32, message: &Message<'_>) -> NetlinkError {
    const TEXT: u16 = 1; // NLMSGERR_ATTR_MSG
    const OFFSET: u16 = 2; // NLMSGERR_ATTR_OFFS
    let explanation = message.explanation();
    NetlinkError::Refused {
        index,
        source: io::Error::from_raw_os_error(code),
        detail: explanation
            .get(TEXT)
            .map_or_else(String::new, |text| text.string().to_owned()),
        offset: explanation.get(OFFSET).and_then(|offset| offset.u32()),
    }
}

fn receive_error(source: io::Error) -> NetlinkError {
    if source.raw_os_error() == Some(libc::ENOBUFS) {
        NetlinkError::Overrun
    } else {
        NetlinkError::Socket {
            action: "read from",
            source,
        }
    }
}

fn check<T: Default + PartialOrd>(result: T, action: &'static str) -> Result<T, NetlinkError> {
    if result < T::default() {
        return Err(NetlinkError::Socket {
            action,
            source: io::Error::last_os_error(),
        });
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::{Builder, Netfilter};
    use super::*;

    /// `NFT_MSG_GETTABLE` on a table that is not there: read-only, so that it may run anywhere.
    fn get_table(name: &str) -> Vec<u8> {
        let ack = libc::NLM_F_ACK as u16;
        let mut builder = Builder::new();
        builder
            .netfilter(Netfilter {
                subsystem: 10,
                message: 1,
                flags: ack,
                family: 1,
                resource: 0,
            })
            .string(1, name);
        builder.finish().unwrap()
    }

    #[test]
    fn a_refusal_carries_the_kernels_code_and_the_socket_stays_usable() {
        if let Err(why) = lab::available() {
            eprintln!("SKIPPED: {why}");
            return;
        }
        let netns = lab::Netns::new("netlink").unwrap();
        netns.run("nft", &["add", "table", "inet", "here"]).unwrap();
        let mut socket = netns
            .enter(|| Socket::open(libc::NETLINK_NETFILTER))
            .unwrap()
            .unwrap();
        socket.receive_buffer(1 << 20).unwrap();
        for _ in 0..3 {
            let refusal = socket.request(&get_table("absent")).unwrap_err();
            assert_eq!(refusal.errno(), Some(libc::ENOENT), "{refusal}");
            let mut names = Vec::new();
            socket
                .exchange(&get_table("here"), |message| {
                    let (_, attributes) = message.netfilter().unwrap();
                    names.push(attributes.get(1).unwrap().string().to_owned());
                })
                .unwrap();
            assert_eq!(names, ["here"]);
        }
    }

    #[test]
    fn a_dump_ends_and_a_quiet_socket_times_out() {
        let mut socket = Socket::open(libc::NETLINK_ROUTE).unwrap();
        let mut request = Builder::new();
        request
            .message(libc::RTM_GETLINK, libc::NLM_F_DUMP as u16)
            .raw(&[0; 16]);
        let mut names = Vec::new();
        socket
            .dump(&request.finish().unwrap(), |message| {
                names.extend(
                    message
                        .attributes(16)
                        .get(libc::IFLA_IFNAME)
                        .map(|name| name.string().to_owned()),
                );
            })
            .unwrap();
        assert!(names.contains(&"lo".to_owned()), "{names:?}");

        let mut batch = ReceiveBatch::new(4, 4096);
        let begun = Instant::now();
        assert_eq!(
            socket
                .receive_batch(&mut batch, Duration::from_millis(30))
                .unwrap(),
            0
        );
        assert!(begun.elapsed() >= Duration::from_millis(30));
        assert_eq!(batch.datagrams().count(), 0);
    }
}
