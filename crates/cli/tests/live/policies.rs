//! A policy comes into force, is confirmed, goes back, and follows its file.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::firewall::{Firewall, eventually};
use crate::network::{Attempt, Echo, SERVER, SERVER6, connect, echoes, topology};

fn policy(port: u16) -> String {
    format!(
        "mode = \"enforce\"\n[default]\ninbound = \"deny\"\noutbound = \"allow\"\n[detect.blocked]\nenabled = false\n\n\
         [[rule]]\nname = \"service on {port}\"\naction = \"allow\"\ndirection = \"in\"\nprotocol = \"tcp\"\nport = {port}\n"
    )
}

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_changed_file_is_followed_and_a_broken_one_is_not() {
    let Some(lab) = topology() else { return };
    let _services = Echo::start(&lab.server, &[8080, 8081]);
    let firewall = Firewall::start(&lab.server, &policy(8080));
    let Attempt::Open(mut stream) = connect(&lab.client, SERVER, 8080) else {
        panic!("not open")
    };
    assert!(connect(&lab.client, SERVER, 8081).is_silent());

    firewall.write(&policy(8081));
    eventually("the new policy is in force", SOON, || {
        connect(&lab.client, SERVER, 8081).is_open()
    });
    assert!(connect(&lab.client, SERVER6, 8081).is_open());
    assert!(connect(&lab.client, SERVER, 8080).is_silent());
    assert!(echoes(&mut stream, b"hello"), "an established flow goes on");

    firewall.write("mode = \"enforce\"\n[[rule]]\naction = \"alow\"\n");
    eventually("the mistake is told", SOON, || {
        firewall.json("status")["policy"]["rejected"].is_string()
    });
    assert!(
        connect(&lab.client, SERVER, 8081).is_open(),
        "the old policy stays"
    );
    assert!(firewall.ask("status").stdout.contains("not in force"));
}

#[test]
fn sighup_and_reload_read_the_file_again() {
    let Some(lab) = topology() else { return };
    let _services = Echo::start(&lab.server, &[8080, 8081]);
    let firewall = Firewall::start(&lab.server, &policy(8080));
    // Written without a change of name or folder, and at once followed by the signal.
    std::fs::write(firewall.policy(), policy(8081)).unwrap();
    firewall.signal(Signal::SIGHUP);
    eventually("the new policy is in force", SOON, || {
        connect(&lab.client, SERVER, 8081).is_open()
    });
    std::fs::write(firewall.policy(), policy(8080)).unwrap();
    firewall.ask("reload");
    eventually("the old one is back", SOON, || {
        connect(&lab.client, SERVER, 8080).is_open()
    });
}

#[test]
fn an_unconfirmed_policy_goes_back_without_the_daemon() {
    let Some(lab) = topology() else { return };
    let _services = Echo::start(&lab.server, &[8080, 8081]);
    let mut firewall = Firewall::start(&lab.server, &policy(8080));
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new.toml");
    std::fs::write(&new, policy(8081)).unwrap();
    let begun = Instant::now();
    let applied = firewall.json(&format!("apply {} --confirm 5s --force", new.display()));
    let remaining = applied["pending"]["remaining_s"].as_u64().unwrap();
    assert!((1..=5).contains(&remaining), "{applied}");
    assert!(
        connect(&lab.client, SERVER, 8080).is_silent(),
        "the way is shut"
    );
    assert!(connect(&lab.client, SERVER, 8081).is_open());
    firewall.kill();
    while begun.elapsed() < Duration::from_secs(4) {
        assert!(
            connect(&lab.client, SERVER, 8080).is_silent(),
            "back after {:?}",
            begun.elapsed()
        );
    }
    eventually("the way is open again", Duration::from_secs(4), || {
        connect(&lab.client, SERVER, 8080).is_open()
    });
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    assert!(connect(&lab.client, SERVER, 8081).is_silent());
}

#[test]
fn a_confirmed_policy_stays_and_rolls_back_when_asked() {
    let Some(lab) = topology() else { return };
    let _services = Echo::start(&lab.server, &[8080, 8081]);
    let firewall = Firewall::start(&lab.server, &policy(8080));
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new.toml");
    std::fs::write(&new, policy(8081)).unwrap();
    let told = firewall
        .ask(&format!("apply {} --confirm 2s --force", new.display()))
        .stdout;
    assert!(told.contains("portcullis confirm"), "{told}");
    firewall.ask("confirm");
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(connect(&lab.client, SERVER, 8081).is_open());
    firewall.ask("rollback");
    assert!(connect(&lab.client, SERVER, 8080).is_open());
    assert!(connect(&lab.client, SERVER, 8081).is_silent());
    firewall.call(&["confirm"]).expect(1).one_sentence("");
}

#[test]
fn an_invalid_policy_is_refused_with_its_mistakes() {
    let Some(lab) = topology() else { return };
    let _services = Echo::start(&lab.server, &[8080]);
    let firewall = Firewall::start(&lab.server, &policy(8080));
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new.toml");
    std::fs::write(
        &new,
        "mode = \"enforce\"\n[[rule]]\naction = \"alow\"\nport = 99999\n",
    )
    .unwrap();
    let called = firewall.call(&["apply", new.to_str().unwrap()]).expect(3);
    for at in ["new.toml:3:", "new.toml:4:"] {
        assert!(called.stderr.contains(at), "{}", called.stderr);
    }
    assert!(connect(&lab.client, SERVER, 8080).is_open());
}

#[test]
fn the_daemon_judges_hypothetical_packets() {
    let Some(lab) = topology() else { return };
    let firewall = Firewall::start(&lab.server, &policy(8080));
    let test =
        |to: &str| firewall.call(&["test", "--json", "in", "tcp", "203.0.113.7:40000", "to", to]);
    assert_eq!(
        test("10.77.1.1:8080").expect(0).json()["rule"],
        "service on 8080"
    );
    assert_eq!(test("10.77.1.1:8081").expect(6).json()["stage"], "default");
    firewall.ask("ban 203.0.113.7");
    assert_eq!(test("10.77.1.1:8080").expect(6).json()["stage"], "ban");
}

/// Whoever edits the file that they know, while another is in force, finds in the record that nothing comes of it.
#[test]
fn a_change_to_a_file_that_is_not_in_force_is_told_once() {
    let Some(lab) = topology() else { return };
    let firewall = Firewall::start(&lab.server, &policy(8080));
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new.toml");
    std::fs::write(&new, policy(8081)).unwrap();
    firewall.ask(&format!("apply {} --force", new.display()));
    let told = || {
        let events = firewall.ask("events --kind policy").stdout;
        events.matches("changed, and not taken: ").count()
    };
    for (edit, times) in [(8082, 1), (8083, 2)] {
        firewall.write(&policy(edit));
        eventually("it is told", SOON, || told() == times);
        std::thread::sleep(Duration::from_millis(2_500));
        assert_eq!(told(), times, "and told once");
    }
    // What is in force already is no news, and neither is what waits to be confirmed.
    firewall.write(&policy(8081));
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(told(), 2);
    let last = firewall.ask("events --kind policy").stdout;
    let line = last
        .lines()
        .rfind(|line| line.contains("not taken"))
        .unwrap();
    let next = firewall.policy().display().to_string();
    assert!(
        line.contains(&format!("`portcullis apply {next}` takes it")),
        "{line}"
    );
}
