//! Policies that come into force, wait, go back, and are refused.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::scene::*;

pub(crate) fn a_changed_file_comes_into_force_and_a_wrong_one_does_not() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    scene.start("", &config);
    let held = connect(&scene.net.client, SERVER_FOR_CLIENT, 8080).unwrap();
    scene.write("policy.toml", OTHER);
    scene.log_line(&["POLICY: ", "1 rule,", "(reload)"]);
    assert!(reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222));
    assert!(
        !connects(&scene.net.client, SERVER_FOR_CLIENT, 8080),
        "new connections follow the new policy"
    );
    passes(&scene, &held);

    scene.write("policy.toml", "[[rule]]\naction = \"alow\"\n");
    scene.log_line(&["POLICY: the changed policy is not used", "policy.toml:2:"]);
    assert!(
        reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222),
        "the old one stays"
    );
    let status = scene.get("status");
    assert!(
        status["policy"]["rejected"]
            .as_str()
            .unwrap()
            .contains("policy.toml:2:"),
        "{status}"
    );
    let (code, error) = scene.ask("POST", "policy/reload", &Value::Null);
    assert_eq!(code, 422);
    assert_eq!(error["findings"][0]["suggestion"], "allow", "{error}");

    // A restart with the wrong file: what was in force before is better than nothing.
    scene.kill();
    scene.start("", &config);
    assert!(reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222));
    assert!(!connects(&scene.net.client, SERVER_FOR_CLIENT, 8080));
    // And mended, it is taken up.
    scene.write("policy.toml", POLICY);
    scene.wait("mended policy", || {
        (!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222)).then_some(())
    });
    assert_eq!(scene.get("status")["policy"]["rejected"], Value::Null);
}

pub(crate) fn an_unconfirmed_policy_goes_back() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    scene.start("", &config);
    let other = scene.write("other.toml", OTHER);
    let begun = Instant::now();
    let applied = scene.post("policy/apply", json!({"path": other, "confirm_s": 6}));
    assert_eq!(applied["pending"]["previous"], config.as_str());
    assert!(other_is_in_force(&scene));
    assert_eq!(scene.get("status")["pending"]["source"], other.as_str());
    let (code, _) = scene.ask("POST", "policy/apply", &json!({"path": config}));
    assert_eq!(code, 409, "one at a time");
    scene.wait("return", || first_is_in_force(&scene).then_some(()));
    let took = begun.elapsed();
    assert!(
        (Duration::from_secs(6)..Duration::from_secs(16)).contains(&took),
        "{took:?}"
    );
    scene.log_line(&["nobody confirmed"]);
    assert_eq!(scene.get("status")["pending"], Value::Null);
    assert_eq!(scene.get("status")["policy"]["source"], config.as_str());
    scene.wait("end of the reverting process", || {
        (!reverter_runs(&scene)).then_some(())
    });
    assert!(first_is_in_force(&scene));
}

pub(crate) fn the_watched_file_unconfirmed_does_not_come_back_by_itself() {
    let mut scene = Scene::new();
    let observing = POLICY.replace("enforce", "observe");
    let config = scene.write("policy.toml", &observing);
    scene.start("", &config);
    // Saved as enforcing: nothing is blocked because of that alone.
    let enforcing = POLICY.to_owned();
    scene.write("policy.toml", &enforcing);
    scene.log_line(&["the changed policy is not used", "says enforce now"]);
    assert_eq!(scene.get("status")["mode"], "observe");
    assert!(reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222));
    // Asked for, touched while it waits, and never confirmed.
    scene.post("policy/apply", json!({"path": config, "confirm_s": 4}));
    assert!(first_is_in_force(&scene));
    scene.write("policy.toml", &enforcing);
    scene.log_line(&["nobody confirmed"]);
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(2_500));
        let status = scene.get("status");
        assert_eq!(status["mode"], "observe", "{status}");
        let rejected = status["policy"]["rejected"].as_str().unwrap();
        assert!(rejected.contains("was rolled back"), "{rejected}");
        scene.write("policy.toml", &enforcing);
    }
    assert!(reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222));
    scene.log_line(&["policy.toml was rolled back and does not come back"]);
    // Neither does it by a restart; who applies it has it.
    scene.stop();
    scene.start("", &config);
    let status = scene.get("status");
    assert_eq!(status["mode"], "observe", "{status}");
    let rejected = status["policy"]["rejected"].to_string();
    assert!(rejected.contains("was rolled back"), "{rejected}");
    scene.post("policy/apply", json!({"path": config, "confirm_s": 60}));
    scene.post("policy/confirm", Value::Null);
    assert!(first_is_in_force(&scene));
    assert_eq!(scene.get("status")["policy"]["rejected"], Value::Null);
}

/// Whether a process waits to revert in this scene.
fn reverter_runs(scene: &Scene) -> bool {
    let folder = scene.folder.path().display().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|process| {
            let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).into_owned();
            words.contains("__revert") && words.contains(&folder)
        })
}

pub(crate) fn an_unconfirmed_policy_goes_back_though_the_daemon_was_killed() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    scene.start("", &config);
    scene.post("bans", json!({"prefix": "203.0.113.9"}));
    let other = scene.write("other.toml", OTHER);
    let begun = Instant::now();
    scene.post("policy/apply", json!({"path": other, "confirm_s": 6}));
    assert!(other_is_in_force(&scene));
    scene.kill();
    assert!(other_is_in_force(&scene), "a kill changes nothing");
    scene.wait("return", || first_is_in_force(&scene).then_some(()));
    let took = begun.elapsed();
    assert!(
        (Duration::from_secs(6)..Duration::from_secs(16)).contains(&took),
        "{took:?}"
    );
    assert!(
        scene.table().contains("203.0.113.9"),
        "bans are part of the state"
    );
    scene.wait("end of the reverting process", || {
        (!reverter_runs(&scene)).then_some(())
    });
    assert!(!scene.path("state/pending.json").exists());
    // The next daemon begins with the first policy too, and without a word of the other.
    scene.start("", &config);
    assert!(first_is_in_force(&scene));
    assert_eq!(scene.get("status")["pending"], Value::Null);

    // From observing to enforcing and back: then nothing of ours is left.
    scene.stop();
    scene
        .net
        .server
        .run("nft", &["delete", "table", "inet", "portcullis"])
        .unwrap();
    let observing = scene.write("observing.toml", "mode = \"observe\"\n");
    scene.start("", &observing);
    scene.post("policy/apply", json!({"path": other, "confirm_s": 5}));
    assert!(other_is_in_force(&scene));
    scene.kill();
    scene.wait("empty kernel", || scene.table().is_empty().then_some(()));
    assert!(reaches(&scene.net.client, SERVER_FOR_CLIENT, 8080));
}

pub(crate) fn a_confirmed_policy_stays_and_rolls_back_on_request() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    scene.start("", &config);
    let (code, error) = scene.ask("POST", "policy/confirm", &Value::Null);
    assert_eq!(code, 409, "{error}");
    let (code, error) = scene.ask("POST", "policy/rollback", &Value::Null);
    assert_eq!(code, 409, "{error}");
    for seconds in [0, 86_401, u64::MAX] {
        let asked = json!({"text": OTHER, "confirm_s": seconds});
        let (code, error) = scene.ask("POST", "policy/apply", &asked);
        assert_eq!(code, 400, "{error}");
        assert!(error["error"].as_str().unwrap().contains("24 h"), "{error}");
    }
    assert!(first_is_in_force(&scene));
    scene.post("policy/apply", json!({"text": OTHER, "confirm_s": 4}));
    let confirmed = scene.post("policy/confirm", Value::Null);
    assert_eq!(confirmed["source"], "<text>");
    std::thread::sleep(Duration::from_millis(5_200));
    assert!(other_is_in_force(&scene));
    assert!(!reverter_runs(&scene));
    scene.post("policy/rollback", Value::Null);
    assert!(first_is_in_force(&scene));
    // Rolled back while it waits.
    scene.post("policy/apply", json!({"text": OTHER, "confirm_s": 60}));
    scene.post("policy/rollback", Value::Null);
    assert!(first_is_in_force(&scene));
    scene.wait("end of the reverting process", || {
        (!reverter_runs(&scene)).then_some(())
    });
    let history = scene.get("policy/history");
    let how: Vec<&str> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["by"].as_str().unwrap())
        .collect();
    assert_eq!(how, ["rollback", "apply", "rollback", "apply", "start"]);
    let (code, error) = scene.ask(
        "POST",
        "policy/apply",
        &json!({"text": "[[rule]]\naction = 3\n"}),
    );
    assert_eq!(code, 422, "{error}");
    assert!(first_is_in_force(&scene));
}

pub(crate) fn who_observes_a_policy_takes_out_what_a_killed_daemon_left() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    scene.start("", &config);
    assert!(first_is_in_force(&scene));
    scene.kill();
    assert!(
        !connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222),
        "a kill opens nothing"
    );
    scene.start("observe", &config);
    assert!(reaches(&scene.net.attacker, SERVER_FOR_ATTACKER, 2222));
    assert_eq!(scene.table(), "");
    scene.log_line(&["rules that an earlier run left", "taken out"]);
}

pub(crate) fn an_unconfirmed_policy_goes_back_to_the_one_in_force_and_a_restart_knows_the_one_before()
 {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    scene.start("", &config);
    scene.post("policy/apply", json!({"text": OTHER}));
    // The wait does not end with the first policy.
    let third = "mode = \"enforce\"\n";
    scene.post("policy/apply", json!({"text": third, "confirm_s": 1}));
    scene.wait("return", || {
        (scene.get("status")["pending"] == Value::Null).then_some(())
    });
    assert!(other_is_in_force(&scene));
    // And the same again is not made to wait for nothing.
    let (code, error) = scene.ask(
        "POST",
        "policy/apply",
        &json!({"text": OTHER, "confirm_s": 1}),
    );
    assert_eq!(code, 409, "{error}");
    scene.write("policy.toml", OTHER);
    scene.kill();
    scene.start("", &config);
    assert!(other_is_in_force(&scene));
    scene.post("policy/rollback", Value::Null);
    assert!(first_is_in_force(&scene));
}

pub(crate) fn a_second_daemon_and_a_wrong_policy_are_refused() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    scene.start("", &config);
    let mut second = scene.spawn("", &config);
    assert!(!second.wait(Duration::from_secs(20)).unwrap().success());
    assert!(
        second.stdout().contains("REFUSED another portcullis"),
        "{}",
        second.stdout()
    );
    assert_eq!(
        scene.get("status")["mode"],
        "enforce",
        "the first is unharmed"
    );
    scene.stop();

    let fresh = Scene::new();
    let wrong = fresh.write("policy.toml", "[[rule]]\naction = \"alow\"\n");
    let mut refused = fresh.spawn("", &wrong);
    assert!(!refused.wait(Duration::from_secs(20)).unwrap().success());
    assert!(
        refused.stdout().contains("REFUSED the policy has 1 error"),
        "{}",
        refused.stdout()
    );
    assert_eq!(fresh.table(), "");
}

pub(crate) fn a_policy_that_cuts_an_ssh_session_is_refused() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", "mode = \"enforce\"\n[[rule]]\nname = \"ssh\"\naction = \"allow\"\ndirection = \"in\"\nprotocol = \"tcp\"\nport = 22\n");
    let _sshd = scene
        .net
        .server
        .enter(|| std::net::TcpListener::bind("0.0.0.0:22").unwrap())
        .unwrap();
    scene.start("", &config);
    let session = connect(&scene.net.client, SERVER_FOR_CLIENT, 22).unwrap();
    // No SSH server tells who has logged in: everybody counts, but nobody is protected from bans by a mere connection.
    let mut error = Value::Null;
    scene.wait("refusal", || {
        let (code, answer) = scene.ask("POST", "policy/apply", &json!({"text": OTHER}));
        error = answer;
        if code != 409 {
            scene.post("policy/rollback", Value::Null);
        }
        (code == 409).then_some(())
    });
    assert!(error["error"].as_str().unwrap().contains(CLIENT), "{error}");
    assert!(reaches(&scene.net.client, SERVER_FOR_CLIENT, 22));
    assert!(
        !scene.get("status")["protected"]
            .to_string()
            .contains("10.77.1.2/32")
    );
    let applied = scene.post("policy/apply", json!({"text": OTHER, "confirm_s": 60}));
    assert!(
        applied["warnings"].to_string().contains(CLIENT),
        "{applied}"
    );
    passes(&scene, &session);
    scene.post("policy/rollback", Value::Null);
    let applied = scene.post("policy/apply", json!({"text": OTHER, "force": true}));
    assert!(
        applied["warnings"].to_string().contains(CLIENT),
        "{applied}"
    );
    assert!(!connects(&scene.net.client, SERVER_FOR_CLIENT, 22));
}

pub(crate) fn an_ssh_session_on_another_port_is_known() {
    const SSHD: &str = "/usr/sbin/sshd";
    if !std::path::Path::new(SSHD).exists() {
        return eprintln!("SKIPPED: {SSHD} is not there (Debian: openssh-server)");
    }
    let users = std::fs::read_to_string("/etc/shadow").unwrap_or_default();
    if users.lines().any(|user| user.starts_with("root:!")) {
        return eprintln!("SKIPPED: sshd lets nobody in as root, whose account is locked");
    }
    let mut scene = Scene::new();
    let allow = |port: u16| {
        format!(
            "mode = \"enforce\"\n[[rule]]\naction = \"allow\"\ndirection = \"in\"\nprotocol = \"tcp\"\nport = {port}\n"
        )
    };
    let config = scene.write("policy.toml", &allow(2022));
    let key = scene.path("host_key").display().to_string();
    let server = &scene.net.server;
    server
        .run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key])
        .unwrap();
    // Where sshd confines its unprivileged part; the service manager makes it otherwise.
    std::fs::create_dir_all("/run/sshd").unwrap();
    let keys = format!("AuthorizedKeysFile={key}.pub");
    let arguments = [
        "-D",
        "-e",
        "-p",
        "2022",
        "-f",
        "/dev/null",
        "-h",
        &key,
        "-o",
        &keys,
    ];
    let arguments: Vec<&str> = (arguments.into_iter())
        .chain(["-o", "StrictModes=no", "-o", "PermitRootLogin=yes"])
        .collect();
    let sshd = server.spawn(SSHD, &arguments).unwrap();
    let listens = |scene: &Scene| {
        let sockets = scene.net.server.run("ss", &["-Hltn", "sport", "=", "2022"]);
        (!sockets.unwrap().is_empty()).then_some(())
    };
    scene.wait("SSH server", || listens(&scene));
    scene.start("", &config);
    // A stranger connects and says nothing.
    let stranger = connect(&scene.net.attacker, SERVER_FOR_ATTACKER, 2022).unwrap();
    let login = ["-p", "2022", "-i", &key, "-o", "StrictHostKeyChecking=no"];
    let login: Vec<&str> = (login.into_iter())
        .chain(["-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"])
        .chain(["root@10.77.1.1", "echo in; sleep 60"])
        .collect();
    let session = scene.net.client.spawn("ssh", &login).unwrap();
    session
        .wait_for_output("in", Duration::from_secs(20))
        .unwrap();
    scene.wait("session among the protected", || {
        let status = scene.get("status");
        let protected = status["protected"].to_string();
        protected.contains("10.77.1.2/32").then_some(())
    });
    let protected = scene.get("status")["protected"].to_string();
    let stranger_only = format!("\"{ATTACKER}/32\"");
    assert!(!protected.contains(&stranger_only), "{protected}");
    let (code, error) = scene.ask("POST", "policy/apply", &json!({"text": allow(22)}));
    assert_eq!(code, 409, "{error}");
    assert!(error["error"].as_str().unwrap().contains(CLIENT), "{error}");
    let (code, _) = scene.ask("POST", "bans", &json!({"prefix": CLIENT}));
    assert_eq!(code, 409, "who is logged in is not banned");
    scene.post("bans", json!({"prefix": ATTACKER}));
    // The stranger may be cut, and cannot keep a policy from coming into force.
    let client_only = allow(2022) + "from = \"10.77.1.0/24\"\n";
    scene.post("policy/apply", json!({"text": client_only}));
    drop((session, stranger));
    drop(sshd);
}

pub(crate) fn who_begins_with_another_than_was_asked_for_knows_what_the_next_start_takes() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", POLICY);
    let other = scene.write("other.toml", OTHER);
    scene.start("", &config);
    scene.post("policy/apply", json!({"path": other}));
    scene.stop();
    scene.start("", &config);
    scene.post("policy/rollback", Value::Null);
    assert!(other_is_in_force(&scene));
    scene.stop();
    // The file that was asked for is kept away, and as long as it says the same the next start does as this one.
    scene.start("", &config);
    assert!(other_is_in_force(&scene));
    let told = |scene: &Scene| {
        let warnings = scene.get("status")["warnings"].to_string();
        warnings.contains("policy.toml, which the next start takes, is not what is in force")
    };
    assert!(!told(&scene));
    scene.write("policy.toml", &format!("{POLICY}# changed\n"));
    scene.wait("word of the change", || told(&scene).then_some(()));
    scene.log_line(&["changed, and not taken", "which the next start takes"]);
    let reloaded = scene.post("policy/reload", Value::Null);
    assert!(
        reloaded["warnings"]
            .to_string()
            .contains("next start takes")
    );
    assert!(other_is_in_force(&scene));
}
