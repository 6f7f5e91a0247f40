//! `dns test`: whether names are blocked, asked of the daemon or judged here by a policy file.

use daemon::api::{DnsTestRequest, DnsTestResult};

use crate::args;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::screen::{Screen, Tone, visible, warn_if_observing};
use crate::source;

/// Judges each name.
pub(super) fn test(
    client: impl FnOnce() -> Result<Client, Failure>,
    asked: &args::DnsTest,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let results: Vec<DnsTestResult> = match &asked.config {
        Some(file) => {
            let plan = source::load(file)?.into_plan();
            let judge = |name: &String| {
                daemon::names::judge(&plan, name).map_err(|why| Failure::Usage(why.to_string()))
            };
            asked.names.iter().map(judge).collect::<Result<_, _>>()?
        }
        None => {
            let names = asked.names.clone();
            client()?.post("dns/test", &DnsTestRequest { names })?
        }
    };
    if !asked.json {
        warn_if_observing(results.first().and_then(|result| result.mode.as_deref()));
    }
    let mut exit = Exit::Done;
    for result in &results {
        if result.verdict != "allow" {
            exit = Exit::Found;
        }
        if asked.json {
            screen.json(result)?;
            continue;
        }
        let verdict = screen.paint(Tone::of_verdict(&result.verdict), &result.verdict);
        screen.line(format!("{verdict}: {}", visible(&result.text)))?;
    }
    Ok(exit)
}
