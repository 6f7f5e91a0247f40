//! Every capture at hand holds as many packets for us as for the tools that people trust.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_kernel::replay::{Replay, Warning};
use portcullis_kernel::source::{Source, SourceError};

/// The captures under `PORTCULLIS_CAPTURES`, or else beside the repository.
fn captures() -> Vec<PathBuf> {
    let root = std::env::var_os("PORTCULLIS_CAPTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/pcap"),
        PathBuf::from,
    );
    let (mut folders, mut found) = (vec![root], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|end| end == "pcap" || end == "pcapng" || end == "cap")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Packets, captured bytes and the warning.
fn read(path: &Path) -> Result<(u64, u64, Option<Warning>), SourceError> {
    let mut replay = Replay::open(path)?;
    let (mut packets, mut bytes) = (0, 0);
    while let Some(packet) = replay.next()? {
        packets += 1;
        bytes += packet.bytes.len() as u64;
        assert!(packet.wire_len >= packet.bytes.len());
    }
    let warning = replay.warning();
    if warning.is_none() {
        let (done, size) = replay.progress().unwrap();
        assert_eq!(done, size, "{} was read to its end", path.display());
    }
    assert!(replay.next()?.is_none(), "the end stays the end");
    Ok((packets, bytes, warning))
}

/// What capinfos counts: in its report, or, for a damaged file, up to the damage.
fn capinfos(paths: &[PathBuf]) -> Option<BTreeMap<PathBuf, u64>> {
    let output = Command::new("capinfos")
        .args(["-c", "-M"])
        .args(paths)
        .output()
        .ok()?;
    let mut counts = BTreeMap::new();
    let mut name = PathBuf::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some(path) = line.strip_prefix("File name:") {
            name = path.trim().into();
        } else if let Some(count) = line.strip_prefix("Number of packets:") {
            counts.insert(name.clone(), count.trim().parse().unwrap());
        }
    }
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        if let Some((_, rest)) = line.split_once("An error occurred after reading ")
            && let Some((count, path)) = rest.split_once(" packets from ")
        {
            let path = path.trim_end_matches('.').trim_matches('"');
            counts.insert(path.into(), count.parse().unwrap());
        }
    }
    Some(counts)
}

/// What libpcap counts, for link types that capinfos does not know.
fn tcpdump(path: &Path) -> Option<u64> {
    let output = Command::new("tcpdump")
        .args(["--count", "-r"])
        .arg(path)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next()?.parse().ok()
}

#[test]
fn every_capture_has_the_packets_that_capinfos_counts() {
    let paths = captures();
    if paths.is_empty() {
        eprintln!("SKIPPED: no captures under ../shared/data/pcap");
        return;
    }
    let Some(expected) = capinfos(&paths) else {
        eprintln!("SKIPPED: capinfos is not installed (package tshark)");
        return;
    };
    let (mut wrong, mut compared, mut warned) = (Vec::new(), 0, 0);
    for path in &paths {
        let ours = read(path);
        // capinfos knows few link types and guesses at dialects after damage: then libpcap is asked, too.
        let theirs = expected.get(path).copied();
        let agreed = match &ours {
            Ok((packets, _, warning)) => {
                warned += usize::from(warning.is_some());
                theirs == Some(*packets)
                    || tcpdump(path) == Some(*packets)
                    || theirs.is_none() && *packets == 0 && warning.is_some()
            }
            Err(_) => theirs.is_none(),
        };
        compared += usize::from(theirs.is_some());
        if !agreed {
            wrong.push(format!(
                "{}: {ours:?}, capinfos {theirs:?}, libpcap {:?}",
                path.display(),
                tcpdump(path)
            ));
        }
    }
    eprintln!(
        "{compared} of {} captures compared, {warned} of them damaged",
        paths.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        compared * 100 >= paths.len() * 99 || std::env::var_os("PORTCULLIS_CAPTURES").is_some()
    );
}
