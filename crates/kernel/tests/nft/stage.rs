//! Three namespaces with a backend in the server's, and what can be tried from the client's.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lab::Topology;
use policy::protocol::{ICMP, ICMPV6};
use policy::{Action, AddressSet, Plan, Rule};
use portcullis_kernel::datapath::{Applied, Apply, Datapath, DatapathError, Queues};
use portcullis_kernel::nft::{Features, Nft};
use portcullis_kernel::tag::Cause;

use crate::plans::rule;

/// Three namespaces and a backend in the server's; `None`, said loudly, where there can be none.
pub(crate) struct Lab {
    pub(crate) net: Topology,
    pub(crate) nft: Nft,
}

/// The server, seen from the client.
pub(crate) const SERVER: [&str; 2] = ["10.77.1.1", "fd77:1::1"];

impl Lab {
    pub(crate) fn new() -> Option<Self> {
        if let Err(why) = lab::available() {
            eprintln!("SKIPPED: {why}");
            return None;
        }
        Some(Self {
            net: Topology::new().unwrap(),
            nft: Nft::new(Features { queue: false }),
        })
    }

    pub(crate) fn with<R: Send>(&mut self, work: impl FnOnce(&mut Nft) -> R + Send) -> R {
        let nft = &mut self.nft;
        self.net.server.enter(|| work(nft)).unwrap()
    }

    pub(crate) fn apply(&mut self, plan: &Plan) -> Applied {
        self.try_apply(plan, None).unwrap()
    }

    pub(crate) fn try_apply(
        &mut self,
        plan: &Plan,
        queues: Option<Queues>,
    ) -> Result<Applied, DatapathError> {
        let protected = AddressSet::default();
        self.with(|nft| {
            nft.apply(&Apply {
                plan,
                protected: &protected,
                queues,
                goes_on: false,
            })
        })
    }

    pub(crate) fn ban(&mut self, prefix: &str, secs: Option<u64>) {
        let prefix: IpNet = prefix.parse().unwrap();
        self.with(|nft| nft.ban(prefix, secs.map(Duration::from_secs)))
            .unwrap();
    }

    /// Bans and the seconds they have left, of which less than a hundred may have passed since they were made.
    pub(crate) fn bans(&mut self) -> Vec<(String, Option<u64>)> {
        let bans = self.with(Nft::bans).unwrap();
        let left = |left: Duration| left.as_secs().next_multiple_of(100);
        bans.iter()
            .map(|ban| (ban.prefix.to_string(), ban.remaining.map(left)))
            .collect()
    }

    pub(crate) fn count(&mut self, cause: Cause) -> u64 {
        self.with(Nft::counters).unwrap().of(cause).packets
    }

    pub(crate) fn ruleset(&self) -> String {
        let mut text = self.net.server.run("nft", &["list", "ruleset"]).unwrap();
        text.push_str(&self.net.server.run("iptables-nft-save", &[]).unwrap());
        text.push_str(&self.net.server.run("ip6tables-nft-save", &[]).unwrap());
        // The save formats carry the time of day.
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// The priority of a chain of ours.
    pub(crate) fn priority(&self, chain: &str) -> i32 {
        let arguments = ["-y", "list", "chain", "inet", "portcullis", chain];
        let listed = self.net.server.run("nft", &arguments).unwrap();
        let (_, rest) = listed.split_once(" priority ").unwrap();
        rest.split_once(';').unwrap().0.trim().parse().unwrap()
    }

    /// [`Lab::ruleset`] without what moves by itself: counters, times, the order of elements of a hash, priorities, which
    /// rise with each apply.
    pub(crate) fn stable(&self) -> Vec<String> {
        let text = self.ruleset();
        let lines = text
            .lines()
            .filter(|line| !line.contains("expires") && !line.contains(" bytes "));
        lines
            .map(|line| {
                let hook = line.trim_start().starts_with("type filter hook");
                let line = line
                    .split(" priority ")
                    .next()
                    .filter(|_| hook)
                    .unwrap_or(line);
                let mut words: Vec<&str> = line.split([' ', ',', '\t']).collect();
                words.sort_unstable();
                words.join(" ").trim().to_owned()
            })
            .collect()
    }

    /// Whether an echo request from the client is answered at once.
    pub(crate) fn pings(&self, target: &str) -> bool {
        ping(&self.net.client, None, target, 1) == 1
    }

    /// The same, with patience: a neighbour that could not be found is asked for again after a second.
    pub(crate) fn reaches(&self, target: &str) -> bool {
        (0..8).any(|_| self.pings(target))
    }

    /// Listens on a port of the server, on both families, for as long as the value lives.
    pub(crate) fn listen(&self, port: u16) -> Vec<TcpListener> {
        self.net
            .server
            .enter(|| {
                SERVER
                    .iter()
                    .map(|address| TcpListener::bind((*address, port)).unwrap())
                    .collect()
            })
            .unwrap()
    }

    /// What becomes of a connection from the client.
    pub(crate) fn connect(&self, address: &str, port: u16) -> Outcome {
        let target = format!(
            "{}:{port}",
            if address.contains(':') {
                format!("[{address}]")
            } else {
                address.to_owned()
            }
        );
        let begun = Instant::now();
        let result = self
            .net
            .client
            .enter(|| {
                TcpStream::connect_timeout(&target.parse().unwrap(), Duration::from_millis(400))
            })
            .unwrap();
        match result {
            Ok(stream) => Outcome::Open(stream),
            Err(why) if why.kind() == std::io::ErrorKind::ConnectionRefused => {
                assert!(begun.elapsed() < Duration::from_millis(300));
                Outcome::Refused
            }
            Err(_) => Outcome::Silence,
        }
    }
}

/// Sends so many echo requests of one flow, and counts the replies.
pub(crate) fn ping(from: &lab::Netns, source: Option<&str>, target: &str, count: u16) -> usize {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    from.sysctl("net.ipv4.ping_group_range", "0 2147483647")
        .unwrap();
    let (family, protocol, kind) = match target.contains(':') {
        true => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128),
        false => (AddressFamily::Inet, SockProtocol::Icmp, 8),
    };
    from.enter(|| {
        let socket = UdpSocket::from(
            socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol).unwrap(),
        );
        if let Some(source) = source {
            nix::sys::socket::bind(
                std::os::fd::AsRawFd::as_raw_fd(&socket),
                &nix::sys::socket::SockaddrStorage::from(std::net::SocketAddr::new(
                    source.parse().unwrap(),
                    0,
                )),
            )
            .unwrap();
        }
        socket.connect((target, 0)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(250)))
            .unwrap();
        for sequence in 0..count {
            let [high, low] = sequence.to_be_bytes();
            socket.send(&[kind, 0, 0, 0, 0, 0, high, low]).unwrap();
        }
        (0..count)
            .take_while(|_| socket.recv(&mut [0; 64]).is_ok())
            .count()
    })
    .unwrap()
}

pub(crate) fn assert_same(found: &[String], wanted: &[String]) {
    let differs: Vec<_> = found
        .iter()
        .zip(wanted)
        .filter(|(found, wanted)| found != wanted)
        .take(3)
        .collect();
    assert!(
        differs.is_empty() && found.len() == wanted.len(),
        "{differs:#?}"
    );
}

/// Tells threads to end, whatever happens to the one that holds it.
pub(crate) struct Stop<'a>(pub(crate) &'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// What becomes of a connection.
#[derive(Debug)]
pub(crate) enum Outcome {
    Open(TcpStream),
    Refused,
    Silence,
}

impl Outcome {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Refused => "refused",
            Self::Silence => "silence",
        }
    }
}

pub(crate) fn ping_allowed() -> Rule {
    Rule {
        protocols: [ICMP, ICMPV6].into_iter().collect(),
        ..rule("ping", Action::Allow)
    }
}
