//! Rules that look into the payload: the game server that a bad login packet brings down.

use std::io::{Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::firewall::{Firewall, eventually};
use crate::network::{
    ATTACKER, Attempt, Echo, SERVER, SERVER_FOR_ATTACKER, SERVER6, connect, connect_from, echoes,
    tools, topology,
};

const GAME: &str = r#"
mode = "enforce"
on_failure = "ON_FAILURE"

[default]
inbound = "deny"
outbound = "allow"

[detect.payload]
hits = 3
window = "10m"
ban = "10m"

[[rule]]
name = "D2GS: bad login packet"
action = "deny"
direction = "in"
protocol = "tcp"
port = 4000
payload = { offset = 0, bytes = "68 ?? 00", min_len = 3 }

[[rule]]
name = "evil, however it is cut"
action = "deny"
direction = "in"
protocol = "tcp"
port = 4001
payload = { contains = "EVILSIGNATURE", stream = true, depth = 4096 }

[[rule]]
name = "game"
action = "allow"
direction = "in"
protocol = "tcp"
port = "4000-4001"
"#;

fn game(on_failure: &str) -> String {
    GAME.replace("ON_FAILURE", on_failure)
}

/// A rule about what the server says.
fn evil_answers(port: u16) -> String {
    format!(
        r#"
[[rule]]
name = "evil answers"
action = "deny"
direction = "out"
protocol = "tcp"
source_port = {port}
payload = {{ contains = "EVILSIGNATURE", stream = true, depth = 4096 }}
"#
    )
}

#[test]
fn a_bad_packet_is_dropped_and_its_sender_banned_in_the_end() {
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[4000]);
    let firewall = Firewall::start(&lab.server, &game("open"));
    for to in [SERVER, SERVER6] {
        let Attempt::Open(mut stream) = connect(&lab.client, to, 4000) else {
            panic!("{to}")
        };
        assert!(echoes(&mut stream, b"hello"), "good bytes pass to {to}");
        assert!(
            !echoes(&mut stream, &[0x68, 0x01, 0x00, 0x01]),
            "bad bytes do not pass to {to}"
        );
    }
    for _ in 0..3 {
        match connect(&lab.attacker, SERVER_FOR_ATTACKER, 4000) {
            Attempt::Open(mut stream) => assert!(!echoes(&mut stream, &[0x68, 0xff, 0x00])),
            other => assert!(other.is_silent(), "{other:?}"),
        }
    }
    eventually("the attacker is banned", Duration::from_secs(5), || {
        firewall
            .json("bans")
            .as_array()
            .unwrap()
            .iter()
            .any(|ban| ban["prefix"] == format!("{ATTACKER}/32"))
    });
    assert!(connect(&lab.attacker, SERVER_FOR_ATTACKER, 4000).is_silent());
    let alerts = firewall.ask("events --kind alert").stdout;
    assert!(alerts.contains("D2GS: bad login packet"), "{alerts}");
}

/// What stands behind a content rule is decided where content rules are: hits and sums count it all the same.
#[test]
fn what_is_let_in_behind_content_rules_is_counted_for_the_rule_that_lets_it_in() {
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[4000, 4002]);
    let policy = game("open").replace("\"4000-4001\"", "\"4000-4002\"")
        + "[[rule]]\nname = \"no site\"\naction = \"deny\"\nprotocol = \"tcp\"\nport = 4002\nhttp_host = \"a.example\"\n";
    let firewall = Firewall::start(&lab.server, &policy);
    let hits = || -> Vec<u64> {
        let rules = firewall.json("rules");
        let rules = rules.as_array().unwrap().iter();
        rules.map(|rule| rule["hits"].as_u64().unwrap()).collect()
    };
    let totals = || firewall.json("status")["totals"].clone();
    let sum = |name: &str| totals()[name].as_u64().unwrap();
    let before = sum("allowed");
    for port in [4000, 4002] {
        for to in [SERVER, SERVER6] {
            let Attempt::Open(mut stream) = connect(&lab.client, to, port) else {
                panic!("{to}")
            };
            for _ in 0..3 {
                assert!(echoes(&mut stream, b"hello"), "good bytes pass to {to}");
            }
        }
    }
    assert_eq!(hits(), [0, 0, 4, 0], "of a flow its first packet alone");
    assert!(sum("allowed") >= before + 4, "{}", totals());
    let Attempt::Open(mut stream) = connect(&lab.client, SERVER, 4000) else {
        panic!("not open")
    };
    assert!(!echoes(&mut stream, &[0x68, 0x01, 0x00, 0x01]));
    drop(stream);
    let found = hits();
    assert!(found[0] >= 1, "each packet that it drops: {found:?}");
    assert_eq!(found[1..], [0, 5, 0]);
    assert!(sum("dropped") >= found[0], "{}", totals());
    // At one moment: what was dropped is sent again.
    let at_once = totals();
    let [packets, allowed, dropped] =
        ["packets", "allowed", "dropped"].map(|name| at_once[name].as_u64().unwrap());
    assert!(packets >= allowed + dropped, "{at_once}");

    // Another set of protected addresses is no other policy, and takes nothing back.
    firewall.ask("allow 192.0.2.50");
    assert!(connect(&lab.client, SERVER, 4000).is_open());
    let again = hits();
    assert!(again[0] >= found[0], "{again:?}");
    assert_eq!(again[2], 6);
    let shown = firewall.ask("rules").stdout;
    let line = shown.lines().find(|line| line.contains("game")).unwrap();
    assert!(line.contains(" 6 "), "{shown}");
}

#[test]
fn a_pattern_over_two_segments_is_found() {
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[4001]);
    let firewall = Firewall::start(&lab.server, &game("open"));
    for to in [SERVER, SERVER6] {
        let Attempt::Open(mut stream) = connect(&lab.client, to, 4001) else {
            panic!("{to}")
        };
        assert!(
            echoes(&mut stream, b"harmless EVIL"),
            "the first half alone says nothing ({to})"
        );
        assert!(
            !echoes(&mut stream, b"SIGNATURE and more"),
            "the second half completes it ({to})"
        );
    }
    let alerts = firewall.ask("events --kind alert").stdout;
    assert!(alerts.contains("evil, however it is cut"), "{alerts}");
}

/// Of rules about answers user space sees one side alone; which connection that is of, the kernel says.
#[test]
fn a_second_connection_on_the_same_ports_is_looked_at_from_its_begin() {
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[4001, 4002]);
    let policy = game("open").replace("\"4000-4001\"", "\"4000-4002\"") + &evil_answers(4002);
    let firewall = Firewall::start(&lab.server, &policy);
    for (to, port) in [
        (SERVER, 4001),
        (SERVER, 4002),
        (SERVER6, 4001),
        (SERVER6, 4002),
    ] {
        let own = 45_000 + port;
        let mut first = connect_from(&lab.client, own, to, port);
        assert!(echoes(&mut first, b"harmless"), "{to} {port}");
        drop(first);
        let mut second = connect_from(&lab.client, own, to, port);
        assert!(echoes(&mut second, b"harmless EVIL"), "{to} {port}");
        assert!(!echoes(&mut second, b"SIGNATURE and more"), "{to} {port}");
    }
    let alerts = firewall.ask("events --kind alert").stdout;
    assert!(alerts.contains("evil answers"), "{alerts}");
}

/// Connection tracking has lost it, and takes the server for who began it, as that is heard first. What the client had said before, and
/// where, is still known.
#[test]
fn a_connection_that_the_kernel_has_lost_goes_on_when_its_server_speaks_first() {
    if !tools(&["conntrack"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    for more in ["", &evil_answers(4001)] {
        let firewall = Firewall::start(&lab.server, &(game("open") + more));
        let listener = lab.server.enter(|| TcpListener::bind("[::]:4001"));
        let listener = listener.unwrap().unwrap();
        for to in [SERVER, SERVER6] {
            let Attempt::Open(mut client) = connect(&lab.client, to, 4001) else {
                panic!("{to}")
            };
            let (mut server, _) = listener.accept().unwrap();
            server.set_nodelay(true).unwrap();
            let patience = Some(Duration::from_millis(700));
            server.set_read_timeout(patience).unwrap();
            for said in ["harmless", " EVIL", " and good", "EVIL"] {
                assert!(arrives(&mut client, &mut server, said), "{to} {said}");
                // Acknowledged, so that the server is heard first.
                std::thread::sleep(Duration::from_millis(150));
                lab.server.run("conntrack", &["-F"]).unwrap();
                for said in ["hello", "and more"] {
                    assert!(arrives(&mut server, &mut client, said), "{to} {said}");
                }
            }
            assert!(!arrives(&mut client, &mut server, "SIGNATURE"), "{to}");
        }
        let alerts = firewall.ask("events --kind alert").stdout;
        assert!(alerts.contains("evil, however it is cut"), "{alerts}");
    }
}

/// Whether what one side says comes to the other.
fn arrives(from: &mut TcpStream, to: &mut TcpStream, said: &str) -> bool {
    from.write_all(said.as_bytes()).unwrap();
    let mut heard = vec![0; said.len()];
    to.read_exact(&mut heard).is_ok() && heard == said.as_bytes()
}

#[test]
fn an_inspected_stream_carries_megabytes() {
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[4000, 4001]);
    let _firewall = Firewall::start(&lab.server, &game("open"));
    for port in [4000, 4001] {
        let Attempt::Open(mut stream) = connect(&lab.client, SERVER, port) else {
            panic!("{port}")
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        for round in 0..512 {
            let chunk = vec![b'a' + (round % 16) as u8; 4096];
            assert!(echoes(&mut stream, &chunk), "round {round} on {port}");
        }
    }
}

#[test]
fn without_the_daemon_open_lets_pass() {
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[4000]);
    let mut firewall = Firewall::start(&lab.server, &game("open"));
    let Attempt::Open(mut stream) = connect(&lab.client, SERVER, 4000) else {
        panic!("not open")
    };
    assert!(echoes(&mut stream, b"hello"));
    firewall.kill();
    assert!(
        echoes(&mut stream, b"still here"),
        "an established flow goes on"
    );
    let Attempt::Open(mut stream) = connect(&lab.client, SERVER, 4000) else {
        panic!("not open")
    };
    assert!(
        echoes(&mut stream, &[0x68, 0x01, 0x00]),
        "open means that nothing is held back"
    );
    assert!(
        connect(&lab.client, SERVER, 4002).is_silent(),
        "the rules in the kernel still hold"
    );
}

#[test]
fn without_the_daemon_closed_drops_what_it_would_have_seen() {
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[4000, 5000]);
    let policy = game("closed")
        + "\n[[rule]]\nname = \"plain\"\naction = \"allow\"\ndirection = \"in\"\nprotocol = \"tcp\"\nport = 5000\n";
    let mut firewall = Firewall::start(&lab.server, &policy);
    let Attempt::Open(mut stream) = connect(&lab.client, SERVER, 4000) else {
        panic!("not open")
    };
    assert!(echoes(&mut stream, b"hello"));
    firewall.kill();
    match connect(&lab.client, SERVER, 4000) {
        Attempt::Open(mut stream) => {
            stream.write_all(b"hello").unwrap();
            assert!(
                !echoes(&mut stream, b"anybody?"),
                "closed means that nothing unseen passes"
            );
        }
        other => assert!(other.is_silent(), "{other:?}"),
    }
    let Attempt::Open(mut stream) = connect(&lab.client, SERVER, 5000) else {
        panic!("plain rules do not suffer")
    };
    assert!(echoes(&mut stream, b"hello"));
}

/// The kernel writes into such options before it hands a packet up, and leaves the header's checksum as it was.
#[test]
fn who_records_the_way_of_packets_is_judged_as_everybody() {
    const TALK: &str = r#"
import socket, sys
talk = socket.socket()
talk.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([7, 11, 4]) + bytes(8) + b"\x01")
talk.settimeout(2)
talk.connect((sys.argv[1], 4000))
for words in b"hello", b"\x68\x01\x00\x01":
    talk.sendall(words)
    try:
        print(talk.recv(16))
    except TimeoutError:
        print("nothing")
"#;
    if !tools(&["python3"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    let _service = Echo::start(&lab.server, &[4000]);
    let firewall = Firewall::start(&lab.server, &game("open"));
    let said = lab.client.run("python3", &["-c", TALK, SERVER]).unwrap();
    assert_eq!(said, "b'hello'\nnothing\n");
    eventually("it is told", Duration::from_secs(5), || {
        let events = firewall.ask("events").stdout;
        events.contains("D2GS: bad login packet")
    });
    assert_eq!(firewall.json("status")["losses"]["nflog"], 0);
}
