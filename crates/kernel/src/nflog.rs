//! Copies of packets that a rule logs (NFLOG): nothing waits for them, and what is not read in time is lost and counted.
//!
//! A rule's `log group N prefix "…"` sends each matching packet's beginning to a group; [`Log`] takes the group and reads many
//! packets a system call. What the prefix means is the rule's and its reader's business.
//!
//! Needs CAP_NET_ADMIN and a kernel with CONFIG_NETFILTER_NETLINK_LOG.

mod message;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

pub use message::{LogPacket, parse_log_message};

use crate::netlink::{Builder, Lack, Messages, Netfilter, NetlinkError, ReceiveBatch, Socket};
use crate::probe;
use crate::source::Losses;

/// How a group is opened.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The group's number.
    pub group: u16,
    /// How many bytes of each packet are handed up; a rule's `snaplen` may ask for fewer.
    pub copy: u32,
    /// How many packets the kernel gathers before it hands them over.
    pub gather: u32,
    /// How long it gathers at most; in steps of 10 ms, at least one.
    pub patience: Duration,
    /// Receive buffer of the socket in bytes.
    pub buffer: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            group: 117,
            copy: 2048,
            gather: 64,
            patience: Duration::from_millis(20),
            buffer: 8 * 1024 * 1024,
        }
    }
}

/// Why a group cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another program has this group.
    #[error("log group {group} is in use by another program; choose another group or stop it")]
    Taken {
        /// The group's number.
        group: u16,
    },
    /// The process may not.
    #[error(
        "reading the kernel's packet log needs CAP_NET_ADMIN; run as root or give the binary that capability"
    )]
    NotPermitted,
    /// The kernel has no NFLOG.
    #[error(
        "this kernel has no nfnetlink_log, so that flows and drops are not seen; load the module or build it in"
    )]
    NoSupport,
    /// Anything else that netlink says.
    #[error("log group {group}: {source}")]
    Netlink {
        /// The group's number.
        group: u16,
        /// What it says.
        source: NetlinkError,
    },
}

const SUBSYSTEM: u8 = libc::NFNL_SUBSYS_ULOG as u8;
const PACKET: u8 = libc::NFULNL_MSG_PACKET as u8;
const CONFIG: u8 = libc::NFULNL_MSG_CONFIG as u8;

/// The kernel's buffer for gathering, in bytes; a packet that needs more gets a datagram of its own.
const GATHERED: u32 = 32 * 1024;
/// The longest datagram: the kernel fills its buffer to the end, and the one for a packet of 64 KiB is rounded up to 128 KiB.
/// Not a multiple of a page, so that the starts of our buffers do not all compete for the same cache lines.
const LONGEST: usize = 128 * 1024 + 320;

/// An open group. Dropping it gives the number back.
#[derive(Debug)]
pub struct Log {
    socket: Socket,
    group: u16,
    batch: ReceiveBatch,
    /// The number of the last packet.
    last: Option<u32>,
    losses: Losses,
}

impl Log {
    /// Opens a group, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// It is taken, or the process or the kernel cannot.
    pub fn open(settings: &Settings) -> Result<Log, LogError> {
        let group = settings.group;
        let failed = |source: NetlinkError| match (source.errno(), source.lack()) {
            // One code for both reasons.
            (Some(libc::EPERM), _) if probe::has_capability(probe::Capability::NetAdmin) => {
                LogError::Taken { group }
            }
            (Some(libc::EBUSY), _) => LogError::Taken { group },
            (_, Some(Lack::Permission)) => LogError::NotPermitted,
            (_, Some(Lack::Support)) => LogError::NoSupport,
            (_, None) => LogError::Netlink { group, source },
        };
        let mut socket = Socket::open(libc::NETLINK_NETFILTER).map_err(failed)?;
        socket.receive_buffer(settings.buffer).map_err(failed)?;
        // Losses show as gaps in the packets' numbers.
        socket.no_enobufs().map_err(failed)?;
        for request in configuration(settings).map_err(failed)? {
            socket.request(&request).map_err(failed)?;
        }
        let batch = ReceiveBatch::new(8, LONGEST);
        Ok(Log {
            socket,
            group,
            batch,
            last: None,
            losses: Losses::default(),
        })
    }

    /// Waits up to `timeout` for packets and hands each that came to `each`. Returns how many there were; 0 when the time
    /// passed.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn receive(
        &mut self,
        timeout: Duration,
        mut each: impl FnMut(&LogPacket<'_>),
    ) -> Result<usize, LogError> {
        let failed = |source| LogError::Netlink {
            group: self.group,
            source,
        };
        self.socket
            .receive_batch(&mut self.batch, timeout)
            .map_err(failed)?;
        let mut count = 0;
        for datagram in self.batch.datagrams() {
            for message in Messages::new(datagram) {
                let Some(packet) = parse_log_message(&message) else {
                    // Every gathered datagram ends with NLMSG_DONE.
                    self.losses.malformed += u64::from(message.error().is_none());
                    continue;
                };
                if let Some(number) = packet.number {
                    let expected = self.last.map_or(number, |last| last.wrapping_add(1));
                    self.losses.dropped += u64::from(number.wrapping_sub(expected));
                    self.last = Some(number);
                }
                each(&packet);
                count += 1;
            }
        }
        Ok(count)
    }

    /// What was lost so far. A loss shows when the next packet comes.
    #[must_use]
    pub const fn losses(&self) -> Losses {
        Losses {
            truncated: self.batch.truncated(),
            ..self.losses
        }
    }
}

impl Drop for Log {
    /// Closing alone would leave the group taken while a child that is about to begin another program shares the socket.
    fn drop(&mut self) {
        // What cannot be said to the kernel is said by closing.
        let _ = command(self.group, libc::NFULNL_CFG_CMD_UNBIND)
            .finish()
            .and_then(|request| self.socket.send_raw(&request));
    }
}

impl AsFd for Log {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The requests that take a group and set it up.
fn configuration(settings: &Settings) -> Result<[Vec<u8>; 2], NetlinkError> {
    let bind = command(settings.group, libc::NFULNL_CFG_CMD_BIND);
    let mut set = request(settings.group);
    let [a, b, c, d] = settings.copy.to_be_bytes();
    let ticks = settings.patience.as_millis().div_ceil(10).clamp(1, 1_000) as u32;
    // nfulnl_msg_config_mode: copy range, mode, padding.
    set.bytes(
        libc::NFULA_CFG_MODE as u16,
        &[a, b, c, d, libc::NFULNL_COPY_PACKET as u8, 0],
    )
    .be32(libc::NFULA_CFG_NLBUFSIZ as u16, GATHERED)
    .be32(libc::NFULA_CFG_TIMEOUT as u16, ticks)
    .be32(libc::NFULA_CFG_QTHRESH as u16, settings.gather)
    .be16(libc::NFULA_CFG_FLAGS as u16, libc::NFULNL_CFG_F_SEQ as u16);
    Ok([bind.finish()?, set.finish()?])
}

fn command(group: u16, command: i32) -> Builder {
    let mut builder = request(group);
    builder.u8(libc::NFULA_CFG_CMD as u16, command as u8);
    builder
}

fn request(group: u16) -> Builder {
    let mut builder = Builder::new();
    builder.netfilter(Netfilter {
        subsystem: SUBSYSTEM,
        message: CONFIG,
        flags: libc::NLM_F_ACK as u16,
        family: 0,
        resource: group,
    });
    builder
}
