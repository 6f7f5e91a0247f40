//! Names that are not resolved: dnsmasq answers for every name, dig and hand-made clients ask.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use lab::{Guard, Netns, Topology};

use crate::firewall::{Firewall, eventually};
use crate::network::{ATTACKER, CLIENT, SERVER, SERVER6, tools, topology};

const ATTACKER6: &str = "fd77:2::2";
/// What dnsmasq answers to whatever is asked.
const REAL: &str = "198.51.100.99";
const REAL6: &str = "2001:db8::99";

fn policy(answer: &str) -> String {
    format!(
        r#"
mode = "enforce"
[default]
inbound = "deny"
outbound = "allow"
forward = "allow"
[detect.scan]
enabled = false
[[rule]]
name = "names"
action = "allow"
direction = "in"
protocol = "udp,tcp"
port = 53
[dns]
block = ["ads.example", ".both.example"]
allow = ["fine.both.example"]
answer = "{answer}"
ttl = "90s"
log = "all"
"#
    )
}

/// Answers for every name, on all addresses of a namespace.
fn resolver(netns: &Netns) -> Guard {
    netns.run("ip", &["link", "set", "lo", "up"]).unwrap();
    let arguments = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file=",
        "--port=53",
        "--address=/#/198.51.100.99",
        "--address=/#/2001:db8::99",
    ];
    let resolver = netns.spawn("dnsmasq", &arguments).unwrap();
    eventually("dnsmasq answers", Duration::from_secs(10), || {
        dig(netns, "127.0.0.1", &["up.example"]).contains(REAL)
    });
    resolver
}

/// What dig says: the status, then the answers.
fn dig(from: &Netns, server: &str, words: &[&str]) -> String {
    let at = format!("@{server}");
    let mut arguments = vec![
        at.as_str(),
        "+tries=1",
        "+time=2",
        "+noall",
        "+comments",
        "+answer",
    ];
    arguments.extend(words);
    let output = from.output("dig", &arguments).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn scene() -> Option<Topology> {
    if !tools(&["dig", "dnsmasq"]) {
        return None;
    }
    let lab = topology()?;
    lab.forward(true).unwrap();
    lab.server.run("ip", &["link", "set", "lo", "up"]).unwrap();
    Some(lab)
}

/// A question for an A record.
fn question(name: &str) -> Vec<u8> {
    let mut bytes = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend(b"\0\0\x01\0\x01");
    bytes
}

/// Sends a datagram and gives the answer, if one comes.
fn datagram(from: &Netns, server: &str, message: &[u8], wait: Duration) -> Option<Vec<u8>> {
    let server = SocketAddr::new(server.parse().unwrap(), 53);
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => "0.0.0.0:0".parse().unwrap(),
        SocketAddr::V6(_) => "[::]:0".parse().unwrap(),
    };
    let socket = from.enter(|| UdpSocket::bind(local)).unwrap().unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(wait)).unwrap();
    socket.send(message).unwrap();
    let mut buffer = vec![0; 2_048];
    let len = socket.recv(&mut buffer).ok()?;
    buffer.truncate(len);
    Some(buffer)
}

/// The answer over a TCP connection on which the pieces are sent one by one.
fn pieces(from: &Netns, server: &str, pieces: &[&[u8]]) -> std::io::Result<Vec<u8>> {
    let server = SocketAddr::new(server.parse().unwrap(), 53);
    let mut stream = from
        .enter(|| TcpStream::connect_timeout(&server, Duration::from_secs(5)))
        .unwrap()?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    for piece in pieces {
        stream.write_all(piece)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[test]
fn blocked_names_are_answered_as_the_policy_says() {
    let Some(lab) = scene() else { return };
    let _resolvers = [resolver(&lab.server), resolver(&lab.attacker)];
    let firewall = Firewall::start(&lab.server, &policy("zero"));
    // To the firewall itself, through it, and from it: in, forward, out.
    let ways: [(&Netns, &str); 7] = [
        (&lab.client, SERVER),
        (&lab.client, SERVER6),
        (&lab.client, ATTACKER),
        (&lab.client, ATTACKER6),
        (&lab.server, ATTACKER),
        (&lab.server, ATTACKER6),
        (&lab.server, "127.0.0.1"),
    ];
    for (from, server) in ways {
        for name in [
            "ads.example",
            "AdS.eXaMpLe.",
            "both.example",
            "x.y.both.example",
        ] {
            let said = dig(from, server, &[name, "A"]);
            assert!(said.contains("status: NOERROR"), "{server} {name}: {said}");
            assert!(
                said.contains("\t90\tIN\tA\t0.0.0.0"),
                "{server} {name}: {said}"
            );
            assert!(said.contains("EDE: 15"), "{said}");
        }
        let said = dig(from, server, &["ads.example", "AAAA"]);
        assert!(said.contains("\tAAAA\t::\n"), "{server}: {said}");
        let said = dig(from, server, &["ads.example", "TXT"]);
        assert!(
            said.contains("NOERROR") && said.contains("ANSWER: 0"),
            "{server}: {said}"
        );
        for name in ["fine.both.example", "x.ads.example", "other.example."] {
            assert!(dig(from, server, &[name]).contains(REAL), "{server} {name}");
            let said = dig(from, server, &[name, "AAAA"]);
            assert!(said.contains(REAL6), "{server} {name}");
            assert!(
                dig(from, server, &[name, "+tcp"]).contains(REAL),
                "{server} {name}"
            );
        }
        let said = dig(from, server, &["ads.example", "+tcp"]);
        assert!(!said.contains("status:"), "{server}: {said}");
    }
    let tested = firewall.call(&["dns", "test", "other.example", "X.both.example.", "--json"]);
    assert_eq!(tested.code, 6, "{}", tested.stderr);
    assert!(
        tested.stdout.contains(r#""entry":".both.example""#),
        "{}",
        tested.stdout
    );
    firewall.ask("dns test fine.both.example");
    firewall.ask("dns reload");
    let totals = &firewall.json("status")["totals"];
    assert!(totals["dns_blocked"].as_u64().unwrap() >= 7 * 7, "{totals}");
    assert_eq!(firewall.json("status")["losses"]["answers"], 0);
    eventually("it is recorded", Duration::from_secs(5), || {
        let events = firewall.ask("events --kind dns --json").stdout;
        events.contains(r#""rrname":"x.y.both.example""#)
            && events.contains("blocked by .both.example")
    });

    for (answer, expected) in [
        ("nxdomain", "status: NXDOMAIN"),
        ("refuse", "status: REFUSED"),
        ("drop", "no servers could be reached"),
    ] {
        firewall.write(&policy(answer));
        firewall.ask("reload");
        for (from, server) in [
            (&lab.client, SERVER),
            (&lab.client, ATTACKER6),
            (&lab.server, ATTACKER),
        ] {
            let said = dig(from, server, &["ads.example"]);
            assert!(
                said.contains(expected) || (answer == "drop" && !said.contains("status:")),
                "{server}: {said}"
            );
            assert!(dig(from, server, &["other.example"]).contains(REAL));
        }
    }
}

#[test]
fn a_blocked_question_is_found_in_a_stream_however_it_is_cut() {
    let Some(lab) = scene() else { return };
    let _resolver = resolver(&lab.attacker);
    let _firewall = Firewall::start(&lab.server, &policy("zero"));
    let framed = |name: &str| {
        let message = question(name);
        [&(message.len() as u16).to_be_bytes(), &message[..]].concat()
    };
    let (bad, fine) = (framed("x.both.example"), framed("fine.both.example"));
    for server in [ATTACKER, ATTACKER6] {
        for cut in 1..bad.len() {
            let outcome = pieces(&lab.client, server, &[&bad[..cut], &bad[cut..]]);
            let error = outcome.expect_err("no answer").kind();
            assert_eq!(error, std::io::ErrorKind::ConnectionReset, "{cut}");
        }
        let bytes: Vec<&[u8]> = fine.chunks(1).collect();
        assert!(pieces(&lab.client, server, &bytes).is_ok());
        let bytes: Vec<&[u8]> = bad.chunks(1).collect();
        assert!(pieces(&lab.client, server, &bytes).is_err());
    }
    // Behind one that is answered.
    let both = [fine.clone(), bad].concat();
    assert!(pieces(&lab.client, ATTACKER, &[&both]).is_err());
}

/// An answer that comes when its question is forgotten makes the server the side that began the flow.
#[test]
fn a_late_answer_opens_no_way_for_questions() {
    let Some(lab) = scene() else { return };
    let _firewall = Firewall::start(&lab.server, &policy("zero"));
    let bind = |netns: &Netns, address: &str| {
        let address: SocketAddr = address.parse().unwrap();
        let socket = netns.enter(|| UdpSocket::bind(address)).unwrap().unwrap();
        let wait = Some(Duration::from_secs(2));
        socket.set_read_timeout(wait).unwrap();
        socket
    };
    let server = bind(&lab.attacker, &format!("{ATTACKER}:53"));
    let client = bind(&lab.client, "0.0.0.0:5301");
    let mut buffer = [0; 512];
    let mut late = question("slow.example");
    late[2] |= 0x80;
    server.send_to(&late, (CLIENT, 5301)).unwrap();
    client.recv(&mut buffer).unwrap();
    for name in ["x.both.example", "ads.example"] {
        client.send_to(&question(name), (ATTACKER, 53)).unwrap();
        client.recv(&mut buffer).unwrap();
    }
    client
        .send_to(&question("fine.example"), (ATTACKER, 53))
        .unwrap();
    let len = server.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], question("fine.example"), "the only one");
}

#[test]
fn messages_that_cannot_be_read_do_not_pass() {
    let Some(lab) = scene() else { return };
    let _resolver = resolver(&lab.attacker);
    let good = question("fine.both.example");
    let label = "a".repeat(63);
    let long = |last: usize| question(&format!("{label}.{label}.{label}.{}", "b".repeat(last)));
    let mut two = good.clone();
    two[5] = 2;
    two.extend_from_slice(&question("ads.example")[12..]);
    let cases = [
        ("a question", good.clone(), true),
        ("a name of 255 bytes", long(61), true),
        ("one of 256", long(62), false),
        (
            "a pointer to itself",
            [&good[..12], b"\xc0\x0c\0\x01\0\x01"].concat(),
            false,
        ),
        (
            "a loop of two",
            [&good[..12], b"\xc0\x0e\xc0\x0c\0\x01\0\x01"].concat(),
            false,
        ),
        ("two questions", two, false),
        ("a cut one", good[..20].to_vec(), false),
        ("nothing", Vec::new(), false),
    ];
    let firewall = Firewall::start(&lab.server, &policy("zero"));
    for server in [ATTACKER, ATTACKER6] {
        for (what, message, passes) in &cases {
            let wait = Duration::from_millis(if *passes { 5_000 } else { 300 });
            let answer = datagram(&lab.client, server, message, wait);
            assert_eq!(answer.is_some(), *passes, "{server}: {what}");
        }
    }
    let questions = &firewall.json("status")["totals"];
    assert!(
        questions["dns_questions"].as_u64().unwrap() >= 4,
        "{questions}"
    );
    let dropped = questions["dropped"].as_u64().unwrap();
    assert!(dropped >= 2 * 6, "what was dropped is counted: {questions}");
}

/// Labels are bytes: what is not ASCII, a dot or a NUL within one neither hides a name nor makes it another, and passes as it is.
#[test]
fn labels_of_any_bytes_are_judged_as_they_are() {
    let Some(lab) = scene() else { return };
    let _firewall = Firewall::start(&lab.server, &policy("zero"));
    let server = |address: &str| {
        let at: SocketAddr = address.parse().unwrap();
        let socket = lab.attacker.enter(|| UdpSocket::bind(at)).unwrap().unwrap();
        let wait = Some(Duration::from_millis(700));
        socket.set_read_timeout(wait).unwrap();
        socket
    };
    let servers = [
        (ATTACKER, server(&format!("{ATTACKER}:53"))),
        (ATTACKER6, server(&format!("[{ATTACKER6}]:53"))),
    ];
    let asked = |labels: &[&[u8]]| {
        let mut bytes = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        for label in labels {
            bytes.push(label.len() as u8);
            bytes.extend(*label);
        }
        bytes.extend(b"\0\0\x01\0\x01");
        bytes
    };
    for (what, labels, is_blocked) in [
        (
            "no UTF-8",
            &[&b"\xff\xfe"[..], b"both", b"example"][..],
            true,
        ),
        ("UTF-8", &["bücher".as_bytes(), b"BOTH", b"eXample"], true),
        ("a NUL", &[b"a\0b", b"both", b"example"], true),
        ("a dot", &[b"a.b", b"both", b"example"], true),
        (
            "control characters",
            &[b"\x1b[2J\r\n", b"both", b"example"],
            true,
        ),
        (
            "no UTF-8, elsewhere",
            &[b"\xff\xfe", b"other", b"example"],
            false,
        ),
        ("a NUL behind", &[b"both\0", b"example"], false),
        ("a dot as a part", &[b"x.both", b"example"], false),
        ("a dot in one label", &[b"both.example"], false),
        ("the high bit", &[b"\xe2oth", b"example"], false),
    ] {
        let message = asked(labels);
        for (address, server) in &servers {
            let wait = Duration::from_millis(if is_blocked { 5_000 } else { 50 });
            let answer = datagram(&lab.client, address, &message, wait);
            assert_eq!(answer.is_some(), is_blocked, "{what}, {address}");
            let mut buffer = [0; 512];
            match server.recv(&mut buffer) {
                Ok(len) => assert!(!is_blocked && buffer[..len] == message, "{what}, {address}"),
                Err(_) => assert!(is_blocked, "{what}, {address}: it did not pass"),
            }
        }
    }
}

#[test]
fn nothing_is_left_and_other_packets_do_not_wait() {
    let Some(lab) = scene() else { return };
    let before = lab.server.run("nft", &["list", "ruleset"]).unwrap();
    let mut firewall = Firewall::start(&lab.server, &policy("zero"));
    let with = lab.server.run("nft", &["list", "ruleset"]).unwrap();
    assert!(with.contains("jump questions"), "{with}");
    firewall.ask("flush");
    firewall.stop();
    assert_eq!(lab.server.run("nft", &["list", "ruleset"]).unwrap(), before);
}
