//! The backend in namespaces: applied, read back, watched, taken out; real packets let through and stopped.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lab::Topology;
use policy::protocol::{ICMP, ICMPV6, UDP};
use policy::{
    Action, AddressSet, DefaultAction, NamedSet, Plan, Protocols, RateUnit, Response, Rule, RuleId,
    SetId,
};
use portcullis_kernel::datapath::{Applied, Apply, Datapath, DatapathError, Drift, Queues};
use portcullis_kernel::nft::{Features, Nft};
use portcullis_kernel::tag::Cause;

use crate::plans::{self, limit, of, plan, ports, rule, set, tcp};

/// Three namespaces and a backend in the server's; `None`, said loudly, where there can be none.
struct Lab {
    net: Topology,
    nft: Nft,
}

const SERVER: [&str; 2] = ["10.77.1.1", "fd77:1::1"];

impl Lab {
    fn new() -> Option<Self> {
        if let Err(why) = lab::available() {
            eprintln!("SKIPPED: {why}");
            return None;
        }
        Some(Self {
            net: Topology::new().unwrap(),
            nft: Nft::new(Features { queue: false }),
        })
    }

    fn with<R: Send>(&mut self, work: impl FnOnce(&mut Nft) -> R + Send) -> R {
        let nft = &mut self.nft;
        self.net.server.enter(|| work(nft)).unwrap()
    }

    fn apply(&mut self, plan: &Plan) -> Applied {
        self.try_apply(plan, None).unwrap()
    }

    fn try_apply(&mut self, plan: &Plan, queues: Option<Queues>) -> Result<Applied, DatapathError> {
        let protected = AddressSet::default();
        self.with(|nft| {
            nft.apply(&Apply {
                plan,
                protected: &protected,
                queues,
            })
        })
    }

    fn ban(&mut self, prefix: &str, secs: Option<u64>) {
        let prefix: IpNet = prefix.parse().unwrap();
        self.with(|nft| nft.ban(prefix, secs.map(Duration::from_secs)))
            .unwrap();
    }

    /// Bans and the seconds they have left, of which less than a hundred may have passed since they were made.
    fn bans(&mut self) -> Vec<(String, Option<u64>)> {
        let bans = self.with(Nft::bans).unwrap();
        let left = |left: Duration| left.as_secs().next_multiple_of(100);
        bans.iter()
            .map(|ban| (ban.prefix.to_string(), ban.remaining.map(left)))
            .collect()
    }

    fn count(&mut self, cause: Cause) -> u64 {
        self.with(Nft::counters).unwrap().of(cause).packets
    }

    fn ruleset(&self) -> String {
        let mut text = self.net.server.run("nft", &["list", "ruleset"]).unwrap();
        text.push_str(&self.net.server.run("iptables-nft-save", &[]).unwrap());
        text.push_str(&self.net.server.run("ip6tables-nft-save", &[]).unwrap());
        // The save formats carry the time of day.
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// Whether an echo request from the client is answered at once.
    fn pings(&self, target: &str) -> bool {
        ping(&self.net.client, None, target, 1) == 1
    }

    /// The same, with patience: a neighbour that could not be found is asked for again after a second.
    fn reaches(&self, target: &str) -> bool {
        (0..8).any(|_| self.pings(target))
    }

    /// Listens on a port of the server, on both families, for as long as the value lives.
    fn listen(&self, port: u16) -> Vec<TcpListener> {
        self.net
            .server
            .enter(|| {
                SERVER
                    .iter()
                    .map(|address| TcpListener::bind((*address, port)).unwrap())
                    .collect()
            })
            .unwrap()
    }

    /// What becomes of a connection from the client.
    fn connect(&self, address: &str, port: u16) -> Outcome {
        let target = format!(
            "{}:{port}",
            if address.contains(':') {
                format!("[{address}]")
            } else {
                address.to_owned()
            }
        );
        let begun = Instant::now();
        let result = self
            .net
            .client
            .enter(|| {
                TcpStream::connect_timeout(&target.parse().unwrap(), Duration::from_millis(400))
            })
            .unwrap();
        match result {
            Ok(stream) => Outcome::Open(stream),
            Err(why) if why.kind() == std::io::ErrorKind::ConnectionRefused => {
                assert!(begun.elapsed() < Duration::from_millis(300));
                Outcome::Refused
            }
            Err(_) => Outcome::Silence,
        }
    }
}

/// Sends so many echo requests of one flow, and counts the replies.
fn ping(from: &lab::Netns, source: Option<&str>, target: &str, count: u16) -> usize {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    from.sysctl("net.ipv4.ping_group_range", "0 2147483647")
        .unwrap();
    let (family, protocol, kind) = match target.contains(':') {
        true => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128),
        false => (AddressFamily::Inet, SockProtocol::Icmp, 8),
    };
    from.enter(|| {
        let socket = UdpSocket::from(
            socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol).unwrap(),
        );
        if let Some(source) = source {
            nix::sys::socket::bind(
                std::os::fd::AsRawFd::as_raw_fd(&socket),
                &nix::sys::socket::SockaddrStorage::from(std::net::SocketAddr::new(
                    source.parse().unwrap(),
                    0,
                )),
            )
            .unwrap();
        }
        socket.connect((target, 0)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(250)))
            .unwrap();
        for sequence in 0..count {
            let [high, low] = sequence.to_be_bytes();
            socket.send(&[kind, 0, 0, 0, 0, 0, high, low]).unwrap();
        }
        (0..count)
            .take_while(|_| socket.recv(&mut [0; 64]).is_ok())
            .count()
    })
    .unwrap()
}

fn assert_same(found: &[String], wanted: &[String]) {
    let differs: Vec<_> = found
        .iter()
        .zip(wanted)
        .filter(|(found, wanted)| found != wanted)
        .take(3)
        .collect();
    assert!(
        differs.is_empty() && found.len() == wanted.len(),
        "{differs:#?}"
    );
}

#[derive(Debug)]
enum Outcome {
    Open(TcpStream),
    Refused,
    Silence,
}

impl Outcome {
    fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Refused => "refused",
            Self::Silence => "silence",
        }
    }
}

fn ping_allowed() -> Rule {
    Rule {
        protocols: [ICMP, ICMPV6].into_iter().collect(),
        ..rule("ping", Action::Allow)
    }
}

#[test]
fn apply_reads_back_applies_again_and_leaves_no_trace() {
    let Some(mut lab) = Lab::new() else { return };
    lab.net.server.sh("nft add table inet other; nft add chain inet other c '{ type filter hook input priority 0; }'; nft add rule inet other c counter accept").unwrap();
    let before = lab.ruleset();
    assert!(matches!(
        lab.with(Nft::counters),
        Err(DatapathError::NotApplied)
    ));
    assert!(matches!(
        lab.with(|nft| nft.ban("192.0.2.7/32".parse().unwrap(), None)),
        Err(DatapathError::NotApplied)
    ));
    assert!(matches!(
        lab.with(|nft| nft.unban("192.0.2.7/32".parse().unwrap())),
        Err(DatapathError::NotApplied)
    ));
    for plan in [
        plans::server(),
        Plan::default(),
        plans::content_rules(),
        plans::server(),
    ] {
        let applied = lab.apply(&plan);
        assert!(applied.rules > 50 && applied.chains >= 30, "{applied:?}");
        assert_eq!(lab.with(Nft::check).unwrap(), Drift::None);
    }
    lab.with(Nft::remove).unwrap();
    assert_eq!(lab.ruleset(), before);
    lab.with(Nft::remove).unwrap();
    assert_eq!(lab.with(Nft::check).unwrap(), Drift::Gone);
}

#[test]
fn bans_survive_another_policy_and_another_capacity() {
    let Some(mut lab) = Lab::new() else { return };
    lab.apply(&plans::server());
    let bans: [(&str, Option<u64>); 6] = [
        ("192.0.2.7/32", Some(3_600)),
        ("198.51.100.0/24", Some(7_200)),
        ("203.0.113.9/32", None),
        ("2001:db8:1::/64", Some(3_600)),
        ("2001:db8:2::/48", None),
        ("2001:db8:3::5/128", Some(100)),
    ];
    for (prefix, secs) in bans {
        lab.ban(prefix, secs);
    }
    let wanted: Vec<(String, Option<u64>)> = bans
        .iter()
        .map(|(prefix, secs)| ((*prefix).to_owned(), *secs))
        .collect();
    assert_eq!(lab.bans(), wanted);
    assert_eq!(
        lab.with(Nft::check).unwrap(),
        Drift::None,
        "own bans are no drift"
    );
    lab.apply(&plans::content_rules());
    assert_eq!(lab.bans(), wanted);
    let mut larger = Plan::default();
    larger.ban.capacity = 50;
    lab.apply(&larger);
    assert_eq!(lab.bans(), wanted);
    // A second process takes over.
    lab.nft = Nft::new(Features { queue: false });
    assert!(matches!(
        lab.with(Nft::check).unwrap(),
        Drift::Changed { .. }
    ));
    lab.apply(&plans::server());
    assert_eq!(lab.bans(), wanted);
    assert!(
        lab.with(|nft| nft.unban("198.51.100.0/24".parse().unwrap()))
            .unwrap()
    );
    assert!(
        !lab.with(|nft| nft.unban("198.51.100.0/24".parse().unwrap()))
            .unwrap()
    );
    assert!(
        lab.with(|nft| nft.unban("203.0.113.9/32".parse().unwrap()))
            .unwrap()
    );
    assert!(
        !lab.with(|nft| nft.unban("203.0.113.9/32".parse().unwrap()))
            .unwrap()
    );
    assert_eq!(lab.bans().len(), 4);
}

#[test]
fn a_ban_cuts_within_milliseconds_is_refreshed_and_ends_by_itself() {
    let Some(mut lab) = Lab::new() else { return };
    lab.apply(&plan(vec![ping_allowed(), tcp("web", Action::Allow, 80)]));
    let listeners = lab.listen(80);
    let Outcome::Open(mut stream) = lab.connect(SERVER[0], 80) else {
        panic!("not connected")
    };
    let (mut accepted, _) = listeners[0].accept().unwrap();
    stream.write_all(b"before").unwrap();
    accepted.read_exact(&mut [0; 6]).unwrap();

    for (target, prefix) in [
        (SERVER[0], "10.77.1.2/32"),
        (SERVER[1], "fd77:1::/64"),
        (SERVER[0], "10.77.0.0/16"),
        (SERVER[1], "fd77:1::2/128"),
        (SERVER[1], "fd77::/16"),
    ] {
        assert!(lab.reaches(target));
        let begun = Instant::now();
        lab.ban(prefix, Some(3_600));
        assert!(
            begun.elapsed() < Duration::from_millis(50),
            "{:?}",
            begun.elapsed()
        );
        assert!(!lab.pings(target), "{prefix}");
        assert!(lab.with(|nft| nft.unban(prefix.parse().unwrap())).unwrap());
        assert!(lab.reaches(target), "{prefix}");
    }
    // Established connections are cut too.
    lab.ban("10.77.1.2/32", Some(3_600));
    stream.write_all(b"after").unwrap();
    accepted
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(accepted.read(&mut [0; 6]).is_err());
    assert!(lab.count(Cause::Banned) >= 6);
    // Banned anew, with another time left; then it runs out.
    lab.ban("10.77.1.2/32", Some(1));
    let left = lab.with(Nft::bans).unwrap()[0].remaining.unwrap();
    assert!(left <= Duration::from_secs(1), "{left:?}");
    std::thread::sleep(Duration::from_millis(1_300));
    assert!(lab.bans().is_empty());
    assert!(lab.reaches(SERVER[0]));
}

#[test]
fn prefix_bans_may_overlap_and_run_out_one_by_one() {
    let Some(mut lab) = Lab::new() else { return };
    lab.apply(&plan(vec![ping_allowed()]));
    lab.ban("10.77.1.0/25", Some(1));
    lab.ban("10.77.1.0/24", Some(3));
    lab.ban("10.77.0.0/16", Some(2));
    assert!(!lab.pings(SERVER[0]));
    std::thread::sleep(Duration::from_millis(1_200));
    // What ran out lies inside of what did not; a wider ban comes on top of the leftovers.
    lab.ban("10.77.0.0/17", Some(1));
    lab.ban("10.76.0.0/15", Some(2));
    assert!(!lab.pings(SERVER[0]));
    let covered: AddressSet = lab
        .with(Nft::bans)
        .unwrap()
        .iter()
        .map(|ban| ban.prefix)
        .collect();
    assert_eq!(covered, set(&["10.76.0.0/15"]));
    std::thread::sleep(Duration::from_millis(2_300));
    assert!(lab.reaches(SERVER[0]));
    assert!(lab.bans().is_empty());
    // Leftovers of ranges that ran out do not split a new one.
    lab.ban("10.77.1.0/28", Some(1));
    lab.ban("10.77.1.64/28", Some(1));
    std::thread::sleep(Duration::from_millis(1_200));
    lab.ban("10.77.1.0/24", Some(60));
    for host in ["10.77.1.2", "10.77.1.17", "10.77.1.90", "10.77.1.254"] {
        lab.net
            .client
            .run("ip", &["addr", "add", &format!("{host}/32"), "dev", "s0"])
            .ok();
        assert_eq!(ping(&lab.net.client, Some(host), SERVER[0], 1), 0, "{host}");
    }
}

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

#[test]
fn protected_addresses_pass_bans_and_feeds_but_not_rules() {
    let Some(mut lab) = Lab::new() else { return };
    let mut policy = plan(vec![
        tcp("never", Action::Deny, 82),
        ping_allowed(),
        tcp("web", Action::Allow, 80),
    ]);
    policy.sets = vec![NamedSet {
        name: "feed".into(),
        addresses: set(&["10.77.0.0/16", "fd77::/16"]),
    }];
    policy.feeds = vec![SetId(0)];
    lab.apply(&policy);
    assert!(!lab.pings(SERVER[0]) && !lab.pings(SERVER[1]));
    assert_eq!(lab.count(Cause::Feed(SetId(0))), 2);
    policy.protect.addresses = set(&["10.77.1.2/32", "fd77:1::2/128"]);
    lab.apply(&policy);
    lab.ban("10.77.1.2/32", None);
    lab.ban("fd77:1::/64", None);
    assert!(lab.reaches(SERVER[0]) && lab.reaches(SERVER[1]));
    let _listeners = lab.listen(82);
    assert_eq!(lab.connect(SERVER[0], 82).name(), "silence");
}

#[test]
fn a_ban_rule_bans_by_itself_but_never_the_protected() {
    let Some(mut lab) = Lab::new() else { return };
    let bait = tcp("bait", Action::Ban(Duration::from_secs(600)), 23);
    lab.apply(&plan(vec![bait.clone(), ping_allowed()]));
    assert!(lab.reaches(SERVER[0]) && lab.reaches(SERVER[1]));
    assert_eq!(lab.connect(SERVER[0], 23).name(), "silence");
    assert_eq!(lab.connect(SERVER[1], 23).name(), "silence");
    assert!(!lab.pings(SERVER[0]) && !lab.pings(SERVER[1]));
    let for_ten_minutes =
        ["10.77.1.2/32", "fd77:1::/64"].map(|prefix| (prefix.to_owned(), Some(600)));
    assert_eq!(lab.bans(), for_ten_minutes);
    for prefix in ["10.77.1.2/32", "fd77:1::/64"] {
        assert!(lab.with(|nft| nft.unban(prefix.parse().unwrap())).unwrap());
    }
    let mut kind = plan(vec![bait, ping_allowed()]);
    kind.protect.addresses = set(&["10.77.1.2/32", "fd77:1::3/128"]);
    lab.apply(&kind);
    assert_eq!(lab.connect(SERVER[0], 23).name(), "silence");
    assert_eq!(lab.connect(SERVER[1], 23).name(), "silence");
    assert!(lab.bans().is_empty());
    assert!(lab.reaches(SERVER[0]) && lab.reaches(SERVER[1]));
}

#[test]
fn rates_hold_for_connections_packets_and_the_detector() {
    let Some(mut lab) = Lab::new() else { return };
    // Packets, those of established flows too: a burst of 10 and one a minute.
    let slow = Rule {
        rate: limit(1, RateUnit::Packets, 60, 10),
        ..Rule {
            action: Action::Limit,
            ..ping_allowed()
        }
    };
    lab.apply(&plan(vec![slow]));
    for address in SERVER {
        // The rule speaks of ICMPv6, so that neighbour discovery takes its share.
        let answered = ping(&lab.net.client, None, address, 30);
        assert!((8..=10).contains(&answered), "{address}: {answered}");
    }
    let over = lab.count(Cause::Limited(RuleId(0)));
    assert!((40..=44).contains(&over), "{over}");
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

#[test]
fn a_full_meter_lets_nobody_pass_unmeasured() {
    let Some(mut lab) = Lab::new() else { return };
    let slow = Rule {
        rate: limit(1, RateUnit::Packets, 60, 10),
        ..Rule {
            action: Action::Limit,
            ..ping_allowed()
        }
    };
    let mut policy = plan(vec![slow]);
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
fn drift_is_seen_and_named() {
    let Some(mut lab) = Lab::new() else { return };
    lab.apply(&plans::server());
    let check = |lab: &mut Lab| lab.with(Nft::check).unwrap();
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(check(&mut lab), Drift::None);
    }
    eprintln!(
        "a check without changes, with a thread and its namespace: {:?}",
        begun.elapsed() / 100
    );
    lab.net
        .server
        .run("nft", &["add", "table", "inet", "foreign"])
        .unwrap();
    assert_eq!(check(&mut lab), Drift::Nearby);
    assert_eq!(check(&mut lab), Drift::None);
    for (script, wanted) in [
        (
            "nft insert rule inet portcullis rules_in accept",
            "chain rules_in was changed",
        ),
        (
            "nft flush chain inet portcullis default_in",
            "chain default_in was changed",
        ),
        (
            "nft add rule inet portcullis related drop",
            "chain related was changed",
        ),
        (
            "nft delete element inet portcullis set_1_v4 '{ 100.64.1.3 }'",
            "set set_1_v4 was changed",
        ),
        ("nft add chain inet portcullis mine", "chain mine was added"),
        (
            "nft add counter inet portcullis mine",
            "counter mine was added",
        ),
    ] {
        lab.net.server.sh(script).unwrap();
        assert_eq!(
            check(&mut lab),
            Drift::Changed {
                what: vec![wanted.to_owned()]
            },
            "{script}"
        );
        assert_eq!(
            check(&mut lab),
            Drift::Changed {
                what: vec![wanted.to_owned()]
            },
            "until it is put right: {script}"
        );
        lab.apply(&plans::server());
        assert_eq!(check(&mut lab), Drift::None, "{script}");
    }
    lab.net.server.run("nft", &["flush", "ruleset"]).unwrap();
    assert_eq!(check(&mut lab), Drift::Gone);
    lab.apply(&plans::server());
    assert_eq!(check(&mut lab), Drift::None);
}

#[test]
fn a_refused_script_changes_nothing_and_names_the_rule() {
    let Some(mut lab) = Lab::new() else { return };
    lab.apply(&plans::server());
    let before = lab.ruleset();
    let mut wrong = plans::server();
    wrong.rules[2].interface = Some(policy::Interface::Named("a\"b".into()));
    assert!(matches!(
        lab.try_apply(&wrong, None),
        Err(DatapathError::Inexpressible {
            rule: RuleId(2),
            ..
        })
    ));
    assert_eq!(lab.ruleset(), before);
    assert_eq!(lab.with(Nft::check).unwrap(), Drift::None);
}

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

#[test]
fn a_snapshot_brings_everything_back_even_by_a_stranger() {
    let Some(mut lab) = Lab::new() else { return };
    let empty = lab.ruleset();
    let nothing = lab.with(Nft::snapshot).unwrap();
    let mut policy = plans::server();
    policy.rules.push(Rule {
        id: RuleId(6),
        ..ping_allowed()
    });
    lab.apply(&policy);
    lab.ban("192.0.2.7/32", None);
    lab.ban("198.51.100.0/24", Some(3_600));
    lab.reaches(SERVER[0]);
    // Counters move, time passes, and the elements of a hash have no order.
    let stable = |lab: &Lab| -> Vec<String> {
        let text = lab.ruleset();
        let lines = text
            .lines()
            .filter(|line| !line.contains("expires") && !line.contains(" bytes "));
        lines
            .map(|line| {
                let mut words: Vec<&str> = line.split([' ', ',', '\t']).collect();
                words.sort_unstable();
                words.join(" ").trim().to_owned()
            })
            .collect()
    };
    let before = stable(&lab);
    let bans = lab.bans();
    let snapshot = lab.with(Nft::snapshot).unwrap();
    lab.try_apply(&plans::content_rules(), Some(Queues { first: 0, count: 1 }))
        .unwrap();
    lab.with(|nft| nft.restore(&snapshot)).unwrap();
    assert_same(&stable(&lab), &before);
    assert_eq!(lab.bans(), bans);
    assert_eq!(lab.with(Nft::check).unwrap(), Drift::None);

    lab.try_apply(&plans::content_rules(), Some(Queues { first: 0, count: 1 }))
        .unwrap();
    let text = serde_json::to_string(&snapshot).unwrap();
    let read: portcullis_kernel::datapath::Snapshot = serde_json::from_str(&text).unwrap();
    // A stranger in another time zone: shell and nft alone.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot.nft");
    std::fs::write(&file, &read.script).unwrap();
    let run = |words: &Vec<String>| {
        let args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        lab.net.server.run(&words[0], &args).unwrap();
    };
    read.before.iter().for_each(run);
    lab.net
        .server
        .sh(&format!("TZ=America/New_York nft -f {}", file.display()))
        .unwrap();
    read.after.iter().for_each(run);
    assert_same(&stable(&lab), &before);

    lab.with(|nft| nft.restore(&nothing)).unwrap();
    assert_eq!(lab.ruleset(), empty);
}

#[test]
fn a_hundred_thousand_addresses_load_below_a_second_and_ten_thousand_rules_apply() {
    let Some(mut lab) = Lab::new() else { return };
    let feed: AddressSet = (0..100_000u32)
        .map(|n| {
            IpNet::new(
                std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * 512).into(),
                if n % 10 == 0 { 24 } else { 32 },
            )
            .unwrap()
        })
        .collect();
    let mut policy = plans::server();
    policy.sets.push(NamedSet {
        name: "feed".into(),
        addresses: feed,
    });
    policy.feeds.push(SetId(2));
    let applied = lab.apply(&policy);
    assert_eq!(applied.elements, 100_000 + 20);
    eprintln!("100,000 addresses: {applied:?}");
    assert!(
        applied.took < Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 1_000 }),
        "{applied:?}"
    );

    let rules = (0..10_000u32).map(|n| {
        let action = [Action::Allow, Action::Deny, Action::Reject][n as usize % 3];
        match n % 4 {
            0 => Rule {
                from: of(&[&format!("10.{}.{}.0/24", n / 256 % 256, n % 256)]),
                ..tcp("subnet", action, (n % 1_000) as u16)
            },
            1 => Rule {
                from: of(&[&format!("2001:db8:{n:x}::/48")]),
                ..rule("site", action)
            },
            2 => Rule {
                protocols: Protocols::one(UDP),
                port: ports(&[(n as u16, n as u16 + 3)]),
                ..rule("udp", action)
            },
            _ => Rule {
                from: of(&[&format!("10.{}.{}.7/32", n / 256 % 256, n % 256)]),
                to: of(&["10.77.1.1/32"]),
                ..rule("host", action)
            },
        }
    });
    let mut policy = plan(rules.collect());
    policy.rules.push(Rule {
        id: RuleId(10_000),
        ..ping_allowed()
    });
    let policy = policy;
    let begun = Instant::now();
    let script = Nft::new(Features { queue: false })
        .script(&Apply {
            plan: &policy,
            protected: &AddressSet::default(),
            queues: None,
        })
        .unwrap();
    let compiled = begun.elapsed();
    if let Some(file) = std::env::var_os("SCRIPT_OUT") {
        std::fs::write(file, &script.text).unwrap();
    }
    let applied = lab.apply(&policy);
    eprintln!(
        "10,000 rules: compiled in {compiled:?}, {} bytes, {applied:?}",
        script.text.len()
    );
    assert!(compiled < Duration::from_secs(2), "{compiled:?}");
    assert!(lab.reaches(SERVER[0]));
    assert_eq!(lab.count(Cause::Rule(RuleId(10_000))), 1);
    let begun = Instant::now();
    lab.apply(&plans::server());
    eprintln!("back to a small policy: {:?}", begun.elapsed());
}

#[test]
fn a_hundred_thousand_bans_in_one_transaction() {
    let Some(mut lab) = Lab::new() else { return };
    lab.apply(&plan(vec![ping_allowed()]));
    let bans: Vec<(IpNet, Option<Duration>)> = (0..100_000u32)
        .map(|n| {
            (
                IpNet::new(
                    std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * 7).into(),
                    32,
                )
                .unwrap(),
                Some(Duration::from_secs(3_600)),
            )
        })
        .collect();
    let begun = Instant::now();
    lab.with(|nft| nft.bans_many(&bans)).unwrap();
    eprintln!("100,000 bans: {:?}", begun.elapsed());
    assert_eq!(lab.with(Nft::bans).unwrap().len(), 100_000);
    let full = lab.with(|nft| nft.ban("192.0.2.1/32".parse().unwrap(), None));
    assert!(matches!(full, Err(DatapathError::BansFull)), "{full:?}");
    // What is there already can be banned anew even so.
    lab.with(|nft| nft.ban(bans[5].0, None)).unwrap();
    assert!(
        lab.with(Nft::bans)
            .unwrap()
            .iter()
            .any(|ban| ban.prefix == bans[5].0 && ban.remaining.is_none())
    );
    assert!(
        lab.with(|nft| nft.bans_many(&[("192.0.2.1/32".parse().unwrap(), None)]))
            .is_err()
    );
    let begun = Instant::now();
    lab.apply(&plans::server());
    eprintln!("a policy over 100,000 bans: {:?}", begun.elapsed());
    assert_eq!(lab.with(Nft::bans).unwrap().len(), 100_000);
    let single = lab.with(|nft| {
        nft.unban(bans[0].0).unwrap();
        let begun = Instant::now();
        for _ in 0..100 {
            nft.ban(bans[0].0, Some(Duration::from_secs(60))).unwrap();
            nft.unban(bans[0].0).unwrap();
        }
        begun.elapsed() / 200
    });
    eprintln!("one ban by netlink: {single:?}");
    assert!(single < Duration::from_millis(5));
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
