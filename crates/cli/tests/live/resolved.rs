//! Flows by the names that their clients had resolved, where the kernel decides and the daemon sees copies of answers.

use std::time::Duration;

use crate::firewall::{Firewall, eventually};
use crate::network::{ATTACKER, Attempt, Echo, connect, echoes, tools, topology};

const POLICY: &str = r#"
mode = "enforce"
[default]
inbound = "deny"
outbound = "allow"
forward = "allow"
[dns]
block = ["ads.example"]
"#;

#[test]
fn a_flow_is_shown_with_the_name_that_its_client_asked_for() {
    if !tools(&["dig", "dnsmasq"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    lab.forward(true).unwrap();
    lab.attacker
        .run("ip", &["link", "set", "lo", "up"])
        .unwrap();
    let answers = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file=",
        "--address=/www.example/10.77.2.2",
        "--address=/www.example/fd77:2::2",
    ];
    let _resolver = lab.attacker.spawn("dnsmasq", &answers).unwrap();
    let _service = Echo::start(&lab.attacker, &[9000]);
    let firewall = Firewall::start(&lab.server, POLICY);
    let at = format!("@{ATTACKER}");
    // A client behind this host, and this host.
    for from in [&lab.client, &lab.server] {
        for (kind, address) in [("A", ATTACKER), ("AAAA", "fd77:2::2")] {
            eventually("dnsmasq answers", Duration::from_secs(10), || {
                let asked = [
                    at.as_str(),
                    "+tries=1",
                    "+time=1",
                    "+short",
                    "www.example",
                    kind,
                ];
                let answer = from.output("dig", &asked).unwrap();
                String::from_utf8_lossy(&answer.stdout).contains(address)
            });
            let Attempt::Open(mut stream) = connect(from, address, 9000) else {
                panic!("{address}")
            };
            assert!(echoes(&mut stream, b"hello"));
            eventually("the flow has a name", Duration::from_secs(5), || {
                let flows = firewall.json("flows");
                let mut flows = flows.as_array().unwrap().iter();
                flows.any(|flow| {
                    flow["dest_ip"] == address
                        && flow["dest_port"] == 9000
                        && flow["name"] == "www.example"
                })
            });
        }
    }
    assert!(firewall.ask("flows").stdout.contains("www.example"));
}
