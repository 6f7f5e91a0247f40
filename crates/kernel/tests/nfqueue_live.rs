//! NFQUEUE in namespaces: verdicts do what they say, for packets and for streams, with a listener and without.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lab::{Netns, Topology};
use policy::Direction;
use portcullis_kernel::nfqueue::{
    Batch, Queue, QueueError, QueueStatistics, QueuedPacket, Settings, Verdict, open, statistics,
};

const ACCEPT: Verdict = Verdict::Accept { mark: None };
const WAIT: Duration = Duration::from_millis(20);

/// A lab whose server queues what the iptables matches say; `None` where that cannot be.
fn lab(rules: &[&str]) -> Option<Topology> {
    if let Err(why) = lab::available() {
        eprintln!("SKIPPED: {why}");
        return None;
    }
    let lab = Topology::new().unwrap();
    for rule in rules {
        match lab.server.sh(&format!("iptables -w 10 -t security {rule}")) {
            // What the two kinds of iptables say of a target or a table that the kernel does not have.
            Err(why)
                if ["No chain/target/match", "No such file", "does not exist"]
                    .iter()
                    .any(|words| why.to_string().contains(words)) =>
            {
                eprintln!("SKIPPED: no NFQUEUE target here: {why:#}");
                return None;
            }
            loaded => loaded.unwrap(),
        };
    }
    Some(lab)
}

fn queues(netns: &Netns, settings: &Settings) -> Vec<Queue> {
    netns.enter(|| open(settings)).unwrap().unwrap()
}

fn counters(netns: &Netns) -> Vec<QueueStatistics> {
    netns.enter(statistics).unwrap().unwrap()
}

/// A worker thread on one queue, stopped and joined when dropped.
struct Worker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Queue>>,
}

impl Worker {
    fn start(
        mut queue: Queue,
        decide: impl Fn(&QueuedPacket<'_>) -> Verdict + Send + 'static,
    ) -> Worker {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut batch = Batch::default();
            while !told.load(Ordering::Relaxed) {
                queue.serve(&mut batch, WAIT, &decide).unwrap();
            }
            assert_eq!(batch.malformed(), 0);
            queue
        });
        Worker {
            stop,
            thread: Some(thread),
        }
    }

    fn stop(mut self) -> Queue {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

/// A UDP receiver on the server's port 9000, and a sender on the client.
fn pair(lab: &Topology) -> (UdpSocket, UdpSocket) {
    let receiver = lab
        .server
        .enter(|| UdpSocket::bind("10.77.1.1:9000").unwrap())
        .unwrap();
    let sender = lab
        .client
        .enter(|| UdpSocket::bind("10.77.1.2:0").unwrap())
        .unwrap();
    sender.connect("10.77.1.1:9000").unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    (receiver, sender)
}

/// Everything that arrives until nothing does for 0.3 s.
fn arrived(receiver: &UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = [0; 2048];
    std::iter::from_fn(|| {
        receiver
            .recv(&mut buffer)
            .ok()
            .map(|length| buffer[..length].to_vec())
    })
    .collect()
}

#[test]
fn each_packet_gets_the_verdict_that_its_content_asks_for() {
    let Some(lab) = lab(&["-I INPUT -p udp --dport 9000 -j NFQUEUE --queue-num 3"]) else {
        return;
    };
    let mut queue = queues(
        &lab.server,
        &Settings {
            first: 3,
            ..Settings::default()
        },
    )
    .pop()
    .unwrap();
    let (receiver, sender) = pair(&lab);
    // All 200 wait before the first is decided, so that batches of many are answered.
    let messages: Vec<String> = (0..200)
        .map(|n| format!("{} {n}", if n % 3 == 1 { "bad" } else { "good" }))
        .collect();
    for message in &messages {
        sender.send(message.as_bytes()).unwrap();
    }
    let mut batch = Batch::default();
    let (mut last, mut calls, mut count) = (0, 0, 0);
    while count < 200 {
        let served = queue.serve(&mut batch, Duration::from_secs(2), |packet| {
            assert_eq!(packet.id, last + 1, "in order, without gaps");
            last = packet.id;
            assert_eq!(
                (packet.queue, packet.hook, packet.direction()),
                (3, 1, Some(Direction::In))
            );
            assert_eq!((packet.protocol, packet.mark), (0x0800, 0));
            assert!(packet.interface_in != 0 && packet.interface_out == 0);
            assert_eq!(
                (packet.payload[0], packet.full_len),
                (0x45, packet.payload.len())
            );
            if packet.payload[28..].starts_with(b"bad") {
                Verdict::Drop
            } else {
                ACCEPT
            }
        });
        let served = served.unwrap();
        assert!(served > 0, "{count} came, the rest did not within 2 s");
        (count, calls) = (count + served, calls + 1);
    }
    assert_eq!(calls, 200usize.div_ceil(64));
    assert_eq!(
        queue.serve(&mut batch, Duration::ZERO, |_| ACCEPT).unwrap(),
        0
    );
    let good: Vec<_> = messages
        .iter()
        .filter(|text| text.starts_with("good"))
        .map(|text| text.as_bytes().to_vec())
        .collect();
    assert_eq!(arrived(&receiver), good);
    let [counts] = counters(&lab.server)[..] else {
        panic!("one queue is open")
    };
    assert_eq!((counts.queue, counts.waiting, counts.last_id), (3, 0, 200));
    assert_eq!((counts.full, counts.unread), (0, 0));
}

#[test]
fn a_mark_set_by_a_verdict_is_seen_by_later_rules() {
    let Some(lab) = lab(&["-I INPUT -p udp --dport 9000 -j NFQUEUE --queue-num 0"]) else {
        return;
    };
    lab.server
        .sh("nft -f - <<END
        table inet later {
            chain in {
                type filter hook input priority 300
                udp dport 9000 meta mark 0x51 counter
                udp dport 9000 meta mark 0x52 drop
            }
        }\nEND")
        .unwrap();
    let queue = queues(&lab.server, &Settings::default()).pop().unwrap();
    let worker = Worker::start(queue, |packet| Verdict::Accept {
        mark: match packet.payload[28] {
            b'1' => Some(0x51),
            b'2' => Some(0x52),
            _ => None,
        },
    });
    let (receiver, sender) = pair(&lab);
    for message in ["1", "1", "2", "0", "1"] {
        sender.send(message.as_bytes()).unwrap();
    }
    assert_eq!(arrived(&receiver), [b"1", b"1", b"0", b"1"]);
    let rules = lab
        .server
        .run("nft", &["list", "chain", "inet", "later", "in"])
        .unwrap();
    assert!(rules.contains("counter packets 3"), "{rules}");
    drop(worker);
}

#[test]
fn without_a_listener_the_rule_decides_and_the_number_is_free_again() {
    let bypassed = ["-I INPUT -p udp --dport 9000 -j NFQUEUE --queue-num 0 --queue-bypass"];
    let closed = ["-I INPUT -p udp --dport 9000 -j NFQUEUE --queue-num 0"];
    for (rules, passes) in [(bypassed, true), (closed, false)] {
        let Some(lab) = lab(&rules) else { return };
        let (receiver, sender) = pair(&lab);
        let worker = Worker::start(
            queues(&lab.server, &Settings::default()).pop().unwrap(),
            |_| ACCEPT,
        );
        sender.send(b"served").unwrap();
        assert_eq!(arrived(&receiver), [b"served"]);

        let taken = lab.server.enter(|| open(&Settings::default())).unwrap();
        assert!(
            matches!(taken, Err(QueueError::Taken { number: 0 })),
            "{taken:?}"
        );

        let queue = worker.stop();
        sender.send(b"waits when its listener dies").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(counters(&lab.server)[0].waiting, 1);
        drop(queue);
        sender.send(b"later").unwrap();
        let expected: &[&[u8]] = if passes { &[b"later"] } else { &[] };
        assert_eq!(arrived(&receiver), expected, "bypass {passes}");

        let again = Worker::start(
            queues(&lab.server, &Settings::default()).pop().unwrap(),
            |_| ACCEPT,
        );
        sender.send(b"served again").unwrap();
        assert_eq!(arrived(&receiver), [b"served again"]);
        drop(again);
    }
}

#[test]
fn a_full_queue_passes_or_drops_as_told() {
    for fail_open in [true, false] {
        let Some(lab) = lab(&["-I INPUT -p udp --dport 9000 -j NFQUEUE --queue-num 0"]) else {
            return;
        };
        let settings = Settings {
            length: 5,
            fail_open,
            ..Settings::default()
        };
        let mut queue = queues(&lab.server, &settings).pop().unwrap();
        let (receiver, sender) = pair(&lab);
        for n in 0..12u8 {
            sender.send(&[n]).unwrap();
        }
        let overflow: Vec<Vec<u8>> = if fail_open {
            (5..12).map(|n| vec![n]).collect()
        } else {
            Vec::new()
        };
        assert_eq!(
            arrived(&receiver),
            overflow,
            "those beyond the fifth, open: {fail_open}"
        );
        assert_eq!(
            queue
                .serve(&mut Batch::default(), WAIT, |_| ACCEPT)
                .unwrap(),
            5
        );
        assert_eq!(
            arrived(&receiver),
            (0..5).map(|n| vec![n]).collect::<Vec<_>>()
        );
        let counts = counters(&lab.server)[0];
        // A packet that fails open is not counted by the kernel.
        assert_eq!(
            (counts.full, counts.waiting),
            (if fail_open { 0 } else { 7 }, 0)
        );
    }
}

#[test]
fn streams_arrive_whole_over_several_queues() {
    const LENGTH: usize = 64 << 20;
    let balance = "-p tcp -j NFQUEUE --queue-balance 10:11";
    let rules = [
        format!("-I INPUT {balance}"),
        format!("-I OUTPUT {balance}"),
    ];
    for whole_segments in [true, false] {
        let Some(lab) = lab(&[&rules[0], &rules[1]]) else {
            return;
        };
        let settings = Settings {
            first: 10,
            count: 2,
            whole_segments,
            ..Settings::default()
        };
        let longest = Arc::new(AtomicU64::new(0));
        let unfilled = Arc::new(AtomicU64::new(0));
        let used = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let workers: Vec<_> = queues(&lab.server, &settings)
            .into_iter()
            .map(|queue| {
                let (longest, unfilled, used) = (
                    Arc::clone(&longest),
                    Arc::clone(&unfilled),
                    Arc::clone(&used),
                );
                Worker::start(queue, move |packet| {
                    longest.fetch_max(packet.full_len as u64, Ordering::Relaxed);
                    unfilled.fetch_add(u64::from(packet.checksum_unfilled), Ordering::Relaxed);
                    used[usize::from(packet.queue - 10)].fetch_add(1, Ordering::Relaxed);
                    assert_eq!(packet.full_len, packet.payload.len());
                    assert!(packet.full_len <= 1500 || packet.whole_segments);
                    ACCEPT
                })
            })
            .collect();
        let begun = Instant::now();
        let listener = lab
            .server
            .enter(|| TcpListener::bind("10.77.1.1:5000").unwrap())
            .unwrap();
        let streams = 4;
        std::thread::scope(|scope| {
            for n in 0..streams {
                let client = &lab.client;
                scope.spawn(move || {
                    let mut stream = client
                        .enter(|| TcpStream::connect("10.77.1.1:5000").unwrap())
                        .unwrap();
                    let mut bytes = Bytes::new(n);
                    stream.write_all(&[n]).unwrap();
                    for _ in 0..LENGTH / usize::from(streams) / Bytes::CHUNK {
                        stream.write_all(bytes.next()).unwrap();
                    }
                });
            }
            for _ in 0..streams {
                let (mut stream, _) = listener.accept().unwrap();
                scope.spawn(move || {
                    let mut which = [0];
                    stream.read_exact(&mut which).unwrap();
                    let (mut bytes, mut got) = (Bytes::new(which[0]), vec![0; Bytes::CHUNK]);
                    for _ in 0..LENGTH / usize::from(streams) / Bytes::CHUNK {
                        stream.read_exact(&mut got).unwrap();
                        assert!(got == bytes.next(), "stream {} differs", which[0]);
                    }
                    assert_eq!(stream.read(&mut which).unwrap(), 0);
                });
            }
        });
        let rate = LENGTH as f64 * 8.0 / begun.elapsed().as_secs_f64() / 1e9;
        drop(workers);
        let longest = longest.load(Ordering::Relaxed);
        eprintln!(
            "whole segments {whole_segments}: {rate:.2} Gbit/s, longest packet {longest} bytes"
        );
        if whole_segments {
            assert!(longest > 1500);
            assert!(unfilled.load(Ordering::Relaxed) > 0);
        } else {
            assert!(longest <= 1500);
        }
        let used = [
            used[0].load(Ordering::Relaxed),
            used[1].load(Ordering::Relaxed),
        ];
        assert!(used[0] + used[1] > 100, "{used:?}");
        let lost: u64 = counters(&lab.server)
            .iter()
            .map(|counts| counts.full + counts.unread)
            .sum();
        assert_eq!(lost, 0);
    }
}

/// The same bytes on both ends of a stream, without a second copy of it: a xorshift generator.
struct Bytes {
    state: u64,
    chunk: Vec<u8>,
}

impl Bytes {
    const CHUNK: usize = 64 * 1024;

    fn new(seed: u8) -> Bytes {
        Bytes {
            state: 0x9e37_79b9_7f4a_7c15 ^ u64::from(seed),
            chunk: vec![0; Self::CHUNK],
        }
    }

    fn next(&mut self) -> &[u8] {
        for bytes in self.chunk.as_chunks_mut::<8>().0 {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            *bytes = self.state.to_le_bytes();
        }
        &self.chunk
    }
}

#[test]
fn a_large_packet_is_copied_as_far_as_asked() {
    let Some(lab) = lab(&["-I INPUT -p udp --dport 9000 -j NFQUEUE --queue-num 0"]) else {
        return;
    };
    let mut queue = queues(
        &lab.server,
        &Settings {
            copy: 100,
            ..Settings::default()
        },
    )
    .pop()
    .unwrap();
    let (receiver, sender) = pair(&lab);
    sender.send(&[7; 1000]).unwrap();
    let mut batch = Batch::new(1);
    let served = queue.serve(&mut batch, Duration::from_secs(2), |packet| {
        assert_eq!((packet.payload.len(), packet.full_len), (100, 1028));
        ACCEPT
    });
    assert_eq!(served.unwrap(), 1);
    assert_eq!(arrived(&receiver), [[7; 1000]]);
}

#[test]
fn conntrack_attributes_come_or_the_error_says_what_is_missing() {
    let Some(lab) =
        lab(&["-I INPUT -p udp --dport 9000 -m conntrack --ctstate NEW -j NFQUEUE --queue-num 0"])
    else {
        return;
    };
    match lab
        .server
        .enter(|| {
            open(&Settings {
                conntrack: true,
                ..Settings::default()
            })
        })
        .unwrap()
    {
        Ok(mut queues) => {
            let (_receiver, sender) = pair(&lab);
            sender.send(b"x").unwrap();
            let mut count = 0;
            let served = queues[0].serve(&mut Batch::new(1), Duration::from_secs(2), |packet| {
                count = packet.conntrack.count();
                ACCEPT
            });
            assert_eq!(served.unwrap(), 1);
            assert!(count > 0);
        }
        Err(QueueError::NoConntrack) => eprintln!("SKIPPED: {}", QueueError::NoConntrack),
        Err(other) => panic!("{other}"),
    }
}
