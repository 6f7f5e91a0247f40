//! NFLOG in namespaces: what a rule logs arrives, in order, and what is lost is counted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use lab::{Netns, Topology};
use policy::{Direction, Timestamp};
use portcullis_kernel::interfaces::Names;
use portcullis_kernel::nflog::{Log, LogError, LogPacket, Settings};
use portcullis_kernel::source::Losses;

/// A lab whose server logs UDP to port 9000, both ways.
fn lab(options: &str) -> Option<Topology> {
    if let Err(why) = lab::available() {
        eprintln!("SKIPPED: {why}");
        return None;
    }
    let lab = Topology::new().unwrap();
    let rules = format!(
        "nft -f - <<END
        table inet logs {{
            chain in {{
                type filter hook input priority 0
                meta mark set 7 udp dport 9000 log prefix \"in: \" group 117 {options}
            }}
            chain out {{
                type filter hook output priority 0
                udp dport 9000 log prefix \"out: \" group 117 {options}
            }}
        }}\nEND"
    );
    match lab.server.sh(&rules) {
        // What nft says of an expression that the kernel does not have.
        Err(why) if why.to_string().contains("No such file") => {
            eprintln!("SKIPPED: nft cannot log to a group here: {why:#}");
            return None;
        }
        loaded => loaded.unwrap(),
    };
    Some(lab)
}

fn open(netns: &Netns, settings: &Settings) -> Log {
    netns.enter(|| Log::open(settings)).unwrap().unwrap()
}

fn send(from: &Netns, to: &str, payloads: &[&[u8]]) {
    from.enter(|| {
        let any = if to.starts_with('[') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let socket = UdpSocket::bind(any).unwrap();
        for payload in payloads {
            // A closed port's answer to the one before may come back as an error of the next.
            let _ = socket.send_to(payload, to);
        }
    })
    .unwrap();
}

/// Reads until `count` packets came, at most two seconds.
fn receive(log: &mut Log, count: usize, mut each: impl FnMut(&LogPacket<'_>)) {
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut got = 0;
    while got < count {
        assert!(
            Instant::now() < deadline,
            "{got} of {count} packets came within 2 s"
        );
        got += log.receive(Duration::from_millis(50), &mut each).unwrap();
    }
    assert_eq!(got, count);
}

#[test]
fn what_a_rule_logs_arrives_with_all_that_is_known_of_it() {
    let Some(lab) = lab("") else { return };
    let mut log = open(&lab.server, &Settings::default());
    let mut names = Names::default();
    for (from, to, payload) in [
        (&lab.client, "10.77.1.1:9000", &b"one"[..]),
        (&lab.attacker, "[fd77:2::1]:9000", b"two"),
        (&lab.server, "10.77.1.2:9000", b"three"),
    ] {
        let out = std::ptr::eq(from, &lab.server);
        send(from, to, &[payload]);
        receive(&mut log, 1, |packet| {
            assert_eq!(packet.prefix, if out { "out: " } else { "in: " });
            assert_eq!(
                packet.direction(),
                Some(if out { Direction::Out } else { Direction::In })
            );
            assert!(packet.payload.ends_with(payload));
            assert_eq!(packet.full_len(), packet.payload.len());
            assert_eq!(packet.mark, if out { 0 } else { 7 });
            let six = to.starts_with('[');
            assert_eq!(
                (packet.protocol, packet.payload[0] >> 4),
                if six { (0x86dd, 6) } else { (0x0800, 4) }
            );
            let (here, there) = if out {
                (packet.interface_out, packet.interface_in)
            } else {
                (packet.interface_in, packet.interface_out)
            };
            assert_eq!(there, 0);
            assert_eq!(packet.user, out.then_some(0));
            let interface = if six { "a0" } else { "c0" };
            assert!(here > 0);
            assert_eq!(
                names.name(lab_fd(&lab).as_fd(), here, Timestamp::default()),
                Some(interface)
            );
        });
    }
    assert_eq!(log.losses(), Losses::default());
    assert_eq!(names.name(log.as_fd(), 0, Timestamp::default()), None);
}

/// Any socket of the server's namespace.
fn lab_fd(lab: &Topology) -> UdpSocket {
    lab.server
        .enter(|| UdpSocket::bind("127.0.0.1:0").unwrap())
        .unwrap()
}

#[test]
fn many_packets_come_gathered_and_in_order() {
    let Some(lab) = lab("") else { return };
    let mut log = open(&lab.server, &Settings::default());
    let payloads: Vec<[u8; 4]> = (0..1000u32).map(u32::to_be_bytes).collect();
    let payloads: Vec<&[u8]> = payloads.iter().map(|payload| &payload[..]).collect();
    send(&lab.client, "10.77.1.1:9000", &payloads);
    let mut expected = payloads.iter();
    receive(&mut log, 1000, |packet| {
        assert_eq!(&packet.payload[28..], *expected.next().unwrap())
    });
    assert_eq!(log.losses(), Losses::default());
}

#[test]
fn only_the_beginning_is_copied_and_the_length_is_known() {
    for (options, settings, length) in [
        ("snaplen 60", Settings::default(), 60),
        (
            "",
            Settings {
                copy: 100,
                ..Settings::default()
            },
            100,
        ),
        (
            "",
            Settings {
                copy: 0xffff,
                ..Settings::default()
            },
            1228,
        ),
    ] {
        let Some(lab) = lab(options) else { return };
        let mut log = open(&lab.server, &settings);
        send(&lab.client, "10.77.1.1:9000", &[&[7; 1200]]);
        receive(&mut log, 1, |packet| {
            assert_eq!((packet.payload.len(), packet.full_len()), (length, 1228))
        });
    }
}

#[test]
fn what_is_not_read_in_time_is_counted() {
    let Some(lab) = lab("") else { return };
    let settings = Settings {
        buffer: 256 * 1024,
        copy: 2000,
        ..Settings::default()
    };
    let mut log = open(&lab.server, &settings);
    let sent = 3000;
    send(&lab.client, "10.77.1.1:9000", &vec![&[7; 1000][..]; sent]);
    let mut arrived = 0;
    loop {
        match log.receive(Duration::from_millis(100), |_| {}).unwrap() {
            0 => break,
            count => arrived += count,
        }
    }
    // The losses show by the packet that comes after them.
    send(&lab.client, "10.77.1.1:9000", &[b"after"]);
    receive(&mut log, 1, |packet| {
        assert!(packet.payload.ends_with(b"after"))
    });
    let losses = log.losses();
    assert!(arrived > 50 && arrived < sent, "{arrived}");
    assert_eq!(
        losses,
        Losses {
            dropped: (sent - arrived) as u64,
            ..Losses::default()
        }
    );
}

#[test]
fn a_group_has_one_reader_and_a_wait_ends() {
    let Some(lab) = lab("") else { return };
    let mut log = open(&lab.server, &Settings::default());
    let taken = lab
        .server
        .enter(|| Log::open(&Settings::default()))
        .unwrap();
    assert!(
        matches!(taken, Err(LogError::Taken { group: 117 })),
        "{taken:?}"
    );
    let begun = Instant::now();
    assert_eq!(
        log.receive(Duration::from_millis(40), |_| panic!("nothing was sent"))
            .unwrap(),
        0
    );
    assert!(begun.elapsed() >= Duration::from_millis(40));
    drop(log);
    open(&lab.server, &Settings::default());
}
