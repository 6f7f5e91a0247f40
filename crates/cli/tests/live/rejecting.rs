//! `reject` of content rules: both sides of the connection hear of it, and nobody waits.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use lab::Netns;

use crate::firewall::Firewall;
use crate::network::{ATTACKER, Attempt, CLIENT, SERVER, SERVER6, connect, tools, topology};

const CLIENT6: &str = "fd77:1::2";
const ATTACKER6: &str = "fd77:2::2";
/// Longer than a reset takes, and shorter than a retransmission of which one might come late.
const PATIENCE: Duration = Duration::from_secs(3);

const OPEN: &str = r#"
mode = "enforce"

[default]
inbound = "allow"
outbound = "allow"
forward = "allow"

[detect.payload]
enabled = false
"#;

/// Name, action, whose packets, and where in them; the word is the same for all.
const RULES: [(&str, &str, &str, &str); 4] = [
    (
        "no evil stream",
        "reject",
        "port = 4000",
        ", stream = true, depth = 4096",
    ),
    ("no evil packet", "reject", "port = 4001", ""),
    ("no evil answer", "reject", "source_port = 4002", ""),
    ("no evil, in silence", "deny", "port = 4003", ""),
];

fn policy() -> String {
    let rules = RULES.map(|(name, action, packets, place)| {
        format!(
            r#"
[[rule]]
name = "{name}"
action = "{action}"
protocol = "tcp"
{packets}
payload = {{ contains = "EVIL"{place} }}
"#
        )
    });
    OPEN.to_owned() + &rules.concat()
}

/// A connection through the firewall: its client and its server.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn new(from: &Netns, at: &Netns, address: &str, port: u16) -> Self {
        let any = SocketAddr::new("::".parse().unwrap(), port);
        let listener = at.enter(|| TcpListener::bind(any)).unwrap().unwrap();
        let client = match connect(from, address, port) {
            Attempt::Open(client) => client,
            other => panic!("{address} {port}: no connection, but {other:?}"),
        };
        let (server, _) = listener.accept().unwrap();
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let mut pair = Self { client, server };
        let mut room = [0; 5];
        pair.client.write_all(b"hello").unwrap();
        pair.server.read_exact(&mut room).unwrap();
        pair.server.write_all(b"salve").unwrap();
        pair.client.read_exact(&mut room).unwrap();
        assert_eq!(&room, b"salve");
        pair
    }
}

/// What reading from here comes to: so many bytes, or an error.
fn end(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    let read = stream.read(&mut [0; 64]);
    read.map_err(|error| error.kind())
}

#[test]
fn a_rejected_connection_ends_on_both_sides() {
    let Some(lab) = topology() else { return };
    if !tools(&["conntrack"]) {
        return;
    }
    lab.forward(true).unwrap();
    let _firewall = Firewall::start(&lab.server, &policy());
    // In, out, through.
    let ways = [
        (&lab.client, &lab.server, SERVER),
        (&lab.client, &lab.server, SERVER6),
        (&lab.server, &lab.client, CLIENT),
        (&lab.server, &lab.client, CLIENT6),
        (&lab.client, &lab.attacker, ATTACKER),
        (&lab.client, &lab.attacker, ATTACKER6),
    ];
    for is_translated in [false, true] {
        if is_translated {
            (lab.server)
                .sh("nft 'table inet nat { chain out { type nat hook postrouting priority 100; oifname a0 masquerade; }; }'")
                .unwrap();
        }
        for (from, at, address) in ways {
            for port in [4_000, 4_001, 4_002] {
                let mut pair = Pair::new(from, at, address, port);
                let sender = match port {
                    4_002 => &mut pair.server,
                    _ => &mut pair.client,
                };
                sender.write_all(b"EVIL").unwrap();
                let ends = [end(&mut pair.client), end(&mut pair.server)];
                assert_eq!(
                    ends,
                    [Err(ErrorKind::ConnectionReset); 2],
                    "client and server of {address} {port}, translated: {is_translated}"
                );
                let known = (lab.server)
                    .sh(&format!(
                        "for family in ipv4 ipv6; do conntrack -L -f $family -p tcp --dport {port} 2>/dev/null; done; true"
                    ))
                    .unwrap();
                assert!(!known.contains("ESTABLISHED"), "{address} {port}: {known}");
            }
            let mut pair = Pair::new(from, at, address, 4_003);
            pair.client.write_all(b"EVIL").unwrap();
            let ends = [&mut pair.client, &mut pair.server].map(|stream| {
                let moment = Duration::from_millis(300);
                stream.set_read_timeout(Some(moment)).unwrap();
                end(stream)
            });
            let waits = [Err(ErrorKind::WouldBlock); 2];
            assert_eq!(ends, waits, "{address}: both wait");
        }
    }
}
