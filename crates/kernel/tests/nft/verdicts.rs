//! Real packets let through and stopped.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use policy::protocol::{ICMP, UDP};
use policy::{Action, AddressSet, DefaultAction, Protocols, RateUnit, Response, Rule, RuleId};
use portcullis_kernel::datapath::{Apply, Datapath as _};
use portcullis_kernel::tag::Cause;

use crate::plans::{limit, of, plan, ports, rule, set, tcp};
use crate::stage::{Lab, SERVER, ping, ping_allowed};

#[test]
fn connections_are_allowed_denied_and_rejected_on_both_families() {
    let Some(mut lab) = Lab::new() else { return };
    let mut policy = plan(vec![
        Rule {
            from: of(&["10.77.1.2/32", "fd77:1::/64"]),
            ..tcp("web", Action::Allow, 80)
        },
        tcp("no", Action::Reject, 81),
        tcp("never", Action::Deny, 82),
        Rule {
            protocols: Protocols::one(UDP),
            port: ports(&[(53, 53)]),
            ..rule("no dns", Action::Reject)
        },
    ]);
    for default in [
        DefaultAction::Deny,
        DefaultAction::Reject,
        DefaultAction::Allow,
    ] {
        policy.default.inbound = default;
        lab.apply(&policy);
        let listeners: Vec<_> = [80, 81, 82, 83]
            .map(|port| lab.listen(port))
            .into_iter()
            .collect();
        let rest = match default {
            DefaultAction::Deny => "silence",
            DefaultAction::Reject => "refused",
            DefaultAction::Allow => "open",
        };
        for address in SERVER {
            let found: Vec<&str> = [80, 81, 82, 83]
                .map(|port| lab.connect(address, port).name())
                .into_iter()
                .collect();
            assert_eq!(
                found,
                ["open", "refused", "silence", rest],
                "{address} {default:?}"
            );
            let refused = lab.net.client.enter(|| {
                let socket = UdpSocket::bind(if address.contains(':') {
                    "[::]:0"
                } else {
                    "0.0.0.0:0"
                })
                .unwrap();
                socket.connect((address, 53)).unwrap();
                socket
                    .set_read_timeout(Some(Duration::from_millis(500)))
                    .unwrap();
                socket.send(b"question").unwrap();
                socket.recv(&mut [0; 16]).unwrap_err().kind()
            });
            // "Administratively prohibited" reaches the sender.
            let refused = refused.unwrap();
            assert!(
                matches!(
                    refused,
                    std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::PermissionDenied
                ),
                "{refused:?}"
            );
        }
        drop(listeners);
        // A connection sends its SYN once when it is answered or refused, twice or more when it is dropped.
        assert_eq!(lab.count(Cause::Rule(RuleId(0))), 2);
        assert_eq!(lab.count(Cause::Rule(RuleId(1))), 2);
        assert!(lab.count(Cause::Rule(RuleId(2))) >= 2);
        assert_eq!(lab.count(Cause::Rule(RuleId(3))), 2);
        let again = lab.count(Cause::Rule(RuleId(0)));
        assert_eq!(again, 2, "reading does not reset");
    }
}

#[test]
fn outbound_rules_and_forwarding_decide_too() {
    let Some(mut lab) = Lab::new() else { return };
    lab.net.forward(true).unwrap();
    let out = Rule {
        directions: policy::Directions::one(policy::Direction::Out),
        to: of(&["10.77.1.2/32"]),
        ..tcp("out", Action::Reject, 90)
    };
    let forward = Rule {
        directions: policy::Directions::one(policy::Direction::Forward),
        interface: Some(policy::Interface::Named("c0".into())),
        protocols: Protocols::one(ICMP),
        ..rule("through", Action::Allow)
    };
    lab.apply(&plan(vec![out, forward, ping_allowed()]));
    let listener = lab
        .net
        .client
        .enter(|| TcpListener::bind("10.77.1.2:90").unwrap())
        .unwrap();
    let result = lab
        .net
        .server
        .enter(|| {
            TcpStream::connect_timeout(&"10.77.1.2:90".parse().unwrap(), Duration::from_millis(400))
        })
        .unwrap();
    assert_eq!(
        result.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    drop(listener);
    assert!(lab.reaches("10.77.2.2"), "the client may ping through");
    assert_eq!(
        ping(&lab.net.attacker, None, "10.77.1.2", 1),
        0,
        "the attacker may not"
    );
    for prefix in ["10.77.1.2/32", "10.77.2.2/32"] {
        lab.ban(prefix, None);
        assert!(
            !lab.pings("10.77.2.2"),
            "either end may be banned: {prefix}"
        );
        assert!(lab.with(|nft| nft.unban(prefix.parse().unwrap())).unwrap());
        assert!(lab.reaches("10.77.2.2"));
    }
}

/// One ping a minute, and ten at once.
fn few_pings() -> Rule {
    Rule {
        action: Action::Limit,
        rate: limit(1, RateUnit::Packets, 60, 10),
        ..ping_allowed()
    }
}

#[test]
fn rates_hold_for_connections_packets_and_the_detector() {
    let Some(mut lab) = Lab::new() else { return };
    // Packets, those of established flows too.
    // What an earlier rule lets pass is no business of a later limit.
    lab.apply(&plan(vec![ping_allowed(), few_pings()]));
    for address in SERVER {
        assert_eq!(ping(&lab.net.client, None, address, 30), 30, "{address}");
    }
    lab.apply(&plan(vec![few_pings()]));
    for address in SERVER {
        // The rule speaks of ICMPv6, so that neighbour discovery takes its share.
        let answered = ping(&lab.net.client, None, address, 30);
        assert!((8..=10).contains(&answered), "{address}: {answered}");
    }
    let over = lab.count(Cause::Limited(RuleId(0)));
    assert!((40..=44).contains(&over), "{over}");
    // Bytes: 480 at once and no more, though 600 come in the minute. A ping is of 28 bytes, or 48.
    lab.apply(&plan(vec![Rule {
        action: Action::Limit,
        rate: limit(600, RateUnit::Bytes, 60, 480),
        ..ping_allowed()
    }]));
    for (address, passed) in SERVER.into_iter().zip([16..=17, 6..=10]) {
        let answered = ping(&lab.net.client, None, address, 40);
        assert!(passed.contains(&answered), "{address}: {answered}");
    }
    // Connections: a burst of 3.
    let few = Rule {
        rate: limit(1, RateUnit::Connections, 60, 3),
        ..tcp("web", Action::Limit, 80)
    };
    lab.apply(&plan(vec![few]));
    let _listeners = lab.listen(80);
    let found: Vec<&str> = (0..5).map(|_| lab.connect(SERVER[0], 80).name()).collect();
    assert_eq!(found, ["open", "open", "open", "silence", "silence"]);
    // The detector: 50 packets a minute, established ones too, then a ban of its own.
    let mut watched = plan(vec![ping_allowed()]);
    watched.detect.rate = Some(policy::RateLimit {
        packets: 50,
        window: Duration::from_secs(60),
        established: true,
        response: Response::Ban,
        ban: Duration::from_secs(900),
        ignore: AddressSet::default(),
    });
    lab.apply(&watched);
    for address in SERVER {
        assert_eq!(ping(&lab.net.client, None, address, 40), 40);
    }
    assert!(lab.bans().is_empty());
    for address in SERVER {
        // Neighbour discovery counts too.
        let answered = ping(&lab.net.client, None, address, 40);
        assert!((8..=10).contains(&answered), "{address}: {answered}");
    }
    assert_eq!(
        lab.bans(),
        [
            ("10.77.1.2/32".to_owned(), Some(900)),
            ("fd77:1::/64".to_owned(), Some(900))
        ]
    );
    assert!(!lab.pings(SERVER[0]) && !lab.pings(SERVER[1]));
}

/// A connection from one port of the client's, which the server, with a byte unread, resets; whether there was one.
fn is_reset_by(lab: &Lab, listener: &TcpListener) -> bool {
    let server = listener.local_addr().unwrap();
    let connect = || {
        let family = if server.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::milliseconds(500)).unwrap();
        let own = if server.is_ipv4() {
            "0.0.0.0:41000"
        } else {
            "[::]:41000"
        };
        let own: SocketAddr = own.parse().unwrap();
        bind(socket.as_raw_fd(), &SockaddrStorage::from(own)).unwrap();
        let connected =
            nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(server));
        connected.is_ok().then(|| TcpStream::from(socket))
    };
    let Some(mut client) = lab.net.client.enter(connect).unwrap() else {
        return false;
    };
    let (accepted, _) = listener.accept().unwrap();
    client.write_all(b"x").unwrap();
    assert_eq!(accepted.peek(&mut [0]).unwrap(), 1);
    drop(accepted);
    let ended = client.read(&mut [0]).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::ConnectionReset);
    true
}

/// Connection tracking takes the SYN behind the server's reset for a part of what was reset.
#[test]
fn what_begins_behind_a_reset_is_decided_anew() {
    let Some(mut lab) = Lab::new() else { return };
    let few = Rule {
        rate: limit(1, RateUnit::Connections, 60, 3),
        ..tcp("web", Action::Limit, 80)
    };
    let listeners = lab.listen(80);
    for listener in &listeners {
        lab.apply(&plan(vec![few.clone()]));
        let found = [(); 5].map(|()| is_reset_by(&lab, listener));
        assert_eq!(found, [true, true, true, false, false]);
        lab.apply(&plan(vec![tcp("web", Action::Allow, 80)]));
        assert!(is_reset_by(&lab, listener));
        lab.apply(&plan(vec![]));
        assert!(
            !is_reset_by(&lab, listener),
            "it was let in under another policy"
        );
    }
}

/// A session of an administrator, or an address that comes, makes the table anew: nobody gets a full bucket by it.
#[test]
fn what_was_used_up_of_a_rate_stays_so_when_addresses_change() {
    let Some(mut lab) = Lab::new() else { return };
    let policy = plan(vec![few_pings()]);
    lab.apply(&policy);
    assert_eq!(ping(&lab.net.client, None, SERVER[0], 30), 10);
    let protected = set(&["192.0.2.77/32"]);
    let go_on = |lab: &mut Lab, goes_on| {
        lab.with(|nft| {
            nft.apply(&Apply {
                plan: &policy,
                protected: &protected,
                queues: None,
                goes_on,
            })
        })
        .unwrap();
    };
    for _ in 0..2 {
        go_on(&mut lab, true);
        assert_eq!(ping(&lab.net.client, None, SERVER[0], 10), 0);
    }
    go_on(&mut lab, false);
    assert_eq!(ping(&lab.net.client, None, SERVER[0], 30), 10);
}

#[test]
fn a_full_meter_lets_nobody_pass_unmeasured() {
    let Some(mut lab) = Lab::new() else { return };
    let mut policy = plan(vec![few_pings()]);
    policy.limits.sources = 2;
    lab.apply(&policy);
    let mut passed = 0;
    for host in 10..16 {
        let address = format!("10.77.1.{host}");
        lab.net
            .client
            .run(
                "ip",
                &["addr", "add", &format!("{address}/32"), "dev", "s0"],
            )
            .unwrap();
        passed += ping(&lab.net.client, Some(&address), SERVER[0], 1);
    }
    assert_eq!(passed, 2);
}

#[test]
fn impossible_packets_fall_and_nobody_asks_for_an_address_in_vain() {
    let Some(mut lab) = Lab::new() else { return };
    let mut policy = plan(vec![]);
    policy.default.inbound = DefaultAction::Allow;
    lab.apply(&policy);
    let hping = |lab: &Lab, args: &[&str]| {
        lab.net
            .client
            .output(
                "hping3",
                &[&["-c", "1", "-n", "-q"], args, &[SERVER[0]]].concat(),
            )
            .unwrap();
    };
    let flags = Cause::Impossible(engine::Impossible::TcpFlags);
    for (number, bad) in ["-F", "-SF", "-FPU", "-SR", "-Y"].iter().enumerate() {
        hping(&lab, &["-p", "80", bad]);
        assert_eq!(lab.count(flags), number as u64 + 1, "{bad}");
    }
    for good in ["-S", "-A", "-R", "-FA"] {
        hping(&lab, &["-p", "80", good]);
        assert_eq!(lab.count(flags), 5, "{good}");
    }
    let martian = Cause::Impossible(engine::Impossible::MartianSource);
    for (number, source) in ["127.0.0.5", "224.0.0.1", "255.255.255.255", "0.0.0.9"]
        .iter()
        .enumerate()
    {
        hping(&lab, &["--udp", "-p", "9", "-a", source]);
        assert_eq!(lab.count(martian), number as u64 + 1, "{source}");
    }
}

/// The log tells the first packets of 5,000 flows a second; how many more there were is counted, of flows and of packets that a rule
/// logs each.
#[test]
fn what_the_log_has_no_room_for_is_counted() {
    let Some(mut lab) = Lab::new() else { return };
    const FLOWS: u16 = 20_000;
    for log in [false, true] {
        let passes = Rule {
            log,
            protocols: Protocols::one(UDP),
            ..rule("passes", Action::Allow)
        };
        lab.apply(&plan(vec![passes]));
        let send = |lab: &Lab, ports: std::ops::Range<u16>| {
            let sent = lab.net.client.enter(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                for port in ports {
                    // A closed port's answer may come back as an error of the next.
                    let _ = socket.send_to(b"x", (SERVER[0], port));
                }
            });
            sent.unwrap();
        };
        send(&lab, 1..100);
        let counters = lab.with(|nft| nft.counters()).unwrap();
        assert_eq!(counters.flows_untold.packets, 0, "each was told");
        send(&lab, 1_000..1_000 + FLOWS);
        let counters = lab.with(|nft| nft.counters()).unwrap();
        let untold = counters.flows_untold.packets;
        assert!((1..=u64::from(FLOWS) - 5_000).contains(&untold), "{untold}");
    }
}
