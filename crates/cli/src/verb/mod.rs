//! One function for each verb.

mod apply;
mod ban;
mod check;
mod dns;
mod ends;
mod events;
mod flush;
mod manual;
mod replay;
mod run;
mod show;
mod status;
mod test;
mod why;

use std::path::Path;
use std::process::ExitCode;

use daemon::api::DEFAULT_SOCKET;

use crate::args::{Arguments, Dns, Verb};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::screen::Screen;

/// The hidden verb, which is no client and no user's: it has the arguments, the output and the exit code that the daemon wants.
pub(crate) fn revert(arguments: &Arguments) -> Option<ExitCode> {
    match &arguments.verb {
        Verb::Revert(asked) => Some(run::revert(asked)),
        _ => None,
    }
}

/// Does what was asked.
pub(crate) fn perform(arguments: Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let named = arguments.socket;
    let socket = named.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET));
    let daemon = || Client::new(socket);
    match arguments.verb {
        Verb::Run(asked) => run::run(socket, &asked, screen),
        Verb::Replay(asked) => replay::replay(&asked, screen),
        Verb::Check(asked) => check::check(&asked, screen),
        Verb::Compile(asked) => check::compile(&asked, screen),
        Verb::Test(asked) => test::test(named.as_deref(), &asked, screen),
        Verb::Apply(asked) => apply::apply(&daemon()?, &asked, screen),
        Verb::Confirm(asked) => apply::command(&daemon()?, "policy/confirm", &asked, screen),
        Verb::Rollback(asked) => apply::command(&daemon()?, "policy/rollback", &asked, screen),
        Verb::Reload(asked) => apply::command(&daemon()?, "policy/reload", &asked, screen),
        Verb::Status(asked) => status::status(&daemon()?, &asked, screen),
        Verb::Rules(asked) => show::rules(&daemon()?, &asked, screen),
        Verb::Sets(asked) => show::sets(&daemon()?, &asked, screen),
        Verb::Flows(asked) => show::flows(&daemon()?, &asked, screen),
        Verb::Stats(asked) => show::stats(&daemon()?, &asked, screen),
        Verb::Events(asked) => events::events(&daemon()?, &asked, screen),
        Verb::Why(asked) => why::why(&daemon()?, &asked, screen),
        Verb::Ban(asked) => ban::ban(&daemon()?, &asked, screen),
        Verb::Unban(asked) => ban::unban(&daemon()?, &asked, screen),
        Verb::Bans(asked) => ban::bans(&daemon()?, &asked, screen),
        Verb::Allow(asked) => ban::allow(&daemon()?, &asked, screen),
        Verb::Flush(asked) => flush::flush(&daemon()?, &asked, screen),
        Verb::Completions { shell } => manual::completions(shell, screen),
        Verb::Man => manual::man(screen),
        Verb::Dns(Dns::Test(asked)) => dns::test(daemon, &asked, screen),
        Verb::Dns(Dns::Reload(asked)) => {
            apply::command(&daemon()?, "policy/reload", &asked, screen)
        }
        Verb::Watch(_) => not_yet("watch", "let systemd restart the service meanwhile"),
        Verb::Top(_) => not_yet("top", "use `portcullis events --follow` meanwhile"),
        Verb::Web(_) => not_yet(
            "web",
            "use `portcullis status` and `portcullis events` meanwhile",
        ),
        // Taken before by `revert`.
        Verb::Revert(_) => Err(Failure::Usage("only the daemon starts this".into())),
    }
}

fn not_yet(verb: &str, meanwhile: &str) -> Result<Exit, Failure> {
    Err(Failure::Failed(format!(
        "this version has no `{verb}` yet; {meanwhile}"
    )))
}

/// The interfaces that are looked at. What `-i` names limits what is captured, which is nothing while enforcing.
fn interfaces(named: &[String], enforces: bool) -> String {
    match (named, enforces) {
        ([], _) => "all".to_owned(),
        (named, false) => named.join(", "),
        (named, true) => format!(
            "all: rules and bans hold on every interface; -i ({}) limits only what is captured while observing",
            named.join(", ")
        ),
    }
}
