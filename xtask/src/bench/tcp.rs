//! TCP throughput between two namespaces: with every packet through our queue worker, and with 1,000 rules.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, ensure};
use kernel::datapath::{Apply, Datapath as _, Queues};
use kernel::nft::{Features, Nft};
use lab::{Guard, Topology};
use policy::{Action, AddressSet, Direction, Directions, Plan, PortSet, Rule};

use super::firewalls::load_ours;
use super::plans::{self, Allow, TCP, allows, plan, rule};
use super::report::{Figure, Target, alternate, median, ratio};
use super::worker::Worker;

const PORT: u16 = 5_201;
const SERVER: &str = "10.77.1.1";
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
const SECONDS: &str = "2";

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
            &["-c", SERVER, "-p", &PORT.to_string(), "-t", SECONDS, "-J"],
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

/// A content rule that looks at the stream's packets both ways; or the same plan without it.
fn inspecting(content: Option<policy::Content>) -> Plan {
    let inbound = Rule {
        content,
        ..rule(Action::Deny, TCP, PORT)
    };
    let outbound = Rule {
        directions: Directions::one(Direction::Out),
        port: PortSet::Any,
        source_port: PortSet::from_ranges([(PORT, PORT)]),
        ..inbound.clone()
    };
    let looking = inbound.content.is_some();
    let content = [inbound, outbound].into_iter().filter(|_| looking);
    plan(content.chain([rule(Action::Allow, TCP, PORT)]))
}

/// Every packet queued, a flow settled after its begin, and nothing queued.
pub(super) fn queued() -> anyhow::Result<Vec<Figure>> {
    let every = inspecting(plans::content(true));
    let begin = inspecting(plans::content(false));
    let stages = [Stage::new()?, Stage::new()?, Stage::new()?];
    let plans = [Some(&every), Some(&begin), None];
    let mut workers = Vec::new();
    for (stage, plan) in stages.iter().zip(plans) {
        let without = inspecting(None);
        let queues = plan.map(|_| Queues { first: 0, count: 1 });
        let request = Apply {
            plan: plan.unwrap_or(&without),
            protected: &AddressSet::default(),
            queues,
        };
        stage
            .lab
            .server
            .enter(|| Nft::new(Features::probe()?).apply(&request))??;
        workers.push(
            plan.map(|plan| Worker::start(&stage.lab.server, plan.clone()))
                .transpose()?,
        );
    }
    let arms: [Vec<f64>; 3] = alternate(|arm| {
        let before = workers[arm].as_ref().map_or(0, Worker::decided);
        let rate = stages[arm].gigabits()?;
        let Some(worker) = &workers[arm] else {
            return Ok(rate);
        };
        let decided = worker.decided() - before;
        // Segments of at most 64 KiB: fewer packets than this and some went by.
        let least = rate * 1e9 / 8.0 * 2.0 / 65_536.0 * 0.95;
        if let Err(why) = worker.let_all_pass() {
            eprintln!("FAILED, counted as 0 Gbit/s: {why:#}");
            return Ok(0.0);
        }
        ensure!(
            if arm == 0 {
                decided as f64 >= least
            } else {
                decided > 0
            },
            "{decided} packets came through the queue, where {least:.0} or more should have"
        );
        Ok(rate)
    })?;
    print(
        "nfqueue-tcp",
        &[
            "every packet, both ways, queued",
            "queued until the flow is settled",
            "nothing queued",
        ],
        &arms,
    );
    Ok(vec![
        Figure::new(
            "nfqueue-tcp: every packet queued beside none",
            ratio(&arms[0], &arms[2]),
            "×",
            Target::AtLeast(0.9),
        ),
        Figure::new(
            "nfqueue-tcp: queued until settled (the default) beside none",
            ratio(&arms[1], &arms[2]),
            "×",
            Target::Open,
        ),
    ])
}

/// 1,000 rules of ours beside no ruleset at all, so that connection tracking is in the price.
pub(super) fn throughput() -> anyhow::Result<Vec<Figure>> {
    let stages = [Stage::new()?, Stage::new()?];
    let wanted = Allow {
        from: CLIENT,
        port: PORT,
    };
    load_ours(&stages[0].lab.server, &allows(1_000, wanted))?;
    let arms: [Vec<f64>; 2] = alternate(|arm| stages[arm].gigabits())?;
    print("throughput", &["1,000 rules", "no ruleset"], &arms);
    Ok(vec![Figure::new(
        "throughput: 1,000 rules beside no ruleset",
        ratio(&arms[0], &arms[1]),
        "×",
        Target::AtLeast(0.97),
    )])
}
