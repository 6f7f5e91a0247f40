//! Small UDP packets, as fast as threads can send them or at a pace, from one namespace to another.

use std::io::IoSlice;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, ensure};
use lab::Netns;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};

/// Packets of one system call.
const BATCH: usize = 64;
/// Bytes of UDP payload.
const PAYLOAD: [u8; 32] = [b'x'; 32];

/// Threads that send until this is dropped.
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// Begins to send from `from`, each thread as one flow.
    ///
    /// # Errors
    /// The namespace cannot be entered or the target not be routed to.
    pub(super) fn start(
        from: &Netns,
        target: SocketAddrV4,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut flood = Self {
            stop,
            sent,
            threads: Vec::new(),
        };
        for _ in 0..threads {
            let socket = from
                .enter(|| {
                    let socket = UdpSocket::bind("0.0.0.0:0")?;
                    socket.connect(target)?;
                    std::io::Result::Ok(socket)
                })?
                .context("cannot open the sender's socket")?;
            let (stop, sent) = (Arc::clone(&flood.stop), Arc::clone(&flood.sent));
            flood.threads.push(std::thread::spawn(move || {
                let slices = [[IoSlice::new(&PAYLOAD)]; BATCH];
                let addresses = [None::<SockaddrIn>; BATCH];
                let mut headers = MultiHeaders::preallocate(BATCH, None);
                while !stop.load(Ordering::Relaxed) {
                    let flags = MsgFlags::empty();
                    let done = sendmmsg(
                        socket.as_raw_fd(),
                        &mut headers,
                        &slices,
                        addresses,
                        [],
                        flags,
                    );
                    // A full device queue or an ICMP error takes packets of a flood; the next call goes on.
                    let count = done.map_or(0, Iterator::count);
                    sent.fetch_add(count as u64, Ordering::Relaxed);
                }
            }));
        }
        Ok(flood)
    }

    /// Packets sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a thread of the flood panicked");
            }
        }
    }
}

/// A socket that packets arrive at; nobody reads it, so that it costs the kernel no more than a full buffer does.
pub(super) fn sink(at: &Netns, address: SocketAddrV4) -> anyhow::Result<UdpSocket> {
    let socket = at
        .enter(|| UdpSocket::bind(address))?
        .with_context(|| format!("cannot listen at {address}"))?;
    ensure!(
        socket.local_addr()?.port() == address.port(),
        "another port than asked for"
    );
    Ok(socket)
}
