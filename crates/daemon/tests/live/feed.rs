//! Feeds whose files change while the firewall enforces.

use std::time::{Duration, Instant};

use crate::scene::*;

const FEED: &str = r#"mode = "enforce"
[default]
inbound = "allow"
[feeds]
bad = { file = "bad.netset" }
"#;

/// How soon a changed list is in force.
const SOON: Duration = Duration::from_secs(2);

/// Waits until the attacker is let through, or is not, and gives how long that took.
fn becomes(scene: &Scene, reached: bool) -> Duration {
    let begun = Instant::now();
    let to: std::net::SocketAddr = format!("{SERVER_FOR_ATTACKER}:8080").parse().unwrap();
    loop {
        let attempt = || std::net::TcpStream::connect_timeout(&to, Duration::from_millis(100));
        let now = scene.net.attacker.enter(|| attempt().is_ok()).unwrap();
        if now == reached {
            return begun.elapsed();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{}",
            scene.table()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn list(scene: &Scene) -> serde_json::Value {
    scene.get("status")["policy"]["lists"][0].clone()
}

pub(crate) fn a_feed_follows_its_file_and_outlives_it() {
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", FEED);
    scene.write("bad.netset", "198.51.100.0/24\n");
    scene.start("", &config);
    assert!(connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080));

    let mut took = Vec::new();
    let mut soon = |what: &str, took_now: Duration| {
        assert!(took_now < SOON, "{what}: {took_now:?}");
        took.push((what.to_owned(), took_now));
    };
    // Written over in place.
    scene.write("bad.netset", &format!("198.51.100.0/24\n{ATTACKER}\n"));
    soon("in place", becomes(&scene, false));
    // Another one put in its place, as old and as long as it.
    let path = scene.path("bad.netset");
    let age = std::fs::metadata(&path).unwrap().modified().unwrap();
    scene.write("new", &format!("198.51.100.0/24\n{}\n", "10.77.2.9"));
    std::fs::File::open(scene.path("new"))
        .unwrap()
        .set_modified(age)
        .unwrap();
    std::fs::rename(scene.path("new"), &path).unwrap();
    soon("renamed over", becomes(&scene, true));
    // A link that leads elsewhere from one moment to the next.
    let folder = |name: &str, text: &str| {
        std::fs::create_dir(scene.path(name)).unwrap();
        scene.write(&format!("{name}/bad.netset"), text);
    };
    folder("v1", "198.51.100.0/24\n");
    folder("v2", &format!("{ATTACKER}\n"));
    let swap = |to: &str| {
        std::os::unix::fs::symlink(to, scene.path("link.new")).unwrap();
        std::fs::rename(scene.path("link.new"), scene.path("link")).unwrap();
    };
    swap("v1");
    scene.write(
        "policy.toml",
        &FEED.replace("bad.netset", "link/bad.netset"),
    );
    scene.wait("the list behind the link", || {
        list(&scene)["path"]
            .as_str()?
            .contains("link/")
            .then_some(())
    });
    swap("v2");
    soon("link swapped", becomes(&scene, false));

    // Emptied: what it held stays in force, and it is said.
    let path = scene.path("v2/bad.netset");
    std::fs::write(&path, "").unwrap();
    scene.log_line(&["feed bad: the list", "is empty since", "stay in force"]);
    assert!(!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080));
    let told = list(&scene);
    assert_eq!(told["stale"]["why"], "is empty", "{told}");
    assert_eq!(told["ranges"], 1, "{told}");
    let since = told["stale"]["since"].clone();
    // Deleted, and the daemon begun anew without it.
    std::fs::remove_file(&path).unwrap();
    scene.wait("the deletion", || {
        (list(&scene)["stale"]["why"] == "is gone").then_some(())
    });
    assert!(!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080));
    scene.stop();
    scene.start("", &config);
    assert!(!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080));
    let told = list(&scene);
    assert_eq!(told["stale"]["since"], since, "{told}");
    let events = scene.get("events?kind=policy");
    assert!(events.to_string().contains("stay in force"), "{events}");
    // There again: it is followed.
    std::fs::write(&path, "198.51.100.0/24\n0.0.0.0/0\n").unwrap();
    soon("there again", becomes(&scene, true));
    scene.log_line(&["feed bad: the list", "is good again"]);
    scene.log_line(&["1 line is skipped", "wider than /8"]);
    let told = list(&scene);
    assert_eq!(
        (&told["stale"], told["bad_lines"].as_u64()),
        (&serde_json::Value::Null, Some(1))
    );
    println!("from the change of the list to its effect: {took:?}");
}

pub(crate) fn a_folder_of_lists_is_watched_and_no_half_list_is_read() {
    use std::io::Write as _;
    let mut scene = Scene::new();
    let config = scene.write("policy.toml", &FEED.replace("bad.netset", "lists"));
    std::fs::create_dir(scene.path("lists")).unwrap();
    scene.write("lists/a.netset", "198.51.100.0/24\n");
    scene.start("", &config);
    scene.write("lists/b.netset", &format!("{ATTACKER}\n"));
    assert!(becomes(&scene, false) < SOON);
    // What an editor or a download leaves is no list.
    scene.write("lists/b.netset~", "203.0.113.1\n");
    std::fs::remove_file(scene.path("lists/b.netset")).unwrap();
    assert!(becomes(&scene, true) < SOON);

    // A download in pieces: each half second some lines, the attacker's in the first. The list counts when it is whole.
    let before = scene.get("status")["policy"]["digest"].clone();
    let mut file = std::fs::File::create(scene.path("lists/a.netset")).unwrap();
    for piece in 0..4 {
        writeln!(file, "{ATTACKER}\n203.0.113.{piece}").unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let now = &scene.get("status")["policy"]["digest"];
        assert_eq!(*now, before, "half a list is in force after piece {piece}");
    }
    drop(file);
    assert!(becomes(&scene, false) < SOON);
    let set = scene.get("sets/bad");
    assert_eq!(set["prefixes"].as_array().unwrap().len(), 2, "{set}");
}

pub(crate) fn a_feed_never_cuts_a_protected_address() {
    let mut scene = Scene::new();
    let policy = format!("{FEED}[protect]\naddresses = [\"{CLIENT}\"]\n");
    let config = scene.write("policy.toml", &policy);
    // Private networks, loopback, the server's own addresses, and the protected client among the attackers.
    scene.write("bad.netset", "10.0.0.0/8\n127.0.0.0/8\nfd77::/16\n");
    scene.start("", &config);
    assert!(!connects(&scene.net.attacker, SERVER_FOR_ATTACKER, 8080));
    assert!(reaches(&scene.net.client, SERVER_FOR_CLIENT, 8080));
    assert!(reaches(&scene.net.server, "127.0.0.1", 8080), "loopback");
    assert!(
        reaches(&scene.net.server, SERVER_FOR_CLIENT, 8080),
        "its own address"
    );
}
