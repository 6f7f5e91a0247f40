//! Connection tracking in namespaces: real flows are listed as they are, told of, and cut.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use lab::Topology;
use portcullis_kernel::conntrack::{Conntrack, Counters, Entry, Event, Events, Key, TcpState};

/// A lab whose server tracks and counts connections.
fn lab() -> Option<Topology> {
    if let Err(why) = lab::available() {
        eprintln!("SKIPPED: {why}");
        return None;
    }
    let lab = Topology::new().unwrap();
    let rules = "nft -f - <<END
        table inet track { chain in { type filter hook input priority 0; ct state new counter; ct mark set 0x7; }; }\nEND";
    match lab.server.sh(rules) {
        // What nft says of an expression that the kernel does not have.
        Err(why) if why.to_string().contains("No such file") => {
            eprintln!("SKIPPED: no connection tracking here: {why:#}");
            return None;
        }
        loaded => loaded.unwrap(),
    };
    lab.server
        .sysctl("net.netfilter.nf_conntrack_acct", "1")
        .unwrap();
    lab.server
        .sysctl("net.netfilter.nf_conntrack_events", "1")
        .unwrap();
    Some(lab)
}

fn entries(conntrack: &mut Conntrack) -> Vec<Entry> {
    let mut entries = Vec::new();
    conntrack.list(|entry| entries.push(*entry)).unwrap();
    entries
}

/// A connection from the client to the server, by a listener on `address`.
fn connect(lab: &Topology, address: &str) -> (TcpStream, TcpStream) {
    let listener = lab
        .server
        .enter(|| TcpListener::bind(address).unwrap())
        .unwrap();
    let client = lab
        .client
        .enter(|| TcpStream::connect(address).unwrap())
        .unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
fn flows_are_listed_with_their_state_and_counters() {
    let Some(lab) = lab() else { return };
    let (mut client, mut server) = connect(&lab, "10.77.1.1:5000");
    client.write_all(b"hello").unwrap();
    server.read_exact(&mut [0; 5]).unwrap();
    let (six, _other) = connect(&lab, "[fd77:1::1]:5000");
    lab.attacker
        .enter(|| {
            let socket = UdpSocket::bind("10.77.2.2:4000").unwrap();
            socket.send_to(&[0; 100], "10.77.2.1:53").unwrap();
        })
        .unwrap();

    let mut conntrack = lab.server.enter(Conntrack::open).unwrap().unwrap();
    let found = entries(&mut conntrack);
    let of = |source: SocketAddr| {
        *found
            .iter()
            .find(|entry| {
                (
                    entry.original.source,
                    entry.original.ports().map(|(port, _)| port),
                ) == (source.ip(), Some(source.port()))
            })
            .unwrap()
    };

    let tcp = of(client.local_addr().unwrap());
    assert_eq!(
        (tcp.original.destination, tcp.original.protocol),
        ("10.77.1.1".parse::<IpAddr>().unwrap(), 6)
    );
    assert_eq!(tcp.reply.source, tcp.original.destination);
    assert_eq!(tcp.original.ports().map(|(a, b)| (b, a)), tcp.reply.ports());
    assert_eq!(
        (tcp.tcp, tcp.mark, tcp.zone),
        (Some(TcpState::Established), 7, 0)
    );
    assert!(tcp.answered() && tcp.assured());
    assert!(tcp.timeout.unwrap() > Duration::from_secs(60));
    let sent = tcp.sent.unwrap();
    // SYN, ACK, data: three packets with 20 bytes of IP and 20–40 of TCP each.
    assert_eq!(sent.packets, 3);
    assert!((125..200).contains(&sent.bytes), "{sent:?}");
    assert!(tcp.received.unwrap().packets >= 1);

    assert_eq!(
        of(six.local_addr().unwrap()).tcp,
        Some(TcpState::Established)
    );

    let udp = of("10.77.2.2:4000".parse().unwrap());
    assert_eq!((udp.original.key, udp.tcp), (Key::Ports(4000, 53), None));
    assert_eq!(
        udp.sent,
        Some(Counters {
            packets: 1,
            bytes: 128
        })
    );
    assert!(!udp.assured());
}

#[test]
fn what_is_cut_is_gone_and_the_rest_stays() {
    let Some(lab) = lab() else { return };
    let (client, _server) = connect(&lab, "10.77.1.1:5000");
    let (six, _other) = connect(&lab, "[fd77:1::1]:5000");
    lab.attacker
        .enter(|| {
            let socket = UdpSocket::bind("10.77.2.2:0").unwrap();
            for port in 1000..1300 {
                // Closed ports answer by ICMP, which is an error of a later send.
                let _ = socket.send_to(b"x", ("10.77.2.1", port));
            }
        })
        .unwrap();
    let mut conntrack = lab.server.enter(Conntrack::open).unwrap().unwrap();
    let attacker: IpAddr = "10.77.2.2".parse().unwrap();
    let count = |conntrack: &mut Conntrack, address: IpAddr| {
        entries(conntrack)
            .iter()
            .filter(|entry| entry.original.source == address)
            .count()
    };
    let before = count(&mut conntrack, attacker);
    assert!(before >= 250, "{before}");
    assert_eq!(
        conntrack.cut("10.77.2.2/32".parse().unwrap()).unwrap(),
        before
    );
    assert_eq!(count(&mut conntrack, attacker), 0);
    assert_eq!(count(&mut conntrack, client.local_addr().unwrap().ip()), 1);
    assert_eq!(conntrack.cut("192.0.2.0/24".parse().unwrap()).unwrap(), 0);
    assert_eq!(conntrack.cut("fd77:1::/64".parse().unwrap()).unwrap(), 1);
    assert_eq!(count(&mut conntrack, six.local_addr().unwrap().ip()), 0);
}

#[test]
fn beginnings_and_ends_are_told() {
    let Some(lab) = lab() else { return };
    let mut events = lab
        .server
        .enter(|| Events::open(&[Event::New, Event::Destroy]))
        .unwrap()
        .unwrap();
    lab.attacker
        .enter(|| {
            let socket = UdpSocket::bind("10.77.2.2:4001").unwrap();
            socket.send_to(&[0; 72], "10.77.2.1:53").unwrap();
        })
        .unwrap();
    let mut told = Vec::new();
    let mut wait = |wanted: Event| {
        let deadline = Instant::now() + Duration::from_secs(3);
        while told.last().is_none_or(|(event, _)| *event != wanted) {
            assert!(
                Instant::now() < deadline,
                "{wanted:?} was not told: {told:?}"
            );
            events
                .receive(Duration::from_millis(50), |event, entry| {
                    if entry.original.key == Key::Ports(4001, 53) {
                        told.push((event, *entry));
                    }
                })
                .unwrap();
        }
    };
    wait(Event::New);
    let mut conntrack = lab.server.enter(Conntrack::open).unwrap().unwrap();
    assert!(conntrack.cut("10.77.2.2/32".parse().unwrap()).unwrap() >= 1);
    wait(Event::Destroy);
    let [(_, begun), (_, ended)] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(begun.original, ended.original);
    assert_eq!(
        ended.sent,
        Some(Counters {
            packets: 1,
            bytes: 100
        })
    );
}

#[test]
fn a_completed_handshake_is_told_from_what_was_picked_up() {
    let Some(lab) = lab() else { return };
    let listen = || lab.server.enter(|| Events::open(&[Event::Update]));
    let mut events = listen().unwrap().unwrap();
    let (mut client, mut server) = connect(&lab, "10.77.1.1:5000");
    let mut told = Vec::new();
    let mut hear = |events: &mut Events| {
        told.clear();
        let deadline = Instant::now() + Duration::from_millis(500);
        while Instant::now() < deadline {
            events
                .receive(Duration::from_millis(50), |_, entry| told.push(*entry))
                .unwrap();
        }
        told.clone()
    };
    let completed = hear(&mut events);
    let [entry] = completed[..] else {
        panic!("the answer to the SYN is not told: {completed:?}")
    };
    assert_eq!(entry.tcp, Some(TcpState::Established));
    assert!(entry.assured() && !entry.tcp_is_liberal, "{entry:?}");
    // Forgotten by the kernel, and picked up by what is said next.
    let mut conntrack = lab.server.enter(Conntrack::open).unwrap().unwrap();
    let all = "10.77.1.2/32".parse().unwrap();
    assert_eq!(conntrack.cut(all).unwrap(), 1);
    for _ in 0..3 {
        client.write_all(b"hello").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        server.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
    }
    let picked_up = entries(&mut conntrack);
    let [entry] = picked_up[..] else {
        panic!("{picked_up:?}")
    };
    assert_eq!(entry.tcp, Some(TcpState::Established));
    assert!(entry.assured() && entry.tcp_is_liberal, "{entry:?}");
    for entry in hear(&mut events) {
        let looks_new = entry.tcp == Some(TcpState::Established) && !entry.tcp_is_liberal;
        assert!(!looks_new, "{entry:?}");
    }
}
