//! `rules`, `sets`, `flows`, `stats`: tables of what is in force and what was counted.

use daemon::api::{
    FLOWS as MOST_FLOWS, Flow, FlowQuery, Rule, Set, SetAddresses, Stats, StatsQuery, TopDenied,
    Totals,
};

use crate::args;
use crate::client::{Client, percent};
use crate::failure::{Exit, Failure};
use crate::screen::{
    Cell, Screen, Table, Tone, endpoint, humane, moment, several, single, warn_if_observing,
};

/// The rules in order.
pub(super) fn rules(
    daemon: &Client,
    asked: &args::Plain,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let rules: Vec<Rule> = daemon.get("rules")?;
    if asked.json {
        screen.json(&rules)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        "#", "action", "way", "protocol", "from", "to", "port", "hits", "name", "written",
    ]);
    for rule in &rules {
        let mut port = rule.port.clone();
        if rule.source_port != "any" {
            port.push_str(&format!(" from {}", rule.source_port));
        }
        if let Some(interface) = &rule.interface {
            port.push_str(&format!(" on {interface}"));
        }
        for (clause, hosts) in [("sni", &rule.sni), ("http-host", &rule.http_host)] {
            if !hosts.is_empty() {
                port.push_str(&format!(" {clause} {}", hosts.join(",")));
            }
        }
        if rule.content && rule.sni.is_empty() && rule.http_host.is_empty() {
            port.push_str(" +content");
        }
        table.row([
            Cell::number(u64::from(rule.id)),
            Cell::new(&rule.action).tone(Tone::of_verdict(&rule.action)),
            Cell::new(directions(&rule.directions)),
            Cell::new(&rule.protocol),
            Cell::new(&rule.from),
            Cell::new(&rule.to),
            Cell::new(port),
            Cell::number(rule.hits),
            Cell::new(&rule.name),
            Cell::new(&rule.position).tone(Tone::Faint),
        ]);
    }
    screen.table(&table, "The policy has no rules: the defaults decide.")?;
    Ok(Exit::Done)
}

fn directions(directions: &[String]) -> String {
    if directions.len() == 3 {
        "any".into()
    } else {
        directions.join(",")
    }
}

/// The named sets, or one of them.
pub(super) fn sets(
    daemon: &Client,
    asked: &args::Sets,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    if let Some(name) = &asked.name {
        let name = name.trim_start_matches('@');
        let set: SetAddresses = daemon.get(&format!("sets/{}", percent(name)))?;
        if asked.json {
            screen.json(&set)?;
            return Ok(Exit::Done);
        }
        for prefix in &set.prefixes {
            screen.line(single(prefix))?;
        }
        if set.prefixes.len() < set.count {
            crate::screen::warn(&format!(
                "only the first {} of {} prefixes are shown",
                set.prefixes.len(),
                set.count
            ));
        }
        return Ok(Exit::Done);
    }
    let sets: Vec<Set> = daemon.get("sets")?;
    if asked.json {
        screen.json(&sets)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["set", "prefixes", "feed", "used by"]);
    for set in &sets {
        table.row([
            Cell::new(format!("@{}", set.name)),
            Cell::number(set.prefixes as u64),
            Cell::new(if set.feed { "dropped" } else { "" }).tone(Tone::Bad),
            Cell::new(set.used_by.join(", ")),
        ]);
    }
    screen.table(&table, "The policy names no sets.")?;
    Ok(Exit::Done)
}

/// Where a flow goes, and by which name its client knows it.
fn destination(flow: &Flow) -> String {
    let end = endpoint(&flow.dest_ip, flow.dest_port);
    match &flow.name {
        Some(name) => format!("{end} {name}"),
        None => end,
    }
}

/// What let it begin; and before that what drops it now, which its state does not tell: a connection that is cut stays established
/// for those who wait for an answer.
fn decided(flow: &Flow) -> Cell {
    let began = flow.decided.rule.as_deref().unwrap_or(&flow.decided.reason);
    let Some(cut) = &flow.cut else {
        return Cell::new(began);
    };
    let dropped = match flow.mode.as_str() {
        "observe" => "would be dropped",
        _ => "dropped now",
    };
    Cell::new(format!("{dropped}: {}; began by {began}", cut.text)).tone(Tone::Bad)
}

/// Live flows.
pub(super) fn flows(
    daemon: &Client,
    asked: &args::Flows,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let query = FlowQuery {
        limit: asked.limit,
        address: asked.address.map(|address| address.to_string()),
    };
    let flows: Vec<Flow> = daemon.query("flows", &query)?;
    if asked.json {
        screen.json(&flows)?;
        return Ok(Exit::Done);
    }
    let is_cut_short = asked.limit.is_none() && flows.len() == MOST_FLOWS;
    let mut table = Table::new(&[
        "way", "proto", "from", "to", "state", "out", "back", "bytes", "age", "why",
    ]);
    let mut uncounted = false;
    for flow in &flows {
        // A flow has a packet at least: where there is none, nobody counted.
        let counted = flow.pkts_toserver > 0 || flow.pkts_toclient > 0;
        uncounted |= !counted;
        let number = |count| {
            if counted {
                Cell::number(count)
            } else {
                Cell::unknown()
            }
        };
        table.row([
            Cell::new(&flow.direction),
            Cell::new(&flow.proto),
            Cell::new(endpoint(&flow.src_ip, flow.src_port)),
            Cell::new(destination(flow)),
            Cell::new(flow.state.as_deref().unwrap_or("")),
            number(flow.pkts_toserver),
            number(flow.pkts_toclient),
            number(flow.bytes_toserver.saturating_add(flow.bytes_toclient)),
            Cell::new(
                flow.start
                    .map_or_else(|| "?".to_owned(), |start| humane(flow.end.0.since(start.0))),
            ),
            decided(flow),
        ]);
    }
    screen.table(&table, "No flows.")?;
    if is_cut_short {
        screen.flush()?;
        crate::screen::warn(&format!(
            "only the {MOST_FLOWS} flows seen last are shown; `flows --limit N` shows others, `flows ADDRESS` those of one"
        ));
    }
    if uncounted {
        let line = "-: the kernel does not count; `sysctl net.netfilter.nf_conntrack_acct=1` lets it count the flows that begin afterwards";
        screen.line(screen.paint(Tone::Faint, line))?;
    }
    Ok(Exit::Done)
}

/// Counters: since the begin, by minute, and who was denied most.
pub(super) fn stats(
    daemon: &Client,
    asked: &args::Stats,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let minutes = asked.last.as_secs().div_ceil(60).clamp(1, 43_200);
    let query = StatsQuery {
        // In range by the clamp above.
        minutes: u32::try_from(minutes).ok(),
    };
    let stats: Stats = daemon.query("stats", &query)?;
    if asked.json {
        screen.json(&stats)?;
        return Ok(Exit::Done);
    }
    // What would have been has columns of its own where there is any: in the sum or in a minute of a run before.
    let sums = stats.minutes.iter().map(|minute| &minute.counts);
    let with_would = stats.mode != "enforce"
        || (sums.chain([&stats.totals]))
            .any(|sums| sums.would_drop + sums.would_reject + sums.would_ban > 0);
    let shown = COUNTERS
        .iter()
        .filter(|(name, _)| with_would || !name.starts_with("would"));
    let names: Vec<&'static str> = std::iter::once("")
        .chain(shown.clone().map(|(name, _)| *name))
        .collect();
    let row = |label: &str, totals: &Totals| -> Vec<Cell> {
        let counts = shown.clone().map(|(_, count)| Cell::number(count(totals)));
        std::iter::once(Cell::new(label).tone(Tone::Faint))
            .chain(counts)
            .collect()
    };
    let mut table = Table::new(&names);
    for minute in &stats.minutes {
        // Without the seconds: it is the begin of a minute.
        let label = moment(minute.at);
        let label = label.strip_suffix(":00").unwrap_or(&label);
        table.row(row(label, &minute.counts));
    }
    table.row(row("since the begin", &stats.totals));
    screen.table(&table, "")?;
    warn_if_observing(Some(&stats.mode));
    let titles = ["denied sources", "denied services"];
    show_denied(&stats.denied, titles, screen)?;
    let titles = ["would-be denied sources", "would-be denied services"];
    show_denied(&stats.would_deny, titles, screen)?;
    Ok(Exit::Done)
}

type Count = fn(&Totals) -> u64;

/// The columns of `stats`.
const COUNTERS: &[(&str, Count)] = &[
    ("packets", |totals| totals.packets),
    ("bytes", |totals| totals.bytes),
    ("allowed", |totals| totals.allowed),
    ("dropped", |totals| totals.dropped),
    ("rejected", |totals| totals.rejected),
    ("would drop", |totals| totals.would_drop),
    ("would reject", |totals| totals.would_reject),
    ("anomalies", |totals| totals.anomalies),
    ("flows", |totals| totals.flows),
    ("alerts", |totals| totals.alerts),
    ("bans", |totals| totals.bans),
    ("would ban", |totals| totals.would_ban),
];

/// Who was denied most, and what they asked for.
fn show_denied(
    denied: &TopDenied,
    [sources, asked_for]: [&'static str; 2],
    screen: &mut Screen,
) -> Result<(), Failure> {
    let services = named_services(&denied.top_ports);
    let (mut ports, mut packets) = (denied.denied_ports, denied.denied_port_packets);
    for (_, count) in services {
        ports = ports.saturating_sub(1);
        packets = packets.saturating_sub(*count);
    }
    let mut rest = Vec::new();
    if ports > 0 {
        rest.push((several(ports, "other"), packets));
    }
    if denied.shut_out > 0 {
        rest.push(("any, by bans and feeds".to_owned(), denied.shut_out));
    }
    for (title, top, rest) in [
        (sources, denied.top_sources.as_slice(), Vec::new()),
        (asked_for, services, rest),
    ] {
        if top.is_empty() && rest.is_empty() {
            continue;
        }
        screen.line("")?;
        let mut table = Table::new(&[title, "on record"]);
        for (name, count) in top {
            table.row([Cell::new(name), Cell::number(*count)]);
        }
        for (name, count) in rest {
            table.row([Cell::new(name).tone(Tone::Faint), Cell::number(count)]);
        }
        screen.table(&table, "")?;
    }
    Ok(())
}

/// The services that are named: a scan asks for a thousand of them once, and which of them says nothing.
fn named_services(top: &[(String, u64)]) -> &[(String, u64)] {
    const ASKED_ONCE: usize = 5;
    let often = top.iter().take_while(|(_, count)| *count > 1).count();
    let once = top.len() - often;
    if once > ASKED_ONCE {
        &top[..often.max(ASKED_ONCE)]
    } else {
        top
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_were_asked_for_once_are_not_all_named() {
        let top = |counts: &[u64]| -> Vec<(String, u64)> {
            let ports = counts.iter().enumerate();
            ports
                .map(|(at, count)| (format!("tcp/{at}"), *count))
                .collect()
        };
        for (counts, named) in [
            (&[] as &[u64], 0),
            (&[9, 1, 1], 3),
            (&[1; 20], 5),
            (&[9, 8, 7, 1, 1, 1, 1, 1, 1], 5),
            (&[9, 9, 9, 9, 9, 9, 1, 1, 1, 1, 1, 1], 6),
            (&[9; 20], 20),
        ] {
            assert_eq!(named_services(&top(counts)).len(), named, "{counts:?}");
        }
    }
}
