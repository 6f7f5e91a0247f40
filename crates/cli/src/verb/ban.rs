//! `ban`, `unban`, `bans`, `allow`: who is dropped, and who never may be.

use daemon::api::{
    AllowQuery, AllowRequest, Allowed, Ban, BanRequest, Disallowed, Imported, UnbanQuery, Unbanned,
};

use crate::args;
use crate::ban_file::{self, FORMS, Lasts, Wish};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::prefix::{IpNetOrAddress, Typed};
use crate::screen::{
    Cell, Screen, Table, Tone, humane_seconds, moment, pass_on, several, spinner, visible, warn,
    warn_if_not_kept, warn_if_observing,
};
use crate::source;

/// Bans a prefix.
pub(super) fn ban(
    daemon: &Client,
    asked: &args::Ban,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let seconds = match (asked.forever, asked.duration) {
        (true, _) => Some(0),
        // 0 means for ever; a ban of less than a second is one of a second.
        (false, Some(time)) => Some(time.as_secs().max(1)),
        (false, None) => None,
    };
    let request = BanRequest {
        prefix: asked.address.prefix.to_string(),
        for_s: seconds,
        reason: asked.reason.clone(),
    };
    let ban: Ban = daemon.post("bans", &request)?;
    if asked.json {
        screen.json(&ban)?;
    } else {
        let until = match ban.remaining_s {
            Some(seconds) => format!("for {}", humane_seconds(seconds)),
            None => "until it is lifted".into(),
        };
        let is = if ban.mode.as_deref() == Some("observe") {
            "would be"
        } else {
            "is"
        };
        screen.line(format!("{} {is} banned {until}.", short(&ban)))?;
        screen.flush()?;
        if ban.kept {
            warn(
                "it was banned for longer than [ban] duration already, and that stays; `--for` or `--forever` sets another end",
            );
        }
        warn_if_observing(ban.mode.as_deref());
        warn_if_not_kept(ban.not_kept.as_deref());
    }
    if let Some(surprise) = asked.address.surprise("is banned") {
        warn(&surprise);
    }
    Ok(Exit::Done)
}

/// Lifts bans.
pub(super) fn unban(
    daemon: &Client,
    asked: &args::Unban,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let query = UnbanQuery {
        prefix: asked.address.map(|address| address.to_string()),
        all: asked.all,
    };
    let unbanned: Unbanned = daemon.delete("bans", &query)?;
    if asked.json {
        screen.json(&unbanned)?;
        return Ok(Exit::Done);
    }
    for ban in &unbanned.lifted {
        screen.line(format!("{} is no longer banned.", short(ban)))?;
    }
    screen.flush()?;
    for ban in &unbanned.still {
        warn(&format!(
            "it is still dropped by the ban of {}; `portcullis unban {}` lifts that one",
            short(ban),
            short(ban)
        ));
    }
    if unbanned.lifted.is_empty() {
        screen.line(match asked.address {
            Some(address) => format!("{address} was not banned."),
            None => "Nothing was banned.".into(),
        })?;
    }
    warn_if_not_kept(unbanned.not_kept.as_deref());
    Ok(Exit::Done)
}

/// Shows the bans, or writes and reads them.
pub(super) fn bans(
    daemon: &Client,
    asked: &args::Bans,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    match &asked.what {
        None => list(daemon, asked.json, screen),
        Some(args::BansVerb::Export(asked)) => export(daemon, asked, screen),
        Some(args::BansVerb::Import(how)) => import(daemon, how, asked.json, screen),
    }
}

fn export(daemon: &Client, asked: &args::Export, screen: &mut Screen) -> Result<Exit, Failure> {
    let bans: Vec<Ban> = daemon.get("bans")?;
    let bytes = ban_file::write(&bans, asked.format)?;
    match &asked.output {
        Some(path) => ban_file::replace(path, &bytes)?,
        None => screen.bytes(&bytes)?,
    }
    Ok(Exit::Done)
}

fn list(daemon: &Client, json: bool, screen: &mut Screen) -> Result<Exit, Failure> {
    let bans: Vec<Ban> = daemon.get("bans")?;
    if json {
        screen.json(&bans)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["banned", "left", "times", "by", "since", "reason"]);
    for ban in &bans {
        table.row([
            Cell::new(short(ban)).tone(Tone::Bad),
            Cell::new(
                ban.remaining_s
                    .map_or("until lifted".into(), humane_seconds),
            ),
            Cell::number(u64::from(ban.times_banned)),
            Cell::new(ban.detector.as_deref().unwrap_or(&ban.origin)),
            Cell::new(moment(ban.since)),
            Cell::escaped(&ban.reason),
        ]);
    }
    screen.table(&table, "Nothing is banned.")?;
    warn_if_observing(bans.first().and_then(|ban| ban.mode.as_deref()));
    Ok(Exit::Done)
}

/// What an import says with `--json`.
#[derive(serde::Serialize)]
struct Answer {
    form: &'static str,
    #[serde(flatten)]
    imported: Imported,
    bad: Vec<String>,
    bad_count: usize,
}

fn import(
    daemon: &Client,
    asked: &args::Import,
    json: bool,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let lasts = match (asked.forever, asked.duration) {
        (true, _) => Lasts::ForGood,
        (false, Some(span)) => Lasts::For(span),
        (false, None) => Lasts::Policy,
    };
    let wish = Wish {
        lasts,
        all: asked.all,
        now: source::now()?,
    };
    let found = ban_file::read(&asked.file, wish)?;
    let spinner = spinner("taking bans in");
    let mut imported = Imported {
        expired: found.expired,
        ..Imported::default()
    };
    for piece in &found.bans {
        let some: Imported = match daemon.post("bans/import", piece) {
            Ok(some) => some,
            Err(failure) if imported.added > 0 => {
                spinner.finish_and_clear();
                warn(&format!(
                    "{} {} taken in before it failed",
                    several(imported.added, "ban"),
                    if imported.added == 1 { "was" } else { "were" }
                ));
                return Err(failure);
            }
            Err(failure) => return Err(failure),
        };
        imported.join(some);
    }
    // A file without bans is one that a daemon has to be there for all the same.
    if found.bans.is_empty() {
        daemon.get::<Vec<Ban>>("bans")?;
    }
    spinner.finish_and_clear();
    let failed = imported.added == 0
        && imported.unchanged == 0
        && (imported.refused_count > 0 || found.bad.count > 0);
    if asked.json || json {
        screen.json(&Answer {
            form: found.form,
            imported,
            bad: found.bad.first,
            bad_count: found.bad.count,
        })?;
    } else {
        screen.line(format!(
            "{} taken in from {}, {} in force already, {} had run out, {} refused, {}.",
            several(imported.added, "ban"),
            found.form,
            imported.unchanged,
            imported.expired,
            imported.refused_count,
            several(found.bad.count, "bad line")
        ))?;
        for refused in &imported.refused {
            warn(&format!("{}: {}", refused.prefix, refused.error));
        }
        for bad in &found.bad.first {
            warn(bad);
        }
        let more = found.bad.count - found.bad.first.len().min(found.bad.count);
        if more > 0 {
            let (lines, are) = (
                several(more, "more bad line"),
                if more == 1 { "is" } else { "are" },
            );
            warn(&format!("{lines} {are} not shown"));
        }
        if found.bans.is_empty() && found.bad.count > 0 {
            warn(FORMS);
        }
        warn_if_not_kept(imported.not_kept.as_deref());
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// Puts a prefix on the allow list, takes it off, or shows the list.
pub(super) fn allow(
    daemon: &Client,
    asked: &args::Allow,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    match asked.address {
        Some(typed) if !asked.remove => {
            let address = typed.prefix;
            let request = AllowRequest {
                prefix: address.to_string(),
                persist: !asked.until_restart,
            };
            let allowed: Allowed = daemon.post("allow", &request)?;
            if let Some(warning) = &allowed.warning {
                pass_on(warning);
            }
            if let Some(surprise) = typed.surprise("is never banned") {
                warn(&surprise);
            }
            if asked.json {
                screen.json(&allowed)?;
                return Ok(Exit::Done);
            }
            // As the daemon has it: an IPv4 address may have been written as IPv6.
            screen.line(format!(
                "{} is never banned from now on; the rules still apply to it.",
                IpNetOrAddress(allowed.prefix)
            ))?;
            for ban in &allowed.lifted {
                screen.line(format!("{} is no longer banned.", short(ban)))?;
            }
            warn_if_not_kept(allowed.not_kept.as_deref());
            Ok(Exit::Done)
        }
        Some(Typed {
            prefix: address, ..
        }) => {
            let query = AllowQuery {
                prefix: address.to_string(),
            };
            let disallowed: Disallowed = daemon.delete("allow", &query)?;
            if asked.json {
                screen.json(&disallowed.left)?;
            } else {
                screen.line(format!("{address} is off the allow list."))?;
            }
            screen.flush()?;
            // In JSON too: an array has no room for it.
            warn_if_not_kept(disallowed.not_kept.as_deref());
            Ok(Exit::Done)
        }
        None => {
            let list: Vec<Allowed> = daemon.get("allow")?;
            if asked.json {
                screen.json(&list)?;
                return Ok(Exit::Done);
            }
            let mut table = Table::new(&["never banned", "since", ""]);
            for entry in &list {
                table.row([
                    Cell::new(IpNetOrAddress(entry.prefix).to_string()).tone(Tone::Good),
                    Cell::new(moment(entry.since)),
                    Cell::new(if entry.persist {
                        ""
                    } else {
                        "until the daemon ends"
                    }),
                ]);
            }
            screen.table(&table, "The allow list is empty; [protect] in the policy and what `status` lists hold beside it.")?;
            Ok(Exit::Done)
        }
    }
}

fn short(ban: &Ban) -> String {
    visible(&IpNetOrAddress(ban.prefix).to_string())
}
