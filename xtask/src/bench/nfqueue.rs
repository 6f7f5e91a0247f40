//! Packets a second of our queue worker, beside a C loop and beside Python with Scapy, on the same flood.
//!
//! All are counted by the kernel's own numbers for the queue: what was handed to the consumer and answered. The flood must
//! exceed the consumer: what did not fit the queue shows that it did.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kernel::nfqueue::{QueueStatistics, statistics};
use lab::{Netns, Topology};

use super::flood::{Flood, sink};
use super::peer::{self, Folder, Scapy};
use super::plans::{self, UDP, plan, rule};
use super::report::{FEW, Figure, Target, alternate, median, pause, ratio};
use super::worker::Worker;

const PORT: u16 = 9_000;
/// Fewest sending threads: one alone does not always exceed our worker, since enqueueing costs the sender too.
const SENDERS: usize = 2;
/// How long each consumer is counted.
const WINDOW: Duration = Duration::from_secs(3);
/// How long a consumer may take until it has the queue (Python imports Scapy meanwhile).
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    let folder = Folder::new("nfqueue")?;
    let c_loop = peer::c_loop(folder.path())?;
    let scapy = peer::scapy(folder.path())
        .inspect_err(|why| {
            eprintln!("NOT MEASURED: Python NetfilterQueue with Scapy cannot be installed: {why:#}")
        })
        .ok();
    let lab = Topology::new()?;
    let command = format!("-t security -A INPUT -p udp --dport {PORT} -j NFQUEUE --queue-num 0");
    lab.server
        .run("iptables", &command.split(' ').collect::<Vec<_>>())?;
    let target = ("10.77.1.1:9000").parse()?;
    let _sink = sink(&lab.server, target)?;
    // As many as there are processors beside the consumer's.
    let processors = std::thread::available_parallelism()?.get();
    let flood = Flood::start(&lab.client, target, SENDERS.max(processors - 1))?;
    let (sent, begun) = (flood.sent(), Instant::now());
    let rates: [Vec<f64>; 3] = alternate(FEW, |arm| match arm {
        0 => ours(&lab.server),
        1 => process(&lab.server, &c_loop, &["0", "accept"]),
        _ => scapy.as_ref().map_or(Ok(f64::NAN), |scapy| {
            let Scapy { python, script } = scapy;
            process(&lab.server, python, &[&script.display().to_string(), "0"])
        }),
    })?;
    let offered = (flood.sent() - sent) as f64 / begun.elapsed().as_secs_f64();
    println!("nfqueue: 60-byte UDP packets, {offered:.0} a second offered, all accepted");
    for (name, rates) in ["portcullis, content rule", "C loop", "Python with Scapy"]
        .iter()
        .zip(&rates)
    {
        println!("{name:>26}  {:>10.0} packets/s", median(rates.clone()));
    }
    let [ours, c_loop, python] = &rates;
    let mut figures = vec![Figure::new(
        "nfqueue: packets/s beside a C loop",
        ratio(ours, c_loop),
        "×",
        Target::AtLeast(1.3),
    )];
    if scapy.is_some() {
        figures.push(Figure::new(
            "nfqueue: packets/s beside Python with Scapy",
            ratio(ours, python),
            "×",
            Target::AtLeast(20.0),
        ));
    }
    Ok(figures)
}

fn ours(server: &Netns) -> anyhow::Result<f64> {
    let plan = plan([
        policy::Rule {
            content: plans::contents(1, true).next(),
            ..rule(policy::Action::Deny, UDP, PORT)
        },
        rule(policy::Action::Allow, UDP, PORT),
    ]);
    let worker = Worker::start(server, plan)?;
    let before = worker.decided();
    let rate = counted(server)?;
    ensure!(worker.decided() > before, "the worker decided nothing");
    worker.let_all_pass()?;
    Ok(rate)
}

fn process(server: &Netns, program: &Path, arguments: &[&str]) -> anyhow::Result<f64> {
    let name = program.display().to_string();
    let guard = server.spawn(&name, arguments)?;
    counted(server).with_context(|| format!("{name} said:\n{}", guard.stderr()))
}

/// Packets a second that whoever has queue 0 answers.
fn counted(server: &Netns) -> anyhow::Result<f64> {
    let deadline = Instant::now() + PATIENCE;
    while queue(server)?.is_none_or(|queue| answered(&queue) == 0) {
        if Instant::now() > deadline {
            bail!("nobody answers for queue 0");
        }
        pause(Duration::from_millis(20))?;
    }
    pause(Duration::from_millis(300))?;
    let (first, begun) = (
        queue(server)?.context("the consumer ended")?,
        Instant::now(),
    );
    pause(WINDOW)?;
    let (last, elapsed) = (
        queue(server)?.context("the consumer ended")?,
        begun.elapsed(),
    );
    let rate = (answered(&last) - answered(&first)) as f64 / elapsed.as_secs_f64();
    ensure!(
        last.full + last.unread > first.full + first.unread,
        "a consumer kept up with the flood at {rate:.0} packets/s: its limit was not measured"
    );
    Ok(rate)
}

fn queue(server: &Netns) -> anyhow::Result<Option<QueueStatistics>> {
    let all = server.enter(statistics)??;
    Ok(all.into_iter().find(|one| one.queue == 0))
}

/// Numbers given, less those of packets that never reached the consumer or still wait. The kernel's own 32-bit number does
/// not wrap in the seconds that a consumer lives here.
fn answered(queue: &QueueStatistics) -> u64 {
    u64::from(queue.last_id).saturating_sub(queue.unread + u64::from(queue.waiting))
}
