//! TCP throughput between two namespaces: with every packet through our queue worker, and with 1,000 rules.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, ensure};
use kernel::datapath::{Apply, Datapath as _, Queues};
use kernel::nft::{Features, Nft};
use lab::{Guard, Topology};
use policy::{Action, AddressSet, Content, Direction, Directions, Plan, PortSet, Rule};

use super::firewalls::{load_ours, load_script};
use super::plans::{self, Allow, TCP, allows, plan, rule};
use super::report::{Figure, MOST, Target, alternate, median, ratio};
use super::worker::Worker;

const PORT: u16 = 5_201;
const SERVER: &str = "10.77.1.1";
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
const SECONDS: u32 = 1;

/// Namespaces with an iperf3 server.
struct Stage {
    lab: Topology,
    _iperf: Guard,
}

impl Stage {
    fn new() -> anyhow::Result<Self> {
        let lab = Topology::new()?;
        let iperf = lab
            .server
            .spawn("iperf3", &["-s", "-p", &PORT.to_string(), "--forceflush"])?;
        iperf.wait_for_output("listening", Duration::from_secs(5))?;
        Ok(Self { lab, _iperf: iperf })
    }

    /// Gbit/s that arrive at the server in one stream.
    fn gigabits(&self) -> anyhow::Result<f64> {
        let text = self.lab.client.run(
            "iperf3",
            &[
                "-c",
                SERVER,
                "-p",
                &PORT.to_string(),
                "-t",
                &SECONDS.to_string(),
                "-J",
            ],
        )?;
        let report: serde_json::Value = serde_json::from_str(&text)?;
        let bits = report["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .with_context(|| format!("iperf3 says nothing of what arrived:\n{text}"))?;
        Ok(bits / 1e9)
    }
}

fn print(title: &str, names: &[&str], arms: &[Vec<f64>]) {
    println!("{title}: one TCP stream of {SECONDS} s");
    for (name, rates) in names.iter().zip(arms) {
        println!("{name:>36}  {:>8.2} Gbit/s", median(rates.clone()));
    }
}

/// What is looked at of the stream.
#[derive(Clone, Copy, PartialEq)]
enum Look {
    /// Every packet, both ways, by as many rules each way that say so.
    Always {
        rules: u32,
    },
    /// The first bytes both ways. The receiver of iperf3 answers nothing, so that the flow is never settled: every packet of
    /// both directions is queued here too, but nothing beyond the first bytes is kept.
    BothBegins,
    /// The first bytes of what comes in: settled after them, as most rules are.
    Begin,
    Never,
}

const LOOKS: [(Look, &str); 4] = [
    (
        Look::Always { rules: 1 },
        "every packet, by `every_packet` rules",
    ),
    (Look::BothBegins, "every packet, by rules never settled"),
    (Look::Begin, "queued until the flow is settled"),
    (Look::Never, "nothing queued"),
];

impl Look {
    fn plan(self) -> Plan {
        let contents: Vec<Content> = match self {
            Self::Always { rules } => plans::contents(rules, true).collect(),
            Self::BothBegins | Self::Begin => plans::contents(1, false).collect(),
            Self::Never => vec![],
        };
        let inbound = contents.into_iter().map(|content| Rule {
            content: Some(content),
            ..rule(Action::Deny, TCP, PORT)
        });
        let outbound = inbound.clone().map(|inbound| Rule {
            directions: Directions::one(Direction::Out),
            port: PortSet::Any,
            source_port: PortSet::from_ranges([(PORT, PORT)]),
            ..inbound
        });
        let outbound = outbound.filter(|_| self != Self::Begin);
        let allow = rule(Action::Allow, TCP, PORT);
        plan(inbound.chain(outbound).chain([allow]))
    }

    fn queues(self) -> Option<Queues> {
        (self != Self::Never).then_some(Queues { first: 0, count: 1 })
    }
}

/// Gbit/s of streams that are looked at in so many ways.
fn looked_at<const ARMS: usize>(looks: [(Look, &str); ARMS]) -> anyhow::Result<[Vec<f64>; ARMS]> {
    let (mut stages, mut workers) = (Vec::new(), Vec::new());
    for (look, _) in looks {
        stages.push(Stage::new()?);
        let stage = &stages[stages.len() - 1];
        let (plan, server) = (look.plan(), &stage.lab.server);
        let request = Apply {
            plan: &plan,
            protected: &AddressSet::default(),
            queues: look.queues(),
            goes_on: false,
        };
        server.enter(|| Nft::new(Features::probe()?).apply(&request))??;
        let worker = look.queues().map(|_| Worker::start(server, plan.clone()));
        workers.push(worker.transpose()?);
    }
    alternate(MOST, |arm| {
        let before = workers[arm].as_ref().map_or(0, Worker::decided);
        let rate = stages[arm].gigabits()?;
        let Some(worker) = &workers[arm] else {
            return Ok(rate);
        };
        let decided = worker.decided() - before;
        if let Err(why) = worker.let_all_pass() {
            eprintln!("FAILED, counted as 0 Gbit/s: {}: {why:#}", looks[arm].1);
            return Ok(0.0);
        }
        // Segments are at most 64 KiB: fewer packets than this, and some went by.
        let least = (rate * 1e9 / 8.0 * f64::from(SECONDS) / 65_536.0 * 0.95) as u64;
        let every = looks[arm].0 != Look::Begin;
        ensure!(
            decided > 0 && (decided >= least) == every,
            "{}: {decided} packets came through the queue of at least {least}",
            looks[arm].1
        );
        Ok(rate)
    })
}

/// Every packet queued, a flow settled after its begin, and nothing queued.
pub(super) fn queued() -> anyhow::Result<Vec<Figure>> {
    let arms = looked_at(LOOKS)?;
    print("nfqueue-tcp", &LOOKS.map(|(_, name)| name), &arms);
    let wanted = [Target::AtLeast(0.9), Target::AtLeast(0.9), Target::Open];
    let figures = LOOKS.iter().zip(&arms).zip(wanted);
    Ok(figures
        .map(|(((_, name), rates), target)| {
            let what = format!("nfqueue-tcp: {name}");
            Figure::new(what, ratio(rates, &arms[3]), "×", target)
        })
        .collect())
}

const LOADS: [(Look, &str); 2] = [
    (
        Look::Always { rules: 1_000 },
        "1,000 content rules each way",
    ),
    (Look::Always { rules: 1 }, "one content rule each way"),
];

/// Every packet looked at by 1,000 content rules, and by one.
pub(super) fn signatures() -> anyhow::Result<Vec<Figure>> {
    let arms = looked_at(LOADS)?;
    print("signatures", &LOADS.map(|(_, name)| name), &arms);
    Ok(vec![Figure::new(
        "signatures: throughput with 1,000 content rules on a port beside one",
        ratio(&arms[0], &arms[1]),
        "×",
        Target::AtLeast(0.5),
    )])
}

/// The least that a stateful firewall can ask.
const TRACKING: &str = "table inet least {
    chain input { type filter hook input priority 0
        ct state established accept
    }
    chain output { type filter hook output priority 0
        ct state established accept
    }
}
";

/// 1,000 rules of ours beside no ruleset at all, so that connection tracking is in the price.
pub(super) fn throughput() -> anyhow::Result<Vec<Figure>> {
    let stages = [Stage::new()?, Stage::new()?, Stage::new()?];
    let wanted = Allow {
        from: CLIENT,
        port: PORT,
    };
    load_ours(&stages[0].lab.server, &allows(1_000, wanted))?;
    load_script(&stages[1].lab.server, "tracking", TRACKING)?;
    let names = ["1,000 rules", "connection tracking alone", "no ruleset"];
    let arms: [Vec<f64>; 3] = alternate(MOST, |arm| stages[arm].gigabits())?;
    print("throughput", &names, &arms);
    Ok(vec![
        Figure::new(
            "throughput: 1,000 rules beside no ruleset",
            ratio(&arms[0], &arms[2]),
            "×",
            Target::AtLeast(0.97),
        ),
        Figure::new(
            "throughput: 1,000 rules beside connection tracking alone",
            ratio(&arms[0], &arms[1]),
            "×",
            Target::Open,
        ),
    ])
}
