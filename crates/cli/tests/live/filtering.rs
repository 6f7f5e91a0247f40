//! What passes and what does not, as the other side sees it.

use crate::firewall::{Firewall, WEB};
use crate::network::{
    Attempt, CLIENT, Echo, SERVER, SERVER_FOR_ATTACKER, SERVER6, connect, datagram, echoes, pings,
    tools, topology,
};

/// Detectors off: these tests knock at many doors on purpose.
const QUIET: &str = "
[detect.blocked]
enabled = false
[detect.rate]
enabled = false
[detect.scan]
enabled = false
";

fn policy(rules: &str) -> String {
    format!(
        "mode = \"enforce\"\n[default]\ninbound = \"deny\"\noutbound = \"allow\"\nforward = \"deny\"\n{QUIET}\n{rules}"
    )
}

#[test]
fn default_deny_holds_against_every_scan() {
    if !tools(&["nmap"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    let _services = Echo::start(&lab.server, &[22, 80, 8080]);
    let _firewall = Firewall::start(&lab.server, &policy(WEB));
    // What nmap calls a port that says nothing depends on the kind of scan.
    // The kernel takes an ACK without connection for one that it missed the begin of (nf_conntrack_tcp_loose), so that the rules
    // decide it: where they let in, the host answers with a RST.
    for (kind, closed, open) in [
        ("-sS", "filtered", "open"),
        ("-sT", "filtered", "open"),
        ("-sU", "open|filtered", "open|filtered"),
        ("-sA", "filtered", "unfiltered"),
        ("-sF", "open|filtered", "open|filtered"),
        ("-sN", "open|filtered", "open|filtered"),
        ("-sX", "open|filtered", "open|filtered"),
    ] {
        for (target, v6) in [(SERVER_FOR_ATTACKER, false), ("fd77:2::1", true)] {
            let mut arguments = vec![
                kind,
                "-Pn",
                "-n",
                "-p22,80,443,8080",
                "--max-retries",
                "1",
                "-T4",
                "--host-timeout",
                "25s",
                "-oG",
                "-",
            ];
            if v6 {
                arguments.push("-6");
            }
            arguments.push(target);
            let report = lab.attacker.run("nmap", &arguments).unwrap();
            for port in [22, 80, 443, 8080] {
                let state = if port == 8080 { open } else { closed };
                assert!(
                    report.contains(&format!(" {port}/{state}/")),
                    "{kind} {target} {port} is not {state}:\n{report}"
                );
            }
        }
    }
}

#[test]
fn an_allowed_port_serves_over_both_families() {
    if !tools(&["curl", "python3"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hello"), "the gate is open").unwrap();
    let served = folder.path().to_str().unwrap();
    let server = lab
        .server
        .spawn(
            "python3",
            &[
                "-u",
                "-m",
                "http.server",
                "8080",
                "--bind",
                "::",
                "--directory",
                served,
            ],
        )
        .unwrap();
    server
        .wait_for_output("Serving", std::time::Duration::from_secs(10))
        .unwrap();
    let firewall = Firewall::start(&lab.server, &policy(WEB));
    for host in [SERVER.to_owned(), format!("[{SERVER6}]")] {
        let url = format!("http://{host}:8080/hello");
        assert_eq!(
            lab.client.run("curl", &["-sS", "-m5", &url]).unwrap(),
            "the gate is open"
        );
    }
    let rules = firewall.json("rules");
    assert!(rules[0]["hits"].as_u64().unwrap() >= 2, "{rules}");
    assert!(firewall.ask("rules").stdout.contains("web"));
}

#[test]
fn what_the_host_begins_passes_and_is_answered() {
    if !tools(&["ping"]) {
        return;
    }
    let Some(lab) = topology() else { return };
    let _outside = Echo::start(&lab.client, &[9000]);
    let _firewall = Firewall::start(&lab.server, &policy(""));
    for to in ["10.77.1.2", "fd77:1::2"] {
        let Attempt::Open(mut stream) = connect(&lab.server, to, 9000) else {
            panic!("{to}")
        };
        assert!(echoes(&mut stream, b"out and back"), "{to}");
        assert!(pings(&lab.server, to), "{to}");
        assert!(
            !pings(&lab.client, if to.contains(':') { SERVER6 } else { SERVER }),
            "{to}"
        );
    }
}

#[test]
fn a_reject_tells_the_sender() {
    let Some(lab) = topology() else { return };
    let _services = Echo::start(&lab.server, &[81]);
    let _firewall = Firewall::start(
        &lab.server,
        &policy(
            "[[rule]]\nname = \"no\"\naction = \"reject\"\ndirection = \"in\"\nprotocol = [\"tcp\", \"udp\"]\nport = 81\n",
        ),
    );
    for to in [SERVER, SERVER6] {
        // A RST where the service would have answered.
        let refused = connect(&lab.client, to, 81);
        assert!(
            matches!(
                refused,
                Attempt::Refused(std::io::ErrorKind::ConnectionRefused)
            ),
            "{to}: {refused:?}"
        );
        // ICMP "administratively prohibited" becomes an error of the connected socket; silence would be Ok(false).
        let told = datagram(&lab.client, to, 81);
        assert!(told.is_err(), "{to}: {told:?}");
        // The default stays silent.
        assert!(connect(&lab.client, to, 82).is_silent(), "{to}");
    }
}

#[test]
fn observe_mode_blocks_nothing_and_touches_nothing() {
    let Some(lab) = topology() else { return };
    let before = crate::teardown::Kernel::of(&lab.server);
    let _services = Echo::start(&lab.server, &[22]);
    let firewall = Firewall::start(&lab.server, &policy("").replace("enforce", "observe"));
    for to in [SERVER, SERVER6] {
        let Attempt::Open(mut stream) = connect(&lab.client, to, 22) else {
            panic!("{to}")
        };
        assert!(echoes(&mut stream, b"hello"), "{to}");
    }
    assert_eq!(crate::teardown::Kernel::of(&lab.server), before);
    // It saw what it would have done.
    crate::firewall::eventually("a drop event", std::time::Duration::from_secs(5), || {
        firewall
            .ask("events --kind drop")
            .stdout
            .contains("WOULD-DROP")
    });
    assert_eq!(firewall.json("status")["mode"], "observe");
}

#[test]
fn observing_no_verb_claims_that_anything_is_blocked() {
    let Some(lab) = topology() else { return };
    let _services = Echo::start(&lab.server, &[23]);
    let firewall = Firewall::start(&lab.server, &policy("").replace("enforce", "observe"));
    let Attempt::Open(mut stream) = connect(&lab.client, SERVER, 23) else {
        panic!("not open")
    };
    assert!(echoes(&mut stream, b"hello"));
    drop(stream);
    crate::firewall::eventually("a drop event", std::time::Duration::from_secs(5), || {
        firewall
            .ask("events --kind drop")
            .stdout
            .contains("WOULD-DROP")
    });
    // The connection was denied once; what followed would not have come.
    let drops = firewall.ask("events --kind drop").stdout;
    let of_it = drops.lines().filter(|line| line.contains(CLIENT)).count();
    assert_eq!(of_it, 1, "{drops}");
    let stats = firewall.ask("stats").stdout;
    let denied = stats.split("denied sources").nth(1).unwrap();
    assert!(
        denied.contains(CLIENT) && !denied.contains(SERVER),
        "{stats}"
    );
    let banned = firewall.ask("ban 192.0.2.7 --for 10m");
    assert!(
        banned.stdout.contains("192.0.2.7 would be banned for 10m"),
        "{}",
        banned.stdout
    );
    let refused = format!("test in tcp {CLIENT}:40000 to {SERVER}:23");
    for words in [
        "ban 192.0.2.8 --for 10m",
        "bans",
        "stats",
        &format!("why {CLIENT}"),
        "status",
        &refused,
    ] {
        let code = if words == refused { 6 } else { 0 };
        let words: Vec<&str> = words.split_whitespace().collect();
        let told = firewall.call(&words).expect(code);
        let all = told.stdout + &told.stderr;
        assert!(
            all.to_lowercase().contains("nothing is blocked"),
            "{words:?}: {all}"
        );
    }
    let story = firewall.ask(&format!("why {CLIENT}")).stdout;
    assert!(
        story.contains("1 packet on record would have been dropped")
            && !story.contains("was dropped"),
        "{story}"
    );
    let story = firewall.ask("why 192.0.2.7").stdout;
    assert!(story.contains("192.0.2.7 would be banned since"), "{story}");
    let events = firewall.ask("events --kind ban").stdout;
    assert!(events.contains("WOULD-BAN"), "{events}");
    assert_eq!(firewall.json("bans")[0]["mode"], "observe");
    assert!(
        firewall
            .ask("status")
            .stdout
            .contains("would have been dropped")
    );
}

#[test]
fn what_would_have_been_is_told_apart_from_what_was() {
    let Some(lab) = topology() else { return };
    let _services = Echo::start(&lab.server, &[23]);
    let enforcing = policy("");
    let observing = enforcing.replace("enforce", "observe");
    let firewall = Firewall::start(&lab.server, &observing);
    let soon = std::time::Duration::from_secs(5);
    let sum = |name: &str| {
        let totals = firewall.json("status")["totals"].clone();
        totals
            .get(name)
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(0)
    };
    let switch = |policy: &str| {
        firewall.write(policy);
        firewall.ask(&format!("apply {}", firewall.policy().display()));
    };
    // Held open: its end would come when it pleases.
    let Attempt::Open(_open) = connect(&lab.client, SERVER, 23) else {
        panic!("observing, it is not open")
    };
    let mut would = 0;
    crate::firewall::eventually("it would be dropped", soon, || {
        let before = std::mem::replace(&mut would, sum("would_drop"));
        std::thread::sleep(std::time::Duration::from_millis(300));
        would > 0 && would == before
    });
    assert_eq!(sum("dropped"), 0, "nothing was");

    switch(&enforcing);
    assert_eq!(
        (sum("dropped"), sum("would_drop")),
        (0, would),
        "by the change alone"
    );
    assert!(connect(&lab.client, SERVER, 23).is_silent());
    crate::firewall::eventually("it is dropped", soon, || sum("dropped") > 0);
    assert_eq!(sum("would_drop"), would);
    let dropped = sum("dropped");
    let status = firewall.ask("status").stdout;
    assert!(
        status.contains(" dropped, ")
            && status.contains(&format!("{would} would have been dropped")),
        "{status}"
    );
    let stats = firewall.json("stats");
    assert_eq!(stats["totals"]["would_drop"], would, "{stats}");
    let minutes = stats["minutes"].as_array().unwrap();
    let of_minutes = |name: &str| -> u64 {
        minutes
            .iter()
            .filter_map(|minute| minute[name].as_u64())
            .sum()
    };
    assert_eq!(of_minutes("would_drop"), would, "{stats}");
    assert_eq!(
        of_minutes("dropped"),
        stats["totals"]["dropped"].as_u64().unwrap(),
        "{stats}"
    );
    assert_eq!(stats["would_deny"]["top_sources"][0][0], CLIENT, "{stats}");
    // What came of the connection as nothing was blocked is not told.
    let told = would - sum("sequels");
    assert_eq!(stats["would_deny"]["top_sources"][0][1], told, "{stats}");
    assert_eq!(stats["would_deny"]["top_ports"][0][0], "tcp/23", "{stats}");
    crate::firewall::eventually("it is on record", soon, || {
        firewall.json("stats")["top_sources"][0][0] == CLIENT
    });
    let shown = firewall.ask("stats").stdout;
    for title in [
        "would drop",
        "\ndenied sources",
        "\nwould-be denied sources",
    ] {
        assert!(shown.contains(title), "{title}: {shown}");
    }

    switch(&observing);
    assert!(sum("dropped") >= dropped);
    let dropped = sum("dropped");
    assert_eq!(sum("would_drop"), would);
    assert!(connect(&lab.client, SERVER, 23).is_open());
    crate::firewall::eventually("it would be again", soon, || sum("would_drop") > would);
    assert_eq!(sum("dropped"), dropped);
}
