//! `check` and `compile`: a policy without a daemon.

use std::path::Path;

use daemon::api::{Finding, Severity};
use daemon::candidate;
use kernel::datapath::Queues;
use kernel::nft::{Context, HandUp, LOG_GROUP, Slot};
use policy::AddressSet;

use crate::args;
use crate::failure::{Exit, Failure};
use crate::finding;
use crate::screen::{Screen, Tone, several, visible};
use crate::source;

/// Lists everything that is wrong: 3 with errors, 6 with warnings alone.
pub(super) fn check(asked: &args::Check, screen: &mut Screen) -> Result<Exit, Failure> {
    let (policy, mut diagnostics) = source::examine(&asked.file)?;
    if let Some(policy) = &policy {
        diagnostics.extend(policy::lint(&policy.plan(), source::now()?));
    }
    let findings: Vec<Finding> = diagnostics.iter().map(candidate::finding).collect();
    let count = |severity| {
        findings
            .iter()
            .filter(|found| found.severity == severity)
            .count()
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if asked.json {
        screen.json(&findings)?;
    } else {
        for found in &findings {
            let tone = match found.severity {
                Severity::Error => Tone::Bad,
                Severity::Warning => Tone::Warning,
            };
            let line = screen.paint(tone, &finding::line(found));
            screen.line(line)?;
        }
        screen.line(summary(&asked.file, errors, warnings, screen))?;
    }
    Ok(match (errors, warnings) {
        (0, 0) => Exit::Done,
        (0, _) => Exit::Found,
        _ => Exit::InvalidPolicy,
    })
}

fn summary(file: &Path, errors: usize, warnings: usize, screen: &Screen) -> String {
    let file = visible(&file.display().to_string());
    match (errors, warnings) {
        (0, 0) => screen.paint(Tone::Good, &format!("{file} is fine.")),
        (0, _) => format!("{file}: {}.", several(warnings, "warning")),
        (_, 0) => format!("{file}: {}.", several(errors, "error")),
        _ => format!(
            "{file}: {}, {}.",
            several(errors, "error"),
            several(warnings, "warning")
        ),
    }
}

/// Prints the script for `nft -f -`. What a running daemon adds to it is what it finds on its host: the addresses to protect,
/// and on a kernel without `nft_queue` a mark in the place of `queue`.
pub(super) fn compile(asked: &args::Compile, screen: &mut Screen) -> Result<Exit, Failure> {
    let plan = source::load(&asked.file)?.into_plan();
    let context = Context {
        protected: &AddressSet::default(),
        queues: Some(Queues {
            first: 1_117,
            count: 1,
        }),
        hand_up: HandUp::Queue,
        log_group: LOG_GROUP,
        slot: Slot::default(),
    };
    let script =
        kernel::nft::compile(&plan, &context).map_err(|why| Failure::Failed(why.to_string()))?;
    screen.raw(&script.text)?;
    Ok(Exit::Done)
}
