//! `test`: what would become of a packet, asked of the daemon or judged here by a policy file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::api::{DEFAULT_SOCKET, Decided, Rule, TestRequest, TestResult};
use engine::{Engine, Setup, Verdict};
use policy::{Action, AddressSet, HostField, Witness};

use crate::args::{self, DEFAULT_POLICY};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::screen::{Screen, Tone, visible, warn, warn_if_observing};
use crate::{source, tuple};

/// What became of a packet.
struct Judged {
    result: TestResult,
    /// By a `limit` rule: the next packet of the same source may be one too many.
    limited: bool,
}

/// Judges each packet. `socket` is the one that somebody named.
pub(super) fn test(
    socket: Option<&Path>,
    asked: &args::Test,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let Packets { packets, unread } = packets(asked)?;
    let judged = match &asked.config {
        _ if packets.is_empty() => Vec::new(),
        Some(file) => judge(&packets, file)?,
        None => ask(socket, &packets, asked.json)?,
    };
    let mut exit = Exit::Done;
    for Judged { result, limited } in &judged {
        let decided = &result.decided;
        if decided.verdict != "allow" {
            exit = Exit::Found;
        }
        if asked.json {
            screen.json(result)?;
            continue;
        }
        let verdict = if *limited {
            screen.paint(Tone::of_verdict("limit"), "allow while within its rate")
        } else {
            screen.paint(Tone::of_verdict(&decided.verdict), &decided.verdict)
        };
        screen.line(format!(
            "{verdict}: {}: {}",
            visible(&result.packet),
            visible(&decided.text)
        ))?;
    }
    if !asked.json {
        warn_if_observing(
            judged
                .first()
                .and_then(|judged| judged.result.mode.as_deref()),
        );
    }
    Ok(if unread > 0 { Exit::Usage } else { exit })
}

/// By the daemon; by the policy of the host when there is no daemon and nobody named one.
fn ask(socket: Option<&Path>, packets: &[Witness], json: bool) -> Result<Vec<Judged>, Failure> {
    let place = socket.unwrap_or(Path::new(DEFAULT_SOCKET));
    let daemon = Client::new(place)?;
    let request = TestRequest {
        packets: packets.iter().map(tuple::request).collect(),
    };
    let results: Vec<TestResult> = match daemon.post("test", &request) {
        Err(Failure::NotRunning(_)) if socket.is_none() => {
            let file = Path::new(DEFAULT_POLICY);
            // Anything but "there is none" is for the loading to tell.
            if matches!(file.try_exists(), Ok(false)) {
                return Err(Failure::NotRunning(format!(
                    "no daemon runs on {}, and there is no {DEFAULT_POLICY}; `--config FILE` names a policy to judge by",
                    place.display()
                )));
            }
            warn(&format!(
                "no daemon runs on {}; judged by {DEFAULT_POLICY} alone",
                place.display()
            ));
            return judge(packets, file);
        }
        answer => answer?,
    };
    // The answer names the rule and not its action. For programs it is as it is.
    let names_rule = |result: &TestResult| is_rule(&result.decided);
    let rules: Vec<Rule> = if !json && results.iter().any(names_rule) {
        daemon.get("rules")?
    } else {
        Vec::new()
    };
    let limits: Vec<&Rule> = rules.iter().filter(|rule| rule.action == "limit").collect();
    let by = |rule: &Rule, decided: &Decided| {
        decided.rule.as_ref() == Some(&rule.name)
            && decided.file.as_ref() == Some(&rule.file)
            && decided.line == Some(rule.line)
    };
    Ok(results
        .into_iter()
        .map(|result| Judged {
            limited: names_rule(&result) && limits.iter().any(|rule| by(rule, &result.decided)),
            result,
        })
        .collect())
}

/// Whether a rule lets it pass.
fn is_rule(decided: &Decided) -> bool {
    decided.verdict == "allow" && decided.rule.is_some()
}

/// What there is to judge.
struct Packets {
    packets: Vec<Witness>,
    /// Lines that are no packets, each told already.
    unread: usize,
}

/// The packets of the command line or of the file; flags hold for all of them.
fn packets(asked: &args::Test) -> Result<Packets, Failure> {
    let (mut packets, mut unread) = (Vec::new(), 0);
    if !asked.packet.is_empty() {
        packets.push(tuple::parse(&asked.packet.join(" ")).map_err(Failure::Usage)?);
    }
    if let Some(file) = &asked.file {
        let text = read(file).map_err(|why| Failure::file("read", file, &why))?;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match tuple::parse(line) {
                Ok(packet) => packets.push(packet),
                Err(why) => {
                    unread += 1;
                    warn(&format!("{}:{}: {why}", file.display(), index + 1));
                }
            }
        }
    }
    let payload = asked
        .payload
        .as_deref()
        .map(tuple::payload)
        .transpose()
        .map_err(Failure::Usage)?;
    for packet in &mut packets {
        if let Some(payload) = &payload {
            packet.payload.clone_from(payload);
        }
        let hosts = [
            (HostField::Sni, &asked.sni),
            (HostField::HttpHost, &asked.host),
        ];
        for (field, host) in hosts {
            if let Some(host) = host {
                tuple::ask(packet, field, host).map_err(Failure::Usage)?;
            }
        }
        if asked.interface.is_some() {
            packet.interface.clone_from(&asked.interface);
        }
    }
    Ok(Packets { packets, unread })
}

fn read(file: &PathBuf) -> io::Result<String> {
    if file == Path::new("-") {
        io::read_to_string(io::stdin())
    } else {
        std::fs::read_to_string(file)
    }
}

/// By the policy alone: no bans, no flows, no addresses found.
fn judge(packets: &[Witness], file: &Path) -> Result<Vec<Judged>, Failure> {
    let plan = Arc::new(source::load(file)?.into_plan());
    let engine = Engine::new(Setup {
        plan: Arc::clone(&plan),
        own: AddressSet::default(),
        protected: AddressSet::default(),
        seed: 0,
    });
    let now = source::now()?;
    Ok(packets
        .iter()
        .map(|packet| {
            let probe = tuple::probe(packet);
            let decision = engine.test(now, &probe);
            let rule = decision.reason.rule();
            let rule = rule.and_then(|id| plan.rules.get(id.0 as usize));
            Judged {
                limited: decision.verdict == Verdict::Allow
                    && rule.is_some_and(|rule| rule.action == Action::Limit),
                result: daemon::guard::result(&plan, &probe, decision),
            }
        })
        .collect())
}
