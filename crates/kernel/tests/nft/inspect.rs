//! Content rules: packets handed up, and what comes back.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use policy::{Action, NamedSet, Plan, RateUnit, Rule, RuleId, SetId};
use portcullis_kernel::datapath::{Datapath as _, Drift, Queues, mark};
use portcullis_kernel::nft::{Features, Nft};

use crate::plans::{self, content, limit, plan, set, tcp};
use crate::stage::{Lab, Outcome, SERVER, Stop, ping};

#[test]
fn content_rules_hand_up_through_iptables_and_leave_no_trace() {
    let Some(mut lab) = Lab::new() else { return };
    let queues = Some(Queues { first: 0, count: 2 });
    for existing in [false, true] {
        if existing {
            lab.net.server.sh("iptables-nft -t security -A INPUT -s 192.0.2.77 -j DROP; ip6tables-nft -t security -N theirs").unwrap();
        }
        let before = lab.ruleset();
        lab.try_apply(&plans::content_rules(), queues).unwrap();
        let with = lab.ruleset();
        assert_eq!(with.matches("-A INPUT -m mark --mark 0x8000000/0x8000000 -j NFQUEUE --queue-balance 0:1 --queue-bypass").count(), 2, "{with}");
        // Again, with one queue and closed; and by another process.
        let mut closed = plans::content_rules();
        closed.on_failure = policy::OnFailure::Closed;
        lab.nft = Nft::new(Features { queue: false });
        lab.try_apply(&closed, Some(Queues { first: 7, count: 1 }))
            .unwrap();
        let with = lab.ruleset();
        assert_eq!(
            with.matches("-j NFQUEUE --queue-num 7\n").count(),
            6,
            "{with}"
        );
        assert_eq!(with.matches("-j NFQUEUE").count(), 6);
        // Nobody listens and the policy is closed: nothing passes on that port, other ports are not concerned.
        let _listeners = (lab.listen(4_000), lab.listen(4_001));
        assert_eq!(lab.connect(SERVER[0], 4_000).name(), "silence");
        assert!(lab.with(Nft::counters).unwrap().handed_up[&RuleId(0)].packets >= 1);
        // Open: the kernel lets them pass.
        lab.try_apply(&plans::content_rules(), queues).unwrap();
        assert_eq!(lab.connect(SERVER[0], 4_000).name(), "open");
        assert_eq!(lab.with(Nft::check).unwrap(), Drift::None);
        lab.net
            .server
            .sh("iptables-nft -t security -F OUTPUT")
            .unwrap();
        assert!(matches!(
            lab.with(Nft::check).unwrap(),
            Drift::Changed { .. }
        ));
        // A plan without content rules needs none of it.
        lab.apply(&plans::server());
        assert!(!lab.ruleset().contains("NFQUEUE"));
        lab.try_apply(&plans::content_rules(), queues).unwrap();
        lab.with(Nft::remove).unwrap();
        assert_eq!(lab.ruleset(), before, "existing: {existing}");
    }
}

/// Serves a queue in the server until told to stop: `evil` is dropped, `no` is rejected, `done` settles its flow. Gives what
/// it was handed: whether the flow was answered, and the payload of TCP.
fn serve(
    lab: &Lab,
    number: u16,
    stop: &std::sync::atomic::AtomicBool,
    seen: &std::sync::Mutex<Vec<(bool, Vec<u8>)>>,
) {
    use portcullis_kernel::nfqueue::{Batch, Queue, Settings, Verdict};
    let mut queue = lab
        .net
        .server
        .enter(|| Queue::open(number, &Settings::default()))
        .unwrap()
        .unwrap();
    let mut batch = Batch::new(16);
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let served = queue.serve(&mut batch, Duration::from_millis(20), |packet| {
            let Ok(wire::Frame::Ip(parsed)) =
                wire::parse(wire::Link::RawIp, packet.payload, packet.payload.len())
            else {
                return Verdict::Drop;
            };
            let payload = parsed.payload().to_vec();
            let mark = |bits| Verdict::Accept {
                mark: Some(packet.mark & !mark::ALL | bits),
            };
            let verdict = match &payload[..] {
                b"evil" => Verdict::Drop,
                b"no" => mark(mark::REJECT),
                b"done" => mark(mark::SETTLED),
                _ => mark(0),
            };
            seen.lock()
                .unwrap()
                .push((packet.mark & mark::ESTABLISHED != 0, payload));
            verdict
        });
        served.unwrap();
    }
}

#[test]
fn user_space_drops_rejects_and_settles() {
    let Some(mut lab) = Lab::new() else { return };
    let mut policy = plan(vec![
        Rule {
            content: content(false),
            ..tcp("content", Action::Deny, 4_000)
        },
        tcp("game", Action::Allow, 4_000),
        tcp("other", Action::Allow, 4_002),
    ]);
    policy.on_failure = policy::OnFailure::Closed;
    lab.try_apply(&policy, Some(Queues { first: 3, count: 1 }))
        .unwrap();
    let listeners = lab.listen(4_000);
    let (stop, seen) = (
        std::sync::atomic::AtomicBool::new(false),
        std::sync::Mutex::new(Vec::new()),
    );
    let take = || std::mem::take(&mut *seen.lock().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| serve(&lab, 3, &stop, &seen));
        let _stop = Stop(&stop);
        std::thread::sleep(Duration::from_millis(100));
        for (at, address) in SERVER.into_iter().enumerate() {
            let begin = || {
                let Outcome::Open(stream) = lab.connect(address, 4_000) else {
                    panic!("{address}: not connected")
                };
                let accepted = listeners[at].accept().unwrap().0;
                accepted
                    .set_read_timeout(Some(Duration::from_millis(300)))
                    .unwrap();
                (stream, accepted)
            };
            let (mut client, mut server) = begin();
            let handshake = take();
            assert!(
                handshake
                    .iter()
                    .any(|(answered, payload)| !answered && payload.is_empty()),
                "the SYN is handed up: {handshake:?}"
            );
            client.write_all(b"fine").unwrap();
            server.read_exact(&mut [0; 4]).unwrap();
            assert!(take().contains(&(true, b"fine".to_vec())), "{address}");
            client.write_all(b"evil").unwrap();
            assert!(server.read(&mut [0; 8]).is_err(), "{address}: dropped");
            assert!(take().contains(&(true, b"evil".to_vec())));

            let (mut client, mut server) = begin();
            client.write_all(b"no").unwrap();
            let refused = server.read(&mut [0; 8]);
            assert!(refused.is_err(), "{address}: {refused:?}");
            client
                .set_read_timeout(Some(Duration::from_millis(500)))
                .unwrap();
            assert_eq!(
                client.read(&mut [0; 8]).unwrap_err().kind(),
                std::io::ErrorKind::ConnectionReset,
                "{address}"
            );

            let (mut client, mut server) = begin();
            client.write_all(b"done").unwrap();
            server.read_exact(&mut [0; 4]).unwrap();
            take();
            client.write_all(b"evil").unwrap();
            server.read_exact(&mut [0; 4]).unwrap();
            assert!(take().is_empty(), "{address}: settled flows are left alone");
        }
    });
    // The marks are gone from what passed on.
    let marks = lab
        .net
        .server
        .run("nft", &["list", "chain", "inet", "portcullis", "late"])
        .unwrap();
    assert!(marks.contains("0x20ffffff"), "{marks}");
}

#[test]
fn the_log_says_verdict_and_reason() {
    use portcullis_kernel::nflog::{Log, Settings};
    use portcullis_kernel::tag::LogTag;
    let Some(mut lab) = Lab::new() else { return };
    let mut policy = plan(vec![
        tcp("web", Action::Allow, 80),
        tcp("no", Action::Reject, 81),
        Rule {
            rate: limit(1, RateUnit::Connections, 60, 1),
            ..tcp("few", Action::Limit, 82)
        },
        tcp("bait", Action::Ban(Duration::from_secs(60)), 83),
    ]);
    policy.sets = vec![NamedSet {
        name: "feed".into(),
        addresses: set(&["10.77.2.2/32"]),
    }];
    policy.feeds = vec![SetId(0)];
    lab.apply(&policy);
    let mut log = lab
        .net
        .server
        .enter(|| {
            Log::open(&Settings {
                gather: 1,
                ..Settings::default()
            })
        })
        .unwrap()
        .unwrap();
    let _listeners = [80, 82].map(|port| lab.listen(port));
    for port in [80, 81, 82, 82, 9, 83] {
        lab.connect(SERVER[0], port);
    }
    lab.connect(SERVER[0], 80);
    assert_eq!(ping(&lab.net.attacker, None, SERVER[0], 1), 0);
    let mut tags: Vec<String> = Vec::new();
    while log
        .receive(Duration::from_millis(300), |packet| {
            let tag = LogTag::parse(packet.prefix).unwrap().to_string();
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        })
        .unwrap()
        > 0
    {}
    for wanted in [
        "pc:allow:rule:0",
        "pc:reject:rule:1",
        "pc:allow:rule:2",
        "pc:drop:limited:2",
        "pc:drop:default-in",
        "pc:ban:rule:3",
        "pc:drop:banned",
        "pc:drop:feed:0",
    ] {
        assert!(
            tags.iter().any(|tag| tag == wanted),
            "{wanted} is not in {tags:?}"
        );
    }
}

#[test]
fn marks_of_others_open_no_way_past_bans_and_rules() {
    let Some(mut lab) = Lab::new() else { return };
    let mut names = plan(Vec::new());
    names.dns = Some(plans::names(&[(53, 53)]));
    let content = |action| {
        plan(vec![Rule {
            content: content(false),
            ..tcp("content", action, 4_000)
        }])
    };
    // What sends nothing in the place of others lets nothing pass for it.
    for (policy, sends) in [
        (names, true),
        (content(Action::Reject), true),
        (content(Action::Deny), false),
    ] {
        marks_of_others_open_no_way(&mut lab, &policy, sends);
    }
}

fn marks_of_others_open_no_way(lab: &mut Lab, policy: &Plan, sends: bool) {
    lab.try_apply(policy, Some(Queues { first: 0, count: 1 }))
        .unwrap();
    lab.ban("10.77.1.2/32", Some(600));
    let send = |mark: u32| {
        let server = &lab.net.server;
        let sent = server.enter(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Mark, &mark).unwrap();
            socket.send_to(b"x", "10.77.1.2:9").is_ok()
        });
        sent.unwrap()
    };
    for (sent, passes) in [
        (0, false),
        (mark::FORGED, sends),
        // Of somebody's routing beside ours.
        (mark::FORGED | 0xca6c, sends),
        (0x6d6f_6c65, false),
        (u32::MAX, false),
        (mark::FORGED | mark::SETTLED, false),
    ] {
        assert_eq!(send(sent), passes, "{sent:#x}");
    }
}
