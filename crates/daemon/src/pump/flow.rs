//! Enforcing: the kernel's table of connections, listed for whoever asks, and completed handshakes and ends of connections on
//! their way to the detectors and the record.

use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use kernel::conntrack::{Conntrack, ConntrackError, Entry, Event, Events, Key, TcpState};
use kernel::netlink::NetlinkError;
use policy::protocol;
use wire::FiveTuple;

use super::{Outlet, WAIT};
use crate::guard::Input;

pub(super) const NAME: &str = "conntrack";

/// A connection as the kernel tracks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// As its first packet had it.
    pub tuple: FiveTuple,
    /// Packets and bytes from the side that began it; 0 where the kernel does not count (`net.netfilter.nf_conntrack_acct`).
    pub sent: (u64, u64),
    /// Packets and bytes from the other side.
    pub received: (u64, u64),
    /// TCP state by the kernel's name.
    pub tcp_state: Option<&'static str>,
    /// Whether packets went both ways.
    pub answered: bool,
    /// For TCP: whether the handshake was completed.
    pub completed: bool,
    /// For ICMP: type and code of the first packet.
    pub icmp: Option<(u8, u8)>,
}

/// A connection that came about or to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// TCP: a handshake from its SYN on was completed. What the kernel picked up under way is none.
    Completed(Tracked),
    /// TCP: both sides have closed it or one has reset it. Comes once or more before the kernel forgets it.
    Closed(Tracked),
    /// The kernel has forgotten it.
    Ended(Tracked),
}

impl Change {
    pub(crate) const fn tracked(&self) -> &Tracked {
        match self {
            Self::Completed(tracked) | Self::Closed(tracked) | Self::Ended(tracked) => tracked,
        }
    }

    /// What an event says, as far as anybody wants to know it.
    fn of(event: Event, entry: &Entry) -> Option<Self> {
        let is_closed = matches!(
            entry.tcp,
            Some(TcpState::LastAck | TcpState::TimeWait | TcpState::Close)
        );
        let is_completed = entry.tcp == Some(TcpState::Established) && !entry.tcp_is_liberal;
        match event {
            Event::Destroy => Some(Self::Ended(Tracked::of(entry))),
            Event::Update if is_closed && entry.assured() => Some(Self::Closed(Tracked::of(entry))),
            Event::Update if is_completed && entry.assured() => {
                Some(Self::Completed(Tracked::of(entry)))
            }
            Event::Update | Event::New => None,
        }
    }
}

impl Tracked {
    fn of(entry: &Entry) -> Self {
        let (original, reply) = (&entry.original, &entry.reply);
        let ports = original.ports().zip(reply.ports());
        let count = |counters: Option<kernel::conntrack::Counters>| {
            counters.map_or((0, 0), |counters| (counters.packets, counters.bytes))
        };
        Self {
            tuple: FiveTuple {
                source: original.source,
                // Where a rule of somebody else's sends it on (DNAT), as our rules see it: behind that.
                destination: reply.source,
                protocol: original.protocol,
                source_port: ports.map(|((source, _), _)| source),
                destination_port: ports.map(|(_, (destination, _))| destination),
            },
            sent: count(entry.sent),
            received: count(entry.received),
            tcp_state: entry.tcp.map(state_name),
            answered: entry.answered(),
            completed: entry.assured() && original.protocol == protocol::TCP,
            icmp: match original.key {
                Key::Icmp(kind, code, _) => Some((kind, code)),
                Key::Ports(..) | Key::None => None,
            },
        }
    }
}

/// As /proc/net/nf_conntrack writes it.
const fn state_name(state: TcpState) -> &'static str {
    match state {
        TcpState::None => "NONE",
        TcpState::SynSent => "SYN_SENT",
        TcpState::SynReceived => "SYN_RECV",
        TcpState::Established => "ESTABLISHED",
        TcpState::FinWait => "FIN_WAIT",
        TcpState::CloseWait => "CLOSE_WAIT",
        TcpState::LastAck => "LAST_ACK",
        TcpState::TimeWait => "TIME_WAIT",
        TcpState::Close => "CLOSE",
        TcpState::SynSent2 => "SYN_SENT2",
    }
}

/// Every connection that the kernel tracks, in the network namespace of the calling thread.
///
/// # Errors
///
/// When the kernel does not tell.
pub fn tracked() -> Result<Vec<Tracked>, ConntrackError> {
    let mut all = Vec::new();
    Conntrack::open()?.list(|entry| all.push(Tracked::of(entry)))?;
    Ok(all)
}

/// Listens for ends, in the network namespace of the calling thread, and begins the thread.
pub(super) fn begin(outlet: Outlet) -> Result<JoinHandle<()>, String> {
    let events =
        Events::open(&[Event::Update, Event::Destroy]).map_err(|error| error.to_string())?;
    std::thread::Builder::new()
        .name("conntrack".to_owned())
        .spawn(move || run(events, &outlet))
        .map_err(|error| error.to_string())
}

fn run(mut events: Events, outlet: &Outlet) {
    while !outlet.stopped() {
        let mut changes = Vec::new();
        let received = events.receive(WAIT, |event, entry| {
            changes.extend(Change::of(event, entry));
        });
        if !changes.is_empty() && outlet.handle.send(Input::Changes(changes)).is_err() {
            return;
        }
        match received {
            Ok(_) => {}
            // How many is not known; that some were is.
            Err(ConntrackError::Netlink(NetlinkError::Overrun)) => {
                outlet.counts.lost.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                return outlet.fail(format!("ends of flows are not seen any more: {error}"));
            }
        }
    }
}
