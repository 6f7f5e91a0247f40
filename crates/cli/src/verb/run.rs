//! `run`: the firewall in the foreground. What it does is the daemon's; here are its options, its first words and what a
//! terminal sees of it.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use daemon::api::{DEFAULT_SOCKET, EventQuery};
use daemon::{Banner, RunError, RunOptions};
use policy::{DefaultAction, Mode};

use crate::args::{self, DEFAULT_POLICY};
use crate::client::Client;
use crate::eve;
use crate::failure::{Exit, Failure};
use crate::finding;
use crate::screen::{Screen, Tone, pass_on, several, visible};

/// Runs until SIGTERM or Ctrl-C.
pub(super) fn run(socket: &Path, asked: &args::Run, screen: &mut Screen) -> Result<Exit, Failure> {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && crate::screen::colour_wanted())
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn")),
        )
        .init();
    let mode = match (asked.observe, asked.enforce) {
        (true, _) => Some(Mode::Observe),
        (_, true) => Some(Mode::Enforce),
        _ => None,
    };
    let options = RunOptions {
        config: asked.config.clone().or_else(default_policy),
        mode,
        interfaces: asked.interface.clone(),
        state_dir: asked.state_dir.clone(),
        log_dir: asked.log_dir.clone(),
        socket: socket.to_owned(),
        web: !asked.no_web,
        revert: None,
    };
    let (mut told, mut title) = (Ok(()), None);
    let outcome = daemon::run(&options, |banner| {
        title = Title::set(banner);
        told = introduce(banner, screen);
        if screen.is_terminal() {
            show_events(socket.to_owned());
        }
    });
    drop(title);
    outcome.map_err(|why| failed(&why))?;
    Ok(told.map(|()| Exit::Done)?)
}

/// Takes the first process of the revert guard; see [`daemon::revert`].
pub(super) fn revert(asked: &args::Revert) -> std::process::ExitCode {
    let arguments: Vec<OsString> = asked.arguments.clone();
    daemon::revert::main(&arguments, &daemon::revert::command())
}

/// The usual place, when there is a policy.
fn default_policy() -> Option<PathBuf> {
    let usual = Path::new(DEFAULT_POLICY);
    // Anything but "there is none" is for the daemon to tell.
    (!matches!(usual.try_exists(), Ok(false))).then(|| usual.to_owned())
}

fn failed(why: &RunError) -> Failure {
    match why {
        RunError::Invalid(invalid) => {
            let mut lines: Vec<String> = invalid.findings.iter().map(finding::line).collect();
            lines.push(invalid.to_string());
            Failure::InvalidPolicy(lines.join("\n"))
        }
        _ if why.is_permission() => Failure::NotPermitted(why.to_string()),
        _ => Failure::Failed(why.to_string()),
    }
}

/// What a person should know at the start.
fn introduce(banner: &Banner, screen: &mut Screen) -> io::Result<()> {
    let (tone, doing) = match banner.mode {
        Mode::Enforce => (Tone::Good, "enforces"),
        Mode::Observe => (Tone::Warning, "observes, and blocks nothing"),
    };
    screen.line(format!(
        "Portcullis {} {}.",
        env!("CARGO_PKG_VERSION"),
        screen.paint(tone, doing)
    ))?;
    let [inbound, outbound, forward] = banner.defaults.map(default_name);
    screen.line(format!(
        "  policy    {}, {}; by default in: {inbound}, out: {outbound}, forward: {forward}",
        visible(&banner.source),
        several(banner.rules, "rule")
    ))?;
    let watched = super::interfaces(&banner.interfaces, banner.mode == Mode::Enforce);
    screen.line(format!("  watches   {}", visible(&watched)))?;
    let record: Vec<String> = banner
        .record
        .iter()
        .map(|path| visible(&path.display().to_string()))
        .collect();
    screen.line(format!("  records   {}", record.join(", ")))?;
    screen.line(format!(
        "  listens   {}",
        visible(&banner.socket.display().to_string())
    ))?;
    if banner.bans > 0 {
        let hold = match (banner.mode, banner.bans) {
            (Mode::Observe, _) => "would hold",
            (Mode::Enforce, 1) => "holds",
            (Mode::Enforce, _) => "hold",
        };
        let bans = several(banner.bans, "ban");
        screen.line(format!("  bans      {bans} {hold} from before"))?;
    }
    if let Some(how) = &banner.enforce_with {
        screen.line(format!("  enforce   {}", visible(how)))?;
    }
    if screen.is_terminal() {
        let verbs = client_call(&banner.socket);
        screen.line(format!(
            "  shows     what happens, but for flows; more in another terminal: `{verbs} status` (or stats, flows, events)"
        ))?;
    }
    screen.flush()?;
    for warning in &banner.warnings {
        pass_on(warning);
    }
    Ok(())
}

/// How a client of this daemon is called.
fn client_call(socket: &Path) -> String {
    if socket == Path::new(DEFAULT_SOCKET) {
        "portcullis".to_owned()
    } else {
        format!(
            "portcullis --socket {}",
            visible(&socket.display().to_string())
        )
    }
}

const fn default_name(action: DefaultAction) -> &'static str {
    match action {
        DefaultAction::Allow => "allow",
        DefaultAction::Deny => "deny",
        DefaultAction::Reject => "reject",
    }
}

/// Follows the record on the terminal, like any other client. Ends with the daemon; what keeps it from showing events keeps
/// nobody else from anything, and is said once.
fn show_events(socket: PathBuf) {
    let show = move || -> Result<(), Failure> {
        let query = EventQuery {
            follow: true,
            ..EventQuery::default()
        };
        let screen = std::cell::RefCell::new(Screen::new());
        let pace = std::cell::RefCell::new(Pace::default());
        Client::new(&socket)?.follow(
            "events",
            &query,
            |line| {
                let mut screen = screen.borrow_mut();
                let Ok(event) = serde_json::from_slice::<serde_json::Value>(line) else {
                    return Ok(());
                };
                if event["event_type"] == "flow" {
                    return Ok(());
                }
                let (is_shown, passed_over) = pace.borrow_mut().step(Instant::now());
                if passed_over > 0 {
                    let more = format!(
                        "… and {} that went by too fast; `{} events` has them",
                        several(passed_over, "event"),
                        client_call(&socket)
                    );
                    let line = screen.paint(Tone::Faint, &more);
                    screen.line(line)?;
                }
                if is_shown {
                    let line = eve::line(&event, &screen);
                    screen.line(line)?;
                }
                Ok(())
            },
            || Ok(screen.borrow_mut().flush()?),
        )
    };
    std::thread::spawn(move || {
        if let Err(why) = show() {
            tracing::debug!("events are not shown any more: {why}");
        }
    });
}

/// How many events a second a terminal is given: a person reads no more, and a flood would take the place of what came before.
#[derive(Default)]
struct Pace {
    /// The second that is counted, and the events in it so far.
    second: Option<(Instant, usize)>,
}

impl Pace {
    const A_SECOND: usize = 20;

    /// Whether the event that comes now is shown, and how many were not in the second that is over.
    fn step(&mut self, now: Instant) -> (bool, usize) {
        match &mut self.second {
            Some((begin, count)) if now.duration_since(*begin) < Duration::from_secs(1) => {
                *count += 1;
                (*count <= Self::A_SECOND, 0)
            }
            second => {
                let before = second.map_or(0, |(_, count)| count);
                *second = Some((now, 1));
                (true, before.saturating_sub(Self::A_SECOND))
            }
        }
    }
}

/// The title of the terminal's window, given back when dropped (xterm control sequences, "Window manipulation").
struct Title;

impl Title {
    fn set(banner: &Banner) -> Option<Self> {
        if !io::stdout().is_terminal() {
            return None;
        }
        let doing = match banner.mode {
            Mode::Enforce => "enforcing",
            Mode::Observe => "observing",
        };
        let source = visible(&banner.source);
        print!("\x1b[22;2t\x1b]2;Portcullis: {doing} {source}\x07");
        // A terminal that takes no title still takes the events.
        let _ = io::stdout().flush();
        Some(Self)
    }
}

impl Drop for Title {
    fn drop(&mut self) {
        print!("\x1b[23;2t");
        let _ = io::stdout().flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_events_is_counted_and_told_when_it_is_over() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        let shown = (0..500)
            .filter(|step| pace.step(begin + Duration::from_millis(*step)).0)
            .count();
        assert_eq!(shown, Pace::A_SECOND);
        let later = begin + Duration::from_secs(2);
        assert_eq!(pace.step(later), (true, 500 - Pace::A_SECOND));
        assert_eq!(pace.step(later), (true, 0));
    }

    #[test]
    fn the_socket_is_named_where_it_has_to_be() {
        assert_eq!(client_call(Path::new(DEFAULT_SOCKET)), "portcullis");
        let other = client_call(Path::new("target/run/api.sock"));
        assert_eq!(other, "portcullis --socket target/run/api.sock");
    }
}
