//! nmap against the daemon: every kind of scan at every pace that fits into the short window, in both families, where all is
//! denied and where all is allowed.
//!
//! One ban must not hide the next case: each scan has a source of its own, an IPv4 address and an IPv6 `/64`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lab::{Guard, Netns};
use serde_json::Value;

use crate::scene::*;

/// Techniques of nmap by their option.
const TECHNIQUES: [&str; 10] = ["S", "T", "F", "N", "X", "A", "M", "W", "U", "O"];
/// Paces that fit into the short window, from nmap's "polite" (0.4 s a probe) to "insane".
const PACES: [u8; 4] = [2, 3, 4, 5];
/// Ports that nobody listens on, and protocols that end hosts have no use for.
pub(crate) const PORTS: &str = "100-111";
/// Scans that run at the same time.
const AT_ONCE: usize = 12;
/// For one scan: "polite" takes up to six seconds for what is needed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

pub(crate) const DENY: &str = r#"mode = "enforce"
[default]
inbound = "deny"
outbound = "allow"

[[rule]]
name = "services"
action = "allow"
direction = "in"
protocol = "tcp"
port = "8080"
"#;
pub(crate) const ALLOW: &str =
    "mode = \"enforce\"\n[default]\ninbound = \"allow\"\noutbound = \"allow\"\n";

/// One scan.
#[derive(Clone, Copy, Debug)]
struct Case {
    technique: usize,
    pace: usize,
    is_v6: bool,
}

impl Case {
    fn all() -> Vec<Self> {
        // The slowest first, so that nobody waits for one of them alone at the end.
        let paces = (0..PACES.len()).flat_map(|pace| [(pace, false), (pace, true)]);
        paces
            .flat_map(|(pace, is_v6)| {
                (0..TECHNIQUES.len()).map(move |technique| Self {
                    technique,
                    pace,
                    is_v6,
                })
            })
            .collect()
    }

    fn source(self) -> String {
        source(self.pace, self.technique, self.is_v6)
    }

    /// What a ban of it covers.
    fn prefix(self) -> String {
        if self.is_v6 {
            format!("fd8{}:{}::/64", self.pace, self.technique + 1)
        } else {
            format!("{}/32", self.source())
        }
    }

    fn start(self, crowd: &Crowd) -> Guard {
        let (scan, pace) = (
            format!("-s{}", TECHNIQUES[self.technique]),
            format!("-T{}", PACES[self.pace]),
        );
        let (source, target) = (self.source(), target(self.pace, self.is_v6));
        let mut words = vec![scan.as_str(), &pace, "-Pn", "-n", "--send-ip", "-p", PORTS];
        words.extend(["--max-retries", "1", "-S", &source, "-e", "s0"]);
        if self.is_v6 {
            words.push("-6");
        }
        words.push(&target);
        crowd.0[self.pace].spawn("nmap", &words).unwrap()
    }
}

/// The address that a scan comes from. What asks by `connect` cannot choose: it has the first.
fn source(pace: usize, technique: usize, is_v6: bool) -> String {
    let place = technique + 1;
    if is_v6 {
        format!("fd8{pace}:{place}::2")
    } else {
        format!("10.8{pace}.{place}.2")
    }
}

fn target(pace: usize, is_v6: bool) -> String {
    if is_v6 {
        format!("fd8{pace}:ff::1")
    } else {
        format!("10.8{pace}.255.1")
    }
}

/// A namespace with a cable to the server for each pace, with the sources of all techniques on it.
struct Crowd(Vec<Netns>);

impl Crowd {
    fn new(scene: &Scene) -> Self {
        let connecting = TECHNIQUES.iter().position(|&word| word == "T").unwrap();
        let join = |pace: usize| {
            let netns = Netns::new(&format!("crowd{pace}")).unwrap();
            let mut techniques: Vec<usize> = (0..TECHNIQUES.len()).collect();
            techniques.swap(0, connecting);
            let addresses: Vec<String> = techniques
                .iter()
                .flat_map(|&technique| {
                    [
                        source(pace, technique, false) + "/16",
                        source(pace, technique, true) + "/16",
                    ]
                })
                .collect();
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            let ours = [target(pace, false) + "/16", target(pace, true) + "/16"];
            let ours = ours.each_ref().map(String::as_str);
            let cable = format!("p{pace}");
            lab::veth(&netns, "s0", &addresses, &scene.net.server, &cable, &ours).unwrap();
            // Of addresses of one prefix the kernel takes the newest in IPv6, the first in IPv4: say which.
            let first = source(pace, connecting, true);
            let route = [
                "-6",
                "route",
                "replace",
                &format!("fd8{pace}::/16"),
                "dev",
                "s0",
                "src",
                &first,
            ];
            netns.run("ip", &route).unwrap();
            netns
        };
        Self((0..PACES.len()).map(join).collect())
    }
}

/// The ban of a prefix, as soon as there is one.
pub(crate) fn ban_of(scene: &Scene, prefix: &str) -> Option<Value> {
    let bans = scene.get("bans");
    let found = bans
        .as_array()
        .unwrap()
        .iter()
        .find(|ban| ban["prefix"] == prefix);
    found.cloned()
}

/// Runs every scan; gives what is wrong with those that went wrong.
fn run_all(scene: &Scene, crowd: &Crowd) -> Vec<String> {
    let cases = Case::all();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = run(scene, crowd, *case) {
                        wrong.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

/// Runs one scan until its source is banned.
fn run(scene: &Scene, crowd: &Crowd, case: Case) -> Result<(), String> {
    let what = format!(
        "-s{} -T{} from {}",
        TECHNIQUES[case.technique],
        PACES[case.pace],
        case.source()
    );
    let nmap = case.start(crowd);
    let begun = Instant::now();
    let ban = loop {
        if let Some(ban) = ban_of(scene, &case.prefix()) {
            break ban;
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!(
                "{what}: no ban\n{}{}",
                nmap.stdout(),
                nmap.stderr()
            ));
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let evidence = &ban["evidence"];
    let reason = ban["reason"].as_str().unwrap_or_default();
    let ports: Option<u32> =
        (reason.split(" of ").nth(1)).and_then(|rest| rest.split(' ').next()?.parse().ok());
    println!(
        "{what}: {reason} after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    if ban["detector"] != "scan"
        || ports.is_none_or(|ports| ports > 5)
        || evidence["proven"] != false
    {
        return Err(format!("{what}: {ban}"));
    }
    Ok(())
}

fn every_scan_is_banned_by_the_fifth_closed_port(policy: &str) {
    let mut scene = Scene::new();
    let crowd = Crowd::new(&scene);
    let config = scene.write("policy.toml", policy);
    scene.start("", &config);
    let wrong = run_all(&scene, &crowd);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (pace, netns) in crowd.0.iter().enumerate() {
        for is_v6 in [false, true] {
            let server = target(pace, is_v6);
            assert!(
                !connects(netns, &server, 8080),
                "{server}: banned is banned from all ports"
            );
        }
    }
    assert!(reaches(&scene.net.client, SERVER_FOR_CLIENT, 8080));
    assert!(
        reaches(&scene.net.attacker, "fd77:2::1", 8080),
        "who did not scan is let in"
    );
    scene.post("flush", Value::Null);
    assert_eq!(scene.table(), "");
    assert!(
        reaches(&crowd.0[0], &target(0, false), 8080),
        "and so is everybody when all is taken out"
    );
    scene.stop();
}

pub(crate) fn nmap_is_banned_by_the_fifth_port_where_all_is_denied() {
    every_scan_is_banned_by_the_fifth_closed_port(DENY);
}

pub(crate) fn nmap_is_banned_by_the_fifth_port_where_all_is_allowed() {
    every_scan_is_banned_by_the_fifth_closed_port(ALLOW);
}

/// The first IPv4 resolver that this machine's configuration names, which namespaces share.
fn resolver() -> Option<std::net::Ipv4Addr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").ok()?;
    let mut servers = text
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver"));
    servers.find_map(|server| {
        server
            .trim()
            .parse::<std::net::Ipv4Addr>()
            .ok()
            .filter(|address| !address.is_loopback())
    })
}

pub(crate) fn among_decoys_the_scanner_is_banned_and_nobody_that_is_needed() {
    among_decoys(false);
    among_decoys(true);
}

fn among_decoys(is_v6: bool) {
    let mut scene = Scene::new();
    for key in ["all", "default", "a0"] {
        scene
            .net
            .server
            .sysctl(&format!("net.ipv4.conf.{key}.rp_filter"), "0")
            .unwrap();
    }
    let family = if is_v6 { "-6" } else { "-4" };
    let (gateway, administrator, server) = if is_v6 {
        ("fd77:1::2", "2001:db8::1", "fd77:2::1")
    } else {
        (CLIENT, "198.51.100.1", SERVER_FOR_ATTACKER)
    };
    // The client is this server's gateway.
    let route = [family, "route", "add", "default", "via", gateway];
    scene.net.server.run("ip", &route).unwrap();
    let mut needed = vec![gateway.to_owned(), administrator.to_owned()];
    match resolver() {
        Some(address) if !is_v6 => needed.push(address.to_string()),
        Some(_) => {}
        None => eprintln!("SKIPPED in part: /etc/resolv.conf names no IPv4 resolver to be forged"),
    }
    let (source, banned) = if is_v6 {
        foreign_network(&scene);
        (Some("fd99::2"), "fd99::/64")
    } else {
        (None, "10.77.2.2/32")
    };
    let text = format!("{DENY}[protect]\naddresses = \"{administrator}\"\n");
    let config = scene.write("policy.toml", &text);
    scene.start("", &config);
    let protected = scene.get("status")["protected"].to_string();
    let host = if is_v6 { 128 } else { 32 };
    for address in &needed {
        assert!(
            protected.contains(&format!("{address}/{host}")),
            "{address}: {protected}"
        );
    }
    let decoys = needed.join(",") + ",ME";
    let mut words = vec!["-sS", "-T4", "-Pn", "-n", "--send-ip", "-p", PORTS];
    words.extend(["--max-retries", "0", "-e", "s0", "-D", &decoys]);
    if let Some(source) = source {
        words.extend(["-6", "-S", source]);
    }
    words.push(server);
    scene.net.attacker.run("nmap", &words).unwrap();
    let ban = scene.wait("a ban", || ban_of(&scene, banned));
    assert_eq!(ban["detector"], "scan", "{ban}");
    for address in &needed {
        // Their alerts show that they were taken for scanners.
        scene.log_line(&[" ALERT ", address, "vertical SYN scan"]);
    }
    let bans = scene.get("bans");
    assert_eq!(bans.as_array().unwrap().len(), 1, "{bans}");
    if !is_v6 {
        assert!(!connects(&scene.net.attacker, server, 8080));
    }
    let ours = if is_v6 {
        "fd77:1::1"
    } else {
        SERVER_FOR_CLIENT
    };
    assert!(reaches(&scene.net.client, ours, 8080), "the gateway");
    scene.post("flush", Value::Null);
    assert_eq!(scene.table(), "");
    scene.stop();
}

/// Gives the attacker an address of a network that is not this server's own: a ban over IPv6 is of a /64, and would hold its address.
pub(crate) fn foreign_network(scene: &Scene) {
    let address = ["-6", "addr", "add", "fd99::2/128", "dev", "s0", "nodad"];
    scene.net.attacker.run("ip", &address).unwrap();
    let route = ["-6", "route", "add", "fd99::/64", "dev", "a0"];
    scene.net.server.run("ip", &route).unwrap();
}
