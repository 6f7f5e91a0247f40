//! Questions that a name server answers with `[dns]` before it, as fast as it can, beside the server alone.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::{Guard, Topology};

use super::peer::Folder;
use super::report::{FEW, Figure, Target, alternate, median, ratio};
use super::whole::Whole;

const POLICY: &str = "mode = \"enforce\"\n\
    [[rule]]\nname = \"names\"\naction = \"allow\"\ndirection = \"in\"\nprotocol = \"udp\"\nport = 53\n\
    [dns]\nlists = \"names.txt\"\n";
/// Names on the list.
const BLOCKED: u32 = 100_000;
/// Seconds of each measurement.
const SECONDS: &str = "3";

/// What dnsperf says.
struct Answered {
    per_second: f64,
    lost: f64,
}

struct Stage {
    lab: Topology,
    folder: Folder,
    _server: Guard,
}

impl Stage {
    fn new(name: &str) -> anyhow::Result<Self> {
        let lab = Topology::new()?;
        let folder = Folder::new(name)?;
        let mut questions = String::new();
        for number in 0..1_000 {
            // One in ten is blocked.
            let zone = if number % 10 == 0 { "ads" } else { "good" };
            writeln!(questions, "host{number}.{zone}.example A")?;
        }
        std::fs::write(folder.path().join("questions"), questions)?;
        let arguments = "--keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --no-daemon --user=root --pid-file \
             --cache-size=0 --listen-address=10.77.1.1 --bind-interfaces --address=/example/198.51.100.7";
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let server = lab.server.spawn("dnsmasq", &arguments)?;
        server.wait_for_output("started", Duration::from_secs(5))?;
        Ok(Self {
            lab,
            folder,
            _server: server,
        })
    }

    /// As fast as the answers come, with a hundred questions under way.
    fn ask(&self) -> anyhow::Result<Answered> {
        let questions = self.folder.path().join("questions").display().to_string();
        let arguments = [
            "-s",
            "10.77.1.1",
            "-d",
            &questions,
            "-c",
            "8",
            "-l",
            SECONDS,
        ];
        let text = (self.lab.client).run("dnsperf", &arguments)?;
        let number = |label: &str| {
            let line = text
                .lines()
                .find_map(|line| line.trim().strip_prefix(label));
            let word = line.and_then(|line| line.split_whitespace().next());
            word.and_then(|word| word.parse::<f64>().ok())
                .with_context(|| format!("dnsperf does not say {label}\n{text}"))
        };
        Ok(Answered {
            per_second: number("Queries per second:")?,
            lost: number("Queries lost:")? / number("Queries sent:")?,
        })
    }
}

pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    let (bare, filtered) = (Stage::new("dns-alone")?, Stage::new("dns-filtered")?);
    let names: String = (0..BLOCKED)
        .map(|number| format!("host{number}.ads.example\n"))
        .collect();
    let daemon = Whole::start(&filtered.lab.server, POLICY, &[("names.txt", &names)])?;
    let stages = [&bare, &filtered];
    let mut lost = [const { Vec::new() }; 2];
    let rates: [Vec<f64>; 2] = alternate(FEW, |arm| {
        let answered = stages[arm].ask()?;
        lost[arm].push(answered.lost * 100.0);
        Ok(answered.per_second)
    })?;
    let status = daemon.ask(&["status"])?;
    daemon.stop()?;
    println!(
        "dns: dnsmasq alone, and behind `[dns]` with {BLOCKED} blocked names; one question in ten is blocked"
    );
    for (name, arm) in [("alone", 0), ("behind [dns]", 1)] {
        println!(
            "{name:>14}  {:>8.0} answers/s, {:.4} % lost (median; worst {:.4} %)",
            median(rates[arm].clone()),
            median(lost[arm].clone()),
            lost[arm].iter().copied().fold(0.0, f64::max),
        );
    }
    ensure!(rates[1].iter().all(|&rate| rate > 0.0), "{status}");
    Ok(vec![
        Figure::new(
            "dns: answers/s behind [dns] beside dnsmasq alone",
            ratio(&rates[1], &rates[0]),
            "×",
            Target::Open,
        ),
        Figure::new(
            "dns: questions lost behind [dns], worst run",
            lost[1].iter().copied().fold(0.0, f64::max),
            "%",
            Target::Below(0.0001),
        ),
    ])
}
