//! What stands on the two sides of the firewall: servers that echo, clients that try.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::{Netns, Topology};
/// How long an attempt waits that should be answered at once when it is answered at all.
const SHORT: Duration = Duration::from_millis(700);

/// The server as the client reaches it.
pub(crate) const SERVER: &str = "10.77.1.1";
/// The same over IPv6.
pub(crate) const SERVER6: &str = "fd77:1::1";
/// The server as the attacker reaches it.
pub(crate) const SERVER_FOR_ATTACKER: &str = "10.77.2.1";
/// The client.
pub(crate) const CLIENT: &str = "10.77.1.2";
/// The attacker.
pub(crate) const ATTACKER: &str = "10.77.2.2";

/// The three namespaces, or `None` (said loudly) where there can be none.
pub(crate) fn topology() -> Option<Topology> {
    if let Err(why) = lab::available() {
        eprintln!("SKIPPED: {why}");
        return None;
    }
    Some(Topology::new().unwrap())
}

/// Whether all these programs are here; says loudly which is not.
pub(crate) fn tools(programs: &[&str]) -> bool {
    for program in programs {
        let found = std::env::var_os("PATH")
            .into_iter()
            .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|folder| folder.join(program).is_file());
        if !found {
            eprintln!("SKIPPED: {program} is not installed");
            return false;
        }
    }
    true
}

/// TCP servers that send back what they get, on every address of a namespace. They end when this is dropped.
pub(crate) struct Echo {
    stop: Arc<AtomicBool>,
}

impl Echo {
    /// Listens on these ports, IPv4 and IPv6.
    pub(crate) fn start(netns: &Netns, ports: &[u16]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for &port in ports {
            let address = SocketAddr::new("::".parse().unwrap(), port);
            let listener = netns.enter(|| TcpListener::bind(address)).unwrap().unwrap();
            listener.set_nonblocking(true).unwrap();
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || serve(&listener, &stop));
        }
        Self { stop }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn serve(listener: &TcpListener, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let stop = Arc::clone(stop);
                std::thread::spawn(move || echo(stream, &stop));
            }
            Err(why) if why.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(2))
            }
            Err(why) => panic!("{why}"),
        }
    }
}

fn echo(mut stream: TcpStream, stop: &AtomicBool) {
    stream.set_nonblocking(false).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if stream.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

/// What became of an attempt.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// A connection.
    Open(TcpStream),
    /// Somebody said no.
    Refused(ErrorKind),
    /// Silence.
    Silent,
}

impl Attempt {
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Silent)
    }
}

/// Tries to connect from a namespace.
pub(crate) fn connect(from: &Netns, to: &str, port: u16) -> Attempt {
    let address = SocketAddr::new(to.parse().unwrap(), port);
    match from
        .enter(|| TcpStream::connect_timeout(&address, SHORT))
        .unwrap()
    {
        Ok(stream) => {
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(SHORT)).unwrap();
            Attempt::Open(stream)
        }
        Err(why) if matches!(why.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
            Attempt::Silent
        }
        Err(why) => Attempt::Refused(why.kind()),
    }
}

/// Connects from a port of the caller's choice, which may have been used a moment ago: it is reset when it is dropped.
pub(crate) fn connect_from(from: &Netns, own: u16, to: &str, port: u16) -> TcpStream {
    let remote = SocketAddr::new(to.parse().unwrap(), port);
    let any = match remote {
        SocketAddr::V4(_) => "0.0.0.0",
        SocketAddr::V6(_) => "::",
    };
    let local = SocketAddr::new(any.parse().unwrap(), own);
    for _ in 0..20 {
        match from.enter(|| try_from(local, remote)).unwrap() {
            Ok(stream) => {
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(SHORT)).unwrap();
                return stream;
            }
            // The connection before is still on its way out.
            Err(nix::Error::EADDRNOTAVAIL) => std::thread::sleep(Duration::from_millis(50)),
            Err(why) => panic!("{own} to {remote}: {why}"),
        }
    }
    panic!("{own} to {remote}: the ports stay in use")
}

fn try_from(local: SocketAddr, remote: SocketAddr) -> nix::Result<TcpStream> {
    use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};
    let family = match remote {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let open = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let reset = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let patience = nix::sys::time::TimeVal::new(2, 0);
    socket::setsockopt(&open, sockopt::ReuseAddr, &true)?;
    socket::setsockopt(&open, sockopt::Linger, &reset)?;
    socket::setsockopt(&open, sockopt::SendTimeout, &patience)?;
    socket::bind(open.as_raw_fd(), &SockaddrStorage::from(local))?;
    socket::connect(open.as_raw_fd(), &SockaddrStorage::from(remote))?;
    Ok(TcpStream::from(open))
}

/// Sends the bytes and waits for them to come back; `false` when they do not in time.
pub(crate) fn echoes(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    if stream.write_all(bytes).is_err() {
        return false;
    }
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).is_ok_and(|()| back == bytes)
}

/// Sends a datagram from a namespace and waits for any answer: `Ok(true)` for data, `Ok(false)` for silence, or the error
/// that an ICMP message became.
pub(crate) fn datagram(from: &Netns, to: &str, port: u16) -> std::io::Result<bool> {
    let local: SocketAddr = if to.contains(':') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    }
    .parse()
    .unwrap();
    let socket = from.enter(|| UdpSocket::bind(local)).unwrap().unwrap();
    socket.set_read_timeout(Some(SHORT)).unwrap();
    socket
        .connect(SocketAddr::new(to.parse().unwrap(), port))
        .unwrap();
    socket.send(b"ping")?;
    match socket.recv(&mut [0; 64]) {
        Ok(_) => Ok(true),
        Err(why) if matches!(why.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => Ok(false),
        Err(why) => Err(why),
    }
}

/// Whether a ping is answered.
pub(crate) fn pings(from: &Netns, to: &str) -> bool {
    from.output("ping", &["-c1", "-W1", to])
        .unwrap()
        .status
        .success()
}
