//! Packets that the kernel holds until we say what becomes of them (NFQUEUE).
//!
//! A rule sends packets to a queue number, or spreads connections over several; [`open`] takes those queues, and one worker
//! thread serves each with [`Queue::serve`]: many packets are received by one system call, each is given to a closure that
//! returns its [`Verdict`], and all verdicts go back by one system call more. Who has no worker any more decides by the rule
//! (`--queue-bypass`, or the packet is dropped); when a queue is full the packet passes or is dropped as [`Settings::fail_open`]
//! says. Nothing here parses packets, installs rules or knows the policy.
//!
//! Needs CAP_NET_ADMIN and a kernel with CONFIG_NETFILTER_NETLINK_QUEUE.

mod message;
mod statistics;
mod verdict;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

pub use message::{QueuedPacket, parse_queue_message};
pub use statistics::{QueueStatistics, parse_statistics, statistics};
pub use verdict::Verdict;

use crate::netlink::{Builder, Lack, Messages, Netfilter, NetlinkError, ReceiveBatch, Socket};
use verdict::Verdicts;

/// How queues are opened.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of the first queue.
    pub first: u16,
    /// How many queues, with the numbers that follow.
    pub count: u16,
    /// Let packets pass when a queue is full; otherwise they are dropped.
    pub fail_open: bool,
    /// Take segments of up to 64 KiB whole, with unfilled checksums, instead of having the kernel cut them: several times the
    /// throughput of TCP.
    pub whole_segments: bool,
    /// Ask for the connection's conntrack attributes; only where [`crate::probe`] says that the kernel gives them.
    pub conntrack: bool,
    /// How many packets a queue holds.
    pub length: u32,
    /// How many bytes of each packet are handed up.
    pub copy: u32,
    /// Receive buffer of each queue's socket, in bytes.
    pub buffer: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            first: 0,
            count: 1,
            fail_open: false,
            whole_segments: true,
            conntrack: false,
            length: 8192,
            copy: LARGEST as u32,
            buffer: 32 * 1024 * 1024,
        }
    }
}

/// Why a queue cannot be opened or served.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Another program has this queue.
    #[error("queue {number} is in use by another program; choose other queue numbers or stop it")]
    Taken {
        /// The queue's number.
        number: u16,
    },
    /// The process may not.
    #[error(
        "content inspection needs CAP_NET_ADMIN; run as root or give the binary that capability"
    )]
    NotPermitted,
    /// The kernel has no NFQUEUE.
    #[error(
        "this kernel has no nfnetlink_queue, so that content rules cannot be enforced; load the module or build it in"
    )]
    NoSupport,
    /// The kernel does not give conntrack attributes with queued packets.
    #[error(
        "this kernel was built without CONFIG_NETFILTER_NETLINK_GLUE_CT; open the queues without conntrack attributes"
    )]
    NoConntrack,
    /// Anything else that netlink says.
    #[error("queue {number}: {source}")]
    Netlink {
        /// The queue's number.
        number: u16,
        /// What it says.
        source: NetlinkError,
    },
}

/// Largest payload that an attribute can carry, in bytes; less its own header.
const LARGEST: usize = 0xffff - 4;
/// Room beside the payload for all other attributes of a message; not a multiple of a page, so that the starts of the buffers
/// do not all compete for the same cache lines.
const BESIDE: usize = 1024 + 64 + 5;
/// How long a queue with much to do waits without sleeping.
const AWAKE: Duration = Duration::from_micros(30);
const PACKET: u8 = libc::NFQNL_MSG_PACKET as u8;
const CONFIG: u8 = libc::NFQNL_MSG_CONFIG as u8;
const SUBSYSTEM: u8 = libc::NFNL_SUBSYS_QUEUE as u8;

/// One open queue. Dropping it gives the number back; the kernel drops the packets that were still waiting.
#[derive(Debug)]
pub struct Queue {
    socket: Socket,
    number: u16,
    /// The last packets came soon after those before them.
    is_busy: bool,
}

/// A worker's buffers: about 4 MiB of memory for packets, made once.
#[derive(Debug)]
pub struct Batch {
    received: ReceiveBatch,
    verdicts: Verdicts,
    malformed: u64,
}

/// Opens all queues of the settings, in the network namespace of the calling thread.
///
/// # Errors
/// The first queue that cannot be opened; none stays open then.
pub fn open(settings: &Settings) -> Result<Vec<Queue>, QueueError> {
    let numbers = (0..settings.count).map_while(|offset| settings.first.checked_add(offset));
    numbers
        .map(|number| Queue::open(number, settings))
        .collect()
}

impl Queue {
    /// Opens one queue, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// It is taken, or the process or the kernel cannot.
    pub fn open(number: u16, settings: &Settings) -> Result<Queue, QueueError> {
        let failed = |source: NetlinkError| match source.lack() {
            Some(Lack::Permission) => QueueError::NotPermitted,
            Some(Lack::Support) => QueueError::NoSupport,
            None => QueueError::Netlink { number, source },
        };
        let mut socket = Socket::open(libc::NETLINK_NETFILTER).map_err(failed)?;
        socket.receive_buffer(settings.buffer).map_err(failed)?;
        socket.no_enobufs().map_err(failed)?;
        let mut permitted = false;
        for request in configuration(number, settings).map_err(failed)? {
            socket.request(&request).map_err(|why| match why.errno() {
                Some(libc::EOPNOTSUPP) if settings.conntrack => QueueError::NoConntrack,
                // The same code as for want of the capability, which the first request has shown to be there.
                Some(libc::EPERM | libc::EBUSY) if permitted => QueueError::Taken { number },
                _ => failed(why),
            })?;
            permitted = true;
        }
        Ok(Queue {
            socket,
            number,
            is_busy: false,
        })
    }

    /// The queue's number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// Waits up to `timeout` for packets, asks `decide` about each that came (at most 64, in the order of their arrival), and
    /// sends all verdicts. Returns how many there were; 0 when the time passed.
    ///
    /// A panic in `decide` leaves the packets of this batch waiting until the queue is dropped, which drops them.
    ///
    /// # Errors
    /// The socket cannot be read from or written to.
    pub fn serve(
        &mut self,
        batch: &mut Batch,
        timeout: Duration,
        mut decide: impl FnMut(&QueuedPacket<'_>) -> Verdict,
    ) -> Result<usize, QueueError> {
        let number = self.number;
        let failed = |source| QueueError::Netlink { number, source };
        self.receive(&mut batch.received, timeout).map_err(failed)?;
        batch.verdicts.clear();
        let mut count = 0;
        for datagram in batch.received.datagrams() {
            for message in Messages::new(datagram) {
                match parse_queue_message(&message) {
                    Some(packet) => {
                        batch.verdicts.push(packet.id, decide(&packet));
                        count += 1;
                    }
                    // The kernel complains of a verdict for a packet that it has flushed meanwhile: nothing to answer.
                    None => batch.malformed += u64::from(message.error().is_none()),
                }
            }
        }
        let answer = batch.verdicts.messages(self.number);
        if !answer.is_empty() {
            self.socket.send_raw(answer).map_err(failed)?;
        }
        Ok(count)
    }

    /// Waits for packets: awake for [`AWAKE`] while they follow each other closely, asleep otherwise. To wake a thread on another
    /// processor costs the one that sends more than all the rest of a packet's way through the queue.
    fn receive(&mut self, batch: &mut ReceiveBatch, timeout: Duration) -> Result<(), NetlinkError> {
        let begun = Instant::now();
        let mut count = 0;
        while self.is_busy && count == 0 && begun.elapsed() < AWAKE {
            count = self.socket.take_batch(batch)?;
            if count == 0 {
                std::thread::yield_now();
            }
        }
        if count == 0 {
            count = self.socket.receive_batch(batch, timeout)?;
        }
        // Who slept was woken late.
        self.is_busy = count > 0 && begun.elapsed() < 2 * AWAKE;
        Ok(())
    }
}

impl Drop for Queue {
    /// Closing alone would leave the queue taken, and packets waiting in it, while a child that is about to begin another
    /// program shares the socket.
    fn drop(&mut self) {
        // What cannot be said to the kernel is said by closing.
        let _ = command(self.number, libc::NFQNL_CFG_CMD_UNBIND)
            .and_then(|request| self.socket.send_raw(&request));
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Batch {
    /// Buffers for at most `packets` (1–64) at a time.
    #[must_use]
    pub fn new(packets: usize) -> Batch {
        let received = ReceiveBatch::new(packets, LARGEST + BESIDE);
        Batch {
            received,
            verdicts: Verdicts::default(),
            malformed: 0,
        }
    }

    /// How many messages were no packets and no answers, since the buffers were made; 0 on every kernel known.
    #[must_use]
    pub const fn malformed(&self) -> u64 {
        self.malformed + self.received.truncated()
    }
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::new(64)
    }
}

/// The requests that take a queue and set it up.
fn configuration(number: u16, settings: &Settings) -> Result<Vec<Vec<u8>>, NetlinkError> {
    let mut flags = 0;
    for (wanted, flag) in [
        (settings.fail_open, libc::NFQA_CFG_F_FAIL_OPEN),
        (settings.whole_segments, libc::NFQA_CFG_F_GSO),
        (settings.conntrack, libc::NFQA_CFG_F_CONNTRACK),
    ] {
        flags |= if wanted { flag as u32 } else { 0 };
    }
    let mask =
        (libc::NFQA_CFG_F_FAIL_OPEN | libc::NFQA_CFG_F_GSO | libc::NFQA_CFG_F_CONNTRACK) as u32;
    Ok(vec![
        // Long without effect, but answered without regard to who has the queue.
        command(number, libc::NFQNL_CFG_CMD_PF_BIND)?,
        command(number, libc::NFQNL_CFG_CMD_BIND)?,
        request(number, |builder| {
            let [a, b, c, d] = settings.copy.to_be_bytes();
            builder
                .bytes(
                    libc::NFQA_CFG_PARAMS as u16,
                    &[a, b, c, d, libc::NFQNL_COPY_PACKET as u8],
                )
                .be32(libc::NFQA_CFG_QUEUE_MAXLEN as u16, settings.length)
                .be32(libc::NFQA_CFG_FLAGS as u16, flags)
                .be32(libc::NFQA_CFG_MASK as u16, mask);
        })?,
    ])
}

fn command(number: u16, command: i32) -> Result<Vec<u8>, NetlinkError> {
    request(number, |builder| {
        // nfqnl_msg_config_cmd: command, padding, protocol family (unused).
        builder.bytes(libc::NFQA_CFG_CMD as u16, &[command as u8, 0, 0, 0]);
    })
}

fn request(number: u16, write: impl FnOnce(&mut Builder)) -> Result<Vec<u8>, NetlinkError> {
    let mut builder = Builder::new();
    builder.netfilter(Netfilter {
        subsystem: SUBSYSTEM,
        message: CONFIG,
        flags: libc::NLM_F_ACK as u16,
        family: 0,
        resource: number,
    });
    write(&mut builder);
    builder.finish()
}
