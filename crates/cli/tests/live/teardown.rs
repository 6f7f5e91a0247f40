//! What is ours goes, what is others' stays.

use lab::Netns;

use crate::firewall::Firewall;
use crate::network::{ATTACKER, Echo, SERVER, connect, tools, topology};

/// What the kernel holds of every firewall, as far as it can be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    nft: String,
    iptables: [String; 4],
}

impl Kernel {
    pub(crate) fn of(netns: &Netns) -> Self {
        let saved = |program: &str| match netns.output(program, &[]) {
            // Comments hold the time.
            Ok(output) => String::from_utf8_lossy(&output.stdout)
                .lines()
                .filter(|line| !line.starts_with('#'))
                .map(|line| format!("{line}\n"))
                .collect(),
            Err(_) => String::new(),
        };
        Self {
            nft: netns.run("nft", &["list", "ruleset"]).unwrap(),
            iptables: [
                "iptables-save",
                "ip6tables-save",
                "iptables-legacy-save",
                "ip6tables-legacy-save",
            ]
            .map(saved),
        }
    }
}

/// Tables of somebody else: one with the name that iptables uses, one with a set and a chain at our hooks.
const FOREIGN: &str = "
add table inet foreign
add set inet foreign friends { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }
add chain inet foreign input { type filter hook input priority -10; policy accept; }
add rule inet foreign input ip saddr @friends tcp dport 22 accept
add table ip nat
add chain ip nat postrouting { type nat hook postrouting priority srcnat; policy accept; }
add rule ip nat postrouting ip saddr 10.99.0.0/16 masquerade
";

const POLICY: &str = r#"
mode = "enforce"
[default]
inbound = "deny"
outbound = "allow"

[sets]
feed = ["198.51.100.0/24"]

[[rule]]
name = "content"
action = "deny"
direction = "in"
protocol = "tcp"
port = 4000
payload = { contains = "bad" }

[[rule]]
name = "web"
action = "allow"
direction = "in"
protocol = "tcp"
port = "4000,8080"
"#;

#[test]
fn flush_leaves_the_kernel_as_it_was() {
    if !tools(&["nft", "iptables-save"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    let foreign = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(foreign.path(), FOREIGN).unwrap();
    lab.server
        .run("nft", &["-f", foreign.path().to_str().unwrap()])
        .unwrap();
    // Read twice: reading itself may make the empty tables of iptables.
    Kernel::of(&lab.server);
    let before = Kernel::of(&lab.server);
    let _services = Echo::start(&lab.server, &[22, 8080]);

    let mut firewall = Firewall::start(&lab.server, POLICY);
    let during = Kernel::of(&lab.server);
    assert!(during.nft.contains("table inet portcullis"));
    for line in before.nft.lines() {
        assert!(
            during.nft.contains(line),
            "{line:?} of somebody else is gone:\n{}",
            during.nft
        );
    }
    assert!(connect(&lab.client, SERVER, 22).is_silent());
    firewall.ask(&format!("ban {ATTACKER}"));
    firewall.ask("reload");
    firewall.ask("flush");
    assert_eq!(
        Kernel::of(&lab.server),
        before,
        "after flush with the daemon"
    );
    assert!(connect(&lab.client, SERVER, 22).is_open());
    firewall.stop();
    assert_eq!(Kernel::of(&lab.server), before, "after the daemon ended");
}

#[test]
fn flush_works_without_the_daemon() {
    if !tools(&["nft", "iptables-save"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    Kernel::of(&lab.server);
    let before = Kernel::of(&lab.server);
    let mut firewall = Firewall::start(&lab.server, POLICY);
    firewall.kill();
    assert_ne!(Kernel::of(&lab.server), before);
    let socket = firewall
        .policy()
        .with_file_name("api.sock")
        .display()
        .to_string();
    let binary = crate::common::binary().to_str().unwrap();
    lab.server
        .run(binary, &["flush", "--socket", &socket])
        .unwrap();
    assert_eq!(Kernel::of(&lab.server), before);
    // Nothing to do is no failure.
    lab.server
        .run(binary, &["flush", "--socket", &socket])
        .unwrap();
}

#[test]
fn flush_by_another_socket_says_that_a_daemon_enforces() {
    if !tools(&["nft"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    let firewall = Firewall::start(&lab.server, POLICY);
    let nobody = firewall.policy().with_file_name("none.sock");
    let binary = crate::common::binary().to_str().unwrap();
    let socket = nobody.to_str().unwrap();
    let said = lab.server.run(binary, &["flush", "--socket", socket]);
    let said = said.unwrap();
    assert!(said.contains("puts everything back"), "{said}");
}
