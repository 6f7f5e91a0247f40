//! Guessing at a login, with a real SSH server.

use std::time::Duration;

use crate::scene::*;

const SSHD: &str = "/usr/sbin/sshd";

pub(crate) fn ten_failed_logins_are_banned_and_the_administrator_stays() {
    if !std::path::Path::new(SSHD).exists() {
        return eprintln!("SKIPPED: {SSHD} is not there (Debian: openssh-server)");
    }
    let users = std::fs::read_to_string("/etc/shadow").unwrap_or_default();
    if users.lines().any(|user| user.starts_with("root:!")) {
        return eprintln!("SKIPPED: sshd lets nobody in as root, whose account is locked");
    }
    let mut scene = Scene::new();
    let [good, bad] = ["good", "bad"].map(|name| scene.path(name).display().to_string());
    for key in [&good, &bad] {
        let words = ["-q", "-t", "ed25519", "-N", "", "-f", key];
        scene.net.server.run("ssh-keygen", &words).unwrap();
    }
    // Where sshd confines its unprivileged part; the service manager makes it otherwise.
    std::fs::create_dir_all("/run/sshd").unwrap();
    let keys = format!("AuthorizedKeysFile={good}.pub");
    let mut words = vec![
        "-D",
        "-e",
        "-p",
        "22",
        "-f",
        "/dev/null",
        "-h",
        &good,
        "-o",
        &keys,
    ];
    words.extend(["-o", "StrictModes=no", "-o", "PermitRootLogin=yes"]);
    let sshd = scene.net.server.spawn(SSHD, &words).unwrap();
    scene.wait("SSH server", || {
        let sockets = scene.net.server.run("ss", &["-Hltn", "sport", "=", "22"]);
        (!sockets.unwrap().is_empty()).then_some(())
    });
    let text = "mode = \"enforce\"\n[[rule]]\naction = \"allow\"\ndirection = \"in\"\nprotocol = \"tcp\"\nport = \"22,8080\"\n";
    let config = scene.write("policy.toml", text);
    scene.start("", &config);

    let login = |key: &str, server: &str, order: &str| {
        let words = [
            "-i",
            key,
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "StrictHostKeyChecking=no",
        ];
        let server = format!("root@{server}");
        let words = (words.into_iter())
            .chain(["-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"])
            .chain(["-o", "ConnectTimeout=5", &server, order]);
        words.map(str::to_owned).collect::<Vec<String>>()
    };
    // Says a word for each file that appears, so that it can be asked later whether it still lives.
    let asked = scene.path("asked");
    let order = format!(
        "echo in; while ! [ -e {0} ]; do sleep 0.1; done; echo still in; sleep 60",
        asked.display()
    );
    let session = login(&good, SERVER_FOR_CLIENT, &order);
    let session: Vec<&str> = session.iter().map(String::as_str).collect();
    let session = scene.net.client.spawn("ssh", &session).unwrap();
    session
        .wait_for_output("in", Duration::from_secs(20))
        .unwrap();

    let attempt = login(&bad, SERVER_FOR_ATTACKER, "true");
    let attempt: Vec<&str> = attempt.iter().map(String::as_str).collect();
    for number in 0..9 {
        let output = scene.net.attacker.output("ssh", &attempt).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("Permission denied"),
            "attempt {number}: {said}"
        );
    }
    assert_eq!(scene.get("bans"), serde_json::json!([]), "nine are not ten");
    scene.net.attacker.output("ssh", &attempt).unwrap();
    let ban = scene.wait("a ban", || {
        scene.get("bans").as_array().unwrap().first().cloned()
    });
    assert_eq!(
        (&ban["prefix"], &ban["detector"]),
        (&"10.77.2.2/32".into(), &"brute".into()),
        "{ban}"
    );
    assert_eq!(
        (&ban["evidence"]["count"], &ban["evidence"]["proven"]),
        (&10.into(), &true.into()),
        "{ban}"
    );
    for port in [22, 8080] {
        assert!(
            !connects(&scene.net.attacker, SERVER_FOR_ATTACKER, port),
            "{port}"
        );
    }
    scene.log_line(&[" ALERT ", ATTACKER, "10 short connections to one service"]);

    // Somebody scans in the administrator's name.
    for key in ["all", "default", "a0"] {
        let key = format!("net.ipv4.conf.{key}.rp_filter");
        scene.net.server.sysctl(&key, "0").unwrap();
    }
    let forged = ["-q", "-n", "-S", "-p", "++100", "-c", "12", "-i", "u20000"];
    let forged = [
        &forged[..],
        &["-I", "s0", "-a", CLIENT, SERVER_FOR_ATTACKER],
    ]
    .concat();
    scene.net.attacker.output("hping3", &forged).unwrap();
    scene.log_line(&[" ALERT ", CLIENT, "vertical SYN scan"]);
    assert_eq!(scene.get("bans").as_array().unwrap().len(), 1);

    std::fs::write(&asked, "").unwrap();
    session
        .wait_for_output("still in", Duration::from_secs(20))
        .unwrap();
    assert!(reaches(&scene.net.client, SERVER_FOR_CLIENT, 22));
    scene.post("flush", serde_json::Value::Null);
    assert_eq!(scene.table(), "");
    scene.stop();
    drop((session, sshd));
}
