//! New TCP connections a second, to a port that the last of 1,000 rules allows.

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use lab::{Netns, Topology};
use nix::sys::socket::{setsockopt, sockopt};

use super::firewalls::{load_linear, load_ours, load_ufw};
use super::plans::{Allow, allows};
use super::report::{Figure, MANY, Target, alternate, median, ratio};

const RULES: u32 = 1_000;
const WANTED: Allow = Allow {
    from: Ipv4Addr::new(10, 77, 1, 2),
    port: 8_080,
};
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
/// Nobody allows this one.
const CLOSED: u16 = 8_081;
const CLIENTS: usize = 2;
const WINDOW: Duration = Duration::from_secs(1);

/// A thread that takes connections and ends each at once by a reset, so that neither side keeps its port in TIME_WAIT.
struct Acceptor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    fn start(at: &Netns, port: u16) -> anyhow::Result<Self> {
        let listener = at.enter(|| TcpListener::bind((SERVER, port)))??;
        let stop = Arc::<AtomicBool>::default();
        let told = Arc::clone(&stop);
        let accept = move || {
            while !told.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => reset(&stream),
                    Err(why) => return eprintln!("the server cannot accept: {why}"),
                }
            }
        };
        // A thread inside the namespace is not needed: sockets stay where they were made.
        let thread = Some(std::thread::spawn(accept));
        Ok(Self { stop, thread })
    }

    /// Ends the thread, which waits for a connection: one is made from within, past every rule.
    fn end(mut self, at: &Netns, port: u16) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let target = SocketAddr::from((SERVER, port));
        let woken = at.enter(|| TcpStream::connect_timeout(&target, Duration::from_secs(2)))?;
        if let Err(why) = woken
            && why.kind() != ErrorKind::ConnectionReset
        {
            bail!("cannot reach the server from within: {why}");
        }
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            bail!("the server panicked");
        }
        Ok(())
    }
}

/// Closing sends a reset.
fn reset(stream: &TcpStream) {
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    if let Err(why) = setsockopt(stream, sockopt::Linger, &linger) {
        eprintln!("connections end slowly: {why}");
    }
}

pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    let list = allows(RULES, WANTED);
    let labs = [
        Topology::new()?,
        Topology::new()?,
        Topology::new()?,
        Topology::new()?,
    ];
    load_ours(&labs[0].server, &list)?;
    let ufw = load_ufw(&labs[2].server, &list)?;
    load_linear(&labs[3].server, &list)?;
    let names = ["portcullis", "no ruleset", ufw, "linear nftables rules"];
    for (lab, name) in labs.iter().zip(names) {
        let reachable = closed_is_reachable(lab)?;
        ensure!(
            reachable == (name == "no ruleset"),
            "{name}: a port that nobody allows is {}",
            if reachable { "open" } else { "closed" }
        );
    }
    let arms: [Vec<f64>; 4] = alternate(MANY, |arm| rate(&labs[arm]).context(names[arm]))?;
    println!("connections: opened and reset by {CLIENTS} clients, {RULES} rules, the last allows");
    for (name, rates) in names.iter().zip(&arms) {
        println!("{name:>24}  {:>8.0} connections/s", median(rates.clone()));
    }
    let [ours, none, theirs, linear] = &arms;
    let beside = |name: &str, other: &[f64]| {
        let what = format!("connections/s: {RULES} rules beside {name}");
        Figure::new(what, ratio(ours, other), "×", Target::Open)
    };
    Ok(vec![
        beside("no ruleset", none),
        beside(ufw, theirs),
        beside("linear nftables rules", linear),
    ])
}

/// Whether the server answers at a port without a listener, by refusing.
fn closed_is_reachable(lab: &Topology) -> anyhow::Result<bool> {
    let target = SocketAddr::from((SERVER, CLOSED));
    let result = lab
        .client
        .enter(|| TcpStream::connect_timeout(&target, Duration::from_millis(500)))?;
    Ok(result.is_err_and(|why| why.kind() == ErrorKind::ConnectionRefused))
}

fn rate(lab: &Topology) -> anyhow::Result<f64> {
    let acceptor = Acceptor::start(&lab.server, WANTED.port)?;
    let begun = Instant::now();
    let counts: Vec<anyhow::Result<u64>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| lab.client.enter(|| connect(begun + WINDOW))?))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| bail!("a client panicked")))
            .collect()
    });
    let elapsed = begun.elapsed();
    acceptor.end(&lab.server, WANTED.port)?;
    let mut total = 0;
    for count in counts {
        total += count?;
    }
    Ok(total as f64 / elapsed.as_secs_f64())
}

/// Connects again and again, waiting each time until the server has ended the connection.
fn connect(until: Instant) -> anyhow::Result<u64> {
    let target = SocketAddr::from((SERVER, WANTED.port));
    let mut count = 0;
    while Instant::now() < until {
        // A reset right behind the handshake ends `connect` itself; a refused connection is another error.
        let ended = |why: &std::io::Error| why.kind() == ErrorKind::ConnectionReset;
        match TcpStream::connect_timeout(&target, Duration::from_secs(2)) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(Duration::from_secs(2)))?;
                let read = stream.read(&mut [0]);
                if !matches!(read, Ok(0)) && !read.as_ref().is_err_and(ended) {
                    bail!("the server did not end connection {count}: {read:?}");
                }
            }
            Err(why) if ended(&why) => {}
            Err(why) => return Err(why).with_context(|| format!("after {count} connections")),
        }
        count += 1;
    }
    Ok(count)
}
