//! The kernel's table of connections (ctnetlink): listed, listened to, and cut.
//!
//! Entries are the kernel's view of flows, with its counters where `net.netfilter.nf_conntrack_acct` is on. [`Conntrack::cut`]
//! deletes the entries of an address, so that a ban also ends what is established. Nothing here decides anything.
//!
//! Needs CAP_NET_ADMIN and a kernel with CONFIG_NF_CT_NETLINK.

mod attribute;
mod entry;

use std::time::Duration;

use ipnet::IpNet;

pub use entry::{Counters, Entry, Key, TcpState, Tuple, parse_entry};

use crate::netlink::{Builder, Message, Messages, Netfilter, NetlinkError, ReceiveBatch, Socket};

/// Why the table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    /// The process may not.
    #[error(
        "connection tracking needs CAP_NET_ADMIN; run as root or give the binary that capability"
    )]
    NotPermitted,
    /// The kernel does not tell of its connections.
    #[error(
        "this kernel has no nf_conntrack_netlink, so that connections are neither listed nor cut; load the module or build it in"
    )]
    NoSupport,
    /// Anything else that netlink says.
    #[error("connection tracking: {0}")]
    Netlink(NetlinkError),
}

impl From<NetlinkError> for ConntrackError {
    fn from(source: NetlinkError) -> ConntrackError {
        match (source.errno(), &source) {
            (Some(libc::EPERM | libc::EACCES), _) => Self::NotPermitted,
            (Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP), _) => Self::NoSupport,
            // nfnetlink has no handler for the subsystem.
            (Some(libc::EINVAL), NetlinkError::Refused { .. }) => Self::NoSupport,
            _ => Self::Netlink(source),
        }
    }
}

const SUBSYSTEM: u8 = libc::NFNL_SUBSYS_CTNETLINK as u8;
/// `IPCTNL_MSG_CT_*`.
const NEW: u8 = 0;
const GET: u8 = 1;
const DELETE: u8 = 2;

/// A way to the table of one network namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens the way, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// There is no netfilter netlink.
    pub fn open() -> Result<Conntrack, ConntrackError> {
        let socket = Socket::open(libc::NETLINK_NETFILTER)?;
        socket.receive_buffer(4 * 1024 * 1024)?;
        Ok(Conntrack { socket })
    }

    /// Hands every entry to `each`, both families.
    ///
    /// # Errors
    /// The kernel refuses or does not answer.
    pub fn list(&mut self, mut each: impl FnMut(&Entry)) -> Result<(), ConntrackError> {
        let mut request = Builder::new();
        request.netfilter(head(GET, libc::NLM_F_DUMP as u16));
        let listed = self.socket.dump(&request.finish()?, |message| {
            if let Some(entry) = parse_entry(&message) {
                each(&entry);
            }
        });
        Ok(listed?)
    }

    /// Deletes every entry with an end in `prefix`, and returns how many there were. The next packet of such a flow is then
    /// one of a new or an invalid connection, which rules see again.
    ///
    /// # Errors
    /// The kernel refuses or does not answer.
    pub fn cut(&mut self, prefix: IpNet) -> Result<usize, ConntrackError> {
        // One request holds this many deletions: some 10 KiB, with acknowledgements that fit the receive buffer.
        const AT_ONCE: usize = 128;
        let mut tuples = Vec::new();
        self.list(|entry| {
            let ends = [
                entry.original.source,
                entry.original.destination,
                entry.reply.source,
                entry.reply.destination,
            ];
            if ends.iter().any(|address| prefix.contains(address)) {
                tuples.push((entry.original, entry.zone));
            }
        })?;
        for tuples in tuples.chunks(AT_ONCE) {
            let mut request = Builder::new();
            for (tuple, zone) in tuples {
                tuple.write(request.netfilter(Netfilter {
                    family: tuple.family(),
                    ..head(DELETE, libc::NLM_F_ACK as u16)
                }));
                if *zone != 0 {
                    request.be16(attribute::ZONE, *zone);
                }
            }
            match self.socket.request(&request.finish()?) {
                // Each deletion stands alone; some entries have expired meanwhile.
                Err(why) if why.errno() == Some(libc::ENOENT) => {}
                done => done?,
            }
        }
        Ok(tuples.len())
    }
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet that was let through began it.
    New,
    /// It changed its state, and is assured. What changes before is not told: a flood of SYNs makes an event of each answer.
    Update,
    /// It expired or was deleted; its counters are final.
    Destroy,
}

/// Events of the table of one network namespace.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
    batch: ReceiveBatch,
}

impl Events {
    /// Listens to the given kinds, in the network namespace of the calling thread. The kernel only tells of entries that begin
    /// after somebody listens.
    ///
    /// # Errors
    /// The process may not, or the kernel cannot.
    pub fn open(kinds: &[Event]) -> Result<Events, ConntrackError> {
        let socket = Socket::open(libc::NETLINK_NETFILTER)?;
        socket.receive_buffer(8 * 1024 * 1024)?;
        for kind in kinds {
            socket.join(match kind {
                Event::New => libc::NFNLGRP_CONNTRACK_NEW,
                Event::Update => libc::NFNLGRP_CONNTRACK_UPDATE,
                Event::Destroy => libc::NFNLGRP_CONNTRACK_DESTROY,
            })?;
        }
        Ok(Events {
            socket,
            batch: ReceiveBatch::new(64, 8 * 1024),
        })
    }

    /// Waits up to `timeout` for events and hands each that came to `each`. Returns how many there were; 0 also when the
    /// time passed.
    ///
    /// # Errors
    /// [`NetlinkError::Overrun`] when events were lost: list the table to be right again.
    pub fn receive(
        &mut self,
        timeout: Duration,
        mut each: impl FnMut(Event, &Entry),
    ) -> Result<usize, ConntrackError> {
        self.socket.receive_batch(&mut self.batch, timeout)?;
        let mut count = 0;
        for message in self.batch.datagrams().flat_map(Messages::new) {
            let Some(event) = event(&message) else {
                continue;
            };
            if event == Event::Update && !entry::tells_of_assured(&message) {
                continue;
            }
            if let Some(entry) = parse_entry(&message) {
                each(event, &entry);
                count += 1;
            }
        }
        Ok(count)
    }
}

/// What a message of a listener's group tells.
fn event(message: &Message<'_>) -> Option<Event> {
    let [kind, subsystem] = message.kind.to_le_bytes();
    match (subsystem, kind) {
        (SUBSYSTEM, NEW) if message.flags & libc::NLM_F_CREATE as u16 != 0 => Some(Event::New),
        (SUBSYSTEM, NEW) => Some(Event::Update),
        (SUBSYSTEM, DELETE) => Some(Event::Destroy),
        _ => None,
    }
}

/// A message to the table, about both families.
const fn head(message: u8, flags: u16) -> Netfilter {
    Netfilter {
        subsystem: SUBSYSTEM,
        message,
        flags,
        family: 0,
        resource: 0,
    }
}
