//! The table of docs/detection.md: whom the detectors ban in captures whose truth is known, and in all others.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use daemon::replay::{Options, replay};
use engine::{Alert, BanOrigin, Detector, Event, EventBody};
use kernel::replay::Replay;
use kernel::source::SourceError;
use policy::{DefaultAction, Defaults, Detect, Mode, Plan};

const BEGIN: &str = "<!-- begin of what `cargo run -p xtask -- detection` writes -->\n";
const END: &str = "<!-- end of what `cargo run -p xtask -- detection` writes -->\n";

/// What the detectors made of one capture.
#[derive(Default)]
struct Judged {
    packets: u64,
    /// Whom they banned: address, or the prefix for IPv6; by which; at which packet that counted.
    banned: BTreeMap<String, (Detector, String)>,
    /// Alerts that banned nobody, by source.
    alerts: BTreeMap<(String, &'static str), String>,
}

/// One line of the truth.
struct Truth {
    file: String,
    attackers: Vec<String>,
    is_benign: bool,
}

/// Writes the table into the document, or checks that it stands there.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let data = crate::shared_data();
    let truth = data.join("truth/scan_flood.tsv");
    if !truth.is_file() {
        if check {
            bail!(
                "{} is not there: put the captures beside the checkout, or check nothing",
                truth.display()
            );
        }
        eprintln!(
            "SKIPPED: {} is not there, so no capture was judged",
            truth.display()
        );
        return Ok(());
    }
    let table = table(&data, &read_truth(&truth)?)?;
    let document = root.join("docs/detection.md");
    let text = std::fs::read_to_string(&document)
        .with_context(|| format!("reading {}", document.display()))?;
    let (before, rest) = text
        .split_once(BEGIN)
        .with_context(|| format!("{} has no mark where the table begins", document.display()))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{} has no mark where the table ends", document.display()))?;
    let wanted = format!("{before}{BEGIN}{table}{END}{after}");
    if wanted == text {
        println!("docs/detection.md is as the captures say");
        return Ok(());
    }
    if check {
        bail!(
            "docs/detection.md is not as the captures say; run `cargo run -p xtask -- detection`"
        );
    }
    std::fs::write(&document, wanted)?;
    println!("docs/detection.md is written anew");
    Ok(())
}

fn read_truth(path: &Path) -> anyhow::Result<Vec<Truth>> {
    let text = std::fs::read_to_string(path)?;
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let column = |name: &str| {
        head.iter()
            .position(|column| *column == name)
            .with_context(|| format!("{} has no column {name}", path.display()))
    };
    let (file, label, source) = (column("file")?, column("label")?, column("attack_src")?);
    let mut all = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let field = |place: usize| fields.get(place).copied().unwrap_or_default();
        let is_benign = field(label).starts_with("NEGATIVE");
        let addresses = field(source).split(',').map(str::trim);
        all.push(Truth {
            file: field(file).to_owned(),
            attackers: addresses
                .filter(|address| !is_benign && address.parse::<IpAddr>().is_ok())
                .map(str::to_owned)
                .collect(),
            is_benign,
        });
    }
    Ok(all)
}

/// Everything allowed but by detectors, all of them as they are when a policy says nothing.
fn plan() -> Plan {
    Plan {
        mode: Mode::Enforce,
        essentials: true,
        default: Defaults {
            inbound: DefaultAction::Allow,
            outbound: DefaultAction::Allow,
            forward: DefaultAction::Allow,
        },
        detect: Detect::standard(),
        ..Plan::default()
    }
}

fn judge(path: &Path) -> anyhow::Result<Option<Judged>> {
    let mut source = match Replay::open(path) {
        Ok(source) => source,
        Err(SourceError::NotACapture { .. }) => return Ok(None),
        Err(why) => bail!("{}: {why}", path.display()),
    };
    let options = Options {
        every_event: true,
        ..Options::default()
    };
    let mut events: Vec<Event> = Vec::new();
    let outcome = replay(&mut source, Arc::new(plan()), options, &mut events)?;
    let mut judged = Judged {
        packets: outcome.totals.packets,
        ..Judged::default()
    };
    for event in events {
        match event.body {
            EventBody::Ban(ban) => {
                if let (BanOrigin::Detector(detector), Some(_)) = (&ban.origin, &ban.evidence) {
                    let who = short(ban.prefix);
                    let (detector, reason) = (*detector, ban.reason);
                    judged.banned.entry(who).or_insert((detector, reason));
                }
            }
            EventBody::Alert(Alert::Detector {
                detector,
                evidence,
                banned: false,
            }) => {
                if let Some(tuple) = event.tuple {
                    let key = (tuple.source.to_string(), detector.name());
                    let text = evidence.describe(detector);
                    judged.alerts.entry(key).or_insert(text);
                }
            }
            _ => {}
        }
    }
    Ok(Some(judged))
}

fn short(prefix: ipnet::IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}

fn table(data: &Path, truth: &[Truth]) -> anyhow::Result<String> {
    let folder = data.join("pcap");
    let mut text = String::new();
    writeln!(
        text,
        "| capture | known attackers | banned | missed | wrongly banned |\n| --- | --- | --- | --- | --- |"
    )?;
    for line in truth {
        let path = folder.join(&line.file);
        let judged = judge(&path)?
            .with_context(|| format!("{} is labelled, and is no capture", path.display()))?;
        let covers = |who: &str, attacker: &str| match who.parse::<ipnet::IpNet>() {
            Ok(prefix) => attacker
                .parse::<IpAddr>()
                .is_ok_and(|address| prefix.contains(&address)),
            Err(_) => who == attacker,
        };
        let is_known = |who: &str| line.attackers.iter().any(|known| covers(who, known));
        let missed: Vec<&str> = line
            .attackers
            .iter()
            .filter(|known| !judged.banned.keys().any(|who| covers(who, known)))
            .map(String::as_str)
            .collect();
        let told = |(who, (detector, reason)): (&String, &(Detector, String))| {
            format!("{who} by `{detector}`: {reason}")
        };
        let banned: Vec<String> = judged
            .banned
            .iter()
            .filter(|(who, _)| is_known(who))
            .map(told)
            .collect();
        let wrongly: Vec<String> = judged
            .banned
            .iter()
            .filter(|(who, _)| !is_known(who))
            .map(told)
            .collect();
        let attackers = match (line.is_benign, line.attackers.is_empty()) {
            (true, _) => "none: benign".to_owned(),
            (false, true) => "forged".to_owned(),
            (false, false) => line.attackers.join("<br>"),
        };
        writeln!(
            text,
            "| `{}` | {attackers} | {} | {} | {} |",
            short_name(&line.file),
            or_none(&banned),
            or_none(&missed),
            or_none(&wrongly)
        )?;
    }
    others(&folder, truth, &mut text)?;
    Ok(text)
}

/// The captures that nobody has labelled: whoever is banned there stands to be looked at.
fn others(folder: &Path, truth: &[Truth], text: &mut String) -> anyhow::Result<()> {
    let mut paths = Vec::new();
    files(folder, &mut paths)?;
    let (mut captures, mut packets, mut with_bans) = (0_u64, 0, Vec::new());
    for path in paths {
        let name = path
            .strip_prefix(folder)
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned();
        if truth.iter().any(|line| line.file == name) {
            continue;
        }
        let Some(judged) = judge(&path)? else {
            continue;
        };
        captures += 1;
        packets += judged.packets;
        for (who, (detector, reason)) in &judged.banned {
            with_bans.push(format!(
                "| `{}` | {who} by `{detector}`: {reason} |",
                short_name(&name)
            ));
        }
        for ((who, detector), what) in &judged.alerts {
            eprintln!("alert, no ban: {name}: {who} {detector}: {what}");
        }
    }
    writeln!(
        text,
        "\nIn the other {captures} captures, {packets} packets of all kinds and ages, these are banned:\n"
    )?;
    writeln!(text, "| capture | banned |\n| --- | --- |")?;
    for line in with_bans {
        writeln!(text, "{line}")?;
    }
    Ok(())
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

/// The collection and the capture, without the folders between.
fn short_name(name: &str) -> String {
    match (name.split_once('/'), name.rsplit_once('/')) {
        (Some((first, _)), Some((_, last))) => {
            format!("{first}/…/{last}").replace("LAB-generated-here/…/", "")
        }
        _ => name.to_owned(),
    }
}

fn or_none<S: AsRef<str>>(list: &[S]) -> String {
    if list.is_empty() {
        "–".to_owned()
    } else {
        list.iter()
            .map(AsRef::as_ref)
            .collect::<Vec<_>>()
            .join("<br>")
    }
}
