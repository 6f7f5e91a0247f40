//! AF_PACKET in namespaces: what was sent is what is captured, with its direction, its interface and its losses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    unsafe_code,
    reason = "giving up root for one thread has no safe interface"
)]

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use lab::{Netns, Topology, veth};
use policy::Direction;
use portcullis_kernel::capture::{Capture, Settings};
use portcullis_kernel::source::{Source, SourceError};
use wire::Link;

fn ready() -> bool {
    lab::available()
        .inspect_err(|why| eprintln!("SKIPPED: {why}"))
        .is_ok()
}

fn open(netns: &Netns, settings: &Settings) -> Capture {
    netns.enter(|| Capture::open(settings)).unwrap().unwrap()
}

fn send(from: &Netns, to: &str, payload: &[u8], count: usize) {
    from.enter(|| {
        let any = if to.starts_with('[') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let socket = UdpSocket::bind(any).unwrap();
        for _ in 0..count {
            // A closed port's answer to the one before may come back as an error of the next.
            let _ = socket.send_to(payload, to);
        }
    })
    .unwrap();
}

#[derive(Debug, PartialEq)]
struct Seen {
    direction: Option<Direction>,
    interface: Option<String>,
    link: Option<Link>,
    bytes: Vec<u8>,
    age: Duration,
}

/// The packets that hold `mark`, until `count` of them came or two seconds passed.
fn seen(capture: &mut Capture, mark: &[u8], count: usize) -> Vec<Seen> {
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut found = Vec::new();
    while found.len() < count && Instant::now() < deadline {
        let Some(packet) = capture.next_timeout(Duration::from_millis(50)).unwrap() else {
            continue;
        };
        assert_eq!(packet.wire_len, packet.bytes.len());
        // The payload of UDP comes last; an ICMP error quotes it behind other headers, too, and is left out by its size.
        if packet.bytes.ends_with(mark) && packet.bytes.len() < mark.len() + 70 {
            let now = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap();
            found.push(Seen {
                direction: packet.direction,
                interface: packet.interface.map(str::to_owned),
                link: packet.link,
                bytes: packet.bytes.to_vec(),
                age: now.abs_diff(Duration::from_nanos(packet.timestamp.as_nanos())),
            });
        }
    }
    found
}

#[test]
fn packets_of_all_interfaces_with_direction_and_name() {
    if !ready() {
        return;
    }
    let lab = Topology::new().unwrap();
    let mut capture = open(&lab.server, &Settings::default());
    for (from, to, direction, interface) in [
        (&lab.client, "10.77.1.1:9", Direction::In, "c0"),
        (&lab.client, "[fd77:1::1]:9", Direction::In, "c0"),
        (&lab.attacker, "10.77.2.1:9", Direction::In, "a0"),
        (&lab.server, "10.77.1.2:9", Direction::Out, "c0"),
        (&lab.server, "[fd77:2::2]:9", Direction::Out, "a0"),
    ] {
        let mark = format!("mark for {to}");
        send(from, to, mark.as_bytes(), 1);
        let packets = seen(&mut capture, mark.as_bytes(), 1);
        let [packet] = &packets[..] else {
            panic!("{packets:?} instead of one for {to}")
        };
        assert_eq!(
            (packet.direction, packet.interface.as_deref()),
            (Some(direction), Some(interface)),
            "{to}"
        );
        assert_eq!(packet.link, Some(Link::Ethernet));
        assert!(packet.age < Duration::from_secs(5), "{:?}", packet.age);
    }
    assert_eq!(capture.losses(), Default::default());
}

#[test]
fn the_loopback_shows_each_packet_once() {
    if !ready() {
        return;
    }
    let netns = Netns::new("loopback").unwrap();
    let mut capture = open(&netns, &Settings::default());
    send(&netns, "127.0.0.1:9", b"to myself", 3);
    let packets = seen(&mut capture, b"to myself", 4);
    assert_eq!(packets.len(), 3);
    assert!(
        packets
            .iter()
            .all(|packet| packet.interface.as_deref() == Some("lo"))
    );
    assert!(
        packets
            .iter()
            .all(|packet| packet.direction == Some(Direction::In))
    );
}

#[test]
fn one_interface_only_and_a_wait_that_ends() {
    if !ready() {
        return;
    }
    let lab = Topology::new().unwrap();
    let mut capture = open(
        &lab.server,
        &Settings {
            interface: Some("a0".into()),
            ..Settings::default()
        },
    );
    send(&lab.client, "10.77.1.1:9", b"not this", 1);
    send(&lab.attacker, "10.77.2.1:9", b"but this", 1);
    assert_eq!(seen(&mut capture, b"this", 2).len(), 1);

    let begun = Instant::now();
    while capture
        .next_timeout(Duration::from_millis(60))
        .unwrap()
        .is_some()
    {}
    assert!(begun.elapsed() >= Duration::from_millis(60));

    lab.server
        .run("ip", &["link", "set", "a0", "down"])
        .unwrap();
    let ended = (0..50).find_map(|_| capture.next_timeout(Duration::from_millis(20)).err());
    assert!(
        matches!(ended, Some(SourceError::Down { ref name }) if name == "a0"),
        "{ended:?}"
    );

    let wrong = lab.server.enter(|| {
        Capture::open(&Settings {
            interface: Some("nope".into()),
            ..Settings::default()
        })
    });
    assert!(matches!(wrong.unwrap(), Err(SourceError::NoInterface { name }) if name == "nope"));
}

#[test]
fn a_vlan_tag_that_was_taken_off_is_put_back() {
    if !ready() {
        return;
    }
    let (a, b) = (
        Netns::new("tagged_a").unwrap(),
        Netns::new("tagged_b").unwrap(),
    );
    veth(&a, "v0", &[], &b, "v0", &[]).unwrap();
    let mut capture = open(&b, &Settings::default());
    let addresses = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    let frame = [
        &addresses[..],
        &[0x81, 0, 0x20, 5, 0x08, 0, 0x45],
        &[0; 40],
        b"tagged",
    ]
    .concat();
    a.enter(|| send_frame("v0", &frame)).unwrap();
    // The kernel takes the tag off every frame that comes in, whoever sent it (`skb_vlan_untag`).
    let packets = seen(&mut capture, b"tagged", 1);
    let [packet] = &packets[..] else {
        panic!("{packets:?} instead of one")
    };
    assert_eq!(packet.bytes, frame);
}

/// Sends one Ethernet frame as it is out of an interface of the current namespace.
fn send_frame(interface: &str, frame: &[u8]) {
    let name = std::ffi::CString::new(interface).unwrap();
    // SAFETY: the name is zero-terminated; the address is plain integers, for which zero is valid, and it and the frame
    // live through the calls that take their pointers and lengths.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        assert!(fd >= 0);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = libc::if_nametoindex(name.as_ptr()).cast_signed();
        let (to, length) = ((&raw const address).cast(), size_of_val(&address) as u32);
        let sent = libc::sendto(fd, frame.as_ptr().cast(), frame.len(), 0, to, length);
        assert_eq!(sent, frame.len() as isize);
        libc::close(fd);
    }
}

#[test]
fn a_device_without_link_header_gives_bare_ip() {
    if !ready() {
        return;
    }
    let netns = Netns::new("tun").unwrap();
    let Some(mut tun) = netns.enter(|| open_tun("t0")).unwrap() else {
        eprintln!("SKIPPED: no /dev/net/tun here");
        return;
    };
    netns
        .sh("ip addr add 10.6.0.1/24 dev t0; ip link set t0 up")
        .unwrap();
    let mut capture = open(&netns, &Settings::default());
    send(&netns, "10.6.0.2:9", b"out of the tunnel", 1);
    let packets = seen(&mut capture, b"out of the tunnel", 1);
    let [out] = &packets[..] else {
        panic!("{packets:?} instead of one")
    };
    assert_eq!(
        (out.link, out.direction),
        (Some(Link::RawIp), Some(Direction::Out))
    );
    assert_eq!((out.bytes.len(), out.bytes[0]), (28 + 17, 0x45));

    // The same packet comes back in.
    std::io::Write::write_all(&mut tun, &out.bytes).unwrap();
    let packets = seen(&mut capture, b"out of the tunnel", 1);
    let [back] = &packets[..] else {
        panic!("{packets:?} instead of one")
    };
    assert_eq!(
        (back.link, back.direction),
        (Some(Link::RawIp), Some(Direction::In))
    );
    assert_eq!(
        (&back.bytes, back.interface.as_deref()),
        (&out.bytes, Some("t0"))
    );
}

/// Makes a tun device, which lives as long as the file.
fn open_tun(name: &str) -> Option<std::fs::File> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .ok()?;
    // SAFETY: ifreq is integers and bytes, for which zero is valid; it lives through the call.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
        let made = libc::ioctl(
            std::os::fd::AsRawFd::as_raw_fd(&file),
            libc::TUNSETIFF as _,
            &raw mut request,
        );
        assert_eq!(made, 0);
    }
    Some(file)
}

#[test]
fn what_does_not_fit_the_ring_is_counted() {
    if !ready() {
        return;
    }
    let netns = Netns::new("drops").unwrap();
    let mut capture = open(
        &netns,
        &Settings {
            ring: 1,
            ..Settings::default()
        },
    );
    let sent = 4_000;
    // 4,000 times 1,400 bytes, twice as the loopback shows them, against a ring of 2 MiB.
    send(&netns, "127.0.0.1:9", &[7; 1400], sent);
    let mut arrived = 0;
    while let Some(packet) = capture.next_timeout(Duration::from_millis(100)).unwrap() {
        arrived += usize::from(packet.bytes.len() > 1400);
    }
    let losses = capture.losses();
    // How many fit hangs on the sender's pace: a block is handed over when it is full or its time is up.
    assert!(arrived > 0 && arrived < sent, "{arrived}");
    assert!(
        losses.dropped as usize >= sent - arrived,
        "{losses:?}, {arrived} arrived"
    );
    assert_eq!(
        capture.losses(),
        losses,
        "reading the counters does not lose them"
    );

    send(&netns, "127.0.0.1:9", b"goes on", 1);
    assert_eq!(seen(&mut capture, b"goes on", 1).len(), 1);
}

#[test]
fn without_the_capability_the_error_names_it() {
    if !ready() {
        return;
    }
    // A thread of its own gives up root; the rest of the process keeps it.
    let refused = std::thread::spawn(|| {
        // SAFETY: no pointers are passed. The bare system call, unlike libc's wrapper, concerns this thread only.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
        assert_eq!(changed, 0);
        Capture::open(&Settings::default()).err()
    });
    assert!(matches!(
        refused.join().unwrap(),
        Some(SourceError::NotPermitted)
    ));
}
