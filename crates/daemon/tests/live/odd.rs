//! Scans as few people make them: in fragments, from privileged ports, with flags, payloads, options and protocols that scanners
//! offer to get past a firewall, by other tools, and from many addresses of one network.

use std::time::{Duration, Instant};

use lab::Guard;
use serde_json::Value;

use crate::scan::{ALLOW, DENY, ban_of};
use crate::scene::*;

/// For one scan, the slowest of which takes five seconds for what is needed.
const PATIENCE: Duration = Duration::from_secs(25);

/// What becomes of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Banned for so many closed ports at most.
    By(u64),
    /// Not banned: it could be somebody else's doing, or tells its sender nothing.
    Never,
}
use Outcome::{By, Never};

/// Name, program, words. `SRC` is the source's address and `DST` the server's.
type Case = (&'static str, &'static str, &'static str, Outcome);

const COMMON: &[Case] = &[
    ("fragments", "nmap", "-sS -f -p 100-111", By(5)),
    ("fragments of 24", "nmap", "-sS --mtu 24 -p 100-111", By(5)),
    (
        "SYNs with data",
        "nmap",
        "-sS --data-length 50 -p 100-111",
        By(5),
    ),
    ("from port 53", "nmap", "-sS -g 53 -p 100-111", By(5)),
    ("UDP from port 53", "nmap", "-sU -g 53 -p 100-111", By(5)),
    (
        "one a second",
        "nmap",
        "-sS --scan-delay 1s -p 100-111",
        By(5),
    ),
    (
        "record route",
        "nmap",
        "-sS --ip-options R -p 100-111",
        By(5),
    ),
    ("short lives", "nmap", "-sS --ttl 1 -p 100-111", By(5)),
    (
        "SYN and FIN",
        "nmap",
        "-sS --scanflags SYNFIN -p 100-111",
        By(3),
    ),
    (
        "URG and PSH",
        "nmap",
        "-sS --scanflags URGPSH -p 100-111",
        By(3),
    ),
    (
        "all flags",
        "nmap",
        "-sS --scanflags URGACKPSHRSTSYNFIN -p 100-111",
        By(3),
    ),
    ("SCTP INIT", "nmap", "-sY -p 100-111", By(5)),
    ("SCTP COOKIE-ECHO", "nmap", "-sZ -p 100-111", By(5)),
    ("wrong checksums", "nmap", "-sS --badsum -p 100-111", Never),
    ("RST", "hping3", "-R -p ++100 -c 12 -i u50000", Never),
    ("SYN-ACK", "hping3", "-S -A -p ++100 -c 12 -i u50000", Never),
    ("hping SYN", "hping3", "-S -p ++100 -c 12 -i u50000", By(5)),
    (
        "hping SYN with ECN",
        "hping3",
        "-S -X -Y -p ++100 -c 12 -i u50000",
        By(5),
    ),
    (
        "hping FIN and URG",
        "hping3",
        "-F -U -p ++100 -c 12 -i u50000",
        By(3),
    ),
    (
        "hping SYN and RST",
        "hping3",
        "-S -R -p ++100 -c 12 -i u50000",
        By(3),
    ),
    (
        "hping UDP",
        "hping3",
        "--udp -p ++100 -c 12 -i u50000",
        By(5),
    ),
    (
        "hping FIN in fragments",
        "hping3",
        "-F -f -d 64 -p ++100 -c 12 -i u50000",
        By(3),
    ),
    (
        "hping random port",
        "hping3",
        "-S -s 80 -k -p ++2000 -c 12 -i u50000",
        By(5),
    ),
];

/// Where all is allowed, hosts refuse the first few of these alone: the rest is told when the kernel forgets them.
const UDP: Case = (
    "UDP with payloads",
    "nmap",
    "-sU -p 53,69,111,123,137,161,500,520",
    By(5),
);

fn address(number: usize) -> String {
    format!("10.77.2.{}", 20 + number)
}

fn start(scene: &Scene, number: usize, case: &Case) -> Guard {
    let (_, program, words, _) = case;
    let source = address(number);
    let mut all: Vec<&str> = words.split(' ').collect();
    match *program {
        "nmap" => all.extend("-T4 -Pn -n --send-ip --max-retries 1 -e s0 -S".split(' ')),
        _ => all.extend("-n -q -I s0 -a".split(' ')),
    }
    all.extend([source.as_str(), SERVER_FOR_ATTACKER]);
    scene.net.attacker.spawn(program, &all).unwrap()
}

/// What is wrong with what became of a scan, if anything.
fn judge(case: &Case, ban: Option<&Value>) -> Result<(), String> {
    let (name, _, _, outcome) = case;
    let distinct = |ban: &Value| -> Option<u64> {
        let reason = ban["reason"].as_str()?;
        reason.split(" of ").nth(1)?.split(' ').next()?.parse().ok()
    };
    match (outcome, ban) {
        (Never, None) => Ok(()),
        (By(most), Some(ban))
            if ban["detector"] == "scan" && distinct(ban).is_some_and(|ports| ports <= *most) =>
        {
            println!("{name}: {}", ban["reason"]);
            Ok(())
        }
        (_, ban) => Err(format!("{name}: {outcome:?} and not {ban:?}")),
    }
}

/// Sends SYNs to twelve ports behind options that are longer than any copy of a packet that is looked at.
const LONG_CHAIN: &str = r#"
import socket, struct, sys, time
source, target = (socket.inet_pton(socket.AF_INET6, word) for word in sys.argv[1:3])
out = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
def summed(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
for port in range(100, 112):
    tcp = struct.pack("!HHIIBBHHH", 40000, port, 7, 0, 0x50, 2, 1024, 0, 0)
    pseudo = source + target + struct.pack("!IHBB", len(tcp), 0, 0, 6)
    tcp = tcp[:16] + struct.pack("!H", summed(pseudo + tcp)) + tcp[18:]
    options = b"".join(struct.pack("!BB", 0x1e, 250) + bytes(250) for _ in range(4))
    length = (len(options) + 2 + 7) // 8 * 8
    options += b"\0" * (length - 2 - len(options))
    chain = struct.pack("!BB", 6, length // 8 - 1) + options
    head = struct.pack("!IHBB", 6 << 28, len(chain) + len(tcp), 60, 64) + source + target
    out.sendto(head + chain + tcp, (sys.argv[2], 0))
    time.sleep(0.05)
"#;

/// An IPv6 network of its own, whose addresses the attacker has, and the server knows the way to.
fn network(scene: &Scene, number: usize) {
    let net = &scene.net;
    let addresses =
        (1..=16).map(|host| format!("ip -6 addr add fd9{number:x}::{host:x}/128 dev s0 nodad\n"));
    net.attacker.sh(&addresses.collect::<String>()).unwrap();
    let route = format!("fd9{number:x}::/64");
    net.server
        .run("ip", &["-6", "route", "add", &route, "dev", "a0"])
        .unwrap();
}

pub(crate) fn scans_over_ipv6_that_hide_are_banned() {
    let mut scene = Scene::new();
    for number in 0..2 {
        network(&scene, number);
    }
    let script = scene.write("chain.py", LONG_CHAIN);
    let config = scene.write("policy.toml", DENY);
    scene.start("", &config);
    // Each port from another address of one network.
    for host in 1..=6 {
        let source = format!("fd90::{host:x}");
        let port = (100 + host).to_string();
        let words = [
            "-6",
            "-sS",
            "-T5",
            "-Pn",
            "-n",
            "--max-retries",
            "0",
            "-p",
            &port,
            "-e",
            "s0",
            "-S",
            &source,
        ];
        scene
            .net
            .attacker
            .run("nmap", &[&words[..], &["fd77:2::1"]].concat())
            .unwrap();
    }
    let ban = scene.wait("ban of the network", || ban_of(&scene, "fd90::/64"));
    assert_eq!(
        (&ban["detector"], &ban["evidence"]["count"]),
        (&"scan".into(), &5.into()),
        "{ban}"
    );
    scene
        .net
        .attacker
        .run("python3", &[&script, "fd91::1", "fd77:2::1"])
        .unwrap();
    let ban = scene.wait("ban behind a long chain", || ban_of(&scene, "fd91::/64"));
    assert_eq!(ban["detector"], "scan", "{ban}");
    assert!(
        reaches(&scene.net.attacker, "fd77:2::1", 8080),
        "nobody else is banned"
    );
    scene.post("flush", Value::Null);
    assert_eq!(scene.table(), "");
    scene.stop();
}

fn unusual_scans_are_banned(policy: &str, cases: &[Case]) {
    let mut scene = Scene::new();
    for number in 0..cases.len() {
        let add = format!("ip addr add {}/24 dev s0", address(number));
        scene.net.attacker.sh(&add).unwrap();
    }
    let config = scene.write("policy.toml", policy);
    scene.start("", &config);
    let running: Vec<Guard> = (cases.iter().enumerate())
        .map(|(number, case)| start(&scene, number, case))
        .collect();
    let begun = Instant::now();
    let ban = |number: usize| ban_of(&scene, &format!("{}/32", address(number)));
    let expected = |number: &usize| matches!(cases[*number].3, By(_));
    while (0..cases.len())
        .filter(expected)
        .any(|number| ban(number).is_none())
        || running.iter().any(Guard::running) && begun.elapsed() < Duration::from_secs(6)
    {
        if begun.elapsed() > PATIENCE {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let wrong: Vec<String> = (cases.iter().enumerate())
        .filter_map(|(number, case)| {
            let why = judge(case, ban(number).as_ref()).err()?;
            let (out, err) = (running[number].stdout(), running[number].stderr());
            Some(format!("{why}\n{out}{err}"))
        })
        .collect();
    if !wrong.is_empty() {
        println!(
            "{}",
            std::fs::read_to_string(scene.path("log/firewall.log")).unwrap()
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(reaches(&scene.net.client, SERVER_FOR_CLIENT, 8080));
    scene.post("flush", Value::Null);
    assert_eq!(scene.table(), "");
    scene.stop();
}

pub(crate) fn unusual_scans_are_banned_where_all_is_denied() {
    unusual_scans_are_banned(DENY, &[COMMON, &[UDP]].concat());
}

pub(crate) fn unusual_scans_are_banned_where_all_is_allowed() {
    unusual_scans_are_banned(ALLOW, COMMON);
}
