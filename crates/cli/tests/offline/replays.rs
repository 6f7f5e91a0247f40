//! `replay` over every capture there is: it ends well, counts every packet, and says the same twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::common::{Called, call, portcullis, shared_data};

/// Every capture below a folder, by its first bytes: pcap in both byte orders and resolutions, modified pcap, pcapng.
fn captures(folder: &Path, found: &mut Vec<PathBuf>) {
    const MAGICS: [[u8; 4]; 7] = [
        [0xa1, 0xb2, 0xc3, 0xd4],
        [0xd4, 0xc3, 0xb2, 0xa1],
        [0xa1, 0xb2, 0x3c, 0x4d],
        [0x4d, 0x3c, 0xb2, 0xa1],
        [0xa1, 0xb2, 0xcd, 0x34],
        [0x34, 0xcd, 0xb2, 0xa1],
        [0x0a, 0x0d, 0x0d, 0x0a],
    ];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            captures(&path, found);
            continue;
        }
        let mut first = [0; 4];
        let read = std::fs::File::open(&path)
            .and_then(|mut file| std::io::Read::read(&mut file, &mut first));
        if read.is_ok_and(|count| count == 4) && MAGICS.contains(&first) {
            found.push(path);
        }
    }
}

/// Packets of each capture as capinfos counts them; `None` where it cannot.
fn counted(files: &[PathBuf]) -> Option<BTreeMap<PathBuf, u64>> {
    let mut counts = BTreeMap::new();
    for some in files.chunks(500) {
        let mut command = Command::new("capinfos");
        command.args(["-T", "-r", "-M", "-c", "-K"]).args(some);
        let output = match command.output() {
            Ok(output) => output,
            Err(why) => {
                eprintln!("SKIPPED: capinfos cannot be started ({why}); install tshark");
                return None;
            }
        };
        // It goes on after a file it cannot read; such a file has no line.
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if let Some((file, packets)) = line.rsplit_once('\t')
                && let Ok(packets) = packets.trim().parse()
            {
                counts.insert(PathBuf::from(file), packets);
            }
        }
    }
    Some(counts)
}

fn replay(capture: &Path, arguments: &[&str]) -> Called {
    let mut command = crate::common::command();
    command.arg("replay").arg(capture).args(arguments);
    call(command, b"")
}

/// The counters: the last line of `--json`.
#[track_caller]
fn stats(called: &Called) -> Value {
    let last: Value = serde_json::from_str(called.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["event_type"], "stats", "{last}");
    last["stats"].clone()
}

#[test]
fn every_capture_replays_twice_alike() {
    let Some(data) = shared_data() else { return };
    let mut files = Vec::new();
    captures(&data.join("pcap"), &mut files);
    files.sort();
    assert!(files.len() > 100, "{}", files.len());
    let Some(counts) = counted(&files) else {
        return;
    };

    let (next, wrong) = (AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = replays_twice_alike(file, counts.get(file).copied()) {
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("{}: {why}", file.display()));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        files.len(),
        wrong.join("\n")
    );
}

fn replays_twice_alike(file: &Path, packets: Option<u64>) -> Result<(), String> {
    let (once, twice) = (replay(file, &["--json"]), replay(file, &["--json"]));
    if once.code != 0 {
        return Err(format!("exit code {}: {}", once.code, once.stderr));
    }
    if once.stdout != twice.stdout {
        return Err("two runs differ".into());
    }
    for line in once.stdout.lines() {
        serde_json::from_str::<Value>(line).map_err(|why| format!("{why} in {line}"))?;
    }
    let last = once.stdout.lines().last().ok_or("no output")?;
    let last: Value = serde_json::from_str(last).map_err(|why| why.to_string())?;
    let seen = last["stats"]["packets"].as_u64();
    if packets.is_some() && seen != packets {
        return Err(format!(
            "{seen:?} packets where capinfos counts {packets:?}"
        ));
    }
    Ok(())
}

#[test]
fn the_counters_add_up() {
    let Some(data) = shared_data() else { return };
    for name in ["syn_1000_T4", "benign_busy_client"] {
        let Some(file) = lab_capture(&data, name) else {
            panic!("{name} is not in the data")
        };
        let stats = stats(&replay(&file, &["--json"]).expect(0));
        let count = |field: &str| {
            stats[field]
                .as_u64()
                .unwrap_or_else(|| panic!("{field} is not in {stats}"))
        };
        // Left out where there are none.
        let sequels = stats["sequels"].as_u64().unwrap_or_default();
        assert_eq!(
            count("packets"),
            count("allowed") + count("dropped") + count("rejected") + sequels,
            "{name}: {stats}"
        );
        for field in ["bytes", "anomalies", "flows", "alerts", "bans"] {
            count(field);
        }
    }
}

fn lab_capture(data: &Path, name: &str) -> Option<PathBuf> {
    let folder = data.join("pcap/LAB-generated-here");
    ["pcap", "pcapng", "cap"]
        .iter()
        .map(|ending| folder.join(format!("{name}.{ending}")))
        .find(|path| path.is_file())
}

#[test]
fn people_get_a_summary() {
    let Some(data) = shared_data() else { return };
    let file = lab_capture(&data, "syn_1000_T4").unwrap();
    let called = replay(&file, &["--local", "10.66.1.10"]).expect(0);
    assert!(called.stdout.contains("10.66.0."), "{}", called.stdout);
    assert!(called.stdout.contains("packets"), "{}", called.stdout);
    assert!(!called.stdout.contains('\x1b'));
    let quiet = replay(&file, &["--quiet"]).expect(0);
    assert!(quiet.stdout.len() < called.stdout.len());
}

#[test]
fn the_host_is_guessed_where_nobody_named_it() {
    let Some(data) = shared_data() else { return };
    let file = lab_capture(&data, "syn_1000_T4").unwrap();
    let guessed = replay(&file, &["--quiet"])
        .expect(0)
        .one_sentence("--local ADDRESS");
    assert!(guessed.stderr.contains("10.66."), "{}", guessed.stderr);
    let mut piped = crate::common::command();
    piped.args(["replay", "-", "--quiet"]);
    let piped = call(piped, &std::fs::read(&file).unwrap()).expect(0);
    assert_eq!(piped.stderr, guessed.stderr);
    for arguments in [&["--local", "10.66.1.10"][..], &["--json"]] {
        assert_eq!(replay(&file, arguments).expect(0).stderr, "");
    }
}

#[test]
fn a_capture_may_come_from_a_pipe() {
    let Some(data) = shared_data() else { return };
    let file = lab_capture(&data, "benign_busy_client").unwrap();
    let whole = std::fs::read(&file).unwrap();
    let mut command = crate::common::command();
    command.args(["replay", "-", "--json"]);
    let piped = call(command, &whole).expect(0);
    assert_eq!(piped.stdout, replay(&file, &["--json"]).expect(0).stdout);

    // Cut in the middle of a record: what stands before it counts.
    let mut command = crate::common::command();
    command.args(["replay", "-", "--json"]);
    let cut = call(command, &whole[..whole.len() - 7])
        .expect(0)
        .one_sentence("cut short");
    let (all, fewer) = (
        stats(&piped)["packets"].as_u64(),
        stats(&cut)["packets"].as_u64(),
    );
    assert_eq!(fewer, all.map(|all| all - 1));
}

#[test]
fn what_is_no_capture_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.txt");
    std::fs::write(&text, "this is no capture").unwrap();
    portcullis([Path::new("replay"), &text])
        .expect(1)
        .one_sentence("capture");
    let empty = directory.path().join("empty.pcap");
    std::fs::write(&empty, "").unwrap();
    portcullis([Path::new("replay"), &empty])
        .expect(1)
        .one_sentence("capture");
    portcullis(["replay", "/nonexistent.pcap"])
        .expect(1)
        .one_sentence("/nonexistent.pcap");
    portcullis([Path::new("replay"), directory.path()])
        .expect(1)
        .one_sentence("is a directory; name a capture file");
}
