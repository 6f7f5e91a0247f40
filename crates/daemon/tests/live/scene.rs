//! Three namespaces, a folder, a daemon on the server, and ways to ask and to knock.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lab::{Guard, Netns, Topology};
use nix::sys::socket::Backlog;
use serde_json::Value;

pub(crate) const SERVER_FOR_CLIENT: &str = "10.77.1.1";
pub(crate) const SERVER_FOR_ATTACKER: &str = "10.77.2.1";
pub(crate) const CLIENT: &str = "10.77.1.2";
pub(crate) const ATTACKER: &str = "10.77.2.2";
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Scene {
    pub(crate) net: Topology,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) daemon: Option<Guard>,
    _listeners: Vec<TcpListener>,
}

impl Scene {
    /// Three namespaces; the server listens on TCP 2222 and 8080 on all addresses.
    pub(crate) fn new() -> Self {
        let net = Topology::new().unwrap();
        let listen = |port: u16| {
            let listener = TcpListener::bind(SocketAddr::from(([0_u16; 8], port))).unwrap();
            // Nobody accepts: the queue holds all that a test connects while it waits for something.
            nix::sys::socket::listen(&listener, Backlog::new(4_096).unwrap()).unwrap();
            listener
        };
        let listeners = net
            .server
            .enter(|| vec![listen(2222), listen(8080)])
            .unwrap();
        Self {
            net,
            folder: tempfile::tempdir().unwrap(),
            daemon: None,
            _listeners: listeners,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Starts the daemon and waits until it runs.
    pub(crate) fn start(&mut self, mode: &str, config: &str) {
        let running = self.spawn(mode, config);
        running.wait_for_output("RUNNING", PATIENCE).unwrap();
        self.daemon = Some(running);
    }

    /// Starts the daemon.
    pub(crate) fn spawn(&self, mode: &str, config: &str) -> Guard {
        self.spawn_in(self.folder.path(), mode, config)
    }

    /// Starts the daemon with another folder.
    pub(crate) fn spawn_in(&self, folder: &std::path::Path, mode: &str, config: &str) -> Guard {
        let program = std::env::current_exe().unwrap();
        let folder = folder.display().to_string();
        let arguments = ["__daemon", &folder, mode, config];
        self.net
            .server
            .spawn(program.to_str().unwrap(), &arguments)
            .unwrap()
    }

    /// Tells the daemon to stop and gives what it wrote.
    pub(crate) fn stop(&mut self) -> String {
        let output = self.daemon.take().unwrap().stop(PATIENCE).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        text
    }

    /// Kills the daemon and its process group.
    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.signal(nix::sys::signal::Signal::SIGKILL);
        daemon.wait(PATIENCE).unwrap();
    }

    /// Asks the API; status and body.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.path("api.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        write!(
            stream,
            "{method} /api/v1/{path} HTTP/1.0\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (
            status,
            serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")),
        )
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, value) = self.ask("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    pub(crate) fn post(&self, path: &str, body: Value) -> Value {
        let (status, value) = self.ask("POST", path, &body);
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    /// Our table on the server; empty when there is none.
    pub(crate) fn table(&self) -> String {
        let output = self
            .net
            .server
            .output("nft", &["list", "table", "inet", "portcullis"])
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A line of `firewall.log` that holds all of the words.
    pub(crate) fn log_line(&self, words: &[&str]) -> String {
        let path = self.path("log/firewall.log");
        self.wait(&format!("a log line with {words:?}"), || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            text.lines()
                .find(|line| words.iter().all(|word| line.contains(word)))
                .map(str::to_owned)
        })
    }

    /// Waits until there is something.
    pub(crate) fn wait<T>(&self, what: &str, mut find: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = find() {
                return found;
            }
            if Instant::now() >= deadline {
                let log =
                    std::fs::read_to_string(self.path("log/firewall.log")).unwrap_or_default();
                panic!("no {what}\n{}\n{log}", self.table());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether a TCP connection comes about soon: to show that one does not.
pub(crate) fn connects(from: &Netns, to: &str, port: u16) -> bool {
    connect_within(from, to, port, Duration::from_millis(400)).is_some()
}

/// Whether a TCP connection comes about, also on a machine that is busy: to show that one does.
pub(crate) fn reaches(from: &Netns, to: &str, port: u16) -> bool {
    connect(from, to, port).is_some()
}

/// A TCP connection.
pub(crate) fn connect(from: &Netns, to: &str, port: u16) -> Option<TcpStream> {
    connect_within(from, to, port, Duration::from_secs(8))
}

fn connect_within(from: &Netns, to: &str, port: u16, patience: Duration) -> Option<TcpStream> {
    let to = SocketAddr::new(to.parse().unwrap(), port);
    from.enter(|| TcpStream::connect_timeout(&to, patience).ok())
        .unwrap()
}

/// Sends a datagram.
pub(crate) fn datagram(from: &Netns, to: &str, port: u16, payload: &[u8]) {
    let to = SocketAddr::new(to.parse().unwrap(), port);
    from.enter(|| {
        let socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).unwrap();
        // A refusal by an earlier datagram's ICMP error is no failure of this one.
        let _ = socket.send_to(payload, to);
    })
    .unwrap();
}

/// A policy of two rules that keeps the attacker from one of two services.
pub(crate) const POLICY: &str = r#"mode = "enforce"

[default]
inbound = "deny"
outbound = "allow"

[[rule]]
name = "no back door for strangers"
action = "deny"
direction = "in"
protocol = "tcp"
from = ["10.77.2.0/24", "fd77:2::/64"]
port = "2222"

[[rule]]
name = "services"
action = "allow"
direction = "in"
protocol = "tcp"
port = "2222,8080"
log = true
"#;

/// A policy that lets the attacker in where [`POLICY`] does not, and nobody else.
pub(crate) const OTHER: &str = r#"mode = "enforce"
[[rule]]
name = "the other policy"
action = "allow"
direction = "in"
protocol = "tcp"
from = "10.77.2.2"
port = "2222"
"#;

/// Waits until what is written on a connection is acknowledged by the listener's end.
pub(crate) fn passes(scene: &Scene, stream: &std::net::TcpStream) {
    use std::io::Write as _;
    let mut stream = stream;
    stream.write_all(b"still there?").unwrap();
    scene.wait("acknowledgement", || {
        let sockets = scene
            .net
            .client
            .run("ss", &["-Htn", "state", "established"])
            .unwrap();
        let port = stream.local_addr().unwrap().port();
        let line = sockets
            .lines()
            .find(|line| line.contains(&format!(":{port} ")))
            .unwrap_or_default()
            .to_owned();
        // Receive queue, send queue: empty once the other end has acknowledged.
        (line.split_ascii_whitespace().nth(1) == Some("0")).then_some(())
    });
}

pub(crate) fn other_is_in_force(scene: &Scene) -> bool {
    reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222)
        && !connects(&scene.net.client, SERVER_FOR_CLIENT, 8080)
}

pub(crate) fn first_is_in_force(scene: &Scene) -> bool {
    !connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222)
        && reaches(&scene.net.client, SERVER_FOR_CLIENT, 8080)
}
