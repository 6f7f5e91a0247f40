//! Floods whose every packet has another source, as fast as the kernel can make them, with an offender among them. A test binary
//! of its own: nothing else is measured while a flood runs.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "each test binary uses its own part of this")]
#[path = "../live/firewall.rs"]
mod firewall;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etherparse::PacketBuilder;
use firewall::{Firewall, eventually};
use lab::{LiveFrames, Netns, Topology, Web};

/// One flood at a time, where there can be one.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    match lab::available() {
        Ok(()) => Some(ALONE.lock().unwrap_or_else(PoisonError::into_inner)),
        Err(why) => {
            eprintln!("SKIPPED: {why}");
            None
        }
    }
}

const WEB: u16 = 9_090;
/// What the daemon may hold, in KiB.
const RESIDENT: u64 = 96 * 1_024;

/// Namespaces in which the server sends what it has for strangers to the client.
struct Stage {
    net: Topology,
    stop: AtomicBool,
    sent: AtomicU64,
}

impl Stage {
    fn new() -> Self {
        let net = Topology::new().unwrap();
        // So that the device takes what an XDP program sends to it.
        net.server
            .run("ethtool", &["-K", "a0", "gro", "on"])
            .unwrap();
        net.server
            .run("ip", &["route", "add", "default", "via", "10.77.1.2"])
            .unwrap();
        Self {
            net,
            stop: AtomicBool::new(false),
            sent: AtomicU64::new(0),
        }
    }

    /// An Ethernet frame from the attacker to the server.
    fn frame(
        &self,
        build: impl FnOnce(etherparse::PacketBuilderStep<etherparse::IpHeaders>) -> Vec<u8>,
    ) -> Vec<u8> {
        let (from, to) = (mac(&self.net.attacker, "s0"), mac(&self.net.server, "a0"));
        let headers = PacketBuilder::ethernet2(from, to).ipv4([0; 4], [10, 77, 2, 1], 64);
        build(headers)
    }

    /// Floods with so many copies of the frame, and meanwhile lets `offend` do what it does once the flood runs. Fails when the
    /// server does not answer the client, or the daemon grows.
    fn flood(
        &self,
        firewall: &Firewall<'_>,
        frame: &[u8],
        count: u64,
        offend: impl FnOnce() -> Option<lab::Guard>,
    ) {
        let frames = LiveFrames::new(&self.net.attacker, "s0", frame).unwrap();
        let _web = Web::start(&self.net.server, WEB).unwrap();
        std::thread::scope(|scope| {
            // Ends the flood, whatever becomes of this.
            let _end = End(&self.stop);
            self.curl("before");
            let flooding = scope.spawn(|| {
                frames.send(&self.net.attacker, count, || {
                    self.sent.fetch_add(1, Ordering::Relaxed);
                    !self.stop.load(Ordering::Relaxed)
                })
            });
            while self.sent.load(Ordering::Relaxed) < 3 && !flooding.is_finished() {
                std::thread::sleep(Duration::from_millis(10));
            }
            let offence = offend();
            let mut answered = 0;
            while !flooding.is_finished() {
                self.curl("during");
                answered += 1;
                std::thread::sleep(Duration::from_millis(250));
            }
            let sent = flooding.join().unwrap().unwrap();
            assert!(sent >= count, "{sent} sent");
            assert!(answered > 5, "the flood lasted for {answered} requests");
            self.curl("after");
            drop(offence);
            let resident = firewall.resident();
            println!("{sent} packets, {answered} requests, {resident} KiB resident at most");
            assert!(resident < RESIDENT, "{resident} KiB");
        });
    }

    fn curl(&self, when: &str) {
        let url = format!("http://10.77.1.1:{WEB}/");
        let page = self.net.client.run("curl", &["-sS", "-m", "10", &url]);
        assert_eq!(page.unwrap(), Web::PAGE, "{when} the flood");
    }
}

/// Says that all is over when dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn mac(netns: &Netns, device: &str) -> [u8; 6] {
    let text = netns.run("ip", &["-j", "link", "show", device]).unwrap();
    let links: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mac: Vec<u8> = links[0]["address"]
        .as_str()
        .unwrap()
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    mac.try_into().unwrap()
}

fn banned(firewall: &Firewall<'_>) -> Vec<(String, String)> {
    let bans = firewall.json("bans");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let bans = bans.as_array().unwrap().iter();
    bans.map(|ban| (text(&ban["prefix"]), text(&ban["detector"])))
        .collect()
}

#[test]
fn a_scanner_among_ten_million_sources_is_banned_and_nobody_else() {
    let Some(_alone) = alone() else { return };
    let stage = Stage::new();
    let policy = format!(
        "mode = \"enforce\"\n[[rule]]\naction = \"allow\"\nprotocol = \"tcp\"\nport = {WEB}\n"
    );
    let firewall = Firewall::start(&stage.net.server, &policy);
    stage.flood(&firewall, &datagram(&stage), 10_000_000, || {
        // A hundred ports in a second: too few for a sample of the flood to show it.
        let scan = "-q -n -S -p ++1 -c 100 -i u10000 10.77.2.1".split(' ');
        let scan: Vec<&str> = scan.collect();
        Some(stage.net.attacker.spawn("hping3", &scan).unwrap())
    });
    assert_eq!(
        banned(&firewall),
        [("10.77.2.2/32".to_owned(), "scan".to_owned())]
    );
}

/// A datagram to a port that nobody serves.
fn datagram(stage: &Stage) -> Vec<u8> {
    stage.frame(|headers| {
        let mut frame = Vec::new();
        headers.udp(4_000, 9).write(&mut frame, &[0; 18]).unwrap();
        // Without a checksum: the generator changes the source, which it covers.
        frame[40..42].fill(0);
        frame
    })
}

/// Each packet is looked at, and not the few alone that the kernel tells of.
#[test]
fn who_only_observes_millions_of_sources_does_not_grow() {
    let Some(_alone) = alone() else { return };
    for inbound in ["deny", "allow"] {
        let stage = Stage::new();
        let policy = format!("mode = \"observe\"\n[default]\ninbound = \"{inbound}\"\n");
        let firewall = Firewall::start(&stage.net.server, &policy);
        stage.flood(&firewall, &datagram(&stage), 4_000_000, || None);
    }
}

#[test]
fn forged_handshakes_do_not_keep_clients_out() {
    let Some(_alone) = alone() else { return };
    let stage = Stage::new();
    let policy = format!(
        "mode = \"enforce\"\n[[rule]]\naction = \"allow\"\nprotocol = \"tcp\"\nport = {WEB}\n"
    );
    let firewall = Firewall::start(&stage.net.server, &policy);
    let frame = stage.frame(|headers| {
        let mut frame = Vec::new();
        headers
            .tcp(4_000, WEB, 7, 1_024)
            .syn()
            .write(&mut frame, &[])
            .unwrap();
        frame
    });
    stage.flood(&firewall, &frame, 500_000, || None);
    assert_eq!(banned(&firewall), []);
}

/// The noise is denied packets of random sources, which use up what is logged.
fn is_banned_under_noise(program: &str, scan: &str) {
    let Some(_alone) = alone() else { return };
    let stage = Stage::new();
    let firewall = Firewall::start(&stage.net.server, "mode = \"enforce\"\n");
    let noise = "-S --flood --rand-source -q -n -p 7 10.77.1.1".split(' ');
    let noise: Vec<&str> = noise.collect();
    let noise = stage.net.client.spawn("hping3", &noise).unwrap();
    let denied = || {
        firewall.json("status")["totals"]["dropped"]
            .as_u64()
            .unwrap()
    };
    // Enough to fill whatever noise can fill.
    eventually("noise", Duration::from_secs(30), || denied() > 500_000);
    let scan: Vec<&str> = scan.split(' ').collect();
    stage.net.attacker.output(program, &scan).unwrap();
    let scanner = [("10.77.2.2/32".to_owned(), "scan".to_owned())];
    eventually("the ban", Duration::from_secs(5), || {
        banned(&firewall) == scanner
    });
    assert!(noise.running(), "{}", noise.stderr());
}

#[test]
fn a_scan_under_noise_is_banned() {
    is_banned_under_noise("nmap", "-n -Pn -sS -T4 -p 1-300 10.77.2.1");
}

/// Few and slow, as by chance alone no budget for noise would tell of them: but at ports that are quiet.
#[test]
fn six_ports_in_two_seconds_under_noise_are_banned() {
    is_banned_under_noise("hping3", "-q -n -S -p ++1 -c 6 -i u400000 10.77.2.1");
}

#[test]
fn a_hundred_ports_a_second_under_noise_are_banned() {
    is_banned_under_noise("hping3", "-q -n -S -p ++1 -c 200 -i u10000 10.77.2.1");
}
